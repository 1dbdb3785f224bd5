/**
 * Reads an input of any known format as the lines that a producer takes. The first bytes show compression, encoding and
 * format; what cannot be read is refused before anything is sent, since line by line it would only become dead letters.
 */
import { randomBytes } from "node:crypto";
import { compressionOf, inflateStream } from "../../services/domain/formats/compression.ts";
import { ContentRun, CsvEvents } from "../../services/domain/formats/csv-events.ts";
import type { CsvSettings } from "../../services/domain/formats/csv-settings.ts";
import { JsonLines } from "../../services/domain/formats/json-values.ts";
import { PointLineReader } from "../../services/domain/formats/point-line.ts";
import { encodingOf, type TextEncoding, TextReader, utf8Stream } from "../../services/domain/formats/text-encoding.ts";
import { type TextFormat, textFormatOf } from "../../services/domain/formats/text-format.ts";
import { unreadable } from "../../services/domain/formats/unreadable.ts";
import { UnreadableError } from "../../services/domain/formats/unreadable-error.ts";
import type { Precision } from "../../services/domain/line-protocol.ts";
import type { Line } from "../../services/domain/ndjson.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";

/** Bytes that show the format of an input: more than two events of the largest size. */
const MAX_HEAD_BYTES = 64 * 1024;
const NEWLINE = 0x0a;
const LINE_BREAK = Uint8Array.of(NEWLINE);
/** The header of a tar archive, and the signature of every other format. */
const SIGNATURE_BYTES = 512;

type Chunks = AsyncIterable<Uint8Array>;

export interface InputOptions {
  /** Undefined: recognised. */
  format?: TextFormat | undefined;
  encoding?: TextEncoding | undefined;
  /** Of the times of line protocol. */
  precision: Precision;
  csv: CsvSettings;
  signal: AbortSignal;
}

export interface Input {
  format: TextFormat;
  /** One event a line; NDJSON passes unchanged. */
  lines: Chunks;
  /** How a table is read. */
  table?: CsvEvents;
}

/** A source may be silent for any time. */
const rejectedOnAbort = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.throwIfAborted();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });

/** Reads chunks until `isEnough`, at most MAX_HEAD_BYTES. Returns them joined, and the whole input. */
async function peek(
  input: Chunks,
  signal: AbortSignal,
  isEnough: (head: () => Uint8Array, last: Uint8Array) => boolean,
): Promise<{ head: Uint8Array; isWhole: boolean; chunks: Chunks }> {
  const rest = input[Symbol.asyncIterator]();
  const aborted = rejectedOnAbort(signal);
  // Nobody waits for it after the head is read.
  aborted.catch(() => {});
  const parts: Uint8Array[] = [];
  let length = 0;
  let isWhole = false;
  while (!isWhole && length < MAX_HEAD_BYTES) {
    const { done = false, value: chunk } = await Promise.race([rest.next(), aborted]);
    isWhole = done;
    if (!chunk) continue;
    parts.push(chunk);
    length += chunk.length;
    if (isEnough(() => Buffer.concat(parts), chunk)) break;
  }
  const head = Buffer.concat(parts);
  const chunks = (async function* () {
    yield head;
    yield* { [Symbol.asyncIterator]: () => rest };
  })();
  return { head, isWhole, chunks };
}

const nothingSent = ({ message, hint }: Pick<UnreadableError, "message" | "hint">) =>
  new OperatorError(`${message}: nothing was sent`, { exitCode: EXIT.usage, hint });

/** A source of text may be silent after its first line: only what is no text is read as far as every signature. */
const isFirstLine = (head: Uint8Array) =>
  head.includes(NEWLINE) && /^[\s -~]{3}|^\xef\xbb\xbf/.test(latin1(head.subarray(0, 3)));
const latin1 = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");

function refuseUnreadable(head: Uint8Array, prefix = ""): void {
  const found = unreadable(head);
  if (found) throw new UnreadableError(`the input is ${prefix}${found.what}`, found.hint);
}

const isSigned = (head: () => Uint8Array) => {
  const bytes = head();
  return bytes.length >= SIGNATURE_BYTES || isFirstLine(bytes);
};

/** The input as text in UTF-8, decompressed. */
async function textOf(input: Chunks, { encoding, signal }: InputOptions): Promise<Chunks> {
  let { head, chunks } = await peek(input, signal, isSigned);
  const compression = compressionOf(head);
  if (compression) {
    ({ head, chunks } = await peek(inflateStream(chunks, compression), signal, isSigned));
    const again = compressionOf(head);
    if (again) throw new UnreadableError(`the input is ${again} in ${compression}`, "decompress it once");
  }
  refuseUnreadable(head, compression ? `a ${compression} of ` : "");
  return utf8Stream(chunks, encoding ?? encodingOf(head));
}

