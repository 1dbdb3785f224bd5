/** Each code block of docs/senders.md says what runs it, each recipe is run by a test, and the others say "not tried". */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { codeBlocks, readRecipes } from "../senders/recipes.ts";

const ROOT = join(import.meta.dir, "..", "..");
/** The tests with real senders, and how they start them. */
const RUN_BY = ["tests/cluster/senders.test.ts", "tests/integration/senders.test.ts", "tests/senders/senders.ts"];
const page = await readFile(join(ROOT, "docs/senders.md"), "utf8");
const blocks = await readRecipes();
const recipes = blocks.filter(({ kind }) => kind === "recipe");

describe("docs/senders.md", () => {
  test("has recipes of both kinds", () => {
    expect(recipes.length).toBeGreaterThan(6);
    expect(blocks.filter(({ kind }) => kind === "not tried").length).toBeGreaterThan(1);
  });

  test("each recipe is run by the tests with real senders", async () => {
    const sources = await Promise.all(RUN_BY.map((path) => readFile(join(ROOT, path), "utf8")));
    const source = sources.join("\n");
    expect(recipes.map(({ name }) => name).filter((name) => !source.includes(`recipe("${name}")`))).toEqual([]);
  });

  test("names of recipes differ", () => {
    const names = recipes.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });

  test("what no test runs is called so in the text above it", () => {
    const untold = blocks.filter(
      ({ kind, section }) =>
        (kind === "not tried" && !/^Not tried\b/m.test(section)) ||
        (kind === "tried by hand" && !/^Tried by hand with\b/m.test(section)),
    );
    expect(untold.map(({ line }) => line)).toEqual([]);
  });

  test("each program's section says what a retry does", () => {
    const sections = page.split(/^## /m).slice(1);
    const programs = sections.filter((section) => /^<!-- (?:recipe|tried by hand|not tried)/m.test(section));
    expect(programs.length).toBeGreaterThan(6);
    const without = programs.filter((section) => !section.includes("**Retry**"));
    expect(without.map((section) => section.slice(0, section.indexOf("\n")))).toEqual([]);
  });

  test("no recipe switches verification off", () => {
    const off =
      /insecure|--no-check-certificate|\s-k\s|verify_ssl|rejectUnauthorized|setInsecure|verify_certificate: false/;
    expect(blocks.filter(({ text }) => off.test(text)).map(({ line }) => line)).toEqual([]);
  });

  test("a block without a comment is found", () => {
    expect(() => codeBlocks("# x\n\n```sh\ntrue\n```\n")).toThrow("line 3: needs a comment");
    expect(() => codeBlocks("<!-- recipes x -->\n```sh\ntrue\n```\n")).toThrow("line 2: needs a comment");
  });
});
