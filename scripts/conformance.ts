/**
 * Deploy, validate, one drill, audit and destroy on each variant of the local cluster, each from nothing.
 *
 *   bun scripts/conformance.ts                     every variant
 *   bun scripts/conformance.ts --like kind,k3s
 *
 * outputs/conformance.txt and outputs/conformance.json keep the newest result of each case, with date and versions. It makes
 * and removes local clusters, so it refuses to run while one exists.
 */
import { join } from "node:path";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { formatDuration } from "./cli/report.ts";
import { versionOf } from "./cli/version.ts";
import { runCase } from "./conformance/case.ts";
import { readRecord, recordText, writeRecord } from "./conformance/record.ts";
import { variantCase } from "./conformance/variants.ts";
import { type ClusterStatus, status, VARIANT_NAMES, type VariantName } from "./local-cluster/index.ts";

const PROJECT = join(import.meta.dir, "..");
/** Removing the cluster after an interrupt, after the interrupted command has undone its fault. */
const CLEANUP_LIMIT_MS = 180_000;

const FLAGS = {
  like: {
    type: "string",
    multiple: true,
    valueName: "NAME",
    description: `only these variants (${VARIANT_NAMES.join(", ")}); names may be joined by commas`,
  },
  out: { type: "string", valueName: "DIR", description: "folder of the results (the project's outputs/ when absent)" },
} as const;

/** The variants of `--like a,b --like c`, in the order of the list; all without it. @throws OperatorError (exit 2) */
export function chosenVariants(like: readonly string[]): VariantName[] {
  const names = like.flatMap((text) => text.split(",")).map((name) => name.trim());
  const unknown = names.find((name) => !VARIANT_NAMES.some((known) => known === name));
  if (unknown !== undefined) {
    throw new OperatorError(`--like: must name variants (${VARIANT_NAMES.join(", ")}); got "${unknown}"`, {
      exitCode: EXIT.usage,
    });
  }
  return names.length === 0 ? VARIANT_NAMES : VARIANT_NAMES.filter((name) => names.includes(name));
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
  const names = chosenVariants(flags.like);
  const out = flags.out ?? join(PROJECT, "outputs");
  const startedAt = performance.now();
  let passed = 0;
  for (const name of names) {
    // Before each case: another run may have made a cluster meanwhile.
    const { state, versions } = await status();
    requireNoCluster(state);
    const [made_at, version] = [`${new Date().toISOString().slice(0, 19)}Z`, await versionOf(PROJECT)];
    const result = await runCase(variantCase(name), report, signal);
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
  summary: "deploy, validate, a drill, audit and destroy on each variant of the local cluster",
  usage: ["[--like NAME,…] [--out DIR] [--json]"],
  flags: FLAGS,
  examples: [
    ["bun scripts/conformance.ts", "every variant, each from nothing; some ten minutes each on 2 cores"],
    ["bun scripts/conformance.ts --like gke", "one of them"],
  ],
  notes: ["It makes and removes local clusters, and refuses to run while one exists."],
  cleanupLimitMs: CLEANUP_LIMIT_MS,
  run: main,
});

if (import.meta.main) await runCommand(command);
