/**
 * Checkpoints of the producers while a test acts on them. Without Loki a pod's log is deleted with the pod: a test that
 * deletes one follows the logs before, and passes the lines to the audit (auditRuns' `checkpoints`).
 */

import { pause } from "../../scripts/cli/wait.ts";
import type { Cluster } from "../../scripts/cluster/cluster.ts";
import type { LedgerCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";
import { readCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";

/** The first checkpoint of a new pod is five seconds old when it is logged. */
const POLL_MS = 2000;
/** A week of one producer. */
const MAX_LINES = 150_000;

export interface CheckpointWatch {
  /** Lines so far, from the beginning of each producer's log. */
  readonly lines: readonly LedgerCheckpoint[];
  /** Ends the watch; the lines stay. */
  close(): Promise<void>;
}

/** Follows every producer that runs or starts until it is closed. */
export function watchCheckpoints(cluster: Cluster, signal?: AbortSignal): CheckpointWatch {
  const lines: LedgerCheckpoint[] = [];
  const stop = new AbortController();
  const ended = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const followed = new Map<string, Promise<void>>();

  const follow = async (pod: string) => {
    for await (const line of cluster.follow(pod, readCheckpoint, ended)) if (lines.length < MAX_LINES) lines.push(line);
  };
  const polling = (async () => {
    while (!ended.aborted) {
      const pods = await cluster.list("pods", "app.kubernetes.io/name=producer").catch(() => []);
      for (const { metadata } of pods) {
        const { uid = "", name } = metadata;
        if (!followed.has(uid)) followed.set(uid, follow(name));
      }
      await pause(POLL_MS, ended).catch(() => {});
    }
  })();
  const close = async () => {
    stop.abort();
    await Promise.all([polling, ...followed.values()]);
  };
  return { lines, close };
}
