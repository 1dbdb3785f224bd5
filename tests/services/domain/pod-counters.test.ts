/** Rates from the counters of pods that start, end and restart. */
import { expect, test } from "bun:test";
import { parseMetrics, quantile } from "../../../services/domain/exposition.ts";
import { mergeHistograms, PodWatch } from "../../../services/domain/pod-counters.ts";

const OPTIONS = { counters: ["events_total"], histograms: ["latency"], startedAtMs: 100_000 };
const metrics = (startSeconds: number, events: number, below1: number, all: number) =>
  parseMetrics(
    [
      `process_start_time_seconds ${startSeconds}`,
      `events_total{source="http"} ${events}`,
      `latency_bucket{le="1"} ${below1}`,
      `latency_bucket{le="+Inf"} ${all}`,
      `latency_count ${all}`,
    ].join("\n"),
  );

test("an older pod returns no gain for its first sample, then rates", () => {
  const watch = new PodWatch(OPTIONS);
  expect(watch.add(metrics(50, 1000, 0, 0), 101_000)).toBeUndefined();
  const gain = watch.add(metrics(50, 1400, 10, 10), 103_000)!;
  expect(gain.perSecond.get("events_total")).toBe(200);
  expect(gain.histograms.get("latency")!.count).toBe(10);
});

test("a pod newer than the observation counts from its start", () => {
  const watch = new PodWatch(OPTIONS);
  expect(watch.add(metrics(105, 300, 0, 0), 108_000)!.perSecond.get("events_total")).toBe(100);
});

test("counters start at zero after a restart", () => {
  const watch = new PodWatch(OPTIONS);
  watch.add(metrics(50, 1000, 40, 50), 101_000);
  const gain = watch.add(metrics(102, 30, 1, 2), 104_000)!;
  expect(gain.perSecond.get("events_total")).toBe(10);
  expect(gain.histograms.get("latency")!.count).toBe(2);
});

test("mergeHistograms returns one histogram of several pods", () => {
  const [a, b] = [metrics(105, 0, 90, 100), metrics(105, 0, 10, 100)].map((samples) => {
    const watch = new PodWatch(OPTIONS);
    return watch.add(samples, 110_000)!;
  });
  const merged = mergeHistograms([a!.histograms.get("latency")!, b!.histograms.get("latency")!]);
  expect(merged.count).toBe(200);
  expect(quantile(merged, 0.5)).toBe(1);
  expect(quantile(merged, 0.25)).toBe(0.5);
});

test("parseMetrics skips unwanted series", () => {
  const text = 'a_total 1\nb_total{x="1"} 2\n# HELP c\nc_total 3';
  expect(parseMetrics(text, (name) => name === "b_total")).toEqual([{ name: "b_total", labels: { x: "1" }, value: 2 }]);
});
