/** Which stages a cluster cannot have: an optional one without its image, one whose API the server does not know. */
import { describe, expect, test } from "bun:test";
import { leftOutStages, type Stage } from "../../../scripts/toolkit/stages.ts";

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
    expect(leftOutStages([core, pictures], missing, new Set())).toEqual([
      { stage: "pictures", reason: "no image example/pictures:1" },
    ]);
  });

  test("never leaves out a stage that is not optional: its missing image is an error elsewhere", () => {
    expect(leftOutStages([core], new Set(["example/core:1"]), new Set())).toEqual([]);
  });

  test("leaves out a stage whose API the server does not know, and only then", () => {
    expect(leftOutStages([monitors], new Set(), new Set(["apps/v1"]))).toEqual([
      { stage: "monitors", reason: "the cluster has no monitoring.coreos.com/v1" },
    ]);
    expect(leftOutStages([monitors], new Set(), new Set(["monitoring.coreos.com/v1"]))).toEqual([]);
  });
});
