/** Names what cannot be read from its first bytes, so that a sender learns what to do before anything is taken. */
import { encodingOf, isControl } from "./text-encoding.ts";

interface Unreadable {
  what: string;
  hint: string;
}

const AS_TABLE = "save or export it as CSV";
const UNPACK = "unpack it and send the files in it one by one";
const EXPORT = "export the table as CSV or as JSON";

/** Formats with a fixed beginning, as text of one character a byte. */
const SIGNATURES: readonly (Unreadable & { start: string })[] = [
  { start: "\xfd7zXZ\0", what: "an xz file", hint: "decompress it first: xz -dc FILE" },
  { start: "BZh", what: "a bzip2 file", hint: "decompress it first: bzip2 -dc FILE" },
  { start: "\x04\x22\x4d\x18", what: "an LZ4 file", hint: "decompress it first: lz4 -dc FILE" },
  { start: "\xff\x06\0\0sNaPpY", what: "a Snappy file", hint: "decompress it first, or use gzip or zstd" },
  { start: "7z\xbc\xaf\x27\x1c", what: "a 7z archive", hint: UNPACK },
  { start: "Rar!\x1a\x07", what: "a RAR archive", hint: UNPACK },
  { start: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", what: "an Excel file of the old format (.xls)", hint: AS_TABLE },
  { start: "PAR1", what: "a Parquet file", hint: EXPORT },
  { start: "ARROW1", what: "an Arrow file", hint: EXPORT },
  { start: "ORC", what: "an ORC file", hint: EXPORT },
  { start: "Obj\x01", what: "an Avro file", hint: "convert it to JSON first: avro-tools tojson FILE" },
  { start: "\x89HDF\r\n", what: "an HDF5 file", hint: EXPORT },
  { start: "MATLAB 5.0", what: "a MATLAB file", hint: EXPORT },
  { start: "SQLite format 3\0", what: "an SQLite database", hint: EXPORT },
  { start: "%PDF-", what: "a PDF document", hint: "send the table that it was made from" },
  { start: "\x89PNG\r\n", what: "a PNG picture", hint: "send the values that it shows" },
  { start: "\xff\xd8\xff", what: "a JPEG picture", hint: "send the values that it shows" },
  { start: "GIF8", what: "a GIF picture", hint: "send the values that it shows" },
  { start: "\xff\xfe\0\0", what: "UTF-32", hint: "convert it to UTF-8 first: iconv -f UTF-32 -t UTF-8 FILE" },
  { start: "\0\0\xfe\xff", what: "UTF-32", hint: "convert it to UTF-8 first: iconv -f UTF-32 -t UTF-8 FILE" },
];

const ZIP_STARTS = ["PK\x03\x04", "PK\x05\x06"];
/** Names of the entries of an office document, which is a zip archive; they are near its beginning. */
const ZIP_CONTENTS: readonly (Unreadable & { entry: string })[] = [
  { entry: "xl/", what: "an Excel file", hint: "save its sheet as CSV" },
  { entry: "opendocument.spreadsheet", what: "an OpenDocument spreadsheet", hint: "save its sheet as CSV" },
  { entry: "word/", what: "a Word document", hint: "send the table in it as CSV" },
];

/** Texts of other kinds; tested without the case. */
const TEXTS: readonly (Unreadable & { start: RegExp })[] = [
  {
    start: /^--\S+\r?\ncontent-disposition:/i,
    what: "a form with an uploaded file",
    hint: "send the file itself as the body: curl --data-binary @FILE",
  },
  { start: /^<(?:!doctype html|html)/i, what: "an HTML page", hint: "was the file downloaded with an error page?" },
  { start: /^<\?xml/i, what: "XML", hint: EXPORT },
  {
    start: /^# (?:HELP|TYPE) /,
    what: "the text format of Prometheus",
    hint: "let Telegraf scrape it and send line protocol (inputs.prometheus)",
  },
  {
    start: /^#(?:group|datatype|default),/,
    what: "annotated CSV of InfluxDB",
    hint: "export line protocol instead (influxd inspect export-lp), or pivot the fields into columns and remove the lines that begin with #",
  },
];

/** Bytes of one block of a tar archive; its header says "ustar" at this position. */
const TAR_MAGIC_AT = 257;
/** Characters of the beginning that are compared. */
const COMPARED_CHARS = 4096;

/**
 * What cannot be read.
 * @param head the first bytes, decompressed where they were compressed
 */
export function unreadable(head: Uint8Array): Unreadable | undefined {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, COMPARED_CHARS)).toString("latin1");
  const found = SIGNATURES.find(({ start }) => text.startsWith(start));
  if (found) return found;
  if (ZIP_STARTS.some((start) => text.startsWith(start))) {
    const office = ZIP_CONTENTS.find(({ entry }) => text.includes(entry));
    return office ?? { what: "a zip archive", hint: UNPACK };
  }
  if (text.startsWith("ustar", TAR_MAGIC_AT)) return { what: "a tar archive", hint: UNPACK };
  const start = text.replace(/^\xef\xbb\xbf/, "").trimStart();
  const kind = TEXTS.find((one) => one.start.test(start));
  if (kind) return kind;
  // Lines of JSON are left to the checks of events: a control character in one makes one of them invalid.
  if (
    head.subarray(0, COMPARED_CHARS).some(isControl) &&
    !/(?:^|\n)\s*[{[]/.test(start) &&
    encodingOf(head) === "utf-8"
  ) {
    return { what: "a binary file of an unknown format", hint: EXPORT };
  }
  return undefined;
}
