/**
 * The observer: polls every pod of the pipeline once a tick, and InfluxDB for the newest events of some conveyors, and
 * prints what it measured (services/protocol/observer.ts). Load tests and drills start it in a separate pod, so that no
 * measurement depends on a pod that may be broken.
 */
import { type Histogram, quantile } from "../domain/exposition.ts";
import { mergeHistograms } from "../domain/pod-counters.ts";
import { BELT_SERIES } from "../domain/point.ts";
import { LOAD_EVENTS, LOAD_SERIES } from "../protocol/load-generator.ts";
import type { NewestEvents, ObservedValue, ObserverRow } from "../protocol/observer.ts";
import { type ConfigReader, type InfluxConfig, readCommon, readInflux } from "../runtime/config.ts";
import { runService, type ServiceFrame } from "../runtime/service.ts";
import { newestPoints } from "./newest-points.ts";
import { type Tier, TierPoller, type TierView } from "./tier-poller.ts";

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

/** The metrics of a broker are large, and reading them loads the measured machine. */
const LARGE_EVERY_MS = 3000;

const TIERS: readonly Tier[] = [
  { name: "producer", host: "producer-headless", port: 9464, counters: [ACKNOWLEDGED, REFUSED, CPU], gauges: [MEMORY] },
  {
    name: "processor",
    host: "processor-headless",
    port: 9464,
    counters: [STORED, DEAD_LETTERS, CPU],
    gauges: [MEMORY],
    histograms: [END_TO_END, WRITE_LATENCY],
  },
  { name: "lag-exporter", host: "lag-exporter", port: 9464, gauges: [LAG] },
  {
    name: "kafka",
    host: "kafka-headless",
    port: 9404,
    counters: [CPU],
    gauges: [UNDER_REPLICATED],
    everyMs: LARGE_EVERY_MS,
  },
];

const QUERY_LIMIT_MS = 1500;
/** A fleet without points for longer has no newest point. */
const FRESHNESS_WINDOW = "-15m";
/** Ten times what a busy machine needs; a later answer says little about now. */
const NEWEST_LIMIT_MS = 1000;
/** Longer than any outage that a drill waits for. */
const NEWEST_WINDOW = "-10m";

const read = (reader: ConfigReader) => ({
  common: readCommon(reader),
  namespace: reader.text("NAMESPACE", "conveyor"),
  influx: readInflux(reader),
  /** CA of the pods' certificates. */
  podsCa: reader.file("PODS_CA"),
  tickMs: reader.integer("TICK_MS", { least: 250, most: 60_000, fallback: 1000 }),
  /** Conveyors whose newest stored event is reported; none when empty. */
  newestOf: reader
    .text("NEWEST_OF", "")
    .split(",")
    .filter((name) => name !== ""),
  newestSeries: LOAD_SERIES[reader.choice("NEWEST_EVENTS", LOAD_EVENTS, "v1")],
  newestEveryMs: reader.integer("NEWEST_EVERY_MS", { least: 100, most: 60_000, fallback: 250 }),
});
type Config = ReturnType<typeof read>;

const milliseconds = (histogram: Histogram | undefined, q: number): ObservedValue => {
  if (!histogram || histogram.count <= 0) return null;
  return round(quantile(histogram, q) * 1000, 1);
};
const round = (value: number, digits: number) => Math.round(value * 10 ** digits) / 10 ** digits;
const rounded = (value: ObservedValue, digits: number): ObservedValue => (value === null ? null : round(value, digits));
const mebibytes = (bytes: ObservedValue) => rounded(bytes === null ? null : bytes / BYTES_PER_MEBIBYTE, 1);

/** Age of the newest stored point of the live fleet, in seconds. */
async function freshness(influx: InfluxConfig): Promise<ObservedValue> {
  try {
    const newest = await newestPoints(influx, {
      start: FRESHNESS_WINDOW,
      series: BELT_SERIES,
      where: "r.conveyor =~ /^belt-/",
      limitMs: QUERY_LIMIT_MS,
      onlyNewest: true,
    });
    const times = Object.values(newest);
    if (times.length === 0) return null;
    return Math.max(0, round((Date.now() - Math.max(...times)) / 1000, 2));
  } catch {
    return null;
  }
}

const print = (line: ObserverRow | NewestEvents) => process.stdout.write(`${JSON.stringify(line)}\n`);

/**
 * Reports the newest stored event of each conveyor at a fixed interval. A query starts at each interval, whether the one
 * before has its answer or not: a database that hangs must not make the samples rarer.
 */
async function reportNewest(
  { influx, newestOf, newestSeries: series, newestEveryMs }: Config,
  signal: AbortSignal,
): Promise<void> {
  const where = newestOf.map((name) => `r.${series.tag} == ${JSON.stringify(name)}`).join(" or ");
  let isFresh = false;
  let printed = 0;
  const query = async (number: number) => {
    const options = { start: NEWEST_WINDOW, series, where, limitMs: NEWEST_LIMIT_MS, isFresh };
    const answer = await newestPoints(influx, options).then(
      (newest) => ({ newest }),
      (error: Error & { code?: string }) => ({ why: `${error.code ?? error.name}: ${error.message}`.slice(0, 160) }),
    );
    isFresh = "why" in answer;
    // A later query was answered first.
    if (number < printed) return;
    printed = number;
    print({ t: Date.now(), ...answer });
  };
  for (let number = 1; !signal.aborted; number++) {
    void query(number);
    await Bun.sleep(newestEveryMs);
  }
}

function rowOf(views: readonly TierView[], age: ObservedValue): ObserverRow["row"] {
  const [producer, processor, exporter, kafka] = views as [TierView, TierView, TierView, TierView];
  const refused = producer.rate(REFUSED);
  const deadLetters = processor.rate(DEAD_LETTERS);
  return {
    acknowledged_events_per_second: rounded(producer.rate(ACKNOWLEDGED), 1),
    stored_events_per_second: rounded(processor.rate(STORED), 1),
    dead_letters_per_second: refused === null || deadLetters === null ? null : round(refused + deadLetters, 1),
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
}

async function start(config: Config, { log, shutdown }: ServiceFrame): Promise<void> {
  const { namespace, influx, podsCa, tickMs, newestOf } = config;
  const tiers = TIERS.map((tier) => new TierPoller(tier, { namespace, ca: podsCa, tickMs }));
  log.info("observing", { tick_ms: tickMs, newest_of: newestOf });
  if (newestOf.length > 0) void reportNewest(config, shutdown.signal);
  const startedAtMs = Date.now();
  let endToEnd = mergeHistograms([]);
  while (!shutdown.begun) {
    const nowMs = Date.now();
    const [views, age] = await Promise.all([Promise.all(tiers.map((tier) => tier.poll(nowMs))), freshness(influx)]);
    const [producer, processor] = views as [TierView, TierView];
    endToEnd = mergeHistograms([endToEnd, processor.histogram(END_TO_END) ?? mergeHistograms([])]);
    print({
      t: nowMs,
      row: rowOf(views, age),
      since_start: { e2e_p50_ms: milliseconds(endToEnd, 0.5), e2e_p99_ms: milliseconds(endToEnd, 0.99) },
      seen: { producer: producer.seen, processor: processor.seen },
    });
    // Ticks have a fixed phase; a missed tick is skipped.
    const nextMs = startedAtMs + Math.ceil((Date.now() - startedAtMs + 1) / tickMs) * tickMs;
    await Bun.sleep(Math.max(1, nextMs - Date.now()));
  }
}

if (import.meta.main) await runService("observer", read, start);
