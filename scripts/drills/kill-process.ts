/** Fault: kill -9 of the process inside a pod. It flushes nothing and closes nothing; the kubelet restarts the container. */
import type { Pod } from "../cluster/cluster.ts";
import { type ProcessTier, processDrill, targetPod } from "./container-process.ts";
import { BUDGET, type Drill, defineDrill } from "./drill.ts";
import { activeController, leadingBroker } from "./targets.ts";

interface KilledProcess {
  pod: Pod;
  /** On its node. */
  pid: number;
  killedAtMs: number;
}

const kill = (tier: ProcessTier): Drill =>
  defineDrill<KilledProcess>({
    ...processDrill(tier),
    fault: `kill -9 of the process in a pod of ${tier.workload}, from its node`,
    async prepare(context) {
      const pod = await targetPod(context, tier);
      const { pid } = await context.agents.request(pod, { op: "state" });
      return { pod, pid: pid!, killedAtMs: 0 };
    },
    async inject({ agents }, target) {
      await agents.request(target.pod, { op: "signal", signal: "SIGKILL" });
      target.killedAtMs = Date.now();
    },
    async proveEffect({ cluster }, { pod, pid, killedAtMs }) {
      const live = await cluster.get<Pod>("pod", pod.metadata.name);
      const [before, now] = [pod.status.containerStatuses?.[0], live?.status.containerStatuses?.[0]];
      const ended =
        now?.state.terminated ?? (now?.containerID !== before?.containerID ? now?.lastState?.terminated : undefined);
      if (ended?.exitCode !== 137) return undefined;
      return {
        proof: `process ${pid} of ${pod.metadata.name} ended with 137 (SIGKILL); restarts ${now?.restartCount}`,
        timeMs: killedAtMs,
      };
    },
    async verify({ cluster }, { pod }) {
      const live = await cluster.get<Pod>("pod", pod.metadata.name);
      const restarts = live?.status.containerStatuses?.[0]?.restartCount ?? 0;
      const before = pod.status.containerStatuses?.[0]?.restartCount ?? 0;
      return live?.metadata.uid === pod.metadata.uid && restarts <= before ? ["the container was not restarted"] : [];
    },
    // The kubelet restarts it; the runner waits until it is Ready.
    heal: async () => {},
  });

export const killDrills: readonly Drill[] = [
  kill({
    name: "kill-producer",
    title: "kill -9 of the producer",
    hypothesis: "Senders repeat the events that it had not acknowledged; no acknowledged event was only in its memory.",
    workload: "producer",
    runbook: "ProducerSilent",
    ...BUDGET.producer,
  }),
  kill({
    name: "kill-kafka",
    title: "kill -9 of the broker that leads most partitions",
    hypothesis: "Replicas with every acknowledged event become leaders; writes continue with two replicas.",
    workload: "kafka",
    runbook: "KafkaUnderReplicatedPartitions",
    choose: async (context) => (await leadingBroker(context)).pod,
    ...BUDGET.broker,
  }),
  kill({
    name: "kill-kafka-controller",
    title: "kill -9 of the active controller",
    hypothesis: "The other two voters elect a new controller before one is needed.",
    workload: "kafka",
    runbook: "KafkaNoActiveController",
    choose: async ({ cluster }) => await activeController(cluster),
    ...BUDGET.broker,
  }),
  kill({
    name: "kill-processor",
    title: "kill -9 of a processor",
    hypothesis: "Its batch was not committed, so another processor reads it again and writes the same points.",
    workload: "processor",
    runbook: "ConsumerGroupDead",
    ...BUDGET.processor,
  }),
  kill({
    name: "kill-influxdb",
    title: "kill -9 of InfluxDB",
    hypothesis: "Writes answered with 204 are in its write-ahead log; the others are repeated.",
    workload: "influxdb",
    runbook: "InfluxDBWritesBlocked",
    ...BUDGET.influxdb,
  }),
];
