/** How a table becomes events: settings from flags, from query parameters, or from a file, checked in one place. */
import { MAX_ROW_CHARS } from "./csv.ts";
import { UnreadableError } from "./unreadable-error.ts";

const COLUMN_TYPES = ["float", "integer", "unsigned", "boolean", "string"] as const;
export type ColumnType = (typeof COLUMN_TYPES)[number];

export interface NamedColumn {
  /** Of the tag or field. */
  name: string;
  column: string;
}

export interface FieldColumn extends NamedColumn {
  /** Undefined: found from the first rows. */
  type?: ColumnType | undefined;
}

export interface CsvSettings {
  measurement?: string | undefined;
  /** The source of all rows; or else `sourceColumn` names the column that has it. */
  source?: string | undefined;
  sourceColumn?: string | undefined;
  /** Columns of the time; several are joined with a space. */
  time: string[];
  timeFormat?: string | undefined;
  /** IANA name; for times without a zone. */
  timeZone?: string | undefined;
  tags: NamedColumn[];
  /** Empty: every other column. */
  fields: FieldColumn[];
  delimiter?: string | undefined;
  decimal?: string | undefined;
  /** Texts of an absent value, beside those of every table. */
  nulls: string[];
  /** Names of the columns of a table without header. */
  columns: string[];
  /** Run of the events; derived from the content when absent. */
  run?: string | undefined;
}

/** A setting that is not valid: its name is the flag's, the parameter's and the file's. */
const wrong = (name: string, rule: string, value: unknown) =>
  new UnreadableError(`${name}: ${rule}; got ${JSON.stringify(value)}`, "docs/events.md has examples");

const DECIMALS: ReadonlyMap<string, string> = new Map(Object.entries({ comma: ",", point: ".", ",": ",", ".": "." }));
const NAMED_DELIMITERS: ReadonlyMap<string, string> = new Map(
  Object.entries({ tab: "\t", comma: ",", semicolon: ";", pipe: "|", space: " " }),
);

