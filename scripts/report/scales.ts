/** Axes of charts: ticks at round numbers, in time and in value. Pure. */
import { formatOffset } from "./format.ts";

/** More lines than this are noise behind a curve of 150 pixels. */
const MAX_VALUE_TICKS = 5;
/** Labels of "+1:30" beside each other on the narrowest phone. */
const MAX_TIME_TICKS = 7;

const TIME_STEPS_S = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400];

/**
 * Ticks from zero to the first round one at or above `max`; at least two.
 * @param whole only whole numbers, for things that are counted (replicas).
 */
export function valueTicks(max: number, whole = false, maxTicks = MAX_VALUE_TICKS): number[] {
  const top = Number.isFinite(max) && max > 0 ? max : 1;
  const rough = top / maxTicks;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => top / size <= maxTicks)!;
  if (whole) step = Math.max(1, Math.ceil(step));
  const count = Math.max(1, Math.ceil(top / step - 1e-9));
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

export interface TimeTick {
  timeMs: number;
  /** Since the origin: "0", "+30 s", "−10 s", "+2:00". */
  label: string;
}

/** Ticks at round distances from the origin, within [from, to]. */
export function timeTicks(fromMs: number, toMs: number, originMs: number, maxTicks = MAX_TIME_TICKS): TimeTick[] {
  const span = Math.max(1, toMs - fromMs);
  const stepMs =
    1000 * (TIME_STEPS_S.find((seconds) => span / (seconds * 1000) <= maxTicks - 1) ?? TIME_STEPS_S.at(-1)!);
  const ticks: TimeTick[] = [];
  for (let at = Math.ceil((fromMs - originMs) / stepMs) * stepMs; originMs + at <= toMs; at += stepMs) {
    // One way of writing on one axis: minutes everywhere as soon as one label needs them.
    const minutes = toMs - originMs >= 120_000 || originMs - fromMs >= 120_000;
    const seconds = Math.abs(Math.round(at / 1000));
    const text = minutes
      ? `${at < 0 ? "−" : "+"}${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`
      : formatOffset(at);
    ticks.push({ timeMs: originMs + at, label: at === 0 ? "0" : text });
  }
  return ticks;
}

/** Row of each interval, so that in no row two of them touch; the first row that is free wins. */
export function placeInRows(intervals: readonly { from: number; to: number }[]): number[] {
  const rows: { from: number; to: number }[][] = [];
  return intervals.map((interval) => {
    const free = rows.findIndex((row) => row.every(({ from, to }) => interval.to <= from || interval.from >= to));
    if (free >= 0) {
      rows[free]!.push(interval);
      return free;
    }
    return rows.push([interval]) - 1;
  });
}
