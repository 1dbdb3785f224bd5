/**
 * What an earlier deploy applied of a stage that this one leaves out, with nothing in its place: pods that could not start
 * again, the policies that let them in and out, rules that tell of them. Whoever compares the cluster with the manifests
 * would find them in no file, and nobody would ever take them away. A stage of which something still runs is none of these:
 * it is kept (possible-stages.ts).
 */
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import type { SkippedStage, Stage } from "./stages.ts";

/** Stays: data, and what was made for it. A deploy that has the stage again finds them. */
const KEPT = new Set(["Namespace", "PersistentVolumeClaim", "Secret"]);
const PART_OF = "app.kubernetes.io/part-of";
/** Workloads go at once, their pods within their grace period; nobody waits for those. */
const DELETE_LIMIT_MS = 120_000;

/** False for what bears a name of this project's and was made by somebody else. */
export const isOfThisProject = ({ metadata }: KubernetesObject): boolean => metadata.labels?.[PART_OF] === NAMESPACE;

/**
 * Objects in the cluster of stages that are left out, without data and Secrets, and without what is not this project's. A
 * stage with a stand-in is not looked at: that one sees to it (replaced-stage.ts), when it is its turn.
 */
export async function findOrphans(
  cluster: Cluster,
  leftOut: readonly SkippedStage[],
  all: readonly Stage[],
  apiVersions: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<KubernetesObject[]> {
  const names = leftOut.filter(({ standIn, notNeeded }) => !standIn && !notNeeded).map(({ stage }) => stage);
  const objects = all.filter(({ name }) => names.includes(name)).flatMap((stage) => stage.objects);
  // What the API server does not know cannot be there, and kubectl would end with an error about it.
  const possible = objects.filter(({ apiVersion, kind }) => apiVersions.has(apiVersion) && !KEPT.has(kind));
  const there = await cluster.existing(possible, signal);
  return there.filter(isOfThisProject);
}

/** Removes them, in the order opposite to that in which they were applied: policies last. */
export async function removeOrphans(
  cluster: Cluster,
  objects: readonly KubernetesObject[],
  signal: AbortSignal,
): Promise<void> {
  if (objects.length === 0) return;
  const items = objects.toReversed().map(({ apiVersion, kind, metadata: { name, namespace } }) => ({
    apiVersion,
    kind,
    metadata: { name, ...(namespace ? { namespace } : {}) },
  }));
  const input = JSON.stringify({ apiVersion: "v1", kind: "List", items });
  await cluster.kubectl(["delete", "-f", "-", "--ignore-not-found"], { input, signal, timeoutMs: DELETE_LIMIT_MS });
}
