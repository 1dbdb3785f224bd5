/** What destroy deletes: planned without side effects, printed by `--dry-run`, and executed. */
import { SCHEMA_CONFIG } from "../../services/domain/schema-files.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { waitFor } from "../cli/wait.ts";
import { apiVersionsOf, type Cluster, type KubernetesObject, keyOf, NAMESPACE } from "../cluster/cluster.ts";
import { drillsNamespace } from "../cluster/drill-leftovers.ts";
import { EXTERNAL_CONFIG } from "../cluster/external-stores.ts";
import { readableExposure, withExposure } from "./expose.ts";
import { deleteKedaObjects, KEDA_API, listKedaObjects } from "./keda.ts";
import { listManaged } from "./managed-objects.ts";
import { isOfThisProject, RETAINED } from "./plan.ts";
import { loadStages, type Stage } from "./stages.ts";

/** Pods end within their grace period (Kafka: a minute), volumes some seconds later. */
const DELETE_LIMIT_MS = 180_000;

/** Resources that create pods. */
const WORKLOADS = "statefulsets,deployments,daemonsets,jobs";

/** Kinds that the deletion of a namespace does not include. */
const CLUSTER_SCOPED = new Set(["ClusterRole", "ClusterRoleBinding", "PriorityClass", "StorageClass"]);

/** The state of a cluster that a removal depends on. */
export interface RemovalSnapshot {
  apiVersions: ReadonlySet<string>;
  /** Of the namespaces in the manifests those that exist. */
  namespaces: readonly KubernetesObject[];
  claims: readonly KubernetesObject[];
  kedaObjects: readonly KubernetesObject[];
  /** Of the objects in the manifests those that exist, and applied ones of other versions. */
  existing: readonly KubernetesObject[];
  /** The namespace of drills that were killed. */
  drills?: KubernetesObject | undefined;
}

export interface RemovalPlan {
  keepData: boolean;
  /** Existing objects that are deleted: first those in no manifest, then those of the manifests, last applied first. */
  objects: KubernetesObject[];
  /** Deleted first, while KEDA runs and removes its finalizers, and before the pods that they scale. */
  kedaObjects: KubernetesObject[];
  /** Namespaces that are deleted with everything in them; none where the data is kept. */
  namespaces: string[];
  /** Volume claims, deleted with their namespace or kept. */
  claims: string[];
}

async function readRemovalSnapshot(
  cluster: Cluster,
  stages: readonly Stage[],
  signal: AbortSignal,
): Promise<RemovalSnapshot> {
  const apiVersions = await apiVersionsOf(cluster, signal);
  const declared = stages.flatMap(({ objects }) => objects).filter(({ apiVersion }) => apiVersions.has(apiVersion));
  const namespaces = declared.filter(({ kind }) => kind === "Namespace");
  const existing = await Promise.all([cluster.existing(declared, signal), listManaged(cluster, stages)]);
  return {
    apiVersions,
    namespaces: await cluster.existing(namespaces, signal),
    claims: await cluster.list<KubernetesObject>("persistentvolumeclaims"),
    kedaObjects: apiVersions.has(KEDA_API) ? await listKedaObjects(cluster, signal) : [],
    existing: existing.flat(),
    drills: await drillsNamespace(cluster),
  };
}

/** ConfigMaps with settings of earlier deploys. */
const KEPT_SETTINGS: ReadonlySet<string> = new Set([EXTERNAL_CONFIG, SCHEMA_CONFIG]);

/**
 * @returns undefined when nothing of the pipeline exists; an interrupted run may have deleted a part of it
 * @throws OperatorError (exit 3) for a namespace that this project did not create
 */
