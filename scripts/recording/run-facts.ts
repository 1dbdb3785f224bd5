/** Time, cluster, images and versions of a run. */
import type { LoadEvents } from "../../services/protocol/load-generator.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { quantity } from "./pod-usage.ts";
import type { RunFacts, RunKind } from "./result.ts";

type Node = KubernetesObject & {
  status: { capacity: { cpu: string; memory: string }; nodeInfo: { kubeletVersion: string } };
};

/** Facts at the start of a run; the result has its end. */
export async function runFacts(
  cluster: Cluster,
  run: { id: string; kind: RunKind; startedAtMs: number; events: LoadEvents },
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
    const { "app.kubernetes.io/name": name, "app.kubernetes.io/version": version } = metadata.labels ?? {};
    if (name && version) versions[name] = version;
  }
  return {
    id: run.id,
    kind: run.kind,
    startedAt: new Date(run.startedAtMs).toISOString(),
    endedAt: new Date(run.startedAtMs).toISOString(),
    interrupted: false,
    events: run.events,
    versions,
    images,
    cluster: {
      context: cluster.context,
      kubernetes: nodes[0]?.status.nodeInfo.kubeletVersion ?? "unknown",
      nodes: nodes.map(({ status: { capacity } }) => ({
        cpus: Number(capacity.cpu),
        memoryBytes: quantity(capacity.memory),
      })),
    },
  };
}
