/** Goal: each drill is judged by its own events, and from its folder alone. Method: histories and records by hand. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { judge } from "../../../scripts/audit/verdict.ts";
import { historyOfRun, judgeRun } from "../../../scripts/drills/judge.ts";
import type { RunFacts } from "../../../scripts/recording/result.ts";
import { openRun } from "../../../scripts/recording/run-folder.ts";
import { type RecordEntry, RunRecord } from "../../../scripts/recording/run-record.ts";
import { memoryHistory } from "../audit/memory-history.ts";

const events = (run: string) =>
  [0, 1, 2].map((seq) => ({
    run,
    conveyor: "drill-0",
    seq,
    reader: 1,
    partition: 0,
    offset: run === "a" ? seq : seq + 3,
  }));
const outcome = (run: string) => ({ run, conveyor: "drill-0", seq: 0, last_seq: 2, outcome: "ok" as const });
/** Run b lacks its last event in the database. */
const both = memoryHistory(
  { attempts_complete: true },
  {
    attempts: [outcome("a"), outcome("b")],
    outcomes: [outcome("a"), outcome("b")],
    log: [...events("a"), ...events("b")],
    sink: [...events("a"), ...events("b").slice(0, 2)],
    dlq: [],
    commits: [{ partition: 0, offset: 6 }],
  },
);
const l3 = async (run: string) =>
  (await judge(historyOfRun(both, run, {}))).laws.find(({ law }) => law === "L3")!.status;

test("historyOfRun: a lost event fails only the drill that sent it", async () => {
  expect(await l3("a")).toBe("passed");
  expect(await l3("b")).toBe("failed");
});

test("historyOfRun: the counts are those of one drill", async () => {
  expect((await judge(historyOfRun(both, "a", {}))).counts).toMatchObject({ acknowledged: 3, in_influxdb: 3 });
});

describe("judgeRun", () => {
  let root = "";
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), "conveyor-judge-"));
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  const facts = { id: "r", kind: "drills", startedAt: "2026-11-25T08:00:00.000Z" } as RunFacts;
  const start = { name: "d", title: "t", hypothesis: "h", fault: "f", repeat: 1, number: 1, count: 1, budgetMs: 5000 };
  const sampleAt = (timeMs: number, ageSeconds: number): RecordEntry => ({
    timeMs,
    sample: { timeMs, ageSeconds, lagEvents: 5, underReplicated: 0, waitedMs: 30 },
  });
  const samples = Array.from({ length: 60 }, (_, index) => 1000 + index * 250).map((timeMs) =>
    sampleAt(timeMs, timeMs > 4000 && timeMs <= 6000 ? 5 : 0.3),
  );
  const baseline = {
    ageSeconds: { least: 0.2, worst: 0.5 },
    lagEvents: { least: 0, worst: 20 },
    waitedMs: { least: 20, worst: 60 },
  };
  const drill: RecordEntry[] = [
    { timeMs: 1000, drill: start },
    { timeMs: 3900, baseline },
    { timeMs: 4000, effect: { proof: "p", timeMs: 4000, provenMs: 4100 } },
    ...samples,
    { timeMs: 10_000, recoveryWait: { sinceMs: 4000, provenMs: 4100, readyMs: 4000 } },
    { timeMs: 12_000, drillEnded: { number: 1 } },
  ];
  const judge = async (id: string, ...entries: RecordEntry[]) => {
    const folder = openRun(id, root);
    await Bun.write(folder.path("live.ndjson"), "");
    const record = new RunRecord(folder.path("live.ndjson"));
    for (const entry of [{ timeMs: 0, facts }, ...entries]) record.append(entry);
    await record.close();
    return await judgeRun(folder);
  };

  test("measures the recovery from the samples, and returns the same result each time", async () => {
    const result = await judge("passed", ...drill, { timeMs: 13_000, ended: { interrupted: false } });
    expect(result).toMatchObject({ passed: true, facts: { interrupted: false, endedAt: "1970-01-01T00:00:13.000Z" } });
    expect(result.drills).toMatchObject([{ verdict: "passed", recovery: { measured_ms: 2250, budget_ms: 5000 } }]);
    expect(await judgeRun(openRun("passed", root))).toEqual(result);
  });

  test("does not pass a record without its end", async () => {
    const result = await judge("killed", ...drill);
    expect(result).toMatchObject({ passed: false, facts: { interrupted: true }, drills: [{ verdict: "passed" }] });
  });

  test("omits a drill that has not ended, and adds log lines that were collected later", async () => {
    const lines = [{ timeMs: 5000, pod: "p", line: "x" }];
    const second = { timeMs: 12_500, drill: { ...start, number: 2, name: "e" } };
    const result = await judge("two", ...drill, second, { timeMs: 12_600, drillLogLines: { number: 1, lines } });
    expect(result.drills.map(({ name, logLines }) => [name, logLines])).toEqual([["d", lines]]);
  });

  test("fails a recovery beyond the budget, with both times", async () => {
    const tight = drill.map((entry) => (entry.drill ? { ...entry, drill: { ...start, budgetMs: 2000 } } : entry));
    const { drills } = await judge("slow", ...tight);
    expect(drills).toMatchObject([{ verdict: "failed", reasons: ["recovery took 2.3 s, the budget is 2.0 s"] }]);
  });
});
