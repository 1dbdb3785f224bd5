/**
 * Which stages a deploy applies, which it leaves out, and which it leaves running as they are: an optional stage that runs
 * is worth more than an image that cannot be had this time (a network, a mirror or an assembly that failed).
 */
import { apiVersionsOf, type Cluster, type KubernetesObject, NAMESPACE, refOf } from "../cluster/cluster.ts";
import { isKedaLeaving, KEDA_API } from "./keda.ts";
import { isOfThisProject } from "./orphans.ts";
import { describeSkipped, SKIPPED_STAGES, type SkippedStage, type Stage, skippedStages, whyNoImage } from "./stages.ts";

/** A stage that runs from an earlier deploy, and of which this one cannot get an image: nothing of it is touched. */
export interface KeptStage {
  stage: string;
  reason: string;
  /** References of those of its workloads that are in the cluster. */
  workloads: string[];
  /** Command that removes its workloads; a deploy after it, still without the image, removes what is left of the stage. */
  takeAway: string;
}

type Workload = KubernetesObject & { status?: { readyReplicas?: number; numberReady?: number } };

/** Pods of a workload that are Ready; a DaemonSet counts nodes. */
const READY_PODS: Record<string, (workload: Workload) => number> = {
  Deployment: ({ status }) => status?.readyReplicas ?? 0,
  StatefulSet: ({ status }) => status?.readyReplicas ?? 0,
  DaemonSet: ({ status }) => status?.numberReady ?? 0,
};

/**
 * Optional stages without an image that run all the same: at least one of their workloads has a pod that is Ready. Where
 * nothing is Ready there is nothing to lose.
 * @throws OperatorError when the cluster cannot be read: what cannot be seen is not taken for stopped.
 */
export async function keptStages(
  cluster: Cluster,
  stages: readonly Stage[],
  missingImages: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<KeptStage[]> {
  const kept: KeptStage[] = [];
  for (const stage of stages) {
    const reason = whyNoImage(stage, missingImages);
    if (!reason) continue;
    const workloads = (
      await cluster.existing(
        stage.objects.filter(({ kind }) => kind in READY_PODS),
        signal,
      )
    ).filter(isOfThisProject);
    if (!workloads.some((workload) => READY_PODS[workload.kind]!(workload) > 0)) continue;
    const takeAway = deleteCommand(cluster, workloads);
    kept.push({ stage: stage.name, reason, workloads: workloads.map(refOf), takeAway });
  }
  return kept;
}

function deleteCommand(cluster: Cluster, workloads: readonly KubernetesObject[]): string {
  const byNamespace = Map.groupBy(workloads, ({ metadata }) => metadata.namespace ?? NAMESPACE);
  return [...byNamespace]
    .map(([namespace, objects]) => {
      const names = objects.map(({ kind, metadata }) => `${kind.toLowerCase()}/${metadata.name}`).join(" ");
      return `kubectl --context ${cluster.context} -n ${namespace} delete ${names}`;
    })
    .join(" && ");
}

/** One line for a person about a stage that is kept: what that means, and what to do. */
export function describeKept({ stage, reason, takeAway }: KeptStage): string {
  return `kept: ${stage} (${reason}): it runs on as an earlier deploy left it, and is not updated; deploy again when its images can be had; to take it away: ${takeAway}, then deploy again`;
}

/** Lines for a person about every stage that is not applied; none where there is nothing to know. */
export function describeNotApplied({ leftOut, kept }: Pick<StageSelection, "leftOut" | "kept">): string[] {
  return [...kept.map(describeKept), ...leftOut.map(describeSkipped).filter((line) => line !== undefined)];
}

export interface StageSelection {
  /** Those that are applied, in order. */
  stages: Stage[];
  leftOut: SkippedStage[];
  kept: KeptStage[];
  /** ConfigMaps of the kept stages, as they are in the cluster: pods of other stages mount them. */
  keptConfiguration: KubernetesObject[];
  apiVersions: Set<string>;
  kedaLeaves: boolean;
}

/**
 * Splits the stages into those that are applied to this cluster, those that run there and stay as they are, and those that
 * are left out. A kept stage is there: stages that rest on it are applied, and the Namespace does not name it as left out,
 * so that validate looks at it as at any other.
 */
export async function selectStages(
  cluster: Cluster,
  stages: readonly Stage[],
  images: readonly { ref: string; missing: boolean }[],
  signal: AbortSignal,
  whyIdle: () => Promise<string | undefined>,
): Promise<StageSelection> {
  const missing = new Set(images.filter((image) => image.missing).map(({ ref }) => ref));
  const apiVersions = await apiVersionsOf(cluster, signal);
  const kedaLeaves = apiVersions.has(KEDA_API) && (await isKedaLeaving(cluster, signal));
  if (kedaLeaves) apiVersions.delete(KEDA_API);
  const idle = apiVersions.has(KEDA_API) ? await whyIdle() : undefined;
  const kept = await keptStages(cluster, stages, missing, signal);
  const isKept = ({ name }: Stage) => kept.some(({ stage }) => stage === name);
  const others = stages.filter((stage) => !isKept(stage));
  const leftOut = skippedStages(others, missing, apiVersions, new Map(idle ? [[KEDA_API, idle]] : []));
  const names = leftOut.map(({ stage }) => stage);
  const possible = others.filter(({ name }) => !names.includes(name));
  const noted = possible.map((stage) => ({
    ...stage,
    objects: stage.objects.map((object) => {
      if (object.kind !== "Namespace" || object.metadata.name !== NAMESPACE || names.length === 0) return object;
      const annotations = { ...object.metadata.annotations, [SKIPPED_STAGES]: names.join(",") };
      return { ...object, metadata: { ...object.metadata, annotations } };
    }),
  }));
  const configuration = stages
    .filter(isKept)
    .flatMap(({ objects }) => objects.filter(({ kind }) => kind === "ConfigMap"));
  const keptConfiguration = await cluster.existing(configuration, signal);
  return { stages: noted, leftOut, kept, keptConfiguration, apiVersions, kedaLeaves };
}
