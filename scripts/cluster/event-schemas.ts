/** The schemas of the deployed pipeline: the ConfigMap that the producer's pods mount. */
import type { Schemas } from "../../services/domain/event-schema.ts";
import { SCHEMA_CONFIG, SchemaFiles } from "../../services/domain/schema-files.ts";
import type { Cluster, KubernetesObject } from "./cluster.ts";

/** The ConfigMap, with the text of each file by its name; undefined where none is deployed. */
export const readSchemaConfig = (
  cluster: Cluster,
): Promise<(KubernetesObject & { data?: Record<string, string> }) | undefined> =>
  cluster.get<KubernetesObject & { data?: Record<string, string> }>("configmap", SCHEMA_CONFIG);

/** The schemas in force: a faulty file counts as absent, as in a producer that starts. */
export async function readDeployedSchemas(cluster: Cluster): Promise<Schemas> {
  const files = new SchemaFiles();
  files.read((await readSchemaConfig(cluster))?.data ?? {});
  return files.schemas;
}
