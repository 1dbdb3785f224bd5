/** Goal: a letter is judged as its event would be now, and counted, shown and exported without changing its meaning. */
import { describe, expect, test } from "bun:test";
import {
  lineOf,
  matchesFilter,
  replayStatusOf,
  type StoredDeadLetter,
  slicesOf,
  storedDeadLetterOf,
} from "../../../scripts/dead-letters/topic.ts";
import { Tally } from "../../../scripts/dead-letters.ts";
import { createDeadLetter } from "../../../services/domain/dead-letter.ts";
import { checkEvent, MAX_EVENT_BYTES } from "../../../services/domain/event.ts";
import { BUCKET_RETENTION_MS } from "../../../services/domain/point.ts";

const event = {
  v: 1,
  conveyor: "belt-1",
  run: "r1",
  seq: 7,
  ts: Date.now(),
  speed_mps: 1,
  load_kg: 1,
  motor_temp_c: 1,
  vibration_mm_s: 1,
  state: "running",
};
const bytes = (text: string) => new TextEncoder().encode(text);

/** A letter that went through the topic: what the services write, as the probe reads it. */
function letter(body: unknown, place: Partial<StoredDeadLetter> = {}): StoredDeadLetter {
  const value = bytes(typeof body === "string" ? body : JSON.stringify(body));
  const refusal = checkEvent(body) ?? {
    reason: "refused_by_database" as const,
    detail: "load_kg: is a string in this shard",
  };
  const { headers, value: kept } = createDeadLetter(
    refusal,
    { source: "stdin", line: 3, run: "p1" },
    { key: null, value },
    "producer",
  );
  const read = { partition: 0, offset: 5, timestampMs: 1000, headers, body: Buffer.from(kept).toString("base64") };
  return { ...storedDeadLetterOf(read), ...place };
}

describe("outlook of a letter", () => {
  test("an event that the database refused is valid now", () => {
    expect(replayStatusOf(letter(event))).toEqual({ kind: "valid", event } as never);
  });
  test("an event that breaks a rule is still refused, with the rule", () => {
    const outlook = replayStatusOf(letter({ ...event, speed_mps: 99 }));
    expect(outlook).toMatchObject({ kind: "refused", reason: "out_of_range" });
  });
  test("an event that is older than what InfluxDB keeps is refused by it again, so it is not sent", () => {
    const old = letter({ ...event, ts: event.ts - BUCKET_RETENTION_MS });
    expect(replayStatusOf(old)).toMatchObject({ kind: "refused", reason: "refused_by_database" });
    expect(replayStatusOf(old, event.ts - 1).kind).toBe("valid");
  });
  test("what was cut at the largest size is refused as too large, never sent again by halves", () => {
    const cut = letter({ ...event, note: "x".repeat(2 * MAX_EVENT_BYTES) });
    expect(cut.body.length).toBe(MAX_EVENT_BYTES);
    expect(replayStatusOf(cut)).toMatchObject({ kind: "refused", reason: "too_large" });
  });
  test("a body that is shorter than it came, though it was not too large, is cut", () => {
    expect(replayStatusOf({ ...letter(event), body: new Uint8Array() })).toEqual({ kind: "cut" });
  });
});

describe("which letters", () => {
  const filter = { sinceMs: 0, reasons: [], run: undefined };
  test("by time, by reason", () => {
    expect(matchesFilter(letter(event), filter)).toBeTrue();
    expect(matchesFilter(letter(event), { ...filter, sinceMs: 1001 })).toBeFalse();
    expect(matchesFilter(letter(event), { ...filter, reasons: ["out_of_range"] })).toBeFalse();
    expect(matchesFilter(letter({ ...event, seq: -1 }), { ...filter, reasons: ["bad_seq"] })).toBeTrue();
  });
  test("by the run of the event, also where the rest of it is broken, or of the producer that read it", () => {
    for (const run of ["r1", "p1"]) expect(matchesFilter(letter('{"run":"r1", broken'), { ...filter, run })).toBeTrue();
    expect(matchesFilter(letter(event), { ...filter, run: "r" })).toBeFalse();
  });
});

describe("bodies as lines", () => {
  test.each([
    ['{"a":1}', '{"a":1}'],
    ['{\n  "a": "x\\ny"\n}', '{"a":"x\\ny"}'],
    ["no\njson\r\nat all", "no json at all"],
  ])("%j becomes %j", (body, line) => expect(lineOf(bytes(body))).toBe(line));
});

test("the tally counts by reason and service, and says how many are valid now", () => {
  const tally = new Tally();
  const letters = [letter(event), letter(event, { timestampMs: 2000 }), letter({ ...event, speed_mps: 99 })];
  for (const one of letters) tally.add(one, replayStatusOf(one));
  expect(tally.groups.map(({ reason, letters: count, valid, newestMs }) => [reason, count, valid, newestMs])).toEqual([
    ["refused_by_database", 2, 2, 2000],
    ["out_of_range", 1, 0, 1000],
  ]);
  expect(tally.lines()[1]).toStartWith("      2          2  refused_by_database  producer    1970-01-01T00:00:02Z");
});

test("the database is asked once for each ten minutes in which there is an event", () => {
  expect(slicesOf([600_000, 1, 2, 1_199_999])).toEqual([
    [0, 600_000],
    [600_000, 1_200_000],
  ]);
});
