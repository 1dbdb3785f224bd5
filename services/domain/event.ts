/**
 * The event format: one JSON object with exactly the fields in FIELDS. The checks use nothing but the bytes, so producer,
 * processor and a later replay decide alike; event-window.ts compares the time with a clock.
 */
import { printable } from "./printable.ts";

export const EVENT_VERSION = 1;

export const STATES = ["running", "idle", "stopped", "fault"] as const;
export type State = (typeof STATES)[number];

interface MeasurementRules {
  /** Least and greatest valid value: wide enough for any healthy sensor, so that a value outside means a broken one. */
  range: readonly [least: number, most: number];
  /**
   * Regular expression of the value's integer part in the canonical form. It may match less than the range, since other
   * values take the slow path, but never more.
   */
  canonical: string;
  example: number;
}

/**
 * The sensor values of an event, in the order of the canonical form. A new one also needs a line in serializeEvent(), in
 * renderCanonical() (point.ts) and in Conveyor.next() (fleet.ts); compiler and tests report a missing one.
 */
export const MEASUREMENTS = {
  speed_mps: { range: [-20, 20], canonical: "-?1?\\d", example: 1.2 },
  load_kg: { range: [0, 10_000], canonical: "(?:0|[1-9]\\d{0,3})", example: 120 },
  motor_temp_c: { range: [-60, 300], canonical: "(?:-?[1-5]?\\d|[6-9]\\d|[12]\\d\\d)", example: 45 },
  vibration_mm_s: { range: [0, 200], canonical: "(?:1?\\d|[2-9]\\d|1\\d\\d)", example: 2 },
} as const satisfies Record<string, MeasurementRules>;
export type Measurement = keyof typeof MEASUREMENTS;
export const MEASUREMENT_NAMES = Object.keys(MEASUREMENTS) as Measurement[];

export interface TelemetryEvent extends Record<Measurement, number> {
  v: typeof EVENT_VERSION;
  /** Kafka key and InfluxDB tag. */
  conveyor: string;
  /** One life of one source; (run, conveyor, seq) is unique. */
  run: string;
  /** From 0, without gaps, per run and conveyor. */
  seq: number;
  /** Milliseconds since the epoch. */
  ts: number;
  state: State;
}

/** In the order of the canonical form. */
const IDENTITY_FIELDS = ["v", "conveyor", "run", "seq", "ts"] as const;
export const FIELDS: readonly (keyof TelemetryEvent)[] = [...IDENTITY_FIELDS, ...MEASUREMENT_NAMES, "state"];

export const REASONS = [
  "malformed_json",
  "not_an_object",
  "wrong_version",
  "missing_field",
  "unknown_field",
  "wrong_type",
  "out_of_range",
  "bad_conveyor",
  "bad_run",
  "bad_seq",
  "bad_timestamp",
  "bad_state",
  "too_large",
  "not_utf8",
  "malformed_line",
  "bad_measurement",
  "bad_source",
  "bad_tag",
  "bad_field",
  "unknown_measurement",
  "refused_by_database",
] as const;
export type Reason = (typeof REASONS)[number];

/** An event has about 230 bytes; the limit leaves room for whitespace and stops a runaway source early. */
export const MAX_EVENT_BYTES = 16 * 1024;
const NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}";
/** Names are tags and keys: this alphabet needs no escaping in queries. */
export const NAME_PATTERN = new RegExp(`^${NAME}$`);
export const NAME_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ -, first a letter or digit";
/** 15 digits: exact in a double, and in InfluxDB's 64-bit integer. */
export const MAX_SEQ = 999_999_999_999_999;
/** 2001-09-09: an earlier value is seconds mistaken for milliseconds. */
export const MIN_TS_MS = 1_000_000_000_000;
/** 2096-10-02: a later value is microseconds; also the end of 13 digits beginning with 1 to 3. */
export const MAX_TS_MS = 3_999_999_999_999;

export interface Refusal {
  reason: Reason;
  /** The invalid field; absent when the refusal is about the event as such. */
  field?: string;
  /** "speed_mps: must be from -20 to 20; got 21.5". */
  detail: string;
}

const SHOWN_VALUE_CHARS = 60;

const cut = (text: string) =>
  printable(text.length > SHOWN_VALUE_CHARS ? `${text.slice(0, SHOWN_VALUE_CHARS)}…` : text);

/** A value for an error message: as JSON, cut where it is long. */
export const shown = (value: unknown): string => cut(String(JSON.stringify(value)));

/** The refusal of one field's value. */
export const refuse = (reason: Reason, field: string, rule: string, value: unknown): Refusal => ({
  reason,
  field,
  detail: `${cut(field)}: ${rule}; got ${shown(value)}`,
});

const NUMBER_FIELDS = ["seq", "ts", ...MEASUREMENT_NAMES] as const;
const STRING_FIELDS = ["conveyor", "run", "state"] as const;
const KNOWN_FIELDS: ReadonlySet<string> = new Set(FIELDS);

