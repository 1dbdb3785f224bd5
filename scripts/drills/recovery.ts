/**
 * When a drill's pipeline was back where it was before: pure, from the looks that were taken. What counts as "before" is
 * what the healthy beat showed, with its own spread; docs/resilience.md has the definition in words.
 */

/** One look at the pipeline. Null: could not be read, which is never taken for calm. */
export interface Sample {
  timeMs: number;
  /**
   * Age of the newest stored event of that conveyor of the drill's own which is furthest behind. There is one conveyor for
   * each partition, so a single partition that stands still shows, however fresh the others are.
   */
  ageSeconds: number | null;
  /** Events behind, of all partitions. */
  lagEvents: number | null;
  /** The longest that a batch of the drill's own has waited for its acknowledgement since the look before. */
  waitedMs: number;
  /** Partitions that lack a replica, as the brokers last said. */
  underReplicated: number | null;
}

interface Range {
  least: number;
  worst: number;
}

/** What was normal before the fault. */
export interface Normal {
  ageSeconds: Range;
  lagEvents: Range;
  waitedMs: Range;
}

/** A recovery that is there. */
export interface Recovery {
  /** From the fault's moment; where nothing was seen, the shortest outage that would have been. */
  ms: number;
  /** Nothing ever was beyond its limit: an outage, if there was one, was shorter than `ms`. */
  below: boolean;
}

/**
 * Beyond the worst of the healthy beat by its spread, and by these at the least: a dozen looks do not show the rarest of
 * what is normal, and a core that is busy with a start holds everything up for a moment.
 */
const AGE_SLACK_SECONDS = 0.5;
const WAITED_SLACK_MS = 500;
/**
 * One second of the drill's and the fleet's events. Lag is looked at once a second, between commits, and jumps by that
 * much. Nothing hides below: a partition with less lag that stands still is seen by the age of its newest event.
 */
const LAG_SLACK_EVENTS = 300;
/** Calm must last this long: longer than an outage takes to show, so that the silence behind a fault is no recovery. */
export const STABLE_MS = 3000;
/** Looks are four a second. Between two that are further apart than this nothing is known, and calm begins anew. */
const GAP_LIMIT_MS = 1500;

const rangeOf = (values: readonly number[]): Range => ({ least: Math.min(...values), worst: Math.max(...values) });
const limitOf = ({ least, worst }: Range, slack: number): number => worst + Math.max(worst - least, slack);

/** What some healthy looks say is normal. @throws Error when one of them could not be read. */
export function normalOf(samples: readonly Sample[]): Normal {
  const read = (what: string, values: readonly (number | null)[]): Range => {
    const known = values.filter((value) => value !== null);
    if (known.length === 0 || known.length < values.length)
      throw new Error(`before the fault ${what} could not be read`);
    return rangeOf(known);
  };
  return {
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

/** What of a look is worse than before the fault, or undefined. */
export function worseThan(normal: Normal, { ageSeconds, lagEvents, waitedMs }: Sample): string | undefined {
  const ageLimit = limitOf(normal.ageSeconds, AGE_SLACK_SECONDS);
  const lagLimit = limitOf(normal.lagEvents, LAG_SLACK_EVENTS);
  const waitedLimit = limitOf(normal.waitedMs, WAITED_SLACK_MS);
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
 * The shortest outage that is seen for certain: an event that is as fresh as it ever was must age to beyond the limit, and
 * then somebody must look.
 * @param gapMs the longest time between two looks
 */
export function visibleFromMs({ ageSeconds }: Normal, gapMs: number): number {
  return Math.ceil((limitOf(ageSeconds, AGE_SLACK_SECONDS) - ageSeconds.least) * 1000 + gapMs);
}

/**
 * How long it took, from the fault's moment to the first look from which on everything was as before for STABLE_MS, also
 * behind `provenMs`; undefined when that is not so yet.
 * @param sinceMs when the fault took hold, or was taken away
 * @param provenMs when that was known for certain: a pod that is told to end still works for a while, and the calm of
 *   that time is no recovery
 */
export function recoveryOf(
  samples: readonly Sample[],
  sinceMs: number,
  normal: Normal,
  provenMs = sinceMs,
): Recovery | undefined {
  let calmSinceMs: number | undefined;
  let lastMs: number | undefined;
  let longestGapMs = 0;
  // An outage that began before, since the fault is taken away only now, ends with the first calm look behind it.
  let sawTrouble = false;
  for (const sample of samples) {
    const isWorse = worseThan(normal, sample) !== undefined;
    const gapMs = lastMs === undefined ? 0 : sample.timeMs - lastMs;
    lastMs = sample.timeMs;
    if (sample.timeMs < sinceMs) {
      sawTrouble = isWorse;
      continue;
    }
    longestGapMs = Math.max(longestGapMs, gapMs);
    if (gapMs > GAP_LIMIT_MS) {
      calmSinceMs = undefined;
      sawTrouble = true;
    }
    if (isWorse) {
      calmSinceMs = undefined;
      sawTrouble = true;
      continue;
    }
    calmSinceMs ??= sample.timeMs;
    if (sample.timeMs - Math.max(calmSinceMs, provenMs) < STABLE_MS) continue;
    return sawTrouble
      ? { ms: calmSinceMs - sinceMs, below: false }
      : { ms: visibleFromMs(normal, longestGapMs), below: true };
  }
  return undefined;
}

/**
 * How old the newest stored event ever was between two moments, in seconds. While it could not be read it ages on from
 * what was seen last.
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
