/**
 * Time series of a run: one column of numbers per series, one row per tick, and marked moments. A load test and a drill
 * record the same, so that one set of charts shows both. Part of outputs/runs/<id>/result.json.
 */

/** Null: the value of a tick could not be read; a gap in the chart, never a zero. */
export type Value = number | null;

/** Names of the series, with the unit last. A series without a source on the cluster is omitted. */
const SERIES = [
  /** Events that were due at the load generator. */
  "offered_events_per_second",
  /** Events that Kafka acknowledged to all producers. */
  "acknowledged_events_per_second",
  /** Events that the processors stored in InfluxDB. */
  "stored_events_per_second",
  "failed_events_per_second",
  "dead_letters_per_second",
  /** Summed over the partitions. */
  "lag_events",
  /** Age of the newest stored point of the live fleet. */
  "freshness_seconds",
  /** Age of the newest stored point of the drill's own conveyor that is furthest behind. */
  "slowest_freshness_seconds",
  /** From an event's time to its storage; of the events stored in that tick. */
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

export type MarkKind = "stage" | "scale" | "pod" | "fault" | "effect" | "healed" | "recovered" | "alert" | "note";

/** A moment that charts mark. */
export interface Mark {
  /** Milliseconds since the epoch. */
  timeMs: number;
  kind: MarkKind;
  /** The object: "processor", "pod/kafka-1". */
  subject: string;
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

/** A longer recording would fill the memory and the page. */
const MAX_ROWS = 50_000;

export type Row = Partial<Record<SeriesName, Value>>;

/** Builds a recording from rows, column by column. */
export class RecordingBuilder {
  readonly recording: Recording;

  constructor(startedAtMs: number) {
    this.recording = { startedAtMs, endedAtMs: startedAtMs, timesMs: [], series: {}, marks: [] };
  }

  /** Adds a row. @returns false for a row that is not newer than the last, or beyond the bound. */
  add(timeMs: number, row: Row): boolean {
    const { timesMs, series } = this.recording;
    if (timeMs <= (timesMs.at(-1) ?? Number.NEGATIVE_INFINITY) || timesMs.length >= MAX_ROWS) return false;
    for (const name of SERIES) {
      const value = row[name];
      if (value === undefined && series[name] === undefined) continue;
      // A series that starts late has a gap before.
      series[name] ??= new Array<Value>(timesMs.length).fill(null);
      series[name].push(value ?? null);
    }
    timesMs.push(timeMs);
    this.recording.endedAtMs = timeMs;
    return true;
  }

  /** Adds a mark; marks stay in the order of their times, whatever the order of their sources. */
  mark(mark: Mark): void {
    this.recording.marks.push(mark);
    this.recording.marks.sort((a, b) => a.timeMs - b.timeMs);
  }
}

/** The rows and marks of a recording between two moments. */
export function sliceRecording(recording: Recording, fromMs: number, toMs: number): Recording {
  const first = recording.timesMs.findIndex((timeMs) => timeMs >= fromMs);
  const behind = recording.timesMs.findIndex((timeMs) => timeMs > toMs);
  const from = first < 0 ? recording.timesMs.length : first;
  const to = behind < 0 ? recording.timesMs.length : behind;
  const series: Recording["series"] = {};
  for (const [name, values] of Object.entries(recording.series)) series[name as SeriesName] = values.slice(from, to);
  return {
    startedAtMs: fromMs,
    endedAtMs: toMs,
    timesMs: recording.timesMs.slice(from, to),
    series,
    marks: recording.marks.filter(({ timeMs }) => timeMs >= fromMs && timeMs <= toMs),
  };
}

/** Values of a series within [from, to), without gaps. */
export function valuesWithin(
  recording: Recording,
  name: SeriesName,
  fromMs = 0,
  toMs = Number.POSITIVE_INFINITY,
): number[] {
  const values = recording.series[name] ?? [];
  return values.filter((value, index): value is number => {
    const timeMs = recording.timesMs[index]!;
    return value !== null && timeMs >= fromMs && timeMs < toMs;
  });
}

/** The median; null without values. */
export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The largest value; null without values. Not Math.max(...): a recording has more values than a call may have arguments. */
export const largest = (values: readonly number[]): number | null =>
  values.length === 0 ? null : values.reduce((most, value) => Math.max(most, value));
/** The smallest value; null without values. */
export const smallest = (values: readonly number[]): number | null =>
  values.length === 0 ? null : values.reduce((least, value) => Math.min(least, value));
