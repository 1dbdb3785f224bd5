import { expect, test } from "bun:test";
import type { InfluxDB } from "@influxdata/influxdb-client";
import { TelemetryStore } from "../../../scripts/clients/influxdb.ts";

/** A database that records the query and returns these rows. */
function databaseWith(rows: { conveyor: string; seq: number }[]) {
  const queries: string[] = [];
  const influx = {
    getQueryApi: () => ({
      async *iterateRows(flux: string) {
        queries.push(flux);
        for (const row of rows)
          yield {
            values: { _time: "1970-01-01T00:00:00Z", ...row },
            tableMeta: { toObject: (values: unknown) => values },
          };
      },
    }),
  };
  return { influx: influx as unknown as InfluxDB, queries };
}

test("TelemetryStore.run counts points by identity and reports duplicates", async () => {
  const { influx } = databaseWith([
    { conveyor: "a", seq: 0 },
    { conveyor: "a", seq: 1 },
    { conveyor: "b", seq: 0 },
    { conveyor: "a", seq: 1 },
  ]);
  expect(await new TelemetryStore(influx).run("r", 0, 1)).toEqual({
    points: 4,
    duplicates: 1,
    sequences: new Map([
      ["a", new Set([0, 1])],
      ["b", new Set([0])],
    ]),
  });
});

test("TelemetryStore.run filters by known conveyors before it joins fields", async () => {
  // Otherwise the points of a load test in the range exceed the memory of a query.
  const { influx, queries } = databaseWith([]);
  await new TelemetryStore(influx).run("r", 5, 9, ["drill-2", "drill-0"]);
  const [before] = queries[0]!.split("|> pivot");
  expect(before).toContain(`and (r.conveyor == "drill-2" or r.conveyor == "drill-0")`);
  expect(before).toContain("range(start: time(v: 5000000), stop: time(v: 9000000))");
});
