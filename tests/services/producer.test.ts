/** The sources of each producer pod: scaling out must not add simulated events. */
import { describe, expect, test } from "bun:test";
import { sourcesOf } from "../../services/producer.ts";

describe("sourcesOf", () => {
  const sources = ["simulated", "http"] as const;
  test.each([
    [0, ["simulated", "http"]],
    [1, ["http"]],
    [4, ["http"]],
  ])("pod %d of a scaled producer", (ordinal, expected) => {
    expect(sourcesOf({ sources, ordinal, fleetPods: 1 })).toEqual(expected as never);
  });

  test("FLEET_PODS selects the number of pods with a fleet", () => {
    expect(sourcesOf({ sources, ordinal: 2, fleetPods: 3 })).toEqual(["simulated", "http"]);
    expect(sourcesOf({ sources, ordinal: 0, fleetPods: 0 })).toEqual(["http"]);
  });

  test("every pod has its file or stdin source", () => {
    expect(sourcesOf({ sources: ["file"], ordinal: 7, fleetPods: 1 })).toEqual(["file"]);
  });
});
