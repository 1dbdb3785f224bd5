import { describe, expect, test } from "bun:test";
import {
  checkEvent,
  exampleEvent,
  FIELDS,
  MAX_EVENT_BYTES,
  parseEvent,
  REASONS,
  type Reason,
  serializeEvent,
  type TelemetryEvent,
} from "../../../services/domain/event.ts";

const good: TelemetryEvent = {
  ...exampleEvent({ conveyor: "belt-0-1", run: "20261125T000000000Z-0-0000", seq: 0, ts: 1_764_038_400_000 }),
  motor_temp_c: 61.2,
};
const bytes = (text: string) => new TextEncoder().encode(text);
const without = (field: keyof TelemetryEvent) => {
  const { [field]: _, ...rest } = good;
  return rest;
};

/** Each kind of invalid input, its reason, and the field that the message must name. */
const faults: [name: string, input: Uint8Array, reason: Reason, field?: string][] = [
  ["broken JSON", bytes('{"v":1,'), "malformed_json"],
  ["an empty value", bytes(""), "malformed_json"],
  ["an array", bytes("[]"), "not_an_object"],
  ["null", bytes("null"), "not_an_object"],
  ["a text", bytes('"event"'), "not_an_object"],
  ["version 2", bytes(JSON.stringify({ ...good, v: 2 })), "wrong_version", "v"],
  ["version as text", bytes(JSON.stringify({ ...good, v: "1" })), "wrong_version", "v"],
  ["no version", bytes(JSON.stringify(without("v"))), "missing_field", "v"],
  ["a field more", bytes(JSON.stringify({ ...good, colour: "red" })), "unknown_field", "colour"],
  ["seq as text", bytes(JSON.stringify({ ...good, seq: "0" })), "wrong_type", "seq"],
  ["null instead of a number", bytes(JSON.stringify({ ...good, load_kg: null })), "wrong_type", "load_kg"],
  ["state as number", bytes(JSON.stringify({ ...good, state: 1 })), "wrong_type", "state"],
  ["a speed of 21", bytes(JSON.stringify({ ...good, speed_mps: 21 })), "out_of_range", "speed_mps"],
  ["a negative load", bytes(JSON.stringify({ ...good, load_kg: -0.1 })), "out_of_range", "load_kg"],
  ["an infinite temperature", bytes(serializeEvent(good).replace("61.2", "1e999")), "out_of_range", "motor_temp_c"],
  ["an empty conveyor", bytes(JSON.stringify({ ...good, conveyor: "" })), "bad_conveyor", "conveyor"],
  ["a conveyor with a space", bytes(JSON.stringify({ ...good, conveyor: "belt 1" })), "bad_conveyor", "conveyor"],
  ["a conveyor of 65", bytes(JSON.stringify({ ...good, conveyor: "b".repeat(65) })), "bad_conveyor", "conveyor"],
  ["a run with a quote", bytes(JSON.stringify({ ...good, run: 'a"b' })), "bad_run", "run"],
  ["a run with a line break", bytes(JSON.stringify({ ...good, run: "a\nb" })), "bad_run", "run"],
  ["a negative seq", bytes(JSON.stringify({ ...good, seq: -1 })), "bad_seq", "seq"],
  ["half a seq", bytes(JSON.stringify({ ...good, seq: 0.5 })), "bad_seq", "seq"],
  ["a seq beyond 15 digits", bytes(JSON.stringify({ ...good, seq: 1e15 })), "bad_seq", "seq"],
  ["seconds instead of ms", bytes(JSON.stringify({ ...good, ts: 1_764_038_400 })), "bad_timestamp", "ts"],
  ["microseconds instead of ms", bytes(JSON.stringify({ ...good, ts: 1_764_038_400_000_000 })), "bad_timestamp", "ts"],
  ["an unknown state", bytes(JSON.stringify({ ...good, state: "flying" })), "bad_state", "state"],
  ["16 KiB and one byte", bytes(`{"v":1,"x":"${"y".repeat(MAX_EVENT_BYTES)}"}`), "too_large"],
  ["bytes that are not UTF-8", new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), "not_utf8"],
];

describe("parseEvent", () => {
  test("returns a valid event unchanged", () => {
    expect(parseEvent(bytes(serializeEvent(good)))).toEqual({ event: good });
    expect(parseEvent(bytes(JSON.stringify(good, null, 2))).event).toEqual(good);
  });

  for (const [name, input, reason, field] of faults) {
    test(`refuses ${name}: ${reason}`, () => {
      const { event, refusal } = parseEvent(input);
      expect(event).toBeUndefined();
      expect(refusal?.reason).toBe(reason);
      expect(refusal?.field).toBe(field);
      if (field) expect(refusal?.detail).toMatch(new RegExp(`^${field}: .+; got .+`));
    });
  }

  /** Senders choose these bytes; the detail goes to terminals, log lines and headers. */
  const control = "\u001b]0;x\u0007\n\u009b2J\u202e";
  test.each([
    ["a field's name", JSON.stringify({ ...good, [control]: 1 })],
    ["a long field's name", JSON.stringify({ ...good, [control.repeat(1000)]: 1 })],
    ["a value", JSON.stringify({ ...good, state: control.repeat(1000) })],
    ["broken JSON", control],
    ["a long word that is not JSON", "b".repeat(15_000)],
    ["a version", JSON.stringify({ ...good, v: control })],
    ["no object", JSON.stringify(control)],
  ])("the detail is short and has no control characters: %s", (_, text) => {
    const { refusal } = parseEvent(bytes(text));
    expect(refusal?.detail).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(refusal!.detail.length).toBeLessThan(1000);
  });

  test("has a case for every reason but the database's and those of generic events", () => {
    const covered = new Set(faults.map(([, , reason]) => reason));
    const generic: Reason[] = [
      "malformed_line",
      "bad_measurement",
      "bad_source",
      "bad_tag",
      "bad_field",
      "unknown_measurement",
    ];
    expect(REASONS.filter((reason) => !covered.has(reason))).toEqual([...generic, "refused_by_database"]);
  });

  test("refuses an event without a field and names the field", () => {
    for (const field of FIELDS) {
      expect(checkEvent(without(field))).toMatchObject({ reason: "missing_field", field });
    }
  });

  test("returns a short refusal for random bytes and never throws", () => {
    for (let round = 0; round < 500; round++) {
      const noise = crypto.getRandomValues(new Uint8Array(round));
      const { refusal } = parseEvent(noise);
      expect(refusal).toBeDefined();
      expect(refusal!.detail.length).toBeLessThan(400);
    }
  });
});
