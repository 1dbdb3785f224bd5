/**
 * The local cluster as a whole: up, down, status, and what other commands need of it. scripts/local-cluster.ts is the
 * command; deploy and build-images import from here.
 */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { writeIfChanged } from "../cli/files.ts";
import { cacheFolder, stateFolder } from "../cli/paths.ts";
import { capture } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import { installTools } from "../cli/tools.ts";
import { waitFor } from "../cli/wait.ts";
import { Cluster } from "../cluster/cluster.ts";
import { applyAddons, ensureSystemImages, importArchive, listImages, SYSTEM_IMAGES } from "./addons.ts";
import { ensurePart, isBuilt, partDir, removeOlderBuilds } from "./cache.ts";
import { processesInCgroup, removeCgroups } from "./cgroups.ts";
import { apiGet, awaitApi, CONTROL_PLANE, certificateRequests, startApi, startControllers } from "./control-plane.ts";
import {
  API_PORT,
  type ClusterPlan,
  HOST_LINK,
  kubeconfigPath,
  type Layout,
  LOCAL_CONTEXT,
  layoutOf,
  type NodeLayout,
  nodeLayout,
  planPath,
} from "./layout.ts";
import { findLeftovers } from "./leftovers.ts";
import { takeLock } from "./lock.ts";
import { checkPolicyEnforcement, type PolicyCheck } from "./network-policy-check.ts";
import {
  awaitContainerd,
  ctr,
  livingHolder,
  nodeDaemonNames,
  removeDeadContainers,
  removeNodeFolders,
  startNode,
  startPodNetwork,
  startRuntime,
} from "./node.ts";
import { fetchKedaAhead, nodeRuntimeVersions, PARTS, VERSIONS } from "./parts.ts";
import { ensurePki, kubeconfigText } from "./pki.ts";
import { machineProblems, missingForCluster, preflightError } from "./preflight.ts";
import {
  endProcesses,
  isAlive,
  livingDaemon,
  MARK,
  markedProcesses,
  pidFileNames,
  readPidFile,
  stopDaemons,
} from "./processes.ts";
import { chooseSubnets, clash, machineRanges } from "./subnets.ts";

export { kubeconfigPath, LOCAL_CONTEXT } from "./layout.ts";

/** Another run may be bringing the cluster up or down; builds are under locks of their own. */
const LOCK_LIMIT_MS = 5 * 60_000;
/** From the kubelet's start to its first report. */
const NODE_LIMIT_MS = 60_000;
/** CoreDNS, metrics-server and KEDA on a busy machine. */
const ADDONS_LIMIT_MS = 120_000;
/** Databases in pods get this long to end by themselves when their data is kept. */
const PODS_TERM_LIMIT_MS = 20_000;
/** Removing containers' records; what is left is removed at the next start. */
const CONTAINERS_LIMIT_MS = 15_000;

export interface UpOptions {
  /** Install missing Debian packages instead of only naming them. */
  installTools?: boolean;
  signal?: AbortSignal;
}

/** The same function, which does its work only at the first call: a person need not read the same line every half second. */
function once(work: (text: string) => void): (text: string) => void {
  let done = false;
  return (text) => {
    if (!done) work(text);
    done = true;
  };
}

const programs = () => ({ kubernetes: partDir(PARTS.kubernetes), runtime: partDir(PARTS["node-runtime"]) });

/** The built kubectl. */
export const kubectlPath = (): string => join(programs().kubernetes, "kubectl");

