/** The stages as they were deployed on a cluster: all but those that the last deploy left out, which the Namespace names. */
import { type Cluster, type KubernetesObject, NAMESPACE } from "./cluster.ts";
import { LEFT_OUT, loadStages, type Stage } from "./stages.ts";

export async function deployedStages(cluster: Cluster): Promise<{ stages: Stage[]; leftOut: string[] }> {
  const namespace = await cluster.get<KubernetesObject>("namespace", NAMESPACE);
  const leftOut = (namespace?.metadata.annotations?.[LEFT_OUT] ?? "").split(",").filter(Boolean);
  const stages = (await loadStages()).filter(({ name }) => !leftOut.includes(name));
  return { stages, leftOut };
}
