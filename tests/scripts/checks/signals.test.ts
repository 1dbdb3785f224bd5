/** The table of signals: its comparison with findings, its rows by stage, and its metrics against the services' own table. */
import { describe, expect, test } from "bun:test";
import {
  eventKinds,
  expectedRows,
  missingMetrics,
  SIGNALS,
  type SignalRow,
  targetsNotUp,
} from "../../../scripts/checks/signals.ts";
import type { Target } from "../../../scripts/clients/prometheus.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { METRIC_TABLE } from "../../../services/runtime/metrics.ts";

const row: SignalRow = { service: "a", metrics: ["up_down"], moving: ["done_total"] };
const names = (...list: string[]) => new Map([["a", new Set(list)]]);

describe("missingMetrics", () => {
  test("returns nothing when every metric exists and every counter rose", () => {
    expect(missingMetrics([row], names("up_down", "done_total"), names("done_total"))).toEqual([]);
  });
  test("names a missing metric", () => {
    expect(missingMetrics([row], names("done_total"), names("done_total"))).toEqual(["a: no up_down"]);
  });
  test("names a counter that did not rise", () => {
    expect(missingMetrics([row], names("up_down", "done_total"), names())).toEqual(["a: did not rise: done_total"]);
  });
  test("names a service without any metric", () => {
    expect(missingMetrics([row], new Map(), new Map())).toEqual(["a: no metrics"]);
  });
});

describe("targetsNotUp", () => {
  test("names a target that fails and one that is not scraped yet, never with an empty reason", () => {
    const target = (instance: string, health: Target["health"], lastError = ""): Target => ({
      labels: { job: "producer", instance },
      scrapeUrl: `https://${instance}/metrics`,
      health,
      lastError,
    });
    const targets = [target("a", "up"), target("b", "down", "connection refused"), target("c", "unknown")];
    expect(targetsNotUp(targets)).toEqual(["producer b: connection refused", "producer c: not scraped yet"]);
  });
});

describe("eventKinds", () => {
  const line = (fields: object) => JSON.stringify({ timestamp: "t", level: "info", service: "a", ...fields });
  test("reads kinds from complete lines", () => {
    expect(eventKinds(`${line({ event: "starting" })}\n${line({ event: "running" })}\n`)).toEqual(
      new Set(["starting", "running"]),
    );
  });
  test("ignores truncated lines, plain text, and lines without time, level or service", () => {
    expect(eventKinds(`${line({ event: "x" }).slice(0, 20)}\nhello\n{"event":"y"}`)).toEqual(new Set());
  });
});

describe("SIGNALS", () => {
  test("every row is expected where every stage is deployed, in the namespace of its workload", async () => {
    const rows = expectedRows(await loadStages());
    expect(rows.map(({ service }) => service)).toEqual(SIGNALS.map(({ service }) => service));
    expect(rows.find(({ service }) => service === "promtail")?.namespace).toBe("conveyor-logging");
  });

  test("rows of a skipped stage are not expected", async () => {
    const stages = (await loadStages()).filter(({ name }) => name !== "metrics");
    const services = expectedRows(stages).map(({ service }) => service);
    for (const service of ["prometheus", "alertmanager", "kube-state-metrics"]) {
      expect(services).not.toContain(service);
    }
    expect(services).toContain("processor");
  });

  test.each(["producer", "processor", "lag-exporter"] as const)(
    "%s: every metric is in the services' own table",
    (name) => {
      const { metrics, moving = [] } = SIGNALS.find(({ service }) => service === name)!;
      for (const metric of [...metrics, ...moving]) {
        const base = metric.replace(/_count$/, "");
        const entry = (METRIC_TABLE as Record<string, { services: readonly string[] }>)[base];
        expect(entry?.services, metric).toContain(name);
      }
    },
  );
});
