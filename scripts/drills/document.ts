/**
 * The tables of docs/resilience.md: the drills, from the catalog, and the figures, from results. Both are between marker
 * comments; the rest of the document is written by hand.
 */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatDuration } from "../cli/report.ts";
import type { DrillResult, DrillsResult } from "../recording/result.ts";
import type { Drill } from "./drill.ts";
import { recoveryText } from "./recovery.ts";

export const DOCUMENT = join(import.meta.dir, "../../docs/resilience.md");
const begin = (table: string) => `<!-- ${table}: made by scripts/resilience-test.ts --document -->`;
const END = "<!-- end -->";

const FIGURES_HEAD = [
  "| drill | verdict | runs | recovery, median | longest | budget | acknowledged | lost | twice, unexplained | when |",
  "|---|---|---|---|---|---|---|---|---|---|",
];

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");

/** The table of drills: fault, hypothesis, and the budget with its reason. */
export function drillsTable(drills: readonly Drill[]): string {
  return [
    "| drill | fault | expected | recovery | why so long |",
    "|---|---|---|---|---|",
    ...drills.map(({ name, fault, hypothesis, budgetMs, budgetReason, recoversFrom }) => {
      const budget = `≤ ${budgetMs / 1000} s${recoversFrom === "healed" ? " from the healing" : ""}`;
      return `| \`${name}\` | ${cell(fault)} | ${cell(hypothesis)} | ${budget} | ${cell(budgetReason)} |`;
    }),
  ].join("\n");
}

function figuresRow(name: string, results: readonly DrillResult[], when: string): string {
  const measured = results
    .flatMap(({ recovery }) => recovery ?? [])
    .toSorted((a, b) => a.measured_ms - b.measured_ms || Number(b.below ?? false) - Number(a.below ?? false));
  const [median, longest] = [measured[Math.floor((measured.length - 1) / 2)], measured.at(-1)];
  const sum = (field: "acknowledged" | "lost" | "duplicated") =>
    results.every(({ ledger }) => ledger) ? results.reduce((total, { ledger }) => total + ledger![field], 0) : "–";
  const verdicts = new Map<string, number>();
  for (const { verdict } of results) verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
  const verdict = [...verdicts].map(([word, count]) => (verdicts.size === 1 ? word : `${count} ${word}`)).join(", ");
  return [
    `| \`${name}\``,
    verdict,
    results.length,
    median ? recoveryText(median) : "–",
    longest ? recoveryText(longest) : "–",
    longest ? formatDuration(longest.budget_ms) : "–",
    sum("acknowledged"),
    sum("lost"),
    sum("duplicated"),
    `${when} |`,
  ].join(" | ");
}

/** The table of figures: rows of drills in the results are replaced, the others stay. */
export function figuresTable(drills: readonly Drill[], before: string, results: readonly DrillsResult[]): string {
  const rows = new Map(
    before.split("\n").flatMap((line) => {
      const name = /^\| `([\w-]+)` \|/.exec(line)?.[1];
      return name ? [[name, line] as const] : [];
    }),
  );
  for (const { name } of drills) {
    const own = results.flatMap((result) => result.drills.filter((drill) => drill.name === name));
    const when = results.findLast((result) => result.drills.some((drill) => drill.name === name))?.facts.endedAt;
    if (own.length > 0) rows.set(name, figuresRow(name, own, when!.slice(0, 10)));
  }
  return [...FIGURES_HEAD, ...drills.flatMap(({ name }) => rows.get(name) ?? [])].join("\n");
}

/** The text between a table's markers. @throws Error when the document has no such markers. */
export function tableIn(text: string, table: string): string {
  const from = text.indexOf(begin(table));
  const to = text.indexOf(END, from);
  if (from < 0 || to < 0) throw new Error(`docs/resilience.md: must have the markers of the table "${table}"`);
  return text.slice(from + begin(table).length, to).trim();
}

const replaceTable = (text: string, table: string, rows: string) => {
  tableIn(text, table);
  const from = text.indexOf(begin(table)) + begin(table).length;
  return `${text.slice(0, from)}\n\n${rows}\n\n${text.slice(text.indexOf(END, from))}`;
};

export async function writeDocument(drills: readonly Drill[], results: readonly DrillsResult[], path = DOCUMENT) {
  const text = await readFile(path, "utf8");
  const figures = figuresTable(drills, tableIn(text, "figures"), results);
  await writeFile(path, replaceTable(replaceTable(text, "drills", drillsTable(drills)), "figures", figures));
}
