/** Pictures of Grafana: the pipeline's dashboard, and a log search over several components. */
import { join } from "node:path";
import { signIn, withBrowser } from "../browser/browser.ts";
import { requireBrowser } from "../browser/page-picture.ts";
import { OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { panelsOf, readDashboard } from "../dashboards/definitions.ts";
import { takePicture } from "./grafana-picture.ts";

const GRAFANA_PORT = 3000;

/** The pictures that the plan names. */
export const GRAFANA_PICTURES = [
  { file: "grafana-dashboard.png", dashboard: "pipeline-overview", parameters: {} },
  {
    file: "log-search.png",
    dashboard: "logs",
    parameters: { "var-service": ["producer", "processor"], "var-level": ["$__all"] },
  },
] as const;

export interface CaptureOptions {
  out: string;
  /** Period shown, up to now. */
  sinceMs: number;
  browser?: string;
  signal: AbortSignal;
  /** Wraps each picture, to report its progress. */
  step: (file: string, work: (update: (state: string) => void) => Promise<void>) => Promise<void>;
}

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

export const hasGrafana = async (cluster: Cluster): Promise<boolean> =>
  (await cluster.get("deployment", "grafana")) !== undefined;

/**
 * Takes all pictures.
 * @returns their paths.
 * @throws OperatorError (exit 3) without Chromium, (exit 5) for a panel that is empty or fails.
 */
export async function captureGrafana(cluster: Cluster, options: CaptureOptions): Promise<string[]> {
  const path = requireBrowser(options.browser);
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
      for (const { file, dashboard, parameters } of GRAFANA_PICTURES) {
        const definition = readDashboard(dashboard);
        await options.step(file, async (update) => {
          const page = await browser.newPage();
          const target = join(options.out, file);
          await takePicture(page, {
            url: dashboardUrl(origin, definition.uid, options.sinceMs, parameters),
            expected: panelsOf(definition).map(({ title }) => title),
            path: target,
            signal: options.signal,
            onState: update,
          });
          taken.push(target);
          update(target);
          await page.close();
        });
      }
    });
  } finally {
    await forward.close();
  }
  return taken;
}