function delimiterNamed(text: string): string {
  const delimiter = NAMED_DELIMITERS.get(text) ?? text;
  if (delimiter.length !== 1 || /["\r\n]/.test(delimiter)) {
    throw wrong("delimiter", `must be one character, or one of ${[...NAMED_DELIMITERS.keys()].join(", ")}`, text);
  }
  return delimiter;
}

function decimalNamed(text: string): string {
  const decimal = DECIMALS.get(text);
  if (decimal === undefined) throw wrong("decimal", "must be comma or point", text);
  return decimal;
}

/** "COLUMN" or "NAME=COLUMN". */
function namedColumn(kind: string, text: string): NamedColumn {
  const at = text.indexOf("=");
  const [name, column] = at < 0 ? [text, text] : [text.slice(0, at), text.slice(at + 1)];
  if (name === "" || column === "") throw wrong(kind, "must be COLUMN or NAME=COLUMN", text);
  return { name, column };
}

const isType = (text: string): text is ColumnType => (COLUMN_TYPES as readonly string[]).includes(text);

/** "COLUMN", "NAME=COLUMN", either with ":TYPE". */
function fieldColumn(text: string): FieldColumn {
  const [, columns, type] = /^(.*):([a-z]+)$/s.exec(text) ?? [];
  return type !== undefined && isType(type) ? { ...namedColumn("field", columns!), type } : namedColumn("field", text);
}

/** The settings by their names, as flags and query parameters have them; those with a list may occur several times. */
export const CSV_SETTING_NAMES = [
  "measurement",
  "source",
  "source-column",
  "time",
  "time-format",
  "time-zone",
  "tag",
  "field",
  "delimiter",
  "decimal",
  "null",
  "columns",
] as const;
type CsvSettingName = (typeof CSV_SETTING_NAMES)[number];
export type CsvSettingTexts = Partial<Record<CsvSettingName, string | readonly string[] | undefined>>;

/** @throws UnreadableError that names the setting, the rule and the value */
export function csvSettings(texts: CsvSettingTexts, run?: string): CsvSettings {
  const one = (name: CsvSettingName) => list(name)[0];
  const list = (name: CsvSettingName) => [texts[name] ?? []].flat() as string[];
  const columns = (name: CsvSettingName) => list(name).flatMap((text) => text.split(",").map((part) => part.trim()));
  const [delimiter, decimal] = [one("delimiter"), one("decimal")];
  return {
    measurement: one("measurement"),
    source: one("source"),
    sourceColumn: one("source-column"),
    time: columns("time"),
    timeFormat: one("time-format"),
    timeZone: one("time-zone"),
    tags: list("tag").map((text) => namedColumn("tag", text)),
    fields: list("field").map(fieldColumn),
    delimiter: delimiter === undefined ? undefined : delimiterNamed(delimiter),
    decimal: decimal === undefined ? undefined : decimalNamed(decimal),
    nulls: list("null"),
    columns: columns("columns"),
    run,
  };
}

/** Settings of which the second ones, where they are given, replace the first. */
export function mergedSettings(base: CsvSettings, over: CsvSettings): CsvSettings {
  const given = Object.entries(over).filter(([, value]) =>
    Array.isArray(value) ? value.length > 0 : value !== undefined,
  );
  const merged: CsvSettings = { ...base, ...Object.fromEntries(given) };
  // Either names the source.
  if (over.source !== undefined) merged.sourceColumn = undefined;
  else if (over.sourceColumn !== undefined) merged.source = undefined;
  return merged;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string =>
  typeof value === "string" && value !== "" && value.length <= MAX_ROW_CHARS;

function textIn(name: string, value: unknown): string | undefined {
  if (value === undefined || isText(value)) return value;
  throw wrong(name, "must be a text", value);
}

function textsIn(name: string, value: unknown): string[] {
  const texts = value === undefined ? [] : Array.isArray(value) ? value : [value];
  if (!texts.every((text) => typeof text === "string")) throw wrong(name, "must be a text or a list of texts", value);
  return texts;
}

function onlyKeys(name: string, value: unknown, keys: readonly string[]): Record<string, unknown> {
  if (!isObject(value)) throw wrong(name, `must have the keys ${keys.join(", ")}`, value);
  const unknown = Object.keys(value).find((key) => !keys.includes(key));
  if (unknown !== undefined) throw wrong(name, `must have no other keys than ${keys.join(", ")}`, unknown);
  return value;
}

/** A list of columns, or an object NAME: COLUMN. */
function columnsIn<C extends NamedColumn>(
  name: string,
  value: unknown,
  read: (name: string, value: unknown) => C,
): C[] {
  if (value === undefined) return [];
  if (Array.isArray(value)) return value.map((column) => read(String(column), column));
  if (!isObject(value)) throw wrong(name, "must be a list of columns, or have lines NAME: COLUMN", value);
  return Object.entries(value).map(([key, column]) => read(key, column));
}

function fieldIn(name: string, value: unknown): FieldColumn {
  if (isText(value)) return { name, column: value };
  const { column = name, type } = onlyKeys(`fields.${name}`, value, ["column", "type"]);
  if (!isText(column)) throw wrong(`fields.${name}.column`, "must be the name of a column", column);
  if (type !== undefined && !(isText(type) && isType(type))) {
    throw wrong(`fields.${name}.type`, `must be one of ${COLUMN_TYPES.join(", ")}`, type);
  }
  return { name, column, type };
}

function tagIn(name: string, value: unknown): NamedColumn {
  if (!isText(value)) throw wrong(`tags.${name}`, "must be the name of a column", value);
  return { name, column: value };
}

const FILE_KEYS = ["measurement", "source", "time", "tags", "fields", "delimiter", "decimal", "nulls", "columns"];

/**
 * The settings of a mapping file.
 * @param document the parsed file
 * @throws UnreadableError that names the key, the rule and the value
 */
export function settingsIn(document: unknown): CsvSettings {
  const file = onlyKeys("mapping", document, FILE_KEYS);
  const source = isObject(file.source) ? onlyKeys("source", file.source, ["column"]) : undefined;
  const time = isObject(file.time) ? onlyKeys("time", file.time, ["column", "format", "zone"]) : { column: file.time };
  const delimiter = textIn("delimiter", file.delimiter);
  const decimal = textIn("decimal", file.decimal);
  return {
    measurement: textIn("measurement", file.measurement),
    source: source ? undefined : textIn("source", file.source),
    sourceColumn: textIn("source.column", source?.column),
    time: textsIn("time.column", time.column),
    timeFormat: textIn("time.format", time.format),
    timeZone: textIn("time.zone", time.zone),
    tags: columnsIn("tags", file.tags, tagIn),
    fields: columnsIn("fields", file.fields, fieldIn),
    delimiter: delimiter === undefined ? undefined : delimiterNamed(delimiter),
    decimal: decimal === undefined ? undefined : decimalNamed(decimal),
    nulls: textsIn("nulls", file.nulls),
    columns: textsIn("columns", file.columns),
  };
}
