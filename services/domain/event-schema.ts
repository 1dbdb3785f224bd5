/**
 * Schemas of measurements: the types, ranges and tags that the producer checks before it acknowledges an event
 * (docs/schemas.md). InfluxDB would find a type conflict only later, when the sender no longer waits for an answer.
 *
 * The form is not JSON Schema: that has one type for whole numbers, and a field of InfluxDB has one of three number types
 * for ever. Keywords that JSON Schema has too (type, minimum, maximum, enum, description) mean the same here.
 */
import { MAX_EVENT_BYTES, type Refusal, refuse, shown } from "./event.ts";
import { checkPoint, type FieldType, type FieldValue, type Point } from "./line-protocol.ts";
import { MEASUREMENT } from "./point.ts";

const FIELD_TYPES = ["float", "integer", "unsigned", "boolean", "string"] as const satisfies FieldType[];
export const UNKNOWN_MEASUREMENTS = ["accept", "refuse"] as const;

export interface FieldRules {
  type: FieldType;
  /** For dashboards and tables: "l/min", "°C". */
  unit?: string;
  minimum?: number;
  maximum?: number;
  description?: string;
}

interface TagRules {
  /** All values when absent. */
  enum?: ReadonlySet<string>;
  description?: string;
}

export interface EventSchema {
  measurement: string;
  description?: string;
  /** Besides `source`; every tag when absent. */
  tags?: ReadonlyMap<string, TagRules>;
  fields: ReadonlyMap<string, FieldRules>;
  /** Fields that the schema does not name are valid, with any type. */
  additionalFields: boolean;
}

export interface Schemas {
  byMeasurement: ReadonlyMap<string, EventSchema>;
  /** What becomes of a measurement without a schema. */
  unknownMeasurements: (typeof UNKNOWN_MEASUREMENTS)[number];
}

/** Type of the numbers of JSON, which has only one: a schema decides. Line protocol names the type of each value. */
export type NumberForm = "json" | "line";

/** Tag of the source of a JSON event; every schema allows it. */
const SOURCE_TAG = "source";

// ── check ────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Checks a point against the schema of its measurement.
 * @returns the point, with JSON's numbers in the types of the schema; or why it is refused
 */
export function checkSchema(schemas: Schemas, point: Point, numbers: NumberForm): Refusal | Point {
  const { measurement } = point;
  const schema = schemas.byMeasurement.get(measurement);
  if (!schema) {
    if (schemas.unknownMeasurements === "accept") return point;
    return refuse("unknown_measurement", "measurement", "must have a schema", measurement);
  }
  if (schema.tags) {
    for (const [key, value] of point.tags) {
      const rules = schema.tags.get(key);
      if (!rules) {
        if (key === SOURCE_TAG) continue;
        return refuse("bad_tag", `tags.${key}`, `is not a tag in the schema of ${measurement}`, value);
      }
      if (rules.enum && !rules.enum.has(value)) {
        return refuse("bad_tag", `tags.${key}`, `must be one of ${[...rules.enum].join(", ")}`, value);
      }
    }
  }
  let converted: Map<string, FieldValue> | undefined;
  for (const [key, value] of point.fields) {
    const rules = schema.fields.get(key);
    if (!rules) {
      if (schema.additionalFields) continue;
      return refuse(
        "unknown_field",
        `fields.${key}`,
        `is not a field in the schema of ${measurement}`,
        shownValue(value),
      );
    }
    let typed = value;
    if (value.type !== rules.type) {
      const text = numbers === "json" && value.type === "float" ? wholeText(value.text, rules.type) : undefined;
      if (text === undefined)
        return refuse("wrong_type", `fields.${key}`, typeRule(rules.type, numbers), shownValue(value));
      typed = { type: rules.type, text };
      converted ??= new Map(point.fields);
      converted.set(key, typed);
    }
    const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = rules;
    if (minimum !== Number.NEGATIVE_INFINITY || maximum !== Number.POSITIVE_INFINITY) {
      // Also exact for integers beyond 2^53: their rounding keeps the order, and no bound of an integer is beyond.
      const number = Number(typed.text);
      if (!(number >= minimum && number <= maximum)) {
        return refuse("out_of_range", `fields.${key}`, rangeRule(rules), shownValue(typed));
      }
    }
  }
  if (!converted) return point;
  const typed = { ...point, fields: converted };
  // Its line is longer by the suffixes of the integers. A second check costs as much as the schema's.
  return isLong(typed) ? (checkPoint(typed) ?? typed) : typed;
}

