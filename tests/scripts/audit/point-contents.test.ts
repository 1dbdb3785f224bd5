/** Points without identity, compared with their events: on records written by hand. */
import { describe, expect, test } from "bun:test";
import type { LogRecord, Records } from "../../../scripts/audit/history.ts";
import { IdentityTable } from "../../../scripts/audit/identity-table.ts";
import { comparePoints, MAX_COMPARED_POINTS } from "../../../scripts/audit/point-contents.ts";
import { check, collectFacts, type InvariantId } from "../../../scripts/audit/verdict.ts";
import { parseLine } from "../../../services/domain/line-protocol.ts";
import { contentOf } from "../../../services/domain/point-content.ts";
import { memoryHistory } from "./memory-history.ts";

const TIME = "1764038400000000000";
const contentsOf = (line: string) => contentOf(parseLine(`${line} ${TIME}`, "ns", 0).point!);

/** Records of the log, one per line, at ascending offsets of partition 0. */
function logOf(lines: readonly string[], point: Partial<LogRecord["point"]> = { assigned: true }): LogRecord[] {
  return lines.map((line, seq) => {
    const { key, fields } = contentsOf(line);
    return {
      ...{ reader: 1, partition: 0, offset: seq, run: "r", conveyor: "s", seq, hash: line, ts_ms: 1 },
      point: { key, fields: fields.join(""), ...point },
    };
  });
}

const storedOf = (...lines: string[]): Records["stored_fields"][] =>
  lines.map(contentsOf).flatMap(({ key, fields }) => fields.map((field) => ({ key, field })));

/** The status of the invariants for these events, all of them acknowledged and read. */
async function judged(log: LogRecord[], stored: Records["stored_fields"][] | undefined, meta = {}) {
  const judgedOnes = log.filter(({ point }) => !point?.foreign);
  const parts = {
    outcomes: judgedOnes.map(({ run, conveyor, seq }) => ({ run, conveyor, seq, outcome: "ok" as const })),
    log,
    sink: [],
    dlq: [],
    ...(stored ? { stored_fields: stored } : {}),
  };
  const facts = await collectFacts(memoryHistory({ quiescent: true, ...meta }, parts));
  const results = (["L2", "L3", "V1", "D2"] satisfies InvariantId[]).map((law) => check(law, facts));
  return Object.fromEntries(results.map(({ law, status, detail }) => [law, `${status}: ${detail}`]));
}

const statuses = (results: Record<string, string>) =>
  Object.fromEntries(Object.entries(results).map(([law, text]) => [law, text.split(":")[0]]));
const all = (status: string) => ({ L2: status, L3: status, V1: status, D2: status });

describe("the points of events without identity", () => {
  const lines = ["m,a=1 x=1,y=2i", "m,a=2 x=1,y=2i", 'n s="text",b=true'];

  test("pass when every field is stored with its type and value", async () => {
    expect(statuses(await judged(logOf(lines), storedOf(...lines)))).toEqual(all("passed"));
  });

  test("are lost when no field is stored", async () => {
    const results = await judged(logOf(lines), storedOf(...lines.slice(1)));
    expect(statuses(results)).toEqual({ L2: "failed", L3: "failed", V1: "passed", D2: "passed" });
    expect(results.L3).toContain("1 of 3 acknowledged events are missing");
  });

  test.each([
    ["a field is missing", "m,a=1 x=1"],
    ["a value differs", "m,a=1 x=1,y=3i"],
    ["a type differs", "m,a=1 x=1,y=2"],
  ])("are altered when %s", async (_, stored) => {
    const results = await judged(logOf(lines), storedOf(stored, ...lines.slice(1)));
    expect(statuses(results)).toEqual({ L2: "passed", L3: "passed", V1: "failed", D2: "passed" });
    expect(results.V1).toContain("1 of 3 points differ from their events");
  });

  test("pass when a later event of the same series and time has replaced a value", async () => {
    const twice = ["m x=1,y=1", "m x=2,z=3"];
    const results = await judged(logOf(twice), storedOf("m x=2,y=1,z=3"));
    expect(statuses(results)).toEqual(all("passed"));
    expect(results.V1).toContain("1 of them have a value of a later event");
  });

  test("are altered when the value of an earlier event is stored", async () => {
    const results = await judged(logOf(["m x=1", "m x=2"]), storedOf("m x=1"));
    expect(statuses(results)).toEqual({ L2: "passed", L3: "passed", V1: "failed", D2: "passed" });
  });

  test("in another partition are neither earlier nor later", async () => {
    const [first, second] = logOf(["m x=1", "m x=2"]);
    const log = [first!, { ...second!, partition: 1, offset: 0 }];
    for (const stored of ["m x=1", "m x=2"])
      expect(statuses(await judged(log, storedOf(stored)))).toEqual(all("passed"));
  });

  test("are overwritten when the sender gave their identities", async () => {
    const results = await judged(logOf(["m x=1", "m x=2"], {}), storedOf("m x=2"));
    expect(statuses(results)).toEqual({ L2: "passed", L3: "failed", V1: "passed", D2: "failed" });
    expect(results.D2).toContain("1 events overwritten by another");
  });

  test("pass when the sender repeats an identity, also with another value", async () => {
    const [first, again] = logOf(["m x=1", "m x=2"], {});
    const results = await judged([first!, { ...again!, seq: 0 }], storedOf("m x=2"));
    expect(statuses(results)).toEqual(all("passed"));
  });

  test("may be replaced by an event that is not judged", async () => {
    const [first] = logOf(["m x=1"]);
    const [foreign] = logOf(["m x=2"], { foreign: true });
    const other = { ...foreign!, run: "other", offset: 1 };
    expect(statuses(await judged([first!, other], storedOf("m x=2")))).toEqual(all("passed"));
    expect(statuses(await judged([first!], storedOf("m x=2")))).toMatchObject({ V1: "failed" });
  });

  test("are not judged where their fields were not recorded", async () => {
    const results = await judged(logOf(lines), undefined, { not_recorded: { stored_fields: "too many" } });
    expect(statuses(results)).toEqual(all("unknown"));
    expect(results.V1).toContain("too many");
  });

  test("are not judged beyond the limit", async () => {
    const history = memoryHistory({}, { stored_fields: [] });
    const facts = await comparePoints(history, new IdentityTable(), MAX_COMPARED_POINTS + 1, () => false);
    expect(facts.undecided).toContain(`at most ${MAX_COMPARED_POINTS}`);
  });

  test("in several passes give what one pass gives", async () => {
    const many = Array.from({ length: 300 }, (_, index) => `m,a=${index} x=${index}`);
    const log = logOf(many);
    const stored = storedOf(...many.slice(1, -1), "m,a=299 x=0");
    for (const points of [300, 1_000_000]) {
      const table = new IdentityTable();
      const facts = await comparePoints(memoryHistory({}, { log, stored_fields: stored }), table, points, () => false);
      expect(facts).toMatchObject({ compared: 299, replaced: 0 });
      expect(table.select((word) => word("sink")).count).toBe(299);
      expect(table.select((word) => word("altered")).examples).toEqual([{ run: "r", conveyor: "s", seq: 299 }]);
    }
  });
});
