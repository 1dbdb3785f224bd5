/** What `query` reads: measurements, newest values, points of a period. */

import { fluxString } from "../../services/domain/flux.ts";
import { MEASUREMENT } from "../../services/domain/point.ts";
import { OperatorError } from "../cli/errors.ts";
import type { Cell, TelemetryStore } from "../clients/influxdb.ts";

/** A database with more of them is listed in parts. */
const MAX_MEASUREMENTS = 1000;

/** Nanoseconds since 1970 as decimal text, which exceed 2^53; the end is exclusive. */
export interface NanosecondRange {
  startNs: string;
  endNs: string;
}

/** Rows of a table; a cell is undefined where a point has no such tag or field. */
export interface Rows {
  columns: string[];
  rows: (Cell | undefined)[][];
  /** There are more than the limit. */
  isCut: boolean;
}

interface PointQuery extends NanosecondRange {
  measurement: string;
  source?: string | undefined;
  /** All when empty. */
  fields?: readonly string[];
  limit: number;
}

const rangeStage = ({ startNs, endNs }: NanosecondRange) =>
  `|> range(start: time(v: ${startNs}), stop: time(v: ${endNs}))`;

/** Events of version 1 have their source in the tag `conveyor`. */
function sourceCondition(measurement: string | undefined, source: string): string {
  const of = (tag: string) => `r.${tag} == ${fluxString(source)}`;
  if (measurement === undefined) return `(${of("source")} or ${of("conveyor")})`;
  return of(measurement === MEASUREMENT ? "conveyor" : "source");
}

function filterStage(measurement: string | undefined, source: string | undefined, fields: readonly string[] = []) {
  const conditions = [
    ...(measurement === undefined ? [] : [`r._measurement == ${fluxString(measurement)}`]),
    ...(source === undefined ? [] : [sourceCondition(measurement, source)]),
    ...(fields.length === 0 ? [] : [`(${fields.map((field) => `r._field == ${fluxString(field)}`).join(" or ")})`]),
  ];
  return conditions.length === 0 ? [] : [`|> filter(fn: (r) => ${conditions.join(" and ")})`];
}

/** Values of the only column of a query, as text. */
async function valuesOf(
  store: TelemetryStore,
  flux: string,
  most: number,
): Promise<{ values: string[]; isCut: boolean }> {
  const values: string[] = [];
  for await (const cells of store.rows(flux)) {
    if (values.length === most) return { values, isCut: true };
    values.push(cells.get("_value")?.text ?? "");
  }
  return { values: values.sort(), isCut: false };
}

const EVER = "time(v: 0)";
const SCHEMA = 'import "influxdata/influxdb/schema"';

async function measurementNames(store: TelemetryStore): Promise<{ values: string[]; isCut: boolean }> {
  const flux = `${SCHEMA}\nschema.measurements(bucket: ${fluxString(store.bucket)}, start: ${EVER})`;
  return await valuesOf(store, flux, MAX_MEASUREMENTS);
}

async function fieldNames(store: TelemetryStore, measurement: string): Promise<string[]> {
  const flux = `${SCHEMA}\nschema.measurementFieldKeys(bucket: ${fluxString(store.bucket)}, measurement: ${fluxString(measurement)}, start: ${EVER})`;
  return (await valuesOf(store, flux, Number.POSITIVE_INFINITY)).values;
}

const text = (value: string): Cell => ({ type: "string", text: value });

/** Every measurement with its fields. */
export async function readMeasurements(store: TelemetryStore): Promise<Rows> {
  const { values, isCut } = await measurementNames(store);
  const rows: Rows["rows"] = [];
  for (const measurement of values) {
    rows.push([text(measurement), text((await fieldNames(store, measurement)).join(" "))]);
  }
  return { columns: ["measurement", "fields"], rows, isCut };
}

/** @throws OperatorError that names the measurement and those that exist */
async function requireMeasurement(store: TelemetryStore, measurement: string): Promise<string[]> {
  const fields = await fieldNames(store, measurement);
  if (fields.length > 0) return fields;
  const { values } = await measurementNames(store);
  throw new OperatorError(`InfluxDB has no measurement ${JSON.stringify(measurement)}`, {
    hint: values.length > 0 ? `there are: ${values.join(", ")}` : "it has no points at all",
  });
}

/**
 * The newest value of each field of each series in a period.
 * @param unitOf unit of a field, for the last column
 */
export async function readLast(
  store: TelemetryStore,
  {
    measurement,
    source,
    limit,
    ...range
  }: Omit<PointQuery, "measurement" | "fields"> & { measurement?: string | undefined },
  unitOf: (measurement: string, field: string) => string | undefined = () => undefined,
): Promise<Rows> {
  if (measurement !== undefined) await requireMeasurement(store, measurement);
  const flux = [
    `from(bucket: ${fluxString(store.bucket)})`,
    rangeStage(range),
    ...filterStage(measurement, source),
    "|> last()",
  ];
  const rows: Rows["rows"] = [];
  let isCut = false;
  for await (const cells of store.rows(flux.join("\n"))) {
    if (rows.length === limit) {
      isCut = true;
      break;
    }
    const [name, field] = [cells.get("_measurement")!, cells.get("_field")!];
    const tags = [...cells].filter(([column]) => !FLUX_COLUMNS.has(column)).map(([tag, cell]) => `${tag}=${cell.text}`);
    const unit = unitOf(name.text, field.text);
    rows.push([
      name,
      text(tags.sort().join(" ")),
      field,
      cells.get("_value"),
      unit === undefined ? undefined : text(unit),
      cells.get("_time"),
    ]);
  }
  return { columns: ["measurement", "tags", "field", "value", "unit", "time"], rows, isCut };
}

/** Columns of Flux that are no tags. */
const FLUX_COLUMNS = new Set(["result", "table", "_start", "_stop", "_time", "_value", "_field", "_measurement"]);

/** The points of a measurement in a period, oldest first: one row for each, with its tags and fields. */
export async function readRange(store: TelemetryStore, query: PointQuery): Promise<Rows> {
  const { measurement, source, fields: chosen = [], limit } = query;
  const known = await requireMeasurement(store, measurement);
  const absent = chosen.filter((field) => !known.includes(field));
  if (absent.length > 0) {
    throw new OperatorError(`--field: ${measurement} has no field ${absent.join(", ")}`, {
      hint: `there are: ${known.join(", ")}`,
    });
  }
  const flux = [
    `from(bucket: ${fluxString(store.bucket)})`,
    rangeStage(query),
    ...filterStage(measurement, source, chosen),
    // The first rows need at most so many values of each field; the database then joins no more.
    `|> limit(n: ${limit + 1})`,
    '|> drop(columns: ["_start", "_stop", "_measurement"])',
    '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
    "|> group()",
    '|> sort(columns: ["_time"])',
    `|> limit(n: ${limit + 1})`,
  ];
  const found: ReadonlyMap<string, Cell>[] = [];
  for await (const cells of store.rows(flux.join("\n"))) found.push(cells);
  const isCut = found.length > limit;
  if (isCut) found.pop();
  const fields = chosen.length > 0 ? [...chosen] : known;
  const tags = [...new Set(found.flatMap((cells) => [...cells.keys()]))]
    .filter((column) => !FLUX_COLUMNS.has(column) && !fields.includes(column))
    .sort();
  const used = fields.filter((field) => chosen.length > 0 || found.some((cells) => cells.has(field)));
  const rows = found.map((cells) => [cells.get("_time"), ...[...tags, ...used].map((column) => cells.get(column))]);
  return { columns: ["time", ...tags, ...used], rows, isCut };
}
