/**
 * Fault: SIGSTOP. The process answers nothing, yet it exists, its port is open and the kernel accepts connections for it:
 * only missing answers show the failure.
 */
import type { Pod } from "../cluster/cluster.ts";
import { type ProcessTier, processDrill, targetPod } from "./container-process.ts";
import { BUDGET, type Drill, defineDrill } from "./drill.ts";
import { AgentError } from "./fault-agents.ts";
import { leadingBroker } from "./targets.ts";

interface FrozenPod {
  pod: Pod;
}

const freeze = (tier: ProcessTier): Drill =>
  defineDrill<FrozenPod>({
    ...processDrill(tier),
    fault: `SIGSTOP to the process in a pod of ${tier.workload}, from its node`,
    async prepare(context) {
      return { pod: await targetPod(context, tier) };
    },
    async inject({ agents }, { pod }) {
      await agents.request(pod, { op: "signal", signal: "SIGSTOP" });
    },
    async proveEffect({ agents }, { pod }) {
      const { state, pid } = await agents.request(pod, { op: "state" });
      return state === "T" ? { proof: `process ${pid} of ${pod.metadata.name} is in state T (stopped)` } : undefined;
    },
    async heal({ cluster, agents }, { pod }) {
      // After a restart the frozen process no longer exists.
      const live = await cluster.get<Pod>("pod", pod.metadata.name);
      const isSame =
        live?.status.containerStatuses?.[0]?.containerID === pod.status.containerStatuses?.[0]?.containerID;
      if (!isSame) return;
      try {
        const { state } = await agents.request(pod, { op: "state" });
        if (state === "T") await agents.request(pod, { op: "signal", signal: "SIGCONT" });
      } catch (error) {
        // The kubelet may end it at this moment; any other error is a failure to heal.
        if (!(error instanceof AgentError) || error.code !== "no_process") throw error;
      }
    },
  });

export const freezeDrills: readonly Drill[] = [
  freeze({
    name: "freeze-producer",
    title: "The producer is frozen",
    hypothesis: "Its liveness probe fails and it is restarted; senders repeat unanswered requests.",
    workload: "producer",
    runbook: "ProducerSilent",
    ...BUDGET.producer,
  }),
  freeze({
    name: "freeze-kafka",
    title: "The broker that leads most partitions is frozen",
    hypothesis:
      "It is fenced when its heartbeats stop; when it continues as a stale leader, its requests are rejected.",
    workload: "kafka",
    runbook: "KafkaUnderReplicatedPartitions",
    choose: async (context) => (await leadingBroker(context)).pod,
    ...BUDGET.broker,
  }),
  freeze({
    name: "freeze-processor",
    title: "A processor is frozen",
    hypothesis: "It is removed from the group and restarted, and another processor reads its batch again.",
    workload: "processor",
    runbook: "ConsumerGroupDead",
    ...BUDGET.processor,
  }),
  freeze({
    name: "freeze-influxdb",
    title: "InfluxDB is frozen",
    hypothesis: "Writes are not answered, the processor keeps its offsets, and the liveness probe restarts InfluxDB.",
    workload: "influxdb",
    runbook: "InfluxDBWritesBlocked",
    ...BUDGET.influxdb,
  }),
];
