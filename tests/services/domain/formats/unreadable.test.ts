import { describe, expect, test } from "bun:test";
import { unreadable } from "../../../../services/domain/formats/unreadable.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const zip = (entry: string) => bytes(`PK\x03\x04\x14\0\x06\0\b\0\0\0!\0${"\0".repeat(12)}${entry}`);
const tar = bytes(`data.csv${"\0".repeat(249)}ustar\x0000`);

describe("names", () => {
  test.each<[string, Uint8Array, string, string]>([
    ["xlsx", zip("[Content_Types].xml \xa2\x04\x02 PK\x03\x04xl/workbook.xml"), "an Excel file", "CSV"],
    ["ods", zip("mimetypeapplication/vnd.oasis.opendocument.spreadsheet"), "an OpenDocument spreadsheet", "CSV"],
    ["docx", zip("[Content_Types].xml word/document.xml"), "a Word document", "CSV"],
    ["zip", zip("data.csv"), "a zip archive", "unpack"],
    ["xls", bytes("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0"), "an Excel file of the old format (.xls)", "CSV"],
    ["tar", tar, "a tar archive", "unpack"],
    ["xz", bytes("\xfd7zXZ\0\0"), "an xz file", "xz -dc"],
    ["bzip2", bytes("BZh91AY&SY"), "a bzip2 file", "bzip2 -dc"],
    ["lz4", bytes("\x04\x22\x4d\x18\x64"), "an LZ4 file", "lz4 -dc"],
    ["parquet", bytes("PAR1\x15\x04"), "a Parquet file", "CSV"],
    ["pdf", bytes("%PDF-1.7\n"), "a PDF document", "table"],
    ["png", bytes("\x89PNG\r\n\x1a\n"), "a PNG picture", "values"],
    ["html", bytes("\n<!DOCTYPE html><html>"), "an HTML page", "error page"],
    ["xml", bytes("\xef\xbb\xbf<?xml version='1.0'?>"), "XML", "CSV"],
    ["a form", bytes('--x1\r\nContent-Disposition: form-data; name="f"\r\n\r\n{}'), "a form", "--data-binary"],
    ["Prometheus", bytes("# HELP up Up.\n# TYPE up gauge\nup 1\n"), "the text format of Prometheus", "Telegraf"],
    ["annotated CSV", bytes("#group,false\n#datatype,string\n"), "annotated CSV", "line protocol"],
    ["UTF-32", bytes("\xff\xfe\0\0{\0\0\0"), "UTF-32", "iconv"],
    ["raw deflate", bytes("\xab\x56\x2a\x53\xb2\x32\x01\xd4"), "a binary file", "CSV"],
  ])("%s", (_, head, what, hint) => {
    const found = unreadable(head);
    expect(found?.what).toStartWith(what);
    expect(found?.hint).toContain(hint);
  });
});

describe("leaves to the checks of events", () => {
  test.each<[string, Uint8Array]>([
    ["JSON", bytes('{"v":1}\n')],
    ["JSON with a control character", bytes('{"v":"\x01"}\n')],
    ["a garbled line before JSON", bytes('\x01\x02\n{"v":1}\n')],
    ["UTF-16", Buffer.from('\ufeff{"v":1}', "utf16le")],
    ["UTF-16 without a byte order mark", Buffer.from("a;b", "utf16le")],
    ["CSV in windows-1252", bytes("Temp \xb0C;p\n1;2\n")],
    ["line protocol", bytes("pump,site=a v=1\n")],
    ["nothing", new Uint8Array()],
    ["text that begins like an archive", bytes("PKW;b\n")],
  ])("%s", (_, head) => expect(unreadable(head)).toBeUndefined());
});
