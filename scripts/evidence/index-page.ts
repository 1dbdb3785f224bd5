/** outputs/README.md and its record: content, time, command and commit of each file. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeAtomic } from "../cli/files.ts";
import type { Version } from "../cli/version.ts";
import type { Artifact, Making } from "./artifact.ts";

const RECORD = "evidence.json";

export interface Entry extends Version {
  /** ISO 8601, UTC. */
  made_at: string;
  command: string;
  /** Summary; or the reason why it was not made. */
  detail: string;
  made: boolean;
  /** Command that makes it on a suitable machine. */
  hint?: string;
  /** SHA-256 per file. */
  files: Record<string, string>;
  /** Files that could not be made, with the reasons. */
  missing?: Readonly<Record<string, string>>;
}

/** Name of an artifact → its newest entry. */
export type EvidenceRecord = Record<string, Entry>;

export async function readRecord(out: string): Promise<EvidenceRecord> {
  const text = await readFile(join(out, RECORD), "utf8").catch(() => undefined);
  if (text === undefined) return {};
  try {
    return JSON.parse(text) as EvidenceRecord;
  } catch (error) {
    throw new Error(`${join(out, RECORD)} is not JSON: delete it and run bun scripts/evidence.ts`, { cause: error });
  }
}

export async function entryOf(
  artifact: Artifact,
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
    command: `bun scripts/evidence.ts --only ${artifact.name}`,
    detail: making.made ? making.detail : making.reason,
    made: making.made,
    ...(making.made ? {} : { hint: making.hint }),
    ...version,
    files,
    ...(making.made && making.missing ? { missing: making.missing } : {}),
  };
}

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");

/** The page: one row per artifact, in the order of the catalog. */
export function indexText(artifacts: readonly Artifact[], record: EvidenceRecord): string {
  const rows: string[] = [];
  const absent: string[] = [];
  for (const artifact of artifacts) {
    const entry = record[artifact.name];
    if (entry?.made) {
      const commit = `\`${entry.commit.slice(0, 10)}\`${entry.changed_files > 0 ? ` and ${entry.changed_files} changed files` : ""}`;
      const files = Object.keys(entry.files).map((file) => `[${file}](${file})`);
      rows.push(
        `| ${files.join(", ")} | ${cell(artifact.title)}. ${cell(entry.detail)} | ${entry.made_at} | \`${entry.command}\` | ${commit} |`,
      );
      for (const [file, reason] of Object.entries(entry.missing ?? {})) {
        absent.push(`- \`${file}\`: ${artifact.title}. Not made: ${reason}`);
      }
    } else {
      const files = artifact.files.map((file) => `\`${file}\``).join(", ");
      absent.push(
        entry
          ? `- ${files}: ${artifact.title}. Not made: ${entry.detail}. To make it: \`${entry.hint}\``
          : `- ${files}: ${artifact.title}. Not tried yet: \`bun scripts/evidence.ts --only ${artifact.name}\`${artifact.minutes ? ` (about ${artifact.minutes} minutes)` : ""}`,
      );
    }
  }
  return [
    "# Evidence",
    "",
    "Output of the running pipeline. Each file is made by a command; nothing here is written or drawn by hand.",
    "`bun scripts/evidence.ts` makes all of them, `--only NAME` one, `--list` lists them.",
    "",
    "| files | content and result | made (UTC) | command | commit |",
    "|---|---|---|---|---|",
    ...rows,
    "",
    ...(absent.length > 0 ? ["## Not made", "", ...absent, ""] : []),
    "## Elsewhere",
    "",
    "- Templates of the Secrets, without values: [k8s/secrets.yaml.template](../k8s/secrets.yaml.template).",
    "- What was run on clusters of which kind: [conformance.txt](conformance.txt), by `bun scripts/conformance.ts`.",
    "- Records of all runs: `outputs/runs/`, one folder per load test, run of drills and audit, with the record and a page. They stay on the",
    "  machine that ran them and are not in git.",
    "- Picture of a live run for the project's README: [live-run.png](live-run.png), the frame at 1:59 of resilience-drill.mp4, extracted with ffmpeg.",
    "",
    `[${RECORD}](${RECORD}) has the SHA-256 of each file.`,
    "",
  ].join("\n");
}

export async function writeIndex(out: string, artifacts: readonly Artifact[], record: EvidenceRecord): Promise<void> {
  const ordered = Object.fromEntries(artifacts.flatMap(({ name }) => (record[name] ? [[name, record[name]]] : [])));
  await writeAtomic(join(out, RECORD), `${JSON.stringify(ordered, null, 2)}\n`);
  await writeAtomic(join(out, "README.md"), indexText(artifacts, ordered));
}
