/** Polls the metrics of every pod of one tier and combines them into a view of the tier. */
import { type Histogram, parseMetrics, type Sample } from "../domain/exposition.ts";
import { mergeHistograms, PodWatch } from "../domain/pod-counters.ts";
import type { ObservedValue } from "../protocol/observer.ts";
import { addressesOf, urlHost } from "../runtime/pod-addresses.ts";
import { withTimeout } from "../runtime/with-timeout.ts";

export interface Tier {
  name: "producer" | "processor" | "lag-exporter" | "kafka";
  host: string;
  port: number;
  /** Counters and gauges that are read; gauges are read as they are. */
  counters?: readonly string[];
  gauges?: readonly string[];
  histograms?: readonly string[];
  /** Milliseconds between two polls; every tick when absent. */
  everyMs?: number;
}

/** A pod without an answer for this long counts as absent; until then its tier has a gap. */
const SILENT_MS = 3000;
/** Limit for one pod's answer, whatever the tick: a pod of a saturated tier may be slow. */
const SCRAPE_LIMIT_MS = 1500;
const LEAST_SCRAPE_LIMIT_MS = 400;
const RESOLVE_LIMIT_MS = 500;

type Answer = { kind: "samples"; samples: Sample[] } | { kind: "absent" } | { kind: "silent" };

export interface TierView {
  /** Addresses of the pods that answered. */
  seen: readonly string[];
  /** Per second, summed over its pods; null: not known. */
  rate(counter: string): ObservedValue;
  /** Summed over its pods. */
  gauge(name: string): ObservedValue;
  /** Observations of all its pods since the poll before. */
  histogram(name: string): Histogram | undefined;
}

export class TierPoller {
  readonly #pods = new Map<string, PodWatch>();
  readonly #wanted: ReadonlySet<string>;
  readonly #startedAtMs = Date.now();
  #addresses: string[] = [];
  #polledAtMs = Number.NEGATIVE_INFINITY;
  #view: TierView = UNKNOWN;

  constructor(
    readonly tier: Tier,
    private readonly options: { namespace: string; ca: string; tickMs: number },
  ) {
    const { counters = [], gauges = [], histograms = [] } = tier;
    this.#wanted = new Set([
      "process_start_time_seconds",
      ...counters,
      ...gauges,
      ...histograms.flatMap((name) => [`${name}_bucket`, `${name}_count`]),
    ]);
  }

  /** The newest view; of a tier that is polled less often than every tick, the view of its last poll. */
  async poll(nowMs: number): Promise<TierView> {
    if (nowMs - this.#polledAtMs < (this.tier.everyMs ?? 0)) return this.#view;
    this.#polledAtMs = nowMs;
    const found = await this.#resolve();
    if (found) this.#addresses = found;
    for (const address of this.#pods.keys()) if (!this.#addresses.includes(address)) this.#pods.delete(address);
    const views = await Promise.all(this.#addresses.map((address) => this.#pollPod(address)));
    // The name server has never answered: nothing is known.
    this.#view = !found && views.length === 0 ? UNKNOWN : combine(views);
    return this.#view;
  }

  async #resolve(): Promise<string[] | undefined> {
    const name = `${this.tier.host}.${this.options.namespace}.svc`;
    try {
      return await withTimeout(addressesOf(name), RESOLVE_LIMIT_MS);
    } catch (error) {
      // The name exists and has no pod.
      return ["ENOTFOUND", "ENODATA"].includes(String((error as { code?: string }).code)) ? [] : undefined;
    }
  }

  async #pollPod(address: string): Promise<PodView> {
    let watch = this.#pods.get(address);
    if (!watch) {
      const { counters = [], histograms = [] } = this.tier;
      watch = new PodWatch({ counters, histograms, startedAtMs: this.#startedAtMs });
      this.#pods.set(address, watch);
    }
    const answer = await this.#scrape(address);
    const nowMs = Date.now();
    if (answer.kind === "absent") return { kind: "absent" };
    if (answer.kind === "silent") return { kind: nowMs - watch.lastAtMs > SILENT_MS ? "absent" : "silent" };
    return { kind: "seen", address, gain: watch.add(answer.samples, nowMs), samples: answer.samples };
  }

  async #scrape(address: string): Promise<Answer> {
    const { port, name } = this.tier;
    const limitMs = Math.min(SCRAPE_LIMIT_MS, Math.max(LEAST_SCRAPE_LIMIT_MS, this.options.tickMs * 0.8));
    try {
      const response = await fetch(`https://${urlHost(address)}:${port}/metrics`, {
        // All pods of a tier have the tier's certificate.
        tls: { ca: this.options.ca, serverName: `${name}.${this.options.namespace}.svc` },
        signal: AbortSignal.timeout(limitMs),
      });
      const text = await response.text();
      if (!response.ok) return { kind: "silent" };
      return { kind: "samples", samples: parseMetrics(text, (sample) => this.#wanted.has(sample)) };
    } catch (error) {
      const { code, name: kind } = error as { code?: string; name?: string };
      return { kind: kind === "TimeoutError" || code === "ETIMEDOUT" ? "silent" : "absent" };
    }
  }
}

type PodView =
  | { kind: "absent" }
  | { kind: "silent" }
  | { kind: "seen"; address: string; gain: ReturnType<PodWatch["add"]>; samples: Sample[] };

const UNKNOWN: TierView = { seen: [], rate: () => null, gauge: () => null, histogram: () => undefined };

function combine(views: readonly PodView[]): TierView {
  // With one pod that may exist and does not answer, no sum is known.
  if (views.some(({ kind }) => kind === "silent")) return UNKNOWN;
  const seen = views.flatMap((view) => (view.kind === "seen" ? [view] : []));
  const gains = seen.flatMap(({ gain }) => (gain ? [gain] : []));
  return {
    seen: seen.map(({ address }) => address),
    // No answer, or no earlier sample to compare with: unknown, not zero. The name server reports new pods up to 5 s
    // late, so a tier that seems empty may be at work.
    rate: (counter) =>
      gains.length === 0 ? null : gains.reduce((sum, gain) => sum + (gain.perSecond.get(counter) ?? 0), 0),
    gauge: (name) => {
      const values = seen.flatMap(({ samples }) => samples.filter((sample) => sample.name === name));
      return values.length === 0 ? null : values.reduce((sum, { value }) => sum + value, 0);
    },
    histogram: (name) => mergeHistograms(gains.flatMap((gain) => gain.histograms.get(name) ?? [])),
  };
}
