/** Parses the metrics of /metrics and computes sums, histograms and quantiles. */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/**
 * Samples of a text in the Prometheus exposition format (text, version 0.0.4); comments are skipped.
 * @param isWanted selects samples by name, for readers of a few of a thousand series.
 */
export function parseMetrics(text: string, isWanted?: (name: string) => boolean): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (isWanted && !isWanted(nameOf(line))) continue;
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!match || line.startsWith("#")) continue;
    const labels: Record<string, string> = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name!] = value!.replaceAll(/\\(["\\n])/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped));
    }
    const value = match[3] === "+Inf" ? Number.POSITIVE_INFINITY : Number(match[3]);
    samples.push({ name: match[1]!, labels, value });
  }
  return samples;
}

/** Sum over all series of a counter or gauge; 0 when there is none. */
export function readSum(samples: readonly Sample[], name: string): number {
  return samples.filter((sample) => sample.name === name).reduce((sum, sample) => sum + sample.value, 0);
}

/** A histogram's cumulative counts by upper bound, summed over its series. */
export class Histogram {
  constructor(
    readonly buckets: ReadonlyMap<number, number>,
    readonly count: number,
  ) {}

  /** The observations since `earlier`. */
  minus(earlier: Histogram): Histogram {
    const buckets = new Map(
      [...this.buckets].map(([bound, count]) => [bound, count - (earlier.buckets.get(bound) ?? 0)]),
    );
    return new Histogram(buckets, this.count - earlier.count);
  }
}

export function readHistogram(samples: readonly Sample[], name: string): Histogram {
  const buckets = new Map<number, number>();
  for (const sample of samples) {
    if (sample.name !== `${name}_bucket`) continue;
    const bound = sample.labels.le === "+Inf" ? Number.POSITIVE_INFINITY : Number(sample.labels.le);
    buckets.set(bound, (buckets.get(bound) ?? 0) + sample.value);
  }
  return new Histogram(new Map([...buckets].sort(([a], [b]) => a - b)), readSum(samples, `${name}_count`));
}

/**
 * Quantile of a histogram by linear interpolation inside the bucket, as PromQL's histogram_quantile does; in the
 * last, unbounded bucket the highest bound is returned.
 */
export function quantile(histogram: Histogram, q: number): number {
  const rank = q * histogram.count;
  let lower = 0;
  let below = 0;
  for (const [bound, count] of histogram.buckets) {
    if (count >= rank && count > below) {
      return bound === Number.POSITIVE_INFINITY ? lower : lower + (bound - lower) * ((rank - below) / (count - below));
    }
    if (bound !== Number.POSITIVE_INFINITY) lower = bound;
    below = count;
  }
  return Number.NaN;
}

function nameOf(line: string): string {
  const end = line.search(/[{ ]/);
  return end < 0 ? line : line.slice(0, end);
}
