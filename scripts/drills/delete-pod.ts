/** Fault: a pod is deleted, as by an operator, a drain or an eviction. One drill per workload. */
import { NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { BUDGET, type Drill, type DrillContext, defineDrill } from "./drill.ts";
import { provingLogLines } from "./log-lines.ts";
import { activeController, anyPod, getEvents, getPods, leadingBroker } from "./targets.ts";

interface DeletedPod {
  pod: Pod;
  /** Why this pod was chosen. */
  why: string;
  /** When the API server had accepted the deletion. */
  deletedAtMs?: number;
}

type Tier = Pick<
  Drill<DeletedPod>,
  "name" | "title" | "hypothesis" | "budgetMs" | "budgetReason" | "awaitReady" | "runbook" | "verify"
> & {
  workload: string;
  choose?: (context: DrillContext) => Promise<DeletedPod>;
};

const deletion = ({ workload, choose, ...tier }: Tier): Drill =>
  defineDrill<DeletedPod>({
    ...tier,
    fault: `kubectl delete pod, one of ${workload}`,
    recoversFrom: "effect",
    holdMs: 0,
    workloads: [workload],
    commands: [getPods(workload), getEvents()],
    async prepare(context) {
      return (await choose?.(context)) ?? { pod: await anyPod(context.cluster, workload), why: `a pod of ${workload}` };
    },
    async inject({ cluster }, target) {
      await cluster.kubectl(["delete", "pod", target.pod.metadata.name, "-n", NAMESPACE, "--wait=false"]);
      target.deletedAtMs = Date.now();
    },
    async proveEffect({ cluster }, { pod, why, deletedAtMs }) {
      const { name, uid } = pod.metadata;
      const live = await cluster.get<Pod>("pod", name);
      if (live?.metadata.uid === uid || deletedAtMs === undefined) return undefined;
      return { proof: `pod ${name} (uid ${uid}), ${why}, has ended and was deleted`, timeMs: deletedAtMs };
    },
    // Its controller creates a new pod; the runner waits until it is Ready.
    heal: async () => {},
  });

const deletionOfLogStore = (tier: Tier): Drill => provingLogLines(deletion(tier));

export const deleteDrills: readonly Drill[] = [
  deletion({
    name: "delete-producer",
    title: "The producer's pod is deleted",
    hypothesis:
      "It sends its accepted events before it ends; senders repeat unanswered requests to the new pod, and no acknowledged event is lost.",
    workload: "producer",
    runbook: "ProducerSilent",
    ...BUDGET.producer,
  }),
  deletion({
    name: "delete-kafka-leader",
    title: "The broker that leads most partitions is deleted",
    hypothesis: "It hands over its leaderships before it ends; two in-sync replicas suffice to acknowledge writes.",
    workload: "kafka",
    runbook: "KafkaUnderReplicatedPartitions",
    ...BUDGET.broker,
    async choose(context) {
      const { pod, partitions } = await leadingBroker(context);
      return { pod, why: `leader of the partitions ${partitions.join(", ")}` };
    },
  }),
  deletion({
    name: "delete-kafka-controller",
    title: "The active controller is deleted",
    hypothesis: "The two other voters elect a new controller; no partition goes without a leader for long.",
    workload: "kafka",
    runbook: "KafkaNoActiveController",
    ...BUDGET.broker,
    async choose({ cluster }) {
      return { pod: await activeController(cluster), why: "the active controller" };
    },
    async verify({ cluster }, { pod }) {
      // The new pod of the same name may become the controller; its uid is another one.
      const now = await activeController(cluster);
      return now.metadata.uid === pod.metadata.uid ? ["the active controller has not changed"] : [];
    },
  }),
  deletion({
    name: "delete-processor",
    title: "A processor's pod is deleted",
    hypothesis:
      "It finishes its batch, commits and leaves the group; another processor continues after the last commit, and a repeated write is the same point.",
    workload: "processor",
    runbook: "ConsumerGroupDead",
    ...BUDGET.processor,
  }),
  deletion({
    name: "delete-influxdb",
    title: "InfluxDB's pod is deleted",
    hypothesis: "The processor keeps its offsets and waits; acknowledged events stay in Kafka until they are written.",
    workload: "influxdb",
    runbook: "InfluxDBWritesBlocked",
    ...BUDGET.influxdb,
  }),
  deletion({
    name: "delete-lag-exporter",
    title: "The lag exporter is deleted",
    hypothesis: "Events continue to flow; lag is unknown meanwhile, not zero, and no autoscaler acts on it.",
    workload: "lag-exporter",
    awaitReady: ["lag-exporter"],
    runbook: "LagExporterStale",
    budgetMs: 15_000,
    budgetReason: "the sync period of an autoscaler, which is 15 s",
  }),
  deletion({
    name: "delete-prometheus",
    title: "Prometheus is deleted",
    hypothesis: "Events continue to flow; there are no alerts until it is back, and it keeps its stored data.",
    workload: "prometheus",
    awaitReady: ["prometheus"],
    runbook: "Watchdog",
    budgetMs: 60_000,
    budgetReason: "no event depends on it; it stops in order and replays its log; alerts take a minute or more",
  }),
  deletionOfLogStore({
    name: "delete-loki",
    title: "Loki is deleted",
    hypothesis:
      "Events continue to flow; Promtail keeps its positions in the pods' logs and sends the missing lines: none is lost.",
    workload: "loki",
    awaitReady: ["loki"],
    runbook: "LogDeliveryMissing",
    budgetMs: 90_000,
    budgetReason: "no event depends on it; it waits 15 s for its ring and replays its log",
  }),
  deletionOfLogStore({
    name: "delete-victorialogs",
    title: "VictoriaLogs is deleted",
    hypothesis:
      "Events continue to flow; the collector keeps the lines and delivers them when the store is back: none is lost.",
    workload: "victorialogs",
    awaitReady: ["victorialogs"],
    runbook: "LogDeliveryMissing",
    budgetMs: 60_000,
    budgetReason: "no event depends on it; it stops in order and opens its partitions",
  }),
  deletion({
    name: "delete-grafana",
    title: "Grafana is deleted",
    hypothesis: "Events continue to flow; dashboards are provisioned with the new pod.",
    workload: "grafana",
    awaitReady: ["grafana"],
    runbook: "ScrapeTargetAbsent",
    budgetMs: 90_000,
    budgetReason: "no event depends on it; it creates its database at start",
  }),
];
