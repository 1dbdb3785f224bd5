/**
 * Proves that the deployed pipeline keeps its promises: one line and a duration per check.
 *
 *   bun scripts/validate.ts              everything, on the cluster of the last deploy
 *   bun scripts/validate.ts --json       the same as one JSON document
 *   bun scripts/validate.ts --only end-to-end
 *
 * A check that cannot tell anything because another one failed is "not run", and not run is never passed.
 */

import { reportChecklist, selectChecks, verdict } from "./checks/checklist.ts";
import { CHECKS } from "./checks/index.ts";
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { ProbeSession } from "./clients/probe-session.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/validate.ts",
      summary: "checks that the deployed pipeline keeps its promises, with numbers",
      usage: ["[--only ID …] [--json]", "--list"],
      flags: {
        ...CLUSTER_FLAGS,
        only: { type: "string", multiple: true, valueName: "ID", description: "this check and what it stands on" },
        list: { type: "boolean", description: "list the checks and exit" },
      },
      examples: [
        ["bun scripts/validate.ts", "every check, on the cluster of the last deploy"],
        ["bun scripts/validate.ts --only end-to-end --only latency", "do events flow, and how fast"],
        ["bun scripts/validate.ts --context staging --json > validation.json", "for a machine"],
      ],
    },
    async ({ flags, report, signal }) => {
      if (flags.list) {
        report.result(CHECKS.map(({ id, title, needs }) => ({ id, title, needs: needs ?? [] })));
        for (const { id, title } of CHECKS) report.print(`${id.padEnd(24)} ${title}`);
        return EXIT.ok;
      }
      const checks = (() => {
        try {
          return selectChecks(CHECKS, flags.only);
        } catch (error) {
          throw new OperatorError(`--only: ${(error as Error).message}`, { exitCode: EXIT.usage });
        }
      })();
      const cluster = await selectCluster(flags, localTarget);
      report.info(`target: ${cluster.describe()}`);
      await requireReachable(cluster, signal);
      const context = new ProbeSession(cluster, await deployedServicesImage(cluster), signal);
      try {
        const result = await reportChecklist(checks, context, report, signal);
        const { line, exitCode } = verdict(result);
        report.result({ cluster: { context: cluster.context, local: cluster.isLocal }, ...result });
        report.print(line);
        return exitCode;
      } finally {
        await context.close();
      }
    },
  );
}
