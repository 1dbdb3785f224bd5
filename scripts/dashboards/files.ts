/**
 * The dashboards as files: one JSON per dashboard, for people and for import by hand, and the ConfigMap that Grafana
 * mounts. The same source gives the same bytes.
 */
import { join } from "node:path";
import { conveyors } from "./conveyors.ts";
import { kafka } from "./kafka.ts";
import { kubernetes } from "./kubernetes.ts";
import { logs } from "./logs.ts";
import { overview } from "./overview.ts";
import { buildDashboard, type DashboardSpec } from "./panels.ts";
import { processorAndInfluxdb } from "./processor-influxdb.ts";

/** In the order of the links at the top of each. */
export const DASHBOARDS: readonly DashboardSpec[] = [
  overview,
  kafka,
  processorAndInfluxdb,
  kubernetes,
  conveyors,
  logs,
];

const FOLDER = join("k8s", "grafana");
const CONFIG_MAP = join(FOLDER, "grafana-dashboards-configmap.yaml");
const GENERATED = "Written by `bun scripts/dashboards.ts` from scripts/dashboards/; change it there.";

const indented = (text: string, width: number) => text.replaceAll(/^(?=.)/gm, " ".repeat(width));

function configMap(files: ReadonlyMap<string, string>): string {
  const data = [...files].map(([name, text]) => `  ${name}: |\n${indented(text, 4)}`).join("");
  return `# ${GENERATED}
apiVersion: v1
kind: ConfigMap
metadata:
  name: grafana-dashboards
  namespace: conveyor
  labels:
    app.kubernetes.io/name: grafana
    app.kubernetes.io/instance: grafana
    app.kubernetes.io/version: 13.1.1
    app.kubernetes.io/component: dashboards
    app.kubernetes.io/part-of: conveyor
    app.kubernetes.io/managed-by: conveyor-deploy
data:
${data}`;
}

/** Path below the project's folder → content, of every file that the dashboards are. */
export function dashboardFiles(): Map<string, string> {
  const texts = new Map(
    DASHBOARDS.map((spec) => [`${spec.uid}.json`, `${JSON.stringify(buildDashboard(spec), null, 2)}\n`]),
  );
  return new Map([
    ...[...texts].map(([name, text]) => [join(FOLDER, "dashboards", name), text] as const),
    [CONFIG_MAP, configMap(texts)] as const,
  ]);
}
