/**
 * Checks the deployed pipeline: one line and a duration per check.
 *
 *   bun scripts/validate.ts              every check, on the cluster of the last deploy
 *   bun scripts/validate.ts --json       the same as one JSON document
 *   bun scripts/validate.ts --only end-to-end
 *
 * A check that depends on a failed one is "not run", which does not count as passed. A check of what this cluster cannot serve
 * is "skipped", with the reason; it does not fail the run.
 */
import { selectChecks, verdict } from "./checks/checklist.ts";
import { CHECKS, runChecks } from "./checks/index.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  only: { type: "string", multiple: true, valueName: "ID", description: "this check and those that it depends on" },
  list: { type: "boolean", description: "list the checks and exit" },
} as const;

/** @throws OperatorError (exit 2) that names an unknown id and the known ones */
function checkIds(ids: readonly string[]): void {
  try {
    selectChecks(CHECKS, ids);
  } catch (error) {
    throw new OperatorError(`--only: ${(error as Error).message}`, { exitCode: EXIT.usage });
  }
}

async function main({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  if (flags.list) {
    report.result(CHECKS.map(({ id, title, needs }) => ({ id, title, needs: needs ?? [] })));
    for (const { id, title } of CHECKS) report.print(`${id.padEnd(24)} ${title}`);
    return EXIT.ok;
  }
  checkIds(flags.only);
  const cluster = await selectCluster(flags, localTarget);
  report.info(`target: ${cluster.describe()}`);
  await requireReachable(cluster, signal);
  const result = await runChecks(cluster, flags.only, report, signal);
  const { line, exitCode } = verdict(result);
  report.result({ cluster: { context: cluster.context, local: cluster.isLocal }, ...result });
  report.print(line);
  return exitCode;
}

export const command = defineCommand({
  name: "scripts/validate.ts",
  summary: "checks the deployed pipeline from end to end, with numbers",
  usage: ["[--only ID …] [--json]", "--list"],
  flags: FLAGS,
  examples: [
    ["bun scripts/validate.ts", "every check, on the cluster of the last deploy"],
    ["bun scripts/validate.ts --only end-to-end --only latency", "whether events flow, and how fast"],
    ["bun scripts/validate.ts --context staging --json > validation.json", "for a machine"],
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
