/**
 * The observer: looks at every pod of the pipeline once a tick and prints one JSON line with what it saw. A load test or
 * a drill starts it as a pod and follows its output, so that nothing of the observation depends on a pod that may die.
 *
 *   {"t":1764038400000,"row":{"acknowledged_events_per_second":199,"lag_events":12,…},"since_start":{"e2e_p99_ms":48.2,…}}
 *
 * A value that could not be read is null; a series that this cluster has no source for is left out.
 */
import { resolve4 } from "node:dns/promises";
import { type Histogram, parseMetrics, quantile, type Sample } from "../domain/exposition.ts";
import { mergeHistograms, PodWatch } from "../domain/pod-counters.ts";
import { type ConfigReader, type InfluxConfig, readCommon, readInflux } from "../runtime/config.ts";
import { runService, type ServiceFrame } from "../runtime/service.ts";
import { withTimeout } from "../runtime/with-timeout.ts";

type Value = number | null;

interface Tier {
  name: "producer" | "processor" | "lag-exporter" | "kafka";
  host: string;
  port: number;
  /** Counters and gauges that are read; gauges are read as they are. */
  counters: readonly string[];
  gauges: readonly string[];
  histograms: readonly string[];
  /** Milliseconds between two looks; 0: every tick. */
  everyMs: number;
}

const ACKNOWLEDGED = "conveyor_producer_events_acknowledged_total";
const REFUSED = "conveyor_producer_events_refused_total";
const DEAD_LETTERS = "conveyor_processor_dead_letters_total";
const STORED = "conveyor_processor_points_written_total";
const END_TO_END = "conveyor_e2e_latency_seconds";
const WRITE_LATENCY = "conveyor_processor_write_latency_seconds";
const LAG = "kafka_consumergroup_lag_sum";
const UNDER_REPLICATED = "kafka_server_replicamanager_underreplicatedpartitions";
const CPU = "process_cpu_seconds_total";
const MEMORY = "process_resident_memory_bytes";
const BYTES_PER_MEBIBYTE = 1_048_576;

/** The metrics of a broker are large, and reading them costs the machine that is being measured. */
const LARGE_EVERY_MS = 3000;

const TIERS: readonly Tier[] = [
  {
    name: "producer",
    host: "producer-headless",
    port: 9464,
    counters: [ACKNOWLEDGED, REFUSED, CPU],
    gauges: [MEMORY],
    histograms: [],
    everyMs: 0,
  },
  {
    name: "processor",
    host: "processor-headless",
    port: 9464,
    counters: [STORED, DEAD_LETTERS, CPU],
    gauges: [MEMORY],
    histograms: [END_TO_END, WRITE_LATENCY],
    everyMs: 0,
  },
  { name: "lag-exporter", host: "lag-exporter", port: 9464, counters: [], gauges: [LAG], histograms: [], everyMs: 0 },
  {
    name: "kafka",
    host: "kafka-headless",
    port: 9404,
    counters: [CPU],
    gauges: [UNDER_REPLICATED],
    histograms: [],
    everyMs: LARGE_EVERY_MS,
  },
];

/** A pod that is silent for so long counts as gone; until then its tier has a gap. */
const SILENT_MS = 3000;
/** Longest wait for one pod's answer, whatever the tick: a pod of a saturated tier may be slow and still be right. */
const SCRAPE_LIMIT_MS = 1500;
const LEAST_SCRAPE_LIMIT_MS = 400;
const RESOLVE_LIMIT_MS = 500;
const QUERY_LIMIT_MS = 1500;
/** A fleet that is silent for longer has no newest point. */
const FRESHNESS_WINDOW = "-15m";

const read = (reader: ConfigReader) => ({
  common: readCommon(reader),
  namespace: reader.text("NAMESPACE", "conveyor"),
  influx: readInflux(reader),
  tickMs: reader.integer("TICK_MS", { least: 250, most: 60_000, fallback: 1000 }),
});
type Config = ReturnType<typeof read>;

type Answer = { kind: "samples"; samples: Sample[] } | { kind: "gone" } | { kind: "silent" };

/** What one tier looked like at a tick. */
interface TierView {
  /** Addresses of the pods that answered. */
  seen: readonly string[];
  /** Per second, summed over its pods; null: not known. */
  rate(counter: string): Value;
  /** Summed over its pods. */
  gauge(name: string): Value;
  /** Of what all its pods observed since their last look. */
  histogram(name: string): Histogram | undefined;
}

class TierWatch {
  readonly #pods = new Map<string, PodWatch>();
  readonly #wanted: ReadonlySet<string>;
  readonly #startedAtMs = Date.now();
  #addresses: string[] = [];
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #view: TierView = UNKNOWN;

