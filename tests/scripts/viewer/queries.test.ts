/** Queries of the viewer: replaced variables, and LogQL of the dashboards as LogsQL. */
import { describe, expect, test } from "bun:test";
import { DERIVED_FIELDS } from "../../../scripts/clients/victorialogs.ts";
import {
  languageOf,
  panelsOf,
  readDashboard,
  readDashboards,
  textOf,
} from "../../../scripts/dashboards/definitions.ts";
import { parseLogQl, toLogsQl } from "../../../scripts/viewer/log-query.ts";
import { fluxSeries, fluxTable, legendOf, MAX_SERIES } from "../../../scripts/viewer/panel-data.ts";
import { queryText, stepOf } from "../../../scripts/viewer/query-text.ts";

const HOUR_MS = 3_600_000;
const period = { fromMs: Date.UTC(2026, 0, 1), toMs: Date.UTC(2026, 0, 1) + HOUR_MS };
const logs = readDashboard("logs");
const conveyors = readDashboard("conveyors");

describe("stepOf", () => {
  test.each([
    [HOUR_MS, 15_000],
    [3 * HOUR_MS, 30_000],
    [24 * HOUR_MS, 150_000],
    [60_000, 15_000],
  ])("%d ms: a point every %d ms", (length, step) => {
    expect(stepOf({ fromMs: 0, toMs: length })).toBe(step);
  });
});

describe("queryText", () => {
  test("intervals and periods", () => {
    expect(queryText("rate(x[$__rate_interval]) $__interval", "promql", logs, period, {})).toBe("rate(x[60s]) 15s");
    const long = { fromMs: 0, toMs: 24 * HOUR_MS };
    expect(queryText("rate(x[$__rate_interval])", "promql", logs, long, {})).toBe("rate(x[165s])");
    expect(queryText("v.timeRangeStart v.windowPeriod", "flux", logs, period, {})).toBe("2026-01-01T00:00:00.000Z 15s");
  });

  test("chosen values are a pattern of literals; none chosen is the value for all", () => {
    const flux = ["r.conveyor =~ /^($", "{conveyor:regex})$/"].join("");
    expect(queryText(flux, "flux", conveyors, period, {})).toBe("r.conveyor =~ /^(.*)$/");
    expect(queryText(flux, "flux", conveyors, period, { conveyor: ["a.b", "c/d"] })).toBe(
      String.raw`r.conveyor =~ /^(a\.b|c\/d)$/`,
    );
    const logQl = '{service=~"$service"} |~ "(?i)$search"';
    expect(queryText(logQl, "logql", logs, period, { service: ["a.b"], search: ['say "x" \\d $& '] })).toBe(
      String.raw`{service=~"a\\.b"} |~ "(?i)say \"x\" \\d $& "`,
    );
  });

  test("nothing of a dashboard's query is left to replace", () => {
    for (const dashboard of readDashboards()) {
      for (const panel of panelsOf(dashboard)) {
        for (const target of panel.targets ?? []) {
          const text = queryText(textOf(target), languageOf(panel), dashboard, period, {});
          expect(text.replaceAll("$)", "").replaceAll(")$/", "")).not.toMatch(/\$\{?[a-z_]/i);
        }
      }
    }
  });
});

describe("LogQL for VictoriaLogs", () => {
  test("every log panel of the dashboards is translated", () => {
    const panels = readDashboards().flatMap((dashboard) =>
      panelsOf(dashboard)
        .filter((panel) => languageOf(panel) === "logql")
        .map((panel) => queryText(textOf(panel.targets![0]!), "logql", dashboard, period, {})),
    );
    expect(panels).toHaveLength(4);
    for (const text of panels) expect(toLogsQl(parseLogQl(text))).toStartWith("kubernetes.pod_namespace:=");
  });

  test("a rate by a label, its matchers and filters", () => {
    const text = String.raw`sum by (level) (rate({namespace="conveyor", service=~"a\\.b|c", level=~".+"} |~ "(?i)slow \"x\"" | run=~"r1.*" | seq=~".*" [1m]))`;
    const query = parseLogQl(text);
    expect(query).toEqual({
      by: "level",
      fields: [
        { name: "namespace", isPattern: false, value: "conveyor" },
        { name: "service", isPattern: true, value: String.raw`a\.b|c` },
        { name: "level", isPattern: true, value: ".+" },
        { name: "run", isPattern: true, value: "r1.*" },
        { name: "seq", isPattern: true, value: ".*" },
      ],
      contains: ['(?i)slow "x"'],
    });
    expect(toLogsQl(query)).toBe(
      [
        'kubernetes.pod_namespace:="conveyor" run:~"^(?:r1.*)$"',
        DERIVED_FIELDS,
        String.raw`filter service:~"^(?:a\\.b|c)$"`,
        'pack_json as "@line"',
        String.raw`filter ("@line":~"(?i)slow \"x\"" or _msg:~"(?i)slow \"x\"")`,
        'delete "@line"',
      ].join(" | "),
    );
  });

  test.each(['{a="b"} | json', "count_over_time(x)", '{a="b"} != "x"', '{a!="b"}'])(
    "%s is refused by its text",
    (text) => {
      expect(() => parseLogQl(text)).toThrow("LogQL");
    },
  );
});

describe("rows of Flux", () => {
  const rows = [
    { result: "_result", table: 0, _time: "2026-01-01T00:00:15Z", _value: 2, conveyor: "b" },
    { result: "_result", table: 1, _time: "2026-01-01T00:00:00Z", _value: 1, conveyor: "a" },
    { result: "_result", table: 1, _time: "2026-01-01T00:00:15Z", _value: 3, conveyor: "a" },
  ];
  test("are curves over the same times, with gaps", () => {
    expect(fluxSeries(rows)).toEqual({
      kind: "series",
      timesMs: [Date.UTC(2026, 0, 1), Date.UTC(2026, 0, 1, 0, 0, 15)],
      series: [
        { label: "b", values: [null, 2] },
        { label: "a", values: [1, 3] },
      ],
    });
    expect(fluxSeries([{ _value: 7 }]).series).toEqual([{ label: "value", values: [7] }]);
  });
  test("beyond the bound of a panel are counted", () => {
    const many = Array.from({ length: MAX_SERIES + 5 }, (_, index) => ({ _value: index, conveyor: `c-${index}` }));
    const { series, notShown } = fluxSeries(many);
    expect([series.length, notShown]).toEqual([MAX_SERIES, 5]);
    expect(fluxSeries(many.slice(5))).not.toHaveProperty("notShown");
  });
  test("are a table without the columns of Flux itself", () => {
    expect(fluxTable(rows.slice(0, 1))).toEqual({ kind: "table", columns: ["conveyor"], rows: [["b"]] });
    expect(fluxTable([])).toEqual({ kind: "table", columns: [], rows: [] });
  });
});

test("legendOf: the legend with the values of its labels, or all labels", () => {
  expect(legendOf({ refId: "A", legendFormat: "partition {{partition}}" }, { partition: "3" })).toBe("partition 3");
  expect(legendOf({ refId: "A" }, { __name__: "x", job: "kafka", pod: "k" })).toBe("job=kafka pod=k");
  expect(legendOf({ refId: "A" }, {})).toBe("value");
});
