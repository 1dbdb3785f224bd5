/** What a recording says about scaling: computed from rows and events alone, so that it can be computed again. */
import type { Recording, SeriesName } from "../recording/recording.ts";
import type { ScaledWorkload, ScalingEvent } from "../recording/result.ts";

/** A pod became Ready. */
export interface ReadyEvent {
  workload: string;
  timeMs: number;
}

/** Around a change of the number of processors: the group is complete again long before, or something is wrong. */
const REBALANCE_WINDOW_MS = 20_000;
/** Nearly nothing: less than this share of what was stored before the change, or of what came in meanwhile if that is less. */
const NEARLY_NOTHING = 0.1;
/** What was stored before, from so many rows. */
const ROWS_BEFORE = 5;

/** In each of the two quarters that are compared: fewer rows are a moment, not a level. */
const GROWTH_ROWS = 10;

const round = (value: number, digits = 1) => Math.round(value * 10 ** digits) / 10 ** digits;

/** First moment from `fromMs` at which a series is at or over a limit. */
export function firstAtLeast(
  recording: Recording,
  name: SeriesName,
  limit: number,
  fromMs: number,
): number | undefined {
  const values = recording.series[name] ?? [];
  const index = recording.timesMs.findIndex((timeMs, at) => timeMs >= fromMs && (values[at] ?? -1) >= limit);
  return index < 0 ? undefined : recording.timesMs[index];
}

/** Largest value of a series within a time; null when there is none. */
export function largest(
  recording: Recording,
  name: SeriesName,
  fromMs = 0,
  toMs = Number.POSITIVE_INFINITY,
): number | null {
  const values = recording.timesMs.flatMap((timeMs, at) => {
    const value = recording.series[name]?.[at];
    return timeMs >= fromMs && timeMs <= toMs && value != null ? [value] : [];
  });
  return values.length === 0 ? null : Math.max(...values);
}

/**
 * Seconds from the lag at its threshold to the first extra processor Ready. 0 when that was Ready before (for its CPU, for
 * example); null when the lag never reached it or no processor came.
 */
export function timeToScale(
  recording: Recording,
  ready: readonly ReadyEvent[],
  lagThreshold: number | undefined,
  loadStartMs: number,
): number | null {
  if (lagThreshold === undefined) return null;
  const reachedMs = firstAtLeast(recording, "lag_events", lagThreshold, loadStartMs);
  const readyMs = ready.find(({ workload, timeMs }) => workload === "processor" && timeMs >= loadStartMs)?.timeMs;
  if (reachedMs === undefined || readyMs === undefined) return null;
  return round(Math.max(0, readyMs - reachedMs) / 1000);
}

/**
 * Longest stretch, in seconds, in which nearly nothing was stored around a change of the number of processors. Rows are a
 * second apart, so a stretch is known to a second. 0: no row was without; null: nothing was ever scaled, or recorded.
 */
export function rebalanceGap(recording: Recording, scaling: readonly ScalingEvent[]): number | null {
  const gaps = scaling
    .filter(({ workload }) => workload === "processor")
    .flatMap(({ timeMs }) => {
      const gap = gapAfter(recording, timeMs);
      return gap === null ? [] : [gap];
    });
  return gaps.length === 0 ? null : Math.max(...gaps);
}

/**
 * The same for one change at `timeMs`. While a new pod is not found yet, what all of them stored is not known: such a row
 * adds to a gap when the newest stored event of the live fleet is older than the row is long, and never ends one.
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
  let told = 0;
  for (let row = first; row < timesMs.length && timesMs[row]! <= timeMs + REBALANCE_WINDOW_MS; row++) {
    const lengthMs = timesMs[row]! - timesMs[row - 1]!;
    const value = stored[row];
    const age = series.freshness_seconds?.[row];
    if (value != null) {
      const due = Math.min(usual, acknowledged[row] ?? usual);
      gapMs = value < due * NEARLY_NOTHING ? gapMs + lengthMs : 0;
    } else if (age != null) {
      if (age * 1000 >= lengthMs) gapMs += lengthMs;
    } else continue;
    told++;
    longestMs = Math.max(longestMs, gapMs);
  }
  return told === 0 ? null : round(longestMs / 1000);
}

/** Highest p99 (ms) from an event's time to its storage around changes of the number of processors; null without one. */
export function rebalanceLatency(recording: Recording, scaling: readonly ScalingEvent[]): number | null {
  const peaks = scaling
    .filter(({ workload }) => workload === "processor")
    .flatMap(({ timeMs }) => largest(recording, "e2e_p99_ms", timeMs, timeMs + REBALANCE_WINDOW_MS) ?? []);
  return peaks.length === 0 ? null : Math.max(...peaks);
}

/** Mean of the best `rows` rows in a row. */
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
 * How much more memory a pod of a workload uses in the last quarter of a load than in its second, in percent of that; the
 * first quarter is for code and buffers that every process grows into. Medians, so that a collector's rhythm does not
 * count. Null when a quarter holds too little.
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
