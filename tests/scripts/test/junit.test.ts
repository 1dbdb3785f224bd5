/**
 * Goal: the end of a long test run shows the failures and their messages.
 * Method: a real run of `bun test` over a file with tests of every outcome, and its JUnit file read.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { countsOf, failureLines, failuresOf, summaryLine } from "../../../scripts/test/junit.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const TESTS = `
import { describe, expect, test } from "bun:test";
describe("outer <a & b>", () => {
  test("passes", () => expect(1).toBe(1));
  describe("inner", () => {
    test('compares "quoted"', () => expect([]).toEqual(["first\\nsecond <line> & \\"more\\""]));
  });
  test.skipIf(true)("is skipped", () => {});
});
test("throws", () => { throw new Error("in words"); });
test("takes too long", async () => { await new Promise(() => {}); }, 20);
`;

describe("a JUnit file", () => {
  const folder = temporaryFolder();
  let junit: string;
  beforeAll(async () => {
    const [file, outfile] = [join(folder, "some.test.ts"), join(folder, "junit.xml")];
    await writeFile(file, TESTS);
    const child = Bun.spawn([process.execPath, "test", file, "--reporter=junit", `--reporter-outfile=${outfile}`], {
      cwd: folder,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    expect(await child.exited).not.toBe(0);
    junit = await readFile(outfile, "utf8");
  });

  test("counts tests by outcome", () => {
    expect(countsOf(junit)).toEqual({ passed: 1, failed: 3, skipped: 1 });
    expect(summaryLine(countsOf(junit))).toBe("1 passed, 3 failed, 1 skipped");
    expect(summaryLine({ passed: 1, failed: 0, skipped: 0 })).toBe("1 passed, 0 failed");
  });

  test("lists each failed test with its file and message", () => {
    const failures = failuresOf(junit);
    expect(failures.map(({ test }) => test.split(" > ").at(-1))).toEqual([
      'compares "quoted"',
      "throws",
      "takes too long",
    ]);
    expect(failures[0]!.test).toContain("inner");
    expect(failures[0]!.file).toEndWith("some.test.ts");
    expect(failures[0]!.message).toContain('second <line> & "more"');
    expect(failures[1]!.message).toBe("in words");
    expect(failures[2]!.message).toContain("timed out");
  });

  test("of another format has neither tests nor failures", () => {
    expect(countsOf("")).toEqual({ passed: 0, failed: 0, skipped: 0 });
    expect(failuresOf("")).toEqual([]);
  });
});

describe("lines about failures", () => {
  const failure = (message: string) => ({ file: "a.test.ts", test: "group > one", message });

  test("show file, name and message; none without failures", () => {
    expect(failureLines([failure("expected 1\ngot 2\n")])).toEqual([
      "✗ a.test.ts: group > one",
      "    expected 1",
      "    got 2",
    ]);
    expect(failureLines([])).toEqual([]);
  });

  test("are bounded, with the number of lines and failures not shown", () => {
    const long = Array.from({ length: 45 }, (_, line) => `line ${line}`).join("\n");
    expect(failureLines([failure(long)]).at(-1)).toBe("    … 5 more lines");
    const many = failureLines(Array.from({ length: 12 }, () => failure("no")));
    expect(many.filter((line) => line.startsWith("✗"))).toHaveLength(10);
    expect(many.at(-1)).toBe("… and 2 more failures");
  });
});
