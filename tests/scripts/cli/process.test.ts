/** Goal: a program that hangs, fails or is aborted ends with all that it started, and its error names the reason. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../../../scripts/cli/errors.ts";
import { capture, lines, must, runLogged, start } from "../../../scripts/cli/process.ts";
import { waitFor } from "../../../scripts/cli/wait.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();

const failureOf = async (work: Promise<unknown>): Promise<Error> => {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
};

/** A shell that starts a child, writes the child's id to a file, and waits for it. */
const family = (pidFile: string, trap = "") => [
  "sh",
  "-c",
  `${trap}sleep 300 & echo $! > "${pidFile}.new"; mv "${pidFile}.new" "${pidFile}"; wait`,
];
const awaitFile = async (path: string) =>
  await waitFor(async () => (existsSync(path) ? { done: true, value: true } : { done: false, state: "no child yet" }), {
    what: "the child to start",
    limitMs: 10_000,
    intervalMs: 20,
  });
const expectEnded = async (pidFile: string) => {
  const pid = (await readFile(pidFile, "utf8")).trim();
  await waitFor(
    async () =>
      existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(await readFile(`/proc/${pid}/status`, "utf8"))
        ? { done: false, state: "it runs" }
        : { done: true, value: true },
    { what: `process ${pid} to end`, limitMs: 10_000, intervalMs: 20 },
  );
};

describe("capture", () => {
  test("returns stdout, stderr and the exit code", async () => {
    expect(await capture(["sh", "-c", "echo out; echo err >&2; exit 3"])).toEqual({
      stdout: "out\n",
      stderr: "err\n",
      exitCode: 3,
    });
  });

  test("reports a program that a signal ended as a shell does", async () => {
    expect((await capture(["sh", "-c", "kill -9 $$"])).exitCode).toBe(137);
  });

  test("passes arguments unchanged: no shell interprets them", async () => {
    const args = ["$HOME", "a b", "'\"", "", "*", "`id`", "line\nline", "é"];
    expect((await capture(["printf", "%s|", ...args])).stdout).toBe(`${args.join("|")}|`);
  });

  test("passes more arguments than one string could hold", async () => {
    const args = Array.from({ length: 3000 }, (_, index) => `${"x".repeat(100)}${index}`);
    expect((await capture(["printf", "%s\\n", ...args])).stdout.split("\n")).toHaveLength(3001);
  });

  test("passes input, also an empty one, and ignores a program that does not read it", async () => {
    expect((await capture(["cat"], { input: "é\n" })).stdout).toBe("é\n");
    expect((await capture(["cat"], { input: "" })).stdout).toBe("");
    expect((await capture(["true"], { input: "x".repeat(1 << 20) })).exitCode).toBe(0);
  });

  test("keeps characters that are split over two chunks", async () => {
    const { stdout } = await capture(["sh", "-c", "yes ééé | head -n 300000"]);
    expect(stdout).not.toContain("\ufffd");
    expect(stdout).toHaveLength(1_200_000);
  });

  test("adds to the environment and removes from it", async () => {
    const env = { CONVEYOR_ADDED: "yes", HOME: undefined };
    expect((await capture(["sh", "-c", "echo $CONVEYOR_ADDED-$HOME"], { env })).stdout).toBe("yes-\n");
  });

  test("ends a program with its children at the limit, exit 4", async () => {
    const pidFile = join(folder, "limit");
    const error = await failureOf(capture(family(pidFile), { timeoutMs: 700 }));
    expect(error).toBeInstanceOf(OperatorError);
    expect((error as OperatorError).exitCode).toBe(EXIT.timeout);
    expect(error.message).toBe("sh did not end within 0.7 s");
    await expectEnded(pidFile);
  });

  test("kills a program that ignores the first signal after the grace", async () => {
    const pidFile = join(folder, "stubborn");
    const error = await failureOf(capture(family(pidFile, "trap '' TERM; "), { timeoutMs: 500, graceMs: 100 }));
    expect((error as OperatorError).exitCode).toBe(EXIT.timeout);
    await expectEnded(pidFile);
  });

  test("ends an aborted program with its children and rejects with the abort reason", async () => {
    const pidFile = join(folder, "abort");
    const abort = new AbortController();
    const running = failureOf(capture(family(pidFile), { signal: abort.signal }));
    await awaitFile(pidFile);
    const reason = new Error("no longer wanted");
    abort.abort(reason);
    expect(await running).toBe(reason);
    await expectEnded(pidFile);
  });

  test("names a program that could not be started", async () => {
    expect((await failureOf(capture(["no-such-program"]))).message).toBe("no-such-program could not be started");
  });

  test("ends its programs when this process exits", async () => {
    const pidFile = join(folder, "exit");
    const library = new URL("../../../scripts/cli/process.ts", import.meta.url).pathname;
    const program = `
      const { capture } = await import(${JSON.stringify(library)});
      capture(${JSON.stringify(family(pidFile))});
      while (!(await Bun.file(${JSON.stringify(pidFile)}).exists())) await Bun.sleep(20);
      process.exit(0);`;
    expect((await capture([process.execPath, "-e", program])).exitCode).toBe(0);
    await expectEnded(pidFile);
  });
});

