/**
 * Reads InfluxDB from outside the cluster, as an auditor does: through a port-forward, over TLS verified against the
 * project's CA, with the read-only token.
 */
import { InfluxDB } from "@influxdata/influxdb-client";
import { OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE, type PortForward } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";

export const ORGANIZATION = "conveyor";
export const BUCKET = "telemetry";
export const MEASUREMENT = "conveyor_telemetry";

/** A query over a million points takes tens of seconds on two cores. */
const QUERY_LIMIT_MS = 180_000;

/** Rows found for one run: how many points, and which sequence numbers of each conveyor. */
export interface StoredRun {
  points: number;
  /** conveyor → its sequence numbers; a number that stands in two points is in `duplicates` too. */
  sequences: Map<string, Set<number>>;
  /** Points beyond the first for the same (run, conveyor, seq). */
  duplicates: number;
}

/** One point, by the identity of its event. */
export interface StoredPoint {
  run: string;
  conveyor: string;
  seq: number;
  /** Decimal text: it exceeds 2^53. */
  timestampNs: string;
}

/** Nanoseconds since 1970 of a time in RFC 3339, as decimal text: "2026-11-25T04:00:00.000000001Z". */
export function nanosecondsOf(time: string): string {
  const match = /^(.+?)(?:\.(\d{1,9}))?Z$/.exec(time);
  const ms = Date.parse(`${match?.[1]}Z`);
  if (!match || Number.isNaN(ms)) throw new Error(`time: must be RFC 3339 in UTC; got ${time}`);
  return `${ms / 1000}${(match[2] ?? "").padEnd(9, "0")}`;
}

/** Which points are wanted: all of them when it is empty. */
export interface PointFilter {
  runs?: readonly string[];
  /** These conveyors only; all where it is empty. */
  conveyors?: readonly string[];
  conveyorsPrefix?: string;
}

/** The beginning of a query: what is stored of a time range, of some fields. */
function rowsOf(
  { conveyors = [], conveyorsPrefix }: PointFilter,
  fields: string,
  startMs: number,
  endMs: number,
): string[] {
  // A tag: the database goes only through the series that fit.
  const named = conveyors.map((conveyor) => `r.conveyor == ${JSON.stringify(conveyor)}`).join(" or ");
  const ofConveyor = named && ` and (${named})`;
  const ofConveyors = conveyorsPrefix ? ` and r.conveyor =~ /^${conveyorsPrefix.replaceAll(".", "\\.")}/` : "";
  return [
    `from(bucket: ${JSON.stringify(BUCKET)})`,
    `|> range(start: time(v: ${startMs}000000), stop: time(v: ${endMs}000000))`,
    `|> filter(fn: (r) => r._measurement == ${JSON.stringify(MEASUREMENT)} and ${fields}${ofConveyor}${ofConveyors})`,
  ];
}

/**
 * How many points stand in each window of a time range, of whatever run: counted by the database without reading them out.
 * @returns the windows that hold any, by their first millisecond.
 */
export async function countPoints(
  influx: InfluxDB,
  filter: Omit<PointFilter, "runs">,
  range: { startMs: number; endMs: number; windowMs: number },
): Promise<{ startMs: number; points: number }[]> {
  const flux = [
    ...rowsOf(filter, `r._field == "seq"`, range.startMs, range.endMs),
    `|> aggregateWindow(every: ${range.windowMs}ms, fn: count, createEmpty: false, timeSrc: "_start")`,
    `|> group(columns: ["_time"])`,
    "|> sum()",
  ].join("\n");
  const counts: { startMs: number; points: number }[] = [];
  for await (const { values, tableMeta } of influx.getQueryApi(ORGANIZATION).iterateRows(flux)) {
    const row = tableMeta.toObject(values) as { _time: string; _value: number };
    // The first window begins with the range, which need not be a window's beginning.
    const startMs = Math.floor(Date.parse(row._time) / range.windowMs) * range.windowMs;
    counts.push({ startMs, points: row._value });
  }
  return counts;
}

/**
 * Every wanted point, one after the other: for what does not fit into memory.
 * @param filter names must obey services/domain/event.ts' rule for names
 * @param startMs first millisecond, `endMs` the one behind the last
 */
export async function eachPoint(
  influx: InfluxDB,
  filter: PointFilter,
  startMs: number,
  endMs: number,
  visit: (point: StoredPoint) => Promise<void> | void,
): Promise<void> {
  const { runs } = filter;
  const flux = [
    ...rowsOf(filter, `(r._field == "run" or r._field == "seq")`, startMs, endMs),
    `|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")`,
    ...(runs ? [`|> filter(fn: (r) => ${runs.map((run) => `r.run == ${JSON.stringify(run)}`).join(" or ")})`] : []),
    `|> keep(columns: ["_time", "conveyor", "run", "seq"])`,
  ].join("\n");
  for await (const { values, tableMeta } of influx.getQueryApi(ORGANIZATION).iterateRows(flux)) {
    const row = tableMeta.toObject(values) as { _time: string; conveyor: string; run: string; seq: number };
    const { conveyor, run, seq } = row;
    await visit({ conveyor, run, seq, timestampNs: nanosecondsOf(row._time) });
  }
}

