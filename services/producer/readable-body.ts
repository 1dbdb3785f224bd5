/** The body of a request to the intake as lines, one event each, whatever format and compression its sender uses. */
import { shown } from "../domain/event.ts";
import {
  ACCEPTED_CODINGS,
  type Compression,
  compressionNamed,
  compressionOf,
  InflatedSizeError,
  inflateWhole,
} from "../domain/formats/compression.ts";
import { ContentRun, CsvEvents } from "../domain/formats/csv-events.ts";
import { CSV_SETTING_NAMES, csvSettings } from "../domain/formats/csv-settings.ts";
import { pointLine } from "../domain/formats/point-line.ts";
import { encodingOf, TEXT_ENCODINGS, type TextEncoding, textOf, toUtf8 } from "../domain/formats/text-encoding.ts";
import { textFormatOf } from "../domain/formats/text-format.ts";
import { unreadable } from "../domain/formats/unreadable.ts";
import { UnreadableError } from "../domain/formats/unreadable-error.ts";
import { PRECISIONS } from "../domain/line-protocol.ts";
import type { Line } from "../domain/ndjson.ts";
import { pointLines as separatePoints } from "../domain/point-lines.ts";
import { MAX_EVENTS_PER_REQUEST, readLines } from "./intake-body.ts";

/** What a request says of its body. */
export interface BodyDescription {
  /** Header Content-Encoding. */
  coding: string;
  /** Header Content-Type. */
  type: string;
  /** Query parameters: the settings of a table. */
  query: URLSearchParams;
}

export const describeBody = ({ headers, url }: Pick<Request, "headers" | "url">): BodyDescription => ({
  coding: headers.get("content-encoding") ?? "",
  type: headers.get("content-type") ?? "",
  // The address as such need not be a valid URL: nobody checks its host.
  query: new URLSearchParams(url.includes("?") ? url.slice(url.indexOf("?")) : ""),
});

/** Rows as events: each one repeats the names of all fields, which may be many times as long as the values. */
const MAX_TABLE_BYTES = 16 * 1024 * 1024;

const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
/** Characters that show the format. */
const HEAD_BYTES = 64 * 1024;

/** JSON in UTF-8, of which most requests consist: nothing else begins with a brace. */
const isPlainJson = (body: Uint8Array) => body[0] === OPEN_BRACE && body[1] !== 0;

/** Inflates a body and charges what it is then, at most `maxBytes`. @throws as inflateWhole() */
export function inflateCharged(
  body: Uint8Array,
  compression: Compression,
  maxBytes: number,
  charge: (bytes: number) => void,
): Uint8Array {
  try {
    const content = inflateWhole(body, compression, maxBytes);
    charge(content.length);
    return content;
  } catch (error) {
    if (error instanceof InflatedSizeError) charge(maxBytes);
    throw error;
  }
}

/**
 * The body without compression. `charge` is called with its length, also when it is then found unreadable.
 * @throws UnreadableError when it is damaged, InflatedSizeError above `maxBytes`
 */
export function inflatedBody(
  body: Uint8Array,
  { coding }: BodyDescription,
  maxBytes: number,
  charge: (bytes: number) => void,
): Uint8Array {
  const named = compressionNamed(coding, body);
  if (named === "unknown") {
    throw new UnreadableError(
      `content-encoding must be one of ${ACCEPTED_CODINGS}; got ${shown(coding)}`,
      "or send it without",
    );
  }
  const compression = named ?? compressionOf(body);
  if (!compression) return body;
  const content = inflateCharged(body, compression, maxBytes, charge);
  const again = compressionOf(content);
  if (again) throw new UnreadableError(`the body is ${again} in ${compression}`, "compress it once");
  const found = unreadable(content);
  if (found) throw new UnreadableError(`the body is a ${compression} of ${found.what}`, found.hint);
  return content;
}

/**
 * The events of a body without compression.
 * @returns undefined when they are more than a request may have
 * @throws UnreadableError for a body that is no telemetry, with what to do; InflatedSizeError for a table that is too large
 */
export function bodyLines(body: Uint8Array, description: BodyDescription): Line[] | undefined {
  if (isPlainJson(body)) return readLines(body);
  const found = unreadable(body);
  if (found) throw new UnreadableError(`the body is ${found.what}`, found.hint);
  const bytes = toUtf8(body, encodingNamed(description.type) ?? encodingOf(body));
  const isWhole = bytes.length <= HEAD_BYTES;
  const head = new TextDecoder().decode(bytes.subarray(0, HEAD_BYTES));
  const first = head.trimStart().charCodeAt(0);
  if (first === OPEN_BRACE || first === OPEN_BRACKET) return readLines(bytes);
  const format = textFormatOf(head, true);
  if (format === "csv" || /^text\/csv\b/i.test(description.type)) {
    return tableLines(bytes, head, isWhole, description.query);
  }
  return format === "line" ? pointLines(bytes, description.query) : readLines(bytes);
}

function pointLines(bytes: Uint8Array, query: URLSearchParams): Line[] | undefined {
  const named = query.get("precision") ?? "ns";
  const precision = PRECISIONS.find((one) => one === named);
  if (!precision) {
    throw new UnreadableError(
      `precision must be one of ${PRECISIONS.join(", ")}; got ${shown(named)}`,
      "ns is the default",
    );
  }
  const nowMs = Date.now();
  const lines: Line[] = [];
  for (const line of separatePoints(bytes)) {
    if (lines.length === MAX_EVENTS_PER_REQUEST) return undefined;
    lines.push(pointLine(line, precision, nowMs) ?? line);
  }
  return lines;
}

function encodingNamed(type: string): TextEncoding | undefined {
  const charset = /;\s*charset="?([\w-]+)/i.exec(type)?.[1]?.toLowerCase();
  return TEXT_ENCODINGS.find((encoding) => encoding === charset);
}

function tableLines(bytes: Uint8Array, head: string, isWhole: boolean, query: URLSearchParams): Line[] | undefined {
  const texts = Object.fromEntries(CSV_SETTING_NAMES.map((name) => [name, query.getAll(name)]));
  const settings = csvSettings(texts, query.get("run") ?? undefined);
  if (settings.measurement === undefined) {
    const hint =
      "add the query parameters measurement, source, time-zone …, or send the file with bun scripts/ingest.ts";
    throw new UnreadableError("the body is CSV, and no parameter says what it holds", hint);
  }
  const text = textOf(bytes, "utf-8");
  const content = new ContentRun(settings);
  content.update(text);
  const events = new CsvEvents(settings, isWhole ? text : head, isWhole, content.name);
  const lines: Line[] = [];
  let total = 0;
  for (const part of [events.push(text), events.end()]) {
    for (const event of part) {
      if (lines.length === MAX_EVENTS_PER_REQUEST) return undefined;
      const bytes = Buffer.from(event);
      total += bytes.length;
      if (total > MAX_TABLE_BYTES) throw new InflatedSizeError(MAX_TABLE_BYTES);
      lines.push({ bytes, length: bytes.length, number: lines.length + 1 });
    }
  }
  return lines;
}
