/** Goal: a run of tests in several processes reports every failure, and an interrupted one leaves no process and no file. */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runTests } from "../../../scripts/test/run.ts";
import { eventually } from "../../eventually.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const LIMIT_MS = 60_000;
const folder = temporaryFolder();

async function testFile(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, `import { expect, test } from "bun:test";\n${text}`);
  return path;
}

/** False also for a process that has ended and was not yet waited for. */
const isRunning = (pid: string) =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));

const runFolders = () => readdirSync(tmpdir()).filter((name) => name.startsWith("conveyor-test-"));

describe("runTests in two processes", () => {
  test("adds the outcomes of all files, and names each failure", async () => {
    const files = [
      await testFile("passes.test.ts", 'test("passes", () => expect(1).toBe(1));\ntest.skip("is skipped", () => {});'),
      await testFile("fails.test.ts", 'test("fails", () => expect(1).toBe(2));'),
      await testFile("ends.test.ts", 'test("ends its process", () => process.exit(7));'),
    ];
    const outcome = await runTests(files, {}, LIMIT_MS, new AbortController().signal, { processes: 2 });
    expect(outcome).toMatchObject({ passed: 1, failed: 2, skipped: 1 });
    expect(outcome.failures.map(({ file }) => file.split("/").at(-1)).sort()).toEqual([
      "ends.test.ts",
      "fails.test.ts",
    ]);
  });

  test("a file that cannot be loaded is a failure", async () => {
    const files = [await testFile("broken.test.ts", 'throw new Error("broken");')];
    const outcome = await runTests(files, {}, LIMIT_MS, new AbortController().signal, { processes: 2 });
    expect(outcome).toMatchObject({ passed: 0, failed: 1 });
  });

  test("a run that reaches its limit names it, beside another failure", async () => {
    const files = [
      await testFile("fails.test.ts", 'test("fails", () => expect(1).toBe(2));'),
      await testFile("hangs.test.ts", 'test("hangs", () => new Promise(() => {}));'),
    ];
    const { failed, failures } = await runTests(files, {}, 3000, new AbortController().signal, { processes: 2 });
    // Counted too, beside those that had failed by then.
    expect(failed).toBe(failures.length);
    expect(failures.at(-1)).toMatchObject({
      test: "2 files",
      message: "ended at its limit of 3.0 s: the tests after that did not run",
    });
  });

  test("an interrupt ends them with all that they started, and removes their temporary files", async () => {
    const before = runFolders();
    const marker = join(folder, "pid");
    // Detached, as the programs of the tests are: it is in no process group that an interrupt reaches.
    const starts = `import { spawn } from "node:child_process";
      import { mkdtempSync, renameSync, writeFileSync } from "node:fs";
      import { tmpdir } from "node:os";
      test("hangs", async () => {
        mkdtempSync(tmpdir() + "/left-");
        const { pid } = spawn("sleep", ["300"], { detached: true, stdio: "ignore" });
        writeFileSync("${marker}.new", String(pid));
        renameSync("${marker}.new", "${marker}");
        await new Promise(() => {});
      });`;
    const interrupt = new AbortController();
    const files = [await testFile("hangs.test.ts", starts), await testFile("other.test.ts", 'test("x", () => {});')];
    const running = runTests(files, {}, LIMIT_MS, interrupt.signal, { processes: 2 });
    await eventually("the program that the test starts", () => existsSync(marker));
    const pid = await Bun.file(marker).text();
    expect(isRunning(pid)).toBe(true);
    interrupt.abort(new Error("interrupted"));
    await running.catch(() => {});
    await eventually("the end of that program", () => !isRunning(pid));
    expect(runFolders().filter((name) => !before.includes(name))).toEqual([]);
  });
});
