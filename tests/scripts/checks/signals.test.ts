/** The judges of the signal matrix, on small findings made by hand; and the matrix against the services' own table. */
import { describe, expect, test } from "bun:test";
import { eventKinds, missingMetrics, SIGNALS, type SignalRow } from "../../../scripts/checks/signals.ts";
import { STAGES } from "../../../scripts/deploy/stages.ts";
import { METRIC_TABLE } from "../../../services/runtime/metrics.ts";

const row: SignalRow = { service: "a", stage: "s", metrics: ["up_down"], moving: ["done_total"] };
const names = (...list: string[]) => new Map([["a", new Set(list)]]);

describe("missingMetrics", () => {
  test("nothing is missing when all are there and the moving ones moved", () => {
    expect(missingMetrics([row], names("up_down", "done_total"), names("done_total"))).toEqual([]);
  });
  test("a metric that is not there is named", () => {
    expect(missingMetrics([row], names("done_total"), names("done_total"))).toEqual(["a: no up_down"]);
  });
  test("a counter that stands still is named", () => {
    expect(missingMetrics([row], names("up_down", "done_total"), names())).toEqual(["a: did not rise: done_total"]);
  });
  test("a service that gives nothing at all is named", () => {
    expect(missingMetrics([row], new Map(), new Map())).toEqual(["a: nothing"]);
  });
});

describe("eventKinds", () => {
  const line = (fields: object) => JSON.stringify({ timestamp: "t", level: "info", service: "a", ...fields });
  test("reads kinds from whole lines", () => {
    expect(eventKinds(`${line({ event: "starting" })}\n${line({ event: "running" })}\n`)).toEqual(
      new Set(["starting", "running"]),
    );
  });
  test("a line that was cut off, prose, or one without time, level or service is no event", () => {
    expect(eventKinds(`${line({ event: "x" }).slice(0, 20)}\nhello\n{"event":"y"}`)).toEqual(new Set());
  });
});

describe("the matrix", () => {
  test("its stages are there", () => {
    const stages = STAGES.map(({ name }) => name);
    for (const { stage, service } of SIGNALS) expect(stages, service).toContain(stage);
  });

  test.each(["producer", "processor", "lag-exporter"] as const)(
    "%s: what it names is in the services' table",
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