async function readPlan(): Promise<ClusterPlan | undefined> {
  const text = await readFile(planPath(), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const plan = JSON.parse(text) as ClusterPlan;
  if (plan.format !== 1) {
    throw new OperatorError(`${planPath()}: format must be 1; got ${JSON.stringify(plan.format)}`, {
      hint: "it was written by another version: bun scripts/local-cluster.ts down",
    });
  }
  return plan;
}

/** For commands that use kubectl without anything else of this file: see exemptFromProxies. */
export async function prepareEnvironment(): Promise<void> {
  const plan = await readPlan().catch(() => undefined);
  if (plan) layoutOf(plan, programs());
}

const nodesOf = (layout: Layout): NodeLayout[] => layout.plan.nodes.map((_, index) => nodeLayout(layout, index));
const localCluster = () =>
  new Cluster({ context: LOCAL_CONTEXT, kubeconfig: kubeconfigPath(), isLocal: true }, kubectlPath());

/** The plan that is kept, checked against today's routes, or a new one. */
async function ensurePlan(): Promise<ClusterPlan> {
  const taken = await machineRanges(HOST_LINK);
  const kept = await readPlan();
  if (kept) {
    for (const [what, range] of Object.entries(kept.subnets)) {
      const other = clash(range, taken);
      if (other) {
        throw new OperatorError(
          `the cluster's range for ${what}, ${range}, now clashes with ${other.by} of this machine`,
          {
            exitCode: EXIT.precondition,
            hint: "remove the route, or make the cluster anew with other ranges: bun scripts/local-cluster.ts down",
          },
        );
      }
    }
    return kept;
  }
  const plan: ClusterPlan = {
    format: 1,
    subnets: chooseSubnets(taken),
    nodes: ["node-1"],
    created_at: new Date().toISOString(),
  };
  await mkdir(stateFolder(), { recursive: true, mode: 0o700 });
  await writeIfChanged(planPath(), `${JSON.stringify(plan, null, 2)}\n`);
  return plan;
}

/** State folder of another cluster than `own`, by a process's environment (NUL between variables); undefined: none. */
export function foreignOwner(environment: string, own: string): string | undefined {
  const mark = environment.split("\0").find((variable) => variable.startsWith(`${MARK}=`));
  const owner = mark?.slice(MARK.length + 1);
  return owner && owner !== own ? owner : undefined;
}

/**
 * Refuses while a cluster of another state folder runs here: names of link and cgroup are one per machine, so that `up`
 * would meet them and `down` would end the other cluster's containers.
 */
async function refuseForeign(): Promise<void> {
  for (const { pid } of await markedProcesses()) {
    const owner = foreignOwner(await readFile(`/proc/${pid}/environ`, "utf8").catch(() => ""), stateFolder());
    if (owner) {
      throw new OperatorError(`another local cluster runs on this machine; its state folder is ${owner}`, {
        exitCode: EXIT.precondition,
        hint: `end it first: XDG_STATE_HOME=${join(owner, "../..")} bun scripts/local-cluster.ts down`,
      });
    }
  }
}

async function preflight(report: Report, options: UpOptions): Promise<void> {
  // Elsewhere than on Linux nothing of the rest can even be asked.
  if (process.platform !== "linux") throw preflightError(await machineProblems(true), []);
  let missing = await missingForCluster();
  if (missing.length > 0 && options.installTools && process.getuid?.() === 0) {
    await installTools(missing, report, options.signal);
    missing = await missingForCluster();
  }
  const problems = await machineProblems(missing.length > 0);
  if (problems.length > 0 || missing.length > 0) throw preflightError(problems, missing);
}

/**
 * Brings the cluster up, or finds it up (under two seconds). Safe to call again after an interrupt, after its processes
 * were killed, and after a reboot.
 * @throws OperatorError: exit 3 with everything this machine lacks, exit 4 when something awaited did not happen
 */
export async function up(report: Report, options: UpOptions = {}): Promise<{ kubeconfig: string }> {
  const { signal } = options;
  await preflight(report, options);
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
  const lock = await takeLock(join(cacheFolder(), "locks", "local-cluster.lock"), {
    what: "the local cluster",
    limitMs: LOCK_LIMIT_MS,
    signal,
    onWait: once((holder) => report.info(`waiting: ${holder} is changing the local cluster`)),
  });
  try {
    return await upUnderLock(report, signal);
  } finally {
    await lock.release();
  }
}

async function upUnderLock(report: Report, signal?: AbortSignal): Promise<{ kubeconfig: string }> {
  await refuseForeign();
  const layout = layoutOf(await ensurePlan(), programs());
  const nodes = nodesOf(layout);
  const first = nodes[0]!;

  const { holder, apiFiles } = await report.step("local cluster: node and API server", async (step) => {
    step.update("certificates");
    await ensurePki(layout.pki, certificateRequests(layout, nodes));
    await writeIfChanged(layout.kubeconfig, await kubeconfigText(layout.pki, "admin", layout.apiServer, LOCAL_CONTEXT));
    const known: string[] = [...CONTROL_PLANE, ...nodes.flatMap(nodeDaemonNames)];
    const unknown = (await pidFileNames(layout.run)).filter((name) => !known.includes(name));
    await stopDaemons(layout.run, unknown); // of another version of this project
    step.update("namespaces and network");
    const runtime = await startRuntime(layout, first, SYSTEM_IMAGES.pause.ref);
    const apiFiles = await startApi(layout, runtime.holder);
    step.update("containerd");
    await awaitContainerd(layout, runtime.holder, runtime.containerd, signal);
    if (runtime.started) await removeDeadContainers(layout, runtime.holder.pid);
    await ensureSystemImages(layout, runtime.holder.pid, (detail) => step.update(`image ${detail}`), signal);
    step.update("waiting for the API server");
    await awaitApi(layout, apiFiles, signal);
    step.update(`${layout.apiServer}, pods ${layout.plan.subnets.pods}, services ${layout.plan.subnets.services}`);
    return { holder: runtime.holder, apiFiles };
  });

  const cluster = localCluster();
  await report.step("local cluster: node ready", async (step) => {
    const controllers = await startControllers(layout, holder);
    const ofNode = await startNode(layout, first, holder);
    const kubelet = ofNode.find((file) => file.name === `${first.name}-kubelet`)!;
    const files = [...apiFiles, ...controllers, ...ofNode];
    step.update("DNS, metrics, KEDA, storage class");
    const addons = applyAddons(cluster, layout, signal);
    addons.catch(() => {});
    await waitFor(
      async () => {
        const ended = files.find((file) => !isAlive(file));
        if (ended) return { done: true, value: false };
        const node = JSON.parse(await apiGet(layout, `/api/v1/nodes/${first.name}`, signal)) as NodeObject;
        if (!node.spec.podCIDR) return { done: false, state: "no range for its pods yet" };
        await startPodNetwork(first, node.spec.podCIDR);
        const ready = node.status.conditions?.find((condition) => condition.type === "Ready");
        // A report from before a restart says nothing about now.
        const fresh = ready && Date.parse(ready.lastHeartbeatTime) >= Date.parse(kubelet.started_at) - 1000;
        if (ready?.status === "True" && fresh) return { done: true, value: true };
        return { done: false, state: ready ? `${ready.reason}: ${ready.message}` : "registered, no report yet" };
      },
      { what: `node ${first.name} to be Ready`, limitMs: NODE_LIMIT_MS, intervalMs: 150, signal, onState: step.update },
    );
    for (const file of files) {
      if (!isAlive(file)) {
        throw new OperatorError(`${file.name} has ended`, {
          hint: `its log is ${join(layout.logs, `${file.name}.log`)}`,
        });
      }
    }
    await addons;
    step.update(`${first.name} at ${first.address}, storage class standard`);
  });

  await report.step("local cluster: DNS, metrics, KEDA, network policies", async (step) => {
    const seen = { addons: "", policies: "" };
    const show = () => step.update([seen.addons, seen.policies].filter(Boolean).join("; "));
    // Side by side: metrics-server is ready only after its second look at the node, ten seconds after its start.
    const [, proof] = await Promise.all([
      awaitDeployments(layout, signal, (state) => {
        seen.addons = state;
        show();
      }).then(() => {
        seen.addons = "";
      }),
      ensureProof(layout, first, cluster, signal, (state) => {
        seen.policies = `policies: ${state}`;
        show();
      }),
    ]);
    step.update(
      `a denied connection is denied: "${proof.before}" before, "${proof.after}" ${(proof.denied_after_ms / 1000).toFixed(1)} s after the policy`,
    );
  });
  // Nothing runs from older builds any more.
  for (const part of [PARTS.kubernetes, PARTS["node-runtime"], PARTS.keda]) await removeOlderBuilds(part);
  return { kubeconfig: layout.kubeconfig };
}

interface NodeObject {
  spec: { podCIDR?: string };
  status: {
    conditions?: { type: string; status: string; reason: string; message: string; lastHeartbeatTime: string }[];
    nodeInfo?: { kubeletVersion: string; containerRuntimeVersion: string };
  };
}

interface StoredProof extends PolicyCheck {
  /** The process that was proved to enforce policies; another one is proved again. */
  enforcer: string;
}

const proofPath = (layout: Layout) => join(layout.state, "policy-proof.json");

async function readProof(layout: Layout): Promise<StoredProof | undefined> {
  try {
    return JSON.parse(await readFile(proofPath(layout), "utf8")) as StoredProof;
  } catch {
    return undefined;
  }
}

/** Proves that policies are enforced, once for each start of the program that enforces them. */
async function ensureProof(
  layout: Layout,
  node: NodeLayout,
  cluster: Cluster,
  signal: AbortSignal | undefined,
  update: (state: string) => void,
): Promise<PolicyCheck> {
  const file = await readPidFile(layout.run, `${node.name}-network-policies`);
  const enforcer = `${file?.pid} ${file?.start_ticks} ${file?.boot_id}`;
  const proven = await readProof(layout);
  if (proven?.enforcer === enforcer) return proven;
  const proof = await checkPolicyEnforcement(cluster, update, signal);
  const record: StoredProof = { ...proof, enforcer };
  await writeIfChanged(proofPath(layout), `${JSON.stringify(record, null, 2)}\n`);
  return proof;
}

const ADDON_DEPLOYMENTS = new Set([
  ...["kube-system/coredns", "kube-system/metrics-server"],
  ...["keda/keda-operator", "keda/keda-metrics-apiserver"],
]);

async function awaitDeployments(
  layout: Layout,
  signal: AbortSignal | undefined,
  onState: (state: string) => void,
): Promise<void> {
  await waitFor(
    async () => {
      const list = JSON.parse(await apiGet(layout, "/apis/apps/v1/deployments", signal)) as {
        items: {
          metadata: { name: string; namespace: string; generation: number };
          spec: { replicas: number };
          status: { observedGeneration?: number; availableReplicas?: number; updatedReplicas?: number };
        }[];
      };
      const ours = list.items.filter(({ metadata }) => ADDON_DEPLOYMENTS.has(`${metadata.namespace}/${metadata.name}`));
      const waiting = ours.filter(
        ({ metadata, spec, status }) =>
          status.observedGeneration !== metadata.generation ||
          (status.availableReplicas ?? 0) < spec.replicas ||
          (status.updatedReplicas ?? 0) < spec.replicas,
      );
      if (ours.length === ADDON_DEPLOYMENTS.size && waiting.length === 0) return { done: true, value: true };
      return {
        done: false,
        state: `waiting for ${waiting.map((item) => item.metadata.name).join(", ") || "deployments"}`,
      };
    },
    {
      what: "CoreDNS, metrics-server and KEDA to be available",
      limitMs: ADDONS_LIMIT_MS,
      intervalMs: 200,
      signal,
      onState,
    },
  );
}

// ── down ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface DownOptions {
  /** Keep volumes and the cluster's database: the next `up` carries on with them. */
  keepData?: boolean;
  signal?: AbortSignal;
}

