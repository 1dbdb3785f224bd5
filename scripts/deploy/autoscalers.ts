/**
 * Which object scales which workload. A workload must have one autoscaler: two revert each other's changes every few
 * seconds. KEDA creates its own HorizontalPodAutoscaler for a ScaledObject.
 */
import type { Condition, KubernetesObject } from "../cluster/cluster.ts";

/** API of metrics-server. Without it an autoscaler by CPU scales nothing, and its alert would fire for ever. */
export const METRICS_API = "metrics.k8s.io/v1beta1";
/** How it is installed. */
export const METRICS_API_INSTALL =
  "kubectl apply -f https://github.com/kubernetes-sigs/metrics-server/releases/latest/download/components.yaml (with the argument --kubelet-insecure-tls where the kubelets sign their own certificates)";

export const SCALED_OBJECT = "ScaledObject";
/** Prefix of the names of the autoscalers that KEDA creates. */
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
    /** One entry per metric; without a type where its value is unknown. */
    currentMetrics?: { type?: string }[] | null;
    currentReplicas?: number;
    desiredReplicas?: number;
    conditions?: Condition[];
  };
}

/** The HorizontalPodAutoscaler that an object is, or that KEDA creates for it; undefined for other kinds. */
export function autoscalerOf(object: KubernetesObject): { name: string; target: string } | undefined {
  if (object.kind !== HPA && object.kind !== SCALED_OBJECT) return undefined;
  const { kind = "Deployment", name } = (object as Autoscaler).spec.scaleTargetRef;
  const own = object.metadata.name;
  return { name: object.kind === HPA ? own : `${KEDA_PREFIX}${own}`, target: `${kind}/${name}` };
}

/**
 * Live autoscalers that scale the same workload as one of the wanted ones. ScaledObjects first: KEDA would create their
 * autoscaler again.
 */
export function conflictingAutoscalers(
  wanted: readonly KubernetesObject[],
  live: readonly KubernetesObject[],
): KubernetesObject[] {
  const names = new Map<string, string>();
  for (const object of wanted) {
    const scaler = autoscalerOf(object);
    if (scaler) names.set(scaler.target, scaler.name);
  }
  const conflicting = live.filter((object) => {
    const scaler = autoscalerOf(object);
    const name = scaler && names.get(scaler.target);
    return scaler !== undefined && name !== undefined && name !== scaler.name;
  });
  return conflicting.sort((a, b) => Number(a.kind === HPA) - Number(b.kind === HPA));
}
