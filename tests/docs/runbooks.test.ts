/** Every alert has a runbook and the reverse, and every runbook has the required sections. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ruleFiles } from "../k8s/prometheus/rules.ts";

const FOLDER = join(import.meta.dir, "../../docs/runbooks");
const ROOT = join(import.meta.dir, "../..");
const alerts = (await ruleFiles()).flatMap(({ groups }) =>
  groups.flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? [])),
);
const pages = (await readdir(FOLDER)).filter((name) => name !== "README.md").map((name) => name.replace(/\.md$/, ""));

test("alerts and runbooks are the same set", () => {
  expect(pages.sort()).toEqual([...new Set(alerts)].sort());
});

describe.each([...pages, "README"])("%s", (page) => {
  const path = join(FOLDER, `${page}.md`);

  test("has its alert name as title and the four sections in order, none empty", async () => {
    const text = await readFile(path, "utf8");
    if (page === "README") return;
    expect(text.startsWith(`# ${page}\n`)).toBe(true);
    const headings = [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
    expect(headings).toEqual(["Meaning", "Impact", "Diagnosis", "Mitigation"]);
    for (const section of text.split(/^## .+$/m).slice(1)) expect(section.trim().length).toBeGreaterThan(15);
    expect(text).not.toMatch(/TODO|TBD|FIXME/);
  });

  test("contains at least one command", async () => {
    expect(await readFile(path, "utf8")).toMatch(/kubectl |bun scripts\/|ask '|kafka [A-Z]/);
  });

  test("links and file names have existing targets", async () => {
    const text = await readFile(path, "utf8");
    for (const [, target] of text.matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
      expect(existsSync(join(dirname(path), target!)), target).toBe(true);
    }
    for (const [name] of text.matchAll(/\b(?:scripts|k8s|docs|services|tests)\/[\w./-]+\.(?:ts|ya?ml|md)\b/g)) {
      expect(existsSync(join(ROOT, name)), name).toBe(true);
    }
  });
});
