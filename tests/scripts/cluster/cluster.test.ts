import { describe, expect, test } from "bun:test";
import { type KubernetesObject, refOf, sameContent } from "../../../scripts/cluster/cluster.ts";

const map = (data: Record<string, string>, resourceVersion: string, more: Partial<KubernetesObject["metadata"]> = {}) =>
  ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "rules", namespace: "conveyor", resourceVersion, ...more },
    data,
  }) as KubernetesObject;

describe("sameContent", () => {
  test("is true for a new resource version with the same content (another owner of fields)", () => {
    expect(sameContent(map({ a: "1" }, "10"), map({ a: "1" }, "11"))).toBe(true);
  });
  test("is false for another value, label or annotation", () => {
    expect(sameContent(map({ a: "1" }, "10"), map({ a: "2" }, "11"))).toBe(false);
    expect(sameContent(map({ a: "1" }, "10"), map({ a: "1" }, "11", { labels: { x: "y" } }))).toBe(false);
    expect(sameContent(map({ a: "1" }, "10"), map({ a: "1" }, "11", { annotations: { x: "y" } }))).toBe(false);
  });
  test("is false for a change in a dry run, which keeps the resource version", () => {
    expect(sameContent(map({ a: "1" }, "10"), map({ a: "2" }, "10"))).toBe(false);
  });
  test("is true for another status", () => {
    const before = { ...map({ a: "1" }, "10"), status: { replicas: 1 } };
    expect(sameContent(before, { ...map({ a: "1" }, "11"), status: { replicas: 2 } })).toBe(true);
  });
});

test("refOf names the namespace unless it is the pipeline's", () => {
  expect(refOf(map({}, "1"))).toBe("ConfigMap/rules");
  expect(refOf(map({}, "1", { namespace: "conveyor-logging" }))).toBe("ConfigMap/rules (conveyor-logging)");
});
