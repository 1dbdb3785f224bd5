/** Targets of drills: pods of a workload, the leading broker, the active controller; and commands that show them. */

import { EVENTS_TOPIC } from "../../services/domain/kafka-layout.ts";
import { OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { getVerified, parseMetrics } from "../clients/pod-metrics.ts";
import { KAFKA, readBy } from "../clients/probe-session.ts";
import { type Cluster, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import type { DrillContext } from "./drill.ts";

const METRICS_PORT = 9404;
const READY_LIMIT_MS = 120_000;
/**
 * The kubelet restarts a container at once the first time, and after 10 s, 20 s, … when it ended again; it forgets after
 * ten minutes of running (kubernetes.io, "Pod lifecycle", restart policy).
 */
const BACK_OFF_FORGOTTEN_MS = 10 * 60_000;

export const isReady = (pod: Pod): boolean =>
  pod.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;

/** One pod of a workload that is Ready. @throws OperatorError when there is none. */
export async function anyPod(cluster: Cluster, workload: string): Promise<Pod> {
  const pod = (await cluster.pods(workload)).find(isReady);
  if (!pod) throw new OperatorError(`no pod of ${workload} is Ready`);
  return pod;
}

/** Leaders of the events' partitions: broker → partitions. */
async function leaders(context: DrillContext): Promise<Map<number, number[]>> {
  const { result } = await context.probe({
    result: { kind: "kafka", op: "describe_topics", ...KAFKA, topics: [EVENTS_TOPIC] },
  });
  const byBroker = new Map<number, number[]>();
  for (const { partition, leader } of readBy(result, "the leaders")[0]?.partitions ?? []) {
    byBroker.set(leader, [...(byBroker.get(leader) ?? []), partition]);
  }
  return byBroker;
}

export async function leadingBroker(context: DrillContext): Promise<{ pod: Pod; partitions: number[] }> {
  const byBroker = [...(await leaders(context))].sort(([, a], [, b]) => b.length - a.length);
  const [broker, partitions] = byBroker[0] ?? [];
  const pod = (await context.cluster.pods("kafka")).find(({ metadata }) => metadata.name === `kafka-${broker}`);
  if (!pod || !partitions) throw new OperatorError("no broker leads a partition of the events");
  return { pod, partitions };
}

/** The active controller, by the metrics of the brokers. @throws OperatorError without one. */
export async function activeController(cluster: Cluster): Promise<Pod> {
  const ca = (await readSecret(cluster, "kafka-tls"))["ca.crt"] ?? "";
  for (const pod of (await cluster.pods("kafka")).filter(isReady)) {
    const { name } = pod.metadata;
    const forward = await cluster.portForward(`pod/${name}`, METRICS_PORT, NAMESPACE);
    try {
      const host = `${name}.kafka-headless.${NAMESPACE}.svc`;
      const { body } = await getVerified(forward.port, "/metrics", ca, host);
      if (parseMetrics(body).some((sample) => /activecontrollercount$/i.test(sample.name) && sample.value === 1))
        return pod;
    } finally {
      await forward.close();
    }
  }
  throw new OperatorError("no broker reports that it is the active controller");
}

/**
 * A pod whose container was not restarted recently: the kubelet's back-off from an earlier drill would be measured
 * instead. A restarted pod is replaced and the new one awaited.
 */
export async function freshPod(context: DrillContext, pod: Pod): Promise<Pod> {
  const { cluster } = context;
  const status = pod.status.containerStatuses?.[0];
  const started = (status?.state.running as { startedAt?: string } | undefined)?.startedAt;
  if (!status?.restartCount || Date.now() - Date.parse(started ?? "") > BACK_OFF_FORGOTTEN_MS) return pod;
  const { name } = pod.metadata;
  const workload = pod.metadata.labels?.["app.kubernetes.io/name"] ?? "";
  context.note(`pod/${name}`, "was restarted recently: replaced first, so that no back-off is measured");
  await cluster.kubectl(["delete", "pod", name, "-n", NAMESPACE, "--wait=true"], {
    timeoutMs: READY_LIMIT_MS,
    signal: context.signal,
  });
  return await waitFor(
    async () => {
      const pods = await cluster.pods(workload);
      const sameName = pods.find((candidate) => candidate.metadata.name === name);
      const renewed = sameName ?? pods.find((candidate) => candidate.status.containerStatuses?.[0]?.restartCount === 0);
      return renewed && isReady(renewed)
        ? { done: true, value: renewed }
        : { done: false, state: pods.map((candidate) => candidate.metadata.name).join(", ") };
    },
    { what: `${workload} to be Ready again`, limitMs: READY_LIMIT_MS, signal: context.signal },
  );
}

export const getPods = (workload: string) =>
  `get pods -n ${NAMESPACE} -l app.kubernetes.io/name=${workload} -o wide`.split(" ");

export const getEvents = () => [
  ...`get events -n ${NAMESPACE} --field-selector involvedObject.kind=Pod --sort-by=.lastTimestamp`.split(" "),
  "--no-headers",
  "--output=custom-columns=TIME:.lastTimestamp,OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message",
];

export const getLogs = (workload: string) =>
  `logs -n ${NAMESPACE} -l app.kubernetes.io/name=${workload} --prefix --tail=5 --ignore-errors`.split(" ");
