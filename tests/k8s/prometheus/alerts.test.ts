/** The deployed alert rules, evaluated by promtool over the series of alert-cases.ts; labels and annotations compare exactly. */
import { beforeAll, describe, expect, test } from "bun:test";
import { stringify } from "yaml";
import { ALERT_CASES, type AlertCase, type Firing, type Series } from "./alert-cases.ts";
import { metricNamesIn } from "./promql.ts";
import { allPassed, evaluate, promtoolObstacle, ruleFiles, runOn, tool } from "./rules.ts";

const files = await ruleFiles();
const rules = files.flatMap(({ groups }) => groups.flatMap((group) => group.rules));
const alerts = rules.filter(({ alert }) => alert !== undefined);
const names = [...new Set(alerts.map(({ alert }) => alert!))].sort();
const obstacle = await promtoolObstacle();
if (obstacle) console.warn(`rules are not evaluated: promtool is not available: ${obstacle}`);
const texts = Object.fromEntries(files.map(({ name, text }) => [name, text]));

/** All cases take some seconds; minutes on a busy machine. */
const LIMIT_MS = 60_000;

/** The rules of an alert with the recording rules that they read, as a rule file: evaluating the others takes minutes. */
function rulesOf(name: string): string {
  const wanted = new Set(rules.filter(({ alert }) => alert === name));
  for (const { expr } of wanted) {
    const read = metricNamesIn(expr);
    for (const rule of rules) if (rule.record && read.includes(rule.record)) wanted.add(rule);
  }
  const groups = files
    .flatMap((file) => file.groups)
    .map((group) => ({
      ...group,
      rules: group.rules.filter((rule) => wanted.has(rule)),
    }));
  return stringify({ groups: groups.filter((group) => group.rules.length > 0) });
}

/** Series in promtool's format: one sample a minute, "_" for none. */
const seriesOf = (input: Series) =>
  Object.entries(input).map(([series, values]) => ({
    series,
    values: values.map((value) => value ?? "_").join(" "),
  }));

const lengthOf = (input: Series) => Math.max(1, ...Object.values(input).map(({ length }) => length));

function expectationAt(item: AlertCase, minute: number, firing: readonly Firing[]) {
  return {
    eval_time: `${minute}m`,
    alertname: item.alert,
    exp_alerts: firing.map(({ labels, description }) => ({
      exp_labels: { severity: item.severity, ...labels },
      exp_annotations: { summary: item.summary, description, runbook_url: `docs/runbooks/${item.alert}.md` },
    })),
  };
}

const titleOf = ({ alert, name }: AlertCase) => (name ? `${alert}: ${name}` : alert);
/** Cases of one alert may share the series below the threshold; the first one evaluates it. */
const evaluatesBelow = (item: AlertCase) =>
  item.below !== undefined &&
  ALERT_CASES.find(({ alert, below }) => alert === item.alert && Bun.deepEquals(below, item.below)) === item;
const caseFile = (index: number) => `case-${index}.yml`;

/** One promtool test file for a case. */
function promtoolTest(item: AlertCase): string {
  const broken = {
    interval: "1m",
    name: "broken",
    input_series: seriesOf(item.input),
    alert_rule_test: [
      ...item.waits.map((minute) => expectationAt(item, minute, [])),
      expectationAt(item, ...item.fires),
      ...(item.clears ? [expectationAt(item, item.clears[0], item.clears[1] ?? [])] : []),
    ],
  };
  const below = evaluatesBelow(item) && {
    interval: "1m",
    name: "below",
    input_series: seriesOf(item.below!),
    alert_rule_test: Array.from({ length: lengthOf(item.below!) }, (_, minute) => expectationAt(item, minute, [])),
  };
  return stringify({
    rule_files: [`${item.alert}.yml`],
    evaluation_interval: "1m",
    tests: [broken, ...(below ? [below] : [])],
  });
}

describe.skipIf(obstacle !== undefined)("promtool", () => {
  test(
    "check rules passes with all lints fatal",
    async () => {
      const command = [await tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", ...Object.keys(texts)];
      const { exitCode, output } = await runOn(texts, command);
      expect({ exitCode, output: exitCode === 0 ? "" : output }).toEqual({ exitCode: 0, output: "" });
    },
    // The first run on a machine downloads some 50 MB.
    5 * LIMIT_MS,
  );

  describe("cases", () => {
    let suites: Map<string, string>;
    beforeAll(async () => {
      const inputs = Object.fromEntries([
        ...names.map((name) => [`${name}.yml`, rulesOf(name)]),
        ...ALERT_CASES.map((item, index) => [caseFile(index), promtoolTest(item)]),
      ]);
      suites = await evaluate(
        inputs,
        ALERT_CASES.map((_, index) => caseFile(index)),
      );
    }, 5 * LIMIT_MS);

    test.each(ALERT_CASES.map((item, index) => [titleOf(item), item, index] as const))(
      "%s waits, fires, clears, and is silent below its threshold",
      (_, item, index) => {
        expect(suites.get(caseFile(index))).toContain(allPassed(evaluatesBelow(item) ? 2 : 1));
      },
    );
  });
});

describe("every alert", () => {
  test("has a case, and every case is of an alert", () => {
    expect([...new Set(ALERT_CASES.map(({ alert }) => alert))].sort()).toEqual(names);
  });

  test("has a case for each of its severities", () => {
    const wanted = alerts.map(({ alert, labels }) => `${alert} ${labels?.severity} ${labels?.window ?? ""}`);
    const shown = ALERT_CASES.flatMap(({ alert, severity, fires }) =>
      fires[1].map(({ labels }) => `${alert} ${labels.severity ?? severity} ${labels.window ?? ""}`),
    );
    expect([...new Set(shown)].sort()).toEqual([...new Set(wanted)].sort());
  });

  test("has a case for its delay, for clearing, and for a value just below its threshold", () => {
    for (const name of names.filter((alert) => alert !== "Watchdog")) {
      const own = ALERT_CASES.filter(({ alert }) => alert === name);
      expect(
        own.some(({ waits }) => waits.length > 0),
        `${name} waits`,
      ).toBe(true);
      expect(
        own.every(({ clears }) => clears !== undefined),
        `${name} clears`,
      ).toBe(true);
      expect(
        own.every(({ below }) => below !== undefined),
        `${name} below`,
      ).toBe(true);
    }
  });

  test("has severity, summary, description and the path of its runbook", () => {
    for (const { alert, labels, annotations } of alerts) {
      expect(["critical", "warning", "none"], alert).toContain(labels?.severity ?? "");
      expect(annotations?.summary, alert).toMatch(/^[A-Z].*\.$/);
      expect(annotations?.description?.length, alert).toBeGreaterThan(30);
      expect(annotations?.runbook_url, alert).toBe(`docs/runbooks/${alert}.md`);
    }
  });
});
