/**
 * What a run recorded: one column of numbers per series, one row per tick, and the moments that matter. A load test and
 * a drill record the same, so that one set of charts and one page show both. Written as part of outputs/runs/<id>/result.json.
 */

/** A value of a tick that could not be read is null: a gap in the chart, never a zero. */
export type Value = number | null;

/** Names of the series that every run records; units last. A series that a cluster has no source for is left out. */
export const SERIES = [
  /** What the load generator meant to send, per second. */
  "offered_events_per_second",
  /** What Kafka acknowledged to all producers, per second. */
  "acknowledged_events_per_second",
  /** What the processors stored in InfluxDB, per second. */
  "stored_events_per_second",
  "failed_events_per_second",
  "dead_letters_per_second",
  /** Events behind, summed over the partitions. */
  "lag_events",
  /** Age of the newest stored point of the live fleet. */
  "freshness_seconds",
  /** The same of a drill's own events, of that conveyor which is furthest behind: what its recovery is measured by. */
  "slowest_freshness_seconds",
  /** From an event's time to its point stored; of the events stored in that tick. */
  "e2e_p50_ms",
  "e2e_p99_ms",
  "producer_replicas_ready",
  "producer_replicas_desired",
  "processor_replicas_ready",
  "processor_replicas_desired",
  /** Cores used, per tier. */
  "producer_cpu_cores",
  "processor_cpu_cores",
  "kafka_cpu_cores",
  "influxdb_cpu_cores",
  /** Resident memory, over all pods of a tier. */
  "producer_memory_mebibytes",
  "processor_memory_mebibytes",
  "influxdb_write_latency_p99_ms",
  "under_replicated_partitions",
] as const;
export type SeriesName = (typeof SERIES)[number];

export const MARK_KINDS = ["stage", "scale", "pod", "fault", "effect", "healed", "recovered", "alert", "note"] as const;
export type MarkKind = (typeof MARK_KINDS)[number];

/** A moment that a chart marks. */
export interface Mark {
  /** Milliseconds since the epoch. */
  timeMs: number;
  kind: MarkKind;
  /** What it happened to, as "processor" or "pod/kafka-1". */
  subject: string;
  /** One sentence for a person. */
  text: string;
}

export interface Recording {
  /** Milliseconds since the epoch. */
  startedAtMs: number;
  endedAtMs: number;
  /** One per row, milliseconds since the epoch, ascending. */
  timesMs: number[];
  /** Each as long as timesMs. */
  series: Partial<Record<SeriesName, Value[]>>;
  marks: Mark[];
}