export interface DownResult {
  /** False when there was nothing to take down. */
  was_there: boolean;
  kept_data: boolean;
  /** Volumes that were removed with their data. */
  removed_volumes: number;
}

/**
 * Takes the cluster down and checks that nothing of it is left. Without keepData its volumes and database go too;
 * built programs and images stay in the cache folder.
 * @throws OperatorError that lists what is left
 */
export async function down(report: Report, options: DownOptions = {}): Promise<DownResult> {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    throw new OperatorError("the local cluster is taken down as root, on Linux", { exitCode: EXIT.precondition });
  }
  const lock = await takeLock(join(cacheFolder(), "locks", "local-cluster.lock"), {
    what: "the local cluster",
    limitMs: LOCK_LIMIT_MS,
    signal: options.signal,
    onWait: once((holder) => report.info(`waiting: ${holder} is changing the local cluster`)),
  });
  try {
    return await downUnderLock(report, options);
  } finally {
    await lock.release();
  }
}

async function downUnderLock(report: Report, options: DownOptions): Promise<DownResult> {
  await refuseForeign();
  const keepData = options.keepData ?? false;
  const state = stateFolder();
  const plan = await readPlan().catch(() => undefined);
  const volumes = await readdir(join(state, "volumes")).catch(() => [] as string[]);
  const before = await findLeftovers(state);
  if (before.length === 0 && (!plan || keepData)) {
    return { was_there: false, kept_data: keepData && plan !== undefined, removed_volumes: 0 };
  }
  if (!keepData && volumes.length > 0) {
    report.info(`removing ${volumes.length} persistent volumes with their data (--keep-data keeps them)`);
  }
  await report.step("local cluster: down", async (step) => {
    const run = join(state, "run");
    const layout = plan ? layoutOf(plan, programs()) : undefined;
    const nodes = layout ? nodesOf(layout) : [];
    step.update("ending kubelet and controllers");
    // What is removed anyway need not end well: only a database that is kept is asked politely, and waited for.
    const ofNodes = (parts: readonly string[]) => nodes.flatMap((node) => parts.map((part) => `${node.name}-${part}`));
    await stopDaemons(
      run,
      [
        ...ofNodes(["kubelet", "network-policies", "kube-proxy"]),
        ...["provisioner", "kube-scheduler", "kube-controller-manager"],
      ],
      "SIGKILL",
    );
    step.update("ending containers");
    // Databases whose data is kept are asked to end; the others' data is gone anyway.
    const containers = await processesInCgroup();
    await endProcesses(containers, keepData ? { termLimitMs: PODS_TERM_LIMIT_MS } : { signal: "SIGKILL" });
    if (layout) for (const node of nodes) await removeContainers(layout, node);
    step.update("ending API server, etcd and containerd");
    await stopDaemons(run, ["kube-apiserver"], "SIGKILL");
    await stopDaemons(run, ["etcd"], keepData ? "SIGTERM" : "SIGKILL");
    // Its images stay: it closes their database in order.
    await stopDaemons(run, ofNodes(["containerd"]), "SIGTERM");
    // Shims, programs of other versions, and whatever was started and never written down.
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
    const left = await findLeftovers(state);
    if (left.length > 0) {
      throw new OperatorError(
        `the local cluster left something behind:\n${left.map((line) => `  - ${line}`).join("\n")}`,
      );
    }
    step.update(keepData ? "volumes and database are kept; nothing else is left" : "nothing is left");
  });
  return { was_there: true, kept_data: keepData, removed_volumes: keepData ? 0 : volumes.length };
}

