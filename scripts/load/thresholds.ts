/** Limits on what a load test measures: `e2e_p99_ms<1000`. They decide the exit code. */
import type { Threshold } from "../recording/result.ts";

/** What can be limited, and what it means; the unit stands last in the name. */
export const METRICS = {
  lost: "acknowledged events that are neither stored nor dead-lettered, by identity",
  duplicated: "points beyond the first of one identity",
  audit_laws_broken:
    "laws that the run's events break, but for O1, order, which an open load does not promise (with --audit)",
  error_rate: "events that were not acknowledged, of those offered, 0 to 1",
  e2e_p50_ms: "half of all events were stored within this time after they were due, during the load",
  e2e_p99_ms: "99 of 100 events were stored within this time after they were due, during the load",
  generator_behind_ms: "the latest that the load generator itself was behind its schedule",
  generator_cpu_cores: "most that the load generator itself used, in any second",
  ack_p99_ms: "99 of 100 requests were acknowledged by Kafka within this time after they were due",
  time_to_scale_seconds: "from the lag at its threshold to the first extra processor Ready",
  time_to_scale_producer_seconds: "from the first event of the load to the first extra producer Ready",
  rebalance_gap_seconds: "longest time around a change of the processors' number in which (nearly) nothing was stored",
  rebalance_e2e_p99_ms: "highest p99 of any second within 20 s after a change of the processors' number",
  producer_replicas_max: "most producers that were Ready",
  processor_replicas_max: "most processors that were Ready",
  producer_replicas_end: "producers wanted at the end",
  processor_replicas_end: "processors wanted at the end",
  lag_max_events: "largest lag",
  lag_settle_seconds: "from the end of the load to the lag back at its baseline",
  back_to_minimum_seconds: "from the end of the load to the smallest number of replicas",
  producer_memory_growth_percent: "memory of a producer in the last quarter of the load, more than in its second",
  processor_memory_growth_percent: "memory of a processor in the last quarter of the load, more than in its second",
  stored_events_per_second: "events stored per second, the best 10 seconds",
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
 * A limit as a person writes it.
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

/** Limits of which a later one takes the place of an earlier one of the same metric and direction. */
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

/** Words behind a number, from the end of a metric's name. */
function unitOf(metric: string): string {
  if (metric.endsWith("_percent")) return " %";
  if (metric.endsWith("_ms")) return " ms";
  if (metric.endsWith("_seconds")) return " s";
  if (metric.endsWith("_events_per_second")) return " events/s";
  if (metric.endsWith("_events") || metric === "lost" || metric === "duplicated") return " events";
  return "";
}

/** What was measured against a limit; what was not measured is never within it. */
export function checkLimit({ text, metric, operator, limit }: Limit, measured: Measured): Threshold {
  const value = measured[metric] ?? null;
  if (value === null) return { text, metric, limit, value, ok: false, by: "it was not measured" };
  const ok = holds[operator](value, limit);
  const missed = Number(Math.abs(value - limit).toPrecision(6));
  // A strict limit that is met exactly is missed by nothing that has a size.
  const by = missed === 0 ? "it is exactly the limit" : `by ${missed}${unitOf(metric)}`;
  return { text, metric, limit, value, ok, ...(ok ? {} : { by }) };
}
