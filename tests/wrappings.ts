/**
 * The same few events in every wrapping and encoding that senders use. Each one holds VALID valid events and one invalid
 * one, and is taken or refused as a whole, by the intake and by ingest alike.
 */
import { deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { exampleEvent } from "../services/domain/event.ts";
import type { CsvSettingTexts } from "../services/domain/formats/csv-settings.ts";

export const VALID = 3;

/** Undefined: taken. A text: refused, and the message contains it. */
type Outcome = string | undefined;

export interface Wrapping {
  name: string;
  bytes: Uint8Array;
  /** Headers of the request to the intake. */
  headers?: Record<string, string>;
  /** Of a table: query parameters at the intake, flags of ingest. */
  csv?: CsvSettingTexts;
  /** Reason of the invalid event, which is the only dead letter of a wrapping that is taken. */
  reason?: string;
  intake?: Outcome;
  ingest?: Outcome;
}

const UTC_PLUS_2 = 7_200_000;

/** A tar archive of one file. */
function tarOf(content: Uint8Array): Uint8Array {
  const header = Buffer.alloc(512);
  header.write("events.ndjson", 0);
  header.write(content.length.toString(8).padStart(11, "0"), 124);
  header.write("ustar", 257);
  return Buffer.concat([header, content, Buffer.alloc(1024)]);
}

/** @param run of the events, which no other test has */
export function wrappings(run: string, nowMs: number): Wrapping[] {
  const bySeq = (make: (seq: number) => string) => Array.from({ length: VALID }, (_, seq) => make(seq));
  const event = (seq: number) => exampleEvent({ conveyor: "test-w", run, seq, ts: nowMs + seq });
  const v1 = [...bySeq((seq) => JSON.stringify(event(seq))), JSON.stringify({ ...event(VALID), state: "dancing" })];
  const generic = (seq: number, flow: unknown) =>
    JSON.stringify({
      v: 2,
      measurement: "test_w",
      source: "test-w",
      run: `${run}-2`,
      seq,
      time: nowMs + seq,
      fields: { flow },
    });
  const v2 = [...bySeq((seq) => generic(seq, 1.5)), generic(VALID, [])];
  const lines = [
    ...bySeq((seq) => `test_w,source=test-w flow=${seq}.5 ${nowMs + seq}000000`),
    `test_w,source=test-w flow=fast ${nowMs}000000`,
  ];
  const time = (seq: number) =>
    new Date(nowMs + UTC_PLUS_2 + seq).toISOString().slice(0, 23).replace("T", " ").replace(".", ",");
  const table = [
    "Zeit;Quelle;Durchfluss (l/min)",
    ...bySeq((seq) => `${time(seq)};test-w;${seq},25`),
    `${time(VALID)};test-w;fast`,
  ].join("\r\n");
  const csv: CsvSettingTexts = {
    measurement: "test_w",
    time: "Zeit",
    "time-zone": "Etc/GMT-2",
    "source-column": "Quelle",
    field: ["flow=Durchfluss (l/min):float"],
    decimal: "comma",
  };
  const ndjson = `${v1.join("\n")}\n`;
  const values = v1.map((line) => JSON.parse(line) as object);
  const pretty = values.map((value) => JSON.stringify(value, null, 2)).join("\n");
  const text = (content: string) => Buffer.from(content);
  const utf16be = (content: string) => Buffer.from(content, "utf16le").swap16();
  const gzip = { "content-encoding": "gzip" };
  const both = (message: string) => ({ intake: message, ingest: message });
  const latin1 = (content: string) => Buffer.from(content, "latin1");

  return [
    { name: "NDJSON", bytes: text(ndjson), reason: "bad_state" },
    { name: "NDJSON of version 2", bytes: text(v2.join("\n")), reason: "bad_field" },
    { name: "NDJSON with a byte order mark and CRLF", bytes: text(`\ufeff${v1.join("\r\n")}`), reason: "bad_state" },
    { name: "a JSON array", bytes: text(`[${v1.join(",")}]`), reason: "bad_state" },
    { name: "a JSON array over several lines", bytes: text(JSON.stringify(values, null, 2)), reason: "bad_state" },
    { name: "JSON objects over several lines", bytes: text(pretty), reason: "bad_state" },
    { name: "JSON objects on one line, as curl -d sends a file", bytes: text(v1.join("")), reason: "bad_state" },
    { name: "gzip", bytes: gzipSync(ndjson), headers: gzip, reason: "bad_state" },
    { name: "gzip that no header names", bytes: gzipSync(pretty), reason: "bad_state" },
    {
      name: "deflate (zlib)",
      bytes: deflateSync(ndjson),
      headers: { "content-encoding": "deflate" },
      reason: "bad_state",
    },
    {
      name: "deflate (raw)",
      bytes: deflateRawSync(ndjson),
      headers: { "content-encoding": "deflate" },
      reason: "bad_state",
      ingest: "a binary file of an unknown format",
    },
    { name: "zstd", bytes: zstdCompressSync(ndjson), headers: { "content-encoding": "zstd" }, reason: "bad_state" },
    { name: "UTF-16 with a byte order mark", bytes: Buffer.from(`\ufeff${ndjson}`, "utf16le"), reason: "bad_state" },
    { name: "UTF-16 without one, in the other order", bytes: utf16be(ndjson), reason: "bad_state" },
    { name: "CSV with decimal commas and local time", bytes: text(table), csv, reason: "bad_field" },
    {
      name: "CSV in UTF-16 in gzip",
      bytes: gzipSync(Buffer.from(`\ufeff${table}`, "utf16le")),
      headers: gzip,
      csv,
      reason: "bad_field",
    },
    { name: "line protocol", bytes: text(`# pumps\n${lines.join("\n")}\n`), reason: "bad_field" },

    {
      name: "CSV without a mapping",
      bytes: text(table),
      intake: "the body is CSV",
      ingest: "measurement: must be given",
    },
    { name: "a gzip of a tar", bytes: gzipSync(tarOf(text(ndjson))), ...both("is a gzip of a tar archive") },
    { name: "gzip twice", bytes: gzipSync(gzipSync(ndjson)), headers: gzip, ...both("gzip in gzip") },
    {
      name: "gzip that is cut off",
      bytes: gzipSync(ndjson).subarray(0, -9),
      headers: gzip,
      ...both("damaged or cut off"),
    },
    {
      name: "an Excel file",
      bytes: latin1("PK\x03\x04\x14\0[Content_Types].xml\0xl/workbook.xml"),
      ...both("an Excel file"),
    },
    { name: "a zip archive", bytes: latin1("PK\x03\x04\x14\0events.ndjson\0"), ...both("a zip archive") },
    { name: "xz", bytes: latin1("\xfd7zXZ\0\0\x04"), ...both("xz -dc FILE") },
    { name: "bzip2", bytes: latin1("BZh91AY&SY"), ...both("bzip2 -dc FILE") },
    { name: "Parquet", bytes: latin1("PAR1\x15\x04\x15"), ...both("a Parquet file") },
    { name: "PDF", bytes: latin1("%PDF-1.7\n%\xe2\xe3\n"), ...both("a PDF document") },
    { name: "PNG", bytes: latin1("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), ...both("a PNG picture") },
    { name: "an HTML page", bytes: text("<!doctype html>\n<html></html>\n"), ...both("an HTML page") },
  ];
}