  constructor(
    readonly tier: Tier,
    private readonly config: Config,
  ) {
    this.#wanted = new Set([
      "process_start_time_seconds",
      ...tier.counters,
      ...tier.gauges,
      ...tier.histograms.flatMap((name) => [`${name}_bucket`, `${name}_count`]),
    ]);
  }

  /** The newest view; where the tier is looked at less often than every tick, the one of the last look. */
  async look(nowMs: number): Promise<TierView> {
    if (nowMs - this.#lookedAtMs < this.tier.everyMs) return this.#view;
    this.#lookedAtMs = nowMs;
    const found = await this.#resolve();
    if (found) this.#addresses = found;
    for (const address of this.#pods.keys()) if (!this.#addresses.includes(address)) this.#pods.delete(address);
    const views = await Promise.all(this.#addresses.map((address) => this.#lookAt(address)));
    // Names unknown and never known: no pod to speak of, so nothing is known.
    this.#view = !found && views.length === 0 ? UNKNOWN : combine(views);
    return this.#view;
  }

  /** Addresses of its pods; undefined when the name server does not answer. */
  async #resolve(): Promise<string[] | undefined> {
    const name = `${this.tier.host}.${this.config.namespace}.svc.cluster.local`;
    try {
      return (await withTimeout(resolve4(name), RESOLVE_LIMIT_MS)).sort();
    } catch (error) {
      // The name is there and has no pod.
      return ["ENOTFOUND", "ENODATA"].includes(String((error as { code?: string }).code)) ? [] : undefined;
    }
  }

  async #lookAt(address: string): Promise<PodView> {
    let watch = this.#pods.get(address);
    if (!watch) {
      const { counters, histograms } = this.tier;
      watch = new PodWatch({ counters, histograms, startedAtMs: this.#startedAtMs });
      this.#pods.set(address, watch);
    }
    const answer = await this.#scrape(address);
    const nowMs = Date.now();
    if (answer.kind === "gone") return { kind: "gone" };
    if (answer.kind === "silent") return { kind: nowMs - watch.lastAtMs > SILENT_MS ? "gone" : "silent" };
    return { kind: "seen", address, gain: watch.look(answer.samples, nowMs), samples: answer.samples };
  }

  async #scrape(address: string): Promise<Answer> {
    const { port, name } = this.tier;
    const limitMs = Math.min(SCRAPE_LIMIT_MS, Math.max(LEAST_SCRAPE_LIMIT_MS, this.config.tickMs * 0.8));
    try {
      const response = await fetch(`https://${address}:${port}/metrics`, {
        // The certificate is the tier's, whichever of its pods answers.
        tls: { ca: this.config.influx.ca, serverName: `${name}.${this.config.namespace}.svc` },
        signal: AbortSignal.timeout(limitMs),
      });
      const text = await response.text();
      if (!response.ok) return { kind: "silent" };
      return { kind: "samples", samples: parseMetrics(text, (sample) => this.#wanted.has(sample)) };
    } catch (error) {
      const { code, name: kind } = error as { code?: string; name?: string };
      return { kind: kind === "TimeoutError" || code === "ETIMEDOUT" ? "silent" : "gone" };
    }
  }
}

type PodView =
  | { kind: "gone" }
  | { kind: "silent" }
  | { kind: "seen"; address: string; gain: ReturnType<PodWatch["look"]>; samples: Sample[] };

const UNKNOWN: TierView = { seen: [], rate: () => null, gauge: () => null, histogram: () => undefined };

function combine(views: readonly PodView[]): TierView {
  // One pod that may be there and does not answer makes every sum a guess.
  if (views.some(({ kind }) => kind === "silent")) return UNKNOWN;
  const seen = views.flatMap((view) => (view.kind === "seen" ? [view] : []));
  const gains = seen.flatMap(({ gain }) => (gain ? [gain] : []));
  return {
    seen: seen.map(({ address }) => address),
    // No pod that answered, or none with a base yet: nothing is known. Names of new pods come up to 5 s late, so a tier
    // that seems empty may be at work.
    rate: (counter) =>
      gains.length === 0 ? null : gains.reduce((sum, gain) => sum + (gain.perSecond.get(counter) ?? 0), 0),
    gauge: (name) => {
      const values = seen.flatMap(({ samples }) => samples.filter((sample) => sample.name === name));
      return values.length === 0 ? null : values.reduce((sum, { value }) => sum + value, 0);
    },
    histogram: (name) => mergeHistograms(gains.flatMap((gain) => gain.histograms.get(name) ?? [])),
  };
}

const milliseconds = (histogram: Histogram | undefined, q: number): Value => {
  if (!histogram || histogram.count <= 0) return null;
  return round(quantile(histogram, q) * 1000, 1);
};
const round = (value: number, digits: number) => Math.round(value * 10 ** digits) / 10 ** digits;
const mebibytes = (bytes: Value): Value => (bytes === null ? null : round(bytes / BYTES_PER_MEBIBYTE, 1));
const rounded = (value: Value, digits: number): Value => (value === null ? null : round(value, digits));

/** Age of the newest stored point of the live fleet, in seconds. */
async function freshness(influx: InfluxConfig): Promise<Value> {
  const flux = [
    `from(bucket: ${JSON.stringify(influx.bucket)})`,
    `|> range(start: ${FRESHNESS_WINDOW})`,
    `|> filter(fn: (r) => r._measurement == "conveyor_telemetry" and r._field == "seq" and r.conveyor =~ /^belt-/)`,
    `|> last()`,
    `|> keep(columns: ["_time"])`,
    `|> group()`,
    `|> max(column: "_time")`,
  ].join("\n");
  try {
    const response = await fetch(`${influx.url}/api/v2/query?org=${encodeURIComponent(influx.org)}`, {
      method: "POST",
      headers: {
        authorization: `Token ${influx.token}`,
        "content-type": "application/vnd.flux",
        accept: "application/csv",
      },
      body: flux,
      tls: { ca: influx.ca },
      signal: AbortSignal.timeout(QUERY_LIMIT_MS),
    });
    const text = await response.text();
    const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?/.exec(text)?.[0];
    if (!response.ok || !time) return null;
    return Math.max(0, round((Date.now() - Date.parse(`${time}Z`)) / 1000, 2));
  } catch {
    return null;
  }
}

async function start(config: Config, { log, shutdown }: ServiceFrame): Promise<void> {
  const watches = TIERS.map((tier) => new TierWatch(tier, config));
  log.info("observing", { tick_ms: config.tickMs });
  const startedAtMs = Date.now();
  // Of everything stored since the start: quantiles of single ticks cannot be joined afterwards.
  let endToEnd = mergeHistograms([]);
  while (!shutdown.begun) {
    const nowMs = Date.now();
    const [views, age] = await Promise.all([
      Promise.all(watches.map((watch) => watch.look(nowMs))),
      freshness(config.influx),
    ]);
    const [producer, processor, exporter, kafka] = views as [TierView, TierView, TierView, TierView];
    const refused = producer.rate(REFUSED);
    const letters = processor.rate(DEAD_LETTERS);
    const row: Record<string, Value> = {
      acknowledged_events_per_second: rounded(producer.rate(ACKNOWLEDGED), 1),
      stored_events_per_second: rounded(processor.rate(STORED), 1),
      dead_letters_per_second: refused === null || letters === null ? null : round(refused + letters, 1),
      lag_events: exporter.gauge(LAG),
      freshness_seconds: age,
      e2e_p50_ms: milliseconds(processor.histogram(END_TO_END), 0.5),
      e2e_p99_ms: milliseconds(processor.histogram(END_TO_END), 0.99),
      producer_cpu_cores: rounded(producer.rate(CPU), 3),
      processor_cpu_cores: rounded(processor.rate(CPU), 3),
      kafka_cpu_cores: rounded(kafka.rate(CPU), 3),
      producer_memory_mebibytes: mebibytes(producer.gauge(MEMORY)),
      processor_memory_mebibytes: mebibytes(processor.gauge(MEMORY)),
      influxdb_write_latency_p99_ms: milliseconds(processor.histogram(WRITE_LATENCY), 0.99),
      under_replicated_partitions: kafka.gauge(UNDER_REPLICATED),
    };
    endToEnd = mergeHistograms([endToEnd, processor.histogram(END_TO_END) ?? mergeHistograms([])]);
    const since_start = { e2e_p50_ms: milliseconds(endToEnd, 0.5), e2e_p99_ms: milliseconds(endToEnd, 0.99) };
    const seen = { producer: producer.seen, processor: processor.seen };
    process.stdout.write(`${JSON.stringify({ t: nowMs, row, since_start, seen })}\n`);
    // A fixed beat; ticks that were missed are left out, not made up for.
    const nextMs = startedAtMs + Math.ceil((Date.now() - startedAtMs + 1) / config.tickMs) * config.tickMs;
    await Bun.sleep(Math.max(1, nextMs - Date.now()));
  }
}

if (import.meta.main) await runService("observer", read, start);
