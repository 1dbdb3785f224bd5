/** Every metric in a rule or runbook exists, and the real programs accept every configuration. */
import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { DASHBOARD_NAMES, panelsOf, readDashboard } from "../../../scripts/dashboards/definitions.ts";
import { loadManifests } from "../../../scripts/deploy/manifests.ts";
import { METRIC_TABLE, Metrics, type ServiceName } from "../../../services/runtime/metrics.ts";
import { metricNamesIn } from "./promql.ts";
import { promtoolObstacle, ruleFiles, runOn, tool } from "./rules.ts";
import { THIRD_PARTY_METRICS } from "./third-party-metrics.ts";

const rules = (await ruleFiles()).flatMap(({ groups }) => groups.flatMap((group) => group.rules));
const recorded = new Set(rules.flatMap(({ record }) => record ?? []));
const RUNBOOKS = join(import.meta.dir, "../../../docs/runbooks");
const pages = await Promise.all((await readdir(RUNBOOKS)).map((name) => readFile(join(RUNBOOKS, name), "utf8")));
/** Queries of the runbooks. */
const runbookQueries = pages.flatMap((page) => [...page.matchAll(/ask '([^']+)'/g)].map(([, query]) => query!));
const asked = [...new Set([...rules.map(({ expr }) => expr), ...runbookQueries].flatMap(metricNamesIn))].sort();
const manifests = await loadManifests();
const configMaps = manifests.filter(({ kind }) => kind === "ConfigMap") as (KubernetesObject & {
  data: Record<string, string>;
})[];
const textOf = (map: string, key: string) => configMaps.find(({ metadata }) => metadata.name === map)!.data[key]!;
const obstacle = await promtoolObstacle();

describe("metricNamesIn", () => {
  test.each([
    ['sum by (le, pod) (rate(a_bucket{b="c(d"}[5m])) / on (x) group_left (y) d', ["a_bucket", "d"]],
    ['absent(up{job="a"}) or vector(0) > 0.5e3', ["up"]],
    ["a:b:rate5m > (14.4 * 0.01)\nand\nc == bool 1", ["a:b:rate5m", "c"]],
    ["time() - max(a) offset 5m", ["a"]],
  ])("%s", (expression, names) => {
    expect(metricNamesIn(expression).filter((name) => !/^\d|^[em]\d*$/.test(name))).toEqual(names);
  });
});

/** Arithmetic on (…) after a selector: its series must be aggregated first. */
const RAW_JOIN = /[\w}]\s*[-+*/%]\s*(?:bool\s*)?on\s*\(/;

test("no query joins series of single pods: after a restart two pods have them, and the query fails", () => {
  const panels = DASHBOARD_NAMES.flatMap((name) =>
    panelsOf(readDashboard(name)).flatMap(({ targets = [] }) => targets),
  );
  const queries = [...rules, ...panels].flatMap(({ expr }) => expr ?? []);
  expect(queries.length).toBeGreaterThan(100);
  expect(queries.filter((query) => RAW_JOIN.test(query))).toEqual([]);
});

describe("every metric of a rule or runbook", () => {
  test.each(asked)("%s exists", (name) => {
    const base = name.replace(/_(bucket|sum|count)$/, "");
    const kind = (METRIC_TABLE as Record<string, { kind: string }>)[base]?.kind ?? "";
    const ours = Object.hasOwn(METRIC_TABLE, name) || (base !== name && kind.includes("histogram"));
    expect(ours || recorded.has(name) || Object.hasOwn(THIRD_PARTY_METRICS, name)).toBe(true);
  });

  test("third-party-metrics.ts lists only metrics in use", () => {
    expect(Object.keys(THIRD_PARTY_METRICS).filter((name) => !asked.includes(name))).toEqual([]);
  });
});

/** tests/cluster/servicemonitor.test.ts compares with a real operator; this finds a forgotten half at once. */
describe("the ServiceMonitors and the plain configuration", () => {
  interface Job {
    job_name: string;
    scheme: string;
    honor_labels?: boolean;
    scrape_interval?: string;
    tls_config: { server_name?: string };
  }
  interface Endpoint {
    port: string;
    scheme: string;
    honorLabels?: boolean;
    interval: string;
    tlsConfig: { serverName?: string };
  }
  type Monitor = KubernetesObject & { spec: { endpoints: Endpoint[] } };
  // The anchors there are for the reader.
  const jobs = (parse(textOf("prometheus", "prometheus.yml"), { merge: true }) as { scrape_configs: Job[] })
    .scrape_configs;
  const monitors = manifests.filter(({ kind }) => kind === "ServiceMonitor") as Monitor[];

  test("have the same jobs, intervals, TLS and server names", () => {
    // The kubelets' jobs are in their own file: an operator's Prometheus scrapes them already.
    const plain = jobs.map(({ job_name, scheme, honor_labels, scrape_interval = "15s", tls_config }) => ({
      job: job_name,
      scheme,
      honors: honor_labels ?? false,
      interval: scrape_interval,
      name: tls_config.server_name,
    }));
    const operated = monitors.flatMap(({ metadata, spec }) =>
      spec.endpoints.map(({ scheme, honorLabels, interval, tlsConfig }) => ({
        job: metadata.name,
        scheme,
        honors: honorLabels ?? false,
        interval,
        name: tlsConfig.serverName,
      })),
    );
    const byJob = (a: { job: string }, b: { job: string }) => (a.job < b.job ? -1 : 1);
    expect(operated.sort(byJob)).toEqual(plain.sort(byJob));
    for (const { scheme } of plain) expect(scheme).toBe("https");
  });

  test("the ServiceMonitors name no file and no token, which operators refuse or will remove", () => {
    expect(JSON.stringify(monitors)).not.toMatch(/bearerToken|caFile|certFile|keyFile/);
  });

  test("never skip TLS verification", () => {
    expect(textOf("prometheus", "prometheus.yml")).not.toMatch(/insecure_skip_verify/);
    expect(textOf("prometheus-nodes", "nodes.yml")).not.toMatch(/insecure_skip_verify/);
    expect(JSON.stringify(monitors)).not.toMatch(/insecureSkipVerify/);
  });
});

describe.skipIf(obstacle !== undefined)("the real programs accept", () => {
  test("Prometheus's configuration", async () => {
    // Files of the pod do not exist here; everything else is checked unchanged.
    const plain = textOf("prometheus", "prometheus.yml");
    const withNodes = plain.replace("/etc/prometheus-nodes/*.yml", "nodes.yml");
    expect(withNodes).not.toBe(plain);
    const files = {
      "prometheus.yml": plain,
      "with-nodes.yml": withNodes,
      "nodes.yml": textOf("prometheus-nodes", "nodes.yml"),
    };
    for (const name of ["prometheus.yml", "with-nodes.yml"]) {
      const command = [await tool("promtool"), "check", "config", "--syntax-only", name];
      const { exitCode, output } = await runOn(files, command);
      expect(exitCode === 0 ? "" : output).toBe("");
    }
    const web = await runOn(
      { "web.yml": stringify({ ...(parse(textOf("prometheus", "web.yml")) as object), tls_server_config: undefined }) },
      [await tool("promtool"), "check", "web-config", "web.yml"],
    );
    expect(web.exitCode === 0 ? "" : web.output).toBe("");
  });

  test("Alertmanager's configuration, without a receiver by default", async () => {
    const text = textOf("alertmanager", "alertmanager.yml");
    const { exitCode, output } = await runOn({ "alertmanager.yml": text }, [
      await tool("amtool"),
      "check-config",
      "alertmanager.yml",
    ]);
    expect(exitCode === 0 ? "" : output).toBe("");
    expect((parse(text) as { receivers: unknown[] }).receivers).toEqual([{ name: "null" }]);
  });

  test("the receiver configuration of the documentation", async () => {
    const page = await readFile(join(import.meta.dir, "../../../docs/observability.md"), "utf8");
    const [, text] = /```yaml\n(# alertmanager\.yml\n[\s\S]+?)```/.exec(page)!;
    const { exitCode, output } = await runOn({ "alertmanager.yml": text! }, [
      await tool("amtool"),
      "check-config",
      "alertmanager.yml",
    ]);
    expect(exitCode === 0 ? "" : output).toBe("");
  });

  test.each(["producer", "processor", "lag-exporter"] as const)(
    "the exposition of %s: promtool check metrics is clean",
    async (service: ServiceName) => {
      const exposition = await new Metrics(service).registry.metrics();
      const { exitCode, output } = await runOn({ metrics: exposition }, [
        ...["sh", "-c", `"$1" check metrics < metrics`, "check"],
        await tool("promtool"),
      ]);
      expect({ exitCode, output }).toEqual({ exitCode: 0, output: "" });
    },
  );
});