/** Removes the containers' records and snapshots while containerd runs; best effort, the next start does it again. */
async function removeContainers(layout: Layout, node: NodeLayout): Promise<void> {
  const holder = await livingHolder(layout, node);
  if (!holder || !(await livingDaemon(layout.run, `${node.name}-containerd`))) return;
  const run = (args: string[]) =>
    capture(ctr(layout, holder.pid, args), { timeoutMs: CONTAINERS_LIMIT_MS }).catch(() => undefined);
  const tasks = (await run(["tasks", "list", "--quiet"]))?.stdout.split("\n").filter(Boolean) ?? [];
  if (tasks.length > 0) await run(["tasks", "delete", "--force", ...tasks]);
  await removeDeadContainers(layout, holder.pid).catch(() => 0);
}

// ── status ───────────────────────────────────────────────────────────────────────────────────────────────────────

export interface ProgramStatus {
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
  versions: Record<string, string>;
  subnets?: ClusterPlan["subnets"];
  api_server?: { address: string; ready: boolean; detail?: string };
  nodes: { name: string; ready: boolean; detail: string }[];
  programs: ProgramStatus[];
  policy_proof?: PolicyCheck;
}

/** What runs, in which version, and whether it works. Changes nothing. */
export async function status(): Promise<ClusterStatus> {
  const plan = await readPlan();
  const base = { context: LOCAL_CONTEXT, kubeconfig: kubeconfigPath() };
  const versions: Record<string, string> = { kubernetes: VERSIONS.kubernetes, coredns: VERSIONS.coredns };
  versions["metrics-server"] = VERSIONS.metricsServer;
  versions["kube-router"] = VERSIONS.kubeRouter;
  versions.keda = VERSIONS.keda;
  if (!plan) return { state: "absent", ...base, versions, nodes: [], programs: [] };
  const layout = layoutOf(plan, programs());
  try {
    Object.assign(versions, nodeRuntimeVersions(layout.runtime));
  } catch {
    // Not built, or removed from the cache: the state alone is told.
  }
  const names = [...CONTROL_PLANE, ...nodesOf(layout).flatMap(nodeDaemonNames)];
  for (const name of await pidFileNames(layout.run)) if (!names.includes(name)) names.push(name);
  const list: ProgramStatus[] = [];
  for (const name of names) {
    const file = await readPidFile(layout.run, name);
    if (!file) list.push({ name, state: "not started" });
    else list.push({ name, pid: file.pid, state: isAlive(file) ? "running" : "ended", since: file.started_at });
  }
  const nodes: ClusterStatus["nodes"] = [];
  let ready = true;
  let detail: string | undefined;
  if (list.some((program) => program.state === "running")) {
    try {
      await apiGet(layout, "/readyz");
      const answer = JSON.parse(await apiGet(layout, "/api/v1/nodes")) as {
        items: (NodeObject & { metadata: { name: string } })[];
      };
      for (const node of answer.items) {
        const condition = node.status.conditions?.find((each) => each.type === "Ready");
        const info = node.status.nodeInfo;
        nodes.push({
          name: node.metadata.name,
          ready: condition?.status === "True",
          detail: `${info?.kubeletVersion ?? "?"}, ${info?.containerRuntimeVersion ?? "?"}${condition?.status === "True" ? "" : `, ${condition?.message ?? "no report"}`}`,
        });
      }
    } catch (error) {
      ready = false;
      detail = error instanceof Error ? error.message : String(error);
    }
  } else ready = false;
  const running = list.filter((program) => program.state === "running").length;
  const whole = running === list.length && ready && nodes.length > 0 && nodes.every((node) => node.ready);
  const proof = await readProof(layout);
  return {
    state: whole ? "ready" : running === 0 ? "stopped" : "degraded",
    ...base,
    versions,
    subnets: plan.subnets,
    api_server: { address: `${layout.apiAddress}:${API_PORT}`, ready, ...(detail ? { detail } : {}) },
    nodes,
    programs: list,
    ...(proof
      ? { policy_proof: { before: proof.before, after: proof.after, denied_after_ms: proof.denied_after_ms } }
      : {}),
  };
}

