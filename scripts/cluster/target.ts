/** Selects the cluster that a command works on. */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { EXIT, isAbort, OperatorError } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { must } from "../cli/process.ts";
import { Cluster, type ClusterLocation } from "./cluster.ts";

/** How the local cluster is located. Commands pass it in (scripts/local-cluster/index.ts). */
export interface LocalTarget {
  /** Name of its context. */
  context: string;
  /** Its kubeconfig and its kubectl; the cluster need not run. */
  locate(): Promise<{ kubeconfig: string; kubectl: string }>;
}

/** Flags of every command that works on a cluster. */
export const CLUSTER_FLAGS = {
  context: {
    type: "string",
    valueName: "NAME",
    env: "CONVEYOR_CONTEXT",
    description: "kubectl context of an existing cluster",
  },
  local: { type: "boolean", description: "the local cluster of scripts/local-cluster.ts" },
} as const;

const stateFolder = () => join(process.env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "conveyor");
const targetFile = () => join(stateFolder(), "target.json");

/** Stores the cluster of a deploy as the default of the other commands. */
export async function rememberTarget(location: ClusterLocation): Promise<void> {
  const { context, kubeconfig, isLocal } = location;
  await writeAtomic(targetFile(), `${JSON.stringify({ context, kubeconfig, isLocal }, null, 2)}\n`);
}

async function rememberedTarget(): Promise<ClusterLocation | undefined> {
  try {
    const value = JSON.parse(await readFile(targetFile(), "utf8")) as ClusterLocation;
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
async function namedCluster(context: string): Promise<Cluster> {
  const kubectl = Bun.which("kubectl");
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
  return new Cluster({ context, isLocal: false }, kubectl);
}

/**
 * The cluster of --context or --local, else the one of the last deploy. The current context of kubectl is never used
 * implicitly.
 * @throws OperatorError (exit 2) when none is selected and nothing was deployed yet
 */
export async function selectCluster(
  flags: { context?: string | undefined; local: boolean },
  local: LocalTarget,
): Promise<Cluster> {
  if (flags.context && flags.local) {
    throw new OperatorError("--context and --local exclude each other", { exitCode: EXIT.usage });
  }
  const target = flags.local
    ? { isLocal: true, context: local.context }
    : flags.context
      ? { isLocal: flags.context === local.context, context: flags.context }
      : await rememberedTarget();
  if (!target) {
    throw new OperatorError("no cluster selected, and nothing was deployed from here yet", {
      exitCode: EXIT.usage,
      hint: "--context NAME for an existing cluster, --local for the local one (npm start creates it)",
    });
  }
  return target.isLocal || target.context === local.context
    ? await localCluster(local)
    : await namedCluster(target.context);
}

/** Version of the API server. @throws OperatorError (exit 3) with the next step when it does not answer. */
export async function requireReachable(cluster: Cluster, signal?: AbortSignal): Promise<string> {
  try {
    const { stdout } = await cluster.kubectl(["version", "-o", "json", "--request-timeout=10s"], {
      timeoutMs: 15_000,
      signal,
    });
    const version = JSON.parse(stdout) as { serverVersion?: { gitVersion?: string } };
    return version.serverVersion?.gitVersion ?? "unknown version";
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new OperatorError(`the cluster of context ${cluster.context} does not answer`, {
      exitCode: EXIT.precondition,
      hint: cluster.isLocal
        ? "bun scripts/local-cluster.ts up   (npm start does it too)"
        : `kubectl --context ${cluster.context} cluster-info`,
      cause: error,
    });
  }
}
