/**
 * Points of known content, in the forms in which senders carry them, and their comparison with what InfluxDB has. It renders and
 * reads by its own few rules, not by those of the services that the tests are for.
 */
import { InfluxDB } from "@influxdata/influxdb-client";
import { nanosecondsOf } from "../../scripts/clients/influxdb.ts";

/** Series of the points: one machine each. */
const UNITS = 20;
/** Above 2^53, where a number of JavaScript is no longer exact. */
const TOTAL_START = 9_007_199_254_740_993n;
const NS_PER_MS = 1_000_000n;
/** Differences that a failure lists. */
const MAX_LISTED = 10;
/** A query of some thousand points takes seconds on a busy machine. */
const QUERY_LIMIT_MS = 120_000;
/** Points of one query: their rows are a few megabytes. */
const POINTS_PER_QUERY = 20_000;

/** Types as InfluxDB's query result names them. */
type StoredType = "double" | "long" | "boolean" | "string";

export interface KnownValue {
  type: StoredType;
  text: string;
}

export interface KnownPoint {
  tags: Readonly<Record<string, string>>;
  fields: Readonly<Record<string, KnownValue>>;
  /** Decimal text of nanoseconds. */
  timeNs: string;
}

/** Numbers of a sender's format. exact: also integers above 2^53; safe: smaller ones; floats: no integers. */
type Numbers = "exact" | "safe" | "floats";

export interface KnownPointsOptions {
  measurement: string;
  count: number;
  /** Time of the first point; each machine has one point per millisecond from then on. */
  startMs: number;
  /** Tag with the name of the machine. */
  unitTag?: string;
  numbers?: Numbers;
  /** First word of the tag `site`: points of other sites are not compared. Letters, digits and hyphens. */
  site?: string;
}

const escapedTag = (text: string) => text.replaceAll(/[ ,=]/g, String.raw`\$&`);
const escapedString = (text: string) => `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`;

const RENDERED: Record<StoredType, (text: string) => string> = {
  double: (text) => text,
  long: (text) => `${text}i`,
  boolean: (text) => text,
  string: escapedString,
};

export class KnownPoints {
  readonly measurement: string;
  readonly count: number;
  readonly startMs: number;
  readonly site: string;
  readonly #unitTag: string;
  readonly #numbers: Numbers;

  constructor({ measurement, count, startMs, unitTag = "unit", numbers = "exact", site = "hall" }: KnownPointsOptions) {
    this.measurement = measurement;
    this.count = count;
    this.startMs = startMs;
    this.site = site;
    this.#unitTag = unitTag;
    this.#numbers = numbers;
  }

  /** End of the points' time, exclusive. */
  get endMs(): number {
    return this.#timeMs(this.count - 1) + 1;
  }

