/**
 * KEDA's own side of the pipeline's objects: it holds on to each of them until it has done its part, so where KEDA itself
 * is gone, or goes first, nobody lets go of them.
 */

import { OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";

/** Group and version of ScaledObjects; on a cluster without it there is no KEDA. */
export const KEDA_API = "keda.sh/v1alpha1";

/** What deploy makes of KEDA's kinds; a ScaledObject first, since it uses the other. */
const KINDS = ["scaledobjects.keda.sh", "triggerauthentications.keda.sh"] as const;

/**
 * KEDA gives its objects free within a second. Where KEDA is gone or broken nobody does; then they are freed by hand, or
 * neither their namespace nor their kinds would ever go.
 */
const RELEASE_LIMIT_MS = 20_000;

/**
 * True while KEDA's kinds are being deleted, as `kubectl delete -f` of its release does together with everything that
 * would let them go: the API server still lists them, and nothing works on them.
 */
export async function isKedaLeaving(cluster: Cluster, signal: AbortSignal): Promise<boolean> {
  const args = ["get", "crd", KINDS[0], "--ignore-not-found", "-o", "jsonpath={.metadata.deletionTimestamp}"];
  // Who may not look at definitions is told nothing; what does not work is seen by validate.
  const { stdout, exitCode } = await cluster.kubectl(args, { signal, allowFailure: true });
  return exitCode === 0 && stdout.trim() !== "";
}

/** What the autoscaler asks for the numbers of a ScaledObject; the API server hands the question on to KEDA. */
const METRICS_API = "v1beta1.external.metrics.k8s.io";
const OPERATOR = "keda-operator";
/** KEDA's pods restart within seconds; where they are on their way for the first time, their images are pulled too. */
const START_LIMIT_MS = 90_000;

type ApiService = KubernetesObject & {
  spec: { service?: { name: string; namespace: string } | null };
  status?: { conditions?: { type: string; status: string; reason?: string; message?: string }[] };
};
type Operator = KubernetesObject & { spec: { replicas?: number }; status?: { availableReplicas?: number } };

/** What keeps KEDA from working, for a person, and whether it may pass by itself: a pod that is starting. */
export interface KedaProblem {
  problem: string;
  mayPass: boolean;
}

/**
 * Whether KEDA works, by what the API server says of it; its kinds alone prove nothing, they stay when KEDA is gone.
 * @param api the APIService for external metrics; undefined where there is none
 * @param operator the operator's Deployment in the namespace of that APIService's service
 */
export function kedaProblem(api: ApiService | undefined, operator: Operator | undefined): KedaProblem | undefined {
  const service = api?.spec.service;
  if (!service) return { problem: `there is no APIService ${METRICS_API}`, mayPass: false };
  if (!operator) {
    return { problem: `there is no Deployment ${OPERATOR} in namespace ${service.namespace}`, mayPass: false };
  }
  if (operator.spec.replicas === 0) {
    return { problem: `Deployment ${OPERATOR} (${service.namespace}) is scaled to 0`, mayPass: false };
  }
  if ((operator.status?.availableReplicas ?? 0) < 1) {
    return { problem: `Deployment ${OPERATOR} (${service.namespace}) has no pod that is available`, mayPass: true };
  }
  const available = api.status?.conditions?.find(({ type }) => type === "Available");
  if (available?.status === "True") return undefined;
  const words = [available?.reason, available?.message].filter(Boolean).join(": ");
  return { problem: `APIService ${METRICS_API} is not available (${words || "says nothing"})`, mayPass: true };
}

/** An object, undefined where it is not there, or "unknown" where this account may not look. */
async function look<T extends KubernetesObject>(
  cluster: Cluster,
  args: readonly string[],
  signal: AbortSignal,
): Promise<T | undefined | "unknown"> {
  const asked = ["get", ...args, "--ignore-not-found", "-o", "json"];
  const { stdout, exitCode } = await cluster.kubectl(asked, { signal, allowFailure: true });
  if (exitCode !== 0) return "unknown";
  return stdout.trim() === "" ? undefined : (JSON.parse(stdout) as T);
}

async function presentProblem(cluster: Cluster, signal: AbortSignal): Promise<KedaProblem | undefined> {
  const api = await look<ApiService>(cluster, ["apiservice", METRICS_API], signal);
  // Who may not look is told nothing, as above.
  if (api === "unknown") return undefined;
  const namespace = api?.spec.service?.namespace;
  const operator = namespace
    ? await look<Operator>(cluster, ["deployment", OPERATOR, "-n", namespace], signal)
    : undefined;
  return operator === "unknown" ? undefined : kedaProblem(api, operator);
}

/**
 * Why KEDA, whose kinds are there, does not work; undefined when it does. What may pass is waited for: a pod that is
 * starting must not cost the pipeline its autoscaler.
 * @param limitMs how long that may take at most; 0 looks once
 * @param onWait told once what is waited for
 */
export async function whyKedaIsIdle(
  cluster: Cluster,
  signal: AbortSignal,
  limitMs = START_LIMIT_MS,
  onWait: (problem: string) => void = () => {},
): Promise<string | undefined> {
  let seen = await presentProblem(cluster, signal);
  if (seen?.mayPass && limitMs > 0) {
    onWait(seen.problem);
    const again = async () => {
      seen = await presentProblem(cluster, signal);
      return seen?.mayPass ? { done: false as const, state: seen.problem } : { done: true as const, value: undefined };
    };
    await waitFor(again, { what: "KEDA to work", limitMs, intervalMs: 1000, signal }).catch((error: unknown) => {
      if (signal.aborted) throw error;
    });
  }
  return seen?.problem;
}

/** kubectl's words for a kind that went meanwhile, and with it all of its objects. */
const KIND_IS_GONE = /doesn't have a resource type|could not find the requested resource/;

/** Names of the pipeline's objects of one of KEDA's kinds. */
async function namesOf(cluster: Cluster, kind: string, signal: AbortSignal): Promise<string[]> {
  const { stdout, stderr, exitCode } = await cluster.kubectl(["get", kind, "-n", NAMESPACE, "-o", "json"], {
    signal,
    allowFailure: true,
  });
  if (exitCode === 0) {
    return (JSON.parse(stdout) as { items: KubernetesObject[] }).items.map(({ metadata }) => metadata.name);
  }
  if (KIND_IS_GONE.test(stderr)) return [];
  throw new OperatorError(`${kind} cannot be listed: ${stderr.trim()}`);
}

/**
 * Deletes the pipeline's objects of KEDA's kinds; while KEDA is there it lets them go.
 * @param limitMs how long KEDA is given
 * @returns those that it did not let go in time, and that were freed by hand
 * @throws OperatorError when one stays all the same
 */
export async function deleteKedaObjects(
  cluster: Cluster,
  signal: AbortSignal,
  limitMs = RELEASE_LIMIT_MS,
): Promise<string[]> {
  const freed: string[] = [];
  for (const kind of KINDS) {
    const list = () => namesOf(cluster, kind, signal);
    if ((await list()).length === 0) continue;
    // Both may fail because KEDA was quicker; what counts is what is left at the end.
    const tried = { signal, allowFailure: true };
    await cluster.kubectl(["delete", kind, "--all", "-n", NAMESPACE, "--wait=false"], tried);
    const stuck = await waitFor<string[]>(
      async () => {
        const left = await list();
        return left.length === 0
          ? { done: true, value: [] }
          : { done: false, state: `KEDA has not let go of ${left.join(", ")}` };
      },
      { what: `${kind} to be gone`, limitMs, intervalMs: 300, signal },
    ).catch(async (error: unknown) => {
      if (signal.aborted) throw error;
      return await list();
    });
    for (const name of stuck) {
      const patch = '{"metadata":{"finalizers":null}}';
      await cluster.kubectl(["patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", patch], tried);
      freed.push(`${kind.split(".")[0]}/${name}`);
    }
    const left = await list();
    if (left.length > 0) {
      throw new OperatorError(`${kind}: ${left.join(", ")} cannot be deleted`, {
        hint: `kubectl -n ${NAMESPACE} get ${kind} -o yaml   (metadata.finalizers says who holds on to it)`,
      });
    }
  }
  return freed;
}
