import { describe, expect, test } from "bun:test";
import { type LogEntry, readLine } from "../../../scripts/clients/log-search.ts";
import { canaryProgram, judgeCanary, numbersOf } from "../../../scripts/logs/log-canary.ts";

describe("judgeCanary", () => {
  const judge = (written: number, numbers: number[]) => {
    const { found, missing, repeated, foreign, lost } = judgeCanary("r", written, numbers);
    return { found, missing, repeated, foreign, lost };
  };
  test("is complete for all numbers in any order", () => {
    expect(judge(3, [2, 0, 1])).toEqual({ found: 3, missing: [], repeated: 0, foreign: 0, lost: false });
  });
  test("a repeated number does not replace a missing one", () => {
    expect(judge(3, [0, 0, 2])).toEqual({ found: 2, missing: [1], repeated: 1, foreign: 0, lost: true });
  });
  test("without any number all are missing", () =>
    expect(judge(2, [])).toMatchObject({ found: 0, missing: [0, 1], lost: true }));
  test("numbers that were not written are counted as foreign", () => {
    expect(judge(1, [0, 1, -1, Number.NaN])).toEqual({ found: 1, missing: [], repeated: 0, foreign: 3, lost: false });
  });
  test("counts all missing numbers and lists a hundred", () => {
    const verdict = judgeCanary("r", 1000, []);
    expect([verdict.missing.length, verdict.missing_count]).toEqual([100, 1000]);
  });
  test("canaryProgram writes exactly the numbers, as the log search parses them", async () => {
    const program = canaryProgram("r", 250, 5000).replace("await Bun.sleep(3_600_000);", "");
    const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe" });
    const lines = (await new Response(child.stdout).text()).trimEnd().split("\n");
    const entries = lines.map((line) => ({ line, ...readLine(line) }) as LogEntry);
    expect(judgeCanary("r", 250, numbersOf(entries))).toMatchObject({
      found: 250,
      repeated: 0,
      foreign: 0,
      lost: false,
    });
    expect(JSON.parse(lines.at(-1)!)).toMatchObject({ event: "canary_done", written: 250 });
  });
});