/** Reads a compressed file to its end once, so that damage is found before a part of it is sent. */
async function checkCompressed(input: Chunks, signal: AbortSignal): Promise<void> {
  const { head, chunks } = await peek(input, signal, isSigned);
  const compression = compressionOf(head);
  if (!compression) return;
  for await (const _ of inflateStream(chunks, compression)) signal.throwIfAborted();
}

/**
 * Reads the beginning of an input.
 * @param open opens the input; a file can be opened again, which a table needs to derive its run from its content
 * @throws OperatorError (exit 2) when it cannot be read
 */
export async function readInput(open: () => Chunks, isRepeatable: boolean, options: InputOptions): Promise<Input> {
  try {
    let known: TextFormat | "empty" | "more" | undefined = options.format;
    if (isRepeatable) await checkCompressed(open(), options.signal);
    const text = await textOf(open(), options);
    const { head, isWhole, chunks } = await peek(text, options.signal, (head, last) => {
      // Only a line or the end decides: a source of small chunks is not decoded again for each.
      if (known === undefined && last.includes(NEWLINE)) {
        const found = textFormatOf(new TextDecoder().decode(head()), false);
        if (found !== "more") known = found;
      }
      return known !== undefined && known !== "csv";
    });
    const found = textFormatOf(new TextDecoder().decode(head), true);
    const format = isWhole && found === "empty" ? found : (known ?? found);
    switch (format) {
      case "csv": {
        const repeat = isRepeatable ? () => textOf(open(), options) : undefined;
        return await tableInput(chunks, head, isWhole, repeat, options.csv);
      }
      case "json":
        return { format, lines: jsonLines(chunks) };
      case "line":
        return { format, lines: pointLines(chunks, options.precision) };
      case "ndjson":
        return { format, lines: chunks };
      default:
        throw new UnreadableError("the input is empty", "--example prints an event; docs/events.md has the formats");
    }
  } catch (error) {
    throw error instanceof UnreadableError ? nothingSent(error) : error;
  }
}

async function* jsonLines(chunks: Chunks): Chunks {
  const splitter = new JsonLines();
  for await (const chunk of chunks) yield splitter.push(chunk);
  yield splitter.end();
}

async function* pointLines(chunks: Chunks, precision: Precision): Chunks {
  const reader = new PointLineReader(precision);
  const joined = (lines: Iterable<Line>) => Buffer.concat([...lines].flatMap(({ bytes }) => [bytes, LINE_BREAK]));
  for await (const chunk of chunks) yield joined(reader.push(chunk));
  yield joined(reader.end());
}

/**
 * A table. One that can be read twice is converted once before anything is sent, so that its run is derived from all of
 * its content, and an error in its last row is found in time.
 */
async function tableInput(
  chunks: Chunks,
  head: Uint8Array,
  isWhole: boolean,
  repeat: (() => Promise<Chunks>) | undefined,
  settings: CsvSettings,
): Promise<Input> {
  const sample = new TextReader("utf-8").read(head);
  const eventsOf = (run: string) => new CsvEvents(settings, sample, isWhole, run);
  if (!repeat) {
    const events = eventsOf(`csv-${randomBytes(10).toString("hex")}`);
    return { format: "csv", lines: tableLines(chunks, events), table: events };
  }
  const content = new ContentRun(settings);
  const dry = eventsOf("dry");
  let count = 0;
  for await (const lines of tableLines(chunks, dry, (text) => content.update(text))) if (lines.length > 0) count++;
  if (count === 0) throw new UnreadableError("CSV: no row has a value", "every field is empty in every row");
  const events = eventsOf(content.name);
  return { format: "csv", lines: tableLines(await repeat(), events), table: events };
}

/** The events of a table, those of one chunk together. */
async function* tableLines(chunks: Chunks, events: CsvEvents, onText?: (text: string) => void): Chunks {
  const reader = new TextReader("utf-8");
  const joined = (rows: Iterable<string>) => {
    let lines = "";
    for (const row of rows) lines += `${row}\n`;
    return new TextEncoder().encode(lines);
  };
  for await (const chunk of chunks) {
    const text = reader.read(chunk);
    onText?.(text);
    yield joined(events.push(text));
  }
  const last = reader.read();
  onText?.(last);
  yield joined(events.push(last));
  yield joined(events.end());
}