export function planRemoval(
  { apiVersions, namespaces, claims, kedaObjects, existing, drills }: RemovalSnapshot,
  stages: readonly Stage[],
  { keepData }: { keepData: boolean },
): RemovalPlan | undefined {
  const foreign = namespaces.find((namespace) => !isOfThisProject(namespace));
  if (foreign) {
    throw new OperatorError(
      `namespace ${foreign.metadata.name} was not created by this project (label app.kubernetes.io/part-of)`,
      { exitCode: EXIT.precondition, hint: "nothing was deleted" },
    );
  }
  const names = [...namespaces, ...(drills ? [drills] : [])].map(({ metadata }) => metadata.name);
  const live = new Map(existing.map((object) => [keyOf(object), object]));
  const all = stages.flatMap((stage) => stage.objects);
  const declared = all
    // An API that the server does not know has no objects, and kubectl fails on it.
    .filter((object) => apiVersions.has(object.apiVersion) && live.has(keyOf(object)))
    .reverse();
  const known = new Set(all.map(keyOf));
  const orphans = [...live].filter(([key]) => !known.has(key)).map(([, object]) => object);
  // The data needs the tokens and the cluster id in the Secrets. Where the data goes, and which events are valid, are
  // settings that a deploy reads from the cluster: without them the next one would write into other stores.
  const isKept = ({ kind, metadata }: KubernetesObject) =>
    RETAINED.has(kind) || (kind === "ConfigMap" && KEPT_SETTINGS.has(metadata.name));
  const removed = [...orphans, ...declared].filter((object) => !keepData || !isKept(object));
  const objects = [...(drills ? [drills] : []), ...removed];
  if (objects.length === 0 && (keepData || names.length === 0)) return undefined;
  return {
    keepData,
    objects,
    kedaObjects: [...kedaObjects],
    namespaces: keepData ? [] : names,
    claims: claims.map(({ metadata }) => metadata.name),
  };
}

export async function planDestroy(
  cluster: Cluster,
  options: { keepData: boolean },
  signal: AbortSignal,
): Promise<RemovalPlan | undefined> {
  const stages = withExposure(await loadStages(), await readableExposure(cluster, signal));
  return planRemoval(await readRemovalSnapshot(cluster, stages, signal), stages, options);
}

/** @throws OperatorError with the objects that remain at the limit */
export async function executeRemoval(
  cluster: Cluster,
  plan: RemovalPlan,
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  const limits = { signal, timeoutMs: DELETE_LIMIT_MS };
  if (plan.kedaObjects.length > 0) {
    await report.step("remove the autoscaling", async (step) => {
      const forced = await deleteKedaObjects(cluster, plan.kedaObjects, signal);
      step.update(
        forced.length === 0
          ? "KEDA's objects are deleted"
          : `KEDA does not work; finalizers removed: ${forced.join(", ")}`,
      );
    });
  }
  if (plan.keepData) {
    await report.step("delete the workloads", async (step) => {
      await cluster.delete(plan.objects, limits);
      step.update(`${plan.objects.length} objects; ${plan.claims.length} volume claims stay`);
    });
    return;
  }
  if (plan.namespaces.length > 0) await removeNamespaces(cluster, plan, report, limits);
  await cluster.delete(
    plan.objects.filter(({ kind }) => CLUSTER_SCOPED.has(kind)),
    limits,
  );
}

async function removeNamespaces(
  cluster: Cluster,
  plan: RemovalPlan,
  report: Report,
  limits: { signal: AbortSignal; timeoutMs: number },
): Promise<void> {
  await report.step("stop the pods", async (step) => await stopPods(cluster, plan, step, limits), {
    limitMs: DELETE_LIMIT_MS,
  });
  await report.step(
    `delete namespace ${plan.namespaces.join(", ")}`,
    async (step) => await deleteNamespaces(cluster, plan, step, limits.signal),
    { limitMs: DELETE_LIMIT_MS },
  );
}

type Step = { update(detail: string): void };

/** Before the namespaces: the deletion of one that still has pods is retried only after half of their grace period. */
async function stopPods(
  cluster: Cluster,
  { namespaces }: RemovalPlan,
  step: Step,
  limits: { signal: AbortSignal; timeoutMs: number },
): Promise<void> {
  for (const namespace of namespaces) {
    for (const args of [[WORKLOADS, "--cascade=foreground"], ["pods"]]) {
      await cluster.kubectl(["delete", ...args, "--all", "-n", namespace, "--wait=true", "--ignore-not-found"], limits);
    }
  }
  step.update("each within its grace period");
}

async function deleteNamespaces(
  cluster: Cluster,
  { namespaces }: RemovalPlan,
  step: Step,
  signal: AbortSignal,
): Promise<void> {
  await cluster.kubectl(["delete", "namespace", ...namespaces, "--wait=false", "--ignore-not-found"], { signal });
  await waitFor<true>(
    async () => {
      const left = await Promise.all(namespaces.map((name) => cluster.get("namespace", name)));
      if (left.every((namespace) => !namespace)) return { done: true, value: true };
      const pods = await cluster.list<KubernetesObject>("pods");
      return { done: false, state: `${pods.length} pods left` };
    },
    {
      what: `the deletion of namespace ${namespaces.join(", ")}`,
      limitMs: DELETE_LIMIT_MS,
      intervalMs: 500,
      signal,
      onState: step.update,
      hint: `kubectl --context ${cluster.context} get all,pvc -n ${NAMESPACE}`,
    },
  );
  step.update("pods, volumes and Secrets are deleted");
}
