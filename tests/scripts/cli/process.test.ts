/** Goal: a program that hangs, fails or is no longer wanted ends with all that it started, and its error says why. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "../../../scripts/cli/errors.ts";
import { capture, must, runLogged } from "../../../scripts/cli/process.ts";
import { waitFor } from "../../../scripts/cli/wait.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-exec-"));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

const failureOf = async (work: Promise<unknown>): Promise<Error> => {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
};

/** A shell that starts a child of its own, writes the child's id, and waits for it. */
const family = (pidFile: string) => [
  "sh",
  "-c",
  `sleep 300 & echo $! > "${pidFile}.new"; mv "${pidFile}.new" "${pidFile}"; wait`,
];
const isGone = async (pid: string) =>
  await waitFor(
    async () =>
      existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(await readFile(`/proc/${pid}/status`, "utf8"))
        ? { done: false, state: "it runs" }
        : { done: true, value: true },
    { what: `process ${pid} to be gone`, limitMs: 10_000, intervalMs: 20 },
  );

describe("capture", () => {
  test("gives back output and exit code, and ends with its input's reader gone", async () => {
    expect(await capture(["sh", "-c", "echo out; echo err >&2; exit 3"])).toEqual({
      stdout: "out\n",
      stderr: "err\n",
      exitCode: 3,
    });
    expect((await capture(["true"], { input: "x".repeat(1 << 20) })).exitCode).toBe(0);
  });

  test("a program beyond its limit is ended with what it started, exit 4", async () => {
    const pidFile = join(folder, "limit");
    const error = await failureOf(capture(family(pidFile), { timeoutMs: 700 }));
    expect(error).toBeInstanceOf(OperatorError);
    expect((error as OperatorError).exitCode).toBe(EXIT.timeout);
    expect(error.message).toBe("sh did not end within 0.7 s");
    expect(await isGone((await readFile(pidFile, "utf8")).trim())).toBe(true);
  });

  test("an aborted one is ended with what it started, and the reason is handed on", async () => {
    const pidFile = join(folder, "abort");
    const abort = new AbortController();
    const running = failureOf(capture(family(pidFile), { signal: abort.signal }));
    await waitFor(
      async () => (existsSync(pidFile) ? { done: true, value: true } : { done: false, state: "no child yet" }),
      {
        what: "the child to start",
        limitMs: 10_000,
        intervalMs: 20,
      },
    );
    const reason = new Error("no longer wanted");
    abort.abort(reason);
    expect(await running).toBe(reason);
    expect(await isGone((await readFile(pidFile, "utf8")).trim())).toBe(true);
  });

  test("a program that is not there is named", async () => {
    expect((await failureOf(capture(["no-such-program"]))).message).toBe("no-such-program could not be started");
  });
});

test("must says the command, its exit code and its own words", async () => {
  expect((await failureOf(must(["sh", "-c", "echo it broke >&2; exit 7"]))).message).toBe(
    "sh -c echo it broke >&2; exit 7 failed (exit 7): it broke",
  );
});

test("runLogged hands lines on, and a failure has the end of the log", async () => {
  const log = join(folder, "log");
  const lines: string[] = [];
  const error = await failureOf(
    runLogged(["sh", "-c", "echo one >&2; echo two >&2; exit 2"], { log, onLine: (line) => lines.push(line) }),
  );
  expect(lines).toEqual(["one", "two"]);
  expect((error as OperatorError).hint).toBe(`the whole output is in ${log}`);
  expect(error.message).toContain("failed (exit 2)");
  expect((error.cause as Error).message).toBe("one\ntwo");
});
