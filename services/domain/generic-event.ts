/**
 * Version 2 of the event: a point of any measurement as a JSON object.
 *
 *   {"v":2,"measurement":"pump","source":"pump-7","run":"r1","seq":0,"time":1764489600000,"precision":"ms",
 *    "tags":{"site":"north"},"fields":{"flow_l_min":121.5,"ok":true,"note":"text","starts":{"integer":"5"}}}
 *
 * `source` is Kafka's key and a tag of the point. `run` and `seq` identify the event as in version 1; they are both given
 * or both absent, and no part of the point. An event with seq and a time in ms or us has seq in the digits below, as
 * version 1 has it (point.ts): events of one source within one millisecond are separate points.
 */
import {
  MAX_SEQ,
  MAX_TS_MS,
  MIN_TS_MS,
  NAME_PATTERN,
  NAME_RULE,
  type Reason,
  type Refusal,
  refuse,
  shown,
} from "./event.ts";
import { checkPoint, type FieldValue, type Point } from "./line-protocol.ts";

export const GENERIC_EVENT_VERSION = 2;

export interface GenericEvent {
  /** With the tag `source`. */
  point: Point;
  source: string;
  /** The sender's identity of the event; absent where whoever takes the event assigns one. */
  given?: { run: string; seq: number };
}

export type CheckedGenericEvent =
  | { event: GenericEvent; refusal?: undefined }
  | { refusal: Refusal; event?: undefined };

/** What a value in `fields` may be; null: the field is absent. */
type GenericFieldJson = number | boolean | string | null | { integer: string | number } | { unsigned: string | number };

/** The JSON object, without its version. */
export interface GenericEventJson {
  measurement: string;
  source: string;
  run?: string;
  seq?: number;
  /** Since 1970; decimal text where a number is not exact (nanoseconds). */
  time: number | string;
  precision?: TimePrecision;
  tags?: Readonly<Record<string, string>>;
  fields: Readonly<Record<string, GenericFieldJson>>;
}

/** Digits below each precision that nanoseconds have. */
const DIGITS_BELOW = { ms: 6, us: 3, ns: 0 } as const;
type TimePrecision = keyof typeof DIGITS_BELOW;

/** The tag that holds the source. */
export const SOURCE_TAG = "source";
const FIELDS = ["v", "measurement", "source", "run", "seq", "time", "precision", "tags", "fields"];
const KNOWN_FIELDS: ReadonlySet<string> = new Set(FIELDS);
const REQUIRED_FIELDS = ["v", "measurement", "source", "time", "fields"] as const;

/** Thrown within checkGenericEvent(), which returns its refusal. */
class RefusedEvent {
  constructor(readonly refusal: Refusal) {}
}

const no = (reason: Reason, field: string, rule: string, value: unknown) =>
  new RefusedEvent(refuse(reason, field, rule, value));

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Checks a parsed JSON value; never throws. */
export function checkGenericEvent(value: unknown): CheckedGenericEvent {
  try {
    const event = readEvent(value);
    const refusal = checkPoint(event.point);
    return refusal ? { refusal } : { event };
  } catch (error) {
    if (error instanceof RefusedEvent) return { refusal: error.refusal };
    throw error;
  }
}

function readEvent(value: unknown): GenericEvent {
  if (!isObject(value)) {
    const detail = `an event must be a JSON object; got ${shown(value)}`;
    throw new RefusedEvent({ reason: "not_an_object", detail });
  }
  // The version comes first: another version has other fields, and "unknown field" would mislead.
  if (value.v !== undefined && value.v !== GENERIC_EVENT_VERSION) {
    throw no("wrong_version", "v", "must be 1 or 2", value.v);
  }
  for (const field of REQUIRED_FIELDS) {
    if (value[field] === undefined) throw no("missing_field", field, "is required", undefined);
  }
  for (const field in value) {
    if (!KNOWN_FIELDS.has(field)) throw no("unknown_field", field, "is not a field of version 2", value[field]);
  }
  const { measurement, source } = value;
  if (typeof measurement !== "string") throw no("wrong_type", "measurement", "must be a string", measurement);
  if (typeof source !== "string") throw no("wrong_type", "source", "must be a string", source);
  if (!NAME_PATTERN.test(source)) throw no("bad_source", "source", NAME_RULE, source);
  const given = readIdentity(value);
  const timeNs = readTime(value, given?.seq);
  const point = { measurement, tags: readTags(value.tags, source), fields: readFields(value.fields), timeNs };
  return given ? { point, source, given } : { point, source };
}

