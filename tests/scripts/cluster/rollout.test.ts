import { describe, expect, test } from "bun:test";
import { blockingPods, rolloutState } from "../../../scripts/cluster/rollout.ts";

const workload = (kind: string, status: Record<string, unknown>, replicas?: number) =>
  ({
    apiVersion: "apps/v1",
    kind,
    metadata: { name: "w", generation: 2 },
    spec: replicas === undefined ? {} : { replicas },
    status,
  }) as Parameters<typeof rolloutState>[0];

describe("rolloutState", () => {
  test("a DaemonSet counts nodes", () => {
    const nodes = { observedGeneration: 2, desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberReady: 2 };
    expect(rolloutState(workload("DaemonSet", nodes))).toBeUndefined();
    expect(rolloutState(workload("DaemonSet", { ...nodes, numberReady: 1 }))).toBe("1 of 2 ready");
    expect(rolloutState(workload("DaemonSet", { ...nodes, updatedNumberScheduled: 1 }))).toBe(
      "1 of 2 updated, 2 ready",
    );
  });

  test("is undefined when every replica is updated and ready", () => {
    const ready = { observedGeneration: 2, replicas: 3, updatedReplicas: 3, readyReplicas: 3 };
    expect(rolloutState(workload("StatefulSet", ready, 3))).toBeUndefined();
    expect(
      rolloutState(workload("Deployment", { ...ready, replicas: 1, updatedReplicas: 1, readyReplicas: 1 })),
    ).toBeUndefined();
  });
  test("is not done with ready replicas of the old revision", () => {
    const old = {
      observedGeneration: 2,
      replicas: 3,
      updatedReplicas: 1,
      readyReplicas: 3,
      currentRevision: "a",
      updateRevision: "b",
    };
    expect(rolloutState(workload("StatefulSet", old, 3))).toBe("1 of 3 updated, 3 ready");
  });
  test("is not done with a status from before the change", () => {
    expect(rolloutState(workload("Deployment", { observedGeneration: 1, updatedReplicas: 1, readyReplicas: 1 }))).toBe(
      "the controller has not observed the change",
    );
  });
  test("is not done with a surplus old replica of a Deployment", () => {
    const surplus = { observedGeneration: 2, replicas: 2, updatedReplicas: 1, readyReplicas: 2 };
    expect(rolloutState(workload("Deployment", surplus, 1))).toBe("old replicas are still terminating");
  });
  test("is not done without a status", () => {
    expect(rolloutState(workload("Deployment", {}))).toBe("the controller has not observed the change");
  });
});

describe("blockingPods", () => {
  const pod = (name: string, revision: string, ready: boolean) =>
    ({
      metadata: { name, labels: { "controller-revision-hash": revision } },
      status: { conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
    }) as unknown as Parameters<typeof blockingPods>[1][number];
  const set = workload("StatefulSet", { updateRevision: "new" }, 3);

  test("names a pod of an older template that is not ready, and no other", () => {
    const pods = [pod("w-0", "old", true), pod("w-1", "old", false), pod("w-2", "new", false)];
    expect(blockingPods(set, pods)).toEqual(["w-1"]);
  });
  test("names none of a Deployment, which replaces its pods by itself", () => {
    expect(blockingPods(workload("Deployment", { updateRevision: "new" }), [pod("w-1", "old", false)])).toEqual([]);
  });
});
