/**
 * Goal: the numbers that KEDA is given are right, and there is none where the truth is not known: then the autoscaler holds.
 * Method: promtool evaluates the queries as they stand in the ScaledObject over series written by hand, and again with each
 * of their conditions taken out: every condition must be missed by some case.
 */
import { describe, expect, test } from "bun:test";
import { stringify } from "yaml";
import { loadManifests } from "../../../scripts/deploy/manifests.ts";
import { promtoolObstacle, runOn, tool } from "./rules.ts";

interface Trigger {
  name: string;
  metadata: { query: string };
}
const scaledObject = (await loadManifests()).find(({ kind }) => kind === "ScaledObject")!;
const triggers = (scaledObject.spec as { triggers: Trigger[] }).triggers;
const queryOf = (name: string) => triggers.find((trigger) => trigger.name === name)!.metadata.query;
const obstacle = await promtoolObstacle();

/** promtool evaluates a handful of points in some tenths of a second; a busy machine may take longer. */
const LIMIT_MS = 60_000;

/** Series in promtool's words, one sample each five seconds; undefined takes one of HEALTHY away. */
type Series = Record<string, string | undefined>;
interface Case {
  name: string;
  series: Series;
  /** The query's number after two minutes; undefined where it must give none. */
  value: number | undefined;
}

const LAG = 'kafka_consumergroup_lag_sum{group="processor",topic="conveyor.events",pod="lag-exporter-a"}';
const OTHER_LAG = 'kafka_consumergroup_lag_sum{group="processor",topic="conveyor.events",pod="lag-exporter-b"}';
const LOOKED = 'conveyor_lag_exporter_last_success_timestamp_seconds{pod="lag-exporter-a"}';
const PENDING = 'conveyor_processor_write_pending_seconds{pod="processor-a"}';
const OTHER_PENDING = 'conveyor_processor_write_pending_seconds{pod="processor-b"}';
const REPLICAS = 'kube_deployment_spec_replicas{namespace="conveyor",deployment="processor"}';
const CPU = 'process_cpu_seconds_total{job="processor",pod="processor-a"}';
const OTHER_CPU = 'process_cpu_seconds_total{job="processor",pod="processor-b"}';

/** Two processors that have 2,500 events before them and use 0.06 and 0.03 of a core. */
const HEALTHY: Series = {
  [LAG]: "2500x24",
  [LOOKED]: "0+5x24",
  [PENDING]: "0.02x24",
  [OTHER_PENDING]: "0.02x24",
  [REPLICAS]: "2x24",
  [CPU]: "0+0.3x24",
  [OTHER_CPU]: "0+0.15x24",
  'process_cpu_seconds_total{job="producer",pod="producer-0"}': "0+3x24",
};

