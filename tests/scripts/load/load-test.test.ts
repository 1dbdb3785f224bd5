/** Goal: limits, measures, ledger and comparison of a load test are computed correctly. Method: recordings by hand. */
import { describe, expect, test } from "bun:test";
import { compareRows, compareText } from "../../../scripts/load/compare.ts";
import { LoadDisplay, progressLine, progressLines } from "../../../scripts/load/load-display.ts";
import { FoundSequences, loadLedger } from "../../../scripts/load/load-ledger.ts";
import {
  bestMean,
  gapAfter,
  memoryGrowth,
  rebalanceGap,
  rebalanceLatency,
  timeToScale,
} from "../../../scripts/load/load-measures.ts";
import { PROFILES } from "../../../scripts/load/load-profiles.ts";
import { observerSeconds } from "../../../scripts/load/load-run.ts";
import { checkLimit, mergeLimits, parseLimit } from "../../../scripts/load/thresholds.ts";
import { requireComparable } from "../../../scripts/load-test.ts";
import type { Recording, Row } from "../../../scripts/recording/recording.ts";
import type { LoadTestResult } from "../../../scripts/recording/result.ts";
import { type ConveyorLedger, parseGeneratorLine } from "../../../services/protocol/load-generator.ts";
import { facts, syntheticLoadTest } from "../report/synthetic.ts";

const recording = (series: Recording["series"]): Recording => {
  const rows = Math.max(...Object.values(series).map((values) => values.length));
  const timesMs = Array.from({ length: rows }, (_, index) => (index + 1) * 1000);
  return { startedAtMs: 0, endedAtMs: rows * 1000, timesMs, series, marks: [] };
};

describe("thresholds", () => {
  test("checkLimit: within the limit, or missed by how much", () => {
    expect(checkLimit(parseLimit("e2e_p99_ms < 1000"), { e2e_p99_ms: 999 })).toEqual({
      text: "e2e_p99_ms<1000",
      metric: "e2e_p99_ms",
      limit: 1000,
      value: 999,
      ok: true,
    });
    expect(checkLimit(parseLimit("e2e_p99_ms<1000"), { e2e_p99_ms: 1240.5 })).toMatchObject({
      ok: false,
      by: "by 240.5 ms",
    });
    expect(checkLimit(parseLimit("processor_replicas_max>=3"), { processor_replicas_max: 1 })).toMatchObject({
      ok: false,
      by: "by 2",
    });
    expect(checkLimit(parseLimit("lost=0"), { lost: 7 })).toMatchObject({ ok: false, by: "by 7 events" });
    expect(checkLimit(parseLimit("e2e_p99_ms<5"), { e2e_p99_ms: 5 })).toMatchObject({
      ok: false,
      by: "it is exactly the limit",
    });
  });

  test("checkLimit: a missing measure fails", () => {
    expect(checkLimit(parseLimit("lost=0"), {})).toMatchObject({ ok: false, value: null, by: "it was not measured" });
    expect(checkLimit(parseLimit("time_to_scale_seconds<=30"), { time_to_scale_seconds: null }).ok).toBe(false);
  });

  test.each([
    ["lost", "threshold: must be METRIC, one of <= >= < > =, and a number"],
    ["lost=few", "threshold: must be METRIC, one of <= >= < > =, and a number"],
    ["speed<3", 'got "speed"'],
    ["toString=1", "threshold: must be METRIC"],
    ["constructor=1", 'got "constructor"'],
  ])("%s is refused", (text, message) => {
    expect(() => parseLimit(text)).toThrow(message);
  });

  test("mergeLimits: a later limit replaces an earlier one of the same metric and direction", () => {
    const limits = mergeLimits(["lost=0", "e2e_p99_ms<2000", "e2e_p99_ms<1"].map(parseLimit));
    expect(limits.map(({ text }) => text)).toEqual(["lost=0", "e2e_p99_ms<1"]);
  });

  test("a soak limits the growth of every process; with drills it allows what they cause, and no loss", () => {
    const flat = ["memory_growth_percent<=20", "open_files_growth_percent<=20"];
    expect(PROFILES.soak.thresholds).toEqual(expect.arrayContaining(["lost=0", "lag_max_events<=5000", ...flat]));
    expect(PROFILES["soak-drills"].thresholds).toEqual(
      expect.arrayContaining(["lost=0", "duplicated=0", "lag_settle_seconds<=120", ...flat]),
    );
    // A load that is too short to measure the growth has not shown that there is none.
    expect(checkLimit(parseLimit(flat[0]!), { memory_growth_percent: null }).ok).toBe(false);
  });

  test("parseLimit: the limits of every profile", () => {
    for (const { thresholds } of Object.values(PROFILES)) for (const text of thresholds) parseLimit(text);
  });
});

