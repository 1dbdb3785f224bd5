/** Which pods of the producer make events of their own: scaling must not add load. */
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

  test("more fleets, or none, where somebody asks for it", () => {
    expect(sourcesOf({ sources, ordinal: 2, fleetPods: 3 })).toEqual(["simulated", "http"]);
    expect(sourcesOf({ sources, ordinal: 0, fleetPods: 0 })).toEqual(["http"]);
  });

  test("an input is read by whoever was given it", () => {
    expect(sourcesOf({ sources: ["file"], ordinal: 7, fleetPods: 1 })).toEqual(["file"]);
  });
});
