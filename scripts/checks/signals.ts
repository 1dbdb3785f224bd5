/**
 * The signals that each service must emit, one row per service. validate compares the running pipeline with the table
 * after traffic, through Prometheus and the logs; tests read it too.
 *
 *   metrics   names that Prometheus must have from the service; `moving` counters must have risen in the last minutes
 *   events    kinds of log events of the service; third-party programs must have logged any line
 */
import { waitFor } from "../cli/wait.ts";
import { KUBELET_JOB } from "../clients/kubelets.ts";
import { allSamples, scrape } from "../clients/pod-metrics.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import { PrometheusReader, type Target } from "../clients/prometheus.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { podTemplateOf } from "../deploy/manifests.ts";
import { deployedStages, type Stage } from "../deploy/stages.ts";
import { type Check, outcomeOf, passed } from "./checklist.ts";

export interface SignalRow {
  /** app.kubernetes.io/name of its pods, and Prometheus' job. */
  service: string;
  metrics: readonly string[];
  /** Counters that rise while events flow. */
  moving?: readonly string[];
  /** Kinds of its log events, in its own JSON lines. */
  events?: readonly string[];
}

/** Metrics of every service of this project. */
const COMMON = [
  "conveyor_build_info",
  "process_cpu_seconds_total",
  "process_resident_memory_bytes",
  "process_open_fds",
  "conveyor_certificate_expiry_timestamp_seconds",
] as const;

export const SIGNALS: readonly SignalRow[] = [
  {
    service: "producer",
    metrics: [
      ...COMMON,
      "conveyor_producer_ack_latency_seconds_count",
      "conveyor_producer_batch_events_count",
      "conveyor_producer_buffer_fill_ratio",
      "conveyor_producer_kafka_connected",
    ],
    moving: ["conveyor_producer_events_emitted_total", "conveyor_producer_events_acknowledged_total"],
    events: ["starting", "running", "event_acknowledged"],
  },
  {
    service: "processor",
    metrics: [
      ...COMMON,
      "conveyor_processor_write_latency_seconds_count",
      "conveyor_processor_write_batch_points_count",
      "conveyor_processor_assigned_partitions",
      "conveyor_processor_write_blocked",
      "conveyor_processor_write_pending_seconds",
    ],
    moving: [
      "conveyor_processor_events_consumed_total",
      "conveyor_processor_points_written_total",
      "conveyor_processor_write_requests_total",
      "conveyor_e2e_latency_seconds_count",
    ],
    events: ["starting", "running", "event_stored"],
  },
  {
    service: "lag-exporter",
    metrics: [...COMMON, "kafka_consumergroup_lag", "kafka_consumergroup_lag_sum", "kafka_consumergroup_members"],
    moving: ["conveyor_lag_exporter_polls_total", "kafka_topic_partition_end_offset"],
    events: ["starting", "running"],
  },
  {
    service: "kafka",
    metrics: [
      "kafka_controller_kafkacontroller_activecontrollercount",
      "kafka_controller_kafkacontroller_offlinepartitionscount",
      "kafka_server_replicamanager_underreplicatedpartitions",
      "kafka_server_replicamanager_underminisrpartitioncount",
      "kafka_log_logmanager_offlinelogdirectorycount",
      "kafka_log_size_bytes",
      "jvm_memory_used_bytes",
    ],
    moving: ["kafka_topic_messagesin_total", "kafka_broker_bytesin_total"],
  },
  {
    service: "influxdb",
    metrics: ["influxdb_info", "storage_shard_series", "go_memstats_alloc_bytes"],
    moving: ["http_api_requests_total"],
  },
  {
    service: "kube-state-metrics",
    metrics: [
      "kube_pod_info",
      "kube_pod_container_status_restarts_total",
      "kube_statefulset_status_replicas_ready",
      "kube_deployment_spec_replicas",
    ],
  },
  {
    service: "prometheus",
    metrics: ["prometheus_build_info", "prometheus_notifications_alertmanagers_discovered"],
    moving: ["prometheus_tsdb_head_samples_appended_total"],
  },
  { service: "alertmanager", metrics: ["alertmanager_build_info"] },
  {
    service: "loki",
    metrics: ["loki_build_info"],
    moving: ["loki_distributor_lines_received_total"],
  },
  {
    service: "promtail",
    metrics: ["promtail_build_info"],
    moving: ["promtail_sent_entries_total"],
  },
  {
    service: "victorialogs",
    metrics: ["vl_storage_rows"],
    moving: ["vl_rows_ingested_total"],
  },
  {
    service: "vlagent",
    metrics: ["vlagent_remotewrite_pending_data_bytes"],
    moving: ["vl_rows_ingested_total"],
  },
  { service: "grafana", metrics: ["grafana_build_info"] },
];

