/** What runs of the local cluster, in which version, and whether it works. Changes nothing. */
import { apiGet, CONTROL_PLANE, type NodeObject } from "./control-plane.ts";
import { API_PORT, type ClusterPlan, kubeconfigPath, type Layout, LOCAL_CONTEXT } from "./layout.ts";
import { type PolicyCheck, readPolicyCheck } from "./network-policy-check.ts";
import { nodeDaemonNames } from "./node.ts";
import { nodeRuntimeVersions, VERSIONS } from "./parts.ts";
import { clusterLayout, nodesOf, readPlan } from "./plan.ts";
import { isAlive, pidFileNames, readPidFile } from "./processes.ts";
import type { VariantName } from "./variants.ts";

interface ProgramStatus {
  name: string;
  pid?: number;
  state: "running" | "ended" | "not started";
  since?: string;
}

export interface ClusterStatus {
  /** ready: everything runs and the node is Ready; degraded: something is missing; stopped: data is kept; absent. */
  state: "ready" | "degraded" | "stopped" | "absent";
  context: string;
  kubeconfig: string;
  /** Absent: a plain one, or none. */
  like?: VariantName;
  versions: Record<string, string>;
  subnets?: ClusterPlan["subnets"];
  api_server?: { address: string; ready: boolean; detail?: string };
  nodes: { name: string; ready: boolean; detail: string }[];
  programs: ProgramStatus[];
  policy_proof?: PolicyCheck;
}

export async function status(): Promise<ClusterStatus> {
  const plan = await readPlan();
  const base = { context: LOCAL_CONTEXT, kubeconfig: kubeconfigPath() };
  if (!plan) return { state: "absent", ...base, versions: versionsOf(), nodes: [], programs: [] };
  const layout = clusterLayout(plan);
  const programs = await programsOf(layout);
  const running = programs.filter((program) => program.state === "running").length;
  const { ready, detail, nodes } = running > 0 ? await nodesStatus(layout) : { ready: false, detail: "", nodes: [] };
  const isComplete = running === programs.length && ready && nodes.length > 0 && nodes.every((node) => node.ready);
  const check = await readPolicyCheck(layout);
  return {
    state: isComplete ? "ready" : running === 0 ? "stopped" : "degraded",
    ...base,
    ...(plan.like ? { like: plan.like } : {}),
    versions: versionsOf(layout),
    subnets: plan.subnets,
    api_server: { address: `${layout.apiAddress}:${API_PORT}`, ready, ...(detail ? { detail } : {}) },
    nodes,
    programs,
    ...(check
      ? { policy_proof: { before: check.before, after: check.after, denied_after_ms: check.denied_after_ms } }
      : {}),
  };
}

function versionsOf(layout?: Layout): Record<string, string> {
  const versions = {
    kubernetes: VERSIONS.kubernetes,
    coredns: VERSIONS.coredns,
    "metrics-server": VERSIONS.metricsServer,
    "kube-router": VERSIONS.kubeRouter,
    keda: VERSIONS.keda,
  };
  try {
    return { ...versions, ...(layout ? nodeRuntimeVersions(layout.runtime) : {}) };
  } catch {
    // The runtime is not built, or was removed from the cache.
    return versions;
  }
}

async function programsOf(layout: Layout): Promise<ProgramStatus[]> {
  const names = new Set<string>([...CONTROL_PLANE, ...nodesOf(layout).flatMap(nodeDaemonNames)]);
  for (const name of await pidFileNames(layout.run)) names.add(name);
  return await Promise.all(
    [...names].map(async (name): Promise<ProgramStatus> => {
      const file = await readPidFile(layout.run, name);
      if (!file) return { name, state: "not started" };
      return { name, pid: file.pid, state: isAlive(file) ? "running" : "ended", since: file.started_at };
    }),
  );
}

async function nodesStatus(layout: Layout): Promise<{
  ready: boolean;
  detail: string;
  nodes: ClusterStatus["nodes"];
}> {
  try {
    await apiGet(layout, "/readyz");
    const list = JSON.parse(await apiGet(layout, "/api/v1/nodes")) as { items: NodeObject[] };
    const nodes = list.items.map(({ metadata, status }) => {
      const condition = status.conditions?.find((each) => each.type === "Ready");
      const isReady = condition?.status === "True";
      const versions = `${status.nodeInfo?.kubeletVersion ?? "?"}, ${status.nodeInfo?.containerRuntimeVersion ?? "?"}`;
      const detail = isReady ? versions : `${versions}, ${condition?.message ?? "no report"}`;
      return { name: metadata.name, ready: isReady, detail };
    });
    return { ready: true, detail: "", nodes };
  } catch (error) {
    return { ready: false, detail: error instanceof Error ? error.message : String(error), nodes: [] };
  }
}
