/**
 * Queries of InfluxDB from outside the cluster: through a port-forward, over TLS verified against the CA of its certificate,
 * with the reader's token.
 */
import { InfluxDB } from "@influxdata/influxdb-client";
import { MEASUREMENT_NAMES, type TelemetryEvent } from "../../services/domain/event.ts";
import { fluxString } from "../../services/domain/flux.ts";
import { type FieldType, seriesOf } from "../../services/domain/line-protocol.ts";
import { BELT_SERIES, type IdentitySeries, MEASUREMENT, valuesChecksum } from "../../services/domain/point.ts";
import { fieldHash, pointKey } from "../../services/domain/point-content.ts";
import { OperatorError } from "../cli/errors.ts";
import type { Cluster } from "../cluster/cluster.ts";
import {
  type ExternalInfluxdb,
  type ExternalStores,
  INFLUXDB_SECRET,
  readExternalStores,
} from "../cluster/external-stores.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { openRelay } from "./relay.ts";

/** Of the own InfluxDB; an external one has its own. */
const ORGANIZATION = "conveyor";
const BUCKET = "telemetry";

/** A query over a million points takes tens of seconds on two cores. */
const QUERY_LIMIT_MS = 180_000;

export interface StoredRun {
  points: number;
  /** The different checksums of what its points say. */
  values: Set<number>;
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
  /** With `withValues`: checksum of what the point says. */
  values?: number;
}

/** One field of one point of any measurement, as hashes of domain/point-content.ts. */
export interface StoredField {
  /** pointKey() of its point. */
  key: string;
  /** fieldHash() of its name, type and value. */
  field: string;
}

/** Selects points; an empty filter selects all. */
export interface PointFilter {
  runs?: readonly string[];
  /** All when empty. */
  conveyors?: readonly string[];
  conveyorsPrefix?: string;
  /** Those of version 1 when absent. */
  series?: IdentitySeries;
  /** Read measurements and state too: three times the fields. */
  withValues?: boolean;
}

/** Milliseconds since the epoch; the end is exclusive. */
export interface TimeRange {
  startMs: number;
  endMs: number;
}

/** Nanoseconds since the epoch of a time in RFC 3339, as decimal text: "2026-11-25T04:00:00.000000001Z". */
export function nanosecondsOf(time: string): string {
  const match = /^(.+?)(?:\.(\d{1,9}))?Z$/.exec(time);
  const ms = Date.parse(`${match?.[1]}Z`);
  if (!match || Number.isNaN(ms)) throw new Error(`time: must be RFC 3339 in UTC; got ${time}`);
  return `${ms / 1000}${(match[2] ?? "").padEnd(9, "0")}`;
}

const VALUE_FIELDS = [...MEASUREMENT_NAMES, "state"] as const;
const anyOf = (field: string, values: readonly string[]) =>
  values.map((value) => `r.${field} == ${fluxString(value)}`).join(" or ");

/** First stages of a query: fields of a time range. The tag is filtered here, so that other series are not read. */
function select(
  bucket: string,
  fields: readonly string[],
  { startMs, endMs }: TimeRange,
  { conveyors = [], conveyorsPrefix, series = BELT_SERIES }: PointFilter = {},
): string[] {
  const conditions = [`r._measurement == ${fluxString(series.measurement)}`, `(${anyOf("_field", fields)})`];
  if (conveyors.length > 0) conditions.push(`(${anyOf(series.tag, conveyors)})`);
  if (conveyorsPrefix) {
    conditions.push(`r.${series.tag} =~ /^${conveyorsPrefix.replaceAll(/[^A-Za-z0-9_-]/g, String.raw`\$&`)}/`);
  }
  return [
    `from(bucket: ${fluxString(bucket)})`,
    `|> range(start: time(v: ${startMs}000000), stop: time(v: ${endMs}000000))`,
    `|> filter(fn: (r) => ${conditions.join(" and ")})`,
  ];
}

/** First stages of a query: all fields of a measurement in a time range. */
const selectMeasurement = (bucket: string, measurement: string, { startMs, endMs }: TimeRange): string[] => [
  `from(bucket: ${fluxString(bucket)})`,
  `|> range(start: time(v: ${startMs}000000), stop: time(v: ${endMs}000000))`,
  `|> filter(fn: (r) => r._measurement == ${fluxString(measurement)})`,
];

