/** What the observer pod (services/tools/observer.ts) prints: one JSON document per line. */

/** Null: the value could not be read. */
export type ObservedValue = number | null;

export interface ObserverRow {
  t: number;
  row: Readonly<Record<string, ObservedValue>>;
  /** Latencies of everything stored since the start; quantiles of single ticks cannot be joined afterwards. */
  since_start: { e2e_p50_ms: ObservedValue; e2e_p99_ms: ObservedValue };
  /** Addresses of the pods that answered. */
  seen: { producer: readonly string[]; processor: readonly string[] };
}

/**
 * The newest stored event of some conveyors; `t` is the time of the answer, so an outage is never measured too short.
 * Without an answer it has `why` instead.
 */
export type NewestEvents = { t: number; newest: Readonly<Record<string, number>> } | { t: number; why: string };

/** A line of the observer pod; undefined for a log line and for a truncated one. */
export function parseObserverLine(line: string): ObserverRow | NewestEvents | undefined {
  if (!line.startsWith('{"t":')) return undefined;
  try {
    return JSON.parse(line) as ObserverRow | NewestEvents;
  } catch {
    return undefined;
  }
}
