/**
 * What an earlier deploy applied of a stage in whose place another one stands now, as after KEDA was taken off a cluster:
 * a policy that lets in whom nobody needs any more is one too many.
 */
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { deleteKedaObjects, KEDA_API } from "./keda.ts";
import type { Stage } from "./stages.ts";

/** Of the stage that `stage` stands in for, the objects that are in the cluster; none where it stands in for none. */
export async function supersededObjects(
  cluster: Cluster,
  stage: Pick<Stage, "standsInFor">,
  all: readonly Stage[],
  apiVersions: ReadonlySet<string>,
): Promise<KubernetesObject[]> {
  const objects = all.find(({ name }) => name === stage.standsInFor)?.objects ?? [];
  // What the API server does not know cannot be there, and kubectl would end with an error about it.
  const known = objects.filter(({ apiVersion }) => apiVersions.has(apiVersion));
  const there = await Promise.all(
    known.map(async ({ kind, metadata }) => await cluster.get(kind, metadata.name, metadata.namespace ?? NAMESPACE)),
  );
  return known.filter((_, index) => there[index] !== undefined);
}

/** Removes them, in the order opposite to that in which they were applied. */
export async function removeSuperseded(
  cluster: Cluster,
  objects: readonly KubernetesObject[],
  signal: AbortSignal,
): Promise<void> {
  // While KEDA is there it lets them go; where it is not, nobody would.
  if (objects.some(({ apiVersion }) => apiVersion === KEDA_API)) await deleteKedaObjects(cluster, signal);
  for (const { apiVersion, kind, metadata } of objects.toReversed()) {
    if (apiVersion === KEDA_API) continue;
    const namespace = metadata.namespace ?? NAMESPACE;
    await cluster.kubectl(["delete", kind, metadata.name, "-n", namespace, "--ignore-not-found"], { signal });
  }
}
