/**
 * Shows the dashboards in a browser, without Grafana: the same definitions, with live data.
 *
 *   bun scripts/dashboards.ts open                the overview
 *   bun scripts/dashboards.ts open logs --local
 *   bun scripts/dashboards.ts from-schema FILE    prints the dashboard of a schema
 */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { SchemaFiles } from "../services/domain/schema-files.ts";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { openBrowser } from "./cli/open-browser.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { DASHBOARD_NAMES, type Dashboard } from "./dashboards/definitions.ts";
import { schemaDashboard } from "./dashboards/schema-dashboard.ts";
import { localTarget } from "./local-cluster/index.ts";
import { PanelData } from "./viewer/panel-data.ts";
import { deployedSchemaDashboards } from "./viewer/schema-dashboards.ts";
import { DashboardViewer } from "./viewer/viewer.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  port: { type: "number", default: 0, min: 0, max: 65_535, description: "port on 127.0.0.1; 0: a free one" },
  bucket: {
    type: "string",
    default: "telemetry",
    valueName: "NAME",
    description: "with from-schema: bucket of InfluxDB with the points",
  },
  "no-browser": { type: "boolean", description: "only print the address" },
} as const;

const usage = (message: string, hint: string) => new OperatorError(message, { exitCode: EXIT.usage, hint });

/** The dashboard of a schema in a file. @throws OperatorError (exit 2) that names the file, the rule and the value */
async function dashboardOfFile(path: string, bucket: string): Promise<Dashboard> {
  const hint = "a schema, as docs/schemas.md describes it";
  const text = await readFile(path, "utf8").catch(() => {
    throw usage(`FILE: no file "${path}"`, hint);
  });
  const files = new SchemaFiles();
  const [problem] = files.read({ "schema.yaml": text });
  if (problem) throw usage(`${basename(path)}: ${problem.error}`, hint);
  const [schema] = files.schemas.byMeasurement.values();
  return schemaDashboard(schema!, bucket);
}

async function main({ flags, positionals, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  const [form, name = DASHBOARD_NAMES[0], ...rest] = positionals;
  if (form === "from-schema" && positionals.length === 2) {
    const dashboard = await dashboardOfFile(name, flags.bucket);
    report.result(dashboard);
    report.print(JSON.stringify(dashboard, null, 2));
    return;
  }
  const hint = `open [NAME], NAME one of ${DASHBOARD_NAMES.join(", ")}, or schema-MEASUREMENT; from-schema FILE`;
  if (form !== "open" || rest.length > 0) throw usage(`unknown arguments "${positionals.join(" ")}"`, hint);
  const isKnown = DASHBOARD_NAMES.some((one) => one === name);
  if (!isKnown && !name.startsWith("schema-")) throw usage(`unknown arguments "open ${name}"`, hint);
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  const dashboards = await deployedSchemaDashboards(cluster);
  if (!isKnown && !dashboards.some(({ uid }) => uid === name)) {
    const deployed = dashboards.map(({ uid }) => uid).join(", ") || "no schema is deployed";
    throw usage(`no dashboard "${name}"`, `dashboards of schemas: ${deployed}`);
  }
  await using source = new PanelData(cluster);
  const viewer = new DashboardViewer({ source, target: cluster.describe(), port: flags.port, dashboards });
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
  usage: ["open [NAME] [--port N] [--no-browser]", "from-schema FILE [--bucket NAME]"],
  flags: FLAGS,
  positionals: [
    {
      name: "open|from-schema",
      many: true,
      required: true,
      description: `open [NAME]: ${DASHBOARD_NAMES.join(", ")}, or schema-MEASUREMENT of a deployed schema; from-schema FILE: prints JSON`,
    },
  ],
  examples: [
    ["bun scripts/dashboards.ts open", "the overview"],
    ["bun scripts/dashboards.ts open logs", "log lines by service, level, text or event"],
    ["bun scripts/dashboards.ts from-schema schemas/pump.yaml > pump.json", "for a Grafana of your own"],
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
