/**
 * Deploys from nothing, each on a new local cluster: on its variants (deploy, validate, one drill, audit, destroy), by kubectl
 * alone, from a bare workstation, and against a Kafka and an InfluxDB, or a Prometheus, of others.
 *
 *   bun scripts/conformance.ts                     every case
 *   bun scripts/conformance.ts --only kind,k3s
 *
 * outputs/conformance.txt and outputs/conformance.json keep the newest result of each case, with date and versions. It makes
 * and removes local clusters, so it refuses to run while one exists.
 */
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { formatDuration } from "./cli/report.ts";
import { versionOf } from "./cli/version.ts";
import { runCase } from "./conformance/case.ts";
import { CASE_NAMES, type CaseName, caseOf } from "./conformance/cases.ts";
import { readRecord, recordText, writeRecord } from "./conformance/record.ts";
import { type ClusterStatus, status } from "./local-cluster/index.ts";

const PROJECT = join(import.meta.dir, "..");
/** Removing the cluster after an interrupt, after the interrupted command has undone its fault. */
const CLEANUP_LIMIT_MS = 180_000;

const FLAGS = {
  only: {
    type: "string",
    multiple: true,
    valueName: "NAME",
    description: `only these cases (${CASE_NAMES.join(", ")}); names may be joined by commas`,
  },
  out: { type: "string", valueName: "DIR", description: "folder of the results (the project's outputs/ when absent)" },
} as const;

/** The cases of `--only a,b --only c`, in the order of the list; all without it. @throws OperatorError (exit 2) */
export function chosenCases(only: readonly string[]): readonly CaseName[] {
  const names = only.flatMap((text) => text.split(",")).map((name) => name.trim());
  const unknown = names.find((name) => !CASE_NAMES.some((known) => known === name));
  if (unknown !== undefined) {
    throw new OperatorError(`--only: must name cases (${CASE_NAMES.join(", ")}); got "${unknown}"`, {
      exitCode: EXIT.usage,
    });
  }
  return names.length === 0 ? CASE_NAMES : CASE_NAMES.filter((name) => names.includes(name));
}

/** @throws OperatorError (exit 3) where a local cluster exists: the run would remove it with its data */
export function requireNoCluster(state: ClusterStatus["state"]): void {
  if (state === "absent") return;
  throw new OperatorError(`a local cluster exists (${state}): this run would remove it with its data`, {
    exitCode: EXIT.precondition,
    hint: "bun scripts/local-cluster.ts down --delete-data",
  });
}

async function main({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  const names = chosenCases(flags.only);
  const out = flags.out ?? join(PROJECT, "outputs");
  const startedAt = performance.now();
  let passed = 0;
  for (const name of names) {
    // Before each case: another run may have made a cluster meanwhile.
    const { state, versions } = await status();
    requireNoCluster(state);
    const [made_at, version] = [`${new Date().toISOString().slice(0, 19)}Z`, await versionOf(PROJECT)];
    await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-conformance-"));
    const result = await runCase(await caseOf(name, folder.path, report), report, signal);
    const entry = { ...result, made_at, ...version, versions };
    // After each case: what has ended is kept when a later one is interrupted.
    await writeRecord(out, { ...(await readRecord(out)), [name]: entry });
    report.print(recordText({ [name]: entry }));
    if (result.ok) passed += 1;
  }
  report.result({ ok: passed === names.length, cases: names.length, passed });
  report.print(
    `${passed === names.length ? "PASSED" : "FAILED"}: ${passed} of ${names.length} cases in ${formatDuration(performance.now() - startedAt)}`,
  );
  return passed === names.length ? EXIT.ok : EXIT.violations;
}

export const command = defineCommand({
  name: "scripts/conformance.ts",
  summary: "deploys from nothing to local clusters with properties of other clusters, and by other means",
  usage: ["[--only NAME,…] [--out DIR] [--json]"],
  flags: FLAGS,
  examples: [
    ["bun scripts/conformance.ts", "every case; some ten minutes each on 2 cores"],
    ["bun scripts/conformance.ts --only gke", "one of them"],
  ],
  notes: ["It makes and removes local clusters, and refuses to run while one exists."],
  cleanupLimitMs: CLEANUP_LIMIT_MS,
  run: main,
});

if (import.meta.main) await runCommand(command);
