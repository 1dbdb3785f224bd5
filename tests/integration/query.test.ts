/** What `query` and the dashboard of a schema read from a real InfluxDB: exact values of every type, bounds, sources. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import { schemaDashboard } from "../../scripts/dashboards/schema-dashboard.ts";
import { formatRows, jsonRows } from "../../scripts/query/format.ts";
import { readLast, readMeasurements, readRange } from "../../scripts/query/reading.ts";
import { queryText } from "../../scripts/viewer/query-text.ts";
import { exampleEvent } from "../../services/domain/event.ts";
import { renderPoint } from "../../services/domain/point.ts";
import { PUMP } from "../schemas/pump.ts";
import { RealServers } from "../servers/real-servers.ts";
import { skipReason } from "./harness.ts";

const skipped = await skipReason();
const START_LIMIT_MS = 240_000;
const LATEST_MS = Math.floor(Date.now() / 1000) * 1000;
const at = (secondsAgo: number) => `${LATEST_MS - secondsAgo * 1000}000000`;
const isoAt = (secondsAgo: number) => new Date(LATEST_MS - secondsAgo * 1000).toISOString().replace(".000Z", "Z");
const range = { startNs: at(3600), endNs: at(-1), limit: 100 };

/** A measurement whose name must stay text in a query. */
const ODD = `a "b",\${c}`;
const LINES = [
  `pump,source=pump-7,site=north flow_l_min=121.5,starts=9007199254740993i,pulses=18446744073709551615u,ok=true,note="a \\"b\\", c" ${at(30)}`,
  `pump,source=pump-7,site=north flow_l_min=122 ${at(20)}`,
  `pump,source=pump-8,site=south flow_l_min=3,temp_c=-4.25 ${at(25)}`,
  // A line without the tag `source`, as the write API takes it.
  `pump,host=edge flow_l_min=7 ${at(10)}`,
  `a\\ "b"\\,\${c} x\\ $y=1 ${at(5)}`,
  renderPoint(exampleEvent({ conveyor: "belt-1", run: "r1", seq: 4, ts: LATEST_MS - 1000 })),
];

