/**
 * An event as one line of InfluxDB's line protocol.
 *
 * Identity. The timestamp is nanoseconds = ts·10⁶ + seq mod 10⁶, so two events of one run and conveyor can only share
 * a point if they lie 10⁶ apart in seq within one millisecond (a billion events a second). Everything in the line comes
 * from the event alone: writing it again rewrites the same point, and a replay adds nothing. The sum exceeds 2^53, so
 * it is joined as text, never computed.
 *
 * What the identity leaves open: `run` is a field, not a tag (a tag would add a series per run, without bound). Two
 * RUNS of one conveyor would overwrite each other where they agree in millisecond and in seq mod 10⁶. What guards
 * against it: one conveyor has one source at a time (a StatefulSet ordinal names the simulated ones) and a new run
 * begins after the old one ended, with later timestamps. A person who loads a file twice under another run name with
 * the same conveyors and times does overwrite the first load.
 */
import type { TelemetryEvent } from "./event.ts";

export const MEASUREMENT = "conveyor_telemetry";

/** InfluxDB keeps a point until it is this old, and refuses one that already is. */
export const BUCKET_RETENTION_MS = 30 * 86_400_000;

/** Slots within one millisecond: six digits, so that millisecond and slot can be joined as text. */
export const SLOTS_PER_MS = 1_000_000;
const SLOT_DIGITS = 6;

/** Nanoseconds of the point as decimal text; `ts` and `seq` are decimal text without leading zeros. */
export function pointTimestampNs(ts: string, seq: string): string {
  return seq.length >= SLOT_DIGITS ? ts + seq.slice(-SLOT_DIGITS) : ts + ZEROS[SLOT_DIGITS - seq.length] + seq;
}
const ZEROS = ["", "0", "00", "000", "0000", "00000", "000000"] as const;

/** Tag values: comma, space and equals sign carry meaning; line breaks cannot be escaped and must not get here. */
export function escapeTag(value: string): string {
  return /[,= ]/.test(value) ? value.replace(/[,= ]/g, "\\$&") : value;
}

/** String fields stand in quotes: quote and backslash are escaped. */
export function escapeString(value: string): string {
  return /["\\]/.test(value) ? value.replace(/["\\]/g, "\\$&") : value;
}

/** The line of a valid event, without line break. */
export function renderPoint(event: TelemetryEvent): string {
  const seq = String(event.seq);
  return (
    `${MEASUREMENT},conveyor=${escapeTag(event.conveyor)} run="${escapeString(event.run)}",seq=${seq}i,` +
    `speed_mps=${event.speed_mps},load_kg=${event.load_kg},motor_temp_c=${event.motor_temp_c},` +
    `vibration_mm_s=${event.vibration_mm_s},state="${event.state}" ${pointTimestampNs(String(event.ts), seq)}`
  );
}

// ── the fast path ────────────────────────────────────────────────────────────────────────────────────────────────────
//
// Events written by our own producer have one fixed shape. One regular expression recognises it, checks every rule of
// event.ts and cuts out the texts that the line needs: no JSON parser, no numbers made and printed again. It is
// deliberately narrower than event.ts (values at the very edge of a range, exponents, other spacing or order take the
// slow path, which decides); it must never accept what event.ts refuses. A property test holds the two together.

const FRACTION = "(?:\\.\\d{1,12})?";
const NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}";
const CANONICAL = new RegExp(
  `^\\{"v":1,"conveyor":"(${NAME})","run":"(${NAME})"` +
    `,"seq":(0|[1-9]\\d{0,14})` +
    `,"ts":([1-3]\\d{12})` +
    `,"speed_mps":(-?1?\\d${FRACTION})` +
    `,"load_kg":((?:0|[1-9]\\d{0,3})${FRACTION})` +
    `,"motor_temp_c":((?:-?[1-5]?\\d|[6-9]\\d|[12]\\d\\d)${FRACTION})` +
    `,"vibration_mm_s":((?:1?\\d|[2-9]\\d|1\\d\\d)${FRACTION})` +
    `,"state":"(running|idle|stopped|fault)"\\}$`,
);

/** What the processor keeps of an event once it is rendered. */
export interface RenderedEvent {
  line: string;
  /** Milliseconds: for the end-to-end latency. */
  ts: number;
  conveyor: string;
  run: string;
  /** Decimal text. */
  seq: string;
}

/**
 * Line and identity of an event in the producer's own shape, or undefined when the text is anything else (which says
 * nothing about its validity). Bytes that are not UTF-8 may have become replacement characters: they never match.
 */
export function renderCanonical(text: string): RenderedEvent | undefined {
  const match = CANONICAL.exec(text);
  if (match === null) return undefined;
  const seq = match[3]!;
  const ts = match[4]!;
  const conveyor = match[1]!;
  const run = match[2]!;
  return {
    line:
      `${MEASUREMENT},conveyor=${conveyor} run="${run}",seq=${seq}i,speed_mps=${match[5]},load_kg=${match[6]},` +
      `motor_temp_c=${match[7]},vibration_mm_s=${match[8]},state="${match[9]}" ${pointTimestampNs(ts, seq)}`,
    ts: Number(ts),
    conveyor,
    run,
    seq,
  };
}
