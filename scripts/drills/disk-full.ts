/**
 * Fault: InfluxDB's volume is full. The machine's own disk must not be filled, so the volume, a folder of the node, is
 * first replaced by a small file system in memory with the same content, which is filled: the error (ENOSPC) is the
 * kernel's. At the end the content, with the writes of the meantime, is copied back.
 */

import { type AgentState, MAX_VOLUME_MEBIBYTES, SPARE_VOLUME_MEBIBYTES } from "../../services/protocol/node-agent.ts";
import { OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { awaitRollout } from "../cluster/rollout.ts";
import { type Drill, type DrillContext, defineDrill } from "./drill.ts";
import type { FaultAgents } from "./fault-agents.ts";
import { anyPod, getLogs, getPods } from "./targets.ts";

interface InfluxVolume {
  path: string;
  filledAtMs: number;
}

const NAME = "influxdb";
const CLAIM = "data-influxdb-0";
/** Left to the node beside the copy: it must not end a process of the pipeline for want of memory. */
const RESERVE_MEBIBYTES = 512;
const STOP_LIMIT_MS = 60_000;
const START_LIMIT_MS = 120_000;
/** Less than one page: no write succeeds. */
const FULL_BYTES = 4096;

type Claim = KubernetesObject & { spec: { volumeName?: string } };
type Volume = KubernetesObject & { spec: { local?: { path: string }; hostPath?: { path: string } } };

/** The folder of InfluxDB's volume on its node; undefined for another kind of volume. */
async function folderOf(cluster: Cluster): Promise<string | undefined> {
  const claim = await cluster.get<Claim>("persistentvolumeclaim", CLAIM);
  const volume = claim?.spec.volumeName
    ? await cluster.get<Volume>("persistentvolume", claim.spec.volumeName)
    : undefined;
  return volume?.spec.local?.path ?? volume?.spec.hostPath?.path;
}

const scale = (cluster: Cluster, replicas: 0 | 1) =>
  cluster.kubectl(["scale", "statefulset", NAME, "-n", NAMESPACE, `--replicas=${replicas}`]);

/** Stops InfluxDB for the time of some work on its volume. */
async function whileStopped(cluster: Cluster, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
  await scale(cluster, 0);
  try {
    await waitFor(
      async () => {
        const pods = await cluster.list("pods", `app.kubernetes.io/name=${NAME}`);
        return pods.length === 0 ? { done: true, value: true } : { done: false, state: "terminating" };
      },
      { what: "InfluxDB to stop", limitMs: STOP_LIMIT_MS, signal },
    );
    await work();
  } finally {
    await scale(cluster, 1);
  }
  await awaitRollout(cluster, "StatefulSet", NAME, { limitMs: START_LIMIT_MS, signal });
}

/** Why a volume cannot be copied into the memory of its node; undefined: it can. Memory that is unknown counts as none. */
export function volumeObstacle({ usedMebibytes, availableMebibytes }: AgentState): string | undefined {
  if (usedMebibytes === undefined || usedMebibytes > MAX_VOLUME_MEBIBYTES) {
    return `its volume holds ${usedMebibytes} MiB; the limit is ${MAX_VOLUME_MEBIBYTES}`;
  }
  const needed = usedMebibytes + SPARE_VOLUME_MEBIBYTES + RESERVE_MEBIBYTES;
  return (availableMebibytes ?? 0) < needed
    ? `its volume is copied into memory: ${needed} MiB are needed, the node has ${availableMebibytes}`
    : undefined;
}

/** Restores the real volume if a drill's small one is in its place. @returns what was done, or undefined. */
export async function restoreVolume(
  cluster: Cluster,
  agents: FaultAgents,
  signal = AbortSignal.timeout(START_LIMIT_MS),
): Promise<string | undefined> {
  const path = await folderOf(cluster);
  // Any pod of the node: it only leads to the node's mounts.
  const pod = await anyPod(cluster, "kafka");
  if (!path || !cluster.isLocal) return undefined;
  const { isSmall } = await agents.request(pod, { op: "volume", step: "measure", path });
  if (!isSmall) {
    const live = await cluster.get<KubernetesObject & { spec: { replicas: number } }>("statefulset", NAME);
    if (live?.spec.replicas !== 0) return undefined;
    await scale(cluster, 1);
    return "influxdb: started, an earlier run had stopped it";
  }
  await whileStopped(cluster, signal, () => agents.request(pod, { op: "volume", step: "restore", path }));
  return "influxdb: volume restored, an earlier run had replaced it by a small one";
}

const ask = async ({ cluster, agents }: DrillContext, step: "measure" | "shrink" | "fill" | "free", path: string) =>
  await agents.request(await anyPod(cluster, "kafka"), { op: "volume", step, path });

export const diskFull: Drill = defineDrill<InfluxVolume>({
  name: "disk-full",
  title: "InfluxDB's disk is full",
  hypothesis:
    "Writes are refused and nothing is committed: acknowledged events stay in Kafka, and are written when there is space and InfluxDB has been restarted, which it needs. No later restart loses any of them.",
  fault: "a file fills InfluxDB's volume to the last byte for 10 s",
  budgetMs: 20_000,
  budgetReason: "goal for InfluxDB, from the moment that there is space and it is restarted",
  recoversFrom: "healed",
  holdMs: 10_000,
  workloads: [NAME, "kafka", "processor"],
  runbook: "InfluxDBRefusingWrites",
  commands: [getPods(NAME), getLogs(NAME), getLogs("processor")],
  async obstacle(context) {
    const { cluster } = context;
    if (!cluster.isLocal) return "the database's volume must be replaced, which is only allowed on the local cluster";
    const path = await folderOf(cluster);
    if (!path) return "InfluxDB's volume is not a folder of its node";
    try {
      return volumeObstacle(await ask(context, "measure", path));
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  },
  async prepare(context) {
    const path = await folderOf(context.cluster);
    if (!path) throw new OperatorError("InfluxDB's volume is not a folder of its node");
    context.note(NAME, "is stopped while its volume is replaced by a small one with the same content");
    await whileStopped(context.cluster, context.signal, () => ask(context, "shrink", path));
    return { path, filledAtMs: 0 };
  },
  async inject(context, target) {
    await ask(context, "fill", target.path);
    target.filledAtMs = Date.now();
  },
  async proveEffect(context, { path, filledAtMs }) {
    if (filledAtMs === 0) return undefined;
    const { freeBytes } = await ask(context, "measure", path);
    const { stdout } = await context.cluster.kubectl(
      ["logs", "influxdb-0", "-n", NAMESPACE, `--since-time=${new Date(filledAtMs - 1000).toISOString()}`],
      { allowFailure: true },
    );
    const refusal = stdout.split("\n").find((line) => line.includes("no space left on device"));
    if (!refusal || freeBytes === undefined || freeBytes >= FULL_BYTES) return undefined;
    return { proof: `${freeBytes} bytes are free; InfluxDB logs: ${refusal.slice(0, 200)}` };
  },
  async heal(context, { path, filledAtMs }) {
    await ask(context, "free", path);
    if (filledAtMs === 0) return;
    // See the runbook VolumeFilling: with space again, InfluxDB 2.9 refuses every write until it is restarted. One restart
    // suffices; `restore` is the next one, and the audit finds what it loses.
    await context.cluster.kubectl(`delete pod influxdb-0 -n ${NAMESPACE} --ignore-not-found --wait=false`.split(" "));
  },
  async restore({ cluster, agents, signal }) {
    await restoreVolume(cluster, agents, signal);
  },
});