  #timeMs(index: number): number {
    return this.startMs + Math.floor(index / UNITS);
  }

  at(index: number): KnownPoint {
    const unit = index % UNITS;
    const n: KnownValue = { type: this.#numbers === "floats" ? "double" : "long", text: String(index) };
    const total: KnownValue = { type: "long", text: String(TOTAL_START + BigInt(index)) };
    return {
      tags: { site: `${this.site} ${unit % 3}`, [this.#unitTag]: `pump-${unit}` },
      fields: {
        flow_l_min: { type: "double", text: String(120 + ((index * 7919) % 1000) / 8) },
        pressure_bar: { type: "double", text: String((index % 97) / 7) },
        running: { type: "boolean", text: String(index % 3 !== 0) },
        note: { type: "string", text: `"Grüße", \\${index % 5} = ok` },
        n,
        ...(this.#numbers === "exact" ? { total } : {}),
      },
      timeNs: String(BigInt(this.#timeMs(index)) * NS_PER_MS),
    };
  }

  /** Line protocol with nanoseconds. */
  line(index: number): string {
    const { tags, fields, timeNs } = this.at(index);
    const tagText = Object.entries(tags).map(([key, value]) => `,${key}=${escapedTag(value)}`);
    const fieldText = Object.entries(fields).map(([key, { type, text }]) => `${key}=${RENDERED[type](text)}`);
    return `${this.measurement}${tagText.join("")} ${fieldText.join(",")} ${timeNs}`;
  }

  /** A message as a machine publishes it over MQTT, without the topic's parts. */
  message(index: number): { topic: string; payload: string } {
    const { tags, fields } = this.at(index);
    const values = Object.entries(fields).map(
      ([key, { type, text }]) => `${JSON.stringify(key)}:${type === "string" ? JSON.stringify(text) : text}`,
    );
    return {
      topic: `plants/${tags.site}/${tags[this.#unitTag]}`,
      payload: `{"time":${this.#timeMs(index)},${values.join(",")}}`,
    };
  }
}

/** A row of InfluxDB: one point. */
export interface StoredRow {
  timeNs: string;
  columns: Readonly<Record<string, KnownValue>>;
}

export interface Comparison {
  /** Points that are there exactly as they were sent. */
  equal: number;
  missing: number;
  /** Rows of a point that is already there. */
  repeated: number;
  /** Points with another value, type, tag or time, and rows of no known point. The first of them. */
  different: string[];
  differentCount: number;
}

const sameValue = (wanted: KnownValue, found: KnownValue | undefined): boolean =>
  found?.type === wanted.type &&
  (wanted.type === "double" ? Number(found.text) === Number(wanted.text) : found.text === wanted.text);

/** Compares rows with the known points; each row is found by its field `n`. */
export class PointComparison {
  readonly #seen: Uint8Array;
  readonly #different: string[] = [];
  #differentCount = 0;
  #repeated = 0;
  #equal = 0;

  constructor(private readonly points: KnownPoints) {
    this.#seen = new Uint8Array(points.count);
  }

  add(row: StoredRow): void {
    const index = Number(row.columns.n?.text);
    if (!Number.isInteger(index) || index < 0 || index >= this.points.count) {
      this.#differs(`no such point: ${JSON.stringify(row)}`);
      return;
    }
    if (this.#seen[index]) {
      this.#repeated++;
      return;
    }
    this.#seen[index] = 1;
    const problem = this.#problemOf(index, row);
    if (problem) this.#differs(`point ${index}: ${problem}`);
    else this.#equal++;
  }

  #problemOf(index: number, { timeNs, columns }: StoredRow): string | undefined {
    const { tags, fields, timeNs: wantedNs } = this.points.at(index);
    if (timeNs !== wantedNs) return `time ${timeNs}, sent ${wantedNs}`;
    const wanted: Record<string, KnownValue> = { ...fields };
    for (const [key, text] of Object.entries(tags)) wanted[key] = { type: "string", text };
    const extra = Object.keys(columns).filter((name) => !(name in wanted));
    if (extra.length > 0) return `columns that were not sent: ${extra.join(", ")}`;
    const wrong = Object.entries(wanted).find(([name, value]) => !sameValue(value, columns[name]));
    return wrong && `${wrong[0]}: ${JSON.stringify(columns[wrong[0]])}, sent ${JSON.stringify(wrong[1])}`;
  }

  #differs(text: string): void {
    this.#differentCount++;
    if (this.#different.length < MAX_LISTED) this.#different.push(text);
  }

  result(): Comparison {
    return {
      equal: this.#equal,
      missing: this.#seen.reduce((count, seen) => count + (seen ? 0 : 1), 0),
      repeated: this.#repeated,
      different: this.#different,
      differentCount: this.#differentCount,
    };
  }
}

/** What a comparison yields when every point is stored once and exactly as it was sent. */
export const allEqual = ({ count }: KnownPoints): Comparison => ({
  equal: count,
  missing: 0,
  repeated: 0,
  different: [],
  differentCount: 0,
});

export interface InfluxAddress {
  url: string;
  token: string;
  /** PEM. */
  ca: string;
  /** Name in the certificate, where the URL has another one. */
  server?: string;
}

const queryApi = ({ url, token, ca, server }: InfluxAddress) => {
  const transportOptions = { ca, ...(server ? { servername: server } : {}) };
  return new InfluxDB({ url, token, timeout: QUERY_LIMIT_MS, transportOptions }).getQueryApi("conveyor");
};

const selected = ({ measurement, site }: KnownPoints, startMs: number, stopMs: number) =>
  `from(bucket: "telemetry") |> range(start: time(v: ${startMs}000000), stop: time(v: ${stopMs}000000))` +
  ` |> filter(fn: (r) => r._measurement == ${JSON.stringify(measurement)} and r.site =~ /^${site} /)`;

/** Number of the points that InfluxDB has, by their field `n`. */
export async function countStored(points: KnownPoints, address: InfluxAddress): Promise<number> {
  const query = `${selected(points, points.startMs, points.endMs)} |> filter(fn: (r) => r._field == "n") |> group() |> count()`;
  const [row] = await queryApi(address).collectRows<{ _value: number }>(query);
  return row?._value ?? 0;
}

/** Columns of a query result that no point has. */
const RESULT_COLUMNS = new Set(["result", "table", "_start", "_stop", "_time", "_measurement"]);

/** Reads the points from InfluxDB itself and compares all of them. */
export async function comparePoints(points: KnownPoints, address: InfluxAddress): Promise<Comparison> {
  const api = queryApi(address);
  const comparison = new PointComparison(points);
  const stepMs = POINTS_PER_QUERY / UNITS;
  for (let startMs = points.startMs; startMs < points.endMs; startMs += stepMs) {
    const stopMs = Math.min(startMs + stepMs, points.endMs);
    const query = `${selected(points, startMs, stopMs)} |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")`;
    for await (const { values, tableMeta } of api.iterateRows(query)) {
      const columns: Record<string, KnownValue> = {};
      let timeNs = "";
      for (const { label, dataType, index } of tableMeta.columns) {
        const text = values[index] ?? "";
        if (label === "_time") timeNs = nanosecondsOf(text);
        else if (!RESULT_COLUMNS.has(label)) columns[label] = { type: dataType as StoredType, text };
      }
      comparison.add({ timeNs, columns });
    }
  }
  return comparison.result();
}
