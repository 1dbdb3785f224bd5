import { describe, expect, test } from "bun:test";
import { parseAnyEventAt, timeMsOf } from "../../../services/domain/any-event.ts";
import { exampleEvent, MAX_EVENT_BYTES, serializeEvent } from "../../../services/domain/event.ts";
import { BUCKET_RETENTION_MS, MAX_AHEAD_MS } from "../../../services/domain/event-window.ts";
import { serializeGenericEvent } from "../../../services/domain/generic-event.ts";

const NOW_MS = 1_795_000_000_000;
const event = exampleEvent({ conveyor: "c", run: "r", seq: 0, ts: NOW_MS });
const generic = { measurement: "pump", source: "pump-7", time: NOW_MS, fields: { x: 1 } };
const at = (nowMs: number, text: string) => parseAnyEventAt(nowMs, Buffer.from(text));

describe("parseAnyEventAt", () => {
  test("reads both versions and lines", () => {
    expect(at(NOW_MS, serializeEvent(event))).toEqual({ event });
    expect(at(NOW_MS, `\n ${serializeGenericEvent(generic)}`).generic).toMatchObject({ source: "pump-7" });
    const { generic: line } = at(NOW_MS, `pump x=1 ${NOW_MS}000001`);
    expect(line).toEqual({ point: line!.point });
    expect(timeMsOf(line!.point)).toBe(NOW_MS);
  });

  test("a line has the precision that is asked for, and the clock's time or that of its receipt where it has none", () => {
    const read = (text: string, precision: "s" | "ms" | "any", receivedMs?: number) =>
      parseAnyEventAt(NOW_MS, Buffer.from(text), undefined, { precision, ...(receivedMs && { receivedMs }) }).generic!
        .point.timeNs;
    expect(read(`m x=1 ${NOW_MS}`, "ms")).toBe(`${NOW_MS}000000`);
    expect(read(`m x=1 ${NOW_MS / 1000}`, "s")).toBe(`${NOW_MS}000000`);
    expect(read("m x=1", "s")).toBe(`${NOW_MS}000000`);
    expect(read("m x=1", "any", NOW_MS - 5)).toBe(`${NOW_MS - 5}000000`);
    for (const digits of [10, 13, 16, 19]) {
      const time = `${NOW_MS}000000`.slice(0, digits);
      expect(read(`m x=1 ${time}`, "any")).toBe(time.padEnd(19, "0"));
    }
  });

  test("refuses by form first, then by time, with the field of the form", () => {
    const late = NOW_MS + BUCKET_RETENTION_MS + 1;
    expect(at(late, serializeEvent(event)).refusal).toMatchObject({ reason: "bad_timestamp", field: "ts" });
    for (const text of [serializeGenericEvent(generic), `pump x=1 ${NOW_MS}000000`]) {
      for (const nowMs of [late, NOW_MS - MAX_AHEAD_MS - 1]) {
        const { refusal } = at(nowMs, text);
        expect(refusal).toMatchObject({ reason: "bad_timestamp", field: "time" });
        expect(refusal!.detail).toMatch(/^time: must be at (?:least|most) \d+ .+; got \d+$/);
      }
    }
    expect(at(late, "{").refusal?.reason).toBe("malformed_json");
  });

  test.each([
    ["", "malformed_json"],
    ["  \n", "malformed_json"],
    ['{"v":3}', "wrong_version"],
    ['{"v":2}', "missing_field"],
    ["[]", "not_an_object"],
    ['"text"', "not_an_object"],
    ["null", "malformed_line"],
    ["no event", "malformed_line"],
    [`m x="${"y".repeat(MAX_EVENT_BYTES)}"`, "too_large"],
    ["conveyor_telemetry x=1", "bad_measurement"],
  ])("refuses %j: %s", (text, reason) => expect(at(NOW_MS, text).refusal?.reason).toBe(reason as never));

  test("refuses bytes that are not UTF-8", () => {
    const bytes = Buffer.concat([Buffer.from("m x="), Buffer.from([0xff]), Buffer.from(` ${NOW_MS}000000`)]);
    expect(parseAnyEventAt(NOW_MS, bytes).refusal?.reason).toBe("not_utf8");
  });
});
