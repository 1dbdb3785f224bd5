/**
 * Fault: two of three brokers are away. The one that is left has every event, and must acknowledge none: with one copy
 * an acknowledgement would be a lie.
 */
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { type Drill, defineDrill } from "./drill.ts";
import { getEvents, getPods } from "./targets.ts";

interface StoppedBrokers {
  replicas: number;
  /** Acknowledged events when it was last looked, and when that number last changed. */
  acknowledged: number;
  changedAtMs: number;
}

type StatefulSet = KubernetesObject & { spec: { replicas: number } };

const NAME = "kafka";
/** How many there were, over the StatefulSet: whoever finds it can undo it. */
export const REPLICAS_BEFORE = "conveyor.dev/drill-replicas-before";
/** No acknowledgement for so long, at 100 events/s, is no coincidence. */
const SILENCE_MS = 2000;

async function scale(cluster: Cluster, replicas: number): Promise<void> {
  await cluster.kubectl(["scale", "statefulset", NAME, "-n", NAMESPACE, `--replicas=${replicas}`]);
}

/** Puts the brokers back that an earlier run took away. @returns what was done, or undefined. */
export async function restoreBrokers(cluster: Cluster): Promise<string | undefined> {
  const live = await cluster.get<StatefulSet>("statefulset", NAME);
  const before = Number(live?.metadata.annotations?.[REPLICAS_BEFORE] ?? Number.NaN);
  if (!live || !Number.isInteger(before)) return undefined;
  if (live.spec.replicas !== before) await scale(cluster, before);
  await cluster.kubectl(["annotate", "statefulset", NAME, "-n", NAMESPACE, `${REPLICAS_BEFORE}-`]);
  return live.spec.replicas === before ? undefined : `kafka: had ${live.spec.replicas} brokers, has ${before} again`;
}

export const twoBrokersDown: Drill = defineDrill<StoppedBrokers>({
  name: "two-brokers-down",
  title: "Two of three brokers are away",
  hypothesis:
    "Writes stop instead of lying: nothing is acknowledged until a second copy can be made, and nothing is lost.",
  fault: "kubectl scale statefulset kafka --replicas=1, for 10 s behind the last acknowledgement",
  budgetMs: 30_000,
  budgetReason:
    "two JVMs start at the same time on what cores there are, then the quorum votes and the replicas catch up",
  recoversFrom: "healed",
  holdMs: 10_000,
  workloads: [NAME],
  runbook: "KafkaUnderMinIsrPartitions",
  commands: [getPods(NAME), getEvents()],
  async prepare({ cluster, acknowledged }) {
    const live = await cluster.get<StatefulSet>("statefulset", NAME);
    return {
      replicas: live?.spec.replicas ?? 3,
      acknowledged: acknowledged(),
      changedAtMs: Date.now(),
    };
  },
  async inject({ cluster, acknowledged }, target) {
    await cluster.kubectl([
      "annotate",
      "statefulset",
      NAME,
      "-n",
      NAMESPACE,
      "--overwrite",
      `${REPLICAS_BEFORE}=${target.replicas}`,
    ]);
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
      proof: `one broker is left (${pods[0]?.metadata.name}); no acknowledgement for ${(silentMs / 1000).toFixed(1)} s`,
    };
  },
  async violations({ acknowledged }, target) {
    const more = acknowledged() - target.acknowledged;
    return more > 0 ? ["events were acknowledged with one broker left"] : [];
  },
  async heal({ cluster }) {
    await restoreBrokers(cluster);
  },
});
