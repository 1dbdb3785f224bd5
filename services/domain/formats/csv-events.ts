/**
 * Rows of a table as events of version 2. Each row has the identity (run, source, seq): seq counts the rows of its source,
 * and the run is derived from the content, so the same file makes the same events. A cell that cannot be read stays in the
 * event as it is, and the event is refused with field, rule and value where events are checked.
 */
import { createHash } from "node:crypto";
import { NAME_PATTERN, NAME_RULE, shown } from "../event.ts";
import { checkPoint } from "../line-protocol.ts";
import { CsvReader, type CsvRow, delimiterOf, firstRows } from "./csv.ts";
import type { ColumnType, CsvSettings, FieldColumn, NamedColumn } from "./csv-settings.ts";
import { type TimeReader, timeReader, type WallClock } from "./time-text.ts";
import { UnreadableError } from "./unreadable-error.ts";

/** Rows from which the types of columns, the decimal mark and the format of the time are found. */
const SAMPLE_ROWS = 1000;

/** An event has at most 256 fields and 32 tags; wider tables have columns that are left out. */
const MAX_COLUMNS = 4096;
/** Each is a counter; more are values in the wrong column. */
const MAX_SOURCES = 10_000;

/** Texts of an absent value in every table, in lower case. */
const NULLS = new Set(["", "nan", "null", "none", "na", "n/a", "#n/a"]);
const MAX_NULL_CHARS = 4;
const TIME_NAMES = ["time", "timestamp", "datetime", "date_time", "date time", "_time", "ts"];
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ["true", true],
  ["false", false],
  ["1", true],
  ["0", false],
]);
const NUMBERS = {
  ".": /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/,
  ",": /^[+-]?(?:\d+,?\d*|,\d+)(?:[eE][+-]?\d+)?$/,
};
const WHOLE = /^[+-]?\d+$/;
/** A number as JSON has it: it needs no change. */
const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

type Decimal = keyof typeof NUMBERS;

interface Field extends FieldColumn {
  index: number;
  type: ColumnType;
  key: string;
}

export class CsvEvents {
  /** What was found and given, for whoever sends the table. */
  readonly description: string;
  /** Rows of which every value is absent: they hold no event. */
  emptyRows = 0;
  readonly #reader: CsvReader;
  readonly #fields: readonly Field[];
  readonly #tags: readonly { key: string; index: number }[];
  readonly #time: { indexes: readonly number[]; read: TimeReader; clock?: WallClock | undefined };
  readonly #source: number | string;
  readonly #head: string;
  readonly #run: string;
  readonly #nulls: ReadonlySet<string>;
  readonly #decimal: Decimal;
  readonly #columns: number;
  readonly #seqs = new Map<string, number>();
  /** Rows before the first event that are still to come. */
  #skipped: number;

