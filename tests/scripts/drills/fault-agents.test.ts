/** The drills' namespace on a cluster in memory. */
import { expect, test } from "bun:test";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { DRILL_LABELS, DRILLS_NAMESPACE } from "../../../scripts/cluster/drill-leftovers.ts";
import { removeNamespace } from "../../../scripts/drills/fault-agents.ts";
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
