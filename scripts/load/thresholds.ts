/** Limits of the measures of a load test: `e2e_p99_ms<1000`. They decide the exit code. */
import type { Threshold } from "../recording/result.ts";

/** Measures and their meaning; the unit is last in the name. */
export const METRICS = {
  lost: "acknowledged events that are neither stored nor dead-lettered, by identity",
  duplicated: "points beyond the first of one identity",
  audit_laws_broken:
    "violated invariants of the run's events, except O1 (order), which an open load does not promise (with --audit)",
  error_rate: "share of offered events that were not acknowledged, 0 to 1",
  e2e_p50_ms: "median time from due to stored, during the load",
  e2e_p99_ms: "99th percentile of the time from due to stored, during the load",
  generator_behind_ms: "longest delay of the load generator behind its own schedule",
  generator_cpu_cores: "highest CPU use of the load generator in any second",
  ack_p99_ms: "99th percentile of the time from due to acknowledged by Kafka, of requests",
  time_to_scale_seconds: "from the lag at its threshold to the first additional processor Ready",
  time_to_scale_producer_seconds: "from the first event of the load to the first additional producer Ready",
  rebalance_gap_seconds: "longest gap in storing after a change of the number of processors",
  rebalance_e2e_p99_ms: "highest p99 latency of any second within 20 s after a change of the number of processors",
  producer_replicas_max: "highest number of Ready producers",
  processor_replicas_max: "highest number of Ready processors",
  producer_replicas_end: "desired producers at the end",
  processor_replicas_end: "desired processors at the end",
  lag_max_events: "largest lag",
  lag_settle_seconds: "from the end of the load to the lag back at its baseline",
  back_to_minimum_seconds: "from the end of the load to the minimum of replicas",
  producer_memory_growth_percent: "memory growth of a producer from the second to the last quarter of the load",
  processor_memory_growth_percent: "memory growth of a processor from the second to the last quarter of the load",
  memory_growth_percent:
    "largest memory growth of any process that lived 20 minutes in the load: its least memory in the second and the last quarter",
  open_files_growth_percent:
    "largest growth of open files, sockets included, of any such process; in percent of at least 50 files",
  stored_events_per_second: "highest mean of stored events per second over 10 seconds",
} as const;
export type MetricName = keyof typeof METRICS;
export type Measured = Partial<Record<MetricName, number | null>>;

const OPERATORS = ["<=", ">=", "<", ">", "="] as const;
type Operator = (typeof OPERATORS)[number];

export interface Limit {
  text: string;
  metric: MetricName;
  operator: Operator;
  limit: number;
}

/**
 * Parses a limit.
 * @throws Error that names the rule and the value.
 */
export function parseLimit(text: string): Limit {
  const match = /^\s*([a-z0-9_]+)\s*(<=|>=|<|>|=)\s*(-?\d+(?:\.\d+)?)\s*$/.exec(text);
  if (!match) {
    throw new Error(`threshold: must be METRIC, one of ${OPERATORS.join(" ")}, and a number; got "${text}"`);
  }
  const [, metric, operator, limit] = match as unknown as [string, string, Operator, string];
  if (!Object.hasOwn(METRICS, metric)) {
    throw new Error(`threshold: must name one of ${Object.keys(METRICS).join(", ")}; got "${metric}"`);
  }
  return { text: `${metric}${operator}${limit}`, metric: metric as MetricName, operator, limit: Number(limit) };
}

/** Of several limits of one metric and direction the last one. */
export function mergeLimits(limits: readonly Limit[]): Limit[] {
  const direction = ({ metric, operator }: Limit) => `${metric}${operator[0]}`;
  return [...new Map(limits.map((limit) => [direction(limit), limit])).values()];
}

const holds: Record<Operator, (value: number, limit: number) => boolean> = {
  "<": (value, limit) => value < limit,
  "<=": (value, limit) => value <= limit,
  ">": (value, limit) => value > limit,
  ">=": (value, limit) => value >= limit,
  "=": (value, limit) => value === limit,
};

/** Unit of a metric, from the end of its name. */
function unitOf(metric: string): string {
  if (metric.endsWith("_percent")) return " %";
  if (metric.endsWith("_ms")) return " ms";
  if (metric.endsWith("_seconds")) return " s";
  if (metric.endsWith("_events_per_second")) return " events/s";
  if (metric.endsWith("_events") || metric === "lost" || metric === "duplicated") return " events";
  return "";
}

/** Checks a measure against a limit; a missing measure fails. */
export function checkLimit({ text, metric, operator, limit }: Limit, measured: Measured): Threshold {
  const value = measured[metric] ?? null;
  if (value === null) return { text, metric, limit, value, ok: false, by: "it was not measured" };
  const ok = holds[operator](value, limit);
  const missed = Number(Math.abs(value - limit).toPrecision(6));
  // A strict limit that is met exactly is missed by 0.
  const by = missed === 0 ? "it is exactly the limit" : `by ${missed}${unitOf(metric)}`;
  return { text, metric, limit, value, ok, ...(ok ? {} : { by }) };
}