  /**
   * @param sample the beginning of the text: all of it, or as much as shows the types of its columns
   * @param run where the settings name none
   * @throws UnreadableError that names what has to be given
   */
  constructor(settings: CsvSettings, sample: string, isWhole: boolean, run: string) {
    const { delimiter, columns, rows, skipped } = readSample(settings, sample, isWhole);
    const indexOf = (setting: string, name: string) => {
      const index = columns.indexOf(name);
      if (index < 0) throw missing(`${setting}: no column ${JSON.stringify(name)}`, columns);
      return index;
    };
    const { measurement, source } = settings;
    if (measurement === undefined) throw missing("measurement: must be given", columns);
    const sourceColumn = settings.sourceColumn ?? columns.find((name) => source === undefined && name === "source");
    if (source === undefined && sourceColumn === undefined) {
      throw missing("source: must be given, or source-column, the column that has it", columns);
    }
    this.#nulls = new Set(settings.nulls);
    const timeNames = settings.time.length > 0 ? settings.time : defaultTime(columns);
    const timeIndexes = timeNames.map((name) => indexOf("time", name));
    const example = rows.map((cells) => timeOf(cells, timeIndexes)).find((text) => !this.#isNull(text)) ?? "";
    const { format, read, clock } = timeReader(settings.timeFormat, settings.timeZone, example);
    this.#time = { indexes: timeIndexes, read, clock };

    this.#source = sourceColumn === undefined ? source! : indexOf("source-column", sourceColumn);
    this.#tags = settings.tags.map(({ name, column }) => ({
      key: JSON.stringify(name),
      index: indexOf("tag", column),
    }));
    const used = new Set([...timeIndexes, this.#source, ...this.#tags.map(({ index }) => index)]);
    const named = settings.fields.length > 0 ? settings.fields : otherColumns(columns, used);
    if (named.length === 0) throw missing("field: no column is left for a field", columns);

    const cellsOf = (index: number) => rows.map((cells) => cells[index]!.trim()).filter((text) => !this.#isNull(text));
    const indexed = named.map((field) => ({ ...field, index: indexOf("field", field.column) }));
    const columnCells = indexed.map(({ index }) => cellsOf(index));
    this.#decimal = (settings.decimal as Decimal | undefined) ?? decimalOf(delimiter, columnCells);
    this.#fields = indexed.map((field) => ({
      ...field,
      type: field.type ?? typeOf(cellsOf(field.index), this.#decimal),
      key: JSON.stringify(field.name),
    }));
    this.#run = settings.run ?? run;
    checkNames(measurement, sourceColumn === undefined ? source! : undefined, this.#run, settings.tags, named);
    this.#head = `{"v":2,"measurement":${JSON.stringify(measurement)},"source":`;
    this.#columns = columns.length;
    this.#reader = new CsvReader(delimiter);
    this.#skipped = skipped;
    const zone = clock ? ` in ${settings.timeZone}` : "";
    this.description = [
      `delimiter ${JSON.stringify(delimiter)}`,
      `decimal ${JSON.stringify(this.#decimal)}`,
      `time ${timeNames.join(" ")} (${format}${zone})`,
      `source ${sourceColumn === undefined ? source : `of column ${sourceColumn}`}`,
      `run ${this.#run}`,
      ...this.#tags.map(({ key }) => `tag ${key}`),
      `fields ${this.#fields.map(({ name, type }) => `${name} (${type})`).join(", ")}`,
    ].join(", ");
  }

  /** Times of the hour that a clock shows twice in autumn. */
  get ambiguousTimes(): number {
    return this.#time.clock?.ambiguous ?? 0;
  }

  /** The events of the rows that this text completes, one text each. @throws UnreadableError */
  *push(text: string): Generator<string, void, void> {
    yield* this.#events(this.#reader.push(text));
  }

  *end(): Generator<string, void, void> {
    yield* this.#events(this.#reader.end());
  }

  *#events(rows: Iterable<CsvRow>): Generator<string, void, void> {
    for (const row of rows) {
      if (this.#skipped > 0) {
        this.#skipped--;
        continue;
      }
      const event = this.#event(row);
      if (event !== undefined) yield event;
    }
  }

  #isNull(text: string): boolean {
    return (text.length <= MAX_NULL_CHARS && NULLS.has(text.toLowerCase())) || this.#nulls.has(text);
  }

  #event({ cells, line }: CsvRow): string | undefined {
    if (cells.length !== this.#columns) {
      const rule = `must have ${this.#columns} cells; got ${cells.length}`;
      // Not an event; as a dead letter it says why.
      return JSON.stringify({ v: 2, csv: { line, rule, cells } });
    }
    const source = typeof this.#source === "number" ? cells[this.#source]!.trim() : this.#source;
    const seq = this.#nextSeq(source);
    let fields = "";
    for (const { key, index, type } of this.#fields) {
      const text = type === "string" ? cells[index]! : cells[index]!.trim();
      if (this.#isNull(text.trim())) continue;
      fields += `${fields === "" ? "" : ","}${key}:${fieldJson(text, type, this.#decimal)}`;
    }
    if (fields === "") {
      this.emptyRows++;
      return undefined;
    }
    let tags = "";
    for (const { key, index } of this.#tags) {
      const text = cells[index]!.trim();
      if (!this.#isNull(text)) tags += `${tags === "" ? "" : ","}${key}:${JSON.stringify(text)}`;
    }
    const timeText = timeOf(cells, this.#time.indexes);
    const { time, precision } = this.#time.read(timeText, `${source} ${tags}`) ?? { time: timeText, precision: "ms" };
    return (
      `${this.#head}${JSON.stringify(source)},"run":${JSON.stringify(this.#run)},"seq":${seq},` +
      `"time":${JSON.stringify(time)},"precision":"${precision}","tags":{${tags}},"fields":{${fields}}}`
    );
  }

  #nextSeq(source: string): number {
    const seq = this.#seqs.get(source) ?? 0;
    if (seq === 0 && this.#seqs.size >= MAX_SOURCES) {
      const rule = `must have at most ${MAX_SOURCES} different values`;
      throw new UnreadableError(`source-column: ${rule}`, "is it the column of a value? name the column of the source");
    }
    this.#seqs.set(source, seq + 1);
    return seq;
  }
}

