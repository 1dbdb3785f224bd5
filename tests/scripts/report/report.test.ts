/** The pages of runs: verdicts, numbers and charts follow the record; untrusted text is escaped. */
import { describe, expect, test } from "bun:test";
import { mkdir, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { violatedInvariants } from "../../../scripts/load/load-run.ts";
import { createRun, openRun } from "../../../scripts/recording/run-folder.ts";
import { placeInRows } from "../../../scripts/report/browser/labels.ts";
import { type ChartSeries, chartStack, type StackData } from "../../../scripts/report/charts.ts";
import { alignedTo, changeOf, renderComparison } from "../../../scripts/report/compare-page.ts";
import { byName, worstOf } from "../../../scripts/report/drills-report.ts";
import { formatMs, formatNumber, formatShort } from "../../../scripts/report/format.ts";
import { html, plainText } from "../../../scripts/report/html.ts";
import { stageBands, turnsOf } from "../../../scripts/report/load-report.ts";
import { summarizeLine } from "../../../scripts/report/log-summary.ts";
import { renderReport } from "../../../scripts/report/page.ts";
import { newestRun, readRun } from "../../../scripts/report.ts";
import { facts, ledger, START_MS, syntheticDrill, syntheticDrills, syntheticLoadTest } from "./synthetic.ts";

const headline = (page: string) => /<h1>(.*?)<\/h1>/.exec(page)?.[1] ?? "";
const answers = (page: string) =>
  [...page.matchAll(/<section class="answer"><h2>(.*?)<\/h2>\s*<p class="big[^"]*">(.*?)<\/p>/g)].map(
    ([, question, answer]) => [question, answer],
  );

describe("html", () => {
  test("html: values are escaped, Html is not, lists are joined, false and null are empty", () => {
    expect(html`<p title="${'"'}">${"<b>&'"}${html`<i>x</i>`}${[1, html`<br>`]}${false}${null}</p>`.text).toBe(
      '<p title="&quot;">&lt;b&gt;&amp;&#39;<i>x</i>1<br></p>',
    );
  });
  test("plainText: terminal codes and control characters are removed", () => {
    expect(plainText("\u001b[31mred\u001b[0m\u0007\u0000 \u009b1m\ttab\r\nnew\u001b]0;title")).toBe("red 1m\ttab\nnew");
    expect(plainText("\u202eesrever\u200b")).toBe("esrever");
  });
});

test("placeInRows: intervals that touch are in different rows; without a free row they are dropped", () => {
  const intervals = [
    { from: 0, to: 10 },
    { from: 5, to: 12 },
    { from: 10, to: 20 },
    { from: 11, to: 30 },
  ];
  expect(placeInRows(intervals, 3).map(({ row }) => row)).toEqual([0, 1, 0, 2]);
  expect(placeInRows(intervals, 2).map(({ from }) => from)).toEqual([0, 5, 10]);
});

describe("formats", () => {
  test("formatMs, formatNumber, formatShort: three digits and the largest unit", () => {
    expect([820, 4230, 59_960, 72_000, 7_500_000].map(formatMs)).toEqual([
      "820 ms",
      "4.2 s",
      "1 min",
      "1 min 12 s",
      "2 h 5 min",
    ]);
    expect([0.0421, 3.172, 27.53, 1234.4, 5].map(formatNumber)).toEqual(["0.042", "3.17", "27.5", "1,234", "5"]);
    expect([950, 1500, 20_000, 3_000_000].map(formatShort)).toEqual(["950", "1.5k", "20k", "3M"]);
  });
});

test.each([
  ['{"level":"warn","event":"kafka_send_failed","pod":"p","error":"NOT_LEADER"}', "warn kafka_send_failed: NOT_LEADER"],
  ['{"level":"warn","event":"log","logger":"x","message":"marked as failed","error":""}', "warn: marked as failed"],
  ['{"level":"info","event":"started","port":1}', "info started port=1"],
  ["[2026-01-05] WARN as it is", "[2026-01-05] WARN as it is"],
  ['{"level":"error","message":"two\\nlines"}', "error: two lines"],
  [
    '{"level":"warn","event":"log","message":"lost","error":"java.io.IOException: gone\\n\\tat java.base/a.b.C$D.run(Unknown Source) ~[?:?]\\n\\tat a.B.<init>(B.java:7) [x-1.2.jar:?]\\nCaused by: why\\n\\t... 3 more"}',
    "warn: lost; java.io.IOException: gone Caused by: why",
  ],
  [JSON.stringify({ level: "warn", event: "x", error: "e".repeat(400) }), `warn x: ${"e".repeat(300)}…`],
])("summarizeLine: %s", (line, short) => {
  expect(summarizeLine(line)).toBe(short);
});

describe("chartStack", () => {
  const timesMs = [0, 1, 2, 3, 4, 5].map((second) => START_MS + second * 1000);
  const stackOf = (values: ChartSeries["values"], more: Partial<Parameters<typeof chartStack>[0]> = {}) =>
    chartStack({
      label: "Stack",
      timesMs,
      charts: [{ title: "T", unit: "s", series: [{ name: "a", label: "A", values }] }],
      ...more,
    }).text;
  const dataOf = (page: string): StackData =>
    JSON.parse(/class="stack-data">(.*?)<\/script>/.exec(page)![1]!) as StackData;

  test("data: a value that was not measured is a gap, not a zero; repeats are empty", () => {
    const [chart] = dataOf(stackOf([1, 1, null, 0.123456, 1234.5, 0])).charts;
    expect(chart!.series[0]!.values).toBe("1,,-,0.123,1235,0");
  });
  test("data: times, marks and bands are seconds since the origin; a mark outside of the range is dropped", () => {
    const data = dataOf(
      stackOf([1, 1, 1, 1, 1, 1], {
        originMs: START_MS + 2000,
        marks: [
          { timeMs: START_MS + 1000, kind: "fault", subject: "x", text: "x" },
          { timeMs: START_MS + 3000, kind: "pod", subject: "x", text: "x" },
          { timeMs: START_MS + 9000, kind: "fault", subject: "x", text: "x" },
        ],
        bands: [{ fromMs: START_MS, toMs: START_MS + 5000, label: "before", tone: "before" }],
      }),
    );
    expect(data.times).toBe("-2000,1000,,,,");
    expect([data.from, data.to]).toEqual([-2, 3]);
    expect(data.marks).toEqual([
      { at: -1, kind: "fault", label: "✖ fault" },
      { at: 1, kind: "pod" },
    ]);
    expect(data.bands).toEqual([{ from: -2, to: 3, label: "before", tone: "before" }]);
  });
  test("the table without JavaScript: lowest, highest, its time and the last value of each curve", () => {
    const noscript = /<noscript>(.*?)<\/noscript>/s.exec(stackOf([3, null, 1, 7, 2, 2]))![1]!;
    const cells = [...noscript.matchAll(/<td>(.*?)<\/td>/g)].map(([, cell]) => cell);
    expect(cells).toEqual(["1", "7", "+3 s", "2"]);
    expect(stackOf([1], { table: false })).not.toContain("<noscript>");
  });
  test("20,000 points take less than 60 kB", () => {
    const values = Array.from({ length: 20_000 }, (_, index) => (index === 12_345 ? 100 : 1));
    const page = stackOf(values, { timesMs: values.map((_, index) => START_MS + index * 1000) });
    expect(page).toContain("highest at +205:45");
    expect(page.length).toBeLessThan(60_000);
  });
  test("a curve without a measured value is described as not measured", () => {
    const page = stackOf(timesMs.map(() => null));
    expect(page).toContain('aria-label="T. A: not measured."');
    expect(page).toContain("<td>not measured</td>");
  });
});

describe("report of a load test", () => {
  test("first screen: passed, lost, scaled", () => {
    const page = renderReport(syntheticLoadTest());
    expect(headline(page)).toStartWith("Passed");
    expect(answers(page)).toEqual([
      ["Did it pass?", "Yes"],
      ["Was anything lost?", "Nothing"],
      ["Did it scale with the load?", "processor 1 → 4 → 1"],
    ]);
  });
  test("a missed threshold is in the headline, with the amount", () => {
    const missed = { text: "e2e_p99_ms<100", metric: "e2e_p99_ms", limit: 100, value: 340, ok: false, by: "by 240 ms" };
    const page = renderReport(syntheticLoadTest({ thresholds: [missed], passed: false }));
    expect(headline(page)).toBe("Failed: 1 threshold missed");
    expect(page).toContain("e2e_p99_ms&lt;100 missed (by 240 ms)");
    expect(page).toContain('"limit":{"value":100,"label":"e2e_p99_ms\\u003c100"}');
  });
  test("a loss is a failure even if the record says passed; an interrupted run has no verdict", () => {
    expect(headline(renderReport(syntheticLoadTest({ ledger: ledger({ lost: 3 }) })))).toBe("Failed");
    const interrupted = { ...facts("load-test", 30), interrupted: true };
    expect(headline(renderReport(syntheticLoadTest({ facts: interrupted })))).toStartWith("Interrupted");
  });
  test("without an acknowledged event the loss is not known", () => {
    const page = renderReport(syntheticLoadTest({ ledger: ledger({ acknowledged: 0, stored: 0 }) }));
    expect(answers(page)[1]).toEqual(["Was anything lost?", "Not known"]);
  });
  test("audit: every invariant, also one that is not promised, with the reason", () => {
    expect(renderReport(syntheticLoadTest())).not.toContain('id="audit"');
    const invariant = (name: string, status: "passed" | "failed", promised: boolean) => ({
      law: name,
      title: `synthetic invariant ${name}`,
      status,
      detail: `${name} in numbers`,
      promised,
    });
    const laws = [invariant("L1", "passed", true), invariant("L2", "failed", true), invariant("O1", "failed", false)];
    const audit = { status: "failed" as const, line: "FAILED: synthetic", laws };
    const page = renderReport(syntheticLoadTest({ audit }));
    const badges = [...page.matchAll(/<th scope="row">(\w\d)<\/th>.*?class="badge (\w+)">(.*?)</g)].map((found) =>
      found.slice(1),
    );
    expect(badges).toEqual([
      ["L1", "good", "✔ holds"],
      ["L2", "bad", "✖ broken"],
      ["O1", "doubt", "✖ broken (not promised)"],
    ]);
    expect(page).toContain("several producers at once");
    expect(violatedInvariants(audit)).toBe(1);
    expect(violatedInvariants({ ...audit, status: "unknown" })).toBeNull();
  });
  test("processes: memory and open files of each, with their growth", () => {
    expect(renderReport(syntheticLoadTest())).not.toContain('id="processes"');
    const growth = { before: 100, after: 130, percent: 30 };
    const processes = [
      { pod: "synthetic-0", container: "kafka", minutes: 42, memory_mebibytes: growth, open_files: null },
    ];
    const page = renderReport(syntheticLoadTest({ processes }));
    expect(page).toContain("100 → 130</td>");
    expect(page).toMatch(/synthetic-0<\/th><td class="number">42 min<\/td>.*30 %<\/td>.*–<\/td>/);
  });
  test("stageBands: stages begin at their marks; stages that never began are skipped", () => {
    const result = syntheticLoadTest();
    expect(stageBands(result).map(({ label, fromMs }) => [label, (fromMs - START_MS) / 1000])).toEqual([
      ["500/s", 0],
      ["5,000/s", 60],
      ["quiet", 180],
    ]);
    const recording = { ...result.recording, endedAtMs: START_MS + 100_000, marks: [] };
    expect(stageBands({ ...result, recording }).map(({ label }) => label)).toEqual(["500/s", "5,000/s"]);
  });
  test("turnsOf: the turning points of the number of replicas", () => {
    expect(turnsOf(syntheticLoadTest().scaling, "producer")).toEqual([1, 3, 1]);
    expect(turnsOf([], "producer")).toEqual([]);
  });
});

describe("report of drills", () => {
  test("first screen: passed, lost, recovery time", () => {
    const page = renderReport(syntheticDrills());
    expect(headline(page)).toStartWith("Passed");
    expect(answers(page).map(([question, answer]) => `${question} ${answer}`)).toEqual([
      "Did it pass? 4 of 4",
      "Was anything lost? Nothing",
      "How long to recover? 11.9 s typical",
    ]);
  });
  test("a failed drill is in the headline with a link, and its recovery names the amount over the budget", () => {
    const failed = syntheticDrill({
      repeat: 3,
      verdict: "failed",
      reasons: ["too slow"],
      recovery: { measured_ms: 12_500, budget_ms: 10_000 },
    });
    const page = renderReport(syntheticDrills({ drills: [...syntheticDrills().drills, failed], passed: false }));
    expect(headline(page)).toBe("Failed: 1 of 2 drills");
    expect(page).toContain("12.5 s, over the budget of 10 s by 2.5 s");
    expect(page).toContain("Shown is repeat 3 of 3");
    expect(page).toContain('<a href="#drill-delete-processor">');
  });
  test("a drill without a measured effect is inconclusive, even if the record says passed", () => {
    const drills = [syntheticDrill({ verdict: "inconclusive", effect: undefined })];
    const page = renderReport(syntheticDrills({ drills, passed: true }));
    expect(headline(page)).toBe("Inconclusive");
    expect(page).toContain("the drill proves nothing");
  });
  test("a drill without a ledger is not reported as lossless", () => {
    const page = renderReport(
      syntheticDrills({ drills: [syntheticDrill({ ledger: undefined }), syntheticDrill({ repeat: 2 })] }),
    );
    expect(answers(page)[1]).toEqual(["Was anything lost?", "Nothing seen"]);
    expect(page).toContain("1 drill run without a count");
    expect(headline(page)).toBe("Passed: every drill recovered");
    expect(page).not.toContain("nothing was lost");
  });
  test("a loss is a failure, even if the verdict of the drill is passed", () => {
    const page = renderReport(syntheticDrills({ drills: [syntheticDrill({ ledger: ledger({ lost: 1 }) })] }));
    expect(headline(page)).toBe("Failed: 1 of 1 drill");
    expect(answers(page)[1]).toEqual(["Was anything lost?", "1 lost"]);
  });
  test("worstOf: by verdict, then by the used share of the budget", () => {
    const [, repeats] = byName(syntheticDrills().drills);
    expect(worstOf(repeats!).repeat).toBe(2);
    expect(worstOf([...repeats!, syntheticDrill({ repeat: 3, verdict: "inconclusive" })]).repeat).toBe(3);
  });
  test("repeats other than the worst are compressed, and complete", () => {
    const [first, second] = [
      syntheticDrill(),
      syntheticDrill({ repeat: 2, hypothesis: "Synthetic, once more </script>" }),
    ];
    const page = renderReport(syntheticDrills({ drills: [first, second] }));
    expect(page).not.toContain("once more");
    expect(page.match(/class="lazy-section /g)).toHaveLength(1);
    const packed = /class="lazy-sections">([^<]*)<\/script>/.exec(page)![1]!;
    const [section] = JSON.parse(gunzipSync(Buffer.from(packed, "base64")).toString()) as string[];
    expect(section).toContain("once more &lt;/script&gt;");
    expect(section!.match(/<figure class="chart">/g)!.length).toBe(page.match(/<figure class="chart">/g)!.length);
    expect(renderReport(syntheticDrills({ drills: [first] }))).not.toContain('class="lazy-section');
  });
  test("69 runs of 23 drills: one folded row per drill, uPlot once, less than 1 MB", () => {
    const drills = Array.from({ length: 69 }, (_, index) =>
      syntheticDrill({ name: `drill-${index % 23}`, repeat: Math.floor(index / 23) + 1 }),
    );
    const page = renderReport(syntheticDrills({ drills }));
    expect(page.match(/<details class="drill"><summary>/g)).toHaveLength(23);
    expect(page.match(/https:\/\/github.com\/leeoniya\/uPlot/g)).toHaveLength(1);
    expect(page.length).toBeLessThan(1_000_000);
  });
  test("a run without a drill, and a drill without any data, have a page and no pass", () => {
    expect(headline(renderReport(syntheticDrills({ drills: [] })))).toBe("No drill was run");
    const recording = { startedAtMs: START_MS, endedAtMs: START_MS, timesMs: [], series: {}, marks: [] };
    const bare = syntheticDrill({
      recording,
      beats: [],
      commands: [],
      logLines: [],
      effect: undefined,
      recovery: undefined,
      ledger: undefined,
      runbook: undefined,
      verdict: "interrupted",
    });
    expect(headline(renderReport(syntheticDrills({ drills: [bare], passed: false })))).toBe("Inconclusive");
  });
  test("the link to the runbook leads from the page to the project", () => {
    expect(renderReport(syntheticDrills())).toContain('href="../../../docs/runbooks/ConsumerLagGrowing.md"');
    expect(renderReport(syntheticDrills(), { isKept: true })).toContain(
      'href="../docs/runbooks/ConsumerLagGrowing.md"',
    );
  });
});

describe("runs by their folder", () => {
  const messageOf = (work: Promise<unknown>) => work.then(String, (error: Error) => error.message);
  test("newestRun: the run that began last; other folders are ignored", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-report-test-"));
    const root = folder.path;
    expect(await messageOf(newestRun(join(root, "nothing")))).toContain("there is no run");
    const older = await createRun("drills", START_MS, root);
    const newer = await createRun("load-test", START_MS + 60_000, root);
    await mkdir(join(root, "audit-20990101T000000Z"));
    expect(await newestRun(root)).toBe(newer.id);
    expect(await messageOf(readRun(older))).toContain(`got "${older.id}"`);
    await older.writeJson("result.json", { facts: { kind: "something" } });
    expect(await messageOf(readRun(older))).toContain("must name a folder");
    await older.writeJson("result.json", syntheticDrills());
    expect((await readRun(openRun(older.id, root))).facts.kind).toBe("drills");
  });
});

describe("comparison", () => {
  test.each([
    [100, 90, "lower", "better"],
    [100, 110, "lower", "worse"],
    [100, 110, "higher", "better"],
    [100, 104, "lower", "alike"],
    [0, 1, "lower", "worse"],
    [1, 0, "lower", "better"],
    [null, 1, "lower", "not comparable"],
    [5, 6, "neither", "not comparable"],
  ] as const)("changeOf: %p then %p, %s is better: %s", (a, b, better, change) => {
    expect(changeOf(a, b, better)).toBe(change);
  });
  test("a lost event is in the headline of the comparison; different stages are named", () => {
    const page = renderComparison(
      syntheticLoadTest(),
      syntheticLoadTest({ ledger: { ...syntheticLoadTest().ledger, lost: 1 }, stages: [] }),
    );
    expect(headline(page)).toBe("B is worse than A");
    expect(page).toContain("this compares two loads");
  });
  test("alignedTo: only values near in time are compared", () => {
    const result = syntheticLoadTest();
    expect(alignedTo([0, 1400, 60_000, 9_000_000], result, "offered_events_per_second")).toEqual([
      500,
      500,
      5000,
      null,
    ]);
  });
});
