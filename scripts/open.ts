/**
 * One page to open: whether the pipeline works, dashboards, log search, Prometheus, Alertmanager, and the last runs.
 *
 *   bun scripts/open.ts            opens the page in a browser
 *   bun scripts/open.ts --no-browser
 */
import { once } from "node:events";
import { join, relative } from "node:path";
import { type CommandContext, defineCommand, runCommand } from "./cli/command.ts";
import { openBrowser } from "./cli/open-browser.ts";
import { intakeAddress, intakeEndpoint, printIntake, readExposure } from "./cluster/intake-exposure.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { certificateFolder } from "./deploy/certificates.ts";
import { localTarget } from "./local-cluster/index.ts";
import { PanelData } from "./viewer/panel-data.ts";
import { deployedSchemaDashboards } from "./viewer/schema-dashboards.ts";
import { Session } from "./viewer/session.ts";
import { DashboardViewer } from "./viewer/viewer.ts";
import { WEB_PAGES, WebProxy } from "./viewer/web-proxy.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  port: {
    type: "number",
    default: 0,
    min: 0,
    max: 65_535,
    description: "port of the page on 127.0.0.1; 0: a free one",
  },
  "no-browser": { type: "boolean", description: "only print the addresses" },
} as const;

const SERVERS = [
  ["victorialogs", "Log search", "VictoriaLogs: every line of every component, by word, field or time"],
  ["prometheus", "Prometheus", "metrics, rules, scrape targets"],
  ["alertmanager", "Alertmanager", "notifications and silences"],
] as const;

async function main({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<void> {
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  const session = new Session();
  await using source = new PanelData(cluster);
  const deployed = await Promise.all(SERVERS.map(([name]) => cluster.get("service", name)));
  const all = SERVERS.flatMap(([name, title, about], index) =>
    deployed[index] ? [{ title, about, proxy: new WebProxy(WEB_PAGES[name], cluster, session) }] : [],
  );
  const pages = await Promise.all(all.map(({ proxy }) => proxy.hasPage()));
  const proxies = all.filter((_, index) => pages[index]);
  const without = all.filter((_, index) => !pages[index]).map(({ title }) => title);
  const links = proxies.map(({ title, about, proxy }) => ({ title, about, url: proxy.address }));
  const dashboards = await deployedSchemaDashboards(cluster);
  const target = cluster.describe();
  const viewer = new DashboardViewer({ source, target, port: flags.port, session, links, dashboards });
  const url = viewer.urlOf();
  report.result({ url, servers: Object.fromEntries(proxies.map(({ title, proxy }) => [title, proxy.url])) });
  report.print(`pipeline: ${url}`);
  for (const { title, proxy } of proxies) report.print(`${title}: ${proxy.url}`);
  if (without.length > 0) {
    report.info(`${without.join(" and ")}: this build has no web page; bun scripts/ask.ts queries it`);
  }
  const exposure = await readExposure(cluster);
  const endpoint = exposure && (await intakeEndpoint(cluster, exposure));
  if (endpoint && "problem" in endpoint) report.warn(`the intake is exposed, but not reached: ${endpoint.problem}`);
  if (exposure && endpoint && !("problem" in endpoint)) {
    const ca = join(relative(process.cwd(), certificateFolder()), "ca.crt");
    printIntake(await intakeAddress(cluster, exposure, endpoint, ca), report);
  }
  report.info("until Ctrl-C; the addresses contain the token of this session, for this machine only");
  if (!flags["no-browser"]) openBrowser(url);
  try {
    if (!signal.aborted) await once(signal, "abort");
  } finally {
    await Promise.all([viewer.close(), ...all.map(({ proxy }) => proxy.close())]);
  }
}

export const command = defineCommand({
  name: "scripts/open.ts",
  summary: "opens one page with the state of the pipeline, its dashboards, logs, metrics and last runs",
  usage: ["[--port N] [--no-browser]"],
  flags: FLAGS,
  examples: [["bun scripts/open.ts", "the page of the local cluster"]],
  run: main,
});

if (import.meta.main) await runCommand(command);
