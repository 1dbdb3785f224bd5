/** Goal: each drill is judged by its own events. Method: one small history of two runs. */
import { expect, test } from "bun:test";
import { judge } from "../../../scripts/audit/verdict.ts";
import { historyOfRun } from "../../../scripts/drills/judgement.ts";
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

test("a drill that lost an event fails, the other one does not", async () => {
  expect(await l3("a")).toBe("passed");
  expect(await l3("b")).toBe("failed");
});

test("its counts are its own", async () => {
  expect((await judge(historyOfRun(both, "a", {}))).counts).toMatchObject({ acknowledged: 3, in_influxdb: 3 });
});
