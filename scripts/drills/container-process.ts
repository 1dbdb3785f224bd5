/** Common parts of the drills that signal the first process of a container from its node. */
import type { Pod } from "../cluster/cluster.ts";
import type { Drill, DrillContext } from "./drill.ts";
import { anyPod, freshPod, getEvents, getPods } from "./targets.ts";

/** One drill without its fault. */
export type ProcessTier = Pick<Drill, "name" | "title" | "hypothesis" | "budgetMs" | "budgetReason" | "runbook"> & {
  workload: string;
  /** Any pod of the workload when absent. */
  choose?: (context: DrillContext) => Promise<Pod>;
};

/** Parts of a drill that do not depend on the signal. */
export function processDrill({ workload, choose: _, ...tier }: ProcessTier) {
  return {
    ...tier,
    recoversFrom: "effect",
    holdMs: 0,
    workloads: [workload],
    commands: [getPods(workload), getEvents()],
    async obstacle({ cluster, agents }: DrillContext) {
      return await agents.obstacle(await anyPod(cluster, workload), false);
    },
  } satisfies Partial<Drill>;
}

/** The pod whose process gets the signal; never one whose restart the kubelet would delay. */
export async function targetPod(context: DrillContext, { workload, choose }: ProcessTier): Promise<Pod> {
  return await freshPod(context, (await choose?.(context)) ?? (await anyPod(context.cluster, workload)));
}