/** A run for a text and the settings that map it: the same events have the same identity. */
export class ContentRun {
  readonly #hash = createHash("sha256");

  constructor(settings: CsvSettings) {
    this.#hash.update(`${JSON.stringify(settings)}\n`);
  }

  update(text: string): void {
    this.#hash.update(text);
  }

  get name(): string {
    return `csv-${this.#hash.digest("hex").slice(0, 20)}`;
  }
}

/** Characters of the names of columns in a message. */
const MAX_NAMED_CHARS = 1000;

function missing(message: string, columns: readonly string[]): UnreadableError {
  const names = columns.join(", ");
  const named = names.length > MAX_NAMED_CHARS ? `${names.slice(0, MAX_NAMED_CHARS)} …` : names;
  return new UnreadableError(`CSV: ${message}`, `its columns: ${named}`);
}

interface Sample {
  delimiter: string;
  columns: readonly string[];
  /** Cells of the first rows that have as many as there are columns. */
  rows: readonly string[][];
  /** Rows before the first event: the header, and Excel's line before it. */
  skipped: number;
}

function readSample(settings: CsvSettings, sample: string, isWhole: boolean): Sample {
  const text = sample.replace(/^\ufeff/, "");
  const separator = /^sep=(.)\r?\n/i.exec(text)?.[1];
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  const delimiter = settings.delimiter ?? separator ?? delimiterOf(lines) ?? ",";
  const found = firstRows(text, delimiter, isWhole, SAMPLE_ROWS + 2);
  const hasHeader = settings.columns.length === 0;
  const skipped = (separator === undefined ? 0 : 1) + (hasHeader ? 1 : 0);
  const header = hasHeader ? (found[skipped - 1]?.cells ?? []) : settings.columns;
  const columns = header.map((name) => name.trim());
  const data = found.slice(skipped).map(({ cells }) => cells);
  const rows = data.filter((cells) => cells.length === columns.length);
  checkColumns(columns, rows, data.length);
  return { delimiter, columns, rows, skipped };
}

function checkColumns(columns: readonly string[], rows: readonly (readonly string[])[], sampled: number): void {
  if (columns.length > MAX_COLUMNS)
    throw missing(`must have at most ${MAX_COLUMNS} columns; got ${columns.length}`, []);
  const isValue = columns.find((name) => name !== "" && (NUMBERS["."].test(name) || NUMBERS[","].test(name)));
  if (isValue !== undefined) {
    throw missing(`its first row must be a header; got the value ${isValue}`, ["none; columns must name them"]);
  }
  const repeated = columns.find((name, index) => name !== "" && columns.indexOf(name) !== index);
  if (repeated !== undefined) throw missing(`the column ${JSON.stringify(repeated)} must occur once`, columns);
  if (sampled === 0) throw missing("must have at least one row after the header", columns);
  if (rows.length === 0) throw missing(`no row has ${columns.length} cells, as many as columns`, columns);
}

