/** The PrometheusRules: the same rules as Prometheus has, limited to the pipeline's namespaces. */
import { describe, expect, test } from "bun:test";
import { parse } from "yaml";
import { capture } from "../../../scripts/cli/process.ts";
import { withNamespaces } from "../../../scripts/clients/promql.ts";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { withExternal } from "../../../scripts/deploy/external.ts";
import { parseLabels } from "../../../scripts/deploy/operator-rules.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { metricNamesIn } from "./promql.ts";
import { promtoolObstacle, ruleFiles, runOn, tool } from "./rules.ts";

type Rules = { groups: { name: string; rules: { alert?: string; record?: string; expr: string }[] }[] };
const objects = (await loadStages()).flatMap((stage) => stage.objects);
const generated = objects.filter(({ kind }) => kind === "PrometheusRule") as (KubernetesObject & { spec: Rules })[];
const files = await ruleFiles();
const NAMESPACES = "conveyor|conveyor-logging";
const obstacle = await promtoolObstacle();

describe("PrometheusRules", () => {
  test("exist for every rule file but that of the kubelets, which an operator's Prometheus scrapes by its own rules", () => {
    const expected = files.map(({ name }) => `prometheus-rules-${name.replace(".yml", "")}`);
    expect(generated.map(({ metadata }) => metadata.name).sort()).toEqual(
      expected.filter((name) => name !== "prometheus-rules-nodes").sort(),
    );
  });

  test("contain every rule but the dead-man's switch, with everything except the selectors unchanged", () => {
    for (const { metadata, spec } of generated) {
      const { text } = files.find(({ name }) => `prometheus-rules-${name.replace(".yml", "")}` === metadata.name)!;
      const withoutExpressions = ({ groups }: Rules) =>
        groups.flatMap(({ rules }) => rules.map((rule) => ({ ...rule, expr: metricNamesIn(rule.expr).sort() })));
      expect(withoutExpressions(spec)).toEqual(
        withoutExpressions(parse(text) as Rules).filter(({ alert }) => alert !== "Watchdog"),
      );
    }
  });
});

/** The queries of Prometheus in a dashboard, or in a part of one with a data source of this type. */
function queriesIn(value: unknown, type?: string): string[] {
  if (value === null || typeof value !== "object") return [];
  const own = (value as { datasource?: { type?: string } }).datasource?.type ?? type;
  return Object.entries(value).flatMap(([name, field]) =>
    name === "expr" && own === "prometheus" ? [field as string] : queriesIn(field, own),
  );
}

