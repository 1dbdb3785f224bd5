/** New log lines, polled from Loki. */
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { pause } from "../cli/wait.ts";
import type { LogEntry } from "../clients/log-search.ts";
import { keyOf, LogStore, nsOfMs } from "../clients/loki.ts";
import type { Cluster } from "../cluster/cluster.ts";

/** Interval of the queries; a line needs about a second to reach Loki. */
const POLL_MS = 1000;
/** Lines of different pods arrive with different delays: each query covers this much of the last one. */
const OVERLAP_MS = 10_000;
/** A Loki that restarts is back within half a minute. */
const OUTAGE_LIMIT_MS = 180_000;
/** Keys of reported lines: those of the overlap at 5,000 lines a second. */
const MAX_KEYS = 50_000;

/**
 * Each line once, in the order of arrival, until the signal.
 * @throws OperatorError when Loki rejects the query, or does not answer within the limit
 */
export async function* followLoki(
  cluster: Cluster,
  query: string,
  sinceMs: number,
  report: Report,
  signal: AbortSignal,
): AsyncGenerator<LogEntry, void, void> {
  const reported = new Set<string>();
  let fromMs = Date.now() - sinceMs;
  let store: LogStore | undefined;
  let outageSinceMs: number | undefined;
  try {
    while (!signal.aborted) {
      try {
        store ??= await LogStore.open(cluster);
        const untilMs = Date.now();
        for await (const entries of store.all(query, { startNs: nsOfMs(fromMs), endNs: nsOfMs(untilMs) }, signal)) {
          for (const entry of entries) {
            const key = keyOf(entry);
            if (reported.has(key)) continue;
            if (reported.size >= MAX_KEYS) reported.delete(reported.values().next().value!);
            reported.add(key);
            yield entry;
          }
        }
        fromMs = Math.max(fromMs, untilMs - OVERLAP_MS);
        outageSinceMs = undefined;
      } catch (error) {
        // A port-forward ends with its pod; a rejected query stays rejected.
        if (signal.aborted || (error instanceof OperatorError && error.exitCode === EXIT.usage)) throw error;
        if (outageSinceMs === undefined) report.warn("Loki does not answer; retrying");
        outageSinceMs ??= Date.now();
        if (Date.now() - outageSinceMs > OUTAGE_LIMIT_MS) throw error;
        await store?.close();
        store = undefined;
      }
      await pause(POLL_MS, signal);
    }
  } finally {
    await store?.close();
  }
}
