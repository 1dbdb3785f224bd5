/**
 * What the tests on a cluster share. They run when CONVEYOR_CLUSTER_TESTS=1 (npm test sets it) against the local
 * cluster with the pipeline deployed, and show as skipped otherwise.
 */
import { describe } from "bun:test";
import { randomBytes } from "node:crypto";
import { type Cluster, localCluster, type Pod } from "../../scripts/toolkit/cluster.ts";
import { waitFor } from "../../scripts/toolkit/wait.ts";
import type { TelemetryEvent } from "../../services/domain/event.ts";

/** `describe` for tests that need the cluster and the pipeline on it. */
export const describeOnCluster = describe.skipIf(process.env.CONVEYOR_CLUSTER_TESTS !== "1");
/** `describe` for tests that take the cluster or the data away: only where this test run made the cluster. */
export const describeOnOwnCluster = describe.skipIf(
  process.env.CONVEYOR_CLUSTER_TESTS !== "1" || process.env.CONVEYOR_CLUSTER_OWNED !== "1",
);

export const cluster = (): Promise<Cluster> => localCluster();

export interface ScriptResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Runs a command of the project as a person would, and ends it at its limit. */
export async function script(args: string[], options: { limitMs?: number; stdin?: Blob } = {}): Promise<ScriptResult> {
  const child = Bun.spawn([process.execPath, ...args], {
    stdin: options.stdin ?? "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: options.limitMs ?? 300_000,
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}

export interface ValidationDocument {
  ok: boolean;
  passed: number;
  failed: number;
  not_run: number;
  checks: { id: string; status: "passed" | "failed" | "not_run"; detail: string }[];
}

/** `validate --json` as a document, with its exit code. */
export async function validate(...args: string[]): Promise<{ exitCode: number; document: ValidationDocument }> {
  const { exitCode, stdout, stderr } = await script(["scripts/validate.ts", "--local", "--json", ...args]);
  try {
    return { exitCode, document: JSON.parse(stdout) as ValidationDocument };
  } catch (error) {
    throw new Error(`validate gave no document (exit ${exitCode}): ${stderr.slice(-2000)}`, { cause: error });
  }
}

/** Puts everything back as the manifests say; for the end of tests that broke something on purpose. */
export async function redeploy(): Promise<void> {
  const { exitCode, stderr } = await script(["scripts/deploy.ts", "--local", "--no-check"], { limitMs: 600_000 });
  if (exitCode !== 0) throw new Error(`deploy could not mend the pipeline (exit ${exitCode}): ${stderr.slice(-2000)}`);
}

/** From the most processors to one takes 100 s, and then a pod needs its grace period. */
const REST_LIMIT_MS = 240_000;

/**
 * Waits until the autoscalers have brought producer and processor back to one pod each: other tests leave work behind,
 * and a pod that comes or goes meanwhile would look like the doing of what is tested.
 */
export async function atRest(target: Cluster): Promise<void> {
  await waitFor(
    async () => {
      // Those that are ending too: they are among the pods for half a minute yet.
      const pods = await target.list<Pod>("pods", "app.kubernetes.io/name in (producer,processor)");
      const state = pods.map(({ metadata }) => metadata.name).join(", ");
      return pods.length === 2 ? { done: true, value: undefined } : { done: false, state };
    },
    { what: "producer and processor to be one pod each", limitMs: REST_LIMIT_MS, intervalMs: 1000 },
  );
}

/** A run id of this test, so that tests never read each other's events. */
export const newRun = (test: string): string => `${test}-${randomBytes(5).toString("hex")}`;

/** A valid event; conveyors of tests are few and always the same, so that series stay bounded. */
export function testEvent(run: string, conveyor: string, seq: number, ts: number): TelemetryEvent {
  return {
    v: 1,
    conveyor,
    run,
    seq,
    ts,
    speed_mps: 1 + (seq % 10) / 10,
    load_kg: 100 + (seq % 50),
    motor_temp_c: 40 + (seq % 20),
    vibration_mm_s: 2,
    state: "running",
  };
}
