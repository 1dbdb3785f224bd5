/**
 * Helpers of the tests on a cluster. They run when CONVEYOR_CLUSTER_TESTS=1 (set by npm test) against the local cluster
 * with the pipeline deployed, and are skipped otherwise.
 */
import { describe } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { capture, type RunResult } from "../../scripts/cli/process.ts";
import { waitFor } from "../../scripts/cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";
import { localCluster } from "../../scripts/cluster/target.ts";
import { type Autoscaler, autoscalerOf } from "../../scripts/deploy/autoscalers.ts";
import { loadManifests } from "../../scripts/deploy/manifests.ts";
import { localTarget } from "../../scripts/local-cluster/index.ts";
import { exampleEvent, type TelemetryEvent } from "../../services/domain/event.ts";

/** `describe` for tests that need the deployed pipeline. */
export const describeOnCluster = describe.skipIf(process.env.CONVEYOR_CLUSTER_TESTS !== "1");
/** `describe` for tests that destroy the cluster or its data: only where this test run made the cluster. */
export const describeOnOwnCluster = describe.skipIf(
  process.env.CONVEYOR_CLUSTER_TESTS !== "1" || process.env.CONVEYOR_CLUSTER_OWNED !== "1",
);

export const cluster = (): Promise<Cluster> => localCluster(localTarget);

