/**
 * One pod's metrics over time: what its counters gained since the last look. A pod that restarted begins at zero again,
 * one that is new since we began counts from its start, and one that was there before begins with a base and no gain.
 */
import { Histogram, readHistogram, readSum, type Sample } from "./exposition.ts";

/** What a look at a pod told, per second where it is a counter. */
export interface Gain {
  /** Since the last look, in seconds. */
  seconds: number;
  /** Counter → what it gained per second. */
  perSecond: Map<string, number>;
  /** Histogram → what was observed since the last look. */
  histograms: Map<string, Histogram>;
}

export interface PodWatchOptions {
  counters: readonly string[];
  histograms: readonly string[];
  /** When the observation began, in milliseconds since 1970. */
  startedAtMs: number;
}

const START_TIME = "process_start_time_seconds";
const NOTHING = new Histogram(new Map(), 0);

export class PodWatch {
  #lastAtMs: number;
  #startedSeconds: number | undefined;
  #counters: Map<string, number> | undefined;
  #histograms = new Map<string, Histogram>();

  constructor(private readonly options: PodWatchOptions) {
    this.#lastAtMs = options.startedAtMs;
  }

  /** When it last answered, in milliseconds since 1970. */
  get lastAtMs(): number {
    return this.#lastAtMs;
  }

  /** @returns undefined when there is nothing to compare with yet. */
  look(samples: readonly Sample[], atMs: number): Gain | undefined {
    const { counters, histograms, startedAtMs } = this.options;
    const startSeconds = samples.find(({ name }) => name === START_TIME)?.value ?? 0;
    const now = new Map(counters.map((name) => [name, readSum(samples, name)]));
    const seen = new Map(histograms.map((name) => [name, readHistogram(samples, name)]));
    const isNew = this.#counters === undefined;
    // The start is told in whole seconds: a process that began within our first second counts as older.
    const fromZero = isNew ? startSeconds * 1000 > startedAtMs + 1000 : startSeconds !== this.#startedSeconds;
    const before = fromZero ? new Map<string, number>() : this.#counters;
    const seenBefore = fromZero ? new Map<string, Histogram>() : this.#histograms;
    const seconds = isNew && fromZero ? atMs / 1000 - startSeconds : (atMs - this.#lastAtMs) / 1000;
    this.#lastAtMs = atMs;
    this.#startedSeconds = startSeconds;
    this.#counters = now;
    this.#histograms = seen;
    if (before === undefined || seconds <= 0) return undefined;
    return {
      seconds,
      perSecond: new Map(
        [...now].map(([name, value]) => [name, Math.max(0, value - (before.get(name) ?? 0)) / seconds]),
      ),
      histograms: new Map([...seen].map(([name, value]) => [name, value.minus(seenBefore.get(name) ?? NOTHING)])),
    };
  }
}

/** Several histograms of equal buckets as one. */
export function mergeHistograms(histograms: readonly Histogram[]): Histogram {
  const buckets = new Map<number, number>();
  let count = 0;
  for (const histogram of histograms) {
    for (const [bound, value] of histogram.buckets) buckets.set(bound, (buckets.get(bound) ?? 0) + value);
    count += histogram.count;
  }
  return new Histogram(new Map([...buckets].sort(([a], [b]) => a - b)), count);
}
