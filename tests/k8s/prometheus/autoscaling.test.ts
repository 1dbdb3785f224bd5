/**
 * The queries of the ScaledObject, evaluated by promtool: correct values, and no value where the state is not known, so
 * that the autoscaler keeps its number. Then without each of their conditions: some case must fail.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { stringify } from "yaml";
import { loadManifests } from "../../../scripts/deploy/manifests.ts";
import { allPassed, evaluate, promtoolObstacle } from "./rules.ts";

interface Trigger {
  name: string;
  metadata: { query: string };
}
const scaledObject = (await loadManifests()).find(({ kind }) => kind === "ScaledObject")!;
const triggers = (scaledObject.spec as { triggers: Trigger[] }).triggers;
const queryOf = (name: string) => triggers.find((trigger) => trigger.name === name)!.metadata.query;
const obstacle = await promtoolObstacle();

/** All cases take a second; more on a busy machine, and the first run on a machine downloads some 50 MB. */
const LIMIT_MS = 300_000;

/** Series in promtool's format, one sample every five seconds; undefined removes one of HEALTHY. */
type Series = Record<string, string | undefined>;
interface Case {
  name: string;
  series: Series;
  /** The query's value after two minutes; undefined: it must return none. */
  value: number | undefined;
}

const LAG = 'kafka_consumergroup_lag_sum{group="processor",topic="conveyor.events",pod="lag-exporter-a"}';
const OTHER_LAG = 'kafka_consumergroup_lag_sum{group="processor",topic="conveyor.events",pod="lag-exporter-b"}';
const LAST_QUERY = 'conveyor_lag_exporter_last_success_timestamp_seconds{pod="lag-exporter-a"}';
const PENDING = 'conveyor_processor_write_pending_seconds{pod="processor-a"}';
const OTHER_PENDING = 'conveyor_processor_write_pending_seconds{pod="processor-b"}';
const REPLICAS = 'kube_deployment_spec_replicas{namespace="conveyor",deployment="processor"}';
const CPU = 'process_cpu_seconds_total{job="processor",pod="processor-a"}';
const OTHER_CPU = 'process_cpu_seconds_total{job="processor",pod="processor-b"}';

/** Two processors with a lag of 2,500 events that use 0.06 and 0.03 of a core. */
const HEALTHY: Series = {
  [LAG]: "2500x24",
  [LAST_QUERY]: "0+5x24",
  [PENDING]: "0.02x24",
  [OTHER_PENDING]: "0.02x24",
  [REPLICAS]: "2x24",
  [CPU]: "0+0.3x24",
  [OTHER_CPU]: "0+0.15x24",
  'process_cpu_seconds_total{job="producer",pod="producer-0"}': "0+3x24",
};

const DATABASE_SATURATED: Case[] = [
  { name: "one processor's lines wait for ten seconds", series: { [PENDING]: "10x24" }, value: 2 },
  { name: "the other processor's lines wait for ten seconds", series: { [OTHER_PENDING]: "10x24" }, value: 2 },
  { name: "a processor's lines waited twenty seconds ago", series: { [PENDING]: "0x19 5 0x4" }, value: 2 },
];
const cases: Record<string, Case[]> = {
  lag: [
    { name: "healthy", series: {}, value: 2500 },
    { name: "no lag", series: { [LAG]: "0x24" }, value: 0 },
    { name: "a high lag in one sample, as in a rebalance", series: { [LAG]: "100x22 90000 100" }, value: 100 },
    { name: "a high lag in two samples of three", series: { [LAG]: "100x22 9000x1" }, value: 9000 },
    { name: "two exporters, as during a handover", series: { [OTHER_LAG]: "2400x24" }, value: 2500 },
    { name: "absent", series: { [LAG]: undefined }, value: undefined },
    {
      name: "absent for half a minute",
      series: { [LAG]: "2500x17 stale", [LAST_QUERY]: "0+5x17 stale" },
      value: undefined,
    },
    { name: "negative", series: { [LAG]: "-1x24" }, value: undefined },
    { name: "not a number", series: { [LAG]: "NaN ".repeat(25).trim() }, value: undefined },
    {
      name: "from an exporter whose last query was a minute ago",
      series: { [LAST_QUERY]: "0+5x12 60x11" },
      value: undefined,
    },
    { name: "without the time of the exporter's last query", series: { [LAST_QUERY]: undefined }, value: undefined },
    {
      name: "without write metrics of any processor",
      series: { [PENDING]: undefined, [OTHER_PENDING]: undefined },
      value: undefined,
    },
    ...DATABASE_SATURATED.map((item) => ({ ...item, value: 1000 * item.value! })),
    {
      name: "the database is saturated, and the lag is not known",
      series: { [PENDING]: "10x24", [LAG]: undefined },
      value: 2000,
    },
    {
      name: "the database is saturated, and the number of processors is not known",
      series: { [PENDING]: "10x24", [REPLICAS]: undefined },
      value: undefined,
    },
    { name: "the database is slow but not saturated", series: { [PENDING]: "1.9x24" }, value: 2500 },
  ],
  cpu: [
    { name: "healthy: both processors, and no other program", series: {}, value: 90 },
    { name: "absent", series: { [CPU]: undefined, [OTHER_CPU]: undefined }, value: undefined },
    {
      name: "absent for a minute",
      series: { [CPU]: "0+0.3x12 stale", [OTHER_CPU]: "0+0.3x12 stale" },
      value: undefined,
    },
    // The increase over the restart is one sample short.
    { name: "a processor was restarted", series: { [CPU]: "0+0.3x20 0+0.3x3" }, value: 78 },
    {
      name: "without write metrics of any processor",
      series: { [PENDING]: undefined, [OTHER_PENDING]: undefined },
      value: undefined,
    },
    ...DATABASE_SATURATED.map((item) => ({ ...item, value: 160 * item.value! })),
    {
      name: "the database is saturated, and the number of processors is not known",
      series: { [PENDING]: "10x24", [REPLICAS]: undefined },
      value: undefined,
    },
  ],
};

