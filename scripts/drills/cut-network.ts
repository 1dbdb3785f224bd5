/**
 * Fault: packets between two parts are dropped, in both directions, also those of open connections. There is no answer, not
 * even a refusal. The rules count the dropped packets: the count is the proof.
 */
import type { Pod } from "../cluster/cluster.ts";
import { BUDGET, type Drill, type DrillContext, defineDrill } from "./drill.ts";
import { provingLogLines } from "./log-lines.ts";
import { anyPod, getEvents, getLogs, getPods, leadingBroker } from "./targets.ts";

interface CutPods {
  /** The rules are in the networks of these pods. */
  pods: Pod[];
}

type Cut = Pick<
  Drill,
  "name" | "title" | "hypothesis" | "fault" | "budgetMs" | "budgetReason" | "runbook" | "recoversFrom" | "holdMs"
> & {
  workload: string;
  ports: number[];
  /** All pods of the workload when absent, also those that are added meanwhile. */
  choose?: (context: DrillContext) => Promise<Pod>;
};

const CLIENT_PORT = 9092;
const REPLICATION_PORT = 9091;
const CONTROLLER_PORT = 9093;
const INFLUXDB_PORT = 8086;
const LOKI_PORT = 3100;
const VICTORIA_LOGS_PORT = 9428;

const cut = ({ workload, ports, choose, ...drill }: Cut): Drill =>
  defineDrill<CutPods>({
    ...drill,
    workloads: [workload],
    commands: [getPods(workload), getLogs(workload), getEvents()],
    async obstacle({ cluster, agents }) {
      return await agents.obstacle(await anyPod(cluster, workload), true);
    },
    async prepare(context) {
      if (choose) return { pods: [await choose(context)] };
      // A pod that an autoscaler removes has no network to cut.
      const pods = await context.cluster.pods(workload);
      return { pods: pods.filter(({ metadata }) => !metadata.deletionTimestamp) };
    },
    async inject({ agents }, { pods }) {
      for (const pod of pods) await agents.request(pod, { op: "cut", ports });
    },
    async proveEffect({ agents }, { pods }) {
      const dropped = await Promise.all(
        pods.map(
          async (pod) => [pod.metadata.name, (await agents.request(pod, { op: "counters" })).dropped ?? 0] as const,
        ),
      );
      if (dropped.some(([, count]) => count === 0)) return undefined;
      return {
        proof: dropped.map(([name, count]) => `${count} packets of ${name} dropped (ports ${ports})`).join("; "),
      };
    },
    async violations({ cluster, agents }, { pods }) {
      if (choose) return [];
      // An autoscaler may add pods meanwhile: the cut is between the workloads.
      for (const pod of await cluster.pods(workload)) {
        if (pods.some(({ metadata }) => metadata.uid === pod.metadata.uid)) continue;
        if (!pod.status.containerStatuses?.[0]?.state.running) continue;
        await agents.request(pod, { op: "cut", ports });
        pods.push(pod);
      }
      return [];
    },
    async heal({ cluster, agents }, { pods }) {
      for (const pod of pods) {
        const live = await cluster.get<Pod>("pod", pod.metadata.name);
        // The rules were deleted with the network of their pod.
        if (live?.metadata.uid !== pod.metadata.uid || !live?.status.containerStatuses?.[0]?.state.running) continue;
        await agents.request(live, { op: "uncut" });
      }
    },
  });

const cutOfLogStore = (workload: string, title: string, port: number): Drill =>
  provingLogLines(
    cut({
      name: `cut-${workload}`,
      title: `The network between ${title} and the log collector is cut`,
      hypothesis:
        "Events continue to flow; the collector keeps the lines and delivers them when the network is back: none is lost.",
      fault: `every packet to and from port ${port} of ${title} is dropped for 10 s`,
      workload,
      ports: [port],
      recoversFrom: "healed",
      holdMs: 10_000,
      runbook: "LogDeliveryMissing",
      budgetMs: 30_000,
      budgetReason: "no event depends on it; the collector tries again after 10 s at most",
    }),
  );

export const cutDrills: readonly Drill[] = [
  cut({
    name: "cut-processor-influxdb",
    title: "The network between the processor and InfluxDB is cut",
    hypothesis:
      "Writes are not answered; the processor retries the same points, stays in the group, and catches up afterwards.",
    fault: "every packet between the processor's pods and port 8086 is dropped for 10 s",
    workload: "processor",
    ports: [INFLUXDB_PORT],
    recoversFrom: "healed",
    holdMs: 10_000,
    runbook: "InfluxDBWritesBlocked",
    ...BUDGET.processor,
  }),
  cut({
    name: "cut-processor-kafka",
    title: "The network between the processor and Kafka is cut",
    hypothesis:
      "The group removes the processor; uncommitted events are read again, and the processor joins again afterwards.",
    fault: "every packet between the processor's pods and port 9092 is dropped for 10 s",
    workload: "processor",
    ports: [CLIENT_PORT],
    recoversFrom: "healed",
    holdMs: 10_000,
    runbook: "ConsumerGroupDead",
    ...BUDGET.processor,
  }),
  cut({
    name: "cut-broker",
    title: "The broker that leads most partitions is cut off from the other brokers",
    hypothesis:
      "Clients still reach it, but alone it cannot acknowledge: it is fenced, others lead, and records that only it holds are discarded.",
    fault: "every packet between one broker and ports 9091 and 9093 is dropped, while clients still reach it",
    workload: "kafka",
    ports: [REPLICATION_PORT, CONTROLLER_PORT],
    choose: async (context) => (await leadingBroker(context)).pod,
    recoversFrom: "effect",
    holdMs: 0,
    runbook: "KafkaUnderMinIsrPartitions",
    ...BUDGET.broker,
  }),
  cutOfLogStore("loki", "Loki", LOKI_PORT),
  cutOfLogStore("victorialogs", "VictoriaLogs", VICTORIA_LOGS_PORT),
];
