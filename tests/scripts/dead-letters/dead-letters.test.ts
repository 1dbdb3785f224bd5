import { describe, expect, test } from "bun:test";
import type { StoredField } from "../../../scripts/clients/influxdb.ts";
import { lineFor } from "../../../scripts/dead-letters/export.ts";
import { Tally } from "../../../scripts/dead-letters/list.ts";
import { unstored, withoutReplaced } from "../../../scripts/dead-letters/replay.ts";
import { linesOf } from "../../../scripts/dead-letters/show.ts";
import {
  lineOf,
  matchesFilter,
  type ReplayEvent,
  replayOf,
  replayStatusOf,
  type StoredDeadLetter,
  slicesOf,
  storedAmong,
  storedDeadLetterOf,
} from "../../../scripts/dead-letters/topic.ts";
import { createDeadLetter } from "../../../services/domain/dead-letter.ts";
import { checkEvent, exampleEvent, MAX_EVENT_BYTES } from "../../../services/domain/event.ts";
import { BUCKET_RETENTION_MS, MAX_AHEAD_MS } from "../../../services/domain/event-window.ts";
import { parseLine } from "../../../services/domain/line-protocol.ts";
import { contentOf } from "../../../services/domain/point-content.ts";
import { SchemaFiles } from "../../../services/domain/schema-files.ts";

const event = exampleEvent({ conveyor: "belt-1", run: "r1", seq: 7, ts: Date.now() });
const bytes = (text: string) => new TextEncoder().encode(text);

/** A record as the services write it and the probe reads it. */
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