/** promtool's test file for cases of a query. */
function promtoolTest(query: string, list: readonly Case[]): string {
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
  return stringify({ rule_files: [], evaluation_interval: "5s", tests });
}

/** Parts of the queries without which the autoscaler would act on wrong or missing values. */
const CONDITIONS: readonly [query: string, what: string, part: string | RegExp, instead: string][] = [
  ["lag", "the median of three samples", "quantile_over_time(0.5, ", "max_over_time("],
  ["lag", "the condition on negative values", " >= 0", ""],
  ["lag", "the condition on the age of the sample", /and on\(\) \(time\(\)[^\n]+\n/, ""],
  ["lag", "the condition on the database", /and on\(\) [^\n]+<= 2\)\n/, ""],
  ["lag", "the value for a saturated database", /\n\s*or\n[\s\S]*$/, ""],
  ["lag", "the condition of that value", / and on\(\) [^\n]+> 2\)$/, ""],
  ["lag", "the maximum over exporters", "max(quantile", "sum(quantile"],
  ["lag", "the time window of the database condition", /\[30s\]/g, "[5s]"],
  ["cpu", "the selection of processors", '{job="processor"}', ""],
  ["cpu", "the condition on the database", /and on\(\) [^\n]+<= 2\)\n/, ""],
  ["cpu", "the value for a saturated database", /\n\s*or\n[\s\S]*$/, ""],
];

const caseFile = (name: string, index: number) => `${name}-${index}.yml`;
const changedFile = (index: number) => `changed-${index}.yml`;
const withoutCondition = ([name, , part, instead]: (typeof CONDITIONS)[number]) => queryOf(name).replace(part, instead);

describe.skipIf(obstacle !== undefined)("KEDA query", () => {
  let suites: Map<string, string>;
  beforeAll(async () => {
    const files = Object.fromEntries([
      ...Object.entries(cases).flatMap(([name, list]) =>
        list.map((item, index) => [caseFile(name, index), promtoolTest(queryOf(name), [item])]),
      ),
      ...CONDITIONS.map((row, index) => [changedFile(index), promtoolTest(withoutCondition(row), cases[row[0]]!)]),
    ]);
    suites = await evaluate(files, Object.keys(files));
  }, LIMIT_MS);

  for (const name of Object.keys(cases)) {
    test.each(cases[name]!.map((item, index) => [item.name, index] as const))(`${name}: %s`, (_, index) => {
      expect(suites.get(caseFile(name, index))).toContain(allPassed(1));
    });
  }

  test.each(CONDITIONS.map((row, index) => [row[0], row[1], row, index] as const))(
    "%s without %s fails a case",
    (name, _, row, index) => {
      expect(withoutCondition(row)).not.toBe(queryOf(name));
      expect(suites.get(changedFile(index))).toMatch(/ failures="[1-9]/);
    },
  );
});
