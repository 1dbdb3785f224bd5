/** The body of a request to the intake as lines: one event each, counted before any of them is parsed. */
import { MAX_EVENT_BYTES } from "../domain/event.ts";
import { isBlank, type Line, LineSplitter } from "../domain/ndjson.ts";

/** Half of the producer's buffer; larger loads belong in a file. */
export const MAX_EVENTS_PER_REQUEST = 10_000;
/** Blank lines count too: 4 MiB of them take the event loop for a second. */
const MAX_LINES_PER_REQUEST = 2 * MAX_EVENTS_PER_REQUEST;

const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

const isWhitespace = (byte: number) => byte === 0x20 || byte === 0x09 || byte === NEWLINE || byte === 0x0d;

/**
 * The events of a body: the elements of an array, one object over several lines, or NDJSON. Reads at most one event more
 * than the limit and parses none, so that the work for a body is bounded by its bytes.
 * @returns undefined when the body has more events or lines than a request may have
 */
export function readLines(body: Uint8Array): Line[] | undefined {
  const unmarked = BYTE_ORDER_MARK.every((byte, index) => body[index] === byte) ? body.subarray(3) : body;
  const bytes = trimmed(unmarked);
  if (bytes[0] === OPEN_BRACKET) {
    const { end, commas } = scanValue(bytes);
    if (commas.length > MAX_EVENTS_PER_REQUEST) return undefined;
    if (end === bytes.length && bytes[end - 1] === CLOSE_BRACKET) return elements(bytes, commas);
    // Cut off: one malformed event, instead of one per line.
    if (end === undefined) return [asLine(bytes, 1)];
  }
  if (bytes[0] === OPEN_BRACE) {
    const { end } = scanValue(bytes);
    // An object over several lines; NDJSON continues on the line after its first object.
    if (end === bytes.length) return [asLine(bytes, 1)];
    if (end !== undefined) {
      const first = bytes.subarray(0, end);
      const isOverLines = first.includes(NEWLINE) && isJson(first);
      if (isOverLines || bytes[nextOnLine(bytes, end)] === OPEN_BRACE) {
        const values = concatenatedValues(bytes);
        if (values === undefined || isOverLines || values.every(({ isComplete }) => isComplete)) return values;
      }
    }
  }
  return ndjsonLines(unmarked);
}

/** The position of what follows on the line: its line break, if nothing does. */
function nextOnLine(bytes: Uint8Array, from: number): number {
  let at = from;
  while (bytes[at] !== NEWLINE && isWhitespace(bytes[at]!)) at++;
  return at;
}

function isJson(bytes: Uint8Array): boolean {
  if (bytes.length > MAX_EVENT_BYTES) return false;
  try {
    JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString());
    return true;
  } catch {
    return false;
  }
}

interface ValueLine extends Line {
  isComplete: boolean;
}

/** Objects one after the other: printed over several lines, or on one line. What is no object ends them, as one event. */
function concatenatedValues(bytes: Uint8Array): ValueLine[] | undefined {
  const lines: ValueLine[] = [];
  for (let rest = bytes; rest.length > 0; ) {
    if (lines.length === MAX_EVENTS_PER_REQUEST) return undefined;
    const { end } = rest[0] === OPEN_BRACE ? scanValue(rest) : { end: undefined };
    const value = rest.subarray(0, end);
    lines.push({ ...asLine(value, lines.length + 1), isComplete: end !== undefined });
    rest = trimmed(rest.subarray(value.length));
  }
  return lines;
}

function ndjsonLines(bytes: Uint8Array): Line[] | undefined {
  const lines: Line[] = [];
  const splitter = new LineSplitter(MAX_EVENT_BYTES + 1);
  const parts = [splitter.push(bytes), splitter.end()];
  for (const part of parts) {
    for (const line of part) {
      if (!isBlank(line.bytes)) lines.push(line);
      if (lines.length > MAX_EVENTS_PER_REQUEST || line.number > MAX_LINES_PER_REQUEST) return undefined;
    }
  }
  return lines;
}

/**
 * The end of the object or array at the start of the bytes (undefined: it is cut off), and of an array the positions
 * before its elements: its start and the commas of its first level, at most one more than a request may have events.
 */
function scanValue(bytes: Uint8Array): { end: number | undefined; commas: number[] } {
  const commas = [0];
  const isArray = bytes[0] === OPEN_BRACKET;
  let depth = 0;
  let inString = false;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index]!;
    if (inString) {
      if (byte === BACKSLASH) index++;
      else if (byte === QUOTE) inString = false;
      // JSON has no line break in a string: the quote before it was a stray one.
      else if (byte === NEWLINE) break;
    } else if (byte === QUOTE) inString = true;
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (--depth === 0) return { end: index + 1, commas };
    } else if (byte === COMMA && depth === 1 && isArray) {
      commas.push(index);
      if (commas.length > MAX_EVENTS_PER_REQUEST) break;
    }
  }
  return { end: undefined, commas };
}

function elements(bytes: Uint8Array, commas: readonly number[]): Line[] {
  const lines = commas.map((start, index) =>
    asLine(trimmed(bytes.subarray(start + 1, commas[index + 1] ?? bytes.length - 1)), index + 1),
  );
  return lines.length === 1 && lines[0]!.length === 0 ? [] : lines;
}

/** Without whitespace at either end. */
function trimmed(bytes: Uint8Array): Uint8Array {
  let start = 0;
  let end = bytes.length;
  while (start < end && isWhitespace(bytes[start]!)) start++;
  while (end > start && isWhitespace(bytes[end - 1]!)) end--;
  return bytes.subarray(start, end);
}

const asLine = (bytes: Uint8Array, number: number): Line => ({
  bytes: bytes.subarray(0, MAX_EVENT_BYTES + 1),
  length: bytes.length,
  number,
});
