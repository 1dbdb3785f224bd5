/** The drills' namespace and the lifetime of its pods, on a cluster in memory. */
import { expect, test } from "bun:test";
import type { Cluster, KubernetesObject, Pod } from "../../../scripts/cluster/cluster.ts";
import { DRILL_LABELS, DRILLS_NAMESPACE } from "../../../scripts/cluster/drill-leftovers.ts";
import { volumeObstacle } from "../../../scripts/drills/disk-full.ts";
import { FaultAgents, removeNamespace } from "../../../scripts/drills/fault-agents.ts";
import { MAX_VOLUME_MEBIBYTES, SPARE_VOLUME_MEBIBYTES } from "../../../services/protocol/node-agent.ts";
import { FakeCluster } from "../deploy/fake-cluster.ts";

const objectsOf = (labels: Record<string, string>): KubernetesObject[] => [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: DRILLS_NAMESPACE, labels } },
  { apiVersion: "v1", kind: "Pod", metadata: { name: "agent", namespace: DRILLS_NAMESPACE } },
];

test("removeNamespace deletes the drills' namespace, not another project's of that name", async () => {
  const ours = new FakeCluster([]).add(...objectsOf(DRILL_LABELS));
  await removeNamespace(ours);
  expect([...ours.objects.values()]).toEqual([]);

  const theirs = new FakeCluster([]).add(...objectsOf({}));
  await removeNamespace(theirs);
  expect(theirs.mutations).toEqual([]);
});

type AgentPod = Pod & {
  spec: {
    activeDeadlineSeconds: number;
    containers: { command: string[]; resources: { limits: { memory: string } } }[];
  };
};

class AgentCluster {
  readonly applied: KubernetesObject[] = [];
  apply = async (objects: KubernetesObject[]) => void this.applied.push(...objects);
  get = async (kind: string) =>
    kind === "pod" && this.agent ? { metadata: {}, status: { phase: "Running" } } : undefined;
  exec = async () => ({ stdout: '{"ok":true,"state":"S"}', stderr: "", exitCode: 0 });

  get agent(): AgentPod | undefined {
    return this.applied.find(({ kind }) => kind === "Pod") as AgentPod | undefined;
  }
}

const target = {
  metadata: { name: "kafka-0" },
  spec: { nodeName: "node-1" },
  status: { phase: "Running", containerStatuses: [{ containerID: "containerd://1" }] },
} as unknown as Pod;

test("an agent of an earlier run is replaced: a pod of another version cannot be changed", async () => {
  const cluster = new AgentCluster();
  const deleted: string[] = [];
  const kubectl = async (args: string[]) => void deleted.push(args.join(" "));
  cluster.applied.push({ apiVersion: "v1", kind: "Pod", metadata: { name: "agent-node-1" } });
  await new FaultAgents(Object.assign(cluster, { kubectl }) as unknown as Cluster, "services:1").request(target, {
    op: "state",
  });
  expect(deleted).toEqual([`delete pod agent-node-1 -n ${DRILLS_NAMESPACE} --now`]);
});

test("an agent may use as much memory as the largest volume that a drill copies into memory", async () => {
  const cluster = new AgentCluster();
  await new FaultAgents(cluster as unknown as Cluster, "services:1").request(target, { op: "state" });
  const { memory } = cluster.agent!.spec.containers[0]!.resources.limits;
  expect(Number(memory.replace("Mi", ""))).toBeGreaterThanOrEqual(MAX_VOLUME_MEBIBYTES + SPARE_VOLUME_MEBIBYTES + 200);
});

test("an agent on a cluster with a private registry has a copy of the pipeline's pull secret", async () => {
  const cluster = new AgentCluster();
  const found: Record<string, object> = {
    serviceaccount: { imagePullSecrets: [{ name: "regcred" }] },
    secret: { type: "kubernetes.io/dockerconfigjson", data: { ".dockerconfigjson": "e30=" } },
  };
  const get = async (kind: string) => found[kind] ?? (kind === "pod" && cluster.agent ? cluster.agent : undefined);
  cluster.apply = async (objects) => {
    cluster.applied.push(...objects);
    if (cluster.agent) cluster.agent.status = { phase: "Running" } as Pod["status"];
  };
  const kubectl = async () => undefined;
  await new FaultAgents(Object.assign(cluster, { get, kubectl }) as unknown as Cluster, "conveyor.invalid/s:1").request(
    target,
    { op: "state" },
  );
  expect(cluster.applied.find(({ kind }) => kind === "Secret")).toMatchObject({
    metadata: { name: "regcred", namespace: DRILLS_NAMESPACE },
    type: "kubernetes.io/dockerconfigjson",
  });
  expect(cluster.agent!.spec).toMatchObject({
    imagePullSecrets: [{ name: "regcred" }],
    containers: [{ imagePullPolicy: "Never" }],
  });
});

test.each([
  [{ usedMebibytes: 190, availableMebibytes: 862 }, undefined],
  [{ usedMebibytes: 190, availableMebibytes: 861 }, "862 MiB are needed, the node has 861"],
  [{ usedMebibytes: 190 }, "862 MiB are needed"],
  [{ usedMebibytes: 1025, availableMebibytes: 9999 }, "holds 1025 MiB; the limit is 1024"],
  [{ availableMebibytes: 9999 }, "the limit is 1024"],
])("volumeObstacle(%j): %p", (state, reason) => {
  const found = volumeObstacle(state);
  if (reason === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(reason);
});

test("agents live as long as their run, and an hour to undo the faults of an earlier one", async () => {
  for (const [lifetime, expected] of [
    [undefined, 3600],
    [10_800, 10_800],
  ] as const) {
    const cluster = new AgentCluster();
    await new FaultAgents(cluster as unknown as Cluster, "services:1", lifetime).request(target, { op: "state" });
    const { spec } = cluster.agent!;
    expect([spec.activeDeadlineSeconds, spec.containers[0]!.command]).toEqual([expected, ["sleep", String(expected)]]);
  }
});
