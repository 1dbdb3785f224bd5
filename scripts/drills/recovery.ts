/**
 * When a drill's pipeline was back where it was before: pure, from the rows that were observed.
 */
import type { Observed } from "./drill.ts";

/** What was normal before the fault. */
export interface Baseline {
  freshnessSeconds: number;
  lagEvents: number;
}

/** Added to the oldest freshness seen before the fault: the sampling of two clocks, and a flush of the processor. */
const FRESHNESS_SLACK_SECONDS = 1;
/** One second of the drill's and the fleet's events: below it, lag says how often it is looked at, not that one is behind. */
const LAG_FLOOR_EVENTS = 300;
/** The drill's own oldest unanswered batch: a batch is answered within a tenth of a second when nothing is wrong. */
const UNANSWERED_LIMIT_MS = 1500;
/**
 * Calm must last this long: longer than an outage takes to show (the slack, and a look of the lag exporter), so that the
 * silence right behind a fault is not taken for a recovery.
 */
export const STABLE_MS = 3000;

export interface Sample extends Observed {
  /** Age of the drill's own oldest batch that was not answered. */
  unansweredMs: number;
}

/** The worst of some rows. @throws Error when none of them could be read. */
export function baselineOf(samples: readonly Sample[]): Baseline {
  const freshness = samples.flatMap(({ freshnessSeconds }) => freshnessSeconds ?? []);
  const lag = samples.flatMap(({ lagEvents }) => lagEvents ?? []);
  if (freshness.length === 0 || lag.length === 0) {
    throw new Error(`before the fault ${freshness.length === 0 ? "freshness" : "lag"} could not be read`);
  }
  return { freshnessSeconds: Math.max(...freshness), lagEvents: Math.max(...lag) };
}

/** What of a row is worse than before the fault, or undefined. */
export function worseThan(baseline: Baseline, sample: Sample): string | undefined {
  const freshnessLimit = baseline.freshnessSeconds + FRESHNESS_SLACK_SECONDS;
  const lagLimit = Math.max(baseline.lagEvents * 2, LAG_FLOOR_EVENTS);
  const { freshnessSeconds, lagEvents, unansweredMs } = sample;
  if (freshnessSeconds === null) return "freshness cannot be read";
  if (freshnessSeconds > freshnessLimit) {
    return `newest point is ${freshnessSeconds.toFixed(1)} s old (limit ${freshnessLimit.toFixed(1)} s)`;
  }
  if (lagEvents === null) return "lag cannot be read";
  if (lagEvents > lagLimit) return `${lagEvents} events behind (limit ${lagLimit})`;
  if (unansweredMs > UNANSWERED_LIMIT_MS)
    return `a batch has waited ${(unansweredMs / 1000).toFixed(1)} s for its answer`;
  return undefined;
}

/**
 * The first moment since `sinceMs` from which on everything was as before for STABLE_MS, also behind `provenMs`;
 * undefined when that is not so yet. `sinceMs` itself when nothing ever got worse.
 * @param sinceMs when the fault took hold
 * @param provenMs when that was known for certain: a pod that is told to end still works for a while, and the calm of
 *   that time is no recovery
 */
export function recoveredAt(
  samples: readonly Sample[],
  sinceMs: number,
  baseline: Baseline,
  provenMs = sinceMs,
): number | undefined {
  let calmSinceMs: number | undefined;
  let sawTrouble = false;
  for (const sample of samples) {
    if (sample.timeMs < sinceMs) continue;
    if (worseThan(baseline, sample) !== undefined) {
      calmSinceMs = undefined;
      sawTrouble = true;
      continue;
    }
    calmSinceMs ??= sawTrouble ? sample.timeMs : sinceMs;
    if (sample.timeMs - Math.max(calmSinceMs, provenMs) >= STABLE_MS) return calmSinceMs;
  }
  return undefined;
}

/**
 * How old the newest stored point ever was between two moments, in seconds. While it could not be read it ages on from
 * what was seen last.
 */
export function oldestFreshness(samples: readonly Sample[], fromMs: number, toMs: number): number {
  let oldest = 0;
  let last: Sample | undefined;
  for (const sample of samples) {
    if (sample.timeMs > toMs) break;
    if (sample.freshnessSeconds !== null) last = sample;
    if (sample.timeMs < fromMs || !last) continue;
    oldest = Math.max(oldest, last.freshnessSeconds! + (sample.timeMs - last.timeMs) / 1000);
  }
  return oldest;
}
