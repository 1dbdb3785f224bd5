/** A first schema from sample events: what they have in common, for a person to check. */
import { stringify } from "yaml";
import type { FieldType, FieldValue, Point } from "../../services/domain/line-protocol.ts";
import { OperatorError } from "../cli/errors.ts";
import { unitOf } from "./unit-names.ts";

/** As many as a folder of schemas can have. */
const MAX_MEASUREMENTS = 200;
/** As many as a schema can have. */
const MAX_FIELDS = 256;
/** A tag with more values in the sample has too many for a list. */
const MAX_TAG_VALUES = 12;

interface SampledField {
  types: Map<FieldType, number>;
  /** Of numbers. */
  minimum: number;
  maximum: number;
  isWhole: boolean;
}

interface SampledMeasurement {
  events: number;
  tags: Map<string, Set<string>>;
  fields: Map<string, SampledField>;
}

/** What a schema becomes: its text, and what the sample leaves open. */
export interface FirstSchema {
  measurement: string;
  text: string;
  doubts: string[];
}

/** The entry of a key, made where there is none. */
function entryOf<V>(map: Map<string, V>, key: string, make: () => V): V {
  const found = map.get(key) ?? make();
  map.set(key, found);
  return found;
}

export class SchemaSample {
  readonly #measurements = new Map<string, SampledMeasurement>();

  get events(): number {
    return [...this.#measurements.values()].reduce((sum, { events }) => sum + events, 0);
  }

  /** @throws OperatorError when the sample has more measurements or fields than schemas can have */
  add({ measurement, tags, fields }: Point): void {
    const sampled = entryOf(this.#measurements, measurement, () => ({ events: 0, tags: new Map(), fields: new Map() }));
    sampled.events++;
    for (const [key, value] of tags) {
      const values = entryOf(sampled.tags, key, () => new Set<string>());
      if (values.size <= MAX_TAG_VALUES) values.add(value);
    }
    for (const [key, value] of fields) addValue(sampled.fields, key, value);
    const [most, found, what] =
      sampled.fields.size > MAX_FIELDS
        ? [MAX_FIELDS, sampled.fields.size, `fields of measurement ${JSON.stringify(measurement)}`]
        : [MAX_MEASUREMENTS, this.#measurements.size, "measurements"];
    if (found > most) {
      throw new OperatorError(`the sample has more than ${most} ${what}`, {
        hint: "is a name made of values? values belong in tags and fields",
      });
    }
  }

  /** The schemas of the sample's measurements, in the order of their names. @param origin the sample, for a comment */
  schemas(origin: string): FirstSchema[] {
    return [...this.#measurements]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([measurement, sampled]) => firstSchema(measurement, sampled, origin));
  }
}

function addValue(fields: Map<string, SampledField>, key: string, { type, text }: FieldValue): void {
  const field = entryOf(fields, key, () => ({
    types: new Map(),
    minimum: Number.POSITIVE_INFINITY,
    maximum: Number.NEGATIVE_INFINITY,
    isWhole: true,
  }));
  field.types.set(type, (field.types.get(type) ?? 0) + 1);
  if (type === "boolean" || type === "string") return;
  const number = Number(text);
  field.minimum = Math.min(field.minimum, number);
  field.maximum = Math.max(field.maximum, number);
  field.isWhole &&= Number.isInteger(number);
}

const scalar = (text: string) => stringify(text, { lineWidth: 0 }).trim();

function firstSchema(measurement: string, { events, tags, fields }: SampledMeasurement, origin: string): FirstSchema {
  const doubts: string[] = [];
  const lines = [
    `# From ${events} events of ${origin}. Check types, units and ranges before it is applied.`,
    `measurement: ${scalar(measurement)}`,
  ];
  // Every schema allows the tag of a JSON event's source.
  const named = [...tags].filter(([key]) => key !== "source");
  if (named.length > 0) lines.push("tags:");
  for (const [key, values] of named.sort(([a], [b]) => (a < b ? -1 : 1))) {
    const seen = values.size > MAX_TAG_VALUES ? `more than ${MAX_TAG_VALUES} values` : [...values].sort().join(", ");
    lines.push(`  ${scalar(key)}: # ${seen}`);
  }
  lines.push("fields:");
  for (const [key, field] of [...fields].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const [[type], ...others] = [...field.types].sort(([, a], [, b]) => b - a) as [
      [FieldType, number],
      ...[FieldType, number][],
    ];
    if (others.length > 0) {
      const also = others.map(([other, count]) => `${count} times ${other}`).join(", ");
      doubts.push(`${measurement}: field ${key} is ${type}, and ${also}: those events would be refused`);
    }
    const isNumber = type !== "boolean" && type !== "string";
    const unit = isNumber ? unitOf(key) : undefined;
    const notes = [
      ...(isNumber ? [`${field.minimum} to ${field.maximum}`] : []),
      ...(type === "float" && field.isWhole ? ["only whole numbers: integer?"] : []),
    ];
    const rules = `{ type: ${type}${unit === undefined ? "" : `, unit: ${scalar(unit)}`} }`;
    lines.push(`  ${scalar(key)}: ${rules}${notes.length > 0 ? ` # ${notes.join("; ")}` : ""}`);
  }
  lines.push("additionalFields: false", "");
  return { measurement, text: lines.join("\n"), doubts };
}
