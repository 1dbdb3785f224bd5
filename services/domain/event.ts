/**
 * What an event is, and why one is refused.
 *
 * One JSON object of exactly these ten fields. A refusal always names the reason (one of a fixed set: it becomes a
 * metric label and a dead letter's header), the field, the rule and the value received. No clock, no Kafka, no HTTP:
 * the same bytes are judged the same way by the producer, by the processor and by whoever replays them later.
 */

export const EVENT_VERSION = 1;

export const STATES = ["running", "idle", "stopped", "fault"] as const;
export type State = (typeof STATES)[number];

export interface TelemetryEvent {
  v: typeof EVENT_VERSION;
  /** Kafka key and InfluxDB tag. */
  conveyor: string;
  /** One life of one source; (run, conveyor, seq) is unique. */
  run: string;
  /** From 0, without gaps, per run and conveyor. */
  seq: number;
  /** Milliseconds since the epoch. */
  ts: number;
  speed_mps: number;
  load_kg: number;
  motor_temp_c: number;
  vibration_mm_s: number;
  state: State;
}

/** In the order in which the producer writes them: point.ts recognises this order without a JSON parser. */
export const FIELDS = [
  "v",
  "conveyor",
  "run",
  "seq",
  "ts",
  "speed_mps",
  "load_kg",
  "motor_temp_c",
  "vibration_mm_s",
  "state",
] as const satisfies readonly (keyof TelemetryEvent)[];

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
  "refused_by_database",
] as const;
export type Reason = (typeof REASONS)[number];

/** An event is about 230 bytes; this leaves room for odd spacing and stops a runaway source early. */
export const MAX_EVENT_BYTES = 16 * 1024;
/** Names are tags and keys: a bounded alphabet keeps them readable in queries and free of escaping. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** The same for a person, in a message about a value that breaks it. */
export const NAME_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ -, first a letter or digit";
/** 15 digits: exact in a double, and in InfluxDB's 64-bit integer. */
export const MAX_SEQ = 999_999_999_999_999;
/** 2001-09-09: an earlier value is seconds mistaken for milliseconds. */
export const MIN_TS_MS = 1_000_000_000_000;
/** 2096-10-02: a later value is microseconds, or a broken clock; also the end of 13 digits beginning with 1 to 3. */
export const MAX_TS_MS = 3_999_999_999_999;

/** Physical limits of a belt, wide enough for any healthy sensor; what lies outside is a broken one. */
export const RANGES = {
  speed_mps: [-20, 20],
  load_kg: [0, 10_000],
  motor_temp_c: [-60, 300],
  vibration_mm_s: [0, 200],
} as const satisfies Partial<Record<keyof TelemetryEvent, readonly [number, number]>>;

export interface Refusal {
  reason: Reason;
  /** The field at fault; absent when the event as a whole is. */
  field?: string;
  /** "speed_mps: must be from -20 to 20; got 21.5". */
  detail: string;
}

/** Longest piece of a refused value that is repeated in a message. */
const SHOWN_VALUE_CHARS = 60;

/** A value for a message about it: as JSON, cut where it is long. */
export function shown(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : String(JSON.stringify(value));
  return text.length > SHOWN_VALUE_CHARS ? `${text.slice(0, SHOWN_VALUE_CHARS)}…` : text;
}

const refuse = (reason: Reason, field: string, rule: string, value: unknown): Refusal => ({
  reason,
  field,
  detail: `${field}: ${rule}; got ${shown(value)}`,
});

const NUMBER_FIELDS = ["seq", "ts", "speed_mps", "load_kg", "motor_temp_c", "vibration_mm_s"] as const;
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
  if (event.v !== EVENT_VERSION) return refuse("wrong_version", "v", `must be ${EVENT_VERSION}`, event.v);
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
  if (!NAME_PATTERN.test(conveyor)) {
    return refuse("bad_conveyor", "conveyor", NAME_RULE, conveyor);
  }
  if (!NAME_PATTERN.test(run)) {
    return refuse("bad_run", "run", NAME_RULE, run);
  }
  if (!Number.isInteger(seq) || seq < 0 || seq > MAX_SEQ) {
    return refuse("bad_seq", "seq", `must be a whole number from 0 to ${MAX_SEQ}`, seq);
  }
  if (!Number.isInteger(ts) || ts < MIN_TS_MS || ts > MAX_TS_MS) {
    return refuse("bad_timestamp", "ts", `must be whole milliseconds from ${MIN_TS_MS} to ${MAX_TS_MS}`, ts);
  }
  for (const field of Object.keys(RANGES) as (keyof typeof RANGES)[]) {
    const number = event[field] as number;
    const [least, most] = RANGES[field];
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

/** The refusal of an event for its size, in bytes. */
export function checkSize(bytes: number): Refusal | undefined {
  if (bytes <= MAX_EVENT_BYTES) return undefined;
  return { reason: "too_large", detail: `an event must be at most ${MAX_EVENT_BYTES} bytes; got ${bytes}` };
}

/** The event as the producer writes it: fields in their order, no spacing. */
export function serializeEvent(event: TelemetryEvent): string {
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
 * The event in these bytes, or why there is none. Never throws.
 * @param length length of the whole event when `bytes` is only its beginning.
 */
export function parseEvent(bytes: Uint8Array, length = bytes.length): Parsed {
  const tooLarge = checkSize(length);
  if (tooLarge) return { refusal: tooLarge };
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return { refusal: { reason: "not_utf8", detail: "an event must be UTF-8; got bytes that are not" } };
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return {
      refusal: {
        reason: "malformed_json",
        detail: `an event must be JSON: ${error instanceof Error ? error.message : error}; got ${shown(text)}`,
      },
    };
  }
  const refusal = checkEvent(value);
  return refusal ? { refusal } : { event: value as TelemetryEvent };
}
