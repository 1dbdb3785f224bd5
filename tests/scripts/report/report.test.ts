/** Reports say what the record says, the bad before the good, and escape all that came from elsewhere. */
import { describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { violatedInvariants } from "../../../scripts/load/load-run.ts";
import { createRun, openRun } from "../../../scripts/recording/run-folder.ts";
import { chart, chartStack } from "../../../scripts/report/charts.ts";
import { alignedTo, changeOf, renderComparison } from "../../../scripts/report/compare-page.ts";
import { byName, worstOf } from "../../../scripts/report/drills-report.ts";
import { formatMs, formatNumber, formatShort } from "../../../scripts/report/format.ts";
import { html, plainText } from "../../../scripts/report/html.ts";
import { stageBands, turnsOf } from "../../../scripts/report/load-report.ts";
import { inShort } from "../../../scripts/report/log-summary.ts";
import { renderReport } from "../../../scripts/report/page.ts";
import { placeInRows, timeTicks, valueTicks } from "../../../scripts/report/scales.ts";
import { newestRun, readRun } from "../../../scripts/report.ts";
import { facts, ledger, START_MS, syntheticDrill, syntheticDrills, syntheticLoadTest } from "./synthetic.ts";

const headline = (page: string) => /<h1>(.*?)<\/h1>/.exec(page)?.[1] ?? "";
const answers = (page: string) =>
  [...page.matchAll(/<section class="answer"><h2>(.*?)<\/h2>\s*<p class="big[^"]*">(.*?)<\/p>/g)].map(
    ([, question, answer]) => [question, answer],
  );

describe("html", () => {
  test("what is put in is text; HTML stays HTML; lists and nothing", () => {
    expect(html`<p title="${'"'}">${"<b>&'"}${html`<i>x</i>`}${[1, html`<br>`]}${false}${null}</p>`.text).toBe(
      '<p title="&quot;">&lt;b&gt;&amp;&#39;<i>x</i>1<br></p>',
    );
  });
  test("a terminal's colours and control characters are not text", () => {
    expect(plainText("\u001b[31mred\u001b[0m\u0007\u0000 \u009b1m\ttab\r\nnew\u001b]0;title")).toBe("red 1m\ttab\nnew");
  });
});

describe("scales", () => {
  test.each([
    [0, false, [0, 0.2, 0.4, 0.6, 0.8, 1]],
    [1, true, [0, 1]],
    [4, true, [0, 1, 2, 3, 4]],
    [11, true, [0, 3, 6, 9, 12]],
    [4980, false, [0, 1000, 2000, 3000, 4000, 5000]],
    [0.7, false, [0, 0.2, 0.4, 0.6, 0.8]],
  ])("ticks of %d (whole: %p)", (max, whole, ticks) => {
    expect(valueTicks(max, whole)).toEqual(ticks);
  });
  test("ticks cover the highest value and are few, whatever it is", () => {
    for (let max = 0.0003; max < 1e9; max *= 1.37) {
      const ticks = valueTicks(max);
      expect(ticks.at(-1)!).toBeGreaterThanOrEqual(max * (1 - 1e-9));
      expect(ticks.length).toBeLessThanOrEqual(6);
    }
  });
  test("time: round distances from the origin, before and behind it", () => {
    const ticks = timeTicks(START_MS - 20_000, START_MS + 55_000, START_MS);
    expect(ticks.map(({ label }) => label)).toEqual(["−15 s", "0", "+15 s", "+30 s", "+45 s"]);
    expect(timeTicks(START_MS, START_MS + 3_600_000, START_MS).map(({ label }) => label)).toContain("+30:00");
  });
  test("intervals that touch get rows of their own", () => {
    const rows = placeInRows([
      { from: 0, to: 10 },
      { from: 5, to: 12 },
      { from: 10, to: 20 },
      { from: 11, to: 30 },
    ]);
    expect(rows).toEqual([0, 1, 0, 2]);
  });
});

describe("words", () => {
  test("durations and numbers as a person reads them", () => {
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
])("a log line in short: %s", (line, short) => {
  expect(inShort(line)).toBe(short);
});

describe("chart", () => {
  const timesMs = [0, 1, 2, 3, 4, 5].map((second) => START_MS + second * 1000);
  const pathOf = (values: (number | null)[], step = false) =>
    /<path class="curve[^>]* d="([^"]*)"/.exec(
      chart({ title: "T", unit: "s", timesMs, series: [{ name: "a", label: "A", values, step }] }),
    )![1]!;
  test("a gap stays a gap: nothing is drawn over it, and nothing falls to zero", () => {
    const path = pathOf([10, 10, null, null, 10, 10]);
    expect(path.match(/M/g)).toHaveLength(2);
    expect(path).toBe("M0 12h400M1600 12h400");
  });
  test("a point between two gaps is a dot", () => {
    expect(pathOf([null, 10, null, null, 10, 10])).toBe("M400 12h0.01M1600 12h400");
    expect(pathOf([10, null, null, null, null, 10])).toBe("M0 12h0.01M2000 12h0.01");
  });
  test("a step stays at its value until the next", () => {
    expect(pathOf([10, 10, 0, 0, 0, 10], true)).toBe("M0 12h800v288h1200v-288");
  });
  test("from point to point, each as far as the one before it", () => {
    expect(pathOf([0, 10, 5, 5, 10, 0])).toBe("M0 300l400-288 400 144h400l400-144 400 288");
  });
  test("charts of a stack share what stands behind them, and numbers lie beside them once", () => {
    const series = (name: string) => [{ name, label: name, values: [1, 1, null, 0.123456, 1234.5, 1234.4] }];
    const { text } = chartStack({
      label: "S",
      timesMs,
      marks: [{ timeMs: START_MS + 1000, kind: "fault", subject: "x", text: "x" }],
      stages: [{ fromMs: START_MS, toMs: START_MS + 5000, label: "before", tone: "before" }],
      charts: ["a", "b", "c"].map((title) => ({ title, unit: "s", series: series(title) })),
    });
    expect(text.match(/<path class="mark mark-fault"/g)).toHaveLength(1);
    const [bands, lines] = [...text.matchAll(/<svg id="(behind-\w+)"/g)].map((found) => found[1]);
    const shown = [...text.matchAll(/<use href="#(behind-\w+)"/g)].map((found) => found[1]);
    // The bands once more in the strip of labels.
    expect(shown).toEqual([bands, bands, lines, bands, lines]);
    expect(text).toContain('"charts":[["1,,-,0.123,1235,1234"],');
  });
  test("thousands of points: highest and lowest stay", () => {
    const many = Array.from({ length: 20_000 }, (_, index) => (index === 12_345 ? 100 : 1));
    const page = chart({
      title: "T",
      unit: "s",
      timesMs: many.map((_, index) => START_MS + index * 1000),
      series: [{ name: "a", label: "A", values: many }],
    });
    expect(page).toContain('d="M0 297h1232l3-285 1 285h760"');
    expect(page.length).toBeLessThan(30_000);
  });
  test("nothing measured: says so, in the picture and in words", () => {
    const page = chart({
      title: "T",
      unit: "s",
      timesMs,
      series: [{ name: "a", label: "A", values: timesMs.map(() => null) }],
    });
    expect(page).toContain(">not measured</text>");
    expect(page).toContain("A: not measured");
  });
});

describe("report of a load test", () => {
  test("the first screen answers: passed, lost, followed", () => {
    const page = renderReport(syntheticLoadTest());
    expect(headline(page)).toStartWith("Passed");
    expect(answers(page)).toEqual([
      ["Did it pass?", "Yes"],
      ["Was anything lost?", "Nothing"],
      ["Did it follow the load?", "processor 1 → 4 → 1"],
    ]);
  });
  test("a missed threshold is in the headline, with how much", () => {
    const missed = { text: "e2e_p99_ms<100", metric: "e2e_p99_ms", limit: 100, value: 340, ok: false, by: "by 240 ms" };
    const page = renderReport(syntheticLoadTest({ thresholds: [missed], passed: false }));
    expect(headline(page)).toBe("Failed: 1 threshold missed");
    expect(page).toContain("e2e_p99_ms&lt;100 missed (by 240 ms)");
    expect(page).toContain('class="limit"');
  });
  test("loss is never a pass, whatever the record's own flag says; an interrupted run has no verdict", () => {
    expect(headline(renderReport(syntheticLoadTest({ ledger: ledger({ lost: 3 }) })))).toBe("Failed");
    const interrupted = { ...facts("load-test", 30), interrupted: true };
    expect(headline(renderReport(syntheticLoadTest({ facts: interrupted })))).toStartWith("Interrupted");
  });
  test("nothing acknowledged is not 'nothing lost'", () => {
    const page = renderReport(syntheticLoadTest({ ledger: ledger({ acknowledged: 0, stored: 0 }) }));
    expect(answers(page)[1]).toEqual(["Was anything lost?", "Not known"]);
  });
  test("the audit of a load: every law, also the one that does not count, and why", () => {
    expect(renderReport(syntheticLoadTest())).not.toContain('id="audit"');
    const law = (name: string, status: "passed" | "failed", promised: boolean) => ({
      law: name,
      title: `synthetic law ${name}`,
      status,
      detail: `${name} in numbers`,
      promised,
    });
    const laws = [law("L1", "passed", true), law("L2", "failed", true), law("O1", "failed", false)];
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
  test("stages follow their marks; those that never came are left out", () => {
    const result = syntheticLoadTest();
    expect(stageBands(result).map(({ label, fromMs }) => [label, (fromMs - START_MS) / 1000])).toEqual([
      ["500/s", 0],
      ["5,000/s", 60],
      ["quiet", 180],
    ]);
    const recording = { ...result.recording, endedAtMs: START_MS + 100_000, marks: [] };
    expect(stageBands({ ...result, recording }).map(({ label }) => label)).toEqual(["500/s", "5,000/s"]);
  });
  test("replicas are told by their turns", () => {
    expect(turnsOf(syntheticLoadTest().scaling, "producer")).toEqual([1, 3, 1]);
    expect(turnsOf([], "producer")).toEqual([]);
  });
});

describe("report of drills", () => {
  test("the first screen answers: passed, lost, how long", () => {
    const page = renderReport(syntheticDrills());
    expect(headline(page)).toStartWith("Passed");
    expect(answers(page).map(([question, answer]) => `${question} ${answer}`)).toEqual([
      "Did it pass? 4 of 4",
      "Was anything lost? Nothing",
      "How long to recover? 11.9 s typical",
    ]);
  });
  test("one failed drill among many is in the headline, and its bar says by how much", () => {
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
  });
  test("no effect seen: inconclusive, even if the record's own flag says passed", () => {
    const drills = [syntheticDrill({ verdict: "inconclusive", effect: undefined })];
    const page = renderReport(syntheticDrills({ drills, passed: true }));
    expect(headline(page)).toBe("Inconclusive");
    expect(page).toContain("this proves nothing");
  });
  test("a drill without a ledger is not called lossless", () => {
    const page = renderReport(
      syntheticDrills({ drills: [syntheticDrill({ ledger: undefined }), syntheticDrill({ repeat: 2 })] }),
    );
    expect(answers(page)[1]).toEqual(["Was anything lost?", "Nothing seen"]);
    expect(page).toContain("1 not accounted for");
    expect(headline(page)).toBe("Passed: it broke and it healed");
    expect(page).not.toContain("nothing was lost");
  });
  test("a loss is a failure, whatever the drill's own verdict says", () => {
    const page = renderReport(syntheticDrills({ drills: [syntheticDrill({ ledger: ledger({ lost: 1 }) })] }));
    expect(headline(page)).toBe("Failed: 1 of 1 drill");
    expect(answers(page)[1]).toEqual(["Was anything lost?", "1 lost"]);
  });
  test("of repeats the worst one speaks", () => {
    const [, repeats] = byName(syntheticDrills().drills);
    expect(worstOf(repeats!).repeat).toBe(2);
    expect(worstOf([...repeats!, syntheticDrill({ repeat: 3, verdict: "inconclusive" })]).repeat).toBe(3);
  });
  test("repeats that are folded away are packed, whole", () => {
    const [first, second] = [
      syntheticDrill(),
      syntheticDrill({ repeat: 2, hypothesis: "Synthetic, once more </script>" }),
    ];
    const page = renderReport(syntheticDrills({ drills: [first, second] }));
    expect(page).not.toContain("once more");
    expect(page.match(/class="packed-part /g)).toHaveLength(1);
    const packed = /class="packed-parts">([^<]*)<\/script>/.exec(page)![1]!;
    const [part] = JSON.parse(gunzipSync(Buffer.from(packed, "base64")).toString()) as string[];
    expect(part).toContain("once more &lt;/script&gt;");
    expect(part!.match(/<figure class="chart">/g)!.length).toBe(page.match(/<figure class="chart">/g)!.length);
    expect(renderReport(syntheticDrills({ drills: [first] }))).not.toContain('class="packed-part');
  });
  test("a run without a drill, a drill without anything: no pass, no crash", () => {
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
  test("the runbook's link leads from the page to the project", () => {
    expect(renderReport(syntheticDrills())).toContain('href="../../../docs/runbooks/ConsumerLagGrowing.md"');
    expect(renderReport(syntheticDrills(), { projectPath: ".." })).toContain(
      'href="../docs/runbooks/ConsumerLagGrowing.md"',
    );
  });
});

describe("runs by their folder", () => {
  const messageOf = (work: Promise<unknown>) => work.then(String, (error: Error) => error.message);
  test("the newest is the one that began last; folders of others are none", async () => {
    const root = await mkdtemp(join(tmpdir(), "conveyor-report-test-"));
    try {
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
    } finally {
      await rm(root, { recursive: true, force: true });
    }
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
  ] as const)("%p then %p, %s is good: %s", (a, b, better, change) => {
    expect(changeOf(a, b, better)).toBe(change);
  });
  test("a lost event is in the headline of the comparison, and other stages are said", () => {
    const page = renderComparison(
      syntheticLoadTest(),
      syntheticLoadTest({ ledger: { ...syntheticLoadTest().ledger, lost: 1 }, stages: [] }),
    );
    expect(headline(page)).toBe("B is worse than A");
    expect(page).toContain("this compares two loads");
  });
  test("ticks of one run stand for those of the other only where they are near", () => {
    const result = syntheticLoadTest();
    expect(alignedTo([0, 1400, 60_000, 9_000_000], result, "offered_events_per_second")).toEqual([
      500,
      500,
      5000,
      null,
    ]);
  });
});
