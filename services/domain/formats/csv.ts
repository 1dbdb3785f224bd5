/** Comma-separated values (RFC 4180) with any delimiter: rows while the text arrives. */
import { UnreadableError } from "./unreadable-error.ts";

/** Longest row: four events of the greatest size. A quote that is never closed would otherwise hold the whole file. */
export const MAX_ROW_CHARS = 64 * 1024;

export interface CsvRow {
  cells: string[];
  /** Of its beginning in the text, from 1. */
  line: number;
}

const DELIMITERS = [",", ";", "\t", "|"] as const;

/** Finds a text at or after ascending positions; Infinity: nowhere. Each character is searched once, whatever the rows. */
function ascendingFinder(text: string, wanted: string): (from: number) => number {
  let found = -1;
  return (from) => {
    if (found < from) found = text.indexOf(wanted, from);
    if (found < 0) found = Number.POSITIVE_INFINITY;
    return found;
  };
}

/** Splits text into rows. Blank lines are no rows. Quotes count at the beginning of a cell. */
export class CsvReader {
  #rest = "";
  #line = 1;
  #nextDelimiter = ascendingFinder("", "");
  #nextNewline = ascendingFinder("", "");

  constructor(private readonly delimiter: string) {}

  /** The rows that this text completes. @throws UnreadableError when a row is too long */
  *push(text: string): Generator<CsvRow, void, void> {
    this.#extend(text);
    const nextQuote = ascendingFinder(this.#rest, '"');
    let start = 0;
    for (;;) {
      const end = this.#nextNewline(start);
      if (end === Number.POSITIVE_INFINITY) break;
      // Most rows hold no quote: nothing but the delimiter matters in them.
      if (nextQuote(start) > end) {
        if (end - start > MAX_ROW_CHARS) throw this.#tooLong();
        yield* this.#row(this.#rest.slice(start, end).replace(/\r$/, "").split(this.delimiter), 1);
        start = end + 1;
        continue;
      }
      const quoted = this.#quotedRow(start, false);
      if (!quoted) break;
      const lines = quoted.lines;
      yield* this.#row(quoted.cells, lines);
      start = quoted.end;
    }
    this.#rest = this.#rest.slice(start);
    if (this.#rest.length > MAX_ROW_CHARS) throw this.#tooLong();
  }

  /** The last row, when the text did not end with a line break. @throws UnreadableError when a quote is not closed */
  *end(): Generator<CsvRow, void, void> {
    if (this.#rest === "") return;
    this.#extend("");
    const row = this.#quotedRow(0, true);
    if (!row) throw this.#tooLong();
    this.#rest = "";
    yield* this.#row(row.cells, row.lines);
  }

  *#row(cells: string[], lines: number): Generator<CsvRow, void, void> {
    const line = this.#line;
    this.#line += lines;
    if (cells.length > 1 || cells[0]!.trim() !== "") yield { cells, line };
  }

  #extend(text: string): void {
    this.#rest += text;
    this.#nextDelimiter = ascendingFinder(this.#rest, this.delimiter);
    this.#nextNewline = ascendingFinder(this.#rest, "\n");
  }

  #tooLong(): UnreadableError {
    const rule = `row at line ${this.#line}: it has no end within ${MAX_ROW_CHARS} characters`;
    return new UnreadableError(`CSV: ${rule}`, 'is a quote (") not closed, or the delimiter another one?');
  }

  /** The row at a position, which ascends; undefined when its end is not there yet. @throws UnreadableError when it is too long */
  #quotedRow(start: number, isLast: boolean): { cells: string[]; end: number; lines: number } | undefined {
    const text = this.#rest;
    const cells: string[] = [];
    let lines = 1;
    for (let at = start; ; ) {
      let cell = "";
      if (text[at] === '"') {
        for (;;) {
          const close = text.indexOf('"', at + 1);
          if (close < 0) return undefined;
          cell += text.slice(at + 1, close);
          at = close + 1;
          if (text[at] !== '"') break;
          cell += '"';
        }
        lines += cell.split("\n").length - 1;
      }
      // What follows a closed quote belongs to the cell as it is.
      const [delimiter, newline] = [this.#nextDelimiter(at), this.#nextNewline(at)];
      const end = Math.min(delimiter, newline, text.length);
      if (end === text.length && !isLast) return undefined;
      if (end - start > MAX_ROW_CHARS) throw this.#tooLong();
      const isRowEnd = end !== delimiter;
      const rest = text.slice(at, end);
      cells.push(cell + (isRowEnd ? rest.replace(/\r$/, "") : rest));
      if (isRowEnd) return { cells, end: end + 1, lines };
      at = end + 1;
    }
  }
}

/** The cells of the first rows of a text, at most this many. */
export function firstRows(text: string, delimiter: string, isWhole: boolean, most: number): CsvRow[] {
  const reader = new CsvReader(delimiter);
  const rows: CsvRow[] = [];
  for (const part of isWhole ? [reader.push(text), reader.end()] : [reader.push(text)]) {
    for (const row of part) {
      rows.push(row);
      if (rows.length >= most) return rows;
    }
  }
  return rows;
}

const isNumber = (cell: string) => /^[-+]?[\d.,]+$/.test(cell.trim());

/**
 * What separates the cells of a table: the first two rows have the same number of cells with it, at least two. Without a
 * second row, the first one has to be a header.
 */
export function delimiterOf(lines: readonly string[]): string | undefined {
  const counts = DELIMITERS.map((delimiter) => {
    const [first = [], second] = lines.slice(0, 2).map((line) => firstRows(line, delimiter, true, 1)[0]?.cells ?? []);
    const isTable = second
      ? second.length === first.length
      : first.every((name) => name.trim() !== "" && !isNumber(name));
    return isTable ? first.length : 0;
  });
  const most = Math.max(...counts);
  return most > 1 ? DELIMITERS[counts.indexOf(most)] : undefined;
}
