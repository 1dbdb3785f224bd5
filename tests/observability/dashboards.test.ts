/** The dashboards as text: equal to their source, complete, readable, and about metrics that exist. */
import { describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { DASHBOARDS, dashboardFiles } from "../../scripts/dashboards/files.ts";
import { buildDashboard, type Panel, type Query } from "../../scripts/dashboards/panels.ts";
import { queriesOf } from "../../scripts/dashboards/queries.ts";
import { staleDashboards } from "../../scripts/dashboards.ts";
import { loadManifests } from "../../scripts/toolkit/manifests.ts";
import { METRIC_TABLE } from "../../services/runtime/metrics.ts";

const PROJECT = join(import.meta.dir, "../..");
const panels = DASHBOARDS.flatMap((dashboard) =>
  dashboard.rows.flatMap((row) => row.panels.map((panel) => ({ dashboard, panel }))),
);
const named = panels.map(({ dashboard, panel }) => [`${dashboard.title}: ${panel.title}`, panel] as const);
const textOf = (query: Query) =>
  "promql" in query ? query.promql : "instant" in query ? query.instant : "logql" in query ? query.logql : query.flux;
const configMap = (await loadManifests()).find(
  ({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "grafana-dashboards",
) as unknown as { data: Record<string, string> };

describe("files", () => {
  test("JSON and ConfigMap are what the source gives (bun scripts/dashboards.ts)", async () => {
    expect(await staleDashboards()).toEqual([]);
  });

  test("no JSON without a source", async () => {
    const found = (await readdir(join(PROJECT, "k8s/grafana/dashboards"))).sort();
    expect(found).toEqual(DASHBOARDS.map(({ uid }) => `${uid}.json`).sort());
  });

  test("the ConfigMap holds each dashboard as JSON that parses, and fits into a ConfigMap", () => {
    expect(Object.keys(configMap.data).sort()).toEqual(DASHBOARDS.map(({ uid }) => `${uid}.json`).sort());
    for (const [name, text] of Object.entries(configMap.data)) expect(`${JSON.parse(text).uid}.json`).toBe(name);
    const bytes = Object.values(configMap.data).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    // The limit of a ConfigMap is 1 MiB.
    expect(bytes).toBeLessThan(900_000);
  });

  test("Grafana mounts every dashboard of the ConfigMap", async () => {
    const deployment = (await loadManifests()).find(
      ({ kind, metadata }) => kind === "Deployment" && metadata.name === "grafana",
    );
    const text = JSON.stringify(deployment);
    for (const { uid } of DASHBOARDS) expect(text).toContain(`"path":"dashboards/${uid}.json"`);
  });

  test("a changed JSON is noticed", async () => {
    const [path] = dashboardFiles().keys();
    expect(await staleDashboards("/nowhere")).toContain(path!);
  });
});

describe("queries", () => {
  test("every variable of every query has a value at first sight", () => {
    const queries = DASHBOARDS.flatMap(queriesOf);
    expect(queries.length).toBeGreaterThanOrEqual(panels.length);
    expect(queries.filter(({ text }) => text.includes("$__") || text.includes("v.timeRange"))).toEqual([]);
  });

  test("a variable that nobody fills is named", () => {
    const panel = { ...panels[0]!.panel, queries: [{ promql: "up{job=~'$job'}", legend: "" }] as const };
    const broken = { ...DASHBOARDS[0]!, rows: [{ title: "r", panels: [panel] }] };
    expect(() => queriesOf(broken)).toThrow("nothing fills $job");
  });
});

describe("what is there", () => {
  test("the six dashboards, each with a uid and a title of its own", () => {
    expect(DASHBOARDS.map(({ title }) => title)).toEqual([
      "Pipeline overview",
      "Kafka",
      "Processor & InfluxDB",
      "Kubernetes & autoscaling",
      "Conveyors",
      "Logs",
    ]);
    expect(new Set(DASHBOARDS.map(({ uid }) => uid)).size).toBe(DASHBOARDS.length);
  });

  test("the overview begins with the plan's three panels over time", () => {
    const first = DASHBOARDS[0]!.rows[0]!.panels;
    expect(first.map(({ kind }) => kind)).toEqual(["timeseries", "timeseries", "timeseries"]);
    const queries = first.map(({ queries }) => queries.map(textOf).join(" "));
    expect(queries[0]).toContain("conveyor_producer_events_emitted_total");
    expect(queries[1]).toContain('kafka_consumergroup_lag{group="processor"}');
    expect(queries[2]).toContain("conveyor_processor_points_written_total");
  });

  test("each is read-only, links to the others, marks what happened, and reads from provisioned datasources", () => {
    for (const spec of DASHBOARDS) {
      const built = buildDashboard(spec);
      expect(built.editable).toBe(false);
      expect(built.links?.map(({ type }) => type)).toEqual(["dashboards" as never]);
      expect(built.annotations?.list?.length).toBeGreaterThanOrEqual(3);
      const uids = JSON.stringify(built).match(/"uid":"(prometheus|loki|influxdb|-- Grafana --)"/g) ?? [];
      expect(uids.length).toBeGreaterThan(0);
    }
  });

  test("panels lie side by side within 24 columns, none over another, ids by place", () => {
    for (const spec of DASHBOARDS) {
      const { panels: placed = [] } = buildDashboard(spec);
      const cells = new Set<string>();
      placed.forEach((panel, index) => {
        expect(panel.id).toBe(index + 1);
        const { x, y, w, h } = panel.gridPos!;
        expect(x + w).toBeLessThanOrEqual(24);
        for (let column = x; column < x + w; column++) {
          for (let row = y; row < y + h; row++) {
            expect(cells.has(`${column},${row}`), `${spec.title}: ${panel.title}`).toBe(false);
            cells.add(`${column},${row}`);
          }
        }
      });
    }
  });
});

describe.each(named)("%s", (_, panel: Panel) => {
  test("says in whole sentences what it shows, and has a unit", () => {
    expect(panel.description.length).toBeGreaterThan(30);
    expect(panel.description).toMatch(/[.!?]$/);
    expect(panel.unit).toBeTruthy();
  });

  test("asks for our own metrics by names that are in the services' table", () => {
    for (const query of panel.queries) {
      if (!("promql" in query || "instant" in query)) continue;
      const names = textOf(query).match(/\b(conveyor_[a-z0-9_]+|kafka_(?:consumergroup|topic_partition)_[a-z0-9_]+)/g);
      for (const name of names ?? []) {
        const base = name.replace(/_(bucket|sum|count)$/, "");
        expect(Object.hasOwn(METRIC_TABLE, name) || Object.hasOwn(METRIC_TABLE, base), name).toBe(true);
      }
    }
  });

  test("rates of counters use Grafana's interval or say their own, and counters are never shown raw", () => {
    for (const query of panel.queries) {
      if (!("promql" in query || "instant" in query)) continue;
      const text = textOf(query);
      for (const match of text.matchAll(/([a-z_:]+_total)(\{[^}]*\})?(\[[^\]]+\])?/g)) {
        expect(match[3], `${match[1]} in ${text}`).toBeDefined();
      }
    }
  });

  test("one kind of datasource", () => {
    const kinds = panel.queries.map((query) => ("flux" in query ? "flux" : "logql" in query ? "logql" : "promql"));
    expect(new Set(kinds).size).toBe(1);
  });
});
