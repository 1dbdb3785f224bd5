/** Selects the cluster that a command works on. */
import { readFile } from "node:fs/promises";
import { EXIT, isAbort, OperatorError } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { must } from "../cli/process.ts";
import { findTool } from "../cli/tools.ts";
import { Cluster, type ClusterLocation, type KubernetesObject } from "./cluster.ts";
import { checkNamespace, DEFAULT_NAMESPACE, NAMESPACE, targetFile } from "./namespace.ts";

/** How the local cluster is located. Commands pass it in (scripts/local-cluster/index.ts). */
export interface LocalTarget {
  /** Name of its context. */
  context: string;
  /** Its kubeconfig and its kubectl; the cluster need not run. */
  locate(): Promise<{ kubeconfig: string; kubectl: string }>;
}

/** Its value is read when the program starts (namespace.ts). */
export const NAMESPACE_FLAG = {
  type: "string",
  valueName: "NAME",
  env: "CONVEYOR_NAMESPACE",
  description: `namespace of the pipeline (default: that of the last deploy to this existing cluster, else ${DEFAULT_NAMESPACE})`,
} as const;

/** Flags of every command that works on a cluster. */
export const CLUSTER_FLAGS = {
  context: {
    type: "string",
    valueName: "NAME",
    env: "CONVEYOR_CONTEXT",
    description: "kubectl context of an existing cluster",
  },
  local: { type: "boolean", description: "the local cluster of scripts/local-cluster.ts" },
  namespace: NAMESPACE_FLAG,
  "cluster-id": {
    type: "string",
    valueName: "UID",
    description: "UID of kube-system that the cluster must have (default: that of the last deploy to the context)",
  },
} as const;

/** UID of the namespace kube-system: the same for the life of a cluster, whatever its contexts are called. */
const idOf = async (cluster: Cluster): Promise<string> =>
  (await cluster.json<KubernetesObject>(["get", "namespace", "kube-system"])).metadata.uid ?? "";

/** The cluster of the last deploy, and for the context of each existing cluster its identity and the namespace of the last deploy to it. */
interface RememberedTarget extends ClusterLocation {
  /** Absent in the file of an earlier version. */
  clusterIds?: Record<string, string>;
  /** The namespace of the last deploy to each context; absent in the file of an earlier version. */
  namespaces?: Record<string, string>;
}

/**
 * Stores the cluster of a deploy as the default of the other commands, with its identity. The local cluster has none: its
 * kubeconfig leads to no other one, and each new local cluster has another UID.
 */
export async function rememberTarget(cluster: Cluster): Promise<void> {
  const { context, kubeconfig, isLocal } = cluster;
  const remembered = await rememberedTarget();
  const clusterIds = {
    ...remembered?.clusterIds,
    ...(isLocal ? {} : { [context]: await idOf(cluster) }),
  };
  const namespaces = { ...remembered?.namespaces, ...(isLocal ? {} : { [context]: NAMESPACE }) };
  const target: RememberedTarget = { context, kubeconfig, isLocal, clusterIds, namespaces };
  await writeAtomic(targetFile(), `${JSON.stringify(target, null, 2)}\n`);
}

/** The cluster of the last deploy; undefined where nothing was deployed from here. */
export async function rememberedTarget(): Promise<RememberedTarget | undefined> {
  try {
    const value = JSON.parse(await readFile(targetFile(), "utf8")) as RememberedTarget;
    return typeof value.context === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The local cluster; it need not run. */
export async function localCluster(local: LocalTarget): Promise<Cluster> {
  const { kubeconfig, kubectl } = await local.locate();
  return new Cluster({ context: local.context, kubeconfig, isLocal: true }, kubectl);
}

/** An existing cluster by its context's name. @throws OperatorError (exit 3) when kubectl or the context is missing. */
async function namedCluster(context: string, clusterId: string | undefined): Promise<Cluster> {
  const kubectl = findTool("kubectl");
  if (!kubectl) {
    throw new OperatorError("kubectl is not installed", {
      exitCode: EXIT.precondition,
      hint: "install kubectl (https://kubernetes.io/docs/tasks/tools/), or use --local",
    });
  }
  const contexts = (await must([kubectl, "config", "get-contexts", "-o", "name"])).split("\n").filter(Boolean);
  if (!contexts.includes(context)) {
    throw new OperatorError(`--context: no context named "${context}"`, {
      exitCode: EXIT.precondition,
      hint: contexts.length > 0 ? `known contexts: ${contexts.join(", ")}` : "kubectl has no context; see KUBECONFIG",
    });
  }
  return new Cluster({ context, isLocal: false, clusterId }, kubectl);
}

/**
 * The cluster of --context or --local, else the one of the last deploy. The current context of kubectl is never used
 * implicitly.
 * @throws OperatorError (exit 2) when none is selected and nothing was deployed yet
 */
export async function selectCluster(
  flags: { context?: string | undefined; local: boolean; "cluster-id"?: string | undefined },
  local: LocalTarget,
): Promise<Cluster> {
  if (flags.context && flags.local) {
    throw new OperatorError("--context and --local exclude each other", { exitCode: EXIT.usage });
  }
  checkNamespace(NAMESPACE);
  const remembered = await rememberedTarget();
  const target = flags.local
    ? { isLocal: true, context: local.context }
    : flags.context
      ? { isLocal: flags.context === local.context, context: flags.context }
      : remembered;
  if (!target) {
    throw new OperatorError("no cluster selected, and nothing was deployed from here yet", {
      exitCode: EXIT.usage,
      hint: "--context NAME for an existing cluster, --local for the local one (npm start creates it)",
    });
  }
  const { "cluster-id": clusterId } = flags;
  if (!target.isLocal && target.context !== local.context) {
    return await namedCluster(target.context, clusterId ?? remembered?.clusterIds?.[target.context]);
  }
  if (clusterId) {
    throw new OperatorError("--local and --cluster-id exclude each other", { exitCode: EXIT.usage });
  }
  return await localCluster(local);
}

/** @throws OperatorError (exit 3) when the context leads to another cluster than the expected one */
async function requireIdentity(cluster: Cluster): Promise<void> {
  if (cluster.clusterId === undefined) return;
  const id = await idOf(cluster);
  if (id === cluster.clusterId) return;
  throw new OperatorError(
    `context ${cluster.context} leads to another cluster: kube-system has the UID ${id}, not ${cluster.clusterId}`,
    {
      exitCode: EXIT.precondition,
      hint: `set KUBECONFIG to the file of the cluster of the last deploy; or, to work on this one: --context ${cluster.context} --cluster-id ${id}`,
    },
  );
}

/**
 * Version of the API server.
 * @throws OperatorError (exit 3) with the next step when it does not answer, or is that of another cluster than expected
 */
export async function requireReachable(cluster: Cluster, signal?: AbortSignal): Promise<string> {
  try {
    const { stdout } = await cluster.kubectl(["version", "-o", "json", "--request-timeout=10s"], {
      timeoutMs: 15_000,
      signal,
    });
    const version = JSON.parse(stdout) as { serverVersion?: { gitVersion?: string } };
    await requireIdentity(cluster);
    return version.serverVersion?.gitVersion ?? "unknown version";
  } catch (error) {
    if (isAbort(error) || (error instanceof OperatorError && error.exitCode === EXIT.precondition)) throw error;
    throw new OperatorError(`the cluster of context ${cluster.context} does not answer`, {
      exitCode: EXIT.precondition,
      hint: cluster.isLocal
        ? "bun scripts/local-cluster.ts up   (npm start does it too)"
        : `kubectl --context ${cluster.context} cluster-info`,
      cause: error,
    });
  }
}
