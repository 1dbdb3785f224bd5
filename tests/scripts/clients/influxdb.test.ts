import { expect, test } from "bun:test";
import type { InfluxDB } from "@influxdata/influxdb-client";
import { type StoredPoint, TelemetryStore } from "../../../scripts/clients/influxdb.ts";
import { exampleEvent } from "../../../services/domain/event.ts";
import { valuesChecksum } from "../../../services/domain/point.ts";
import { LOAD_SERIES } from "../../../services/protocol/load-generator.ts";

/** A database that records the query and returns these rows. */
function databaseWith(rows: ({ conveyor: string; seq: number } & Record<string, unknown>)[]) {
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
    values: new Set([valuesChecksum({})]),
    duplicates: 1,
    sequences: new Map([
      ["a", new Set([0, 1])],
      ["b", new Set([0])],
    ]),
  });
});

test("TelemetryStore.eachPoint reads the values of a point only on request, in the form of its event", async () => {
  const event = exampleEvent({ conveyor: "a", run: "r", seq: 0, ts: 0 });
  const { influx, queries } = databaseWith([{ ...event, load_kg: 120.0 }]);
  const store = new TelemetryStore(influx);
  const found: StoredPoint[] = [];
  const take = (point: StoredPoint) => void found.push(point);
  await store.eachPoint({ withValues: true }, 0, 1, take);
  await store.eachPoint({}, 0, 1, take);
  expect(found.map(({ values }) => values)).toEqual([valuesChecksum(event), undefined]);
  expect(queries.map((query) => query.includes("motor_temp_c"))).toEqual([true, false]);
});

test("points of a load of version 2 are selected and named by their measurement and tag", async () => {
  const { influx, queries } = databaseWith([{ conveyor: "not this", source: "drill-0", seq: 3, _value: 3 }]);
  const store = new TelemetryStore(influx);
  const series = LOAD_SERIES.v2;
  const { sequences } = await store.run("r", 5, 9, { conveyors: ["drill-0"], series });
  expect(sequences).toEqual(new Map([["drill-0", new Set([3])]]));
  const found: unknown[] = [];
  await store.eachSequence({ conveyorsPrefix: "drill-", series }, 5, 9, (...one) => found.push(one));
  expect(found).toEqual([["drill-0", 3]]);
  for (const query of queries) expect(query).toContain(`r._measurement == "conveyor_load"`);
  expect(queries[0]).toContain(`(r.source == "drill-0")`);
  expect(queries[1]).toContain("r.source =~ /^drill-/");
});

test("names with a dollar sign and braces are compared as they are: Flux would expand them", async () => {
  const { influx, queries } = databaseWith([]);
  await new TelemetryStore(influx).run("r", 5, 9, { series: { ...LOAD_SERIES.v2, measurement: "a$".concat("{b}") } });
  expect(queries[0]).toContain(String.raw`r._measurement == "a\x24{b}"`);
});

test("TelemetryStore.run filters by known conveyors before it joins fields", async () => {
  // Otherwise the points of a load test in the range exceed the memory of a query.
  const { influx, queries } = databaseWith([]);
  await new TelemetryStore(influx).run("r", 5, 9, { conveyors: ["drill-2", "drill-0"] });
  const [before] = queries[0]!.split("|> pivot");
  expect(before).toContain(`and (r.conveyor == "drill-2" or r.conveyor == "drill-0")`);
  expect(before).toContain("range(start: time(v: 5000000), stop: time(v: 9000000))");
});