/** Prometheus scrapes every 15 s and a rate needs two samples; a new deployment has them within this time. */
export const METRICS_LIMIT_MS = 90_000;
/** Window in which a counter must have risen. */
const MOVING_WINDOW = "2m";
/** Lines per pod: an hour of a pod that logs a line per second. */
const LOG_LINES = 4000;

/** The rows whose workloads are deployed, with the namespaces of their pods. */
export function expectedRows(stages: readonly Stage[]): (SignalRow & { namespace: string })[] {
  const namespaces = new Map(
    stages
      .flatMap(({ objects }) => objects)
      .filter(podTemplateOf)
      .map(({ metadata }) => [metadata.name, metadata.namespace!]),
  );
  return SIGNALS.flatMap((row) => {
    const namespace = namespaces.get(row.service);
    return namespace ? [{ ...row, namespace }] : [];
  });
}

/** Signals of the rows that Prometheus lacks, one sentence each. */
export function missingMetrics(
  rows: readonly SignalRow[],
  present: ReadonlyMap<string, ReadonlySet<string>>,
  moved: ReadonlyMap<string, ReadonlySet<string>>,
): string[] {
  return rows.flatMap(({ service, metrics, moving = [] }) => {
    const found = present.get(service);
    if (!found) return [`${service}: no metrics`];
    const absent = [...metrics, ...moving].filter((name) => !found.has(name));
    const constant = moving.filter((name) => found.has(name) && !moved.get(service)?.has(name));
    return [
      ...(absent.length > 0 ? [`${service}: no ${absent.join(", ")}`] : []),
      ...(constant.length > 0 ? [`${service}: did not rise: ${constant.join(", ")}`] : []),
    ];
  });
}

/** Names of the series of a query by job, where the value is above 0. */
async function namesOf(
  prometheus: PrometheusReader,
  promql: string,
  signal: AbortSignal,
): Promise<Map<string, Set<string>>> {
  const found = new Map<string, Set<string>>();
  for (const { labels, value } of await prometheus.query(promql, signal)) {
    if (!(value > 0)) continue;
    const [job, name] = [labels.job ?? "", labels.__name__ ?? labels.metric ?? ""];
    found.set(job, (found.get(job) ?? new Set()).add(name));
  }
  return found;
}

const alternatives = (names: readonly string[]) => [...new Set(names)].join("|");

/** Which of the metrics each job has. */
export const namesByJob = async (prometheus: PrometheusReader, names: readonly string[], signal: AbortSignal) =>
  await namesOf(prometheus, `count by (job, __name__) ({__name__=~"${alternatives(names)}"})`, signal);

/** Which of the counters rose in the last minutes, by job. increase() drops the name; a label keeps it. */
export const movedNames = async (prometheus: PrometheusReader, names: readonly string[], signal: AbortSignal) =>
  await namesOf(
    prometheus,
    `sum by (job, metric) (increase(label_replace({__name__=~"${alternatives(names)}"}, "metric", "$1", "__name__", "(.+)")[${MOVING_WINDOW}:15s]))`,
    signal,
  );

/** Targets that are not up, one sentence each; a pod that the autoscaler just added is scraped within an interval. */
export const targetsNotUp = (targets: readonly Target[]): string[] =>
  targets
    .filter(({ health }) => health !== "up")
    .map(({ labels, lastError }) => `${labels.job} ${labels.instance}: ${lastError || "not scraped yet"}`);

