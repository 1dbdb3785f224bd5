/** outputs/README.md and the record that it is made from: what each file shows, made when, by what, from which commit. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomic } from "../cli/files.ts";
import type { Artifact, Making } from "./artifact.ts";

export const RECORD = "evidence.json";

export interface Entry {
  /** ISO 8601, UTC. */
  made_at: string;
  command: string;
  /** What was seen, in a few words; or why there is nothing. */
  detail: string;
  made: boolean;
  /** What makes it where it can be made. */
  hint?: string;
  commit: string;
  /** Files with changes that are in no commit, outputs/ aside. */
  changed_files: number;
  /** SHA-256 per file. */
  files: Record<string, string>;
  /** Files that could not be made with the others, and why. */
  missing?: Readonly<Record<string, string>>;
}

/** Subject → its newest making. */
export type EvidenceRecord = Record<string, Entry>;

export async function readRecord(out: string): Promise<EvidenceRecord> {
  const text = await readFile(join(out, RECORD), "utf8").catch(() => undefined);
  if (text === undefined) return {};
  try {
    return JSON.parse(text) as EvidenceRecord;
  } catch (error) {
    throw new Error(`${join(out, RECORD)} is no JSON; delete it and make everything again`, { cause: error });
  }
}

export interface Version {
  commit: string;
  changed_files: number;
}

/** The entry of a subject that has just been tried. */
export async function entryOf(
  subject: Artifact,
  making: Making,
  out: string,
  version: Version,
  now: Date,
): Promise<Entry> {
  const files: Record<string, string> = {};
  for (const file of making.made ? making.files : []) {
    files[file] = createHash("sha256")
      .update(await readFile(join(out, file)))
      .digest("hex");
  }
  return {
    made_at: now.toISOString().replace(/\.\d+Z$/, "Z"),
    command: `bun scripts/evidence.ts --only ${subject.name}`,
    detail: making.made ? making.detail : making.reason,
    made: making.made,
    ...(making.made ? {} : { hint: making.hint }),
    ...version,
    files,
    ...(making.made && making.missing ? { missing: making.missing } : {}),
  };
}

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");

/** The page: one row a subject, the subjects in the catalog's order. */
export function indexText(subjects: readonly Artifact[], record: EvidenceRecord): string {
  const rows: string[] = [];
  const absent: string[] = [];
  for (const subject of subjects) {
    const entry = record[subject.name];
    if (entry?.made) {
      const commit = `\`${entry.commit.slice(0, 10)}\`${entry.changed_files > 0 ? ` and ${entry.changed_files} changed files` : ""}`;
      const files = Object.keys(entry.files).map((file) => `[${file}](${file})`);
      rows.push(
        `| ${files.join(", ")} | ${cell(subject.title)}. ${cell(entry.detail)} | ${entry.made_at} | \`${entry.command}\` | ${commit} |`,
      );
      for (const [file, reason] of Object.entries(entry.missing ?? {})) {
        absent.push(`- \`${file}\`: ${subject.title}. Not made: ${reason}`);
      }
    } else {
      const files = subject.files.map((file) => `\`${file}\``).join(", ");
      absent.push(
        entry
          ? `- ${files}: ${subject.title}. Not made: ${entry.detail}. Where that is there: \`${entry.hint}\``
          : `- ${files}: ${subject.title}. Not tried yet: \`bun scripts/evidence.ts --only ${subject.name}\`${subject.minutes ? ` (some ${subject.minutes} minutes)` : ""}`,
      );
    }
  }
  return [
    "# Evidence",
    "",
    "What the running pipeline showed. Each file is made by a command from what is deployed; nothing here is written or drawn by hand.",
    "`bun scripts/evidence.ts` makes everything again that a machine can make, `--only NAME` one subject, `--list` names them.",
    "",
    "| files | what they show, and what was seen | made (UTC) | by | from commit |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    ...(absent.length > 0 ? ["## Not here", "", ...absent, ""] : []),
    "## Also asked for",
    "",
    "- Secret templates without their content: [k8s/secrets.yaml.template](../k8s/secrets.yaml.template).",
    "- The trail of runs (`run_logs/` of the plan) is `outputs/runs/`: one folder for each load test, drill and audit, with its whole record and a page. It stays on the",
    "  machine that ran them and is not in git; what is worth keeping of it stands above.",
    "",
    `[${RECORD}](${RECORD}) has the SHA-256 of each file.`,
    "",
  ].join("\n");
}

/** Writes record and page. */
export async function writeIndex(out: string, subjects: readonly Artifact[], record: EvidenceRecord): Promise<void> {
  const ordered = Object.fromEntries(subjects.flatMap(({ name }) => (record[name] ? [[name, record[name]]] : [])));
  await writeAtomic(join(out, RECORD), `${JSON.stringify(ordered, null, 2)}\n`);
  await writeAtomic(join(out, "README.md"), indexText(subjects, ordered));
}