/**
 * The points of one run, by identity.
 * @param startMs earliest event time (ms since the epoch) that the run can have
 * @param conveyors those that the run has, where they are known: the database then reads nothing else of the time range,
 *   where a load test may have left more than a query's memory holds
 */
export async function pointsOfRun(
  influx: InfluxDB,
  run: string,
  { startMs, endMs, conveyors }: { startMs: number; endMs: number; conveyors: readonly string[] },
): Promise<StoredRun> {
  const flux = [
    ...rowsOf({ conveyors }, `(r._field == "run" or r._field == "seq")`, startMs, endMs),
    `|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")`,
    `|> filter(fn: (r) => r.run == ${JSON.stringify(run)})`,
    `|> keep(columns: ["conveyor", "seq"])`,
  ].join("\n");
  const stored: StoredRun = { points: 0, sequences: new Map(), duplicates: 0 };
  for await (const { values, tableMeta } of influx.getQueryApi(ORGANIZATION).iterateRows(flux)) {
    const { conveyor, seq } = tableMeta.toObject(values) as { conveyor: string; seq: number };
    let sequences = stored.sequences.get(conveyor);
    if (!sequences) {
      sequences = new Set();
      stored.sequences.set(conveyor, sequences);
    }
    if (sequences.has(seq)) stored.duplicates++;
    sequences.add(seq);
    stored.points++;
  }
  return stored;
}

export class TelemetryStore {
  readonly #influx: InfluxDB;
  readonly #forward: PortForward;
  readonly url: string;
  readonly ca: string;

  private constructor(forward: PortForward, ca: string, token: string) {
    this.#forward = forward;
    this.ca = ca;
    this.url = `https://localhost:${forward.port}`;
    this.#influx = new InfluxDB({ url: this.url, token, timeout: QUERY_LIMIT_MS, transportOptions: { ca } });
  }

  /** Opens the port-forward; close it when done. */
  static async open(cluster: Cluster): Promise<TelemetryStore> {
    const tls = await readSecret(cluster, "influxdb-tls");
    const token = (await readSecret(cluster, "influxdb-token-reader")).token;
    const ca = tls["ca.crt"];
    if (!ca || !token) {
      throw new OperatorError("InfluxDB cannot be read: its CA or the reader's token is missing", {
        hint: "bun scripts/deploy.ts   (the setup job makes the token)",
      });
    }
    return new TelemetryStore(await cluster.portForward("svc/influxdb", 8086, NAMESPACE), ca, token.trim());
  }

  async close(): Promise<void> {
    await this.#forward.close();
  }

  /** Rows of a Flux query as objects. */
  async query<T>(flux: string): Promise<T[]> {
    return await this.#influx.getQueryApi(ORGANIZATION).collectRows<T>(flux);
  }

  /** As {@link eachPoint}. */
  async eachPoint(
    filter: PointFilter,
    startMs: number,
    endMs: number,
    visit: (point: StoredPoint) => Promise<void> | void,
  ): Promise<void> {
    await eachPoint(this.#influx, filter, startMs, endMs, visit);
  }

  /**
   * Sequence numbers of all points of the conveyors whose names begin so, one after the other. The names must be one
   * run's own: the run is not read, which makes it several times cheaper.
   */
  async eachSequence(
    conveyorPrefix: string,
    startMs: number,
    endMs: number,
    visit: (conveyor: string, seq: number) => void,
  ): Promise<void> {
    const pattern = conveyorPrefix.replaceAll(/[^A-Za-z0-9_-]/g, "\\$&");
    const flux = [
      `from(bucket: ${JSON.stringify(BUCKET)})`,
      `|> range(start: time(v: ${startMs}000000), stop: time(v: ${endMs}000000))`,
      `|> filter(fn: (r) => r._measurement == ${JSON.stringify(MEASUREMENT)} and r._field == "seq" and r.conveyor =~ /^${pattern}/)`,
      `|> keep(columns: ["conveyor", "_value"])`,
    ].join("\n");
    for await (const { values, tableMeta } of this.#influx.getQueryApi(ORGANIZATION).iterateRows(flux)) {
      const { conveyor, _value } = tableMeta.toObject(values) as { conveyor: string; _value: number };
      visit(conveyor, _value);
    }
  }

  /** As {@link countPoints}. */
  async countPoints(filter: Omit<PointFilter, "runs">, range: Parameters<typeof countPoints>[2]) {
    return await countPoints(this.#influx, filter, range);
  }

  /** As {@link pointsOfRun}. */
  async run(run: string, startMs: number, endMs: number, conveyors: readonly string[] = []): Promise<StoredRun> {
    return await pointsOfRun(this.#influx, run, { startMs, endMs, conveyors });
  }
}