const metricsCheck: Check<ProbeSession> = {
  id: "signals-metrics",
  title: "every service emits its metrics",
  needs: ["end-to-end", "live-flow"],
  limitMs: METRICS_LIMIT_MS + 20_000,
  async run({ cluster }, signal) {
    const rows = expectedRows((await deployedStages(cluster)).stages);
    if (!(await PrometheusReader.isDeployed(cluster))) return await metricsWithoutPrometheus(cluster, rows, signal);
    await using prometheus = await PrometheusReader.open(cluster);
    const all = rows.flatMap(({ metrics, moving = [] }) => [...metrics, ...moving]);
    const moving = rows.flatMap((row) => row.moving ?? []);
    const count = await waitFor(
      async () => {
        const present = await namesByJob(prometheus, all, signal);
        const moved = await movedNames(prometheus, moving, signal);
        // The kubelets have their own check.
        const targets = (await prometheus.targets(signal)).filter(({ labels }) => labels.job !== KUBELET_JOB);
        const missing = [...missingMetrics(rows, present, moved), ...targetsNotUp(targets)];
        return missing.length === 0
          ? { done: true, value: [...present.values()].reduce((sum, names) => sum + names.size, 0) }
          : { done: false, state: missing.join("; ") };
      },
      { what: "the metrics of every service", limitMs: METRICS_LIMIT_MS, intervalMs: 3000, signal },
    );
    return passed(`${rows.length} services, ${count} metrics in Prometheus, every target of theirs up`);
  },
};

/** Without Prometheus the metrics are scraped from the services. */
async function metricsWithoutPrometheus(cluster: Cluster, rows: readonly SignalRow[], signal: AbortSignal) {
  const own = rows.filter(({ events }) => events !== undefined);
  const problems: string[] = [];
  for (const { service, metrics, moving = [] } of own) {
    const names = new Set(allSamples(await scrape(cluster, service, signal)).map(({ name }) => name));
    const absent = [...metrics, ...moving].filter((name) => !names.has(name));
    if (absent.length > 0) problems.push(`${service}: no ${absent.join(", ")}`);
  }
  return outcomeOf(problems, `${own.map(({ service }) => service).join(", ")}; the others need Prometheus`);
}

/** Kinds of the log events among the lines of a service of this project. */
export function eventKinds(log: string): Set<string> {
  const kinds = new Set<string>();
  for (const line of log.split("\n")) {
    if (!line.startsWith("{")) continue;
    try {
      const { event, timestamp, level, service } = JSON.parse(line) as Record<string, unknown>;
      if (typeof event === "string" && timestamp && level && service) kinds.add(event);
    } catch {
      // A truncated line.
    }
  }
  return kinds;
}

const logsCheck: Check<ProbeSession> = {
  id: "signals-logs",
  title: "every service logs its events",
  needs: ["end-to-end", "live-flow"],
  limitMs: 60_000,
  async run({ cluster }, signal) {
    const rows = expectedRows((await deployedStages(cluster)).stages);
    const problems = await Promise.all(
      rows.map(async ({ service, events, namespace }) => {
        const selector = `app.kubernetes.io/name=${service}`;
        const args = ["logs", "-n", namespace, "-l", selector, `--tail=${LOG_LINES}`, "--all-containers"];
        const { stdout, stderr } = await cluster.kubectl([...args, "--max-log-requests=50"], {
          allowFailure: true,
          signal,
        });
        if (stdout.trim() === "") return `${service}: no line${stderr ? ` (${stderr.trim().slice(0, 100)})` : ""}`;
        const kinds = eventKinds(stdout);
        const absent = (events ?? []).filter((kind) => !kinds.has(kind));
        return absent.length > 0 ? `${service}: never logged ${absent.join(", ")}` : undefined;
      }),
    );
    const found = problems.filter((problem) => problem !== undefined);
    return outcomeOf(found, rows.map(({ service }) => service).join(", "));
  },
};

export const SIGNAL_CHECKS = [metricsCheck, logsCheck];
