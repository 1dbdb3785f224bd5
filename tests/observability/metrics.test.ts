/** Every metric that a rule asks for exists, and every configuration is one that the real programs accept. */
import { describe, expect, test } from "bun:test";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import type { KubernetesObject } from "../../scripts/toolkit/cluster.ts";
import { loadManifests } from "../../scripts/toolkit/manifests.ts";
import { METRIC_TABLE, Metrics, type ServiceName } from "../../services/runtime/metrics.ts";
import { metricNamesIn } from "./promql.ts";
import { promtoolObstacle, ruleFiles, runOn, tool } from "./rules.ts";
import { THIRD_PARTY_METRICS } from "./third-party-metrics.ts";

const rules = (await ruleFiles()).flatMap(({ groups }) => groups.flatMap((group) => group.rules));
const recorded = new Set(rules.flatMap(({ record }) => record ?? []));
const RUNBOOKS = join(import.meta.dir, "../../docs/runbooks");
const pages = await Promise.all((await readdir(RUNBOOKS)).map((name) => readFile(join(RUNBOOKS, name), "utf8")));
/** Queries that a runbook tells a person to ask. */
const runbookQueries = pages.flatMap((page) => [...page.matchAll(/ask '([^']+)'/g)].map(([, query]) => query!));
const asked = [...new Set([...rules.map(({ expr }) => expr), ...runbookQueries].flatMap(metricNamesIn))].sort();
const configMaps = (await loadManifests()).filter(({ kind }) => kind === "ConfigMap") as (KubernetesObject & {
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

describe("every metric that a rule or a runbook asks for", () => {
  test.each(asked)("%s exists", (name) => {
    const base = name.replace(/_(bucket|sum|count)$/, "");
    const kind = (METRIC_TABLE as Record<string, { kind: string }>)[base]?.kind ?? "";
    const ours = Object.hasOwn(METRIC_TABLE, name) || (base !== name && kind.includes("histogram"));
    expect(ours || recorded.has(name) || Object.hasOwn(THIRD_PARTY_METRICS, name)).toBe(true);
  });

  test("what is listed of others is asked for", () => {
    expect(Object.keys(THIRD_PARTY_METRICS).filter((name) => !asked.includes(name))).toEqual([]);
  });
});

describe.skipIf(obstacle !== undefined)("the real programs accept", () => {
  test("Prometheus's configuration, its jobs of the logging tier included", async () => {
    // Files of the pod are not here; everything else is checked as it is.
    const files = {
      "prometheus.yml": textOf("prometheus", "prometheus.yml").replace("/etc/prometheus/scrape-", "scrape-"),
      "scrape-logging.yml": textOf("prometheus-scrape-logging", "scrape-logging.yml"),
    };
    const { exitCode, output } = await runOn(files, [
      await tool("promtool"),
      "check",
      "config",
      "--syntax-only",
      "prometheus.yml",
    ]);
    expect(exitCode === 0 ? "" : output).toBe("");
    const web = await runOn(
      { "web.yml": stringify({ ...(parse(textOf("prometheus", "web.yml")) as object), tls_server_config: undefined }) },
      [await tool("promtool"), "check", "web-config", "web.yml"],
    );
    expect(web.exitCode === 0 ? "" : web.output).toBe("");
  });

  test("Alertmanager's, which sends to nobody until a person says to whom", async () => {
    const text = textOf("alertmanager", "alertmanager.yml");
    const { exitCode, output } = await runOn({ "alertmanager.yml": text }, [
      await tool("amtool"),
      "check-config",
      "alertmanager.yml",
    ]);
    expect(exitCode === 0 ? "" : output).toBe("");
    expect((parse(text) as { receivers: unknown[] }).receivers).toEqual([{ name: "null" }]);
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
