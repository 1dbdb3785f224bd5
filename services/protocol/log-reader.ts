/** Requests to services/tools/log-reader.ts and the lines that it prints. */
import { kafkaShape, type PartitionOffset } from "./kafka.ts";
import { checkFields, optional, parseJson, type Shaped } from "./request.ts";

const requestShape = {
  ...kafkaShape,
  topic: optional<string>(),
  /** Kafka's time of the first record; from the beginning when absent. */
  from_timestamp_ms: optional<number>(),
  /** The first offset that is not read, per partition; the current ends when absent. */
  to: optional<PartitionOffset[]>(),
  /** Only these runs, or only conveyors with this prefix; every event when both are absent. */
  runs: optional<string[]>(),
  /** With `runs`: also every run named like those of the simulated fleets (domain/run-id.ts). */
  fleets: optional<boolean>(),
  conveyors_prefix: optional<string>(),
  /** Decoder of the brokers' answers. A second, independent one checks the first. */
  decoder: optional<"own" | "kafkajs">(),
};
export type LogRequest = Shaped<typeof requestShape>;

/** @throws Error that names the field, the rule and the value */
export function parseLogRequest(text: string): LogRequest {
  const request = parseJson(text, "request");
  checkFields(request, requestShape);
  return request as LogRequest;
}

/** Last line of a complete read. */
export interface LogEnd {
  /** Records read, requested or not. */
  records: number;
  /** Lines written. */
  listed: number;
  /** Records that are not events. */
  unreadable: number;
  /** Batches whose records cannot be read. */
  unreadable_batches: { partition: number; first_offset: number; last_offset: number; reason: string }[];
  /** Events of runs that were not requested, by run. */
  other_runs: Record<string, number>;
  from: PartitionOffset[];
  to: PartitionOffset[];
}

/**
 * What the point of an event says that is not of version 1: its identity's kind, measurement, and hashes of
 * domain/point-content.ts; those of the fields one after the other. "foreign": an event that was not requested, with the
 * series and time of one that was: its values may have replaced those. The last is Kafka's time of the record (ms since
 * 1970); images before it have none.
 */
export type LoggedPoint = [
  identity: "given" | "assigned" | "foreign",
  measurement: number,
  key: string,
  fields: string,
  recordMs?: number,
];

/** Each line is a JSON array. */
export type LogLine =
  /** A name and the number that replaces it in later lines. */
  | ["run" | "conveyor" | "measurement", number, string]
  /**
   * An event; hash: the first digits of its payload's SHA-256; values: valuesChecksum() of domain/point.ts, or 0 where
   * `point` says what it says.
   */
  | [
      partition: number,
      offset: number,
      run: number,
      conveyor: number,
      seq: number,
      tsMs: number,
      hash: string,
      values: number,
      point?: LoggedPoint,
    ]
  | ["end", LogEnd]
  /** Replaces the end; exit 1. */
  | ["error", string];