function readIdentity({ run, seq }: Record<string, unknown>): GenericEvent["given"] {
  if (run === undefined && seq === undefined) return undefined;
  if (run === undefined) throw no("missing_field", "run", "is required where seq is given", undefined);
  if (seq === undefined) throw no("missing_field", "seq", "is required where run is given", undefined);
  if (typeof run !== "string") throw no("wrong_type", "run", "must be a string", run);
  if (typeof seq !== "number") throw no("wrong_type", "seq", "must be a number", seq);
  if (!NAME_PATTERN.test(run)) throw no("bad_run", "run", NAME_RULE, run);
  if (!Number.isInteger(seq) || seq < 0 || seq > MAX_SEQ) {
    throw no("bad_seq", "seq", `must be a whole number from 0 to ${MAX_SEQ}`, seq);
  }
  return { run, seq };
}

function readTime({ time, precision = "ms" }: Record<string, unknown>, seq: number | undefined): string {
  if (!isPrecision(precision)) {
    throw no("bad_timestamp", "precision", `must be one of ${Object.keys(DIGITS_BELOW).join(", ")}`, precision);
  }
  const digits = DIGITS_BELOW[precision];
  if (typeof time === "number" && Number.isInteger(time) && !Number.isSafeInteger(time)) {
    throw no("bad_timestamp", "time", "must be text above 2^53, where a JSON number is not exact", time);
  }
  const text = typeof time === "number" || typeof time === "string" ? String(time) : "";
  if (!/^[1-3]\d+$/.test(text) || text.length !== 19 - digits) {
    const [least, most] = [`${MIN_TS_MS}000000`, `${MAX_TS_MS}999999`].map((ns) => ns.slice(0, 19 - digits));
    throw no("bad_timestamp", "time", `must be whole ${precision} since 1970, from ${least} to ${most}`, time);
  }
  if (seq === undefined || digits === 0) return text + "0".repeat(digits);
  return text + String(seq).slice(-digits).padStart(digits, "0");
}

const isPrecision = (value: unknown): value is TimePrecision =>
  typeof value === "string" && Object.hasOwn(DIGITS_BELOW, value);

function readTags(tags: unknown, source: string): Map<string, string> {
  const read = new Map([[SOURCE_TAG, source]]);
  if (tags === undefined) return read;
  if (!isObject(tags)) throw no("wrong_type", "tags", "must be an object of strings", tags);
  for (const key of Object.keys(tags)) {
    const value = tags[key];
    if (key === SOURCE_TAG) throw no("bad_tag", "tags.source", "must not be given: source becomes this tag", value);
    if (typeof value !== "string") throw no("bad_tag", `tags.${key}`, "must be a string", value);
    read.set(key, value);
  }
  return read;
}

function readFields(fields: unknown): Map<string, FieldValue> {
  if (!isObject(fields)) throw no("wrong_type", "fields", "must be an object", fields);
  const read = new Map<string, FieldValue>();
  for (const key of Object.keys(fields)) {
    const value = fields[key];
    if (value !== null) read.set(key, readField(key, value));
  }
  return read;
}

function readField(key: string, value: unknown): FieldValue {
  if (typeof value === "number") return { type: "float", text: String(value) };
  if (typeof value === "boolean") return { type: "boolean", text: String(value) };
  if (typeof value === "string") return { type: "string", text: value };
  const type = isObject(value) ? Object.keys(value).join() : "";
  if (type !== "integer" && type !== "unsigned") {
    const rule = 'must be a number, a boolean, a string, {"integer":"…"} or {"unsigned":"…"}';
    throw no("bad_field", `fields.${key}`, rule, value);
  }
  const number = (value as Record<string, unknown>)[type];
  if (typeof number === "number" && Number.isInteger(number) && !Number.isSafeInteger(number)) {
    throw no("bad_field", `fields.${key}`, "must be text above 2^53, where a JSON number is not exact", number);
  }
  if (typeof number !== "number" && typeof number !== "string") {
    throw no("bad_field", `fields.${key}`, "must be a whole number", number);
  }
  return { type, text: String(number) };
}

/** The event as JSON, for tools that make events. */
export function serializeGenericEvent(event: GenericEventJson): string {
  return JSON.stringify({ v: GENERIC_EVENT_VERSION, ...event });
}
