/** Time, cluster, images and versions of a run. */
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import type { RunFacts, RunKind } from "./result.ts";

type Node = KubernetesObject & {
  status: { capacity: { cpu: string; memory: string }; nodeInfo: { kubeletVersion: string } };
};

/** Bytes of a node's memory quantity ("24110480Ki"). */
function memoryBytes(quantity: string): number {
  const match = /^(\d+)(Ki|Mi|Gi|)$/.exec(quantity);
  if (!match) throw new Error(`memory: must be a number with Ki, Mi or Gi; got "${quantity}"`);
  return Number(match[1]) * { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 }[match[2] as "" | "Ki" | "Mi" | "Gi"];
}

/** Facts at the start of a run; the result has its end. */
export async function runFacts(
  cluster: Cluster,
  run: { id: string; kind: RunKind; startedAtMs: number },
): Promise<RunFacts> {
  const nodes = (await cluster.json<{ items: Node[] }>(["get", "nodes"])).items;
  const pods = await cluster.list<Pod>("pods", "app.kubernetes.io/part-of=conveyor", NAMESPACE);
  const images: Record<string, string> = {};
  const versions: Record<string, string> = { bun: Bun.version };
  for (const { metadata, spec, status } of pods) {
    spec.containers.forEach(({ name, image }) => {
      const state = status.containerStatuses?.find((container) => container.name === name);
      if (state) images[image] = state.imageID;
    });
    const [name, version] = [
      metadata.labels?.["app.kubernetes.io/name"],
      metadata.labels?.["app.kubernetes.io/version"],
    ];
    if (name && version) versions[name] = version;
  }
  return {
    id: run.id,
    kind: run.kind,
    startedAt: new Date(run.startedAtMs).toISOString(),
    endedAt: new Date(run.startedAtMs).toISOString(),
    interrupted: false,
    versions,
    images,
    cluster: {
      context: cluster.context,
      kubernetes: nodes[0]?.status.nodeInfo.kubeletVersion ?? "unknown",
      nodes: nodes.map(({ status }) => ({
        cpus: Number(status.capacity.cpu),
        memoryBytes: memoryBytes(status.capacity.memory),
      })),
    },
  };
}
