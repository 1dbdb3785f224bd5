/** Lines of line protocol as the checks of events take them: with a time in nanoseconds, without comments. */
import { MAX_EVENT_BYTES } from "../event.ts";
import { isComment, type Precision, parseLine, renderLine } from "../line-protocol.ts";
import { isBlank, type Line, LineSplitter } from "../ndjson.ts";
import { endsInString } from "../point-lines.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * The line in nanoseconds; undefined for a blank line and a comment. A line that is no point stays as it is, for a refusal
 * with field and rule.
 * @param nowMs time of a line that has none
 */
export function pointLine(line: Line, precision: Precision, nowMs: number): Line | undefined {
  if (isBlank(line.bytes)) return undefined;
  let text: string;
  try {
    text = utf8.decode(line.bytes);
  } catch {
    return line;
  }
  if (isComment(text)) return undefined;
  if (precision === "ns") return line;
  const { point } = parseLine(text, precision, nowMs);
  if (!point) return line;
  const bytes = Buffer.from(renderLine(point));
  return { bytes, length: bytes.length, number: line.number };
}

const LINE_BREAK = Buffer.from("\n");

/**
 * The lines of line protocol while it arrives, without comments. What follows a line break within a string is no point,
 * but text of the line before it, which is invalid: it is left out. A string without an end within the greatest size of an
 * event is a stray quote, and makes no other line invalid.
 */
export class PointLineReader {
  readonly #splitter = new LineSplitter(MAX_EVENT_BYTES + 1);
  /** Lines of a string that has no end yet, and their text. */
  #open: Line[] = [];
  #text: Uint8Array = new Uint8Array();

  constructor(private readonly precision: Precision) {}

  *push(chunk: Uint8Array): Generator<Line, void, void> {
    for (const line of this.#splitter.push(chunk)) yield* this.#take(line);
  }

  *end(): Generator<Line, void, void> {
    for (const line of this.#splitter.end()) yield* this.#take(line);
    while (this.#open.length > 0) yield* this.#closeFirst();
  }

  *#take(line: Line): Generator<Line, void, void> {
    this.#text = this.#open.length === 0 ? line.bytes : Buffer.concat([this.#text, LINE_BREAK, line.bytes]);
    this.#open.push(line);
    if (!endsInString(this.#text)) {
      const [first] = this.#open;
      this.#open = [];
      yield* this.#point(first!);
    } else if (this.#text.length > MAX_EVENT_BYTES) yield* this.#closeFirst();
  }

  /** The first open line alone; those behind it may be points. */
  *#closeFirst(): Generator<Line, void, void> {
    const [first, ...rest] = this.#open;
    this.#open = [];
    yield* this.#point(first!);
    for (const line of rest) yield* this.#take(line);
  }

  *#point(line: Line): Generator<Line, void, void> {
    const point = pointLine(line, this.precision, Date.now());
    if (point) yield point;
  }
}
