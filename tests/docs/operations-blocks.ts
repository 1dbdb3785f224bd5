/**
 * Parses docs/operations.md: command blocks, what runs each of them, and the expected output. An HTML comment above a
 * block says what runs it:
 *
 *   <!-- read -->            changes nothing; run by tests/cluster/operations.test.ts
 *   <!-- change              changes something and leaves a healthy pipeline; run by the same test
 *   given: COMMANDS          … run before the block: creates the problem
 *   after: COMMANDS -->      … run after the block: restores the previous state
 *   <!-- drill NAME -->      run by the drill of that name
 *   <!-- test FILE -->       run by that test
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

export const OPERATIONS = join(import.meta.dir, "..", "..", "docs", "operations.md");

export interface Block {
  /** Line of the opening fence in the document. */
  line: number;
  /** The heading above it. */
  heading: string;
  kind: "read" | "change" | "drill" | "test";
  /** Name of the drill, or path of the test. */
  by: string;
  given: string;
  after: string;
  commands: string;
  /** Lines of the output block that follows, if one does. */
  expected: string[];
}

const KINDS = ["read", "change", "drill", "test"] as const;

/** @throws Error with the line of a block whose comment is missing or invalid. */
export function blocksOf(text: string): Block[] {
  const lines = text.split("\n");
  const blocks: Block[] = [];
  let heading = "";
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index]!;
    if (/^#+ /.test(line)) heading = line.replace(/^#+ /, "");
    if (!line.startsWith("```")) continue;
    const end = lines.indexOf("```", index + 1);
    if (end < 0) throw new Error(`line ${index + 1}: unterminated block`);
    const body = lines.slice(index + 1, end);
    if (line === "```sh") {
      const { kind, by, given, after } = commentAbove(lines, index);
      blocks.push({ line: index + 1, heading, kind, by, given, after, commands: body.join("\n"), expected: [] });
    } else if (line === "```text") {
      const last = blocks.at(-1);
      if (!last || last.expected.length > 0) throw new Error(`line ${index + 1}: output without a command`);
      last.expected = body;
    } else throw new Error(`line ${index + 1}: must be a block of sh or text; got "${line}"`);
    index = end;
  }
  return blocks;
}

function commentAbove(lines: readonly string[], fence: number): Pick<Block, "kind" | "by" | "given" | "after"> {
  let start = fence - 1;
  while (start >= 0 && lines[start]!.trim() !== "" && !lines[start]!.startsWith("<!--")) start--;
  const comment = lines.slice(start, fence).join("\n");
  const match = /^<!-- (\w+)(?: +([^\n]*?))?(?:\n([\s\S]*?))?\s*-->$/.exec(comment);
  const kind = KINDS.find((known) => known === match?.[1]);
  if (!match || !kind) {
    throw new Error(`line ${fence + 1}: needs a comment of ${KINDS.join(", ")} above it; got "${comment}"`);
  }
  const read = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(match[3] ?? "")?.[1] ?? "";
  const by = match[2]?.trim() ?? "";
  if ((kind === "drill" || kind === "test") !== (by !== "")) {
    throw new Error(`line ${fence + 1}: ${kind} ${by === "" ? "names nothing" : `takes no name; got "${by}"`}`);
  }
  return { kind, by, given: read("given"), after: read("after") };
}

export const readOperations = async (): Promise<Block[]> => blocksOf(await readFile(OPERATIONS, "utf8"));

/**
 * Replaces the parts of an output line that differ between clusters and runs: numbers, ages, times, addresses, random
 * parts of names. Ratios ("1/1") and numbers in names ("kafka-1", "p99") are kept.
 */
export function shapeOf(line: string): string {
  return line
    .replaceAll(/\(\d[^()]* ago\)/g, "")
    .replaceAll(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?/g, "TIME")
    .replaceAll(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, "UUID")
    .replaceAll(/\b\d{1,3}(?:\.\d{1,3}){3}\b/g, "ADDRESS")
    .replaceAll(/\b([a-z][a-z-]*?)-(?:[0-9a-z]{8,10}-[0-9a-z]{5})\b/g, "$1-POD")
    .replaceAll(/\b(setup|probe-\w+|ingest)-[0-9a-z]{5,6}\b/g, "$1-POD")
    .replaceAll(/(?<![\w./-])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d/])/g, "N")
    .replaceAll(/\bN(?:[dhms]\d*)+\b/g, "AGE")
    .replaceAll(/\bN (?:ms|s|min AGE|min N s|min|h)\b/g, "AGE")
    .replaceAll(/\s+/g, " ")
    .trim();
}

/** True if one of the lines has the shape of the expected line; "…" matches any text. */
export function isFound(expected: string, actual: readonly string[]): boolean {
  const pattern = new RegExp(
    `^${expected
      .split("…")
      .map((part) => shapeOf(part).replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"))
      .join(".*")}$`,
  );
  return actual.some((line) => pattern.test(shapeOf(line)));
}