describe("replayStatusOf", () => {
  test("is valid for an event that the database refused", () => {
    expect(replayStatusOf(letter(event))).toEqual({ kind: "valid", event: replayOf(event) });
  });
  test("of a line is a line with its time, of JSON of version 2 the JSON with its identity", () => {
    const nowMs = Date.now();
    const line = replayStatusOf(letter(`m,b=1,a=2 x=1,y=5i ${nowMs}000001`, { reason: "bad_timestamp" }), nowMs);
    const text = `m,a=2,b=1 x=1,y=5i ${nowMs}000001`;
    const identity = `m,a=2,b=1 x,y ${nowMs}000001`;
    expect(line).toMatchObject({
      kind: "valid",
      event: { identity, text, timeMs: nowMs, content: { measurement: "m" } },
    });
    const json = { v: 2, measurement: "m", source: "s", run: "r", seq: 1, time: nowMs, fields: { x: 1 } };
    const status = replayStatusOf(letter(json), nowMs);
    expect(status).toMatchObject({ kind: "valid", event: { text: JSON.stringify(json) } });
    // Each replay of a line without time writes the same point.
    const timeless = letter("m x=1", { timestampMs: nowMs - 500 });
    expect(replayStatusOf(timeless, nowMs)).toMatchObject({ event: { text: `m x=1 ${nowMs - 500}000000` } });
    // The precision that its sender named is not kept.
    expect(replayStatusOf(letter(`m x=1 ${nowMs}`), nowMs)).toMatchObject({ event: { text: `m x=1 ${nowMs}000000` } });
  });
  test("has another identity for other fields of the same series and time: both are sent", () => {
    const [flow, temperature] = ["flow", "temperature"].map((field) => {
      const status = replayStatusOf(letter(`m,a=1 ${field}=1 ${event.ts}000001`), event.ts);
      return status.kind === "valid" ? status.event.identity : undefined;
    });
    expect([flow, temperature]).toEqual([`m,a=1 flow ${event.ts}000001`, `m,a=1 temperature ${event.ts}000001`]);
  });
  test("is sent in the order of the refusals, and replaced fields are not expected", () => {
    const eventOf = (fields: string) => {
      const status = replayStatusOf(letter(`m,a=1 ${fields} ${event.ts}000001`), event.ts);
      if (status.kind !== "valid") throw new Error("not valid");
      return status.event;
    };
    const [old, both, newest] = ["b=1", "a=1,b=2", "b=3"].map(eventOf) as [ReplayEvent, ReplayEvent, ReplayEvent];
    const kept = withoutReplaced([old, both, newest]);
    expect(kept.map(({ text }) => text)).toEqual([both.text, newest.text]);
    expect(kept.map(({ content }) => content!.fields)).toEqual([[both.content!.fields[0]!], newest.content!.fields]);
    // The newest one is stored: the older one would replace its field.
    expect(unstored(kept, new Set([newest.identity])).map(({ text }) => text)).toEqual([both.text, newest.text]);
    expect(unstored(kept, new Set([both.identity])).map(({ text }) => text)).toEqual([newest.text]);
  });
  test("follows the schemas of the pipeline, in validity and in the types of stored fields", () => {
    const schemas = new SchemaFiles();
    schemas.read({ "m.yaml": "measurement: m\nfields:\n  starts: { type: integer }\nadditionalFields: false\n" });
    const statusOf = (fields: object) =>
      replayStatusOf(letter({ v: 2, measurement: "m", source: "s", time: event.ts, fields }), event.ts, schemas);
    const asInteger = contentOf(parseLine(`m,source=s starts=5i ${event.ts}000000`, "ns", 0).point!);
    expect(statusOf({ starts: 5 })).toMatchObject({ kind: "valid", event: { content: asInteger } });
    expect(statusOf({ stops: 5 })).toMatchObject({ kind: "refused", reason: "unknown_field" });
  });
  test("is refused, with the reason, for an event that breaks a rule", () => {
    const outlook = replayStatusOf(letter({ ...event, speed_mps: 99 }));
    expect(outlook).toMatchObject({ kind: "refused", reason: "out_of_range" });
  });
  test("is refused for an event that is older than InfluxDB's retention", () => {
    const old = letter({ ...event, ts: event.ts - BUCKET_RETENTION_MS });
    expect(replayStatusOf(old, event.ts + 1)).toMatchObject({ kind: "refused", reason: "bad_timestamp" });
    expect(replayStatusOf(old, event.ts - 1).kind).toBe("valid");
  });
  test("is refused for an event of the future, and valid when its time is near", () => {
    const early = letter({ ...event, ts: event.ts + MAX_AHEAD_MS + 1000 });
    expect(replayStatusOf(early, event.ts)).toMatchObject({ kind: "refused", reason: "bad_timestamp" });
    expect(replayStatusOf(early, event.ts + 1000).kind).toBe("valid");
  });
  describe("of an event that InfluxDB refused for the type of a field", () => {
    const detail = 'InfluxDB answered 422: partial write: field type conflict: input field "load_kg" is type float';
    const conflict = letter({ ...event, ts: Date.UTC(2026, 10, 28) }, { detail });
    const nowMs = Date.UTC(2026, 10, 29);

    test("is refused with the day, as its time selects the same shard again", () => {
      const status = { kind: "refused", reason: "refused_by_database" } as const;
      expect(replayStatusOf(conflict, nowMs)).toEqual({
        ...status,
        detail: `stored points of 2026-11-28 have another type; ${detail}`,
      });
    });
    test("is valid when the points of the other type are deleted", () => {
      expect(replayStatusOf(conflict, nowMs, { typesFixed: true }).kind).toBe("valid");
    });
    test("list and show say why", () => {
      const tally = new Tally();
      for (const one of [conflict, conflict]) tally.add(one, replayStatusOf(one, nowMs));
      expect(tally.groups).toMatchObject([{ letters: 2, valid: 0 }]);
      const why = "stored points of 2026-11-28 have another type";
      expect(tally.lines().at(-1)).toStartWith(`2 refused_by_database, still refused: ${why}`);
      expect(linesOf(conflict, replayStatusOf(conflict, nowMs))[1]).toContain(why);
    });
  });
  test("is refused as too large for a body that was truncated at the largest size", () => {
    const cut = letter({ ...event, note: "x".repeat(2 * MAX_EVENT_BYTES) });
    expect(cut.body.length).toBe(MAX_EVENT_BYTES);
    expect(replayStatusOf(cut)).toMatchObject({ kind: "refused", reason: "too_large" });
  });
  test("is cut for a truncated body that was not too large", () => {
    expect(replayStatusOf({ ...letter(event), body: new Uint8Array() })).toEqual({ kind: "cut" });
  });
});

