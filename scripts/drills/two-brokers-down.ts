/**
 * Fault: two of three brokers are down. The remaining one has every event, and must acknowledge none: with one copy, an
 * acknowledged event could be lost.
 */
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { REPLICAS_BEFORE } from "../cluster/drill-leftovers.ts";
import { type Drill, defineDrill } from "./drill.ts";
import { getEvents, getPods } from "./targets.ts";

interface StoppedBrokers {
  replicas: number;
  /** Acknowledged events at the last poll, and when that number last changed. */
  acknowledged: number;
  changedAtMs: number;
}

type StatefulSet = KubernetesObject & { spec: { replicas: number } };

const NAME = "kafka";
/**
 * Time without an acknowledgement that proves the effect, at 100 events/s. The remaining broker becomes the controller and
 * answers nothing for some two seconds; then it acknowledges events that got their second copy before.
 */
const SILENCE_MS = 5000;

async function scale(cluster: Cluster, replicas: number): Promise<void> {
  await cluster.kubectl(["scale", "statefulset", NAME, "-n", NAMESPACE, `--replicas=${replicas}`]);
}

/** Starts the brokers that an earlier run stopped. @returns what was done, or undefined. */
export async function restoreBrokers(cluster: Cluster): Promise<string | undefined> {
  const live = await cluster.get<StatefulSet>("statefulset", NAME);
  const before = Number(live?.metadata.annotations?.[REPLICAS_BEFORE] ?? Number.NaN);
  if (!live || !Number.isInteger(before)) return undefined;
  if (live.spec.replicas !== before) await scale(cluster, before);
  await cluster.kubectl(["annotate", "statefulset", NAME, "-n", NAMESPACE, `${REPLICAS_BEFORE}-`]);
  return live.spec.replicas === before ? undefined : `kafka: scaled from ${live.spec.replicas} to ${before} brokers`;
}

export const twoBrokersDown: Drill = defineDrill<StoppedBrokers>({
  name: "two-brokers-down",
  title: "Two of three brokers are down",
  hypothesis: "Writes stop: no event is acknowledged until a second copy can be made, and none is lost.",
  fault: "kubectl scale statefulset kafka --replicas=1, for 10 s after the last acknowledgement",
  budgetMs: 30_000,
  budgetReason: "two JVMs start concurrently on the available cores, then the quorum votes and the replicas catch up",
  recoversFrom: "healed",
  holdMs: 10_000,
  workloads: [NAME],
  runbook: "KafkaUnderMinIsrPartitions",
  commands: [getPods(NAME), getEvents()],
  async prepare({ cluster, acknowledged }) {
    const live = await cluster.get<StatefulSet>("statefulset", NAME);
    return { replicas: live?.spec.replicas ?? 3, acknowledged: acknowledged(), changedAtMs: Date.now() };
  },
  async inject({ cluster, acknowledged }, target) {
    const annotation = `${REPLICAS_BEFORE}=${target.replicas}`;
    await cluster.kubectl(["annotate", "statefulset", NAME, "-n", NAMESPACE, "--overwrite", annotation]);
    await scale(cluster, 1);
    target.acknowledged = acknowledged();
    target.changedAtMs = Date.now();
  },
  async proveEffect({ cluster, acknowledged }, target) {
    const now = acknowledged();
    if (now !== target.acknowledged) {
      target.acknowledged = now;
      target.changedAtMs = Date.now();
    }
    const pods = await cluster.list<Pod>("pods", `app.kubernetes.io/name=${NAME}`);
    const silentMs = Date.now() - target.changedAtMs;
    if (pods.length > 1 || silentMs < SILENCE_MS) return undefined;
    return {
      proof: `one broker remains (${pods[0]?.metadata.name}); no acknowledgement for ${(silentMs / 1000).toFixed(1)} s`,
    };
  },
  async violations({ acknowledged }, target) {
    const more = acknowledged() - target.acknowledged;
    return more > 0 ? ["events were acknowledged with one remaining broker"] : [];
  },
  async heal({ cluster }) {
    await restoreBrokers(cluster);
  },
});