// ── images ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** The running nodes. @throws OperatorError (exit 3) when the cluster does not run */
async function runningNodes(): Promise<{ layout: Layout; nodes: { node: NodeLayout; holder: number }[] }> {
  const plan = await readPlan();
  const nodes: { node: NodeLayout; holder: number }[] = [];
  const layout = plan ? layoutOf(plan, programs()) : undefined;
  for (const node of layout ? nodesOf(layout) : []) {
    const holder = await livingHolder(layout!, node);
    if (holder) nodes.push({ node, holder: holder.pid });
  }
  if (!layout || nodes.length === 0) {
    throw new OperatorError("the local cluster does not run", {
      exitCode: EXIT.precondition,
      hint: "bun scripts/local-cluster.ts up",
    });
  }
  return { layout, nodes };
}

/** Imports an image archive (docker-archive or OCI tar) into every node. @throws OperatorError when the cluster does not run */
export async function importImage(tarPath: string, _report: Report, signal?: AbortSignal): Promise<void> {
  const { layout, nodes } = await runningNodes();
  for (const { holder } of nodes) await importArchive(layout, holder, tarPath, signal);
}

/** Digest of an image's manifest, when every node has the image under this full reference. */
export async function imageDigest(ref: string): Promise<string | undefined> {
  const { layout, nodes } = await runningNodes();
  const digests = await Promise.all(nodes.map(async ({ holder }) => (await listImages(layout, holder)).get(ref)));
  return digests.every((digest) => digest !== undefined) ? digests[0] : undefined;
}