/** Merges data into a ConfigMap or Secret. The patch is a file: kubectl takes none from stdin, and arguments are public. */
export async function patchData(
  target: Cluster,
  kind: "configmap" | "secret",
  name: string,
  data: Record<string, string>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-patch-"));
  const file = join(folder, "patch.json");
  try {
    await writeFile(file, JSON.stringify({ data }), { mode: 0o600 });
    await target.kubectl(["patch", kind, name, "-n", NAMESPACE, "--type=merge", `--patch-file=${file}`]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const SCRIPT_LIMIT_MS = 300_000;

/** Runs a command of the project as a process, and kills it at its limit. */
export async function script(args: string[], options: { limitMs?: number | undefined } = {}): Promise<RunResult> {
  return await capture([process.execPath, ...args], { timeoutMs: options.limitMs ?? SCRIPT_LIMIT_MS, what: args[0]! });
}

/** Runs a command with --json. Returns its document; `exitCodes` lists the accepted exit codes. */
export async function scriptDocument<T>(
  args: string[],
  { limitMs, exitCodes = [0] }: { limitMs?: number; exitCodes?: number[] } = {},
): Promise<T> {
  const { exitCode, stdout, stderr } = await script([...args, "--json"], { limitMs });
  try {
    if (exitCodes.includes(exitCode)) return JSON.parse(stdout) as T;
  } catch {
    // Reported below, with the output that explains it.
  }
  throw new Error(`${args.join(" ")} ended with exit ${exitCode}: ${stderr.slice(-2000) || stdout.slice(-2000)}`);
}

export interface ValidationDocument {
  ok: boolean;
  passed: number;
  failed: number;
  not_run: number;
  skipped: number;
  checks: { id: string; status: "passed" | "failed" | "not_run" | "skipped"; detail: string }[];
}

/** `validate --json` as a document, with its exit code. */
export async function validate(...args: string[]): Promise<{ exitCode: number; document: ValidationDocument }> {
  const { exitCode, stdout, stderr } = await script(["scripts/validate.ts", "--local", "--json", ...args]);
  try {
    return { exitCode, document: JSON.parse(stdout) as ValidationDocument };
  } catch (error) {
    throw new Error(`validate printed no document (exit ${exitCode}): ${stderr.slice(-2000)}`, { cause: error });
  }
}

/** Restores everything to the manifests; for the end of tests that broke something on purpose. */
export async function redeploy(): Promise<void> {
  const { exitCode, stderr } = await script(["scripts/deploy.ts", "--local", "--no-check"], { limitMs: 600_000 });
  if (exitCode !== 0)
    throw new Error(`deploy could not restore the pipeline (exit ${exitCode}): ${stderr.slice(-2000)}`);
}

/** Backlogs are processed, pods end, metrics-server reports new ones: a minute; more on a busy machine. */
const REST_LIMIT_MS = 300_000;
const REST_POLL_MS = 1000;

/**
 * Differences from ready producers and processors, as many as their autoscalers want.
 * @param atMost pods of each workload
 */
async function unsettled(target: Cluster, most: ReadonlyMap<string, number>, atMost: number): Promise<string[]> {
  const [pods, scalers] = await Promise.all([
    // Also terminating ones, which remain for half a minute.
    target.list<Pod>("pods", "app.kubernetes.io/name in (producer,processor)"),
    target.list<Autoscaler>("horizontalpodautoscalers"),
  ]);
  const found: string[] = [];
  for (const { metadata, status } of pods) {
    const ready = status.conditions?.some((one) => one.type === "Ready" && one.status === "True");
    if (!ready || metadata.deletionTimestamp) found.push(`${metadata.name} is not ready`);
  }
  for (const [workload, maximum] of most) {
    const scaler = scalers.find(({ spec }) => spec.scaleTargetRef.name === workload);
    const condition = (type: string) => scaler?.status?.conditions?.find((one) => one.type === type);
    if (scaler?.spec.maxReplicas !== maximum) found.push(`${workload}: at most ${scaler?.spec.maxReplicas}`);
    if (condition("ScalingActive")?.status !== "True") found.push(`${workload}: its autoscaler has no metrics`);
    const desired = scaler?.status?.desiredReplicas ?? 0;
    if (desired < 1 || desired > atMost) found.push(`${workload}: its autoscaler wants ${desired}`);
    const names = pods.map(({ metadata }) => metadata.name).filter((name) => name.startsWith(`${workload}-`));
    if (names.length !== desired) found.push(`${workload}: ${desired} wanted, pods: ${names.join(", ")}`);
  }
  return found;
}

const awaitRest = async (target: Cluster, most: ReadonlyMap<string, number>, atMost: number) =>
  await waitFor(
    async () => {
      const found = await unsettled(target, most, atMost);
      return found.length === 0 ? { done: true, value: undefined } : { done: false, state: found.join("; ") };
    },
    { what: "producer and processor to be at rest", limitMs: REST_LIMIT_MS, intervalMs: REST_POLL_MS },
  );

/** On a slow machine the fleet's load is a little above the CPU target of one pod. */
const PODS_AT_REST = 2;

/**
 * Brings producer and processor to one ready pod each, or two where the autoscalers then want them, so that scaling after
 * an earlier test does not disturb this one. Instead of waiting two minutes for the autoscalers, it limits them to one pod,
 * and then restores the manifests.
 */
export async function atRest(target: Cluster): Promise<void> {
  const scalers = new Map<string, KubernetesObject>();
  for (const object of await loadManifests()) {
    const workload = autoscalerOf(object)?.target.split("/")[1];
    // A workload has two autoscalers in the manifests; one of them is deployed.
    if (workload && (await target.get(object.kind, object.metadata.name).catch(() => undefined))) {
      scalers.set(workload, object);
    }
  }
  const mostOf = (object: KubernetesObject) => {
    const { maxReplicas, maxReplicaCount } = object.spec as { maxReplicas?: number; maxReplicaCount?: number };
    return maxReplicas ?? maxReplicaCount!;
  };
  const usual = new Map([...scalers].map(([workload, object]) => [workload, mostOf(object)]));
  if ((await unsettled(target, usual, 1)).length === 0) return;
  const one = [...scalers.values()].map((object) => {
    const field = "maxReplicas" in (object.spec as object) ? "maxReplicas" : "maxReplicaCount";
    return { ...object, spec: { ...(object.spec as object), [field]: 1 } };
  });
  try {
    await target.apply(one);
    await awaitRest(target, new Map([...scalers.keys()].map((workload) => [workload, 1])), 1);
  } finally {
    await target.apply([...scalers.values()]);
  }
  await awaitRest(target, usual, PODS_AT_REST);
}

/** A new run id, so that tests never read each other's events. */
export const newRun = (test: string): string => `${test}-${randomBytes(5).toString("hex")}`;

/** A valid event. Tests use few, constant conveyors, so that series stay bounded. */
export const testEvent = (run: string, conveyor: string, seq: number, ts: number): TelemetryEvent =>
  exampleEvent({ run, conveyor, seq, ts });
