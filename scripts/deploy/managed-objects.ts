/** Objects that a deploy has applied, found by their labels: also those that the manifests of this version do not contain. */
import type { Cluster, KubernetesObject } from "../cluster/cluster.ts";
import { isManaged, MANAGED_BY } from "./plan.ts";
import type { Stage } from "./stages.ts";

/** Kinds of every version's manifests, without data (claims), Secrets and KEDA's objects. */
const NAMESPACED = [
  "deployments.apps,statefulsets.apps,daemonsets.apps,jobs.batch,cronjobs.batch",
  "services,configmaps,serviceaccounts,networkpolicies.networking.k8s.io,poddisruptionbudgets.policy",
  "horizontalpodautoscalers.autoscaling,roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io",
].join(",");
const CLUSTER_WIDE = [
  "clusterroles.rbac.authorization.k8s.io,clusterrolebindings.rbac.authorization.k8s.io",
  "priorityclasses.scheduling.k8s.io",
].join(",");

/** The applied objects in the namespaces of the manifests, and the cluster-wide ones. */
export async function listManaged(cluster: Cluster, stages: readonly Stage[]): Promise<KubernetesObject[]> {
  const selector = Object.entries(MANAGED_BY)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
  const namespaces = stages.flatMap(({ objects }) => objects).filter(({ kind }) => kind === "Namespace");
  const lists = await Promise.all([
    ...namespaces.map(({ metadata }) => cluster.list<KubernetesObject>(NAMESPACED, selector, metadata.name)),
    cluster.list<KubernetesObject>(CLUSTER_WIDE, selector),
  ]);
  return lists.flat().filter(isManaged);
}
