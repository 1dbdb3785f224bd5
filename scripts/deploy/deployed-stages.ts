/** The stages as they were deployed on a cluster: all but those that the last deploy left out, which the Namespace names. */
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { loadStages, SKIPPED_STAGES, type Stage } from "./stages.ts";

/** @returns leftOut: names of the stages that a person may miss; a stand-in that was not needed is none of them */
export async function deployedStages(cluster: Cluster): Promise<{ stages: Stage[]; leftOut: string[] }> {
  const namespace = await cluster.get<KubernetesObject>("namespace", NAMESPACE);
  const names = (namespace?.metadata.annotations?.[SKIPPED_STAGES] ?? "").split(",").filter(Boolean);
  const all = await loadStages();
  return {
    stages: all.filter(({ name }) => !names.includes(name)),
    leftOut: names.filter((name) => !all.find((stage) => stage.name === name)?.standsInFor),
  };
}
