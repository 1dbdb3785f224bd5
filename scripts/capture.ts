/**
 * Takes the pictures of Grafana for outputs/.
 *
 *   bun scripts/capture.ts                      outputs/grafana-dashboard.png and outputs/log-search.png
 *   bun scripts/capture.ts --out outputs/runs/today --since 1h
 *
 * Opens Grafana in a headless Chromium, waits until every panel is drawn, and takes no picture of a panel that is empty
 * or fails.
 */
import { requireBrowser } from "./browser/page-picture.ts";
import { defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { NAMESPACE } from "./cluster/cluster.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { captureGrafana, hasGrafana } from "./evidence/grafana-capture.ts";
import { localTarget } from "./local-cluster/index.ts";

export const command = defineCommand({
  name: "scripts/capture.ts",
  summary: "takes pictures of Grafana's dashboard and log search when every panel is drawn",
  usage: ["[--out outputs] [--since 15m]"],
  flags: {
    ...CLUSTER_FLAGS,
    out: { type: "string", default: "outputs", valueName: "DIR", description: "folder of the pictures" },
    since: { type: "duration", default: 900_000, description: "period shown" },
    browser: {
      type: "string",
      valueName: "COMMAND",
      env: "CONVEYOR_BROWSER",
      description: "Chromium to use; by default the one of the system",
    },
  },
  examples: [["bun scripts/capture.ts", "outputs/grafana-dashboard.png, outputs/log-search.png"]],
  notes: ["Needs a cluster with Grafana, and Chromium (Debian: apt-get install chromium)."],
  async run({ flags, report, signal }) {
    requireBrowser(flags.browser);
    const cluster = await selectCluster(flags, localTarget);
    await requireReachable(cluster, signal);
    if (!(await hasGrafana(cluster))) {
      throw new OperatorError(`no Grafana is deployed in namespace ${NAMESPACE} of context ${cluster.context}`, {
        exitCode: EXIT.precondition,
        hint: "deploy with --images DIR where the cluster cannot pull docker.io/grafana/grafana",
      });
    }
    const pictures = await captureGrafana(cluster, {
      out: flags.out,
      sinceMs: flags.since,
      browser: flags.browser,
      signal,
      step: (file, work) => report.step(file, (step) => work(step.update)),
    });
    report.result({ pictures });
    for (const picture of pictures) report.print(picture);
    return EXIT.ok;
  },
});

if (import.meta.main) await runCommand(command);
