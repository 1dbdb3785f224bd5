/**
 * What the first bytes of an input show. Formats that others write are recognised before anything is sent: line by line they
 * would only become dead letters.
 */
import { EXIT, OperatorError } from "../cli/errors.ts";

/** Bytes that show the format of an input: more than two events of the largest size. */
const MAX_HEAD_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/** Why an input is not NDJSON, and what to do. */
interface ForeignFormat {
  what: string;
  hint: string;
}

const into = (command: string) => `${command} | bun scripts/ingest.ts -`;
const EVENT_LINES = "one JSON object per line, with the fields of docs/events.md";

/** Formats with a fixed beginning. */
const SIGNATURES: readonly { bytes: readonly number[]; what: string; hint: string }[] = [
  { bytes: [0x1f, 0x8b], what: "gzip", hint: into("zcat FILE") },
  { bytes: [0x28, 0xb5, 0x2f, 0xfd], what: "zstd", hint: into("zstdcat FILE") },
  { bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a], what: "xz", hint: into("xzcat FILE") },
  { bytes: [0x42, 0x5a, 0x68], what: "bzip2", hint: into("bzcat FILE") },
  { bytes: [0x50, 0x4b, 0x03, 0x04], what: "a zip archive", hint: into("unzip -p FILE") },
  { bytes: [0xff, 0xfe], what: "UTF-16", hint: into("iconv -f UTF-16 -t UTF-8 FILE") },
  { bytes: [0xfe, 0xff], what: "UTF-16", hint: into("iconv -f UTF-16 -t UTF-8 FILE") },
];

const NAME = '"?[\\w .-]+"?';
/** A header of CSV; annotated CSV begins with #. */
const CSV_HEADER = new RegExp(`^#?${NAME}(,${NAME})+$|^${NAME}(;${NAME})+$|^${NAME}(\\t${NAME})+$`);
const FIELD = '[^\\s,=]+=("[^"]*"|[^\\s,"]+)';
/** measurement,tag=value field=value,field=value timestamp */
const LINE_PROTOCOL = new RegExp(`^[^\\s,{"[]+(,[^\\s,=]+=[^\\s,=]+)*\\s+${FIELD}(,${FIELD})*(\\s+-?\\d+)?$`);
/** A line within an object that is printed over several lines. */
const UNFINISHED = /[{[,:]$/;

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

/**
 * The format of an input that is not NDJSON. NDJSON with an invalid first line is not recognised as another format.
 * @param head its first bytes
 * @param isWhole `head` is all of it, or as much as is looked at
 * @returns "more" when the format depends on bytes after `head`; undefined for NDJSON
 */
function foreignFormat(head: Uint8Array, isWhole: boolean): ForeignFormat | "more" | undefined {
  const found = SIGNATURES.find(({ bytes }) => bytes.every((byte, index) => head[index] === byte));
  if (found) return found;
  // UTF-16 without a byte order mark: JSON begins with an ASCII character, so one of its two bytes is 0.
  if (head.length > 1 && (head[0] === 0) !== (head[1] === 0)) {
    return { what: "UTF-16", hint: into(`iconv -f UTF-16${head[0] === 0 ? "BE" : "LE"} -t UTF-8 FILE`) };
  }
  // A byte order mark of UTF-8 is removed by the decoder.
  const text = new TextDecoder().decode(head);
  const lines = text.split("\n");
  if (!isWhole) lines.pop();
  const [first, second] = lines.map((line) => line.trim()).filter((line) => line !== "");
  if (/^\s*\[\s*\{/.test(text)) return { what: "a JSON array", hint: into("jq -c '.[]' FILE") };
  if (first === undefined) return isWhole ? { what: "empty", hint: EVENT_LINES } : "more";
  if (first.startsWith("{") && isJson(first)) return undefined;
  if (second === undefined && !isWhole) return "more";
  const isFollowedByObject = second?.startsWith("{") === true;
  if (UNFINISHED.test(first) && first.startsWith("{") && !isFollowedByObject) {
    return { what: "JSON with objects over several lines", hint: into("jq -c . FILE") };
  }
  if (isFollowedByObject) return undefined;
  if (CSV_HEADER.test(first)) return { what: "CSV", hint: `${EVENT_LINES}: ${into("mlr --icsv --ojsonl cat FILE")}` };
  if (LINE_PROTOCOL.test(first))
    return { what: "InfluxDB line protocol", hint: `${EVENT_LINES}, or write it to InfluxDB` };
  return undefined;
}

/** A source may be silent for any time. */
const rejectedOnAbort = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.throwIfAborted();
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });

/**
 * Reads the beginning of an input. Returns the whole input.
 * @throws OperatorError (exit 2) when it is another format than NDJSON
 */
export async function ndjsonInput(
  input: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const chunks = input[Symbol.asyncIterator]();
  const aborted = rejectedOnAbort(signal);
  const parts: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done: isWhole = false, value: chunk } = await Promise.race([chunks.next(), aborted]);
    if (chunk) {
      parts.push(chunk);
      length += chunk.length;
    }
    const isEnough = isWhole || length >= MAX_HEAD_BYTES;
    // Only a line or the end decides: a source of small chunks is not decoded again for each.
    if (!isEnough && !chunk?.includes(NEWLINE)) continue;
    const head = Buffer.concat(parts);
    const format = foreignFormat(head, isEnough);
    if (format === "more") continue;
    if (format) {
      const message = `the input is ${format.what}, not NDJSON: nothing was sent`;
      throw new OperatorError(message, { exitCode: EXIT.usage, hint: format.hint });
    }
    return (async function* () {
      yield head;
      yield* { [Symbol.asyncIterator]: () => chunks };
    })();
  }
}
