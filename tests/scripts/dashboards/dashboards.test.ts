/** The dashboards as text: equal to their source, complete, readable, and about metrics that exist. */
import { describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { DASHBOARDS, dashboardFiles } from "../../../scripts/dashboards/files.ts";
import { buildDashboard, type Panel, type Query } from "../../../scripts/dashboards/panels.ts";
import { queriesOf } from "../../../scripts/dashboards/queries.ts";
import { staleDashboards } from "../../../scripts/dashboards.ts";
import { loadManifests } from "../../../scripts/deploy/manifests.ts";
import { METRIC_TABLE } from "../../../services/runtime/metrics.ts";
import { metricNamesIn } from "../../k8s/prometheus/promql.ts";
import { THIRD_PARTY_METRICS } from "../../k8s/prometheus/third-party-metrics.ts";

/** Metrics of others that only dashboards ask for, and where each comes from. tests/cluster/panels.test.ts asks for them. */
const PANEL_METRICS: Record<string, string> = {
  ALERTS: "Prometheus itself, for each alert that waits or fires",
  ...Object.fromEntries(
    [
      "kafka_broker_bytesin_total",
      "kafka_broker_bytesout_total",
      "kafka_broker_failedfetchrequests_total",
      "kafka_broker_failedproducerequests_total",
      "kafka_log_size_bytes",
      "kafka_network_request_p99_milliseconds",
      "kafka_server_replicamanager_isrshrinks_total",
      "kafka_server_replicamanager_leadercount",
      "kafka_server_request_handler_idle_ratio",
      "jvm_memory_used_bytes",
    ].map((name) => [name, "Kafka's MBean, named by k8s/kafka/kafka-metrics-configmap.yaml"]),
  ),
  ...Object.fromEntries(
    [
      "http_api_requests_total",
      "http_api_request_duration_seconds_bucket",
      "storage_bucket_series_num",
      "storage_shard_disk_size",
      "storage_cache_inuse_bytes",
      "go_memstats_sys_bytes",
    ].map((name) => [name, "InfluxDB"]),
  ),
  ...Object.fromEntries(
    [
      "kube_deployment_status_replicas_ready",
      "kube_horizontalpodautoscaler_status_desired_replicas",
      "kube_pod_container_resource_limits",
      "kube_pod_container_status_restarts_total",
      "kube_pod_status_phase",
      "kube_pod_status_ready",
      "kube_statefulset_status_replicas_ready",
    ].map((name) => [name, "kube-state-metrics"]),
  ),
  container_cpu_usage_seconds_total: "cAdvisor",
  container_memory_working_set_bytes: "cAdvisor",
  kubelet_volume_stats_used_bytes: "kubelet",
  promtail_read_lines_total: "Promtail",
};
const OTHERS = { ...THIRD_PARTY_METRICS, ...PANEL_METRICS };

const PROJECT = join(import.meta.dir, "../../..");
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

test("what is listed of others is asked for", () => {
  const asked = new Set(
    panels.flatMap(({ panel }) =>
      panel.queries.flatMap((query) => ("flux" in query ? [] : metricNamesIn(textOf(query)))),
    ),
  );
  expect(Object.keys(PANEL_METRICS).filter((name) => !asked.has(name))).toEqual([]);
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

  test("asks for metrics that exist: ours are in the services' table, others are listed with where they come from", () => {
    for (const query of panel.queries) {
      if (!("promql" in query || "instant" in query)) continue;
      for (const name of metricNamesIn(textOf(query)).filter((word) => !/^[a-z]?\d|^e\d*$/.test(word))) {
        const base = name.replace(/_(bucket|sum|count)$/, "");
        const ours = Object.hasOwn(METRIC_TABLE, name) || Object.hasOwn(METRIC_TABLE, base);
        expect(ours || Object.hasOwn(OTHERS, name), name).toBe(true);
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
