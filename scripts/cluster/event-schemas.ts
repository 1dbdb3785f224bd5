/** The schemas of the deployed pipeline: the ConfigMap that the producer's pods mount. */
import { SCHEMA_CONFIG } from "../../services/domain/schema-files.ts";
import type { Cluster, KubernetesObject } from "./cluster.ts";

/** The ConfigMap, with the text of each file by its name; undefined where none is deployed. */
export const readSchemaConfig = (
  cluster: Cluster,
): Promise<(KubernetesObject & { data?: Record<string, string> }) | undefined> =>
  cluster.get<KubernetesObject & { data?: Record<string, string> }>("configmap", SCHEMA_CONFIG);
