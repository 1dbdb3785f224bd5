/** The dashboards: complete, readable, formatted as Grafana exports them, and about metrics that exist. */
import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { $ } from "bun";
import {
  DASHBOARD_FOLDER,
  DASHBOARD_NAMES,
  languageOf,
  type Panel,
  panelsOf,
  readDashboards,
  textOf,
} from "../../../scripts/dashboards/definitions.ts";
import { queriesOf } from "../../../scripts/dashboards/queries.ts";
import {
  MAX_SCHEMA_PANELS,
  schemaDashboard,
  schemaDashboardUid,
} from "../../../scripts/dashboards/schema-dashboard.ts";
import { loadManifests, parseManifest } from "../../../scripts/deploy/manifests.ts";
import { readSchema } from "../../../services/domain/event-schema.ts";
import { METRIC_TABLE } from "../../../services/runtime/metrics.ts";
import { metricNamesIn } from "../../k8s/prometheus/promql.ts";
import { THIRD_PARTY_METRICS } from "../../k8s/prometheus/third-party-metrics.ts";
import { PUMP } from "../../schemas/pump.ts";

/** Metrics of others that only dashboards query, with their source. tests/cluster/panels.test.ts queries them. */
const PANEL_METRICS: Record<string, string> = {
  ALERTS: "Prometheus itself, for each pending or firing alert",
  ...Object.fromEntries(
    [
      "kafka_broker_bytesin_total",
      "kafka_broker_bytesout_total",
      "kafka_broker_failedfetchrequests_total",
      "kafka_broker_failedproducerequests_total",
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

const DASHBOARDS = readDashboards();
/** Those of the pipeline, and that of a schema: all are checked alike. */
const ALL = [...DASHBOARDS, schemaDashboard(PUMP, "telemetry")];
const panels = ALL.flatMap((dashboard) => panelsOf(dashboard).map((panel) => ({ dashboard, panel })));
const named = panels.map(({ dashboard, panel }) => [`${dashboard.title}: ${panel.title}`, panel] as const);
const targetsOf = ({ targets = [] }: Panel) => targets;
const jsonNames = DASHBOARD_NAMES.map((name) => `${name}.json`).sort();

describe("files", () => {
  test("each JSON is named by its uid, listed, and formatted as Grafana exports it", async () => {
    expect((await readdir(DASHBOARD_FOLDER)).sort()).toEqual([...jsonNames, "kustomization.yaml"].sort());
    for (const [index, name] of DASHBOARD_NAMES.entries()) {
      const text = await readFile(join(DASHBOARD_FOLDER, `${name}.json`), "utf8");
      expect(text).toBe(`${JSON.stringify(JSON.parse(text), null, 2)}\n`);
      expect(DASHBOARDS[index]!.uid).toBe(name);
    }
  });

  test("deploy makes one ConfigMap of all dashboards, below the size limit of a ConfigMap", async () => {
    const configMap = (await loadManifests()).find(
      ({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "grafana-dashboards",
    ) as unknown as { data: Record<string, string> };
    expect(Object.keys(configMap.data).sort()).toEqual(jsonNames);
    for (const [name, text] of Object.entries(configMap.data)) expect(`${JSON.parse(text).uid}.json`).toBe(name);
    const bytes = Object.values(configMap.data).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    // The limit is 1 MiB.
    expect(bytes).toBeLessThan(900_000);
  });

  test.skipIf(!Bun.which("kubectl"))(
    "kubectl makes the same ConfigMap as deploy (skipped without kubectl)",
    async () => {
      const [made] = parseManifest(await $`kubectl kustomize ${DASHBOARD_FOLDER}`.text(), "kustomize");
      const deployed = (await loadManifests()).find(({ metadata }) => metadata.name === "grafana-dashboards");
      expect(made as unknown).toEqual(deployed as unknown);
    },
  );

  test("Grafana mounts every dashboard of the ConfigMap", async () => {
    const deployment = (await loadManifests()).find(
      ({ kind, metadata }) => kind === "Deployment" && metadata.name === "grafana",
    );
    const text = JSON.stringify(deployment);
    for (const { uid } of DASHBOARDS) expect(text).toContain(`"path":"dashboards/${uid}.json"`);
  });
});

describe("queries", () => {
  test("every variable of every query has a default", () => {
    const queries = ALL.flatMap(queriesOf);
    expect(queries.length).toBeGreaterThanOrEqual(panels.length);
    expect(queries.filter(({ text }) => text.includes("$__") || text.includes("v.timeRange"))).toEqual([]);
  });

  test("a variable without a definition is named", () => {
    const panel = { ...panels[0]!.panel, targets: [{ refId: "A", expr: "up{job=~'$job'}" }] };
    expect(() => queriesOf({ ...DASHBOARDS[0]!, panels: [panel] })).toThrow("nothing defines $job");
  });
});

test("every listed metric of others is queried", () => {
  const queried = new Set(
    panels.flatMap(({ panel }) =>
      targetsOf(panel).flatMap((target) => (languageOf(panel) === "flux" ? [] : metricNamesIn(textOf(target)))),
    ),
  );
  expect(Object.keys(PANEL_METRICS).filter((name) => !queried.has(name))).toEqual([]);
});

describe("content", () => {
  test("six dashboards, each with its own uid and title", () => {
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
    const first = panelsOf(DASHBOARDS[0]!).slice(0, 3);
    expect(first.map(({ type }) => type)).toEqual(["timeseries", "timeseries", "timeseries"]);
    const queries = first.map((panel) => targetsOf(panel).map(textOf).join(" "));
    expect(queries[0]).toContain("conveyor_producer_events_emitted_total");
    expect(queries[1]).toContain('kafka_consumergroup_lag{group="processor"}');
    expect(queries[2]).toContain("conveyor_processor_points_written_total");
  });

  test("each is read-only, links to the others, marks events, and reads from provisioned datasources", () => {
    for (const { editable, links, annotations, panels: all } of ALL) {
      expect(editable).toBe(false);
      expect(links.map(({ type }) => type)).toEqual(["dashboards"]);
      expect(annotations.list.length).toBeGreaterThanOrEqual(3);
      for (const { type, datasource } of all) {
        if (type !== "row") expect(["prometheus", "loki", "influxdb"]).toContain(datasource!.uid);
      }
    }
  });

  test("panels are within 24 columns, do not overlap, and have ids in their order", () => {
    for (const { title, panels: placed } of ALL) {
      const cells = new Set<string>();
      placed.forEach((panel, index) => {
        expect(panel.id).toBe(index + 1);
        const { x, y, w, h } = panel.gridPos;
        expect(x + w).toBeLessThanOrEqual(24);
        for (let column = x; column < x + w; column++) {
          for (let row = y; row < y + h; row++) {
            expect(cells.has(`${column},${row}`), `${title}: ${panel.title}`).toBe(false);
            cells.add(`${column},${row}`);
          }
        }
      });
    }
  });
});

describe("the dashboard of a schema", () => {
  const dashboard = schemaDashboard(PUMP, "telemetry");

  test("repeats a row for each source, with a panel for each field of numbers, in its unit", () => {
    expect(dashboard).toMatchObject({ uid: "schema-pump", title: "pump", description: "Pumps of the test bench." });
    const [row, ...shown] = dashboard.panels;
    expect(row).toMatchObject({ type: "row", repeat: "source" });
    expect(dashboard.templating.list!.map(({ name }) => name)).toEqual(["source"]);
    expect(shown.map(({ title, fieldConfig }) => [title, fieldConfig!.defaults.unit])).toEqual([
      ["flow_l_min", "suffix: l/min"],
      ["pressure_bar", "suffix: bar"],
      ["temp_c", "suffix: °C"],
      ["starts", "short"],
      ["pulses", "short"],
    ]);
    expect(shown[0]!.description).toBe(
      "Flow behind the pump. Valid: at least 0, at most 400 l/min. Averaged over each step of the graph.",
    );
  });

  test("has a bounded number of panels, and says how many fields have none", () => {
    const fields = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`f${index}`, { type: "float" }]));
    const { panels: shown, description } = schemaDashboard(readSchema({ measurement: "m", fields }), "telemetry");
    expect(shown).toHaveLength(1 + MAX_SCHEMA_PANELS);
    expect(description).toEndWith(`${100 - MAX_SCHEMA_PANELS} more fields have no panel.`);
  });

  test("names of any characters stay text in its queries, and its uid is one of Grafana's", () => {
    const measurement = `a "b" \${c} $source`;
    const odd = schemaDashboard(readSchema({ measurement, fields: { "x $y": { type: "float" } } }), "te$t");
    for (const { text } of queriesOf(odd)) {
      expect(text).toContain(String.raw`"a \"b\" \x24{c} \x24source"`);
      expect(text).toContain(String.raw`"te\x24t"`);
    }
    expect(odd.uid).toMatch(/^schema-[0-9a-f]{8}$/);
    expect(schemaDashboardUid("x".repeat(33))).toHaveLength(40);
    expect(schemaDashboardUid("x".repeat(34))).toHaveLength(15);
  });
});

describe.each(named)("%s", (_, panel: Panel) => {
  test("has a description in sentences, a unit and a query", () => {
    expect(panel.description!.length).toBeGreaterThan(30);
    expect(panel.description).toMatch(/[.!?]$/);
    expect(panel.fieldConfig!.defaults.unit).toBeTruthy();
    expect(targetsOf(panel).length).toBeGreaterThan(0);
  });

  test("queries metrics that exist: ours are in the services' table, others are listed with their source", () => {
    if (languageOf(panel) !== "promql") return;
    for (const target of targetsOf(panel)) {
      for (const name of metricNamesIn(textOf(target)).filter((word) => !/^[a-z]?\d|^e\d*$/.test(word))) {
        const base = name.replace(/_(bucket|sum|count)$/, "");
        const ours = Object.hasOwn(METRIC_TABLE, name) || Object.hasOwn(METRIC_TABLE, base);
        expect(ours || Object.hasOwn(OTHERS, name), name).toBe(true);
      }
    }
  });

  test("rates of counters use Grafana's interval or say their own, and counters are never shown raw", () => {
    if (languageOf(panel) !== "promql") return;
    for (const target of targetsOf(panel)) {
      const text = textOf(target);
      for (const match of text.matchAll(/([a-z_:]+_total)(\{[^}]*\})?(\[[^\]]+\])?/g)) {
        expect(match[3], `${match[1]} in ${text}`).toBeDefined();
      }
    }
  });

  test("every query is in the language of the panel's datasource", () => {
    const field = languageOf(panel) === "flux" ? "query" : "expr";
    for (const target of targetsOf(panel)) expect(target[field]).toBeTruthy();
  });
});
