/** Restores the pipeline after a run that was killed. */
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { restoreVolume } from "./disk-full.ts";
import { FaultAgents, healLeftovers, removeNamespace } from "./fault-agents.ts";
import { restoreBrokers } from "./two-brokers-down.ts";

const LEFTOVER_PODS = "app.kubernetes.io/name in (observer, load-generator)";

/** Undoes every fault and removes every pod of earlier runs of drills. @returns a sentence for each. */
export async function restorePipeline(cluster: Cluster, image: string): Promise<string[]> {
  const agents = new FaultAgents(cluster, image);
  const undone = [await restoreBrokers(cluster), ...(await healLeftovers(cluster, agents))];
  undone.push(await restoreVolume(cluster, agents));
  for (const { metadata } of await cluster.list("pods", LEFTOVER_PODS)) {
    // A load test's pods are skipped.
    if (!metadata.labels?.["conveyor.dev/run"]?.includes("-drills")) continue;
    await cluster.kubectl(["delete", "pod", metadata.name, "-n", NAMESPACE, "--now", "--wait=false"]);
    undone.push(`${metadata.name}: removed, leftover pod of an earlier run`);
  }
  await removeNamespace(cluster, true);
  return undone.filter((line) => line !== undefined);
}