describe("matchesFilter", () => {
  const filter = { sinceMs: 0, reasons: [], run: undefined };
  test("selects by time and by reason", () => {
    expect(matchesFilter(letter(event), filter)).toBeTrue();
    expect(matchesFilter(letter(event), { ...filter, sinceMs: 1001 })).toBeFalse();
    expect(matchesFilter(letter(event), { ...filter, reasons: ["out_of_range"] })).toBeFalse();
    expect(matchesFilter(letter({ ...event, seq: -1 }), { ...filter, reasons: ["bad_seq"] })).toBeTrue();
  });
  test("selects by the run of the event, also in an invalid body, or of the producer that read it", () => {
    for (const run of ["r1", "p1"]) expect(matchesFilter(letter('{"run":"r1", broken'), { ...filter, run })).toBeTrue();
    expect(matchesFilter(letter(event), { ...filter, run: "r" })).toBeFalse();
  });
});

describe("lineOf", () => {
  test.each([
    ['{"a":1}', '{"a":1}'],
    ['{\n  "a": "x\\ny"\n}', '{"a":"x\\ny"}'],
    ["no\njson\r\nat all", "no json at all"],
  ])("%j is the line %j", (body, line) => expect(lineOf(bytes(body))).toBe(line));
});

test("Tally counts by reason and service, and how many are valid now", () => {
  const tally = new Tally();
  const letters = [letter(event), letter(event, { timestampMs: 2000 }), letter({ ...event, speed_mps: 99 })];
  for (const one of letters) tally.add(one, replayStatusOf(one));
  expect(tally.groups.map(({ reason, letters: count, valid, newestMs }) => [reason, count, valid, newestMs])).toEqual([
    ["refused_by_database", 2, 2, 2000],
    ["out_of_range", 1, 0, 1000],
  ]);
  expect(tally.lines()[1]).toStartWith("      2          2  refused_by_database  producer    1970-01-01T00:00:02Z");
});

describe("text of senders", () => {
  const foreign = "\u001b]0;x\u0007\nforged \u009b2J";
  const hostile = letter(`{"v":1,${foreign}`, { detail: foreign, origin: foreign, reason: foreign, service: foreign });

  test("show and list print lines without control characters", () => {
    const tally = new Tally();
    tally.add(hostile, replayStatusOf(hostile));
    const lines = [...linesOf(hostile, replayStatusOf(hostile)), ...tally.lines()];
    expect(lines).toHaveLength(5);
    for (const line of lines) expect(line).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(lines[0]).toContain("\\u001b]0;x\\u0007\\u000aforged \\u009b2J");
  });

  test("export writes exact bodies to a file, and none with control characters to a terminal", () => {
    expect(lineFor(bytes("a\u001bb"), {})).toBe("a\u001bb");
    expect(lineFor(bytes("a\u001bb"), { isTTY: true })).toBe("a\\u001bb");
  });
});

describe("storedAmong", () => {
  const nowMs = 1_795_000_000_000;
  const replayed = (text: string) => {
    const status = replayStatusOf(letter(text), nowMs);
    if (status.kind !== "valid") throw new Error(status.kind);
    return status.event;
  };
  const point = replayed(`m,a=1 x=1,y=5i ${nowMs}000001`);
  const store = (fields: readonly string[]) => ({
    eachPoint: async () => {},
    eachFieldValue: async (
      measurement: string,
      startMs: number,
      endMs: number,
      visit: (field: StoredField) => void,
    ) => {
      expect([measurement, startMs <= nowMs && nowMs < endMs]).toEqual(["m", true]);
      for (const field of fields) visit({ key: point.content!.key, field });
    },
  });

  test("finds a point of which every field is stored with its value, and no other", async () => {
    const { fields } = point.content!;
    expect(await storedAmong(store(fields), [point])).toEqual(new Set([point.identity]));
    expect(await storedAmong(store(fields.slice(1)), [point])).toEqual(new Set());
    const altered = replayed(`m,a=1 x=2,y=5i ${nowMs}000001`).content!.fields;
    expect(await storedAmong(store(altered), [point])).toEqual(new Set());
  });
});

test("slicesOf lists each ten minutes that contain an event, once", () => {
  expect(slicesOf([600_000, 1, 2, 1_199_999])).toEqual([
    [0, 600_000],
    [600_000, 1_200_000],
  ]);
});
