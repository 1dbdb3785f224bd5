/**
 * Removes the pipeline: everything that deploy applied, in the reverse order, and its data.
 *
 *   bun scripts/destroy.ts --yes
 *   bun scripts/destroy.ts --keep-data --yes     keeps the volumes (topics, groups, bucket), tokens and settings
 *
 * The cluster itself stays; `bun scripts/local-cluster.ts down --delete-data` removes the local one.
 */
import { createInterface } from "node:readline/promises";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import type { Report } from "./cli/report.ts";
import { type Cluster, NAMESPACE } from "./cluster/cluster.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { executeRemoval, planDestroy, type RemovalPlan } from "./deploy/removal.ts";
import { localTarget } from "./local-cluster/index.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  yes: { type: "boolean", short: "y", description: "do not ask for confirmation" },
  "keep-data": {
    type: "boolean",
    description:
      "keep the volumes, the Secrets that belong to their data, and the settings (external servers, schemas)",
  },
  "dry-run": { type: "boolean", description: "print what would be deleted, delete nothing" },
} as const;

/** @throws OperatorError unless --yes is set or the context's name is typed; exit 2 without a terminal */
async function confirm(cluster: Cluster, what: string, report: Report): Promise<void> {
  if (!process.stdin.isTTY || report.json) {
    throw new OperatorError(`destroy would delete ${what}; pass --yes when stdin is not a terminal`, {
      exitCode: EXIT.usage,
      hint: "bun scripts/destroy.ts --dry-run prints what would be deleted",
    });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await prompt.question(`Delete ${what}? Type the context's name (${cluster.context}) to confirm: `);
    if (answer.trim() !== cluster.context) {
      throw new OperatorError("not confirmed; nothing was deleted", { exitCode: EXIT.failed });
    }
  } finally {
    prompt.close();
  }
}

const refsOf = ({ objects }: RemovalPlan) => objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);

async function main({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  const keepData = flags["keep-data"];
  const cluster = await selectCluster(flags, localTarget);
  report.info(`target: ${cluster.describe()}`);
  await requireReachable(cluster, signal);
  const plan = await planDestroy(cluster, { keepData }, signal);
  if (!plan) {
    report.result({ deleted: [], kept: [], unchanged: true });
    report.print(keepData ? "nothing to delete" : `nothing to delete: namespace ${NAMESPACE} does not exist`);
    return EXIT.ok;
  }
  const refs = refsOf(plan);
  const data = `${plan.claims.length} volume claims with their data`;
  if (flags["dry-run"]) {
    report.result({ would_delete: refs, keep_data: keepData });
    for (const ref of refs) report.print(`would delete ${ref}`);
    report.print(`would ${keepData ? "keep" : "delete"} ${data}`);
    return EXIT.ok;
  }
  if (!flags.yes)
    await confirm(cluster, keepData ? "the pipeline (its data stays)" : `the pipeline and ${data}`, report);
  await executeRemoval(cluster, plan, report, signal);
  report.result({ deleted: refs, kept: keepData ? plan.claims : [], unchanged: false });
  report.print(`deleted ${refs.length} objects${keepData ? `; kept ${data}` : ` and ${data}`}`);
  return EXIT.ok;
}

export const command = defineCommand({
  name: "scripts/destroy.ts",
  summary: "removes the pipeline and its data; the cluster stays",
  usage: ["[--keep-data] [--yes] [--dry-run]"],
  flags: FLAGS,
  examples: [
    ["bun scripts/destroy.ts --dry-run", "what would be deleted"],
    ["bun scripts/destroy.ts --yes", "the complete pipeline, with its data"],
    ["bun scripts/local-cluster.ts down --delete-data", "the local cluster itself"],
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
