/**
 * What InfluxDB holds of the drills' own events, looked at four times a second from a pod that no drill breaks
 * (programs/watcher.ts). The observer's rows are rarer, above all while the database does not answer.
 */

import { waitFor } from "../cli/wait.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { podLog, startPod } from "../cluster/one-off-pods.ts";
import { observerPod } from "../recording/observer.ts";
import { bundled } from "./fault-agents.ts";

/** Fine enough for an outage of a second; a look costs InfluxDB some milliseconds. */
export const SAMPLE_INTERVAL_MS = 250;
/** The first look comes within a second of the pod's start; a busy machine takes some more. */
const FIRST_LOOK_LIMIT_MS = 20_000;

/** Newest stored event per conveyor, milliseconds since the epoch; null: no answer. */
export interface StoredSample {
  timeMs: number;
  newestMs: Readonly<Record<string, number>> | null;
}

export interface StoredWatch {
  onLook(listener: (look: StoredSample) => void): void;
  /** Stops the pod and takes it away; asking twice is harmless. */
  close(): Promise<void>;
}

/** A line of the watcher pod, or undefined when it is something else. */
export function parseStoredSample(line: string): StoredSample | undefined {
  if (!line.startsWith('{"t":')) return undefined;
  try {
    const { t, newest } = JSON.parse(line) as { t: number; newest?: Record<string, number> };
    return { timeMs: t, newestMs: newest ?? null };
  } catch {
    return undefined;
  }
}

/**
 * Age of the newest event of the conveyor that is furthest behind, in seconds. Null: there was no answer, or one of the
 * conveyors has no event since `sinceMs` (what an earlier drill stored is not this one's).
 */
export function slowestAge(look: StoredSample, conveyors: readonly string[], sinceMs: number): number | null {
  let age = Number.NEGATIVE_INFINITY;
  for (const conveyor of conveyors) {
    const newest = look.newestMs?.[conveyor];
    if (newest === undefined || newest < sinceMs) return null;
    age = Math.max(age, (look.timeMs - newest) / 1000);
  }
  return age;
}

/** Starts the pod; looks arrive from then on. The caller closes it. @throws OperatorError when there is none. */
export async function startStoredWatch(
  cluster: Cluster,
  options: { image: string; run: string; conveyors: readonly string[] },
  signal: AbortSignal,
): Promise<StoredWatch> {
  // May reach and read what the observer may.
  const observer = observerPod({ tickMs: SAMPLE_INTERVAL_MS, image: options.image, run: options.run });
  const pod = await startPod(
    cluster,
    {
      ...observer,
      prefix: "drill-watcher",
      command: ["bun", "-e", await bundled("stored-watcher")],
      environment: {
        ...observer.environment,
        CONVEYORS: options.conveyors.join(","),
        LOOK_MS: String(SAMPLE_INTERVAL_MS),
      },
    },
    signal,
  );
  const stopped = new AbortController();
  const ended = AbortSignal.any([signal, stopped.signal]);
  const listeners = new Set<(look: StoredSample) => void>();
  let lastMs = Number.NEGATIVE_INFINITY;
  const following = (async () => {
    for await (const look of cluster.follow(pod.name, parseStoredSample, ended)) {
      lastMs = look.timeMs;
      for (const listener of listeners) listener(look);
    }
  })();
  const close = async () => {
    stopped.abort();
    await Promise.all([pod.remove(), following]);
  };
  try {
    await waitFor(
      async () =>
        Number.isFinite(lastMs)
          ? { done: true, value: true }
          : { done: false, state: (await podLog(cluster, pod.name, { lines: 3 })) || "no output yet" },
      { what: `the first look of pod ${pod.name}`, limitMs: FIRST_LOOK_LIMIT_MS, signal },
    );
  } catch (error) {
    await close();
    throw error;
  }
  return { onLook: (listener) => void listeners.add(listener), close };
}
