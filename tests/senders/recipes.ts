/** The recipes of docs/senders.md: each code block has a comment above it that says what runs it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const PAGE = join(import.meta.dir, "..", "..", "docs", "senders.md");

/**
 *   recipe NAME   run by a test, by that name
 *   commands      commands of this project; tests/docs/commands.test.ts knows their flags
 *   example       data or settings that a recipe reads
 *   tried by hand no test runs it
 *   not tried     nothing here can run it
 */
const KINDS = ["recipe", "commands", "example", "tried by hand", "not tried"] as const;

export interface CodeBlock {
  kind: (typeof KINDS)[number];
  /** Of a recipe. */
  name: string;
  language: string;
  text: string;
  /** Line of the opening fence. */
  line: number;
  /** The heading above it, and the text between the heading and the block. */
  section: string;
}

/** @throws Error with the line of a block without such a comment */
export function codeBlocks(page: string): CodeBlock[] {
  const lines = page.split("\n");
  const blocks: CodeBlock[] = [];
  let heading = 0;
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index]!;
    if (/^#+ /.test(line)) heading = index;
    if (!line.startsWith("```")) continue;
    const end = lines.indexOf("```", index + 1);
    if (end < 0) throw new Error(`line ${index + 1}: unterminated block`);
    const [, words = ""] = /^<!-- (.+) -->$/.exec(lines[index - 1] ?? "") ?? [];
    const kind = KINDS.find((known) => words === known || (known === "recipe" && /^recipe [\w-]+$/.test(words)));
    if (!kind) throw new Error(`line ${index + 1}: needs a comment of ${KINDS.join(", ")} on the line above it`);
    blocks.push({
      kind,
      name: kind === "recipe" ? words.slice("recipe ".length) : "",
      language: line.slice(3),
      text: `${lines.slice(index + 1, end).join("\n")}\n`,
      line: index + 1,
      section: lines.slice(heading, index).join("\n"),
    });
    index = end;
  }
  return blocks;
}

export const readRecipes = async (): Promise<CodeBlock[]> => codeBlocks(await readFile(PAGE, "utf8"));

/** The text of a recipe. @throws Error when the page has no recipe of that name */
export async function recipe(name: string): Promise<string> {
  const found = (await readRecipes()).find((block) => block.name === name);
  if (!found) throw new Error(`docs/senders.md has no recipe ${name}`);
  return found.text;
}
