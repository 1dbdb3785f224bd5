/** What destroy deletes: planned without side effects, printed by `--dry-run`, and executed. */
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { waitFor } from "../cli/wait.ts";
import { apiVersionsOf, type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { deleteKedaObjects, KEDA_API, listKedaObjects } from "./keda.ts";
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
}

export interface RemovalPlan {
  keepData: boolean;
  /** Objects of the manifests that are deleted, in the order opposite to that of a deploy. */
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
  const namespaces = stages.flatMap(({ objects }) => objects).filter(({ kind }) => kind === "Namespace");
  return {
    apiVersions,
    namespaces: await cluster.existing(namespaces, signal),
    claims: await cluster.list<KubernetesObject>("persistentvolumeclaims"),
    kedaObjects: apiVersions.has(KEDA_API) ? await listKedaObjects(cluster, signal) : [],
  };
}

/**
 * @returns undefined when the pipeline's namespace does not exist
 * @throws OperatorError (exit 3) for a namespace that this project did not create
 */
export function planRemoval(
  { apiVersions, namespaces, claims, kedaObjects }: RemovalSnapshot,
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
  const names = namespaces.map(({ metadata }) => metadata.name);
  if (!names.includes(NAMESPACE)) return undefined;
  const objects = stages
    .flatMap((stage) => stage.objects)
    // An API that the server does not know has no objects, and kubectl fails on it.
    .filter(({ apiVersion }) => apiVersions.has(apiVersion))
    // The data needs the tokens and the cluster id in the Secrets.
    .filter(({ kind }) => !keepData || !RETAINED.has(kind))
    .reverse();
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
  const stages = await loadStages();
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
  await report.step("stop the pods", async (step) => await stopPods(cluster, plan, step, limits), {
    limitMs: DELETE_LIMIT_MS,
  });
  await report.step(
    `delete namespace ${plan.namespaces.join(", ")}`,
    async (step) => await deleteNamespaces(cluster, plan, step, signal),
    { limitMs: DELETE_LIMIT_MS },
  );
  await cluster.delete(
    plan.objects.filter(({ kind }) => CLUSTER_SCOPED.has(kind)),
    limits,
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