describe("withNamespaces", () => {
  test.each([
    [
      'sum by (le) (rate(a_bucket{b="c(d"}[5m])) / on (x) group_left (y) d',
      'sum by (le) (rate(a_bucket{b="c(d", namespace=~"n"}[5m])) / on (x) group_left (y) d{namespace=~"n"}',
    ],
    ['absent(up{job="a"}) or vector(0) > 0.5e3', 'absent(up{job="a", namespace=~"n"}) or vector(0) > 0.5e3'],
    ["time() - max(a) offset 5m", 'time() - max(a{namespace=~"n"}) offset 5m'],
    [
      'a:b:rate5m > bool 1 unless sum by (x) (c{namespace="other"})',
      'a:b:rate5m > bool 1 unless sum by (x) (c{namespace="other"})',
    ],
    ['label_replace(a{}, "x", "$1", "y", "(b|c)")', 'label_replace(a{namespace=~"n"}, "x", "$1", "y", "(b|c)")'],
    ['a{x="}", y=~"b{2}",}', 'a{x="}", y=~"b{2}", namespace=~"n"}'],
    ["sum(a) without (pod) atan2 Inf", 'sum(a{namespace=~"n"}) without (pod) atan2 Inf'],
    ['count by (job) ({__name__=~"a|b"})', 'count by (job) ({__name__=~"a|b", namespace=~"n"})'],
    ['ALERTS{a="b"}', 'ALERTS{a="b", namespace=~"n|"}'],
    ['a and {b="c"} OR {namespace="d"}', 'a{namespace=~"n"} and {b="c", namespace=~"n"} OR {namespace="d"}'],
  ])("%s", (expression, scoped) => {
    expect(withNamespaces(expression, "n")).toBe(scoped);
  });

  const expressions = files.flatMap(({ groups }) => groups.flatMap(({ rules }) => rules.map(({ expr }) => expr)));
  // promtool also sets a second matcher, and one of a recorded series.
  const comparable = expressions.filter(
    (expr) => !metricNamesIn(expr).some((name) => name.includes(":")) && !/namespace\s*=/.test(expr),
  );

  test.skipIf(obstacle !== undefined)("promtool sets the same matchers in the rules", async () => {
    const promtool = [await tool("promtool"), "--experimental", "promql"];
    expect(comparable.length).toBeGreaterThan(50);
    // One expression: a start of promtool takes longer than the rest.
    const all = comparable.map((expr) => `(${expr})`).join(" or ");
    const set = await capture([...promtool, "label-matchers", "set", "--type==~", all, "namespace", NAMESPACES]);
    expect([set.exitCode, set.stderr]).toEqual([0, ""]);
    const [ours, theirs] = await Promise.all(
      [withNamespaces(all, NAMESPACES), set.stdout].map((expr) => capture([...promtool, "format", expr])),
    );
    expect(theirs!.stdout.length).toBeGreaterThan(all.length);
    expect(ours!.stdout).toBe(theirs!.stdout);
  });

  test.skipIf(obstacle !== undefined)(
    "promtool accepts the queries of dashboards and autoscaling for an external Prometheus",
    async () => {
      const prometheus = { url: "http://p.m.svc:9090", hasCa: false, hasToken: false, egress: [] };
      const external = withExternal(await loadStages(), { stores: { prometheus }, secrets: {} });
      const found = external.flatMap((stage) => stage.objects);
      const dashboards = found.find(({ metadata }) => metadata.name === "grafana-dashboards")!.data as object;
      const scaled = found.find(({ kind }) => kind === "ScaledObject")!.spec as {
        triggers: { metadata: { query: string } }[];
      };
      const queries = [
        ...Object.values(dashboards).flatMap((text: string) => queriesIn(JSON.parse(text))),
        ...scaled.triggers.map(({ metadata }) => metadata.query),
      ];
      expect(queries.length).toBeGreaterThan(80);
      // Only what has lost or never had the label is unlimited.
      const unlimited = queries.filter((query) => !query.includes("namespace="));
      expect(unlimited.flatMap(metricNamesIn).filter((name) => !name.includes(":"))).toEqual([]);
      const rules = queries.map((query, index) => ({
        record: `q${index}`,
        expr: query.replaceAll("$__rate_interval", "1m"),
      }));
      const texts = { "queries.yml": JSON.stringify({ groups: [{ name: "queries", rules }] }) };
      const { exitCode, output } = await runOn(texts, [await tool("promtool"), "check", "rules", "queries.yml"]);
      expect({ exitCode, output: exitCode === 0 ? "" : output }).toEqual({ exitCode: 0, output: "" });
    },
  );

  test.skipIf(obstacle !== undefined)("promtool accepts the PrometheusRules", async () => {
    const texts = Object.fromEntries(
      generated.map(({ metadata, spec }) => [`${metadata.name}.yml`, JSON.stringify(spec)]),
    );
    const command = [await tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", ...Object.keys(texts)];
    const { exitCode, output } = await runOn(texts, command);
    expect({ exitCode, output: exitCode === 0 ? "" : output }).toEqual({ exitCode: 0, output: "" });
  });
});

describe("parseLabels", () => {
  test.each([
    ["", {}],
    ["release=monitoring", { release: "monitoring" }],
    ["a.example/b=c, d=", { "a.example/b": "c", d: "" }],
  ])("reads %j", (text, labels) => {
    expect(parseLabels(text)).toEqual(labels);
  });
  test.each(["release", "=x", "a b=c", "a=b c", "a=b=c", "-a=b"])("refuses %j with the rule and the value", (text) => {
    expect(() => parseLabels(text)).toThrow(`NAME=VALUE separated by commas; got "${text}"`);
  });
});
