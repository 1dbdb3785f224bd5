/**
 * KEDA's state on a cluster, and the deletion of the pipeline's KEDA objects: KEDA sets a finalizer on each of them, so
 * where KEDA is not installed they would never be deleted.
 */
import { OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";

/** Group and version of ScaledObjects. */
export const KEDA_API = "keda.sh/v1alpha1";

/** Resources of the kinds that deploy applies; a ScaledObject first, since it refers to the other. */
const RESOURCES = {
  ScaledObject: "scaledobjects.keda.sh",
  TriggerAuthentication: "triggerauthentications.keda.sh",
} as const;

/** KEDA removes its finalizers within a second; after this time they are removed by deploy. */
const FINALIZER_LIMIT_MS = 20_000;

/** The APIService through which autoscalers read the metrics of a ScaledObject; KEDA serves it. */
const METRICS_API = "v1beta1.external.metrics.k8s.io";
const OPERATOR = "keda-operator";
/** KEDA's pods restart within seconds; at their first start their images are pulled too. */
const START_LIMIT_MS = 90_000;

/**
 * absent: the API server does not know KEDA's kinds. uninstalling: the kinds are being deleted and nothing works on them.
 * idle: the kinds exist and KEDA does not work.
 */
export type KedaState = { status: "absent" | "uninstalling" | "working" } | { status: "idle"; problem: string };

type ApiService = KubernetesObject & {
  spec: { service?: { name: string; namespace: string } | null };
  status?: { conditions?: { type: string; status: string; reason?: string; message?: string }[] };
};
type Operator = KubernetesObject & { spec: { replicas?: number }; status?: { availableReplicas?: number } };

/** Why KEDA does not work, and whether that can pass without intervention: a pod that is starting. */
interface KedaProblem {
  problem: string;
  mayPass: boolean;
}

/**
 * Whether KEDA works, by its APIService and its operator. Its kinds alone prove nothing: they outlive KEDA.
 * @param api the APIService for external metrics; undefined where there is none
 * @param operator the operator's Deployment in the namespace of that APIService's service
 */
function kedaProblem(api: ApiService | undefined, operator: Operator | undefined): KedaProblem | undefined {
  const service = api?.spec.service;
  if (!service) return { problem: `there is no APIService ${METRICS_API}`, mayPass: false };
  if (!operator) {
    return { problem: `there is no Deployment ${OPERATOR} in namespace ${service.namespace}`, mayPass: false };
  }
  if (operator.spec.replicas === 0) {
    return { problem: `Deployment ${OPERATOR} (${service.namespace}) is scaled to 0`, mayPass: false };
  }
  if ((operator.status?.availableReplicas ?? 0) < 1) {
    return { problem: `Deployment ${OPERATOR} (${service.namespace}) has no available pod`, mayPass: true };
  }
  const available = api.status?.conditions?.find(({ type }) => type === "Available");
  if (available?.status === "True") return undefined;
  const detail = [available?.reason, available?.message].filter(Boolean).join(": ");
  return { problem: `APIService ${METRICS_API} is not available (${detail || "no reason reported"})`, mayPass: true };
}

/** An object, undefined where it does not exist, or "unknown" where this account may not read it. */
async function readIfAllowed<T extends KubernetesObject>(
  cluster: Cluster,
  args: readonly string[],
  signal: AbortSignal,
): Promise<T | undefined | "unknown"> {
  const { stdout, exitCode } = await cluster.kubectl(["get", ...args, "--ignore-not-found", "-o", "json"], {
    signal,
    allowFailure: true,
  });
  if (exitCode !== 0) return "unknown";
  return stdout.trim() === "" ? undefined : (JSON.parse(stdout) as T);
}

async function readProblem(cluster: Cluster, signal: AbortSignal): Promise<KedaProblem | undefined> {
  const api = await readIfAllowed<ApiService>(cluster, ["apiservice", METRICS_API], signal);
  // Without the right to read it KEDA counts as working; validate checks the autoscalers themselves.
  if (api === "unknown") return undefined;
  const namespace = api?.spec.service?.namespace;
  const operator = namespace
    ? await readIfAllowed<Operator>(cluster, ["deployment", OPERATOR, "-n", namespace], signal)
    : undefined;
  return operator === "unknown" ? undefined : kedaProblem(api, operator);
}

export interface KedaWait {
  /** How long a problem that may pass is awaited; 0 reads the state once. */
  limitMs?: number;
  /** Called once with the problem that is awaited. */
  onWait?: (problem: string) => void;
}

/** KEDA's state. A pod that is starting is awaited, so that a restart of KEDA does not replace the autoscaler. */
export async function readKedaState(
  cluster: Cluster,
  apiVersions: ReadonlySet<string>,
  signal: AbortSignal,
  { limitMs = START_LIMIT_MS, onWait }: KedaWait = {},
): Promise<KedaState> {
  if (!apiVersions.has(KEDA_API)) return { status: "absent" };
  const kind = await readIfAllowed<KubernetesObject>(cluster, ["crd", RESOURCES.ScaledObject], signal);
  if (kind !== "unknown" && kind?.metadata.deletionTimestamp) return { status: "uninstalling" };
  let seen = await readProblem(cluster, signal);
  if (seen?.mayPass && limitMs > 0) {
    onWait?.(seen.problem);
    const poll = async () => {
      seen = await readProblem(cluster, signal);
      return seen?.mayPass ? { done: false as const, state: seen.problem } : { done: true as const, value: undefined };
    };
    await waitFor(poll, { what: "KEDA to work", limitMs, intervalMs: 1000, signal }).catch((error: unknown) => {
      if (signal.aborted) throw error;
    });
  }
  return seen ? { status: "idle", problem: seen.problem } : { status: "working" };
}

/** The KEDA objects of the pipeline's namespace. */
export async function listKedaObjects(cluster: Cluster, signal: AbortSignal): Promise<KubernetesObject[]> {
  const lists = await Promise.all(
    Object.entries(RESOURCES).map(async ([kind, resource]) => {
      // A kind that was deleted meanwhile has no objects.
      const items = await cluster.listIfServed(resource, NAMESPACE, signal);
      return items.map((object) => ({ ...object, apiVersion: KEDA_API, kind }));
    }),
  );
  return lists.flat();
}

/**
 * Deletes KEDA objects of the pipeline's namespace, and removes the finalizers that KEDA does not remove in time.
 * @param limitMs how long KEDA may take for each kind
 * @returns the objects whose finalizers were removed here
 * @throws OperatorError when an object remains
 */
export async function deleteKedaObjects(
  cluster: Cluster,
  objects: readonly KubernetesObject[],
  signal: AbortSignal,
  limitMs = FINALIZER_LIMIT_MS,
): Promise<string[]> {
  const forced: string[] = [];
  for (const [kind, resource] of Object.entries(RESOURCES)) {
    const names = objects.filter((object) => object.kind === kind).map(({ metadata }) => metadata.name);
    if (names.length === 0) continue;
    const remaining = async () =>
      (await listKedaObjects(cluster, signal))
        .filter((object) => object.kind === kind && names.includes(object.metadata.name))
        .map(({ metadata }) => metadata.name);
    // Either call may fail because KEDA was faster; what counts is what remains at the end.
    const options = { signal, allowFailure: true };
    await cluster.kubectl(["delete", resource, ...names, "-n", NAMESPACE, "--wait=false"], options);
    const stuck = await waitFor<string[]>(
      async () => {
        const left = await remaining();
        return left.length === 0
          ? { done: true, value: [] }
          : { done: false, state: `KEDA's finalizer is on ${left.join(", ")}` };
      },
      { what: `the deletion of ${resource}`, limitMs, intervalMs: 300, signal },
    ).catch(async (error: unknown) => {
      if (signal.aborted) throw error;
      return await remaining();
    });
    for (const name of stuck) {
      const patch = '{"metadata":{"finalizers":null}}';
      await cluster.kubectl(["patch", resource, name, "-n", NAMESPACE, "--type=merge", "-p", patch], options);
      forced.push(`${resource.split(".")[0]}/${name}`);
    }
    const left = await remaining();
    if (left.length > 0) {
      throw new OperatorError(`${resource}: ${left.join(", ")} cannot be deleted`, {
        hint: `kubectl -n ${NAMESPACE} get ${resource} -o yaml   (metadata.finalizers names what blocks the deletion)`,
      });
    }
  }
  return forced;
}
