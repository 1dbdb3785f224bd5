/** The deployed autoscalers: bounds of the workloads, and the lag per processor. */
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { quantity } from "./pod-usage.ts";
import type { ScaledWorkload } from "./result.ts";

interface Metric {
  type: string;
  external?: { metric: { name: string }; target: { value?: string; averageValue?: string } };
}
type Hpa = KubernetesObject & {
  spec: { scaleTargetRef: { name: string }; minReplicas?: number; maxReplicas: number; metrics?: Metric[] };
};
type ScaledObject = KubernetesObject & {
  spec: { triggers: { name?: string; metadata?: { threshold?: string; query?: string } }[] };
};

export interface Autoscalers {
  /** Bounds per workload with an autoscaler. */
  bounds: Partial<Record<ScaledWorkload, { min: number; max: number }>>;
  /** Target of the lag per processor, in events; undefined: no scaling by lag. */
  lagThreshold: number | undefined;
}

const LAG_METRIC = "kafka_consumergroup_lag";

export async function readAutoscalers(cluster: Cluster): Promise<Autoscalers> {
  const hpas = await cluster.list<Hpa>("hpa");
  const bounds: Autoscalers["bounds"] = {};
  for (const { spec } of hpas) {
    const name = spec.scaleTargetRef.name;
    if (name === "producer" || name === "processor")
      bounds[name] = { min: spec.minReplicas ?? 1, max: spec.maxReplicas };
  }
  return { bounds, lagThreshold: (await lagOfScaledObject(cluster)) ?? lagOfHpa(hpas) };
}

async function lagOfScaledObject(cluster: Cluster): Promise<number | undefined> {
  // Without KEDA the kind is unknown.
  const { stdout, exitCode } = await cluster.kubectl(
    ["get", "scaledobjects.keda.sh", "-n", NAMESPACE, "-o", "json", "--ignore-not-found"],
    { allowFailure: true },
  );
  if (exitCode !== 0 || stdout.trim() === "") return undefined;
  const triggers = (JSON.parse(stdout) as { items: ScaledObject[] }).items.flatMap(({ spec }) => spec.triggers);
  const threshold = triggers.find(({ metadata }) => metadata?.query?.includes(LAG_METRIC))?.metadata?.threshold;
  return threshold === undefined ? undefined : Number(threshold);
}

function lagOfHpa(hpas: readonly Hpa[]): number | undefined {
  const external = hpas
    .filter(({ spec }) => spec.scaleTargetRef.name === "processor")
    .flatMap(({ spec }) => spec.metrics ?? [])
    .find((metric) => metric.external?.metric.name.includes("lag"))?.external;
  const text = external?.target.averageValue ?? external?.target.value;
  return text === undefined ? undefined : quantity(text);
}
