/** The record of conformance runs, outputs/conformance.json, and its text: the newest result of each case. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomic } from "../cli/files.ts";
import { formatDuration, tableLines } from "../cli/report.ts";
import type { Version } from "../cli/version.ts";
import type { CaseResult } from "./case.ts";

export interface Entry extends CaseResult, Version {
  /** ISO 8601, UTC: the start of the case. */
  made_at: string;
  /** Of the programs of the cluster. */
  versions: Record<string, string>;
}

/** Name of a case → its newest result. */
export type ConformanceRecord = Record<string, Entry>;

const RECORD = "conformance.json";

export async function readRecord(out: string): Promise<ConformanceRecord> {
  const path = join(out, RECORD);
  const text = await readFile(path, "utf8").catch(() => "{}");
  try {
    return JSON.parse(text) as ConformanceRecord;
  } catch (error) {
    throw new Error(`${path} is not JSON: delete it and run bun scripts/conformance.ts`, { cause: error });
  }
}

const changed = (count: number) => (count > 0 ? ` and ${count} changed files` : "");

function caseLines(entry: Entry): string[] {
  const versions = Object.entries(entry.versions).map(([name, version]) => `${name} ${version}`);
  const rows = entry.steps.map(({ name, status, duration_ms, command }) => [
    `  ${name}`,
    status.replace("_", " "),
    status === "not_run" ? "" : formatDuration(duration_ms),
    command,
  ]);
  return [
    `${entry.ok ? "PASSED" : "FAILED"} ${entry.title}`,
    `  ${entry.made_at}, commit ${entry.commit.slice(0, 10)}${changed(entry.changed_files)}; ${versions.join(", ")}`,
    ...tableLines(["  step", "result", "time", "command"], rows, ["time"]),
    ...entry.steps.flatMap(({ name, detail }) => (detail ? [`  ${name}: ${detail.replaceAll("\n", "\n    ")}`] : [])),
    ...entry.optional.map(({ title, reason }) => `  optional here: ${title}: ${reason}`),
  ];
}

/** The text of a record. */
export function recordText(record: ConformanceRecord): string {
  const cases = Object.values(record).map((entry) => caseLines(entry).join("\n"));
  return `${cases.join("\n\n")}\n`;
}

export async function writeRecord(out: string, record: ConformanceRecord): Promise<void> {
  await writeAtomic(join(out, RECORD), `${JSON.stringify(record, null, 2)}\n`);
  await writeAtomic(
    join(out, "conformance.txt"),
    `Newest result of each case of bun scripts/conformance.ts\n\n${recordText(record)}`,
  );
}
