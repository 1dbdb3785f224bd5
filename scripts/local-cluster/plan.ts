/** What every operation on the local cluster needs: its plan, its programs, and the lock against a second operation. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { writeIfChanged } from "../cli/files.ts";
import { cacheFolder, stateFolder } from "../cli/paths.ts";
import type { Report } from "../cli/report.ts";
import { partDir } from "./cache.ts";
import { type ClusterPlan, HOST_LINK, type Layout, layoutOf, type NodeLayout, nodeLayout, planPath } from "./layout.ts";
import { takeLock } from "./lock.ts";
import { PARTS } from "./parts.ts";
import { MARK, markedProcesses } from "./processes.ts";
import { chooseSubnets, clash, machineRanges } from "./subnets.ts";
import { type VariantName, variantName } from "./variants.ts";

/** Another run may be starting or stopping the cluster; builds have their own locks. */
const LOCK_LIMIT_MS = 5 * 60_000;

const programs = () => ({ kubernetes: partDir(PARTS.kubernetes), runtime: partDir(PARTS["node-runtime"]) });

/** The built kubectl. */
export const kubectlPath = (): string => join(programs().kubernetes, "kubectl");

export const clusterLayout = (plan: ClusterPlan): Layout => layoutOf(plan, programs());

export const nodesOf = (layout: Layout): NodeLayout[] => layout.plan.nodes.map((_, index) => nodeLayout(layout, index));

/** The stored plan; undefined when there is no cluster. @throws OperatorError when another version wrote it */
export async function readPlan(): Promise<ClusterPlan | undefined> {
  const text = await readFile(planPath(), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const plan = JSON.parse(text) as ClusterPlan;
  if (plan.format !== 1) {
    throw new OperatorError(`${planPath()}: format must be 1; got ${JSON.stringify(plan.format)}`, {
      hint: "another version wrote it: bun scripts/local-cluster.ts down --delete-data removes it with its data",
    });
  }
  if (plan.like !== undefined) variantName(plan.like, `${planPath()}: like`);
  return plan;
}

/**
 * Refuses another variant than that of the existing cluster: its programs, names and volumes are those of its variant.
 * @param wanted undefined continues with whatever exists
 * @throws OperatorError (exit 3)
 */
export function requireVariant(kept: Pick<ClusterPlan, "like">, wanted: VariantName | undefined): void {
  if (wanted === undefined || wanted === kept.like) return;
  throw new OperatorError(
    `--like: must be the variant of the existing cluster, ${kept.like ?? "which is a plain one"}; got "${wanted}"`,
    {
      exitCode: EXIT.precondition,
      hint: "remove the existing one with its data first: bun scripts/local-cluster.ts down --delete-data",
    },
  );
}

/** The stored plan, checked against the machine's current routes, or a new one of the variant. */
export async function ensurePlan(like: VariantName | undefined): Promise<ClusterPlan> {
  const taken = await machineRanges(HOST_LINK);
  const kept = await readPlan();
  if (kept) {
    requireVariant(kept, like);
    for (const [what, range] of Object.entries(kept.subnets)) {
      const other = clash(range, taken);
      if (other) {
        throw new OperatorError(
          `the cluster's range for ${what}, ${range}, now clashes with ${other.by} of this machine`,
          {
            exitCode: EXIT.precondition,
            hint: "remove the route, or recreate the cluster with other ranges and without its data: bun scripts/local-cluster.ts down --delete-data",
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
    ...(like ? { like } : {}),
    created_at: new Date().toISOString(),
  };
  await mkdir(stateFolder(), { recursive: true, mode: 0o700 });
  await writeIfChanged(planPath(), `${JSON.stringify(plan, null, 2)}\n`);
  return plan;
}

/** For commands that use kubectl and nothing else of the cluster: exempts the API server from proxies. */
export async function prepareEnvironment(): Promise<void> {
  const plan = await readPlan().catch(() => undefined);
  if (plan) clusterLayout(plan);
}

/** State folder of another cluster than `own`, by a process's environment (NUL between variables); undefined: none. */
export function foreignOwner(environment: string, own: string): string | undefined {
  const mark = environment.split("\0").find((variable) => variable.startsWith(`${MARK}=`));
  const owner = mark?.slice(MARK.length + 1);
  return owner && owner !== own ? owner : undefined;
}

/**
 * Refuses while a cluster of another state folder runs on this machine: link and cgroup have one name per machine, so that
 * `up` would collide with them and `down` would end the other cluster's containers.
 */
async function refuseForeign(): Promise<void> {
  for (const { pid } of await markedProcesses()) {
    const owner = foreignOwner(await readFile(`/proc/${pid}/environ`, "utf8").catch(() => ""), stateFolder());
    if (owner) {
      throw new OperatorError(`another local cluster runs on this machine; its state folder is ${owner}`, {
        exitCode: EXIT.precondition,
        hint: `stop it first: XDG_STATE_HOME=${join(owner, "../..")} bun scripts/local-cluster.ts down`,
      });
    }
  }
}

/** Runs an operation that changes the cluster, one at a time on this machine. */
export async function underClusterLock<T>(
  report: Report,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  let isReported = false;
  const lock = await takeLock(join(cacheFolder(), "locks", "local-cluster.lock"), {
    what: "the local cluster",
    limitMs: LOCK_LIMIT_MS,
    signal,
    onWait(holder) {
      if (!isReported) report.info(`waiting: ${holder} is changing the local cluster`);
      isReported = true;
    },
  });
  try {
    await refuseForeign();
    return await work();
  } finally {
    lock.release();
  }
}
