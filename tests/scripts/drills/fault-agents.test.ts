/** The drills' namespace and the lifetime of its pods, on a cluster in memory. */
import { expect, test } from "bun:test";
import type { Cluster, KubernetesObject, Pod } from "../../../scripts/cluster/cluster.ts";
import { DRILL_LABELS, DRILLS_NAMESPACE } from "../../../scripts/cluster/drill-leftovers.ts";
import { FaultAgents, removeNamespace } from "../../../scripts/drills/fault-agents.ts";
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

type AgentPod = Pod & { spec: { activeDeadlineSeconds: number; containers: { command: string[] }[] } };

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
