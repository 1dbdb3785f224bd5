import { describe, expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { BulkHistogram, METRIC_TABLE, Metrics } from "../../../services/runtime/metrics.ts";

describe("Metrics", () => {
  test("every name and help follows the rules, and every service has metrics", async () => {
    for (const [name, row] of Object.entries(METRIC_TABLE)) {
      expect(name).toMatch(/^(conveyor|process|kafka)_[a-z0-9_]+$/);
      expect(row.help).toMatch(/^[A-Z0-9].*\.$/);
      expect(name.endsWith("_total")).toBe(row.kind === "counter");
    }
    for (const service of ["producer", "processor", "lag-exporter"] as const) {
      const text = await new Metrics(service).registry.metrics();
      for (const [name, row] of Object.entries(METRIC_TABLE)) {
        expect(text.includes(`# HELP ${name} `)).toBe((row.services as readonly string[]).includes(service));
      }
    }
  });

  test("process_open_fds counts the open files of this process", async () => {
    const openFiles = async () =>
      Number(/^process_open_fds (\d+)$/m.exec(await new Metrics("producer").registry.metrics())![1]);
    const before = await openFiles();
    expect(before).toBeGreaterThan(2);
    const files = Array.from({ length: 20 }, () => openSync(import.meta.path, "r"));
    expect(await openFiles()).toBe(before + 20);
    for (const file of files) closeSync(file);
  });

  test("a metric of another service is an error", () => {
    expect(() => new Metrics("producer").counter("conveyor_processor_events_consumed_total")).toThrow(
      "is not a metric of",
    );
  });

  test("BulkHistogram counts into cumulative buckets", async () => {
    const histogram = new BulkHistogram("h", "Help.", [0.1, 1, 10]);
    for (const value of [-5, 0.1, 0.100001, 1, 5, 100]) histogram.observe(value);
    const { values } = await histogram.get();
    const of = (name: string, le?: number | string) =>
      values.find(({ metricName, labels }) => metricName === name && (le === undefined || labels.le === le))?.value;
    expect([0.1, 1, 10, "+Inf"].map((le) => of("h_bucket", le))).toEqual([2, 4, 5, 6]);
    expect(of("h_count")).toBe(6);
    expect(of("h_sum")).toBeCloseTo(106.200001, 5);
  });
});