/** True when the line may be longer than an event may be: a character has up to three bytes. */
function isLong({ measurement, tags, fields, timeNs }: Point): boolean {
  let length = measurement.length + timeNs.length + 2;
  for (const [key, value] of tags) length += key.length + value.length + 2;
  for (const [key, { text }] of fields) length += key.length + text.length + 4;
  return length * 3 > MAX_EVENT_BYTES;
}

/** Decimal digits of a number of JSON for an integer type; undefined for a fraction, or one that JSON cannot hold exactly. */
function wholeText(text: string, type: FieldType): string | undefined {
  const number = Number(text);
  if (!Number.isSafeInteger(number)) return undefined;
  if (type === "integer" || (type === "unsigned" && number >= 0)) return String(number === 0 ? 0 : number);
  return undefined;
}

const TYPE_RULES: Readonly<Record<FieldType, Readonly<Record<NumberForm, string>>>> = {
  float: { json: "must be a number", line: "must be a float, such as 5 or 5.5" },
  integer: {
    json: 'must be a whole number, beyond 2^53 as {"integer":"…"}',
    line: "must be an integer, such as 5i",
  },
  unsigned: {
    json: 'must be a whole number from 0, beyond 2^53 as {"unsigned":"…"}',
    line: "must be an unsigned integer, such as 5u",
  },
  boolean: { json: "must be true or false", line: "must be true or false" },
  string: { json: "must be a string", line: "must be a string in quotes" },
};
const typeRule = (type: FieldType, numbers: NumberForm) => `${TYPE_RULES[type][numbers]} (type ${type} in the schema)`;

function rangeRule({ minimum, maximum }: FieldRules): string {
  if (minimum === undefined) return `must be at most ${maximum}`;
  return maximum === undefined ? `must be at least ${minimum}` : `must be from ${minimum} to ${maximum}`;
}

/** A value for a message: integers with the suffix of line protocol, which names their type. */
function shownValue({ type, text }: FieldValue): unknown {
  if (type === "integer" || type === "unsigned") return `${text}${type[0]}`;
  return type === "float" ? Number(text) : type === "boolean" ? text === "true" : text;
}

// ── form ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** As many as an event may have. */
const MAX_FIELDS = 256;
const MAX_TAGS = 32;
const MAX_ENUM_VALUES = 1000;
const MAX_UNIT_CHARS = 32;
const MAX_DESCRIPTION_CHARS = 500;

type Fields = Record<string, unknown>;

export const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const invalid = (place: string, rule: string, value: unknown) =>
  new Error(`${place}: ${rule}; got ${value === undefined ? "nothing" : shown(value)}`);

/** @throws Error that names the place, the rule and the value */
function mapping(place: string, value: unknown, known: readonly string[]): Fields {
  if (!isMapping(value)) throw invalid(place, "must be a mapping", value);
  for (const key of Object.keys(value)) {
    if (!known.includes(key)) throw new Error(`${place}: ${shown(key)} is not one of ${known.join(", ")}`);
  }
  return value;
}

/** Entries of a mapping by name. */
function named(place: string, value: unknown, least: number, most: number): [name: string, value: unknown][] {
  if (!isMapping(value)) throw invalid(place, "must be a mapping of names", value);
  const entries = Object.entries(value);
  if (entries.length < least || entries.length > most) {
    throw new Error(`${place}: must have ${least} to ${most} names; got ${entries.length}`);
  }
  if (entries.some(([name]) => name === "")) throw new Error(`${place}: a name must not be empty`);
  return entries;
}

