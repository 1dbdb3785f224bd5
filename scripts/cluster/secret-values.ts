/** Reads Secrets of the cluster. Their values are never printed. */
import type { Cluster, KubernetesObject } from "./cluster.ts";

/** Decoded entries of a Secret; empty when it does not exist. */
export async function readSecret(cluster: Cluster, name: string): Promise<Record<string, string>> {
  const secret = await cluster.get<KubernetesObject & { data?: Record<string, string> }>("secret", name);
  return Object.fromEntries(
    Object.entries(secret?.data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]),
  );
}
