/**
 * The metrics of all services in one table: name, kind, help, labels. Label values are from fixed sets, so the number of
 * series is bounded. A service registers the rows that list it.
 */
import { readdirSync } from "node:fs";
import { Counter, Gauge, Histogram, type Metric, Registry } from "prom-client";

export type ServiceName = "producer" | "processor" | "lag-exporter";

interface Row {
  services: readonly ServiceName[];
  kind: "counter" | "gauge" | "histogram" | "bulk_histogram";
  help: string;
  labels?: readonly string[];
  buckets?: readonly number[];
}

const LATENCY_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** Covers p50 and p99 of a healthy pipeline (milliseconds) and of one that catches up (a minute). */
const END_TO_END_BUCKETS = [
  0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2,
  3, 5, 10, 20, 30, 60,
];
const SIZE_BUCKETS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];

/** Rows for the same services. */
const rowsOf = <const Rows extends Record<string, Omit<Row, "services">>>(
  services: readonly ServiceName[],
  rows: Rows,
) =>
  Object.fromEntries(Object.entries(rows).map(([name, row]) => [name, { services, ...row }])) as {
    readonly [Name in keyof Rows]: Rows[Name] & Pick<Row, "services">;
  };

export const METRIC_TABLE = {
  ...rowsOf(["producer", "processor", "lag-exporter"], {
    conveyor_build_info: {
      kind: "gauge",
      help: "Always 1; version and runtime are in the labels.",
      labels: ["version", "bun"],
    },
    process_cpu_seconds_total: { kind: "counter", help: "Processor time used by this process, user and system." },
    process_resident_memory_bytes: { kind: "gauge", help: "Resident memory of this process." },
    process_open_fds: { kind: "gauge", help: "Open files and sockets of this process." },
    process_start_time_seconds: { kind: "gauge", help: "When this process started, seconds since the epoch." },
    conveyor_certificate_expiry_timestamp_seconds: {
      kind: "gauge",
      help: "When this service's certificate expires, seconds since the epoch.",
    },
  }),
  ...rowsOf(["producer"], {
    conveyor_producer_events_emitted_total: {
      kind: "counter",
      help: "Valid events taken from a source into the buffer.",
      labels: ["source"],
    },
    conveyor_producer_events_acknowledged_total: {
      kind: "counter",
      help: "Events that Kafka has acknowledged on all in-sync replicas.",
      labels: ["source"],
    },
    conveyor_producer_events_refused_total: {
      kind: "counter",
      help: "Events refused at the source and written to the dead-letter topic, by reason.",
      labels: ["source", "reason"],
    },
    conveyor_producer_ack_latency_seconds: {
      kind: "histogram",
      help: "From taking the oldest event of a batch into the buffer to Kafka's acknowledgement of the batch.",
      buckets: LATENCY_BUCKETS,
    },
    conveyor_producer_batch_events: {
      kind: "histogram",
      help: "Events per acknowledged batch (one partition).",
      buckets: SIZE_BUCKETS,
    },
    conveyor_producer_send_retries_total: {
      kind: "counter",
      help: "Send attempts without an acknowledgement; their batches stay in the buffer and are resent.",
    },
    conveyor_producer_buffered_events: { kind: "gauge", help: "Events in the buffer, not yet acknowledged." },
    conveyor_producer_buffer_fill_ratio: {
      kind: "gauge",
      help: "Filled share of the buffer, 0 to 1; at 1 the sources wait.",
    },
    conveyor_producer_paused_seconds_total: {
      kind: "counter",
      help: "Time in which a source waited because the buffer was full.",
      labels: ["source"],
    },
    conveyor_producer_kafka_connected: {
      kind: "gauge",
      help: "1 while the producer is connected to Kafka and Kafka accepts its events.",
    },
    conveyor_producer_schema_errors_total: {
      kind: "counter",
      help: "Invalid files of the schemas, counted once per change; the earlier version of each stays in force.",
    },
    conveyor_intake_requests_total: {
      kind: "counter",
      help: "Requests to the HTTP intake, by status code.",
      labels: ["code"],
    },
    conveyor_intake_sender_requests_total: {
      kind: "counter",
      help: "Requests to the HTTP intake with a valid token, by sender: token, token-previous, or a name of senders.json.",
      labels: ["sender"],
    },
    conveyor_intake_sender_refusals_total: {
      kind: "counter",
      help: "Requests to the HTTP intake with a valid token that were refused, by sender and status code; 429: above its rate.",
      labels: ["sender", "code"],
    },
    conveyor_intake_sender_in_use: {
      kind: "gauge",
      help: "Sources or series (kind) that a sender of senders.json has used within the last day or two.",
      labels: ["sender", "kind"],
    },
    conveyor_intake_sender_in_use_limit: {
      kind: "gauge",
      help: "Most sources or series (kind) that a sender of senders.json may use.",
      labels: ["sender", "kind"],
    },
  }),
  ...rowsOf(["processor"], {
    conveyor_processor_events_consumed_total: { kind: "counter", help: "Events read from Kafka, replays included." },
    conveyor_processor_points_written_total: {
      kind: "counter",
      help: "Points that InfluxDB confirmed, replays included.",
    },
    conveyor_processor_write_requests_total: {
      kind: "counter",
      help: "Write requests to InfluxDB by outcome.",
      labels: ["outcome"],
    },
    conveyor_processor_write_latency_seconds: {
      kind: "histogram",
      help: "Duration of one write request to InfluxDB, successful or not.",
      buckets: LATENCY_BUCKETS,
    },
    conveyor_processor_write_batch_points: {
      kind: "histogram",
      help: "Points per confirmed write request.",
      buckets: SIZE_BUCKETS,
    },
    conveyor_processor_fetch_batch_events: {
      kind: "histogram",
      help: "Events per batch read from Kafka (one partition).",
      buckets: SIZE_BUCKETS,
    },
    conveyor_processor_dead_letters_total: {
      kind: "counter",
      help: "Events written to the dead-letter topic by reason.",
      labels: ["reason"],
    },
    conveyor_processor_events_ahead_total: {
      kind: "counter",
      help: "Stored events whose time was more than 5 s ahead of this processor's clock: a clock is wrong.",
    },
    conveyor_processor_stopped_at_offset: {
      kind: "gauge",
      help: "First offset of the records that cannot be read and stop this partition; absent while none does.",
      labels: ["topic", "partition"],
    },
    conveyor_processor_rebalances_total: { kind: "counter", help: "Times this member rejoined its consumer group." },
    conveyor_processor_assigned_partitions: { kind: "gauge", help: "Partitions assigned to this member." },
    conveyor_processor_write_blocked: {
      kind: "gauge",
      help: "1 while InfluxDB refuses every write for a reason that an operator must resolve (token, organization, bucket).",
    },
    conveyor_processor_write_pending_seconds: {
      kind: "gauge",
      help: "Age of the oldest lines that InfluxDB has not confirmed; 0 when there are none.",
    },
    conveyor_e2e_latency_seconds: {
      kind: "bulk_histogram",
      help: "From an event's timestamp to InfluxDB's confirmation, per event.",
      buckets: END_TO_END_BUCKETS,
    },
  }),
  ...rowsOf(["lag-exporter"], {
    kafka_consumergroup_lag: {
      kind: "gauge",
      help: "Events of a partition that the group has not committed, deleted ones included; without a commit, or with one beyond the end, all events of the partition.",
      labels: ["group", "topic", "partition"],
    },
    kafka_consumergroup_lag_sum: {
      kind: "gauge",
      help: "Lag of all partitions of a topic together.",
      labels: ["group", "topic"],
    },
    kafka_consumergroup_members: {
      kind: "gauge",
      help: "Members of the group; 0 when the group does not exist.",
      labels: ["group"],
    },
    kafka_consumergroup_deleted_unread: {
      kind: "gauge",
      help: "Events that Kafka deleted before the group read them, since the group's first commit.",
      labels: ["group", "topic", "partition"],
    },
    kafka_consumergroup_log_truncations: {
      kind: "gauge",
      help: "How often the group found that the log had lost records that it had read.",
      labels: ["group", "topic", "partition"],
    },
    kafka_consumergroup_expiring_unread: {
      kind: "gauge",
      help: "Unread events that Kafka deletes by age (retention.ms) within two hours.",
      labels: ["group", "topic", "partition"],
    },
    kafka_topic_retention_bytes: {
      kind: "gauge",
      help: "The setting retention.bytes of the topic: Kafka deletes the oldest events of a larger partition; -1 without a bound.",
      labels: ["topic"],
    },
    kafka_topic_retention_seconds: {
      kind: "gauge",
      help: "Setting retention.ms of the topic in seconds: Kafka deletes older events; negative without a bound.",
      labels: ["topic"],
    },
    kafka_topic_partition_start_offset: {
      kind: "gauge",
      help: "Offset of the oldest event of a partition.",
      labels: ["topic", "partition"],
    },
    kafka_topic_partition_end_offset: {
      kind: "gauge",
      help: "Offset of the next event of a partition.",
      labels: ["topic", "partition"],
    },
    conveyor_endpoint_certificate_expiry_timestamp_seconds: {
      kind: "gauge",
      help: "When the certificate that a server presented last expires, seconds since the epoch.",
      labels: ["endpoint"],
    },
    conveyor_lag_exporter_polls_total: { kind: "counter", help: "Polls of Kafka by outcome.", labels: ["outcome"] },
    conveyor_lag_exporter_last_success_timestamp_seconds: {
      kind: "gauge",
      help: "When the lag was last read, seconds since the epoch.",
    },
  }),
} satisfies Record<string, Row>;

