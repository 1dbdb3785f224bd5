/**
 * The schemas that a deploy applies: the files of schemas/, as the ConfigMap that the producer mounts, and for each a
 * dashboard of Grafana. A folder without files leaves the deployed schemas as they are, so that a deploy from another
 * checkout removes none.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isSchemaFile, SCHEMA_CONFIG, SchemaFiles } from "../../services/domain/schema-files.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { bucketOf } from "../clients/influxdb.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { readSchemaConfig } from "../cluster/event-schemas.ts";
import type { ExternalStores } from "../cluster/external-stores.ts";
import { schemaDashboard } from "../dashboards/schema-dashboard.ts";
import { SCHEMA_DASHBOARDS } from "./manifests.ts";
import { isManaged, MANAGED_BY } from "./plan.ts";
import type { Stage } from "./stages.ts";

const SCHEMA_FOLDER = join(import.meta.dir, "../../schemas");
/** Below the limit of a ConfigMap, 1 MiB. */
const MAX_DASHBOARD_BYTES = 900_000;

type Texts = Record<string, string>;

/** The schema files of a folder by name, checked; none when it does not exist. @throws OperatorError (exit 2) that names each faulty file */
export async function readSchemaFolder(folder = SCHEMA_FOLDER): Promise<Texts> {
  const names = (await readdir(folder).catch(() => [])).filter(isSchemaFile).sort();
  const entries = await Promise.all(
    names.map(async (name) => [name, await readFile(join(folder, name), "utf8")] as const),
  );
  const texts = Object.fromEntries(entries);
  const problems = new SchemaFiles().read(texts);
  if (problems.length === 0) return texts;
  throw new OperatorError(`schemas: ${problems.map(({ file, error }) => `${file}: ${error}`).join("; ")}`, {
    exitCode: EXIT.usage,
    hint: "docs/schemas.md has the form of a schema",
  });
}

/** The stages with the ConfigMaps of the schemas. */
export async function withSchemas(
  cluster: Cluster,
  stages: readonly Stage[],
  stores: ExternalStores,
  report: Pick<Report, "warn">,
  folder = SCHEMA_FOLDER,
): Promise<Stage[]> {
  const texts = await readSchemaFolder(folder);
  const live = await readSchemaConfig(cluster);
  const isEmpty = Object.keys(texts).length === 0;
  const used = isEmpty ? (live?.data ?? {}) : texts;
  const added: Record<string, KubernetesObject[]> = {
    // A ConfigMap that was not made by a deploy stays the one of whoever made it.
    producer: isEmpty && !(live && isManaged(live)) ? [] : [configMap(SCHEMA_CONFIG, "producer", used)],
    grafana: dashboardsOf(used, bucketOf(stores).bucket, report),
  };
  return stages.map((stage) => ({ ...stage, objects: [...(added[stage.name] ?? []), ...stage.objects] }));
}

function dashboardsOf(texts: Texts, bucket: string, report: Pick<Report, "warn">): KubernetesObject[] {
  const files = new SchemaFiles();
  files.read(texts);
  const data: Texts = {};
  const omitted: string[] = [];
  let bytes = 0;
  for (const schema of files.schemas.byMeasurement.values()) {
    const dashboard = schemaDashboard(schema, bucket);
    const text = JSON.stringify(dashboard);
    bytes += Buffer.byteLength(text);
    if (bytes > MAX_DASHBOARD_BYTES) omitted.push(schema.measurement);
    else data[`${dashboard.uid}.json`] = text;
  }
  if (omitted.length > 0) {
    report.warn(`schemas without a dashboard in Grafana, whose ConfigMap is full: ${omitted.join(", ")}`);
  }
  return Object.keys(data).length === 0 ? [] : [configMap(SCHEMA_DASHBOARDS, "grafana", data)];
}

const configMap = (name: string, workload: string, data: Texts): KubernetesObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: {
    name,
    namespace: NAMESPACE,
    labels: {
      "app.kubernetes.io/name": workload,
      "app.kubernetes.io/instance": workload,
      "app.kubernetes.io/component": workload === "grafana" ? "dashboards" : workload,
      "app.kubernetes.io/part-of": "conveyor",
      ...MANAGED_BY,
    },
  },
  data,
});
