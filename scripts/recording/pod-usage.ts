/**
 * CPU of a workload's pods from the metrics API, for a workload without such a metric (InfluxDB). The API has no watch and
 * samples containers about every ten seconds; without the API the value is unknown.
 */

import { pause } from "../cli/wait.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";

const POLL_MS = 5000;
/** An older value is unknown. */
const STALE_MS = 40_000;

interface PodMetrics {
  timestamp: string;
  containers: { usage: { cpu: string } }[];
}

const UNITS = { n: 1e-9, u: 1e-6, m: 1e-3, "": 1, k: 1e3, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 } as const;

/** The number of a Kubernetes quantity: 125m and 31415926n (cores), 24110480Ki (bytes), 1k. */
export function quantity(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([numk]|[KMG]i|)$/.exec(text);
  if (!match) throw new Error(`must be a Kubernetes quantity such as 125m; got "${text}"`);
  return Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
}

export class PodUsage {
  #cores: number | undefined;
  #atMs = 0;

  constructor(
    private readonly cluster: Cluster,
    private readonly workload: string,
    signal: AbortSignal,
  ) {
    void this.#run(signal);
  }

  /** Sum over the pods; null: unknown. */
  cores(): number | null {
    return this.#cores === undefined || Date.now() - this.#atMs > STALE_MS ? null : this.#cores;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const selector = encodeURIComponent(`app.kubernetes.io/name=${this.workload}`);
    const path = `/apis/metrics.k8s.io/v1beta1/namespaces/${NAMESPACE}/pods?labelSelector=${selector}`;
    while (!signal.aborted) {
      try {
        const { stdout } = await this.cluster.kubectl(["get", "--raw", path], { signal });
        const { items } = JSON.parse(stdout) as { items: PodMetrics[] };
        if (items.length > 0) {
          const cores = items
            .flatMap(({ containers }) => containers)
            .reduce((sum, c) => sum + quantity(c.usage.cpu), 0);
          this.#cores = Math.round(cores * 1000) / 1000;
          this.#atMs = Math.min(...items.map(({ timestamp }) => Date.parse(timestamp)));
        }
      } catch {
        // No metrics API or no answer: the value becomes stale.
      }
      await pause(POLL_MS, signal).catch(() => {});
    }
  }
}