describe.skipIf(skipped !== undefined)("stored points", () => {
  let servers: RealServers;
  let store: TelemetryStore;
  beforeAll(async () => {
    servers = await RealServers.start({ brokers: 0 });
    const token = await servers.onboardInflux();
    const ca = await readFile(join(servers.folder, "ca.crt"), "utf8");
    store = TelemetryStore.at({ url: servers.influxUrl, token, ca });
    const body = LINES.join("\n");
    const answer = await servers.influx("/api/v2/write?org=conveyor&bucket=telemetry", { method: "POST", body });
    expect([answer.status, await answer.text()]).toEqual([204, ""]);
  }, START_LIMIT_MS);
  afterAll(() => servers?.stop());

  test("measurements, with their fields", async () => {
    const { rows, isCut } = await readMeasurements(store);
    expect(isCut).toBe(false);
    expect(rows.map((row) => row.map((cell) => cell!.text))).toEqual([
      [ODD, "x $y"],
      ["conveyor_telemetry", "load_kg motor_temp_c run seq speed_mps state vibration_mm_s"],
      ["pump", "flow_l_min note ok pulses starts temp_c"],
    ]);
  });

  test("a range: one row for each point, oldest first, every type exact", async () => {
    const rows = await readRange(store, { ...range, measurement: "pump" });
    expect(formatRows(rows, "csv")).toEqual([
      "time,host,site,source,flow_l_min,note,ok,pulses,starts,temp_c",
      `${isoAt(30)},,north,pump-7,121.5,"a ""b"", c",true,18446744073709551615,9007199254740993,`,
      `${isoAt(25)},,south,pump-8,3,,,,,-4.25`,
      `${isoAt(20)},,north,pump-7,122,,,,,`,
      `${isoAt(10)},edge,,,7,,,,,`,
    ]);
    expect(jsonRows(rows)[0]).toEqual({
      ...{ time: isoAt(30), site: "north", source: "pump-7", flow_l_min: 121.5, note: 'a "b", c', ok: true },
      ...{ pulses: "18446744073709551615", starts: "9007199254740993" },
    });
  });

  test("a range of one source, of some fields, and of any name", async () => {
    const one = await readRange(store, { ...range, measurement: "pump", source: "pump-8", fields: ["temp_c", "ok"] });
    expect(formatRows(one, "csv")).toEqual(["time,site,source,temp_c,ok", `${isoAt(25)},south,pump-8,-4.25,`]);
    const odd = await readRange(store, { ...range, measurement: ODD, fields: ["x $y"] });
    expect(formatRows(odd, "csv")).toEqual(["time,x $y", `${isoAt(5)},1`]);
    const belt = await readRange(store, {
      ...range,
      measurement: "conveyor_telemetry",
      source: "belt-1",
      fields: ["seq"],
    });
    expect(jsonRows(belt)).toMatchObject([{ conveyor: "belt-1", seq: 4 }]);
  });

  test("a range is cut at its oldest rows, which are complete", async () => {
    const rows = await readRange(store, { ...range, measurement: "pump", limit: 2 });
    expect(rows.isCut).toBe(true);
    expect(jsonRows(rows).map(({ time, temp_c }) => [time, temp_c])).toEqual([
      [isoAt(30), undefined],
      [isoAt(25), -4.25],
    ]);
    expect((await readRange(store, { ...range, measurement: "pump", limit: 4 })).isCut).toBe(false);
  });

  test("what does not exist is named, with what does", async () => {
    await expect(readRange(store, { ...range, measurement: "pumps" })).rejects.toMatchObject({
      message: 'InfluxDB has no measurement "pumps"',
      hint: expect.stringContaining("conveyor_telemetry, pump"),
    });
    await expect(readRange(store, { ...range, measurement: "pump", fields: ["flow"] })).rejects.toMatchObject({
      message: "--field: pump has no field flow",
      hint: "there are: flow_l_min, note, ok, pulses, starts, temp_c",
    });
    await expect(readLast(store, { ...range, measurement: "pumps" })).rejects.toThrow('no measurement "pumps"');
    const empty = await readRange(store, { ...range, endNs: at(3000), measurement: "pump" });
    expect([empty.rows, empty.isCut]).toEqual([[], false]);
  });

  test("the newest value of each field, of all measurements or of one source", async () => {
    const unitOf = (_measurement: string, field: string) => PUMP.fields.get(field)?.unit;
    const pump = await readLast(store, { ...range, measurement: "pump", source: "pump-7" }, unitOf);
    expect(jsonRows(pump).sort((a, b) => (String(a.field) < String(b.field) ? -1 : 1))).toMatchObject([
      {
        measurement: "pump",
        tags: "site=north source=pump-7",
        field: "flow_l_min",
        value: 122,
        unit: "l/min",
        time: isoAt(20),
      },
      { field: "note", value: 'a "b", c', time: isoAt(30) },
      { field: "ok", value: true },
      { field: "pulses", value: "18446744073709551615" },
      { field: "starts", value: "9007199254740993" },
    ]);
    const all = await readLast(store, range);
    expect(new Set(all.rows.map(([measurement]) => measurement!.text)).size).toBe(3);
    const belt = await readLast(store, { ...range, source: "belt-1" });
    expect(belt.rows.map(([measurement]) => measurement!.text)).toEqual(Array(7).fill("conveyor_telemetry"));
    expect(await readLast(store, { ...range, limit: 2 })).toMatchObject({ isCut: true, rows: { length: 2 } });
  });

  test("the dashboard of a schema: curves of the chosen sources and of points without source; its choices", async () => {
    const dashboard = schemaDashboard(PUMP, "telemetry");
    const period = { fromMs: LATEST_MS - 60_000, toMs: LATEST_MS + 1000 };
    const read = async (text: string, source: string[]) =>
      await store.query<Record<string, unknown>>(queryText(text, "flux", dashboard, period, { source }));
    for (const { title, targets } of dashboard.panels.slice(1)) {
      const rows = await read(targets![0]!.query!, []);
      expect([title, rows.length > 0]).toEqual([title, title !== "pressure_bar"]);
    }
    const [flow] = dashboard.panels.slice(1);
    const chosen = await read(flow!.targets![0]!.query!, ["pump-8"]);
    const values = Object.fromEntries(chosen.map(({ source, host, _value }) => [source ?? host, _value]));
    expect(values).toEqual({ edge: 7, "pump-8": 3 });
    const { query } = dashboard.templating.list![0]!;
    const choices = await store.query<{ _value: string }>((query as { query: string }).query);
    expect(choices.map(({ _value }) => _value).sort()).toEqual(["pump-7", "pump-8"]);
  });
});
