/**
 * When the pipeline had recovered from a fault: pure, from samples. "Recovered" is defined by the values before the fault
 * and their own spread; docs/resilience.md has the definition in words.
 */
import { formatDuration } from "../cli/report.ts";
import { median } from "../recording/recording.ts";
import type { DrillRecovery } from "../recording/result.ts";
import type { Baseline, RecoveryWait, Sample, SampleRange } from "../recording/run-record.ts";

/** Bound on the wait for a recovery. Beyond its budget a recovery is still measured, so that the excess is known. */
export const RECOVERY_LIMIT_MS = 120_000;

export interface Recovery {
  /** From the moment of the fault; when no outage was seen, the shortest that would have been visible. */
  ms: number;
  /** No value exceeded its limit: an outage, if any, was shorter than `ms`. */
  below: boolean;
}

/**
 * Limits are the worst value of the phase "before" plus its spread, and at least plus these: a dozen samples miss rare
 * normal values, and a core that is busy with a start delays everything for a moment.
 */
const AGE_SLACK_SECONDS = 0.5;
const WAITED_SLACK_MS = 500;
/**
 * One second of the drill's and the fleet's events: lag is sampled once a second, between commits, and jumps by that much.
 * A stopped partition with less lag is visible by the age of its newest event.
 */
const LAG_SLACK_EVENTS = 300;
/** One second of events, also while a load test sends more. */
export const lagSlack = (eventsPerSecond = 0): number => Math.max(LAG_SLACK_EVENTS, eventsPerSecond);
/** Minimum duration of healthy samples: longer than an outage takes to show after its fault. */
export const STABLE_MS = 3000;
/** There are four samples a second. A longer gap is unknown, and restarts the minimum duration. */
const GAP_LIMIT_MS = 1500;

const rangeOf = (values: readonly number[]): SampleRange => ({
  least: Math.min(...values),
  worst: Math.max(...values),
});
const limitOf = ({ least, worst }: SampleRange, slack: number): number => worst + Math.max(worst - least, slack);

/** The baseline of healthy samples. @throws Error when one of them could not be read. */
export function baselineOf(samples: readonly Sample[]): Baseline {
  const read = (what: string, values: readonly (number | null)[]): SampleRange => {
    const known = values.filter((value) => value !== null);
    if (known.length === 0 || known.length < values.length)
      throw new Error(`before the fault ${what} could not be read`);
    return rangeOf(known);
  };
  const rate = median(samples.flatMap(({ eventsPerSecond }) => eventsPerSecond ?? []));
  return {
    ...(rate === null ? {} : { eventsPerSecond: rate }),
    ageSeconds: read(
      "the age of the newest event",
      samples.map(({ ageSeconds }) => ageSeconds),
    ),
    lagEvents: read(
      "lag",
      samples.map(({ lagEvents }) => lagEvents),
    ),
    waitedMs: rangeOf(samples.map(({ waitedMs }) => waitedMs)),
  };
}

/** Why a sample is worse than before the fault; undefined: it is not. */
export function worseThan(baseline: Baseline, { ageSeconds, lagEvents, waitedMs }: Sample): string | undefined {
  const ageLimit = limitOf(baseline.ageSeconds, AGE_SLACK_SECONDS);
  const lagLimit = Math.round(limitOf(baseline.lagEvents, lagSlack(baseline.eventsPerSecond)));
  const waitedLimit = limitOf(baseline.waitedMs, WAITED_SLACK_MS);
  if (ageSeconds === null) return "the newest event of each conveyor cannot be read";
  if (ageSeconds > ageLimit) {
    return `the newest event of a conveyor is ${ageSeconds.toFixed(1)} s old (limit ${ageLimit.toFixed(1)} s)`;
  }
  if (lagEvents === null) return "lag cannot be read";
  if (lagEvents > lagLimit) return `${lagEvents} events behind (limit ${lagLimit})`;
  if (waitedMs > waitedLimit) {
    return `a batch has waited ${(waitedMs / 1000).toFixed(1)} s for its answer (limit ${(waitedLimit / 1000).toFixed(1)} s)`;
  }
  return undefined;
}

