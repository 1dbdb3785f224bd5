/** Stops the local cluster; removes it with its data only where that is asked for. */
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { stateFolder } from "../cli/paths.ts";
import { capture } from "../cli/process.ts";
import type { Report, StepHandle } from "../cli/report.ts";
import { processesInCgroup, removeCgroups } from "./cgroups.ts";
import { type ClusterPlan, HOST_LINK, type Layout, type NodeLayout } from "./layout.ts";
import { findLeftovers } from "./leftovers.ts";
import { ctr, livingHolder, removeDeadContainers, removeNodeFolders } from "./node.ts";
import { clusterLayout, nodesOf, readPlan, underClusterLock } from "./plan.ts";
import { endProcesses, livingDaemon, markedProcesses, stopDaemons } from "./processes.ts";

/** Time for databases in pods to end on SIGTERM when their data is kept. */
const PODS_TERM_LIMIT_MS = 20_000;
/** Removing containers' records; the next start removes the remaining ones. */
const CONTAINERS_LIMIT_MS = 15_000;

export interface DownOptions {
  /** Remove volumes and the cluster's database too; otherwise the next `up` continues with them. */
  deleteData?: boolean;
  signal?: AbortSignal;
}

export interface DownResult {
  /** False when there was nothing to stop. */
  was_there: boolean;
  kept_data: boolean;
  /** Volumes that were removed with their data. */
  removed_volumes: number;
}

/**
 * Stops the cluster and checks that no process, mount or network rule of it remains. Volumes and database stay unless
 * `deleteData` is set; built programs and images stay in the cache folder.
 * @throws OperatorError that lists the leftovers
 */
export async function down(report: Report, options: DownOptions = {}): Promise<DownResult> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    throw new OperatorError("stopping the local cluster needs root, on Linux", { exitCode: EXIT.precondition });
  }
  return await underClusterLock(report, options.signal, async () => {
    const keepData = !options.deleteData;
    const state = stateFolder();
    const plan = await readPlan().catch(() => undefined);
    const volumes = await readdir(join(state, "volumes")).catch(() => [] as string[]);
    const before = await findLeftovers(state);
    if (before.length === 0 && (keepData || !existsSync(state))) {
      return { was_there: false, kept_data: keepData && plan !== undefined, removed_volumes: 0 };
    }
    if (!keepData && volumes.length > 0) {
      report.info(`removing ${volumes.length} persistent volumes with their data`);
    }
    await report.step("local cluster: down", (step) => stopAll(state, plan, keepData, step));
    return { was_there: true, kept_data: keepData, removed_volumes: keepData ? 0 : volumes.length };
  });
}

async function stopAll(
  state: string,
  plan: ClusterPlan | undefined,
  keepData: boolean,
  step: StepHandle,
): Promise<void> {
  const run = join(state, "run");
  const layout = plan ? clusterLayout(plan) : undefined;
  const nodes = layout ? nodesOf(layout) : [];
  const ofNodes = (parts: readonly string[]) => nodes.flatMap((node) => parts.map((part) => `${node.name}-${part}`));
  // Only a database whose data is kept needs to end in order; everything else is killed.
  step.update("stopping kubelet and controllers");
  const controllers = ["provisioner", "kube-scheduler", "kube-controller-manager"];
  await stopDaemons(run, [...ofNodes(["kubelet", "network-policies", "kube-proxy"]), ...controllers], "SIGKILL");
  step.update("stopping containers");
  const containers = await processesInCgroup();
  await endProcesses(containers, keepData ? { termLimitMs: PODS_TERM_LIMIT_MS } : { signal: "SIGKILL" });
  if (layout) for (const node of nodes) await removeContainers(layout, node);
  step.update("stopping API server, etcd and containerd");
  await stopDaemons(run, ["kube-apiserver"], "SIGKILL");
  await stopDaemons(run, ["etcd"], keepData ? "SIGTERM" : "SIGKILL");
  // The image store is kept: containerd closes its database in order.
  await stopDaemons(run, ofNodes(["containerd"]), "SIGTERM");
  // Shims, programs of other versions, and processes without a pid file.
  await endProcesses(await markedProcesses(state), { signal: "SIGKILL" });
  await endProcesses(await processesInCgroup(), { signal: "SIGKILL" });
  step.update("removing link and cgroups");
  await capture(["ip", "link", "delete", HOST_LINK]);
  await removeCgroups();
  await rm(run, { recursive: true, force: true });
  if (keepData) {
    for (const node of nodes) await removeNodeFolders(node);
  } else {
    step.update("removing data");
    await rm(state, { recursive: true, force: true });
  }
  const leftovers = await findLeftovers(state);
  if (leftovers.length > 0) {
    throw new OperatorError(`parts of the local cluster remain:\n${leftovers.map((line) => `  - ${line}`).join("\n")}`);
  }
  step.update(keepData ? "volumes and database are kept; nothing else remains" : "nothing remains");
}

/** Removes the containers' records and snapshots while containerd runs; best effort, the next start repeats it. */
async function removeContainers(layout: Layout, node: NodeLayout): Promise<void> {
  const holder = await livingHolder(layout, node);
  if (!holder || !(await livingDaemon(layout.run, `${node.name}-containerd`))) return;
  const run = (args: string[]) =>
    capture(ctr(layout, holder.pid, args), { timeoutMs: CONTAINERS_LIMIT_MS }).catch(() => undefined);
  const tasks = (await run(["tasks", "list", "--quiet"]))?.stdout.split("\n").filter(Boolean) ?? [];
  if (tasks.length > 0) await run(["tasks", "delete", "--force", ...tasks]);
  await removeDeadContainers(layout, holder.pid).catch(() => 0);
}