describe("measures", () => {
  const scaled = (timeMs: number) => ({ timeMs, workload: "processor", from: 1, to: 2 }) as const;

  test("timeToScale: from the lag at its threshold to the first additional processor", () => {
    const seen = recording({ lag_events: [0, 400, 1200, 3000, 100] });
    const ready = [
      { workload: "producer", timeMs: 3500 },
      { workload: "processor", timeMs: 9250 },
    ];
    expect(timeToScale(seen, ready, 1000, 1000)).toBe(6.3);
    expect(timeToScale(seen, ready, 5000, 1000)).toBeNull();
    expect(timeToScale(seen, [], 1000, 1000)).toBeNull();
    expect(timeToScale(seen, ready, undefined, 1000)).toBeNull();
    expect(timeToScale(seen, [{ workload: "processor", timeMs: 2000 }], 1000, 1000)).toBe(0);
  });

  test("rebalanceGap: the longest run of rows below the share, without unread rows", () => {
    const seen = recording({ stored_events_per_second: [200, 210, 190, 5, 0, null, 0, 400, 0, 200, 200] });
    expect(gapAfter(seen, 3500)).toBe(3);
    expect(rebalanceGap(seen, [scaled(3500)])).toBe(3);
    expect(rebalanceGap(seen, [{ ...scaled(3500), workload: "producer" }])).toBeNull();
    expect(rebalanceGap(recording({ stored_events_per_second: [9, 9, 9, 9] }), [scaled(2500)])).toBe(0);
  });

  test("gapAfter: the age of the newest event shows a gap while a new pod is not found; unknown is not 0", () => {
    const stored = [200, 200, 200, null, null, null, 200, 200];
    const withAges = (...ages: (number | null)[]) =>
      recording({ stored_events_per_second: stored, freshness_seconds: [0.1, 0.1, 0.1, ...ages, 0.1, 0.1] });
    expect(gapAfter(withAges(0.1, 0.2, 0.1), 3500)).toBe(0);
    expect(gapAfter(withAges(1.1, 2.1, 3.1), 3500)).toBe(3);
    expect(gapAfter(withAges(1.1, null, 2.1), 3500)).toBe(2);
    expect(gapAfter(recording({ stored_events_per_second: [200, 200, 200, null, null] }), 3500)).toBeNull();
  });

  test("rebalanceGap: a low rate at the end of a load is no gap", () => {
    const seen = recording({
      stored_events_per_second: [9000, 9000, 9000, 200, 190, 0, 210],
      acknowledged_events_per_second: [9000, 9000, 9000, 200, 200, 200, 200],
    });
    expect(gapAfter(seen, 2500)).toBe(1);
  });

  test("rebalanceLatency: the highest p99 after a change of the number of processors", () => {
    const seen = recording({ e2e_p99_ms: [50, 60, 900, null, 70] });
    expect(rebalanceLatency(seen, [scaled(2500)])).toBe(900);
    expect(rebalanceLatency(seen, [scaled(3500)])).toBe(70);
    expect(rebalanceLatency(seen, [])).toBeNull();
  });

  test("bestMean: the highest mean of consecutive rows", () => {
    const seen = recording({ stored_events_per_second: [0, 100, 300, null, 500, 500, 0] });
    expect(bestMean(seen, "stored_events_per_second", 2)).toBe(500);
    expect(bestMean(seen, "stored_events_per_second", 5)).toBeNull();
  });

  test("memoryGrowth: per pod, from the second to the last quarter; more pods are no growth", () => {
    const quarters = (...values: number[]) => values.flatMap((value) => new Array<number>(10).fill(value));
    const grown = (memory: number[], pods: number[]) =>
      memoryGrowth(
        recording({ processor_memory_mebibytes: memory, processor_replicas_ready: pods }),
        "processor",
        1000,
        1000 * (memory.length + 1),
      );
    expect(grown(quarters(20, 100, 110, 130), quarters(1, 1, 1, 1))).toBe(30);
    expect(grown(quarters(20, 100, 200, 200), quarters(1, 1, 2, 2))).toBe(0);
    expect(grown(quarters(20, 100, 90, 80), quarters(1, 1, 1, 1))).toBe(-20);
    expect(grown([1, 2, 3, 4], [1, 1, 1, 1])).toBeNull();
    expect(memoryGrowth(recording({ lag_events: quarters(1, 1, 1, 1) }), "processor", 1000, 41_000)).toBeNull();
  });
});

