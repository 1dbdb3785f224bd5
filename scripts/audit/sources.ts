/**
 * The sources of an audit: a cluster (cluster-sources.ts), or servers and services as local processes
 * (tests/integration). record.ts depends on this interface only.
 */
import type { Range } from "../../services/domain/sequence.ts";
import type { PartitionOffset } from "../../services/protocol/kafka.ts";
import type { LedgerCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";
import type { LogEnd, LoggedPoint, LogLine, LogRequest } from "../../services/protocol/log-reader.ts";
import type { DeadLetterHeaders, OffsetRange } from "../../services/protocol/probe.ts";
import { OperatorError } from "../cli/errors.ts";
import type { PointFilter, StoredField, StoredPoint } from "../clients/influxdb.ts";
import type { PointCount } from "./point-slices.ts";

/** Dead letters of one audit; with more, the events that are refused are not known. */
export const MAX_DEAD_LETTERS = 100_000;

/** Response of a producer at /ledger. */
export interface ProducerLedger {
  pod: string;
  /** The run of its simulated fleet; other runs were sent over HTTP. */
  run: string;
  started_at: string;
  repeated: number;
  dropped_from_ledger: number;
  runs: Record<string, Record<string, Range[]>>;
}

type AuditedDeadLetter = Pick<DeadLetterHeaders, "headers">;

/** An event as a reader of the log found it. */
export interface LogEvent {
  partition: number;
  offset: number;
  run: string;
  conveyor: string;
  seq: number;
  tsMs: number;
  hash: string;
  /** Undefined: the deployed image is older than this command. */
  values: number | undefined;
  /** Of an event that is not of version 1: services/protocol/log-reader.ts. */
  point?: {
    identity: LoggedPoint[0];
    measurement: string;
    key: string;
    fields: string;
    /** Kafka's time of the record; undefined from an older image. */
    recordMs?: number | undefined;
  };
}

type LogRange = Pick<LogRequest, "runs" | "fleets" | "conveyors_prefix" | "from_timestamp_ms" | "decoder"> & {
  to: PartitionOffset[];
};

export interface AuditSources {
  /** The ledgers of the producers that answer, and the pods of those that run and do not. */
  ledgers(): Promise<{ ledgers: ProducerLedger[]; unresponsive: string[] }>;
  /** Checkpoints that producers, running or ended, logged since then. `gap`: what could not be read. */
  checkpoints(sinceMs: number): Promise<{ lines: LedgerCheckpoint[]; gap?: string }>;
  /** End offsets, and the offsets committed by the processor's group. */
  offsets(): Promise<OffsetRange[]>;
  deadLetters(sinceMs: number): Promise<AuditedDeadLetter[]>;
  /** Reads the log with a new reader; undefined when the deployed image does not support it. */
  log(range: LogRange, visit: (event: LogEvent) => Promise<void> | void): Promise<LogEnd | undefined>;
  /** Number of points of all runs in each window of a time range. */
  pointCounts(
    filter: Omit<PointFilter, "runs">,
    range: { startMs: number; endMs: number; windowMs: number },
  ): Promise<PointCount[]>;
  points(
    filter: PointFilter,
    startMs: number,
    endMs: number,
    visit: (point: StoredPoint) => Promise<void> | void,
  ): Promise<void>;
  /** Number of field values of a measurement in each window of a time range. */
  fieldCounts(measurement: string, range: { startMs: number; endMs: number; windowMs: number }): Promise<PointCount[]>;
  /** The fields of all points of a measurement. */
  fieldValues(
    measurement: string,
    startMs: number,
    endMs: number,
    visit: (field: StoredField) => Promise<void> | void,
  ): Promise<void>;
}

/** The output of a log reader broke off: neither its last line nor an error. */
export class BrokenLogRead extends OperatorError {}

/**
 * Reads the output of services/tools/log-reader.ts line by line.
 * @throws BrokenLogRead when it broke off; OperatorError when Kafka could not be read.
 */
export async function readLogLines(
  lines: AsyncIterable<string>,
  visit: (event: LogEvent) => Promise<void> | void,
): Promise<LogEnd> {
  const runs: string[] = [];
  const conveyors: string[] = [];
  const measurements: string[] = [];
  let end: LogEnd | undefined;
  for await (const text of lines) {
    const line = JSON.parse(text) as LogLine;
    switch (line[0]) {
      case "run":
        runs[line[1]] = line[2];
        break;
      case "conveyor":
        conveyors[line[1]] = line[2];
        break;
      case "measurement":
        measurements[line[1]] = line[2];
        break;
      case "end":
        end = line[1];
        break;
      case "error":
        throw new OperatorError(`Kafka's log cannot be read: ${line[1]}`);
      default: {
        const [partition, offset, run, conveyor, seq, tsMs, hash, values, logged] = line;
        const identity = { run: runs[run]!, conveyor: conveyors[conveyor]!, seq };
        const event: LogEvent = { partition, offset, ...identity, tsMs, hash, values };
        if (logged) {
          const [kind, measurement, key, fields, recordMs] = logged;
          event.values = undefined;
          event.point = { identity: kind, measurement: measurements[measurement]!, key, fields, recordMs };
        }
        const waits = visit(event);
        if (waits) await waits;
      }
    }
  }
  if (!end) throw new BrokenLogRead("Kafka's log cannot be read: the reader ended early");
  return end;
}
