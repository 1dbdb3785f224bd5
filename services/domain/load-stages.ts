/**
 * The stages of a load: how many events are due at each moment. The schedule depends on the clock alone, not on the
 * speed of the responses (an open load model).
 */

export interface LoadStage {
  seconds: number;
  events_per_second: number;
}

/** Six hours: a recording has 50,000 rows at most, and an audit reads every event of a run. */
const MAX_TOTAL_SECONDS = 6 * 3600;
const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };
/** Far more than the pipeline takes; a larger value is a typing error. */
const MAX_EVENTS_PER_SECOND = 200_000;
const MAX_STAGES = 50;

/**
 * Stages of "60s@500,2m@5000,60s@0".
 * @throws Error that names the stage, the rule and the value.
 */
export function parseStages(text: string): LoadStage[] {
  const stages = text.split(",").map((part, index) => {
    const match = /^(\d+(?:\.\d+)?)(s|m|h)@(\d+)$/.exec(part.trim());
    if (!match) {
      throw new Error(`stage ${index + 1}: must be DURATION@EVENTS_PER_SECOND, for example 60s@500; got "${part}"`);
    }
    const seconds = Number(match[1]) * UNIT_SECONDS[match[2]!]!;
    const rate = Number(match[3]);
    if (seconds < 1) throw new Error(`stage ${index + 1}: must last at least 1s; got "${part}"`);
    if (rate > MAX_EVENTS_PER_SECOND) {
      throw new Error(`stage ${index + 1}: must be at most ${MAX_EVENTS_PER_SECOND} events/s; got "${part}"`);
    }
    return { seconds, events_per_second: rate };
  });
  if (stages.length > MAX_STAGES) throw new Error(`stages: must be at most ${MAX_STAGES}; got ${stages.length}`);
  const total = totalSeconds(stages);
  if (total > MAX_TOTAL_SECONDS)
    throw new Error(`stages: must last at most ${MAX_TOTAL_SECONDS}s together; got ${total}s`);
  return stages;
}

export const formatStages = (stages: readonly LoadStage[]): string =>
  stages.map(({ seconds, events_per_second }) => `${seconds}s@${events_per_second}`).join(",");

export const totalSeconds = (stages: readonly LoadStage[]): number =>
  stages.reduce((sum, { seconds }) => sum + seconds, 0);

/** Events due from the start until now. */
export function dueEvents(stages: readonly LoadStage[], elapsedMs: number): number {
  let due = 0;
  let left = Math.max(0, elapsedMs) / 1000;
  for (const { seconds, events_per_second } of stages) {
    due += Math.min(left, seconds) * events_per_second;
    left -= seconds;
    if (left <= 0) break;
  }
  // Rounding errors (0.1 + 0.2) must not lose an event.
  return Math.floor(due + 1e-6);
}

/** When event number `index` (from 0) is due, in milliseconds from the start. */
export function dueTimeMs(stages: readonly LoadStage[], index: number): number {
  let before = 0;
  let startMs = 0;
  for (const { seconds, events_per_second } of stages) {
    const inStage = seconds * events_per_second;
    if (index + 1 <= before + inStage + 1e-6) return startMs + ((index + 1 - before) / events_per_second) * 1000;
    before += inStage;
    startMs += seconds * 1000;
  }
  return startMs;
}

/** Index of the stage at that moment; undefined after the last one. */
export function stageAt(stages: readonly LoadStage[], elapsedMs: number): number | undefined {
  let endMs = 0;
  for (const [index, { seconds }] of stages.entries()) {
    endMs += seconds * 1000;
    if (elapsedMs < endMs) return index;
  }
  return undefined;
}
