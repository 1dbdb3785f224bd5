/** Rows as text: a table, CSV (RFC 4180), or one JSON object a line. */
import { tableLines } from "../cli/report.ts";
import type { Cell } from "../clients/influxdb.ts";
import type { Rows } from "./reading.ts";

export const FORMATS = ["table", "csv", "json"] as const;
export type Format = (typeof FORMATS)[number];

const NUMBERS: ReadonlySet<string> = new Set(["double", "long", "unsignedLong"]);

/** A value of JSON; an integer beyond 2^53 is text, since a number would not be exact. */
function jsonValue({ type, text }: Cell): string | number | boolean {
  if (type === "boolean") return text === "true";
  if (type === "double") return Number(text);
  if (NUMBERS.has(type) && Number.isSafeInteger(Number(text))) return Number(text);
  return text;
}

/** The rows as objects, without the cells that have no value. */
export const jsonRows = ({ columns, rows }: Rows): Record<string, string | number | boolean>[] =>
  rows.map((row) =>
    Object.fromEntries(row.flatMap((cell, index) => (cell ? [[columns[index]!, jsonValue(cell)] as const] : []))),
  );

const quoted = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The lines of the rows. */
export function formatRows(rows: Rows, format: Format): string[] {
  if (format === "json") return jsonRows(rows).map((row) => JSON.stringify(row));
  const texts = rows.rows.map((row) => row.map((cell) => cell?.text ?? ""));
  if (format === "csv") return [rows.columns, ...texts].map((row) => row.map(quoted).join(","));
  const isNumber = (column: number) => rows.rows.every((row) => !row[column] || NUMBERS.has(row[column].type));
  return tableLines(
    rows.columns,
    // A line break in a string would break the table.
    texts.map((row) => row.map((text) => text.replaceAll(/\r?\n/g, "⏎"))),
    rows.columns.filter((_, column) => isNumber(column)),
  );
}
