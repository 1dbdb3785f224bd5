/** Creates or starts the local cluster. */
import { join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { writeIfChanged } from "../cli/files.ts";
import type { Report, StepHandle } from "../cli/report.ts";
import { waitFor } from "../cli/wait.ts";
import { addonObjects, applyAddons, ensureSystemImages, SYSTEM_IMAGES } from "./addons.ts";
import { ensurePart, isBuilt, removeOlderBuilds } from "./cache.ts";
import {
  apiGet,
  awaitApi,
  CONTROL_PLANE,
  certificateRequests,
  type NodeObject,
  startApi,
  startControllers,
} from "./control-plane.ts";
import { type Layout, LOCAL_CONTEXT, type NodeLayout } from "./layout.ts";
import { ensurePolicyCheck } from "./network-policy-check.ts";
import {
  awaitContainerd,
  nodeDaemonNames,
  removeDeadContainers,
  startNode,
  startPodNetwork,
  startRuntime,
} from "./node.ts";
import { fetchKedaAhead, PARTS } from "./parts.ts";
import { ensurePki, kubeconfigText } from "./pki.ts";
import { clusterLayout, ensurePlan, nodesOf, underClusterLock } from "./plan.ts";
import { machineProblems, obstacles, preflightError } from "./preflight.ts";
import { isAlive, type PidFile, pidFileNames, stopDaemons } from "./processes.ts";
import type { VariantName } from "./variants.ts";

/** From the kubelet's start to its first report. */
const NODE_LIMIT_MS = 60_000;
/** CoreDNS, metrics-server and KEDA on a busy machine. */
const ADDONS_LIMIT_MS = 120_000;

export interface UpOptions {
  /** Install missing Debian packages instead of only naming them. */
  installTools?: boolean;
  /** Variant of a new cluster; an existing one must be of it. */
  like?: VariantName;
  signal?: AbortSignal;
}

async function preflight(report: Report, options: UpOptions): Promise<void> {
  // Only Linux has what the other checks read.
  if (process.platform !== "linux") throw preflightError(await machineProblems(true), []);
  const { missing, problems } = await obstacles(report, options);
  if (problems.length > 0 || missing.length > 0) throw preflightError(problems, missing);
}

/** Builds the missing parts. KEDA's modules are fetched while Kubernetes is compiled. */
async function ensureParts(report: Report, signal: AbortSignal | undefined): Promise<void> {
  const ended = new AbortController();
  const fetching = (await isBuilt(PARTS.keda))
    ? undefined
    : fetchKedaAhead(signal ? AbortSignal.any([signal, ended.signal]) : ended.signal);
  try {
    for (const part of [PARTS["node-runtime"], PARTS.kubernetes, PARTS.keda]) await ensurePart(part, report, signal);
  } finally {
    ended.abort();
    await fetching;
  }
}

/**
 * Creates or starts the cluster; a running one takes under two seconds. Can be repeated after an interrupt, after its
 * processes were killed, and after a reboot.
 * @throws OperatorError: exit 3 with everything that this machine lacks, exit 4 when a wait reached its limit
 */
export async function up(report: Report, options: UpOptions = {}): Promise<{ kubeconfig: string }> {
  const { signal } = options;
  await preflight(report, options);
  await ensureParts(report, signal);
  return await underClusterLock(report, signal, async () => {
    const layout = clusterLayout(await ensurePlan(options.like));
    const node = nodesOf(layout)[0]!;
    const { holder, apiFiles } = await report.step("local cluster: node and API server", (step) =>
      startRuntimeAndApi(layout, node, step, signal),
    );
    await report.step("local cluster: node ready", async (step) => {
      const controllers = await startControllers(layout, holder);
      await startFirstNode(layout, node, holder, [...apiFiles, ...controllers], step, signal);
    });
    await report.step("local cluster: add-ons, network policies", (step) =>
      awaitAddonsAndPolicies(layout, node, step, signal),
    );
    // No program of an older build runs any more.
    for (const part of [PARTS.kubernetes, PARTS["node-runtime"], PARTS.keda]) await removeOlderBuilds(part);
    return { kubeconfig: layout.kubeconfig };
  });
}

async function startRuntimeAndApi(
  layout: Layout,
  node: NodeLayout,
  step: StepHandle,
  signal: AbortSignal | undefined,
): Promise<{ holder: PidFile; apiFiles: PidFile[] }> {
  step.update("certificates");
  const nodes = nodesOf(layout);
  await ensurePki(layout.pki, certificateRequests(layout, nodes));
  await writeIfChanged(layout.kubeconfig, await kubeconfigText(layout.pki, "admin", layout.apiServer, LOCAL_CONTEXT));
  const known: string[] = [...CONTROL_PLANE, ...nodes.flatMap(nodeDaemonNames)];
  const unknown = (await pidFileNames(layout.run)).filter((name) => !known.includes(name));
  await stopDaemons(layout.run, unknown); // of another version of this project
  step.update("namespaces and network");
  const { holder, containerd, started } = await startRuntime(layout, node, SYSTEM_IMAGES.pause.ref);
  const apiFiles = await startApi(layout, holder);
  step.update("containerd");
  await awaitContainerd(layout, holder, containerd, signal);
  if (started) await removeDeadContainers(layout, holder.pid);
  await ensureSystemImages(layout, holder.pid, (detail) => step.update(`image ${detail}`), signal);
  step.update("waiting for the API server");
  await awaitApi(layout, apiFiles, signal);
  step.update(`${layout.apiServer}, pods ${layout.podRanges}, services ${layout.serviceRanges}`);
  return { holder, apiFiles };
}

async function startFirstNode(
  layout: Layout,
  node: NodeLayout,
  holder: PidFile,
  controlPlane: readonly PidFile[],
  step: StepHandle,
  signal: AbortSignal | undefined,
): Promise<void> {
  const ofNode = await startNode(layout, node, holder);
  const kubelet = ofNode.find((file) => file.name === `${node.name}-kubelet`)!;
  const files = [...controlPlane, ...ofNode];
  step.update("add-ons");
  const addons = applyAddons(layout, signal);
  addons.catch(() => {});
  await waitFor(
    async () => {
      if (!files.every(isAlive)) return { done: true, value: false };
      const object = JSON.parse(await apiGet(layout, `/api/v1/nodes/${node.name}`, signal)) as NodeObject;
      if (!object.spec.podCIDRs) return { done: false, state: "no range for its pods yet" };
      await startPodNetwork(node, object.spec.podCIDRs);
      const ready = object.status.conditions?.find((condition) => condition.type === "Ready");
      // A report from before a restart says nothing about the present.
      const isCurrent = ready && Date.parse(ready.lastHeartbeatTime) >= Date.parse(kubelet.started_at) - 1000;
      if (ready?.status === "True" && isCurrent) return { done: true, value: true };
      return { done: false, state: ready ? `${ready.reason}: ${ready.message}` : "registered, no report yet" };
    },
    { what: `node ${node.name} to be Ready`, limitMs: NODE_LIMIT_MS, intervalMs: 150, signal, onState: step.update },
  );
  const ended = files.find((file) => !isAlive(file));
  if (ended) {
    throw new OperatorError(`${ended.name} has ended`, {
      hint: `its log is ${join(layout.logs, `${ended.name}.log`)}`,
    });
  }
  await addons;
  step.update(`${node.name} at ${node.address}, storage class ${layout.properties.storageClass.name}`);
}

async function awaitAddonsAndPolicies(
  layout: Layout,
  node: NodeLayout,
  step: StepHandle,
  signal: AbortSignal | undefined,
): Promise<void> {
  const seen = { addons: "", policies: "" };
  const show = (part: keyof typeof seen, state: string) => {
    seen[part] = state;
    step.update([seen.addons, seen.policies].filter(Boolean).join("; "));
  };
  // At the same time: metrics-server is ready only after its second sample of the node, ten seconds after its start.
  const [check] = await Promise.all([
    ensurePolicyCheck(layout, node, (state) => show("policies", `policies: ${state}`), signal),
    awaitAddons(layout, signal, (state) => show("addons", state)).then(() => show("addons", "")),
  ]);
  step.update(
    `a denied connection is denied: "${check.before}" before, "${check.after}" ${(check.denied_after_ms / 1000).toFixed(1)} s after the policy`,
  );
}

/** Lists of the API server that have the add-ons' workloads. */
const WORKLOAD_LISTS = { Deployment: "/apis/apps/v1/deployments", DaemonSet: "/apis/apps/v1/daemonsets" } as const;

interface Workload {
  metadata: { name: string; namespace: string; generation: number };
  spec: { replicas?: number };
  status: {
    observedGeneration?: number;
    availableReplicas?: number;
    updatedReplicas?: number;
    desiredNumberScheduled?: number;
    numberAvailable?: number;
    updatedNumberScheduled?: number;
  };
}

/** True when the pods of a Deployment or DaemonSet are of its current version and available. */
function isAvailable({ metadata, spec, status }: Workload): boolean {
  const wanted = spec.replicas ?? status.desiredNumberScheduled ?? 0;
  return (
    status.observedGeneration === metadata.generation &&
    wanted > 0 &&
    (status.availableReplicas ?? status.numberAvailable ?? 0) >= wanted &&
    (status.updatedReplicas ?? status.updatedNumberScheduled ?? 0) >= wanted
  );
}

async function awaitAddons(
  layout: Layout,
  signal: AbortSignal | undefined,
  onState: (state: string) => void,
): Promise<void> {
  const wanted = (await addonObjects(layout)).filter(({ kind }) => kind in WORKLOAD_LISTS);
  await waitFor(
    async () => {
      const available = new Set<string>();
      for (const [kind, path] of Object.entries(WORKLOAD_LISTS)) {
        const { items } = JSON.parse(await apiGet(layout, path, signal)) as { items: Workload[] };
        for (const item of items.filter(isAvailable))
          available.add(`${kind} ${item.metadata.namespace}/${item.metadata.name}`);
      }
      const waiting = wanted.filter(
        ({ kind, metadata }) => !available.has(`${kind} ${metadata.namespace}/${metadata.name}`),
      );
      if (waiting.length === 0) return { done: true, value: true };
      return { done: false, state: `waiting for ${waiting.map(({ metadata }) => metadata.name).join(", ")}` };
    },
    { what: "the add-ons to be available", limitMs: ADDONS_LIMIT_MS, intervalMs: 200, signal, onState },
  );
}
