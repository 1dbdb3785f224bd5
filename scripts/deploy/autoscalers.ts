/**
 * Who scales which workload. A workload must have one autoscaler: two undo each other's work every few seconds. KEDA makes
 * its own HorizontalPodAutoscaler out of a ScaledObject, so a switch from one way to the other has to take away what the
 * other left.
 */
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { KEDA_API } from "./keda.ts";

export const SCALED_OBJECT = "ScaledObject";
/** KEDA's own beginning for the names of the autoscalers that it makes. */
const KEDA_PREFIX = "keda-hpa-";
const HPA = "HorizontalPodAutoscaler";

export interface Autoscaler extends KubernetesObject {
  spec: {
    scaleTargetRef: { kind?: string; name: string };
    minReplicas?: number;
    maxReplicas: number;
    metrics?: { type: string }[];
  };
  status?: {
    /** An entry per metric; without a type where it is not known. */
    currentMetrics?: { type?: string }[] | null;
    currentReplicas?: number;
    desiredReplicas?: number;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
  };
}

/** The HorizontalPodAutoscaler that an object is, or that KEDA makes out of it; undefined for everything else. */
export function autoscalerOf(object: KubernetesObject): { name: string; target: string } | undefined {
  if (object.kind !== HPA && object.kind !== SCALED_OBJECT) return undefined;
  const { kind = "Deployment", name } = (object as Autoscaler).spec.scaleTargetRef;
  const own = object.metadata.name;
  return { name: object.kind === HPA ? own : `${KEDA_PREFIX}${own}`, target: `${kind}/${name}` };
}

/** Of the autoscalers in the cluster those that scale what one of the wanted ones scales, and are none of them. */
export function conflictingAutoscalers(
  wanted: readonly KubernetesObject[],
  live: readonly KubernetesObject[],
): KubernetesObject[] {
  const names = new Map<string, string>();
  for (const object of wanted) {
    const scaler = autoscalerOf(object);
    if (scaler) names.set(scaler.target, scaler.name);
  }
  return live.filter((object) => {
    const scaler = autoscalerOf(object);
    const name = scaler && names.get(scaler.target);
    return scaler !== undefined && name !== undefined && name !== scaler.name;
  });
}

/** The autoscalers in the cluster that would work against those among the objects. */
export async function findConflictingAutoscalers(
  cluster: Cluster,
  wanted: readonly KubernetesObject[],
): Promise<KubernetesObject[]> {
  if (!wanted.some((object) => autoscalerOf(object))) return [];
  return conflictingAutoscalers(wanted, await cluster.list<KubernetesObject>("horizontalpodautoscalers"));
}

/**
 * Removes autoscalers; one that KEDA made goes with its ScaledObject where the API server still knows those, or KEDA
 * would make it again.
 */
export async function removeConflictingAutoscalers(
  cluster: Cluster,
  rivals: readonly KubernetesObject[],
  apiVersions: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const remove = async (kind: string, name: string) => {
    await cluster.kubectl(["delete", kind, name, "-n", NAMESPACE, "--ignore-not-found"], { signal });
  };
  for (const { metadata } of rivals) {
    const made = metadata.name.startsWith(KEDA_PREFIX) ? metadata.name.slice(KEDA_PREFIX.length) : undefined;
    if (made && apiVersions.has(KEDA_API)) await remove("scaledobject", made);
    await remove("hpa", metadata.name);
  }
}
