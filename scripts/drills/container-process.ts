/** Faults that hit the first process of a container from its node: whose it is, which pod is taken, and when it cannot be. */
import type { Pod } from "../cluster/cluster.ts";
import type { Drill, DrillContext } from "./drill.ts";
import { anyPod, freshPod, getEvents, getPods } from "./targets.ts";

/** One drill of such a fault, without the fault itself. */
export type ProcessTier = Pick<Drill, "name" | "title" | "hypothesis" | "budgetMs" | "budgetReason" | "runbook"> & {
  workload: string;
  /** Any pod of the workload when absent. */
  choose?: (context: DrillContext) => Promise<Pod>;
};

/** What the drills of such faults have in common. */
export function ofProcess({ workload, choose: _, ...tier }: ProcessTier) {
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

/** The pod whose process is hit, and never one whose restart the kubelet would hold back. */
export async function podToHit(context: DrillContext, { workload, choose }: ProcessTier): Promise<Pod> {
  return await freshPod(context, (await choose?.(context)) ?? (await anyPod(context.cluster, workload)));
}
