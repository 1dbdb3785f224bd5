/**
 * Takes the pictures of outputs/: the pipeline's dashboard and a log search over several components.
 *
 *   bun scripts/capture.ts                      outputs/grafana-dashboard.png and outputs/log-search.png
 *   bun scripts/capture.ts --out outputs/runs/today --since 1h
 *
 * Opens Grafana in a headless Chromium, waits until every panel has drawn, and refuses a picture of a panel that is
 * empty or fails.
 */
import { join } from "node:path";
import { findBrowser, signIn, withBrowser } from "./browser/browser.ts";
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { NAMESPACE } from "./cluster/cluster.ts";
import { readSecret } from "./cluster/secret-values.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { logs } from "./dashboards/logs.ts";
import { overview } from "./dashboards/overview.ts";
import type { DashboardSpec } from "./dashboards/panels.ts";
import { takePicture } from "./evidence/grafana-picture.ts";
import { localTarget } from "./local-cluster/index.ts";

const GRAFANA_PORT = 3000;

const titlesOf = (dashboard: DashboardSpec) => dashboard.rows.flatMap(({ panels }) => panels.map(({ title }) => title));

/** The pictures that the plan names, and what is on them. */
const PICTURES = [
  { file: "grafana-dashboard.png", dashboard: overview, parameters: {} },
  // A search filtered across components: what producer and processor say.
  {
    file: "log-search.png",
    dashboard: logs,
    parameters: { "var-service": ["producer", "processor"], "var-level": ["$__all"] },
  },
] as const;

/** Address of a dashboard without Grafana's own frame around it. */
export function dashboardUrl(
  origin: string,
  uid: string,
  sinceMs: number,
  parameters: Readonly<Record<string, readonly string[]>>,
): string {
  const query = new URLSearchParams({ from: `now-${Math.round(sinceMs / 1000)}s`, to: "now", kiosk: "true" });
  for (const [name, values] of Object.entries(parameters)) for (const value of values) query.append(name, value);
  return `${origin}/d/${uid}?${query}`;
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/capture.ts",
      summary: "pictures of the dashboard and of a log search, taken when every panel has drawn",
      usage: ["[--out outputs] [--since 15m]"],
      flags: {
        ...CLUSTER_FLAGS,
        out: { type: "string", default: "outputs", valueName: "DIR", description: "where the pictures go" },
        since: { type: "duration", default: 900_000, description: "time shown" },
        browser: {
          type: "string",
          valueName: "COMMAND",
          env: "CONVEYOR_BROWSER",
          description: "Chromium to use; by default the one of the system",
        },
      },
      examples: [["bun scripts/capture.ts", "outputs/grafana-dashboard.png, outputs/log-search.png"]],
      notes: ["Needs a cluster with Grafana, and Chromium (Debian: apt-get install chromium)."],
    },
    async ({ flags, report, signal }) => {
      const path = findBrowser(flags.browser);
      if (!path) {
        throw new OperatorError(
          flags.browser ? `--browser: no command "${flags.browser}"` : "Chromium is not installed",
          {
            exitCode: EXIT.precondition,
            hint: "apt-get install chromium, or --browser COMMAND",
          },
        );
      }
      const cluster = await selectCluster(flags, localTarget);
      await requireReachable(cluster, signal);
      if (!(await cluster.get("deployment", "grafana"))) {
        throw new OperatorError(`no Grafana is deployed in namespace ${NAMESPACE} of context ${cluster.context}`, {
          exitCode: EXIT.precondition,
          hint: "deploy with --images DIR where the cluster cannot pull docker.io/grafana/grafana",
        });
      }
      const certificate = (await readSecret(cluster, "grafana-tls"))["tls.crt"];
      const { username, password } = await readSecret(cluster, "grafana-admin");
      if (!certificate || !username || !password) {
        throw new OperatorError("Grafana's certificate or its administrator's password is missing", {
          hint: "bun scripts/deploy.ts",
        });
      }
      const forward = await cluster.portForward("svc/grafana", GRAFANA_PORT, NAMESPACE);
      const origin = `https://localhost:${forward.port}`;
      const taken: string[] = [];
      try {
        await withBrowser({ path, certificate }, async (browser) => {
          await signIn(await browser.newPage(), origin, username, password);
          for (const { file, dashboard, parameters } of PICTURES) {
            await report.step(file, async (step) => {
              const page = await browser.newPage();
              const target = join(flags.out, file);
              await takePicture(page, {
                url: dashboardUrl(origin, dashboard.uid, flags.since, parameters),
                expected: titlesOf(dashboard),
                path: target,
                signal,
                onState: step.update,
              });
              taken.push(target);
              step.update(target);
              await page.close();
            });
          }
        });
      } finally {
        await forward.close();
      }
      report.result({ pictures: taken });
      for (const picture of taken) report.print(picture);
      return EXIT.ok;
    },
  );
}
