/** New log lines, polled from the log store. */
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { pause } from "../cli/wait.ts";
import { type LogStore, nsOfMs } from "../clients/log-backend.ts";
import { keyOf, type LogEntry, type LogSearch } from "../clients/log-search.ts";
import { openLogStore } from "../clients/log-store.ts";
import type { Cluster } from "../cluster/cluster.ts";

/** Interval of the queries; a line needs about a second to reach the store. */
const POLL_MS = 1000;
/** The collectors search for new lines of a quiet pod every ten seconds: each query covers this much of the last one. */
const OVERLAP_MS = 20_000;
/** A store that restarts is back within half a minute. */
const OUTAGE_LIMIT_MS = 180_000;
/** Keys of reported lines: those of the overlap at 5,000 lines a second. */
const MAX_KEYS = 100_000;

/**
 * Each line once, in the order of arrival, until the signal.
 * @throws OperatorError when the store rejects the query, or does not answer within the limit
 */
export async function* followStore(
  cluster: Cluster,
  { search, sinceMs }: { search: LogSearch; sinceMs: number },
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
        store ??= await openLogStore(cluster);
        const untilMs = Date.now();
        for await (const entries of store.all(search, { startNs: nsOfMs(fromMs), endNs: nsOfMs(untilMs) }, signal)) {
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
        if (outageSinceMs === undefined) report.warn("the log store does not answer; retrying");
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