/** Types of values in annotated CSV, by their names there. */
const FIELD_TYPES: Readonly<Record<string, FieldType>> = {
  double: "float",
  long: "integer",
  unsignedLong: "unsigned",
  boolean: "boolean",
  string: "string",
};

/** The positions of a table's columns; the first two are the names of result and table, which tags may have too. */
function columnsOf(columns: readonly { label: string; dataType: string; index: number }[]) {
  const at = (label: string) => columns.findIndex((column, index) => index > 1 && column.label === label);
  const [time, value, field] = [at("_time"), at("_value"), at("_field")];
  const type = FIELD_TYPES[columns[value]?.dataType ?? ""];
  if (type === undefined) throw new Error(`_value: must have a type of a field; got ${columns[value]?.dataType}`);
  const tags = columns.filter(({ label }, index) => index > 1 && !label.startsWith("_"));
  return { time, value, type, field, tags };
}

/** A query that needs the right to read the bucket and returns at most one row per series. */
export const readCheck = (bucket: string): string =>
  `from(bucket: ${fluxString(bucket)}) |> range(start: -1m) |> filter(fn: (r) => r._measurement == ${fluxString(MEASUREMENT)}) |> limit(n: 1)`;

/** Organization and bucket of an own or external InfluxDB. */
export const bucketOf = ({ influxdb }: ExternalStores) => ({
  org: influxdb?.org ?? ORGANIZATION,
  bucket: influxdb?.bucket ?? BUCKET,
});

/** A value as InfluxDB sends it, with the type of its column: "double", "long", "unsignedLong", "boolean", "string", "dateTime:RFC3339". */
export interface Cell {
  type: string;
  text: string;
}

interface StoreAddress {
  url: string;
  token: string;
  /** The CA of the server's certificate, PEM; the system's trusted ones when absent. */
  ca: string | undefined;
  /** Name of the server (and its port), where the URL is that of a port-forward. */
  server?: string;
}

interface StoreOptions {
  org?: string;
  bucket?: string;
  /** Closes the connection; called by `close`. */
  end?: () => Promise<void>;
}

export class TelemetryStore implements AsyncDisposable {
  readonly #influx: InfluxDB;
  readonly #options: Required<Pick<StoreOptions, "org" | "bucket">> & StoreOptions;

  constructor(influx: InfluxDB, options: StoreOptions = {}) {
    this.#influx = influx;
    this.#options = { org: ORGANIZATION, bucket: BUCKET, ...options };
  }

  static at({ url, token, ca, server }: StoreAddress, options?: StoreOptions): TelemetryStore {
    const named = server && { servername: server.replace(/:\d+$/, "") };
    const transportOptions = { ...(ca ? { ca } : {}), ...named };
    // A server behind a proxy is found by the Host header.
    const headers: Record<string, string> = server ? { host: server } : {};
    return new TelemetryStore(
      new InfluxDB({ url, token, timeout: QUERY_LIMIT_MS, headers, transportOptions }),
      options,
    );
  }

