import { describe, expect, test } from "bun:test";
import { POD_CHECKS, restrictionGaps, unboundClaims } from "../../../scripts/checks/pods.ts";
import type { ProbeSession } from "../../../scripts/clients/probe-session.ts";
import type { Pod } from "../../../scripts/cluster/cluster.ts";
import { podObject } from "../../../scripts/cluster/one-off-pods.ts";

const good = () =>
  podObject({ prefix: "probe", image: "conveyor.invalid/services:1.0.0", labels: {}, command: ["sleep"] }) as Pod;

/** A pod with one changed field. */
function changed(change: (spec: Record<string, unknown> & Pod["spec"]) => void): Pod {
  const pod = structuredClone(good());
  change(pod.spec as Record<string, unknown> & Pod["spec"]);
  return pod;
}

describe("restrictionGaps", () => {
  test("returns nothing for a one-off pod of this project", () => {
    expect(restrictionGaps(good())).toEqual([]);
  });

  test.each<[string, (spec: Record<string, unknown> & Pod["spec"]) => void]>([
    ["may run as root", (spec) => Object.assign(spec.securityContext!, { runAsNonRoot: false })],
    ["may run as root", (spec) => Object.assign(spec.securityContext!, { runAsUser: 0 })],
    ["root file system is not read-only", (spec) => delete spec.containers[0]!.securityContext!.readOnlyRootFilesystem],
    [
      "capabilities are not all dropped",
      (spec) => Object.assign(spec.containers[0]!.securityContext!, { capabilities: {} }),
    ],
    [
      "adds capabilities",
      (spec) =>
        Object.assign(spec.containers[0]!.securityContext!, { capabilities: { drop: ["ALL"], add: ["SYS_ADMIN"] } }),
    ],
    ["has no seccomp profile", (spec) => delete spec.securityContext!.seccompProfile],
    ["is privileged", (spec) => Object.assign(spec.containers[0]!.securityContext!, { privileged: true })],
    [
      "allowPrivilegeEscalation is not false",
      (spec) => delete spec.containers[0]!.securityContext!.allowPrivilegeEscalation,
    ],
    ["shares a namespace of the host", (spec) => Object.assign(spec, { hostPID: true })],
    ["mounts a host path", (spec) => Object.assign(spec, { volumes: [{ name: "v", hostPath: { path: "/" } }] })],
    [
      "root file system is not read-only",
      (spec) =>
        Object.assign(spec, {
          initContainers: [
            {
              name: "i",
              image: "x",
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
            },
          ],
        }),
    ],
  ])("%s", (gap, change) => {
    expect(restrictionGaps(changed(change)).join("; ")).toContain(gap);
  });
});

describe("unboundClaims", () => {
  const claim = (phase: string, storageClassName?: string) => ({
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name: "data-kafka-0", namespace: "conveyor" },
    spec: { storageClassName },
    status: { phase },
  });
  const storage = (name: string, isDefault: string) => ({
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name, annotations: { "storageclass.kubernetes.io/is-default-class": isDefault } },
  });
  const [standard, slow] = [storage("standard", "true"), storage("slow", "false")];

  test("returns nothing for bound claims", () => {
    expect(unboundClaims([claim("Bound", "slow")], [slow])).toEqual([]);
  });

  test.each([
    [claim("Pending"), [slow], "it names no StorageClass, and none has the annotation"],
    [claim("Pending"), [standard], "created before the cluster had a default StorageClass"],
    [claim("Pending", "fast"), [standard], "the cluster has no StorageClass fast"],
    [claim("Pending", "slow"), [slow], "class slow: kubectl -n conveyor describe pvc data-kafka-0"],
    [claim("Lost", "slow"), [slow], "data-kafka-0 is Lost"],
  ])("names the claim and the reason: %#", (unbound, classes, reason) => {
    const [problem, ...others] = unboundClaims([unbound], classes);
    expect(problem).toStartWith("data-kafka-0 is ");
    expect(problem).toContain(reason);
    expect(others).toEqual([]);
  });
});

describe("ready", () => {
  /** The check of a workload of two replicas; `ready` are the ready ones of each query, the last one for all later ones. */
  async function check(name: string, ready: number[]) {
    let queries = 0;
    const cluster = {
      get: async () => ({
        metadata: { name },
        spec: { replicas: 2 },
        status: { readyReplicas: ready[Math.min(queries++, ready.length - 1)] },
      }),
      pods: async () => [],
    };
    const found = POD_CHECKS.ready.find(({ id }) => id === `${name}-ready`)!;
    const outcome = await found.run(
      { cluster, stores: async () => ({}) } as unknown as ProbeSession,
      new AbortController().signal,
    );
    return { ok: outcome.ok, detail: outcome.detail, queries };
  }

  test("waits for a pod that the autoscaler just added", async () => {
    expect(await check("producer", [1, 2])).toEqual({ ok: true, detail: "2 of 2, 0 restarts", queries: 2 });
  });

  test("fails at once for a workload without an autoscaler", async () => {
    expect(await check("influxdb", [1, 2])).toEqual({ ok: false, detail: "1 of 2 ready", queries: 1 });
  });
});
