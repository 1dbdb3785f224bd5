/** Check of the autoscalers: each scaled workload has exactly one, and all of its metrics are known. */
import { waitFor } from "../cli/wait.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import { apiVersionsOf, type Condition, type KubernetesObject, refOf } from "../cluster/cluster.ts";
import {
  type Autoscaler,
  autoscalerOf,
  conflictingAutoscalers,
  METRICS_API,
  METRICS_API_INSTALL,
  SCALED_OBJECT,
} from "../deploy/autoscalers.ts";
import { deployedStages, loadStages, type Stage } from "../deploy/stages.ts";
import { type Check, failed, passed, skipped } from "./checklist.ts";

/**
 * After a deploy metrics-server has two samples of a new pod, and Prometheus enough for a rate, within half a minute; an
 * autoscaler by CPU ignores the first half minute of a pod.
 */
const KNOWN_LIMIT_MS = 90_000;

type Scaled = KubernetesObject & { status?: { conditions?: Condition[] } };

const conditionOf = (object: { status?: { conditions?: Condition[] } }, type: string) =>
  object.status?.conditions?.find((condition) => condition.type === type);
const reasonOf = (condition: Condition | undefined) =>
  condition ? [condition.reason, condition.message].filter(Boolean).join(": ").slice(0, 200) : "no condition reported";

/**
 * Problems of the autoscaling, one sentence each.
 * @param declared the HorizontalPodAutoscalers and ScaledObjects of the manifests
 * @param live the HorizontalPodAutoscalers in the cluster
 * @param scaled the ScaledObjects in the cluster
 */
export function autoscalingProblems(
  declared: readonly KubernetesObject[],
  live: readonly Autoscaler[],
  scaled: readonly Scaled[],
): string[] {
  const problems = conflictingAutoscalers(declared, live).map(
    (object) => `${refOf(object)}: a second autoscaler for the same workload`,
  );
  for (const object of declared) {
    const wanted = autoscalerOf(object);
    if (!wanted) continue;
    const found = live.find(({ metadata }) => metadata.name === wanted.name);
    if (!found) {
      problems.push(`${wanted.target}: no HorizontalPodAutoscaler ${wanted.name}`);
      continue;
    }
    for (const type of ["AbleToScale", "ScalingActive"]) {
      const condition = conditionOf(found, type);
      if (condition?.status !== "True") problems.push(`${wanted.name}: not ${type} (${reasonOf(condition)})`);
    }
    // An autoscaler with one of two metrics still reports ScalingActive.
    const known = (found.status?.currentMetrics ?? []).filter((metric) => metric.type).length;
    const wantedMetrics = found.spec.metrics?.length ?? 0;
    if (known < wantedMetrics) problems.push(`${wanted.name}: ${known} of ${wantedMetrics} metrics are known`);
  }
  for (const object of declared.filter(({ kind }) => kind === SCALED_OBJECT)) {
    const found = scaled.find(({ metadata }) => metadata.name === object.metadata.name);
    if (!found) {
      problems.push(`no ScaledObject ${object.metadata.name}`);
      continue;
    }
    const [ready, fallback, paused] = ["Ready", "Fallback", "Paused"].map((type) => conditionOf(found, type));
    if (ready?.status !== "True") problems.push(`${refOf(found)}: not Ready (${reasonOf(ready)})`);
    if (fallback?.status === "True")
      problems.push(`${refOf(found)}: uses the fallback value instead of a metric (${reasonOf(fallback)})`);
    if (paused?.status === "True") problems.push(`${refOf(found)}: paused (${reasonOf(paused)})`);
  }
  return problems;
}

/**
 * What deploy left out because the cluster has no metrics-server, with the way out; undefined where it left nothing out.
 * @param applied names of the deployed stages
 */
export function withoutMetricsServer(
  stages: readonly Stage[],
  applied: readonly string[],
  apiVersions: ReadonlySet<string>,
): string | undefined {
  const isScaled = (stage: Stage) => applied.includes(stage.name) || applied.includes(stage.fallbackFor ?? "");
  const left = stages.filter((stage) => stage.needsApi === METRICS_API && !isScaled(stage));
  if (left.length === 0) return undefined;
  const workloads = left.flatMap(({ objects }) => objects.flatMap((object) => autoscalerOf(object)?.target ?? []));
  const fixed = `${workloads.join(", ")} keeps its number of pods`;
  return apiVersions.has(METRICS_API)
    ? `${fixed}, and the cluster has metrics-server now: bun scripts/deploy.ts adds the autoscaler`
    : `${fixed}: the cluster has no ${METRICS_API} (metrics-server); to install it: ${METRICS_API_INSTALL}; then bun scripts/deploy.ts`;
}

export const autoscalingCheck: Check<ProbeSession> = {
  id: "autoscaling",
  title: "every autoscaler knows its metrics",
  needs: ["processor-ready", "producer-ready"],
  limitMs: KNOWN_LIMIT_MS + 20_000,
  async run({ cluster }, signal) {
    const { stages } = await deployedStages(cluster);
    const objects = stages.flatMap((stage) => stage.objects);
    const applied = stages.map(({ name }) => name);
    const left = withoutMetricsServer(await loadStages(), applied, await apiVersionsOf(cluster, signal));
    const declared = objects.filter((object) => autoscalerOf(object));
    const byKeda = declared.some(({ kind }) => kind === SCALED_OBJECT);
    let problems: string[] = [];
    const poll = async () => {
      const live = await cluster.list<Autoscaler>("horizontalpodautoscalers");
      problems = autoscalingProblems(declared, live, byKeda ? await cluster.list<Scaled>("scaledobjects.keda.sh") : []);
      return problems.length === 0
        ? { done: true as const, value: live }
        : { done: false as const, state: problems.join("; ") };
    };
    const live = await waitFor(poll, {
      what: "the metrics of the autoscalers",
      limitMs: KNOWN_LIMIT_MS,
      intervalMs: 2000,
      signal,
    }).catch((error: unknown) => {
      if (signal.aborted || problems.length === 0) throw error;
      return undefined;
    });
    if (!live) return failed(problems.join("; "));
    const numbers = declared.flatMap((object) => {
      const wanted = autoscalerOf(object)!;
      const found = live.find(({ metadata }) => metadata.name === wanted.name)!;
      return `${wanted.target} ${found.status?.currentReplicas ?? 0} of ${found.spec.minReplicas ?? 1} to ${found.spec.maxReplicas}`;
    });
    const scalers = byKeda ? "lag and CPU (KEDA)" : "CPU alone (no KEDA)";
    if (left) return skipped([left, ...numbers].join("; "));
    return passed(`${numbers.join(", ")}; processors by ${scalers}`);
  },
};
