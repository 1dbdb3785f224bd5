/** Each promise in the table of docs/security.md names checks and test files that exist. */
import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CHECKS } from "../../scripts/checks/index.ts";

const ROOT = join(import.meta.dir, "..", "..");
const rows = (await readFile(join(ROOT, "docs/security.md"), "utf8"))
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| promise"));

test("docs/security.md has promises", () => expect(rows.length).toBeGreaterThan(8));

test.each(rows.map((row) => [row.split("|")[1]!.trim(), row.split("|")[3]!] as const))(
  "docs/security.md, %s: its checks exist",
  async (_, check) => {
    const known = new Set(CHECKS.map(({ id }) => id));
    const named = [...check.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);
    expect(named.length).toBeGreaterThan(0);
    for (const name of named) {
      if (name.startsWith("bun ")) continue;
      const isThere = name.includes("/") ? await Bun.file(join(ROOT, name)).exists() : known.has(name);
      expect(`${name} ${isThere}`).toBe(`${name} true`);
    }
  },
);
