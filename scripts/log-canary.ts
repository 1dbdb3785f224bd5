/**
 * Compares log lines written with log lines found: every line of a pod must be in the log store, once.
 *
 *   bun scripts/log-canary.ts                        10,000 lines at 500 a second
 *   bun scripts/log-canary.ts --lines 1000 --json
 */
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode } from "./cli/errors.ts";
import { openLogStore } from "./clients/log-store.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";
import { runCanary } from "./logs/log-canary.ts";

/** Numbers of missing lines that are printed; --json has a hundred. */
const MAX_PRINTED = 10;

const FLAGS = {
  ...CLUSTER_FLAGS,
  lines: { type: "number", default: 10_000, min: 1, max: 1_000_000, description: "number of lines" },
  rate: { type: "number", default: 500, min: 1, max: 5000, description: "lines a second" },
} as const;

async function main({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  // Fails without a log store before a pod is started.
  await (await openLogStore(cluster)).close();
  const image = await deployedServicesImage(cluster);
  const verdict = await report.step("log canary", async (step) => {
    const options = { image, lines: flags.lines, ratePerSecond: flags.rate, signal, onState: step.update };
    const found = await runCanary(cluster, options);
    step.update(`${found.found} of ${found.written} lines found, ${found.repeated} repeated`);
    return found;
  });
  report.result(verdict);
  report.print(
    verdict.lost
      ? `${verdict.missing_count} of ${verdict.written} lines are missing, the first: ${verdict.missing.slice(0, MAX_PRINTED).join(", ")}`
      : `all ${verdict.written} lines found${verdict.repeated > 0 ? `; ${verdict.repeated} repeated` : ""}`,
  );
  return verdict.lost ? EXIT.violations : EXIT.ok;
}

export const command = defineCommand({
  name: "scripts/log-canary.ts",
  summary: "writes numbered lines in a pod and searches each of them in the log store",
  usage: ["[--lines 10000] [--rate 500]"],
  flags: FLAGS,
  examples: [["bun scripts/log-canary.ts", "exit 0: all found; exit 5: some are missing, with their numbers"]],
  run: main,
});

if (import.meta.main) await runCommand(command);