/**
 * The shortest outage that is certainly visible: the newest event must age from its best value to beyond the limit, and
 * then a sample must be taken.
 * @param gapMs the longest time between two samples
 */
export function visibleFromMs({ ageSeconds }: Baseline, gapMs: number): number {
  return Math.ceil((limitOf(ageSeconds, AGE_SLACK_SECONDS) - ageSeconds.least) * 1000 + gapMs);
}

/**
 * Time from the fault to the first sample from which on all values were as before for STABLE_MS, also after `provenMs`;
 * undefined while there is none.
 * @param sinceMs when the fault had its effect, or was healed
 * @param provenMs when that was certain: a deleted pod still works for a while, and healthy samples of that time do not count
 */
export function recoveryOf(
  samples: readonly Sample[],
  sinceMs: number,
  baseline: Baseline,
  provenMs = sinceMs,
): Recovery | undefined {
  let healthySinceMs: number | undefined;
  let lastMs: number | undefined;
  let longestGapMs = 0;
  // An outage that began before (the fault is healed only now) ends with the first healthy sample after it.
  let sawOutage = false;
  for (const sample of samples) {
    const isWorse = worseThan(baseline, sample) !== undefined;
    const gapMs = lastMs === undefined ? 0 : sample.timeMs - lastMs;
    lastMs = sample.timeMs;
    if (sample.timeMs < sinceMs) {
      sawOutage = isWorse;
      continue;
    }
    longestGapMs = Math.max(longestGapMs, gapMs);
    if (gapMs > GAP_LIMIT_MS) {
      healthySinceMs = undefined;
      sawOutage = true;
    }
    if (isWorse) {
      healthySinceMs = undefined;
      sawOutage = true;
      continue;
    }
    healthySinceMs ??= sample.timeMs;
    if (sample.timeMs - Math.max(healthySinceMs, provenMs) < STABLE_MS) continue;
    return sawOutage
      ? { ms: healthySinceMs - sinceMs, below: false }
      : { ms: visibleFromMs(baseline, longestGapMs), below: true };
  }
  return undefined;
}

/**
 * Highest age of the newest stored event between two moments, in seconds. While it cannot be read, it ages from the last
 * known value.
 */
export function oldestAge(samples: readonly Sample[], fromMs: number, toMs: number): number {
  let oldest = 0;
  let last: Sample | undefined;
  for (const sample of samples) {
    if (sample.timeMs > toMs) break;
    if (sample.ageSeconds !== null) last = sample;
    if (sample.timeMs < fromMs || !last) continue;
    oldest = Math.max(oldest, last.ageSeconds! + (sample.timeMs - last.timeMs) / 1000);
  }
  return oldest;
}

/**
 * The measured recovery of a drill; undefined when it has not recovered yet. Both the runner, which waits for it, and the
 * judge use this function: samples after the recovery do not change its result.
 */
export function measureRecovery(
  samples: readonly Sample[],
  baseline: Baseline,
  { sinceMs, provenMs, readyMs }: RecoveryWait,
  budgetMs: number,
): DrillRecovery | undefined {
  const recovery = recoveryOf(samples, sinceMs, baseline, provenMs);
  if (recovery === undefined || readyMs === undefined) return undefined;
  const readyAfterMs = readyMs - sinceMs;
  const below = recovery.below && recovery.ms >= readyAfterMs;
  const measured_ms = Math.round(Math.max(recovery.ms, readyAfterMs));
  return { measured_ms, budget_ms: budgetMs, ...(below ? { below } : {}) };
}

/** "4.2 s"; "< 1.2 s" when no outage was visible. */
export const recoveryText = ({ measured_ms, below }: DrillRecovery): string =>
  `${below ? "< " : ""}${formatDuration(measured_ms)}`;
