import { describe, expect, test } from "bun:test";
import type { Reason } from "../../../services/domain/event.ts";
import {
  checkGenericEvent,
  type GenericEvent,
  type GenericEventJson,
  serializeGenericEvent,
} from "../../../services/domain/generic-event.ts";
import { parseLine, renderLine } from "../../../services/domain/line-protocol.ts";
import { pointTimestampNs } from "../../../services/domain/point.ts";

const TIME_MS = 1_764_489_600_000;
const good: GenericEventJson = {
  measurement: "pump",
  source: "pump-7",
  run: "r1",
  seq: 5,
  time: TIME_MS,
  tags: { site: "north" },
  fields: { flow_l_min: 121.5, ok: true, note: "text", starts: { integer: "5" }, gap: null },
};

const check = (event: unknown) => checkGenericEvent(JSON.parse(JSON.stringify(event)));
const read = (change: Partial<GenericEventJson> = {}): GenericEvent => {
  const { event, refusal } = checkGenericEvent(JSON.parse(serializeGenericEvent({ ...good, ...change })));
  if (!event) throw new Error(refusal.detail);
  return event;
};
const timeOf = (change: Partial<GenericEventJson>) => read(change).point.timeNs;

describe("checkGenericEvent", () => {
  test("reads point, source and identity", () => {
    const { point, source, given } = read();
    expect({ source, given }).toEqual({ source: "pump-7", given: { run: "r1", seq: 5 } });
    expect(renderLine(point)).toBe(
      'pump,site=north,source=pump-7 flow_l_min=121.5,note="text",ok=true,starts=5i 1764489600000000005',
    );
  });

  test("has no identity where run and seq are absent", () => {
    expect(read({ run: undefined, seq: undefined }).given).toBeUndefined();
  });

  test("fills the digits below ms and us with seq, and nothing else", () => {
    for (const seq of [0, 7, 999, 1000, 999_999, 1_000_000, 123_456_789]) {
      expect(timeOf({ seq })).toBe(pointTimestampNs(String(TIME_MS), String(seq)));
      const us = timeOf({ seq, time: TIME_MS * 1000, precision: "us" });
      expect(us).toBe(`${TIME_MS}000${String(seq % 1000).padStart(3, "0")}`);
      expect(timeOf({ seq, time: `${TIME_MS}123456`, precision: "ns" })).toBe(`${TIME_MS}123456`);
    }
    const none = { run: undefined, seq: undefined };
    expect(timeOf(none)).toBe(`${TIME_MS}000000`);
    expect(timeOf({ ...none, time: TIME_MS * 1000 + 1, precision: "us" })).toBe(`${TIME_MS}001000`);
  });

  test("keeps integers of 64 bits, and every number that JSON can hold", () => {
    const integers = ["9007199254740993", "-9223372036854775808", "9223372036854775807", "0"];
    for (const integer of integers) {
      expect(read({ fields: { x: { integer } } }).point.fields.get("x")).toEqual({ type: "integer", text: integer });
    }
    const unsigned = "18446744073709551615";
    expect(read({ fields: { x: { unsigned } } }).point.fields.get("x")).toEqual({ type: "unsigned", text: unsigned });
    for (const x of [0, -0.1, 1e-7, 5e-324, 1e21, 1.7976931348623157e308, 2 ** 53 + 2]) {
      const { point } = parseLine(renderLine(read({ fields: { x } }).point), "ns", 0);
      expect(Number(point!.fields.get("x")!.text)).toBe(x);
    }
  });

  const { seq: _, ...withoutSeq } = good;
  const { run: __, ...withoutRun } = good;
  const { source: ___, ...withoutSource } = good;
  const faults: [name: string, event: unknown, reason: Reason, field: string][] = [
    ["version 3", { ...good, v: 3 }, "wrong_version", "v"],
    ["no version", good, "missing_field", "v"],
    ["no source", { v: 2, ...withoutSource }, "missing_field", "source"],
    ["a field more", { v: 2, ...good, unit: "l" }, "unknown_field", "unit"],
    ["run without seq", { v: 2, ...withoutSeq }, "missing_field", "seq"],
    ["seq without run", { v: 2, ...withoutRun }, "missing_field", "run"],
    ["seq as text", { v: 2, ...good, seq: "5" }, "wrong_type", "seq"],
    ["a negative seq", { v: 2, ...good, seq: -1 }, "bad_seq", "seq"],
    ["a run with a space", { v: 2, ...good, run: "r 1" }, "bad_run", "run"],
    ["a source with a space", { v: 2, ...good, source: "pump 7" }, "bad_source", "source"],
    ["source as number", { v: 2, ...good, source: 7 }, "wrong_type", "source"],
    ["measurement as number", { v: 2, ...good, measurement: 7 }, "wrong_type", "measurement"],
    [
      "the measurement of version 1",
      { v: 2, ...good, measurement: "conveyor_telemetry" },
      "bad_measurement",
      "measurement",
    ],
    ["seconds", { v: 2, ...good, time: 1_764_489_600 }, "bad_timestamp", "time"],
    ["half a millisecond", { v: 2, ...good, time: TIME_MS + 0.5 }, "bad_timestamp", "time"],
    ["microseconds as ms", { v: 2, ...good, time: TIME_MS * 1000 }, "bad_timestamp", "time"],
    ["nanoseconds as number", { v: 2, ...good, time: TIME_MS * 1e6, precision: "ns" }, "bad_timestamp", "time"],
    ["a date", { v: 2, ...good, time: "2025-11-30T08:00:00Z" }, "bad_timestamp", "time"],
    ["an unknown precision", { v: 2, ...good, precision: "s" }, "bad_timestamp", "precision"],
    ["tags as list", { v: 2, ...good, tags: ["a"] }, "wrong_type", "tags"],
    ["a tag as number", { v: 2, ...good, tags: { a: 1 } }, "bad_tag", "tags.a"],
    ["a tag named source", { v: 2, ...good, tags: { source: "x" } }, "bad_tag", "tags.source"],
    ["an empty tag", { v: 2, ...good, tags: { a: "" } }, "bad_tag", "tags.a"],
    ["fields as list", { v: 2, ...good, fields: [1] }, "wrong_type", "fields"],
    ["only null fields", { v: 2, ...good, fields: { a: null } }, "bad_field", "fields"],
    ["a list as field", { v: 2, ...good, fields: { a: [1] } }, "bad_field", "fields.a"],
    ["an unknown type of field", { v: 2, ...good, fields: { a: { double: 1 } } }, "bad_field", "fields.a"],
    ["half an integer", { v: 2, ...good, fields: { a: { integer: 1.5 } } }, "bad_field", "fields.a"],
    [
      "an integer as JSON number above 2^53",
      { v: 2, ...good, fields: { a: { integer: 2 ** 53 } } },
      "bad_field",
      "fields.a",
    ],
    [
      "an integer beyond 64 bits",
      { v: 2, ...good, fields: { a: { integer: "9".repeat(20) } } },
      "bad_field",
      "fields.a",
    ],
    ["an integer that is null", { v: 2, ...good, fields: { a: { integer: null } } }, "bad_field", "fields.a"],
  ];
  for (const [name, event, reason, field] of faults) {
    test(`refuses ${name}: ${reason}`, () => {
      const { refusal } = check(event);
      expect(refusal).toMatchObject({ reason, field });
      expect(refusal?.detail).toMatch(new RegExp(`^${field}: .+; got .+`));
    });
  }

  test("refuses infinity, which 1e999 becomes", () => {
    const text = serializeGenericEvent(good).replace("121.5", "1e999");
    expect(checkGenericEvent(JSON.parse(text)).refusal).toMatchObject({
      reason: "bad_field",
      field: "fields.flow_l_min",
    });
  });

  test("refuses what is no object", () => {
    for (const value of [null, [], "event", 5]) {
      expect(checkGenericEvent(value).refusal).toMatchObject({ reason: "not_an_object" });
    }
  });

  test("a key named __proto__ is a key", () => {
    const { event } = checkGenericEvent(JSON.parse(serializeGenericEvent(good).replace('"site"', '"x__proto__"')));
    expect(event!.point.tags.get("x__proto__")).toBe("north");
    const refused = checkGenericEvent(JSON.parse(serializeGenericEvent(good).replace('"site"', '"__proto__"')));
    expect(refused.refusal).toMatchObject({ reason: "bad_tag" });
  });
});
