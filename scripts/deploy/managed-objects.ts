/** Objects that a deploy has applied, found by their labels: also those that the manifests of this version do not contain. */
import type { Cluster, KubernetesObject } from "../cluster/cluster.ts";
import { DEFAULT_NAMESPACE, NAMESPACE, NAMESPACE_LABEL } from "../cluster/namespace.ts";
import { isManaged, MANAGED_BY } from "./plan.ts";
import type { Stage } from "./stages.ts";

/** Kinds of every version's manifests, without data (claims), Secrets and KEDA's objects. */
const NAMESPACED = [
  "deployments.apps,statefulsets.apps,daemonsets.apps,jobs.batch,cronjobs.batch",
  "services,configmaps,serviceaccounts,networkpolicies.networking.k8s.io,poddisruptionbudgets.policy",
  "horizontalpodautoscalers.autoscaling,roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io",
].join(",");
const CLUSTER_WIDE = "clusterroles.rbac.authorization.k8s.io,clusterrolebindings.rbac.authorization.k8s.io";

/** The cluster-wide objects of this namespace's pipeline; those of version 1.0 have no label, and the default namespace. */
async function ownClusterWide(cluster: Cluster, selector: string): Promise<KubernetesObject[]> {
  const objects = await cluster.list<KubernetesObject>(CLUSTER_WIDE, selector);
  return objects.filter(({ metadata }) => (metadata.labels?.[NAMESPACE_LABEL] ?? DEFAULT_NAMESPACE) === NAMESPACE);
}

/** The applied objects in the namespaces of the manifests, and the cluster-wide ones. */
export async function listManaged(cluster: Cluster, stages: readonly Stage[]): Promise<KubernetesObject[]> {
  const selector = Object.entries(MANAGED_BY)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
  const namespaces = stages.flatMap(({ objects }) => objects).filter(({ kind }) => kind === "Namespace");
  const lists = await Promise.all([
    ...namespaces.map(({ metadata }) => cluster.list<KubernetesObject>(NAMESPACED, selector, metadata.name)),
    ownClusterWide(cluster, selector),
  ]);
  return lists.flat().filter(isManaged);
}
