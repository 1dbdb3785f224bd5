/** Goal: docs/resilience.md and the catalog agree. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DRILLS } from "../../../scripts/drills/catalog.ts";
import { DOCUMENT, drillsTable, figuresTable, tableIn } from "../../../scripts/drills/document.ts";
import type { DrillResult, DrillsResult } from "../../../scripts/recording/result.ts";

const text = await readFile(DOCUMENT, "utf8");
const namesIn = (table: string) => [...table.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, name]) => name!);

describe("docs/resilience.md", () => {
  test("has every drill of the catalog", () => {
    expect(tableIn(text, "drills")).toBe(drillsTable(DRILLS));
  });

  test("has figures of existing drills only", () => {
    const known = DRILLS.map(({ name }) => name);
    for (const name of namesIn(tableIn(text, "figures"))) expect(known).toContain(name);
  });
});

describe("the catalog", () => {
  test("has unique names, and a budget with a reason for each drill", () => {
    expect(new Set(DRILLS.map(({ name }) => name)).size).toBe(DRILLS.length);
    for (const { name, budgetMs, budgetReason, workloads } of DRILLS) {
      expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/);
      expect(budgetMs).toBeGreaterThan(0);
      expect(budgetReason.length).toBeGreaterThan(10);
      expect(workloads.length).toBeGreaterThan(0);
    }
  });

  test("links existing runbooks", () => {
    for (const { name, runbook } of DRILLS) {
      if (!runbook) continue;
      expect(`${name} ${existsSync(join(import.meta.dir, "../../../docs/runbooks", `${runbook}.md`))}`).toBe(
        `${name} true`,
      );
    }
  });
});

describe("figuresTable", () => {
  const drill = (name: string, measured: number): DrillResult =>
    ({
      name,
      verdict: "passed",
      recovery: { measured_ms: measured, budget_ms: 10_000 },
      ledger: { acknowledged: 100, lost: 0, duplicated: 0 },
    }) as unknown as DrillResult;
  const result = (drills: DrillResult[]) =>
    ({ facts: { endedAt: "2026-11-25T08:00:00.000Z" }, drills }) as unknown as DrillsResult;
  const [first, second] = [DRILLS[0]!.name, DRILLS[1]!.name];

  test("has the median and the longest recovery of all repeats, and keeps rows of other drills", () => {
    const before = figuresTable(DRILLS, "", [result([drill(second, 900)])]);
    const after = figuresTable(DRILLS, before, [result([drill(first, 1000), drill(first, 3000), drill(first, 2000)])]);
    expect(after.split("\n")[2]).toBe(
      `| \`${first}\` | passed | 3 | 2.0 s | 3.0 s | 10.0 s | 300 | 0 | 0 | 2026-11-25 |`,
    );
    const hardly = { ...drill(first, 1200), recovery: { measured_ms: 1200, budget_ms: 10_000, below: true } };
    const seldom = figuresTable(DRILLS, "", [result([hardly, hardly, drill(first, 4000)])]);
    expect(seldom.split("\n")[2]).toContain("| passed | 3 | < 1.2 s | 4.0 s | 10.0 s |");
    expect(after.split("\n")[3]).toContain(`\`${second}\` | passed | 1 | 0.9 s`);
  });
});
