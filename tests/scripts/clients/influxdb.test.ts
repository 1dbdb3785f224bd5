import { expect, test } from "bun:test";
import type { InfluxDB } from "@influxdata/influxdb-client";
import { pointsOfRun } from "../../../scripts/clients/influxdb.ts";

/** A database that keeps the query, and answers it with these rows. */
function databaseWith(rows: { conveyor: string; seq: number }[]) {
  const asked: string[] = [];
  const influx = {
    getQueryApi: () => ({
      async *iterateRows(flux: string) {
        asked.push(flux);
        for (const row of rows) yield { values: row, tableMeta: { toObject: (values: unknown) => values } };
      },
    }),
  };
  return { influx: influx as unknown as InfluxDB, asked };
}

test("a run's points are counted by identity, a number that stands twice is told", async () => {
  const { influx } = databaseWith([
    { conveyor: "a", seq: 0 },
    { conveyor: "a", seq: 1 },
    { conveyor: "b", seq: 0 },
    { conveyor: "a", seq: 1 },
  ]);
  expect(await pointsOfRun(influx, "r", { startMs: 0, endMs: 1, conveyors: [] })).toEqual({
    points: 4,
    duplicates: 1,
    sequences: new Map([
      ["a", new Set([0, 1])],
      ["b", new Set([0])],
    ]),
  });
});

test("where the conveyors are known the database filters by them before it joins fields", async () => {
  // Without it an hour with a load test of five million points in it took more memory than a query may have.
  const { influx, asked } = databaseWith([]);
  await pointsOfRun(influx, "r", { startMs: 5, endMs: 9, conveyors: ["drill-2", "drill-0"] });
  const [before] = asked[0]!.split("|> pivot");
  expect(before).toContain(`and (r.conveyor == "drill-2" or r.conveyor == "drill-0")`);
  expect(before).toContain("range(start: time(v: 5000000), stop: time(v: 9000000))");
});