function optionalText(place: string, value: unknown, most: number): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && value !== "" && value.length <= most) return value;
  throw invalid(place, `must be text of 1 to ${most} characters`, value);
}

/** An object without the entries that are undefined. */
const definedOnly = <T extends object>(object: T) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [Name in keyof T]: Exclude<T[Name], undefined>;
  };

/** The schema in a parsed YAML document. @throws Error that names the place, the rule and the value */
export function readSchema(document: unknown): EventSchema {
  const { measurement, description, tags, fields, additionalFields } = mapping("schema", document, [
    ...["measurement", "description", "tags", "fields", "additionalFields"],
  ]);
  if (typeof measurement !== "string" || measurement === "") {
    throw invalid("measurement", "must be a name", measurement);
  }
  if (measurement === MEASUREMENT) throw invalid("measurement", "has fixed rules (version 1)", measurement);
  if (additionalFields !== undefined && typeof additionalFields !== "boolean") {
    throw invalid("additionalFields", "must be true or false", additionalFields);
  }
  const rules = named("fields", fields, 1, MAX_FIELDS).map(
    ([name, value]) => [name, fieldRules(`fields.${name}`, value)] as const,
  );
  return {
    measurement,
    fields: new Map(rules),
    additionalFields: additionalFields ?? false,
    ...definedOnly({
      description: optionalText("description", description, MAX_DESCRIPTION_CHARS),
      tags: tags === undefined ? undefined : tagRules(tags),
    }),
  } as EventSchema;
}

function fieldRules(place: string, value: unknown): FieldRules {
  const { type, unit, minimum, maximum, description } = mapping(place, value, [
    ...["type", "unit", "minimum", "maximum", "description"],
  ]);
  const known = FIELD_TYPES.find((one) => one === type);
  if (!known) throw invalid(`${place}.type`, `must be one of ${FIELD_TYPES.join(", ")}`, type);
  const bounds = definedOnly({
    minimum: bound(`${place}.minimum`, minimum, known),
    maximum: bound(`${place}.maximum`, maximum, known),
  });
  if (bounds.minimum !== undefined && bounds.maximum !== undefined && bounds.minimum > bounds.maximum) {
    throw new Error(`${place}: minimum must not be above maximum; got ${bounds.minimum} and ${bounds.maximum}`);
  }
  return {
    type: known,
    ...bounds,
    ...definedOnly({
      unit: optionalText(`${place}.unit`, unit, MAX_UNIT_CHARS),
      description: optionalText(`${place}.description`, description, MAX_DESCRIPTION_CHARS),
    }),
  } as FieldRules;
}

function bound(place: string, value: unknown, type: FieldType): number | undefined {
  if (value === undefined) return undefined;
  if (type === "boolean" || type === "string") throw new Error(`${place}: only numbers have a range; type is ${type}`);
  const isValid = type === "float" ? Number.isFinite(value) : Number.isSafeInteger(value);
  if (!isValid) throw invalid(place, type === "float" ? "must be a number" : "must be a whole number", value);
  return value as number;
}

function tagRules(value: unknown): EventSchema["tags"] {
  const rules = named("tags", value, 0, MAX_TAGS).map(([name, rule]) => {
    const place = `tags.${name}`;
    // `site:` alone allows every value.
    const { enum: values, description } = mapping(place, rule ?? {}, ["enum", "description"]);
    const isList = (list: unknown): list is string[] =>
      Array.isArray(list) && list.length > 0 && list.every((one) => typeof one === "string" && one !== "");
    if (values !== undefined && (!isList(values) || values.length > MAX_ENUM_VALUES)) {
      throw invalid(`${place}.enum`, `must be a list of 1 to ${MAX_ENUM_VALUES} texts (numbers in quotes)`, values);
    }
    return [
      name,
      definedOnly({
        enum: values === undefined ? undefined : new Set(values),
        description: optionalText(`${place}.description`, description, MAX_DESCRIPTION_CHARS),
      }) as TagRules,
    ] as const;
  });
  return new Map(rules);
}
