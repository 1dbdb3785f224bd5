/**
 * Reads the metrics of a workload's pods through port-forwards, over TLS verified against the project's CA, and does
 * the little arithmetic that a check needs. Dashboards and alerts use Prometheus; this is for commands that must work
 * without it.
 */
import { request } from "node:https";
import { type Cluster, NAMESPACE } from "./cluster.ts";
import { OperatorError } from "./errors.ts";
import { readSecret } from "./live-secrets.ts";

const OPS_PORT = 9464;
/** A scrape is a few kilobytes from a process that is at work; longer means that it is wedged. */
const SCRAPE_LIMIT_MS = 10_000;

/** One sample: `name{labels} value`. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Samples of a text in the Prometheus exposition format (text, version 0.0.4); comments are skipped. */
export function parseMetrics(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
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
  readonly buckets: ReadonlyMap<number, number>;
  readonly count: number;

  constructor(buckets: ReadonlyMap<number, number>, count: number) {
    this.buckets = buckets;
    this.count = count;
  }

  /** What was observed since `earlier`. */
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
 * last, unbounded bucket the highest bound is given.
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

/** A GET over TLS through a forwarded port; the certificate must be `servername`'s, from `ca`. */
export function getVerified(port: number, path: string, ca: string, servername: string, signal?: AbortSignal) {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const call = request(
      { host: "127.0.0.1", port, path, ca, servername, timeout: SCRAPE_LIMIT_MS, ...(signal ? { signal } : {}) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
        );
        response.on("error", reject);
      },
    );
    call.on("timeout", () => call.destroy(new Error(`no answer within ${SCRAPE_LIMIT_MS / 1000} s`)));
    call.on("error", reject);
    call.end();
  });
}

/** Metrics of every running pod of a workload, together. @throws OperatorError when a pod cannot be read. */
export async function scrape(cluster: Cluster, workload: string, signal?: AbortSignal): Promise<Sample[]> {
  const ca = (await readSecret(cluster, `${workload}-tls`))["ca.crt"] ?? "";
  const pods = (await cluster.pods(workload)).filter(({ status }) => status.phase === "Running");
  if (pods.length === 0) throw new OperatorError(`no running pod of ${workload} to read metrics from`);
  const answers = await Promise.all(
    pods.map(async ({ metadata }) => {
      const forward = await cluster.portForward(`pod/${metadata.name}`, OPS_PORT, NAMESPACE);
      try {
        const { status, body } = await getVerified(
          forward.port,
          "/metrics",
          ca,
          `${workload}.${NAMESPACE}.svc`,
          signal,
        );
        if (status !== 200) throw new OperatorError(`/metrics of ${metadata.name} answered ${status}`);
        return parseMetrics(body);
      } finally {
        await forward.close();
      }
    }),
  );
  return answers.flat();
}
