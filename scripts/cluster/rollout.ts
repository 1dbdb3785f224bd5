/** Waits for applied workloads and jobs; the state of a wait names the pods that delay it. */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { type PollResult, waitFor } from "../cli/wait.ts";
import { type Cluster, type Condition, type KubernetesObject, NAMESPACE, type Pod, type Workload } from "./cluster.ts";
import { podLog, podState } from "./one-off-pods.ts";

/** The setup job retries for up to four minutes; the rest is for pods that start late. */
const JOB_LIMIT_MS = 330_000;

/** Types of the conditions of a job that has ended. */
const ENDED_JOB = new Set<string | undefined>(["Complete", "SuccessCriteriaMet", "Failed"]);

/** A pod that starts normally becomes ready, or is replaced by the controller, within this time. */
const BLOCKING_LIMIT_MS = 15_000;

interface Job extends KubernetesObject {
  status?: { succeeded?: number; conditions?: Condition[] };
}

/**
 * Pods of a StatefulSet that block their own replacement: not ready, and of an older template. The controller waits until
 * they are ready, which may never happen: they have to be deleted (kubernetes.io, StatefulSets, "Forced rollback").
 */
export function blockingPods(workload: Workload, pods: readonly Pod[]): string[] {
  const { updateRevision } = workload.status ?? {};
  if (workload.kind !== "StatefulSet" || !updateRevision) return [];
  return pods
    .filter((pod) => pod.metadata.labels?.["controller-revision-hash"] !== updateRevision)
    .filter((pod) => !pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True"))
    .map(({ metadata }) => metadata.name);
}

/** The reason why a workload is not rolled out; undefined when every replica is updated and ready. */
export function rolloutState(workload: Workload): string | undefined {
  const { status } = workload;
  const onNodes = workload.kind === "DaemonSet";
  const wanted = onNodes ? (status?.desiredNumberScheduled ?? 1) : (workload.spec.replicas ?? 1);
  if ((status?.observedGeneration ?? 0) < (workload.metadata.generation ?? 0))
    return "the controller has not observed the change";
  const updated = onNodes
    ? (status?.updatedNumberScheduled ?? 0)
    : workload.kind === "StatefulSet" && status?.currentRevision === status?.updateRevision
      ? (status?.replicas ?? 0)
      : (status?.updatedReplicas ?? 0);
  const ready = (onNodes ? status?.numberReady : status?.readyReplicas) ?? 0;
  if (updated < wanted) return `${updated} of ${wanted} updated, ${ready} ready`;
  if (ready < wanted) return `${ready} of ${wanted} ready`;
  if (workload.kind === "Deployment" && (status?.replicas ?? 0) > wanted) return "old replicas are still terminating";
  return undefined;
}

/** States of a workload's pods that are not ready, with the reason of a container that does not start. */
async function laggingPods(cluster: Cluster, name: string, namespace: string): Promise<string> {
  const pods = await cluster.pods(name, namespace);
  return pods
    .filter((pod) => !(pod.status.containerStatuses ?? []).some((container) => container.ready))
    .map((pod) => `${pod.metadata.name} ${podState(pod)}`)
    .join("; ");
}

/** Waits until a workload is rolled out. @throws OperatorError (exit 4) with the last state seen. */
export async function awaitRollout(
  cluster: Cluster,
  kind: "Deployment" | "StatefulSet" | "DaemonSet",
  name: string,
  options: { limitMs: number; signal: AbortSignal; onState?: (state: string) => void; namespace?: string },
): Promise<void> {
  const namespace = options.namespace ?? NAMESPACE;
  const blockingSince = new Map<string, number>();
  await waitFor<true>(
    async (): Promise<PollResult<true>> => {
      const workload = await cluster.get<Workload>(kind, name, namespace);
      if (!workload) return { done: false, state: "does not exist" };
      const state = rolloutState(workload);
      if (!state) return { done: true, value: true };
      for (const pod of blockingPods(workload, await cluster.pods(name, namespace))) {
        const since = blockingSince.get(pod) ?? performance.now();
        blockingSince.set(pod, since);
        if (performance.now() - since < BLOCKING_LIMIT_MS) continue;
        blockingSince.delete(pod);
        await cluster.kubectl(["delete", "pod", pod, "-n", namespace, "--ignore-not-found", "--wait=false"]);
        return { done: false, state: `${pod} was of an older template and not ready: deleted for replacement` };
      }
      const lagging = await laggingPods(cluster, name, namespace);
      return { done: false, state: lagging ? `${state} (${lagging})` : state };
    },
    {
      what: `${kind} ${name} to be ready`,
      ...options,
      hint: `kubectl --context ${cluster.context} -n ${namespace} describe pods -l app.kubernetes.io/name=${name}`,
    },
  );
}

/**
 * Runs a job to its end. An earlier run is deleted: a Job cannot be changed, and setup runs at each deploy, since rights
 * or topics may have been changed by hand.
 * @returns the log of the finished pod
 * @throws OperatorError with the last lines of its log
 */
export async function runJob(
  cluster: Cluster,
  job: KubernetesObject,
  options: { signal: AbortSignal; onState?: (state: string) => void },
): Promise<string> {
  const name = job.metadata.name;
  await cluster.kubectl(
    ["delete", "job", name, "-n", NAMESPACE, "--ignore-not-found", "--cascade=foreground", "--wait=true"],
    { signal: options.signal },
  );
  await cluster.apply([job], { signal: options.signal });
  const newest = async () =>
    (await cluster.list<Pod>("pods", `job-name=${name}`)).sort((a, b) =>
      (b.metadata.creationTimestamp ?? "").localeCompare(a.metadata.creationTimestamp ?? ""),
    )[0];
  const hint = `kubectl --context ${cluster.context} -n ${NAMESPACE} logs job/${name}`;
  await waitFor<true>(
    async (): Promise<PollResult<true>> => {
      const live = await cluster.get<Job>("job", name);
      const condition = live?.status?.conditions?.find(({ status }) => status === "True");
      if (ENDED_JOB.has(condition?.type)) return { done: true, value: true };
      return { done: false, state: podState(await newest()) };
    },
    { what: `job ${name} to finish`, limitMs: JOB_LIMIT_MS, ...options, hint },
  );
  const live = await cluster.get<Job>("job", name);
  const pod = await newest();
  const log = pod ? await podLog(cluster, pod.metadata.name, { lines: 200 }) : "";
  if (!live?.status?.succeeded) {
    throw new OperatorError(`job ${name} failed`, {
      exitCode: EXIT.failed,
      cause: new Error(log.split("\n").slice(-5).join("\n") || "no log"),
      hint,
    });
  }
  return log;
}
