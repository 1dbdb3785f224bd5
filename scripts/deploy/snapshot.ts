/** Reads the state of a cluster that a plan depends on. */
import { kubeletsOf } from "../clients/kubelets.ts";
import { apiVersionsOf, type Cluster, type KubernetesObject, keyOf } from "../cluster/cluster.ts";
import { KEDA_API, type KedaWait, listKedaObjects, readKedaState } from "./keda.ts";
import { listManaged } from "./managed-objects.ts";
import { BROKERS, type Snapshot } from "./plan.ts";
import type { Stage } from "./stages.ts";

/** @throws OperatorError when the cluster cannot be read: an object that cannot be seen is not taken for absent. */
export async function readSnapshot(
  cluster: Cluster,
  stages: readonly Stage[],
  signal: AbortSignal,
  wait: KedaWait = {},
): Promise<Snapshot> {
  const apiVersions = await apiVersionsOf(cluster, signal);
  const keda = await readKedaState(cluster, apiVersions, signal, wait);
  // kubectl fails on kinds that the API server does not know. KEDA's are listed: they may be deleted meanwhile.
  const declared = stages
    .flatMap(({ objects }) => objects)
    .filter(({ apiVersion }) => apiVersions.has(apiVersion) && apiVersion !== KEDA_API);
  const [brokers, classes, kubelets, ...lists] = await Promise.all([
    cluster.pods(BROKERS),
    cluster.list<KubernetesObject>("storageclasses"),
    kubeletsOf(cluster, signal),
    cluster.existing(declared, signal),
    listManaged(cluster, stages),
    cluster.list<KubernetesObject>("horizontalpodautoscalers"),
    keda.status === "absent" ? [] : listKedaObjects(cluster, signal),
  ]);
  if (keda.status === "uninstalling") apiVersions.delete(KEDA_API);
  const fixedClasses = new Set(
    classes.filter(({ allowVolumeExpansion }) => allowVolumeExpansion !== true).map(({ metadata }) => metadata.name),
  );
  const live = new Map(lists.flat().map((object) => [keyOf(object), object]));
  return { context: cluster.context, apiVersions, keda, live: [...live.values()], brokers, fixedClasses, kubelets };
}
