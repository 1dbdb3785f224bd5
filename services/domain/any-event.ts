/**
 * An event in any form that the pipeline takes: JSON of version 1 or 2, or a line of InfluxDB's line protocol. The first
 * character decides: "{", "[", a quote or nothing is JSON, everything else a line.
 */
import { checkEvent, type Refusal, readJson, readText, type TelemetryEvent } from "./event.ts";
import { checkEventTime } from "./event-window.ts";
import { checkGenericEvent, GENERIC_EVENT_VERSION, type GenericEvent } from "./generic-event.ts";
import { type Point, type Precision, parseLine, parseLineOfAnyPrecision } from "./line-protocol.ts";

/** An event of version 2, or a line: that one names no source and has no identity. */
export type PointEvent = { point: Point } & Partial<Pick<GenericEvent, "source" | "given">>;

export type AnyParsed =
  | { event: TelemetryEvent; generic?: undefined; refusal?: undefined }
  | { event?: undefined; generic: PointEvent; refusal?: undefined }
  | { event?: undefined; generic?: undefined; refusal: Refusal };

/** Milliseconds since 1970 of a point. */
export const timeMsOf = ({ timeNs }: Point): number => Number(timeNs.slice(0, -6));

/** Whether a text is read as JSON, otherwise as a line. A measurement begins with none of these characters. */
export const isJson = (text: string) => /^[ \t\r\n]*(?:[{["]|$)/.test(text);

/** What a line does not say itself. */
export interface LineReading {
  /** Of its time; "any" where it was not kept. */
  precision?: Precision | "any" | undefined;
  /** Time of a line that has none, in milliseconds since 1970; `nowMs` when absent. */
  receivedMs?: number;
}

/**
 * Parses and checks an event, with the window of event time at `nowMs`; never throws.
 * @param length length of the complete event when `bytes` is only its beginning
 */
export function parseAnyEventAt(
  nowMs: number,
  bytes: Uint8Array,
  length = bytes.length,
  { precision = "ns", receivedMs = nowMs }: LineReading = {},
): AnyParsed {
  const { text, refusal } = readText(bytes, length);
  if (refusal) return { refusal };
  const parsed = isJson(text) ? parseJson(text) : parsePoint(text, precision, receivedMs);
  if (parsed.refusal) return parsed;
  const late = parsed.event
    ? checkEventTime(parsed.event.ts, nowMs)
    : checkEventTime(timeMsOf(parsed.generic.point), nowMs, "time");
  return late ? { refusal: late } : parsed;
}

function parsePoint(text: string, precision: Precision | "any", receivedMs: number): AnyParsed {
  const { point, refusal } =
    precision === "any" ? parseLineOfAnyPrecision(text, receivedMs) : parseLine(text, precision, receivedMs);
  return refusal ? { refusal } : { generic: { point } };
}

function parseJson(text: string): AnyParsed {
  const { value, refusal } = readJson(text);
  if (refusal) return { refusal };
  if ((value as { v?: unknown } | null)?.v === GENERIC_EVENT_VERSION) {
    const checked = checkGenericEvent(value);
    return checked.refusal ? { refusal: checked.refusal } : { generic: checked.event };
  }
  const invalid = checkEvent(value);
  return invalid ? { refusal: invalid } : { event: value as TelemetryEvent };
}
