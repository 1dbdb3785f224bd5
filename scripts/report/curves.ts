/** Which series are on which chart, and the style of each: the same on reports, live page and video. */

import type { Recording, SeriesName, Value } from "../recording/recording.ts";
import type { Chart, ChartSeries, Dash, Tone } from "./charts.ts";

interface CurveStyle {
  label: string;
  unit: string;
  tone: Tone;
  /** Solid when absent. */
  dash?: Dash;
  step?: boolean;
}

export const CURVE_STYLES: Readonly<Record<SeriesName, CurveStyle>> = {
  offered_events_per_second: { label: "offered", unit: "events/s", tone: "grey", dash: "dashed" },
  acknowledged_events_per_second: { label: "acknowledged by Kafka", unit: "events/s", tone: "blue" },
  stored_events_per_second: { label: "stored in InfluxDB", unit: "events/s", tone: "green" },
  failed_events_per_second: { label: "failed", unit: "events/s", tone: "red" },
  dead_letters_per_second: { label: "dead-lettered", unit: "events/s", tone: "purple", dash: "dashed" },
  lag_events: { label: "lag", unit: "events", tone: "orange" },
  freshness_seconds: { label: "age of the newest stored event", unit: "s", tone: "teal" },
  slowest_freshness_seconds: { label: "slowest conveyor of the drill", unit: "s", tone: "purple", dash: "dashed" },
  e2e_p50_ms: { label: "p50", unit: "ms", tone: "blue", dash: "dashed" },
  e2e_p99_ms: { label: "p99", unit: "ms", tone: "purple" },
  producer_replicas_ready: { label: "producer ready", unit: "replicas", tone: "blue", step: true },
  producer_replicas_desired: { label: "producer desired", unit: "replicas", tone: "blue", dash: "dotted", step: true },
  processor_replicas_ready: { label: "processor ready", unit: "replicas", tone: "green", step: true },
  processor_replicas_desired: {
    label: "processor desired",
    unit: "replicas",
    tone: "green",
    dash: "dotted",
    step: true,
  },
  producer_cpu_cores: { label: "producer", unit: "cores", tone: "blue" },
  processor_cpu_cores: { label: "processor", unit: "cores", tone: "green" },
  kafka_cpu_cores: { label: "Kafka", unit: "cores", tone: "orange", dash: "dashed" },
  influxdb_cpu_cores: { label: "InfluxDB", unit: "cores", tone: "purple", dash: "dashed" },
  producer_memory_mebibytes: { label: "producer", unit: "MiB", tone: "blue" },
  processor_memory_mebibytes: { label: "processor", unit: "MiB", tone: "green" },
  influxdb_write_latency_p99_ms: { label: "p99 of a write", unit: "ms", tone: "purple" },
  under_replicated_partitions: { label: "under-replicated", unit: "partitions", tone: "red", step: true },
};

interface ChartPlan {
  title: string;
  names: readonly SeriesName[];
  /** Skipped where all values are zero. */
  onlyIfNotZero?: boolean;
}

const RATES: ChartPlan = {
  title: "Events in and out",
  names: ["offered_events_per_second", "acknowledged_events_per_second", "stored_events_per_second"],
};
const REPLICAS: ChartPlan = {
  title: "Replicas",
  names: [
    "processor_replicas_desired",
    "processor_replicas_ready",
    "producer_replicas_desired",
    "producer_replicas_ready",
  ],
};
const READY: ChartPlan = { title: "Pods ready", names: ["producer_replicas_ready", "processor_replicas_ready"] };
const LAG: ChartPlan = { title: "Waiting in Kafka", names: ["lag_events"] };
const FRESHNESS: ChartPlan = { title: "Freshness", names: ["freshness_seconds", "slowest_freshness_seconds"] };
const LATENCY: ChartPlan = { title: "Latency from event time to storage", names: ["e2e_p50_ms", "e2e_p99_ms"] };
const CPU: ChartPlan = {
  title: "CPU",
  names: ["producer_cpu_cores", "processor_cpu_cores", "kafka_cpu_cores", "influxdb_cpu_cores"],
};
const MEMORY: ChartPlan = { title: "Memory", names: ["producer_memory_mebibytes", "processor_memory_mebibytes"] };
const WRITES: ChartPlan = { title: "Write latency of InfluxDB", names: ["influxdb_write_latency_p99_ms"] };
const REJECTED: ChartPlan = {
  title: "Rejected events",
  names: ["failed_events_per_second", "dead_letters_per_second"],
  onlyIfNotZero: true,
};
const REPLICATION: ChartPlan = { title: "Replication", names: ["under_replicated_partitions"], onlyIfNotZero: true };

export const LOAD_CHARTS = [
  RATES,
  REPLICAS,
  LAG,
  LATENCY,
  FRESHNESS,
  CPU,
  MEMORY,
  WRITES,
  REJECTED,
  REPLICATION,
] as const;
export const DRILL_CHARTS = [RATES, LAG, FRESHNESS, READY, REJECTED, REPLICATION] as const;
/** As many as have room beside a terminal and a list of pods. */
export const LIVE_CHARTS = [RATES, LAG, FRESHNESS] as const;

const hasValue = (values: readonly Value[] | undefined): values is Value[] =>
  values?.some((value) => value !== null) ?? false;

const curveOf = (name: SeriesName, values: readonly Value[]): ChartSeries => ({
  name,
  values,
  dash: "solid",
  ...CURVE_STYLES[name],
});

export type PlannedChart = Pick<Chart, "title" | "unit" | "series">;

/** The charts for which the recording has at least one measured value. */
export function chartsOf(recording: Recording, plans: readonly ChartPlan[]): PlannedChart[] {
  return plans.flatMap(({ title, names, onlyIfNotZero }) => {
    const present = names.filter((name) => hasValue(recording.series[name]));
    const isQuiet = present.every((name) => recording.series[name]!.every((value) => value === null || value === 0));
    if (present.length === 0 || (onlyIfNotZero && isQuiet)) return [];
    return [
      {
        title,
        unit: CURVE_STYLES[present[0]!].unit,
        series: present.map((name) => curveOf(name, recording.series[name]!)),
      },
    ];
  });
}