/** The refusal of a parsed value, or undefined when it is a valid event. */
export function checkEvent(value: unknown): Refusal | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { reason: "not_an_object", detail: `an event must be a JSON object; got ${shown(value)}` };
  }
  const event = value as Record<string, unknown>;
  // The version comes first: a later version may have other fields, and "unknown field" would mislead.
  if (event.v === undefined) return refuse("missing_field", "v", "is required", undefined);
  if (event.v !== EVENT_VERSION) return refuse("wrong_version", "v", "must be 1 or 2", event.v);
  for (const field of FIELDS) {
    if (event[field] === undefined) return refuse("missing_field", field, "is required", undefined);
  }
  for (const field in event) {
    if (!KNOWN_FIELDS.has(field)) return refuse("unknown_field", field, "is not a field of version 1", event[field]);
  }
  for (const field of NUMBER_FIELDS) {
    if (typeof event[field] !== "number") return refuse("wrong_type", field, "must be a number", event[field]);
  }
  for (const field of STRING_FIELDS) {
    if (typeof event[field] !== "string") return refuse("wrong_type", field, "must be a string", event[field]);
  }
  const { conveyor, run, seq, ts, state } = event as unknown as TelemetryEvent;
  if (!NAME_PATTERN.test(conveyor)) return refuse("bad_conveyor", "conveyor", NAME_RULE, conveyor);
  if (!NAME_PATTERN.test(run)) return refuse("bad_run", "run", NAME_RULE, run);
  if (!Number.isInteger(seq) || seq < 0 || seq > MAX_SEQ) {
    return refuse("bad_seq", "seq", `must be a whole number from 0 to ${MAX_SEQ}`, seq);
  }
  if (!Number.isInteger(ts) || ts < MIN_TS_MS || ts > MAX_TS_MS) {
    return refuse("bad_timestamp", "ts", `must be whole milliseconds from ${MIN_TS_MS} to ${MAX_TS_MS}`, ts);
  }
  for (const field of MEASUREMENT_NAMES) {
    const number = event[field] as number;
    const [least, most] = MEASUREMENTS[field].range;
    // The negated form also refuses NaN and the infinities that 1e999 becomes.
    if (!(number >= least && number <= most)) {
      return refuse("out_of_range", field, `must be from ${least} to ${most}`, number);
    }
  }
  if (!(STATES as readonly string[]).includes(state)) {
    return refuse("bad_state", "state", `must be one of ${STATES.join(", ")}`, state);
  }
  return undefined;
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

export type Parsed = { event: TelemetryEvent; refusal?: undefined } | { event?: undefined; refusal: Refusal };

/** The event in its canonical form: fields in the order of FIELDS, no whitespace. */
export function serializeEvent(event: TelemetryEvent): string {
  // Written out, since an object built in a loop over FIELDS costs the producer a tenth of its speed.
  return JSON.stringify({
    v: event.v,
    conveyor: event.conveyor,
    run: event.run,
    seq: event.seq,
    ts: event.ts,
    speed_mps: event.speed_mps,
    load_kg: event.load_kg,
    motor_temp_c: event.motor_temp_c,
    vibration_mm_s: event.vibration_mm_s,
    state: event.state,
  } satisfies TelemetryEvent);
}

/**
 * Matches most valid events in canonical form; everything that it matches is valid (a property test compares it with
 * checkEvent()). One regular expression replaces JSON parser, checks and number formatting for the events of our own
 * producer. Groups: 1 conveyor, 2 run, 3 seq, 4 ts, then the measurements, last the state. Bytes that are not UTF-8 may
 * have become replacement characters, which never match.
 */
export const CANONICAL_EVENT = new RegExp(
  `^\\{"v":${EVENT_VERSION},"conveyor":"(${NAME})","run":"(${NAME})","seq":(0|[1-9]\\d{0,14}),"ts":([1-3]\\d{12})` +
    MEASUREMENT_NAMES.map((name) => `,"${name}":(${MEASUREMENTS[name].canonical}(?:\\.\\d{1,12})?)`).join("") +
    `,"state":"(${STATES.join("|")})"\\}$`,
);

/** Identity and time of an event in canonical form; undefined for any other text, which may be valid nevertheless. */
export function identifyCanonical(text: string): Pick<TelemetryEvent, "conveyor" | "run" | "seq" | "ts"> | undefined {
  const match = CANONICAL_EVENT.exec(text);
  return match === null
    ? undefined
    : { conveyor: match[1]!, run: match[2]!, seq: Number(match[3]), ts: Number(match[4]) };
}

/** A valid event with ordinary values, for checks, drills and tests. */
export function exampleEvent(identity: Pick<TelemetryEvent, "conveyor" | "run" | "seq" | "ts">): TelemetryEvent {
  const values = Object.fromEntries(MEASUREMENT_NAMES.map((name) => [name, MEASUREMENTS[name].example]));
  return { v: EVENT_VERSION, ...identity, ...(values as Record<Measurement, number>), state: "running" };
}

/**
 * The text of an event.
 * @param length length of the complete event when `bytes` is only its beginning.
 */
export function readText(
  bytes: Uint8Array,
  length: number,
): { text: string; refusal?: undefined } | { text?: undefined; refusal: Refusal } {
  if (length > MAX_EVENT_BYTES) {
    const detail = `an event must be at most ${MAX_EVENT_BYTES} bytes; got ${length}`;
    return { refusal: { reason: "too_large", detail } };
  }
  try {
    return { text: utf8.decode(bytes) };
  } catch {
    return { refusal: { reason: "not_utf8", detail: "an event must be UTF-8; got bytes that are not" } };
  }
}

/** The value of a JSON text. */
export function readJson(
  text: string,
): { value: unknown; refusal?: undefined } | { value?: undefined; refusal: Refusal } {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    const rule = cut(error instanceof Error ? error.message : String(error));
    const detail = `an event must be JSON: ${rule}; got ${shown(text)}`;
    return { refusal: { reason: "malformed_json", detail } };
  }
}

/** Parses and checks an event of version 1; never throws. */
export function parseEvent(bytes: Uint8Array): Parsed {
  const { text, refusal } = readText(bytes, bytes.length);
  if (refusal) return { refusal };
  const json = readJson(text);
  if (json.refusal) return { refusal: json.refusal };
  const invalid = checkEvent(json.value);
  return invalid ? { refusal: invalid } : { event: json.value as TelemetryEvent };
}
