/**
 * Fault: InfluxDB's volume is full. The machine's own disk must not be filled for it, so the volume, a folder of the
 * node, is replaced first by a small file system in memory with the same content, and that one is filled: the error
 * (ENOSPC) comes from the kernel, as it would. At the end the content, with what was written meanwhile, goes back.
 */

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
/** What it holds is copied into memory. */
const MAX_MEBIBYTES = 1024;
const STOP_LIMIT_MS = 60_000;
const START_LIMIT_MS = 120_000;
/** Less than one page: nothing more can be written. */
const FULL_BYTES = 4096;

type Claim = KubernetesObject & { spec: { volumeName?: string } };
type Volume = KubernetesObject & { spec: { local?: { path: string }; hostPath?: { path: string } } };

/** The folder of InfluxDB's volume on its node, or undefined where it is something else. */
async function folderOf(cluster: Cluster): Promise<string | undefined> {
  const claim = await cluster.get<Claim>("persistentvolumeclaim", CLAIM);
  const volume = claim?.spec.volumeName
    ? await cluster.get<Volume>("persistentvolume", claim.spec.volumeName)
    : undefined;
  return volume?.spec.local?.path ?? volume?.spec.hostPath?.path;
}

/** InfluxDB is stopped, something is done to its volume, and it is started again. */
async function whileStopped(cluster: Cluster, signal: AbortSignal, work: () => Promise<unknown>): Promise<void> {
  await cluster.kubectl(["scale", "statefulset", NAME, "-n", NAMESPACE, "--replicas=0"]);
  try {
    await waitFor(
      async () => {
        const pods = await cluster.list("pods", `app.kubernetes.io/name=${NAME}`);
        return pods.length === 0 ? { done: true, value: true } : { done: false, state: "it is still ending" };
      },
      { what: "InfluxDB to stop", limitMs: STOP_LIMIT_MS, signal },
    );
    await work();
  } finally {
    await cluster.kubectl(["scale", "statefulset", NAME, "-n", NAMESPACE, "--replicas=1"]);
  }
  await awaitRollout(cluster, "StatefulSet", NAME, { limitMs: START_LIMIT_MS, signal });
}

/** Puts the real volume back where a drill's small one stands. @returns what was done, or undefined. */
export async function restoreVolume(
  cluster: Cluster,
  agents: FaultAgents,
  signal = AbortSignal.timeout(START_LIMIT_MS),
): Promise<string | undefined> {
  const path = await folderOf(cluster);
  // Any pod on the node will do: it only leads to the node's own mounts.
  const pod = await anyPod(cluster, "kafka");
  if (!path || !cluster.isLocal) return undefined;
  const { isSmall } = await agents.ask(pod, { op: "volume", step: "measure", path });
  if (!isSmall) {
    const live = await cluster.get<KubernetesObject & { spec: { replicas: number } }>("statefulset", NAME);
    if (live?.spec.replicas !== 0) return undefined;
    await cluster.kubectl(["scale", "statefulset", NAME, "-n", NAMESPACE, "--replicas=1"]);
    return "influxdb: was stopped, is started";
  }
  await whileStopped(cluster, signal, () => agents.ask(pod, { op: "volume", step: "restore", path }));
  return "influxdb: its volume was replaced by a small one, is its own again";
}

const ask = async ({ cluster, agents }: DrillContext, step: "measure" | "shrink" | "fill" | "free", path: string) =>
  await agents.ask(await anyPod(cluster, "kafka"), { op: "volume", step, path });

export const diskFull: Drill = defineDrill<InfluxVolume>({
  name: "disk-full",
  title: "InfluxDB's disk is full",
  hypothesis:
    "Writes are refused and nothing is committed: what was acknowledged waits in Kafka, and is written when there is room again and InfluxDB has been restarted, which it needs. No later restart takes any of it away.",
  fault: "a file fills InfluxDB's volume to the last byte for 10 s",
  budgetMs: 20_000,
  budgetReason: "goal for InfluxDB, from the moment that there is room again and it is restarted",
  recoversFrom: "healed",
  holdMs: 10_000,
  workloads: [NAME, "kafka", "processor"],
  runbook: "InfluxDBRefusingWrites",
  commands: [getPods(NAME), getLogs(NAME), getLogs("processor")],
  async obstacle(context) {
    const { cluster } = context;
    if (!cluster.isLocal)
      return "the database's volume would have to be replaced, which only the local cluster may suffer";
    const path = await folderOf(cluster);
    if (!path) return "InfluxDB's volume is no folder of its node";
    try {
      const { usedMebibytes } = await ask(context, "measure", path);
      return usedMebibytes! > MAX_MEBIBYTES
        ? `its volume holds ${usedMebibytes} MiB; at most ${MAX_MEBIBYTES}`
        : undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  },
  async prepare(context) {
    const path = await folderOf(context.cluster);
    if (!path) throw new OperatorError("InfluxDB's volume is no folder of its node");
    context.note(NAME, "is stopped for a moment: its volume is replaced by a small one with the same content");
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
    const said = stdout.split("\n").find((line) => line.includes("no space left on device"));
    if (!said || freeBytes === undefined || freeBytes >= FULL_BYTES) return undefined;
    return { proof: `${freeBytes} bytes are free; InfluxDB says: ${said.slice(0, 200)}` };
  },
  async heal(context, { path, filledAtMs }) {
    await ask(context, "free", path);
    if (filledAtMs === 0) return;
    // As the runbook VolumeFilling says: room alone does not help, InfluxDB 2.9 goes on refusing every write until it is
    // started again. One restart is enough; `restore` is the next one, and what that would lose, the audit finds.
    await context.cluster.kubectl([
      "delete",
      "pod",
      "influxdb-0",
      "-n",
      NAMESPACE,
      "--ignore-not-found",
      "--wait=false",
    ]);
  },
  async restore({ cluster, agents, signal }) {
    await restoreVolume(cluster, agents, signal);
  },
});