/** Refuses at once what every row would be refused for: names, and the numbers of tags and fields. */
function checkNames(
  measurement: string,
  source: string | undefined,
  run: string,
  tags: readonly NamedColumn[],
  fields: readonly NamedColumn[],
): void {
  for (const [name, text] of Object.entries({ source, run })) {
    if (text !== undefined && !NAME_PATTERN.test(text)) {
      throw new UnreadableError(`${name}: ${NAME_RULE}; got ${shown(text)}`, "choose another name");
    }
  }
  const tagNames = ["source", ...tags.map(({ name }) => name)];
  const fieldNames = fields.map(({ name }) => name);
  for (const names of [tagNames, fieldNames]) {
    const repeated = names.find((name, index) => names.indexOf(name) !== index);
    if (repeated !== undefined) {
      throw new UnreadableError(`the name ${shown(repeated)} must be given to one column`, "rename it: NAME=COLUMN");
    }
  }
  const refusal = checkPoint({
    measurement,
    tags: new Map(tagNames.map((name) => [name, "x"])),
    fields: new Map(fieldNames.map((name) => [name, { type: "float", text: "0" }])),
    timeNs: "1".padEnd(19, "0"),
  });
  if (refusal) throw new UnreadableError(refusal.detail, "rename it with tag or field (NAME=COLUMN), or leave it out");
}

function defaultTime(columns: readonly string[]): string[] {
  const found = columns.filter((name) => TIME_NAMES.includes(name.toLowerCase()));
  if (found.length !== 1) throw missing("time: must name the column of the time", columns);
  return found;
}

const otherColumns = (columns: readonly string[], used: ReadonlySet<number | string>): FieldColumn[] =>
  columns.flatMap((name, index) => (used.has(index) || name === "" ? [] : [{ name, column: name }]));

const timeOf = (cells: readonly string[], indexes: readonly number[]) =>
  indexes.length === 1 ? cells[indexes[0]!]!.trim() : indexes.map((index) => cells[index]!.trim()).join(" ");

/**
 * A comma where all numbers of a column are read with it, and not with a point. Where commas separate cells, one within a
 * cell more often separates thousands.
 */
const decimalOf = (delimiter: string, columns: readonly string[][]): Decimal =>
  delimiter !== "," &&
  columns.some(
    (cells) => cells.every((text) => NUMBERS[","].test(text)) && cells.some((text) => !NUMBERS["."].test(text)),
  )
    ? ","
    : ".";

function typeOf(cells: readonly string[], decimal: Decimal): ColumnType {
  if (cells.every((text) => NUMBERS[decimal].test(text))) return "float";
  return cells.every((text) => /^(?:true|false)$/i.test(text)) ? "boolean" : "string";
}

/** The value of a field as JSON; one that is not of the type as an object that no event may have. */
function fieldJson(text: string, type: ColumnType, decimal: Decimal): string {
  switch (type) {
    case "float":
      if (NUMBERS[decimal].test(text)) {
        const number = decimal === "," ? text.replace(",", ".") : text;
        if (JSON_NUMBER.test(number)) return number;
        // Written without the zeros and signs that JSON does not have.
        if (Number.isFinite(Number(number))) return String(Number(number));
      }
      break;
    case "integer":
    case "unsigned":
      return JSON.stringify({ [type]: WHOLE.test(text) ? text.replace(/^\+/, "") : text });
    case "boolean": {
      const value = BOOLEANS.get(text.toLowerCase());
      if (value !== undefined) return String(value);
      break;
    }
    case "string":
      return JSON.stringify(text);
  }
  return JSON.stringify({ [type]: text });
}
