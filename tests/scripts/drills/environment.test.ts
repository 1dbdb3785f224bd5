/** Goal: what a drill takes for whole, and what it keeps of a recording and of the logs. Method: objects by hand. */
import { describe, expect, test } from "bun:test";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { distinct, slice, unreadyAmong } from "../../../scripts/drills/environment.ts";

const workload = (name: string, replicas: number): KubernetesObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name },
  spec: { replicas, selector: { matchLabels: { app: name } } },
});
const pod = (name: string, app: string, ready: boolean, ending = false): KubernetesObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels: { app }, ...(ending ? { deletionTimestamp: "2026-11-25T08:00:00Z" } : {}) },
  status: { phase: "Running", conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
});

describe("unreadyAmong", () => {
  const objects = [workload("a", 2), workload("b", 1), pod("a-1", "a", true), pod("b-1", "b", true)];

  test("names workloads with fewer Ready pods than wanted", () => {
    expect(unreadyAmong([...objects, pod("a-2", "a", false)])).toBe("a: 1 of 2 Ready");
    expect(unreadyAmong([...objects, pod("a-2", "a", true)])).toBeUndefined();
  });

  test("does not count a pod on its way out, and waits until it is gone", () => {
    expect(unreadyAmong([...objects, pod("a-2", "a", true, true)])).toBe("a: 1 of 2 Ready");
    expect(unreadyAmong([...objects, pod("a-2", "a", true), pod("a-3", "a", true, true)])).toBe("a: 2 of 2 Ready");
  });

  test("looks at some workloads only, where told", () => {
    expect(unreadyAmong(objects, ["b"])).toBeUndefined();
  });
});

test("a recording's slice holds its rows and marks, and no others", () => {
  const mark = (timeMs: number) => ({ timeMs, kind: "note" as const, subject: "x", text: "y" });
  const recording = {
    startedAtMs: 0,
    endedAtMs: 3000,
    timesMs: [0, 1000, 2000, 3000],
    series: { lag_events: [1, 2, null, 4] },
    marks: [mark(500), mark(1500), mark(2500)],
  };
  expect(slice(recording, 1000, 2000)).toEqual({
    startedAtMs: 1000,
    endedAtMs: 2000,
    timesMs: [1000, 2000],
    series: { lag_events: [2, null] },
    marks: [mark(1500)],
  });
  expect(slice(recording, 5000, 6000).timesMs).toEqual([]);
});

test("what a pod says again and again is kept twice", () => {
  const lines = Array.from({ length: 50 }, (_, n) => ({ pod: "kafka-0", line: `07:3${n}: node 1 is away (try ${n})` }));
  const others = [
    { pod: "kafka-1", line: "07:31: node 1 is away (try 1)" },
    { pod: "kafka-0", line: "disk full" },
  ];
  expect(distinct([...lines, ...others])).toEqual([lines[0]!, lines[1]!, ...others]);
});