test("must: the error has the command, its exit code and its output", async () => {
  expect((await failureOf(must(["sh", "-c", "echo it broke >&2; exit 7"]))).message).toBe(
    "sh -c echo it broke >&2; exit 7 failed (exit 7): it broke",
  );
});

describe("start", () => {
  test("a slow reader holds the program back", async () => {
    await using child = start(["sh", "-c", `head -c 50000000 /dev/zero; touch "${join(folder, "written")}"`]);
    const reader = child.stdout[Symbol.asyncIterator]();
    await reader.next();
    await Bun.sleep(200);
    expect(existsSync(join(folder, "written"))).toBe(false);
  });

  test("write waits while the program does not read", async () => {
    await using child = start(["sh", "-c", "sleep 0.3; wc -c"], { stdin: "pipe" });
    const startedAt = performance.now();
    expect(await child.write(new Uint8Array(1 << 20))).toBe(true);
    expect(performance.now() - startedAt).toBeGreaterThan(200);
    child.closeInput();
    expect(await Array.fromAsync(child.lines())).toEqual([String(1 << 20)]);
    expect(await child.exited).toBe(0);
  });

  test("write returns false when the program has ended", async () => {
    await using child = start(["true"], { stdin: "pipe", stdout: "ignore" });
    expect(await child.write(new Uint8Array(1 << 20))).toBe(false);
    expect(await child.exited).toBe(0);
  });

  test("stop ends the program with its children, with the signal that was chosen", async () => {
    const pidFile = join(folder, "stop");
    const child = start(family(pidFile, "trap 'exit 9' INT; "), {
      stopSignal: "SIGINT",
      graceMs: 100,
    });
    const output = Array.fromAsync(child.lines());
    await awaitFile(pidFile);
    await child.stop();
    expect(await output).toEqual([]);
    expect(await child.exited).toBe(9);
    await expectEnded(pidFile);
  });
});

describe("lines", () => {
  test("yields lines, also the last one without its line end, and reports a failure with stderr", async () => {
    const seen: string[] = [];
    const read = async () => {
      for await (const line of lines(["sh", "-c", "printf 'one\\n\\ntwo'; echo broken >&2; exit 3"])) seen.push(line);
    };
    expect((await failureOf(read())).message).toBe("sh failed (exit 3): broken");
    expect(seen).toEqual(["one", "", "two"]);
  });

  test("leaving the loop ends the program", async () => {
    const pidFile = join(folder, "leave");
    for await (const _ of lines(family(pidFile, "echo started; "))) {
      await awaitFile(pidFile);
      break;
    }
    await expectEnded(pidFile);
  });

  test("an aborted signal ends the lines without an error", async () => {
    const abort = new AbortController();
    for await (const _ of lines(["sh", "-c", "echo started; sleep 300"], { signal: abort.signal })) abort.abort();
    expect(await Array.fromAsync(lines(["echo", "never"], { signal: abort.signal }))).toEqual([]);
  });
});

test("runLogged passes on lines, and a failure has the end of the log", async () => {
  const log = join(folder, "log");
  const seen: string[] = [];
  const error = await failureOf(
    runLogged(["sh", "-c", "echo one >&2; echo two >&2; exit 2"], { log, onLine: (line) => seen.push(line) }),
  );
  expect(seen).toEqual(["one", "two"]);
  expect((error as OperatorError).hint).toBe(`the complete output is in ${log}`);
  expect(error.message).toContain("failed (exit 2)");
  expect((error.cause as Error).message).toBe("one\ntwo");
});
