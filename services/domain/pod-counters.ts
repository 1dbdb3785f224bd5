/**
 * One pod's metrics over time: the increase of its counters since the last sample. After a restart the counters start
 * at zero. A pod that is newer than the observation counts from its start; an older one starts with a base and no
 * increase.
 */
import { Histogram, readHistogram, readSum, type Sample } from "./exposition.ts";

/** The increase between two samples of a pod. */
interface Gain {
  /** Since the last sample. */
  seconds: number;
  /** Counter → increase per second. */
  perSecond: Map<string, number>;
  /** Histogram → observations since the last sample. */
  histograms: Map<string, Histogram>;
}

interface PodWatchOptions {
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

  /** Time of the last sample, in milliseconds since 1970. */
  get lastAtMs(): number {
    return this.#lastAtMs;
  }

  /** Adds a sample; undefined when there is none to compare with. */
  add(samples: readonly Sample[], atMs: number): Gain | undefined {
    const { counters, histograms, startedAtMs } = this.options;
    const startSeconds = samples.find(({ name }) => name === START_TIME)?.value ?? 0;
    const now = new Map(counters.map((name) => [name, readSum(samples, name)]));
    const seen = new Map(histograms.map((name) => [name, readHistogram(samples, name)]));
    const isNew = this.#counters === undefined;
    // Start times have whole seconds: a process that started within our first second counts as older.
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
