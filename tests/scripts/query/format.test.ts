import { expect, test } from "bun:test";
import { formatRows, jsonRows } from "../../../scripts/query/format.ts";

const cell = (type: string, text: string) => ({ type, text });
const rows = {
  columns: ["time", "n", "note"],
  rows: [
    [
      cell("dateTime:RFC3339", "2026-01-01T00:00:00.000000001Z"),
      cell("long", "9007199254740993"),
      cell("string", 'a "b"'),
    ],
    [cell("dateTime:RFC3339", "2026-01-01T00:00:01Z"), cell("long", "-5"), cell("string", "x,\ny")],
    [cell("dateTime:RFC3339", "2026-01-01T00:00:02Z"), undefined, cell("boolean", "false")],
  ],
  isCut: false,
};

test("a table: numbers to the right, a line break as a sign", () => {
  expect(formatRows(rows, "table")).toEqual([
    "time                                           n  note",
    '2026-01-01T00:00:00.000000001Z  9007199254740993  a "b"',
    "2026-01-01T00:00:01Z                          -5  x,⏎y",
    "2026-01-01T00:00:02Z                              false",
  ]);
});

test("CSV quotes what needs it", () => {
  expect(formatRows(rows, "csv")).toEqual([
    "time,n,note",
    '2026-01-01T00:00:00.000000001Z,9007199254740993,"a ""b"""',
    '2026-01-01T00:00:01Z,-5,"x,\ny"',
    "2026-01-01T00:00:02Z,,false",
  ]);
});

test("JSON: one object a line; an integer that a number cannot hold is text", () => {
  expect(jsonRows(rows)).toEqual([
    { time: "2026-01-01T00:00:00.000000001Z", n: "9007199254740993", note: 'a "b"' },
    { time: "2026-01-01T00:00:01Z", n: -5, note: "x,\ny" },
    { time: "2026-01-01T00:00:02Z", note: false },
  ]);
  expect(formatRows(rows, "json")[2]).toBe('{"time":"2026-01-01T00:00:02Z","note":false}');
});
