/**
 * Shows the dashboards in a browser, without Grafana: the same definitions, with live data.
 *
 *   bun scripts/dashboards.ts open                the overview
 *   bun scripts/dashboards.ts open logs --local
 */
import { once } from "node:events";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { openBrowser } from "./cli/open-browser.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { DASHBOARD_NAMES } from "./dashboards/definitions.ts";
import { localTarget } from "./local-cluster/index.ts";
import { PanelData } from "./viewer/panel-data.ts";
import { DashboardViewer } from "./viewer/viewer.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  port: { type: "number", default: 0, min: 0, max: 65_535, description: "port on 127.0.0.1; 0: a free one" },
  "no-browser": { type: "boolean", description: "only print the address" },
} as const;

/** The dashboard of `open [NAME]`. @throws OperatorError (exit 2) that names the argument and the choices */
function dashboardOf([
  command,
  name = DASHBOARD_NAMES[0],
  ...rest
]: readonly string[]): (typeof DASHBOARD_NAMES)[number] {
  const known = DASHBOARD_NAMES.find((one) => one === name);
  if (command === "open" && known && rest.length === 0) return known;
  const hint = `open [NAME], NAME one of ${DASHBOARD_NAMES.join(", ")}`;
  const given = [command, name, ...rest].join(" ");
  throw new OperatorError(`unknown arguments "${given}"`, { exitCode: EXIT.usage, hint });
}

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  const name = dashboardOf(positionals);
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  await using source = new PanelData(cluster);
  const viewer = new DashboardViewer({ source, target: cluster.describe(), port: flags.port });
  const url = viewer.urlOf(name);
  report.result({ url });
  report.print(`dashboards: ${url}`);
  report.info("until Ctrl-C; the address contains the token of this session, for this machine only");
  if (!flags["no-browser"]) openBrowser(url);
  try {
    if (!signal.aborted) await once(signal, "abort");
  } finally {
    await viewer.close();
  }
}

export const command = defineCommand({
  name: "scripts/dashboards.ts",
  summary: "shows the dashboards in a browser, without Grafana",
  usage: ["open [NAME] [--port N] [--no-browser]"],
  flags: FLAGS,
  positionals: [
    { name: "open", many: true, required: true, description: `open [NAME]: ${DASHBOARD_NAMES.join(", ")}` },
  ],
  examples: [
    ["bun scripts/dashboards.ts open", "the overview"],
    ["bun scripts/dashboards.ts open logs", "log lines by service, level, text or event"],
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
