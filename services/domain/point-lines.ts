/**
 * A body of line protocol as single lines, separated as InfluxDB does it: a line break within a string ends no line. The
 * line is refused for it (line-protocol.ts), but what follows the break must not become a point: it is the text of a
 * sender's own source, such as a log message.
 */
import { MAX_EVENT_BYTES } from "./event.ts";
import type { Line } from "./ndjson.ts";

const QUOTE = 0x22;
const HASH = 0x23;
const EQUALS = 0x3d;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const TAB = 0x09;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/**
 * The lines that hold a point, valid or not: without blank lines and comments. A string without an end ends with the body; one
 * that is longer than an event may be is a stray quote, and makes no other line invalid.
 */
export function* pointLines(bytes: Uint8Array): Generator<Line, void, void> {
  let number = 1;
  // What was read behind a stray quote, up to the last string that begins there, is not read for quotes again.
  let readTo = 0;
  for (let from = 0; from < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, from);
    let end = newline < 0 ? bytes.length : newline;
    let breaks = 1;
    if (end >= readTo && bytes.subarray(from, end).includes(QUOTE)) {
      const quoted = endOfQuoted(bytes, from, startOfFields(bytes, from, end));
      ({ end, breaks } = quoted);
      if (quoted.readTo !== undefined) readTo = quoted.readTo;
    }
    const line = bytes.subarray(from, end > from && bytes[end - 1] === CARRIAGE_RETURN ? end - 1 : end);
    if (holdsPoint(line)) yield { bytes: line.subarray(0, MAX_EVENT_BYTES + 1), length: line.length, number };
    from = end + 1;
    number += breaks;
  }
}

/** Whether a string is open at the end of a line, of which no line break is outside a string. */
export const endsInString = (line: Uint8Array): boolean =>
  line.includes(QUOTE) && endOfQuoted(line, 0, startOfFields(line, 0, line.length)).isOpen;

function holdsPoint(line: Uint8Array): boolean {
  const first = line.find((byte) => byte !== SPACE && byte !== TAB);
  return first !== undefined && first !== HASH;
}

/** The end of a line with quotes, and its line breaks with the last one. A quote opens a string only behind an equals sign. */
function endOfQuoted(
  bytes: Uint8Array,
  from: number,
  fields: number,
): { end: number; breaks: number; isOpen: boolean; readTo?: number } {
  let isOpen = false;
  let breaks = 1;
  let firstBreak = -1;
  let openedAt = fields;
  for (let at = fields; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte === NEWLINE) {
      if (!isOpen) return { end: at, breaks, isOpen };
      breaks++;
      if (firstBreak < 0) firstBreak = at;
    } else if (isOpen && byte === BACKSLASH && bytes[at + 1] !== NEWLINE) at++;
    else if (byte === QUOTE) {
      isOpen = !isOpen && bytes[at - 1] === EQUALS && bytes[at - 2] !== BACKSLASH;
      if (isOpen) openedAt = at;
    }
    if (isOpen && firstBreak >= 0 && at - from > MAX_EVENT_BYTES)
      return { end: firstBreak, breaks: 1, isOpen, readTo: openedAt };
  }
  return { end: bytes.length, breaks, isOpen };
}

/** Behind the first space that no backslash escapes; the end of a line without one. */
function startOfFields(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  while (bytes[at] === SPACE || bytes[at] === TAB) at++;
  for (; at < end; at++) {
    if (bytes[at] === BACKSLASH) at++;
    else if (bytes[at] === SPACE) return at + 1;
  }
  return end;
}