const DATABASE_IS_THE_LIMIT: Case[] = [
  { name: "one processor's lines have waited for ten seconds", series: { [PENDING]: "10x24" }, value: 2 },
  { name: "the other's", series: { [OTHER_PENDING]: "10x24" }, value: 2 },
  { name: "it was so twenty seconds ago", series: { [PENDING]: "0x19 5 0x4" }, value: 2 },
];
const cases: Record<string, Case[]> = {
  lag: [
    { name: "as it is", series: {}, value: 2500 },
    { name: "nothing is behind", series: { [LAG]: "0x24" }, value: 0 },
    { name: "a rebalance left events lying at one look", series: { [LAG]: "100x22 90000 100" }, value: 100 },
    { name: "behind at two looks of three", series: { [LAG]: "100x22 9000x1" }, value: 9000 },
    { name: "two exporters, as while one takes over from the other", series: { [OTHER_LAG]: "2400x24" }, value: 2500 },
    { name: "absent", series: { [LAG]: undefined }, value: undefined },
    { name: "gone for half a minute", series: { [LAG]: "2500x17 stale", [LOOKED]: "0+5x17 stale" }, value: undefined },
    { name: "negative", series: { [LAG]: "-1x24" }, value: undefined },
    { name: "not a number", series: { [LAG]: "NaN ".repeat(25).trim() }, value: undefined },
    {
      name: "shown on by an exporter that stopped looking a minute ago",
      series: { [LOOKED]: "0+5x12 60x11" },
      value: undefined,
    },
    { name: "of an age that nobody tells", series: { [LOOKED]: undefined }, value: undefined },
    {
      name: "with no processor to tell whether the database keeps up",
      series: { [PENDING]: undefined, [OTHER_PENDING]: undefined },
      value: undefined,
    },
    ...DATABASE_IS_THE_LIMIT.map((item) => ({ ...item, value: 1000 * item.value! })),
    {
      name: "the database is the limit, and the lag is not known",
      series: { [PENDING]: "10x24", [LAG]: undefined },
      value: 2000,
    },
    {
      name: "the database is the limit, and nobody tells how many processors there are",
      series: { [PENDING]: "10x24", [REPLICAS]: undefined },
      value: undefined,
    },
    { name: "the database is slow, and just keeps up", series: { [PENDING]: "1.9x24" }, value: 2500 },
  ],
  cpu: [
    { name: "as it is: both processors, and no other program", series: {}, value: 90 },
    { name: "absent", series: { [CPU]: undefined, [OTHER_CPU]: undefined }, value: undefined },
    { name: "gone for a minute", series: { [CPU]: "0+0.3x12 stale", [OTHER_CPU]: "0+0.3x12 stale" }, value: undefined },
    // The look before the restart and the one after it are one step short, no more.
    { name: "a processor was restarted", series: { [CPU]: "0+0.3x20 0+0.3x3" }, value: 78 },
    {
      name: "with no processor to tell whether the database keeps up",
      series: { [PENDING]: undefined, [OTHER_PENDING]: undefined },
      value: undefined,
    },
    ...DATABASE_IS_THE_LIMIT.map((item) => ({ ...item, value: 80 * item.value! })),
    {
      name: "the database is the limit, and nobody tells how many processors there are",
      series: { [PENDING]: "10x24", [REPLICAS]: undefined },
      value: undefined,
    },
  ],
};

/** What promtool has against the cases with a query; "" when it has nothing. */
async function judge(query: string, list: readonly Case[]): Promise<string> {
  const tests = list.map(({ name, series, value }) => ({
    interval: "5s",
    name,
    input_series: Object.entries({ ...HEALTHY, ...series }).flatMap(([key, values]) =>
      values === undefined ? [] : [{ series: key, values }],
    ),
    promql_expr_test: [
      { expr: query, eval_time: "2m", exp_samples: value === undefined ? [] : [{ labels: "{}", value }] },
    ],
  }));
  const text = stringify({ rule_files: [], evaluation_interval: "5s", tests });
  const { exitCode, output } = await runOn({ "case.yml": text }, [await tool("promtool"), "test", "rules", "case.yml"]);
  return exitCode === 0 ? "" : output;
}

/** Parts of the queries whose loss would make the autoscaler act on what it does not know. */
const CONDITIONS: readonly [query: string, what: string, part: string | RegExp, instead: string][] = [
  ["lag", "the median of three looks", "quantile_over_time(0.5, ", "max_over_time("],
  ["lag", "nothing below zero", " >= 0", ""],
  ["lag", "looked at within 30 s", /and on\(\) \(time\(\)[^\n]+\n/, ""],
  ["lag", "only while the database keeps up", /and on\(\) [^\n]+<= 2\)\n/, ""],
  ["lag", "what holds while the database is the limit", /\n\s*or\n[\s\S]*$/, ""],
  ["lag", "only then", / and on\(\) [^\n]+> 2\)$/, ""],
  ["lag", "counted once", "max(quantile", "sum(quantile"],
  ["lag", "the time after the limit", /\[30s\]/g, "[5s]"],
  ["cpu", "of the processors alone", '{job="processor"}', ""],
  ["cpu", "only while the database keeps up", /and on\(\) [^\n]+<= 2\)\n/, ""],
  ["cpu", "what holds while the database is the limit", /\n\s*or\n[\s\S]*$/, ""],
];

describe.skipIf(obstacle !== undefined)("what KEDA is told", () => {
  for (const name of Object.keys(cases)) {
    test.each(cases[name]!.map((item) => [item.name, item] as const))(
      `${name}: %s`,
      async (_, item) => {
        expect(await judge(queryOf(name), [item])).toBe("");
      },
      LIMIT_MS,
    );
  }

  test.each(CONDITIONS)(
    "%s without %s: a case finds it",
    async (name, _, part, instead) => {
      const query = queryOf(name);
      const without = query.replace(part, instead);
      expect(without).not.toBe(query);
      expect(await judge(without, cases[name]!)).not.toBe("");
    },
    LIMIT_MS,
  );
});
