/**
 * Fault: SIGSTOP. The process answers nothing, yet it runs, its port is open and the kernel takes connections for it: what
 * only looks alive must be found out by its silence.
 */
import type { Pod } from "../cluster/cluster.ts";
import { ofProcess, type ProcessTier, podToHit } from "./container-process.ts";
import { BUDGET, type Drill, defineDrill } from "./drill.ts";
import { leadingBroker } from "./targets.ts";

interface FrozenPod {
  pod: Pod;
}

const freeze = (tier: ProcessTier): Drill =>
  defineDrill<FrozenPod>({
    ...ofProcess(tier),
    fault: `SIGSTOP to the process in a pod of ${tier.workload}, from its node`,
    async prepare(context) {
      return { pod: await podToHit(context, tier) };
    },
    async inject({ agents }, { pod }) {
      await agents.ask(pod, { op: "signal", signal: "SIGSTOP" });
    },
    async proveEffect({ agents }, { pod }) {
      const { state, pid } = await agents.ask(pod, { op: "state" });
      return state === "T" ? { proof: `process ${pid} of ${pod.metadata.name} is in state T (stopped)` } : undefined;
    },
    async heal({ cluster, agents }, { pod }) {
      // Restarted meanwhile: the process that was frozen is gone.
      const live = await cluster.get<Pod>("pod", pod.metadata.name);
      const isSame =
        live?.status.containerStatuses?.[0]?.containerID === pod.status.containerStatuses?.[0]?.containerID;
      if (!isSame) return;
      try {
        const { state } = await agents.ask(pod, { op: "state" });
        if (state === "T") await agents.ask(pod, { op: "signal", signal: "SIGCONT" });
      } catch (error) {
        // It may be ended by the kubelet in this very moment; anything else is a failure to heal.
        if (!String(error).includes("no process of this container")) throw error;
      }
    },
  });

export const freezeDrills: readonly Drill[] = [
  freeze({
    name: "freeze-producer",
    title: "The producer is frozen",
    hypothesis: "Its liveness probe goes unanswered and it is restarted; senders send again what it never answered.",
    workload: "producer",
    runbook: "ProducerSilent",
    ...BUDGET.producer,
  }),
  freeze({
    name: "freeze-kafka",
    title: "The broker that leads most partitions is frozen",
    hypothesis:
      "It is fenced when its heartbeats stop; when it wakes up, still a leader in its own eyes, nobody believes it.",
    workload: "kafka",
    runbook: "KafkaUnderReplicatedPartitions",
    choose: async (context) => (await leadingBroker(context)).pod,
    ...BUDGET.broker,
  }),
  freeze({
    name: "freeze-processor",
    title: "A processor is frozen",
    hypothesis: "It loses its place in the group, is restarted, and its successor reads its batch again.",
    workload: "processor",
    runbook: "ConsumerGroupDead",
    ...BUDGET.processor,
  }),
  freeze({
    name: "freeze-influxdb",
    title: "InfluxDB is frozen",
    hypothesis: "Writes go unanswered, the processor holds its place, the liveness probe restarts it.",
    workload: "influxdb",
    runbook: "InfluxDBWritesBlocked",
    ...BUDGET.influxdb,
  }),
];
