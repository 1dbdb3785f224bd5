/** Measures of scaling, computed from a recording alone. */
import { largest, type Recording, type SeriesName, valuesWithin } from "../recording/recording.ts";
import type { ScaledWorkload, ScalingEvent } from "../recording/result.ts";

/** A pod became Ready. */
interface ReadyEvent {
  workload: string;
  timeMs: number;
}

/** Time after a change of the number of processors; a rebalance is much shorter. */
const REBALANCE_WINDOW_MS = 20_000;
/** Share of the rate before the change, or of the acknowledged rate if lower; less counts as a gap. */
const GAP_SHARE = 0.1;
/** Rows of the rate before the change. */
const ROWS_BEFORE = 5;

/** Minimum of rows in each of the two compared quarters. */
const GROWTH_ROWS = 10;

const round = (value: number, digits = 1) => Math.round(value * 10 ** digits) / 10 ** digits;

/** When the first additional pod of a workload became Ready. */
export const firstReadyMs = (ready: readonly ReadyEvent[], workload: ScaledWorkload, fromMs: number) =>
  ready.find((event) => event.workload === workload && event.timeMs >= fromMs)?.timeMs;

/** First moment from `fromMs` at which a series is at or above a limit. */
function firstAtLeast(recording: Recording, name: SeriesName, limit: number, fromMs: number): number | undefined {
  const values = recording.series[name] ?? [];
  const index = recording.timesMs.findIndex((timeMs, at) => timeMs >= fromMs && (values[at] ?? -1) >= limit);
  return index < 0 ? undefined : recording.timesMs[index];
}

/**
 * Seconds from the lag at its threshold to the first additional processor Ready. 0 when that was Ready before (scaled by
 * CPU, for example); null when the lag never reached it or no processor was added.
 */
export function timeToScale(
  recording: Recording,
  ready: readonly ReadyEvent[],
  lagThreshold: number | undefined,
  loadStartMs: number,
): number | null {
  if (lagThreshold === undefined) return null;
  const reachedMs = firstAtLeast(recording, "lag_events", lagThreshold, loadStartMs);
  const readyMs = firstReadyMs(ready, "processor", loadStartMs);
  if (reachedMs === undefined || readyMs === undefined) return null;
  return round(Math.max(0, readyMs - reachedMs) / 1000);
}

/**
 * Longest gap in storing, in seconds, after a change of the number of processors, with the resolution of the rows (one
 * second). 0: no gap; null: no change, or no rows.
 */
export function rebalanceGap(recording: Recording, scaling: readonly ScalingEvent[]): number | null {
  const gaps = scaling
    .filter(({ workload }) => workload === "processor")
    .flatMap(({ timeMs }) => gapAfter(recording, timeMs) ?? []);
  return largest(gaps);
}

/**
 * The gap after one change at `timeMs`. Until a new pod is found, the stored rate is unknown: such a row extends a gap when
 * the newest stored event of the live fleet is older than the row is long, and never ends a gap.
 */
export function gapAfter(recording: Recording, timeMs: number): number | null {
  const { timesMs, series } = recording;
  const stored = series.stored_events_per_second ?? [];
  const acknowledged = series.acknowledged_events_per_second ?? [];
  const first = timesMs.findIndex((time) => time > timeMs);
  if (first < 1) return null;
  const before = stored.slice(Math.max(0, first - ROWS_BEFORE), first).filter((value) => value !== null);
  const usual = before.reduce((sum, value) => sum + value, 0) / Math.max(1, before.length);
  if (usual <= 0) return null;
  let gapMs = 0;
  let longestMs = 0;
  let known = 0;
  for (let row = first; row < timesMs.length && timesMs[row]! <= timeMs + REBALANCE_WINDOW_MS; row++) {
    const lengthMs = timesMs[row]! - timesMs[row - 1]!;
    const value = stored[row];
    const age = series.freshness_seconds?.[row];
    if (value != null) {
      const due = Math.min(usual, acknowledged[row] ?? usual);
      gapMs = value < due * GAP_SHARE ? gapMs + lengthMs : 0;
    } else if (age != null) {
      if (age * 1000 >= lengthMs) gapMs += lengthMs;
    } else continue;
    known++;
    longestMs = Math.max(longestMs, gapMs);
  }
  return known === 0 ? null : round(longestMs / 1000);
}

/** Highest p99 latency (ms) until storage after changes of the number of processors; null without a change. */
export function rebalanceLatency(recording: Recording, scaling: readonly ScalingEvent[]): number | null {
  const values = scaling
    .filter(({ workload }) => workload === "processor")
    .flatMap(({ timeMs }) => valuesWithin(recording, "e2e_p99_ms", timeMs, timeMs + REBALANCE_WINDOW_MS + 1));
  return largest(values);
}

/** Highest mean of `rows` consecutive rows. */
export function bestMean(recording: Recording, name: SeriesName, rows: number): number | null {
  const values = recording.series[name] ?? [];
  let best: number | null = null;
  for (let end = rows; end <= values.length; end++) {
    const window = values.slice(end - rows, end);
    if (window.some((value) => value === null)) continue;
    const mean = (window as number[]).reduce((sum, value) => sum + value, 0) / rows;
    best = best === null ? mean : Math.max(best, mean);
  }
  return best === null ? null : round(best, 0);
}

/**
 * Growth of a pod's memory from the second to the last quarter of a load, in percent; in the first quarter every process
 * grows. Medians, which ignore the cycles of a garbage collector. Null when a quarter has too few rows.
 */
export function memoryGrowth(
  recording: Recording,
  workload: ScaledWorkload,
  startMs: number,
  endMs: number,
): number | null {
  const { timesMs, series } = recording;
  const quarterMs = (endMs - startMs) / 4;
  const middleOf = (fromMs: number): number | null => {
    const values = timesMs.flatMap((timeMs, row) => {
      const memory = series[`${workload}_memory_mebibytes`]?.[row];
      const pods = series[`${workload}_replicas_ready`]?.[row];
      return timeMs >= fromMs && timeMs < fromMs + quarterMs && memory != null && pods ? [memory / pods] : [];
    });
    return values.length < GROWTH_ROWS ? null : values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
  };
  const before = middleOf(startMs + quarterMs);
  const after = middleOf(startMs + 3 * quarterMs);
  return before === null || after === null ? null : round((after / before - 1) * 100);
}

export const replicasEnd = (recording: Recording, workload: ScaledWorkload): number | null =>
  recording.series[`${workload}_replicas_desired`]?.at(-1) ?? null;