type Table = typeof METRIC_TABLE;
export type MetricName = keyof Table;
type NamesOf<Kind extends Row["kind"]> = {
  [Name in MetricName]: Table[Name]["kind"] extends Kind ? Name : never;
}[MetricName];

/** A histogram that observes 5,000 values as fast as a loop over plain numbers. */
export class BulkHistogram {
  readonly #counts: Float64Array;
  #sum = 0;
  #count = 0;

  constructor(
    readonly name: string,
    readonly help: string,
    readonly buckets: readonly number[],
  ) {
    this.#counts = new Float64Array(buckets.length + 1);
  }

  /** Counts one value; a negative one (the sender's clock is ahead) counts as 0. */
  observe(value: number): void {
    const { buckets } = this;
    let low = 0;
    let high = buckets.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (buckets[middle]! < value) low = middle + 1;
      else high = middle;
    }
    this.#counts[low]!++;
    this.#count++;
    if (value > 0) this.#sum += value;
  }

  /** As prom-client's registry reads a metric. */
  async get() {
    const values: { metricName: string; labels: Record<string, string | number>; value: number }[] = [];
    let cumulative = 0;
    this.buckets.forEach((bound, index) => {
      cumulative += this.#counts[index]!;
      values.push({ metricName: `${this.name}_bucket`, labels: { le: bound }, value: cumulative });
    });
    values.push({ metricName: `${this.name}_bucket`, labels: { le: "+Inf" }, value: this.#count });
    values.push({ metricName: `${this.name}_sum`, labels: {}, value: this.#sum });
    values.push({ metricName: `${this.name}_count`, labels: {}, value: this.#count });
    return { name: this.name, help: this.help, type: "histogram", values, aggregator: "sum" };
  }
}

/** The metrics of one service from the table. @throws Error for a metric of another service. */
export class Metrics {
  readonly registry = new Registry();
  readonly #metrics = new Map<string, Counter | Gauge | Histogram | BulkHistogram>();

  constructor(readonly service: ServiceName) {
    for (const [name, row] of Object.entries(METRIC_TABLE) as [MetricName, Row][]) {
      if (!row.services.includes(service)) continue;
      const common = { name, help: row.help, labelNames: [...(row.labels ?? [])], registers: [this.registry] };
      if (row.kind === "counter") this.#metrics.set(name, new Counter(common));
      else if (row.kind === "gauge") this.#metrics.set(name, new Gauge(common));
      else if (row.kind === "histogram")
        this.#metrics.set(name, new Histogram({ ...common, buckets: [...row.buckets!] }));
      else {
        const histogram = new BulkHistogram(name, row.help, row.buckets!);
        this.#metrics.set(name, histogram);
        this.registry.registerMetric(histogram as unknown as Metric);
      }
    }
    this.#processMetrics();
  }

  #find(name: MetricName) {
    const metric = this.#metrics.get(name);
    if (!metric) throw new Error(`${name} is not a metric of ${this.service}`);
    return metric;
  }

  counter(name: NamesOf<"counter">): Counter {
    return this.#find(name) as Counter;
  }
  gauge(name: NamesOf<"gauge">): Gauge {
    return this.#find(name) as Gauge;
  }
  histogram(name: NamesOf<"histogram">): Histogram {
    return this.#find(name) as Histogram;
  }
  bulkHistogram(name: NamesOf<"bulk_histogram">): BulkHistogram {
    return this.#find(name) as BulkHistogram;
  }

  /** Sets a gauge to the result of `read` whenever the metrics are read. */
  onRead(name: NamesOf<"gauge">, read: () => number): void {
    const gauge = this.gauge(name) as Gauge & { collect?: () => void };
    gauge.collect = () => gauge.set(read());
  }

  /** As onRead(), for a gauge with labels: only the values that `read` returns exist. */
  onReadEach(name: NamesOf<"gauge">, read: () => readonly { labels: Record<string, string>; value: number }[]): void {
    const gauge = this.gauge(name) as Gauge & { collect?: () => void };
    gauge.collect = () => {
      gauge.reset();
      for (const { labels, value } of read()) gauge.set(labels, value);
    };
  }

  #processMetrics(): void {
    const cpu = this.counter("process_cpu_seconds_total") as Counter & { collect?: () => void };
    let counted = 0;
    cpu.collect = () => {
      const { user, system } = process.cpuUsage();
      const seconds = (user + system) / 1e6;
      if (seconds > counted) cpu.inc(seconds - counted);
      counted = Math.max(counted, seconds);
    };
    this.onRead("process_resident_memory_bytes", () => process.memoryUsage.rss());
    // One of them is the folder that is read.
    this.onRead("process_open_fds", () => readdirSync("/proc/self/fd").length - 1);
    this.gauge("process_start_time_seconds").set(Math.round(Date.now() / 1000 - process.uptime()));
    this.gauge("conveyor_build_info").set({ version: SERVICES_VERSION, bun: Bun.version }, 1);
  }
}

/** Version of the services' image; the manifests name the same one. */
export const SERVICES_VERSION = "1.0.0";