  static async #openExternal(cluster: Cluster, influxdb: ExternalInfluxdb): Promise<TelemetryStore> {
    const { url, org, bucket, hasCa } = influxdb;
    const token = (await readSecret(cluster, "influxdb-token-reader")).token?.trim() ?? "";
    const ca = hasCa ? (await readSecret(cluster, INFLUXDB_SECRET))["ca.crt"] : undefined;
    const relay = await openRelay(cluster, url);
    const address = { url: `https://localhost:${relay.port}`, token, ca, server: new URL(url).host };
    return TelemetryStore.at(address, { org, bucket, end: relay.close });
  }

  /** Opens the connection; the caller closes it. */
  static async open(cluster: Cluster): Promise<TelemetryStore> {
    const { influxdb } = await readExternalStores(cluster);
    if (influxdb) return await TelemetryStore.#openExternal(cluster, influxdb);
    const ca = (await readSecret(cluster, "influxdb-tls"))["ca.crt"];
    const token = (await readSecret(cluster, "influxdb-token-reader")).token?.trim();
    if (!ca || !token) {
      throw new OperatorError("InfluxDB cannot be read: its CA or the reader's token is missing", {
        hint: "bun scripts/deploy.ts   (the setup job creates the token)",
      });
    }
    const forward = await cluster.portForward("svc/influxdb", 8086);
    return TelemetryStore.at({ url: `https://localhost:${forward.port}`, token, ca }, { end: forward.close });
  }

  async close(): Promise<void> {
    await this.#options.end?.();
  }

  [Symbol.asyncDispose] = () => this.close();

  get bucket(): string {
    return this.#options.bucket;
  }

  /** Rows of a Flux query with the text of each cell, exact also for integers beyond 2^53; cells without a value are absent. */
  async *rows(flux: string): AsyncGenerator<Map<string, Cell>> {
    for await (const { values, tableMeta } of this.#influx.getQueryApi(this.#options.org).iterateRows(flux)) {
      const cells = new Map<string, Cell>();
      for (const { label, dataType, index } of tableMeta.columns) {
        const text = values[index];
        if (text !== undefined && text !== "") cells.set(label, { type: dataType, text });
      }
      yield cells;
    }
  }

  /** Rows of a Flux query, for the queries of dashboards. */
  async query<T>(flux: string): Promise<T[]> {
    return await this.#influx.getQueryApi(this.#options.org).collectRows<T>(flux);
  }

  /** Rows of a query, one after the other. */
  async #eachRow<T>(stages: readonly string[], visit: (row: T) => Promise<void> | void): Promise<void> {
    for await (const { values, tableMeta } of this.#influx
      .getQueryApi(this.#options.org)
      .iterateRows(stages.join("\n"))) {
      const waits = visit(tableMeta.toObject(values) as T);
      if (waits) await waits;
    }
  }

  /**
   * Number of points of all runs in each window of a time range, counted by the database.
   * @returns windows with points, by their start
   */
  async countPoints(
    filter: Omit<PointFilter, "runs">,
    range: TimeRange & { windowMs: number },
  ): Promise<{ startMs: number; points: number }[]> {
    const stages = [
      ...select(this.#options.bucket, ["seq"], range, filter),
      `|> aggregateWindow(every: ${range.windowMs}ms, fn: count, createEmpty: false, timeSrc: "_start")`,
      `|> group(columns: ["_time"])`,
      "|> sum()",
    ];
    const counts: { startMs: number; points: number }[] = [];
    await this.#eachRow<{ _time: string; _value: number }>(stages, ({ _time, _value }) => {
      // The first window starts with the range, which need not be the start of a window.
      const startMs = Math.floor(Date.parse(_time) / range.windowMs) * range.windowMs;
      counts.push({ startMs, points: _value });
    });
    return counts;
  }

  /**
   * Visits every selected point, for results that do not fit into memory.
   * @param filter names must be valid by services/domain/event.ts
   */
  async eachPoint(
    filter: PointFilter,
    startMs: number,
    endMs: number,
    visit: (point: StoredPoint) => Promise<void> | void,
  ): Promise<void> {
    const valueFields = filter.withValues ? VALUE_FIELDS : [];
    const { tag } = filter.series ?? BELT_SERIES;
    const columns = ["_time", tag, "run", "seq", ...valueFields];
    const stages = [
      ...select(this.#options.bucket, ["run", "seq", ...valueFields], { startMs, endMs }, filter),
      `|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")`,
      ...(filter.runs ? [`|> filter(fn: (r) => ${anyOf("run", filter.runs)})`] : []),
      `|> keep(columns: ${JSON.stringify(columns)})`,
    ];
    type Row = Partial<TelemetryEvent> & { _time: string; run: string; seq: number } & { [tag: string]: unknown };
    await this.#eachRow<Row>(stages, (row) => {
      const { _time, run, seq, [tag]: conveyor } = row;
      const values = filter.withValues ? { values: valuesChecksum(row) } : {};
      return visit({ conveyor: String(conveyor), run, seq, timestampNs: nanosecondsOf(_time), ...values });
    });
  }

  /** Number of field values of a measurement in each window of a time range that has some, by the windows' start. */
  async countFieldValues(
    measurement: string,
    { startMs, endMs, windowMs }: TimeRange & { windowMs: number },
  ): Promise<{ startMs: number; points: number }[]> {
    const stages = [
      ...selectMeasurement(this.#options.bucket, measurement, { startMs, endMs }),
      `|> aggregateWindow(every: ${windowMs}ms, fn: count, createEmpty: false, timeSrc: "_start")`,
      `|> group(columns: ["_time"])`,
      "|> sum()",
    ];
    const counts: { startMs: number; points: number }[] = [];
    await this.#eachRow<{ _time: string; _value: number }>(stages, ({ _time, _value }) => {
      counts.push({ startMs: Math.floor(Date.parse(_time) / windowMs) * windowMs, points: _value });
    });
    return counts;
  }

  /**
   * Visits every field of every point of a measurement. Values are read as the database writes them, with their types: a
   * number of the language would not hold an integer above 2^53.
   */
  async eachFieldValue(
    measurement: string,
    startMs: number,
    endMs: number,
    visit: (field: StoredField) => Promise<void> | void,
  ): Promise<void> {
    const stages = [
      ...selectMeasurement(this.#options.bucket, measurement, { startMs, endMs }),
      '|> drop(columns: ["_start", "_stop"])',
    ];
    let series = { tags: "", text: "" };
    for await (const { values, tableMeta } of this.#influx
      .getQueryApi(this.#options.org)
      .iterateRows(stages.join("\n"))) {
      const { time, value, type, field, tags } = columnsOf(tableMeta.columns);
      // The rows of a series follow each other.
      const tagText = tags.map(({ label, index }) => `${label}\n${values[index]}`).join("\n");
      if (series.text === "" || series.tags !== tagText) {
        const point = {
          measurement,
          tags: new Map(tags.map(({ label, index }) => [label, values[index]!])),
          fields: new Map(),
          timeNs: "",
        };
        series = { tags: tagText, text: seriesOf(point) };
      }
      const waits = visit({
        key: pointKey(series.text, nanosecondsOf(values[time]!)),
        field: fieldHash(values[field]!, { type, text: values[value]! }),
      });
      if (waits) await waits;
    }
  }

  /**
   * Sequence numbers of all points of the conveyors with a prefix. The conveyors must belong to one run: the run is not
   * read, which makes the query several times cheaper.
   */
  async eachSequence(
    filter: Pick<PointFilter, "conveyorsPrefix" | "series">,
    startMs: number,
    endMs: number,
    visit: (conveyor: string, seq: number) => void,
  ): Promise<void> {
    const { tag } = filter.series ?? BELT_SERIES;
    const stages = [
      ...select(this.#options.bucket, ["seq"], { startMs, endMs }, filter),
      `|> keep(columns: ${JSON.stringify([tag, "_value"])})`,
    ];
    type Row = { [tag: string]: unknown; _value: number };
    await this.#eachRow<Row>(stages, ({ _value, [tag]: conveyor }) => visit(String(conveyor), _value));
  }

  /**
   * The points of one run.
   * @param startMs earliest event time of the run
   * @param conveyors conveyors of the run, where they are known: the database then reads no other points of the range,
   *   which may exceed the memory of a query after a load test
   */
  async run(
    run: string,
    startMs: number,
    endMs: number,
    { conveyors = [], series }: Pick<PointFilter, "conveyors" | "series"> = {},
  ): Promise<StoredRun> {
    const stored: StoredRun = { points: 0, values: new Set(), sequences: new Map(), duplicates: 0 };
    const filter: PointFilter = { runs: [run], conveyors, withValues: true, ...(series ? { series } : {}) };
    await this.eachPoint(filter, startMs, endMs, ({ conveyor, seq, values }) => {
      const sequences = stored.sequences.get(conveyor) ?? new Set();
      stored.sequences.set(conveyor, sequences);
      if (sequences.has(seq)) stored.duplicates++;
      sequences.add(seq);
      stored.points++;
      stored.values.add(values!);
    });
    return stored;
  }
}
