/** The files of a folder of schemas, read alike by deploy, by commands and by the pods of the producer. */
import { parse } from "yaml";
import { shown } from "./event.ts";
import { type EventSchema, isMapping, readSchema, type Schemas, UNKNOWN_MEASUREMENTS } from "./event-schema.ts";

/** Name of the ConfigMap with the files. */
export const SCHEMA_CONFIG = "event-schemas";
/** The file that is no schema: `unknownMeasurements: refuse`. */
export const SETTINGS_FILE = "settings.yaml";
/** Each is one key of the ConfigMap. */
const MAX_SCHEMA_FILES = 200;
/** Half of what a ConfigMap can hold. */
const MAX_SCHEMA_BYTES = 512 * 1024;

/** Names of files that the folder's reader reads; others (README.md, links of the kubelet) are not part of it. */
export const isSchemaFile = (name: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._-]*\.yaml$/.test(name);

export interface SchemaProblem {
  file: string;
  error: string;
}

/** Text of an error in one line; the parser of YAML adds a picture of the place. */
const firstLine = (error: unknown) => (error instanceof Error ? error.message : String(error)).split("\n")[0]!;

/** @throws Error that names the place, the rule and the value */
function readSettings(text: string): Schemas["unknownMeasurements"] {
  const document: unknown = parse(text) ?? {};
  const { unknownMeasurements = "accept", ...others } = isMapping(document) ? document : { document };
  const known = UNKNOWN_MEASUREMENTS.find((one) => one === unknownMeasurements);
  if (!known || Object.keys(others).length > 0) {
    throw new Error(`must be unknownMeasurements: ${UNKNOWN_MEASUREMENTS.join(" or ")}; got ${shown(document)}`);
  }
  return known;
}

/** The schemas of a folder that is read again and again: a faulty file leaves the earlier version of itself in force. */
export class SchemaFiles {
  #files = new Map<string, EventSchema>();
  #schemas: Schemas = { byMeasurement: new Map(), unknownMeasurements: "accept" };

  get schemas(): Schemas {
    return this.#schemas;
  }

  /** Takes over the texts of all files, by name. @returns the faulty files, each with what is wrong */
  read(texts: Readonly<Record<string, string>>): SchemaProblem[] {
    const names = Object.keys(texts).filter(isSchemaFile).sort();
    const bytes = names.reduce((sum, name) => sum + Buffer.byteLength(texts[name]!), 0);
    if (names.length > MAX_SCHEMA_FILES || bytes > MAX_SCHEMA_BYTES) {
      const error = `all files together must be at most ${MAX_SCHEMA_FILES} and ${MAX_SCHEMA_BYTES} bytes; got ${names.length} and ${bytes}`;
      return [{ file: "*", error }];
    }
    const problems: SchemaProblem[] = [];
    /** `work`, or what was in force before. */
    const attempt = <T>(file: string, work: () => T, earlier: T): T => {
      try {
        return work();
      } catch (error) {
        problems.push({ file, error: firstLine(error) });
        return earlier;
      }
    };
    let unknownMeasurements: Schemas["unknownMeasurements"] = "accept";
    const files = new Map<string, EventSchema>();
    const byMeasurement = new Map<string, EventSchema>();
    for (const name of names) {
      const text = texts[name]!;
      if (name === SETTINGS_FILE) {
        unknownMeasurements = attempt(name, () => readSettings(text), this.#schemas.unknownMeasurements);
        continue;
      }
      const schema = attempt(name, () => readSchema(parse(text)), this.#files.get(name));
      if (!schema) continue;
      if (byMeasurement.has(schema.measurement)) {
        problems.push({ file: name, error: `measurement: another file has ${shown(schema.measurement)} too` });
        continue;
      }
      files.set(name, schema);
      byMeasurement.set(schema.measurement, schema);
    }
    this.#files = files;
    this.#schemas = { byMeasurement, unknownMeasurements };
    return problems;
  }
}
