/**
 * Counts log lines written against log lines found: is every line of a pod in Loki, once?
 *
 *   bun scripts/log-canary.ts                        10,000 lines at 500 a second
 *   bun scripts/log-canary.ts --lines 1000 --json
 */
import { runCommand } from "./cli/command.ts";
import { EXIT } from "./cli/errors.ts";
import { LogStore } from "./clients/loki.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";
import { runCanary } from "./logs/log-canary.ts";

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/log-canary.ts",
      summary: "writes numbered lines in a pod and looks for each of them in Loki",
      usage: ["[--lines 10000] [--rate 500]"],
      flags: {
        ...CLUSTER_FLAGS,
        lines: { type: "number", default: 10_000, min: 1, max: 1_000_000, description: "how many lines" },
        rate: { type: "number", default: 500, min: 1, max: 5000, description: "lines a second" },
      },
      examples: [["bun scripts/log-canary.ts", "exit 0: all found; exit 5: some are missing, and which"]],
    },
    async ({ flags, report, signal }) => {
      const cluster = await selectCluster(flags, localTarget);
      await requireReachable(cluster, signal);
      // Says at once that there is no Loki, before a pod is started for nothing.
      await (await LogStore.open(cluster)).close();
      const image = await deployedServicesImage(cluster);
      const verdict = await report.step("log canary", async (step) => {
        const options = { image, lines: flags.lines, ratePerSecond: flags.rate, signal, onState: step.update };
        const found = await runCanary(cluster, options);
        step.update(`${found.found} of ${found.written} lines found, ${found.repeated} twice`);
        return found;
      });
      report.result(verdict);
      report.print(
        verdict.lost
          ? `${verdict.missing_count} of ${verdict.written} lines are missing, the first: ${verdict.missing.slice(0, 10).join(", ")}`
          : `all ${verdict.written} lines found${verdict.repeated > 0 ? `; ${verdict.repeated} twice` : ""}`,
      );
      return verdict.lost ? EXIT.violations : EXIT.ok;
    },
  );
}
