/** Recognises the text formats from their first lines. */
import { delimiterOf } from "./csv.ts";
import { JsonLines } from "./json-values.ts";

export const TEXT_FORMATS = ["ndjson", "json", "csv", "line"] as const;
/** "json": values that are not one per line. "line": InfluxDB line protocol. */
export type TextFormat = (typeof TEXT_FORMATS)[number];

// Other spaces than these, such as the no-break space, are part of a name.
const PART = "(?:\\\\.|[^ \\t\\r\\n,=\\\\])+";
const FIELD = `${PART}=(?:"(?:\\\\.|[^"\\\\])*"|[^ \\t\\r\\n,"]+)`;
/** measurement,tag=value field=value,field=value timestamp */
const LINE_PROTOCOL = new RegExp(
  `^(?![{"[#])(?:\\\\.|[^ \\t\\r\\n,\\\\])+(?:,${PART}=${PART})* +${FIELD}(?:,${FIELD})*(?: +-?\\d+)?$`,
);
/** A line within an object that is printed over several lines. */
const UNFINISHED = /[{[,:]$/;
/** Excel's own line before the header. */
const SEPARATOR_LINE = /^sep=.$/i;

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

/** The lines that the values of a text have when each has one. */
function valuesIn(text: string): string[] {
  const splitter = new JsonLines();
  const parts = [splitter.push(Buffer.from(text)), splitter.end()];
  return Buffer.concat(parts).toString().trimEnd().split("\n");
}

/**
 * The format of a text. NDJSON with an invalid first line is not recognised as another format.
 * @param head its first characters
 * @param isWhole `head` is all of it, or as much as is read to decide
 * @returns "more" when the format depends on characters after `head`
 */
export function textFormatOf(head: string, isWhole: boolean): TextFormat | "empty" | "more" {
  const text = head.replace(/^\ufeff/, "");
  if (/^\s*\[\s*[{\]]/.test(text)) return "json";
  const complete = text.split("\n");
  if (!isWhole) complete.pop();
  const lines = complete.map((line) => line.trim()).filter((line) => line !== "");
  const [first, second] = lines;
  if (first === undefined) return isWhole ? "empty" : "more";
  if (first.startsWith("{") && isJson(first)) return "ndjson";
  if (second === undefined && !isWhole) return "more";
  if (second?.startsWith("{") || first.startsWith("[")) return "ndjson";
  if (first.startsWith("{")) {
    // As `curl -d @FILE` sends NDJSON: it removes the line breaks.
    const values = valuesIn(first);
    return UNFINISHED.test(first) || (values.length > 1 && isJson(values[0]!)) ? "json" : "ndjson";
  }
  const data = lines.filter((line) => !line.startsWith("#"));
  if (data.length === 0) return isWhole ? "ndjson" : "more";
  if (LINE_PROTOCOL.test(data[0]!)) return "line";
  if (SEPARATOR_LINE.test(first) || delimiterOf(lines)) return "csv";
  // The first line may be an invalid one.
  return data.some((line) => LINE_PROTOCOL.test(line)) ? "line" : "ndjson";
}
