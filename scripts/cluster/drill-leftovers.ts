/** What a drill adds to a cluster while it runs, and what remains of one that was killed. */
import { type Cluster, type KubernetesObject, NAMESPACE } from "./cluster.ts";

/** Namespace of the privileged pods that inject faults; it exists only while drills run. */
export const DRILLS_NAMESPACE = `${NAMESPACE}-drills`;
const PART_OF_DRILLS = "conveyor-drills";
export const DRILL_LABELS = {
  "app.kubernetes.io/part-of": PART_OF_DRILLS,
  "app.kubernetes.io/managed-by": "resilience-test",
} as const;
/** Annotation of a StatefulSet that a drill has scaled down: its replicas before. */
export const REPLICAS_BEFORE = "conveyor.dev/drill-replicas-before";

/** The namespace of the drills; undefined where there is none, or another project's. */
export async function drillsNamespace(cluster: Cluster): Promise<KubernetesObject | undefined> {
  const live = await cluster.get<KubernetesObject>("namespace", DRILLS_NAMESPACE);
  return live?.metadata.labels?.["app.kubernetes.io/part-of"] === PART_OF_DRILLS ? live : undefined;
}

/** Signs of a drill, a sentence each: it runs now, or it was killed and its faults remain. */
export async function drillLeftovers(cluster: Cluster): Promise<string[]> {
  const [namespace, sets] = await Promise.all([
    drillsNamespace(cluster),
    cluster.list<KubernetesObject>("statefulsets", undefined, NAMESPACE),
  ]);
  const scaled = sets.filter(({ metadata }) => metadata.annotations?.[REPLICAS_BEFORE] !== undefined);
  return [
    ...(namespace ? [`namespace ${DRILLS_NAMESPACE} exists`] : []),
    ...scaled.map(({ metadata }) => `StatefulSet/${metadata.name} is scaled by a drill`),
  ];
}
