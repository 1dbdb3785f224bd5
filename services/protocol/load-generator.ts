/**
 * The events of the load generator pod (services/tools/load-generator.ts), and what it prints: one JSON document per line.
 */
import { SOURCE_TAG } from "../domain/generic-event.ts";
import type { LoadStage } from "../domain/load-stages.ts";
import { BELT_SERIES, type IdentitySeries } from "../domain/point.ts";
import type { Range } from "../domain/sequence.ts";

/** Version of a load's events. The values are the same; v2 events are points of another measurement. */
export const LOAD_EVENTS = ["v1", "v2"] as const;
export type LoadEvents = (typeof LOAD_EVENTS)[number];

/** Where the points of a load are. Those of version 2 have run and seq as fields too, so that they can be counted by them. */
export const LOAD_SERIES: Readonly<Record<LoadEvents, IdentitySeries>> = {
  v1: BELT_SERIES,
  v2: { measurement: "conveyor_load", tag: SOURCE_TAG },
};

/** One second of a load; latencies in milliseconds from the time an event was due to its acknowledgement. */
export interface SecondReport {
  t: number;
  second: number;
  stage: number;
  offered: number;
  acknowledged: number;
  failed: number;
  unknown: number;
  retries: number;
  outstanding_requests: number;
  latency_p50_ms: number | null;
  latency_p99_ms: number | null;
  /** The longest delay of the generator behind its own schedule. */
  behind_ms: number;
  /** Reasons why requests were not acknowledged at once, counted. */
  answers: Record<string, number>;
}

export interface ConveyorLedger {
  conveyor: string;
  acknowledged: Range[];
  failed: Range[];
  unknown: Range[];
}

export interface LoadSummary {
  run: string;
  started_at_ms: number;
  ended_at_ms: number;
  /** Stopped before its stages were over. */
  interrupted: boolean;
  /** Events that were due: acknowledged + failed + unknown. */
  offered: number;
  acknowledged: number;
  /** Certainly not accepted; includes those that were shed. */
  failed: number;
  /** Of the failed: never sent, because too much was outstanding. */
  shed: number;
  unknown: number;
  requests: number;
  retries: number;
  /** Events sent again after a request that may have been accepted: as many may be in Kafka twice. */
  resent: number;
  latency_p50_ms: number | null;
  latency_p99_ms: number | null;
  latency_max_ms: number | null;
}

export type GeneratorSecond = SecondReport & { targets: number; cpu_cores: number };

/** Lines of an open load. The ledger and the summary follow its last stage. */
type OpenLoadLine =
  | { stage: { t: number; index: number } & LoadStage }
  | { second: GeneratorSecond }
  | { ledger: ConveyorLedger }
  | { summary: LoadSummary };

/** Consecutive events of one conveyor: its name, the first and the last sequence number. */
export type EventRange = [conveyor: string, first: number, last: number];

export interface OrderedLoadCounts {
  offered: number;
  acknowledged: number;
  unknown: number;
  /** Events that were sent again, because there was no acknowledgement; each may be in Kafka twice. */
  again: number;
}

/** Lines of an ordered load, each printed before the next step, so that the record survives whatever fails meanwhile. */
export type OrderedLoadLine =
  /** Before the batch is sent for the first time. */
  | { attempt: EventRange; t: number }
  /** unknown: the limit after the end of the load passed without an acknowledgement. */
  | { outcome: "ok" | "unknown"; batch: EventRange; why?: string; t: number }
  | { again: number; conveyor: string; why: string; t: number }
  | { done: OrderedLoadCounts; t: number };

export type GeneratorLine = OpenLoadLine | OrderedLoadLine;

const GENERATOR_LINE = /^\{"(?:stage|second|ledger|summary|attempt|outcome|again|done)":/;

/** A line of the load generator; undefined for a log line and for a truncated one. */
export function parseGeneratorLine(line: string): GeneratorLine | undefined {
  if (!GENERATOR_LINE.test(line)) return undefined;
  try {
    return JSON.parse(line) as GeneratorLine;
  } catch {
    return undefined;
  }
}
