/** Queries of the observer to InfluxDB: the newest stored points. */
import type { IdentitySeries } from "../domain/point.ts";
import { caOption, type InfluxConfig } from "../runtime/config.ts";

/** The start of an RFC 3339 time, to the millisecond. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?/;

export interface NewestQuery {
  /** Start of the time range: "-15m". */
  start: string;
  series: IdentitySeries;
  /** Flux condition on `r` that selects conveyors. */
  where: string;
  limitMs: number;
  /** Return the newest of all selected conveyors only. */
  onlyNewest?: boolean;
  /** Opens a new connection: after a failure the old one may lead to a deleted pod. */
  isFresh?: boolean;
}

/**
 * Time of the newest point of each conveyor, in milliseconds since the epoch.
 * @throws Error when InfluxDB refuses or does not answer within the limit.
 */
export async function newestPoints(influx: InfluxConfig, query: NewestQuery): Promise<Record<string, number>> {
  const { measurement, tag } = query.series;
  const flux = [
    `from(bucket: ${JSON.stringify(influx.bucket)})`,
    `|> range(start: ${query.start})`,
    `|> filter(fn: (r) => r._measurement == ${JSON.stringify(measurement)} and r._field == "seq")`,
    `|> filter(fn: (r) => ${query.where})`,
    "|> last()",
    `|> keep(columns: ["_time", ${JSON.stringify(tag)}])`,
    ...(query.onlyNewest ? ["|> group()", `|> max(column: "_time")`] : []),
  ].join("\n");
  const response = await fetch(`${influx.url}/api/v2/query?org=${encodeURIComponent(influx.org)}`, {
    method: "POST",
    headers: {
      authorization: `Token ${influx.token}`,
      "content-type": "application/vnd.flux",
      accept: "application/csv",
    },
    body: flux,
    tls: caOption(influx.ca),
    keepalive: !query.isFresh,
    signal: AbortSignal.timeout(query.limitMs),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 120)}`);
  return parseNewest(text, tag);
}

/** Newest time per value of the tag of an annotated CSV answer; columns are found by the header of each table. */
export function parseNewest(csv: string, tag: string): Record<string, number> {
  const newest: Record<string, number> = Object.create(null);
  let [time, conveyor] = [-1, -1];
  for (const line of csv.split(/\r?\n/)) {
    const cells = line.split(",");
    if (cells.includes("_time")) {
      [time, conveyor] = [cells.indexOf("_time"), cells.indexOf(tag)];
      continue;
    }
    const stamp = TIME.exec(cells[time] ?? "")?.[0];
    const name = cells[conveyor];
    if (stamp && name) newest[name] = Math.max(newest[name] ?? 0, Date.parse(`${stamp}Z`));
  }
  return newest;
}
