/**
 * An event as one line of InfluxDB's line protocol.
 *
 * Identity: the timestamp is nanoseconds = ts·10⁶ + seq mod 10⁶, so two events of one run and conveyor share a point only
 * if they are 10⁶ apart in seq within one millisecond (a billion events a second). The line depends on the event alone,
 * so writing it twice rewrites the same point. The sum exceeds 2^53 and is therefore joined as text.
 *
 * `run` is a field, not a tag, since a tag would add a series per run without bound. Two runs of one conveyor overwrite
 * each other where they agree in millisecond and in seq mod 10⁶. In operation a conveyor has one source at a time, and a
 * new run has later timestamps; a file that is loaded twice under different run names overwrites its first load.
 */
import { CANONICAL_EVENT, MEASUREMENT_NAMES, type Measurement, type TelemetryEvent } from "./event.ts";

export const MEASUREMENT = "conveyor_telemetry";

/** Points that have the identity of their event: run and seq as fields, the conveyor as a tag. */
export interface IdentitySeries {
  measurement: string;
  tag: string;
}
/** The points of version 1. */
export const BELT_SERIES: IdentitySeries = { measurement: MEASUREMENT, tag: "conveyor" };

/** Slots within one millisecond: six digits, so that millisecond and slot can be joined as text. */
export const SLOTS_PER_MS = 1_000_000;
const SLOT_DIGITS = 6;

/** Nanoseconds of the point as decimal text; `ts` and `seq` are decimal text without leading zeros. */
export function pointTimestampNs(ts: string, seq: string): string {
  return seq.length >= SLOT_DIGITS ? ts + seq.slice(-SLOT_DIGITS) : ts + ZEROS[SLOT_DIGITS - seq.length] + seq;
}
const ZEROS = ["", "0", "00", "000", "0000", "00000", "000000"] as const;

/** Escapes comma, space and equals sign of a tag value. Line breaks cannot be escaped and must not occur. */
export function escapeTag(value: string): string {
  return /[,= ]/.test(value) ? value.replace(/[,= ]/g, "\\$&") : value;
}

/** Escapes quote and backslash of a string field, which is written in quotes. */
export function escapeString(value: string): string {
  return /["\\]/.test(value) ? value.replace(/["\\]/g, "\\$&") : value;
}

/** The line of a valid event, without line break. */
export function renderPoint(event: TelemetryEvent): string {
  const seq = String(event.seq);
  return (
    `${MEASUREMENT},conveyor=${escapeTag(event.conveyor)} run="${escapeString(event.run)}",seq=${seq}i,` +
    `${MEASUREMENT_NAMES.map((name) => `${name}=${event[name]}`).join(",")},` +
    `state="${event.state}" ${pointTimestampNs(String(event.ts), seq)}`
  );
}

/**
 * What an event or its point says, as a number from 2 on: a checksum of measurements and state in one canonical form. An
 * audit compares both. A value that is missing or of another type differs from every valid one.
 */
export function valuesChecksum(values: { readonly [Name in Measurement | "state"]?: unknown }): number {
  let text = String(values.state);
  for (const name of MEASUREMENT_NAMES) {
    const value = values[name];
    text += typeof value === "number" ? `,${value}` : ",?";
  }
  return Math.max(2, Bun.hash.crc32(text));
}

interface RenderedEvent {
  line: string;
  /** Milliseconds: for the end-to-end latency. */
  ts: number;
  conveyor: string;
  run: string;
  /** Decimal text. */
  seq: string;
}

/** Line and identity of an event in canonical form; undefined for any other text, which may be valid nevertheless. */
export function renderCanonical(text: string): RenderedEvent | undefined {
  const match = CANONICAL_EVENT.exec(text);
  if (match === null) return undefined;
  const seq = match[3]!;
  const ts = match[4]!;
  const conveyor = match[1]!;
  const run = match[2]!;
  return {
    // Written out: a loop over the measurements takes 40 % longer per event.
    line:
      `${MEASUREMENT},conveyor=${conveyor} run="${run}",seq=${seq}i,speed_mps=${match[5]},load_kg=${match[6]},` +
      `motor_temp_c=${match[7]},vibration_mm_s=${match[8]},state="${match[9]}" ${pointTimestampNs(ts, seq)}`,
    ts: Number(ts),
    conveyor,
    run,
    seq,
  };
}