test("loadLedger: a missing identity is lost unless it was dead-lettered", () => {
  const found = new FoundSequences();
  for (const seq of [0, 1, 2, 4, 4, 5000]) found.add("a", seq);
  const conveyors: ConveyorLedger[] = [
    { conveyor: "a", acknowledged: [[0, 4]], failed: [], unknown: [[5000, 5001]] },
    { conveyor: "b", acknowledged: [[0, 1]], failed: [[2, 2]], unknown: [] },
  ];
  expect(loadLedger(12, conveyors, found, 0)).toEqual({
    offered: 12,
    acknowledged: 7,
    failed: 3,
    unknown: 2,
    stored: 5,
    dead_lettered: 0,
    lost: 3,
    duplicated: 1,
  });
  expect(loadLedger(12, conveyors, found, 2)).toMatchObject({ dead_lettered: 2, lost: 1 });
});

test("observerSeconds: the observer's pod outlives the stages and the phases after them", () => {
  expect(observerSeconds([{ seconds: 7200, events_per_second: 1000 }])).toBe(7200 + 485 + 300);
});

test("parseGeneratorLine skips log lines and truncated lines", () => {
  expect(parseGeneratorLine('{"summary":{"offered":5}}')).toMatchObject({ summary: { offered: 5 } });
  expect(parseGeneratorLine('{"timestamp":"x","event":"summary"}')).toBeUndefined();
  expect(parseGeneratorLine('{"summary":{"offe')).toBeUndefined();
});

const progress = (index: number, row: Row = {}) => ({
  phase: "load" as const,
  elapsedMs: 65_000,
  totalMs: 120_000,
  stage: { index, stage: { seconds: 60, events_per_second: 5000 } },
  row,
});

test("progress shows an unknown value as –", () => {
  const seen = progress(1, { lag_events: 1234, stored_events_per_second: null, processor_replicas_ready: 3 });
  expect(progressLines(seen)[0]).toBe("load, stage 2: 5,000 events/s   1:05 of 2:00");
  expect(progressLine(seen)).toContain("stored – events/s, lag 1,234");
});

test("LoadDisplay redraws a block on a terminal, and prints a line at intervals and at each new stage elsewhere", () => {
  const written: string[] = [];
  const terminal = new LoadDisplay(false, { write: (text: string) => written.push(text), columns: 40 }, true);
  terminal.show(progress(0));
  terminal.show(progress(0));
  terminal.clear();
  expect(written).toHaveLength(4);
  expect(written[0]!.split("\n").every((line) => line.length < 40)).toBe(true);
  expect([written[1], written[3]]).toEqual(["\u001b[5A\r\u001b[0J", "\u001b[5A\r\u001b[0J"]);
  const lines: string[] = [];
  const log = new LoadDisplay(false, { write: (text: string) => lines.push(text) }, false);
  for (const index of [0, 0, 0, 1]) log.show(progress(index));
  expect(lines).toHaveLength(2);
});

describe("compare", () => {
  const result = (id: string, p99: number, lost: number): LoadTestResult =>
    syntheticLoadTest({
      facts: { ...facts("load-test", 60), id },
      stages: [{ seconds: 10, events_per_second: 500 }],
      measured: { e2e_p99_ms: p99, lost },
      passed: lost === 0,
    });

  test("lists the differences", () => {
    const rows = new Map(compareRows(result("a", 100, 0), result("b", 150, 2)).map((row) => [row.name, row]));
    expect(rows.get("e2e_p99_ms")).toMatchObject({ a: "100", b: "150", change: "+50 (+50 %)" });
    expect(rows.get("lost")).toMatchObject({ a: "0", b: "2", change: "+2" });
    expect(rows.get("verdict")).toMatchObject({ a: "passed", b: "failed", change: "differs" });
    expect(rows.get("stages")).toMatchObject({ a: "10s@500", change: "" });
    expect(rows.get("lag_settle_seconds")).toMatchObject({ a: "–", b: "–", change: "" });
  });

  test("compareText aligns its columns", () => {
    const [a, b] = [result("a", 100, 0), result("b", 150, 2)];
    const lines = compareText(a, b).split("\n");
    const column = lines.find((line) => line.startsWith("e2e_p99_ms"))!.indexOf("100") + 3;
    expect(lines[0]!.indexOf("A") + 1).toBe(column);
  });
});

test("an audit of more points of version 2 than it compares is refused before the load", () => {
  const stages = [{ seconds: 1000, events_per_second: 5000 }];
  expect(() => requireComparable("v1", stages)).not.toThrow();
  expect(() => requireComparable("v2", stages)).toThrow(
    "--audit: compares at most 4,000,000 points of version 2; these stages send 5,000,000",
  );
  expect(() => requireComparable("v2", [{ seconds: 1000, events_per_second: 4000 }])).not.toThrow();
});
