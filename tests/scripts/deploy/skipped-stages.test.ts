/** Which stages a cluster cannot have: an optional one without its image, one whose API the server does not know or nobody works on. */
import { describe, expect, test } from "bun:test";
import { describeSkipped, type Stage, skippedStages } from "../../../scripts/deploy/stages.ts";

const stage = (name: string, image: string, more: Partial<Stage> = {}): Stage => ({
  name,
  title: name,
  files: [],
  awaits: [],
  objects: [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name },
      spec: { template: { spec: { containers: [{ name, image }] } } },
    },
  ],
  ...more,
});

describe("leftOutStages", () => {
  const core = stage("core", "example/core:1");
  const pictures = stage("pictures", "example/pictures:1", { optional: true });
  const monitors = stage("monitors", "example/core:1", { needsApi: "monitoring.coreos.com/v1" });

  test("leaves out an optional stage without its image, and says which", () => {
    const missing = new Set(["example/pictures:1"]);
    expect(skippedStages([core, pictures], missing, new Set())).toEqual([
      { stage: "pictures", reason: "no image example/pictures:1" },
    ]);
  });

  test("never leaves out a stage that is not optional: its missing image is an error elsewhere", () => {
    expect(skippedStages([core], new Set(["example/core:1"]), new Set())).toEqual([]);
  });

  test("leaves out a stage whose API the server does not know, and only then", () => {
    expect(skippedStages([monitors], new Set(), new Set(["apps/v1"]))).toEqual([
      { stage: "monitors", reason: "the cluster has no monitoring.coreos.com/v1" },
    ]);
    expect(skippedStages([monitors], new Set(), new Set(["monitoring.coreos.com/v1"]))).toEqual([]);
  });

  describe("a stage with a stand-in", () => {
    const metrics = stage("metrics", "example/metrics:1", { optional: true });
    const operated = stage("operated", "example/core:1", {
      needsApi: "scaler/v1",
      install: "install it so",
      needsStage: "metrics",
    });
    const plain = stage("plain", "example/core:1", { standsInFor: "operated" });
    const all = [metrics, operated, plain];
    const lines = (missing: string[], apis: string[]) =>
      skippedStages(all, new Set(missing), new Set(apis)).map((left) => [left.stage, describeSkipped(left)] as const);

    test("is applied where it can be; then the stand-in is left out, and nobody need know", () => {
      expect(lines([], ["scaler/v1"])).toEqual([["plain", undefined]]);
    });

    test("without its API: one line says so, how to get it, and what stands in", () => {
      expect(lines([], [])).toEqual([
        ["operated", "left out: operated (the cluster has no scaler/v1; to get it: install it so); plain stands in"],
      ]);
    });

    test("with its API and nobody who works on it: one line says why, and the other one stands in", () => {
      const left = skippedStages(all, new Set(), new Set(["scaler/v1"]), new Map([["scaler/v1", "its pods are gone"]]));
      expect(left.map(describeSkipped)).toEqual([
        "left out: operated (the cluster has scaler/v1, but nobody works on it: its pods are gone; to get it: install it so); plain stands in",
      ]);
    });

    test("without the stage that it rests on, whatever the API", () => {
      expect(lines(["example/metrics:1"], ["scaler/v1"])).toEqual([
        ["metrics", "left out: metrics (no image example/metrics:1)"],
        ["operated", "left out: operated (metrics is left out); plain stands in"],
      ]);
    });

    test("exactly one of the two is applied, whatever is missing", () => {
      for (const missing of [[], ["example/metrics:1"]]) {
        for (const apis of [[], ["scaler/v1"]]) {
          const left = lines(missing, apis).map(([name]) => name);
          expect(["operated", "plain"].filter((name) => !left.includes(name))).toHaveLength(1);
        }
      }
    });
  });
});
