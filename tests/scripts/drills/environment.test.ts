/** Goal: readiness, the age of the slowest conveyor, and stored events are read correctly. Method: objects by hand. */
import { describe, expect, test } from "bun:test";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { slowestAge, unreadyAmong } from "../../../scripts/drills/environment.ts";

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

  test("does not count a terminating pod, and waits until it is deleted", () => {
    expect(unreadyAmong([...objects, pod("a-2", "a", true, true)])).toBe("a: 1 of 2 Ready");
    expect(unreadyAmong([...objects, pod("a-2", "a", true), pod("a-3", "a", true, true)])).toBe("a: 2 of 2 Ready");
  });

  test("checks only the given workloads", () => {
    expect(unreadyAmong(objects, ["b"])).toBeUndefined();
  });
});

describe("slowestAge", () => {
  const CONVEYORS = ["drill-0", "drill-1"];

  test("is the age of the conveyor that is furthest behind", () => {
    expect(slowestAge({ t: 10_000, newest: { "drill-0": 9900, "drill-1": 6000 } }, CONVEYORS, 0)).toBe(4);
  });

  test("is null without an answer, for a conveyor without events, and for events of an earlier drill", () => {
    expect(slowestAge({ t: 10_000, why: "ConnectionRefused" }, CONVEYORS, 0)).toBeNull();
    expect(slowestAge({ t: 10_000, newest: { "drill-0": 9900 } }, CONVEYORS, 0)).toBeNull();
    expect(slowestAge({ t: 10_000, newest: { "drill-0": 9900, "drill-1": 6000 } }, CONVEYORS, 7000)).toBeNull();
  });
});
