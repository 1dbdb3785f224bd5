/** Images of the running nodes. */
import { EXIT, OperatorError } from "../cli/errors.ts";
import { importArchive, listImages } from "./addons.ts";
import type { Layout } from "./layout.ts";
import { livingHolder, mirrorRegistry } from "./node.ts";
import { clusterLayout, nodesOf, readPlan } from "./plan.ts";

/** Process ids of the running nodes' holders. @throws OperatorError (exit 3) when the cluster does not run */
async function runningNodes(): Promise<{ layout: Layout; holders: number[] }> {
  const plan = await readPlan();
  const layout = plan ? clusterLayout(plan) : undefined;
  const holders: number[] = [];
  for (const node of layout ? nodesOf(layout) : []) {
    const holder = await livingHolder(layout!, node);
    if (holder) holders.push(holder.pid);
  }
  if (!layout || holders.length === 0) {
    throw new OperatorError("the local cluster does not run", {
      exitCode: EXIT.precondition,
      hint: "bun scripts/local-cluster.ts up",
    });
  }
  return { layout, holders };
}

/** Imports an image archive (docker-archive or OCI tar) into every node. @throws OperatorError when the cluster does not run */
export async function importImage(tarPath: string, signal?: AbortSignal): Promise<void> {
  const { layout, holders } = await runningNodes();
  for (const holder of holders) await importArchive(layout, holder, tarPath, signal);
}

/**
 * Lets the nodes pull from a registry of this machine that listens on loopback under the same port on the address given to
 * `use`: the machine's end of its link to the nodes, which has no other way out.
 */
export async function withMachineRegistry<T>(registry: string, use: (address: string) => Promise<T>): Promise<T> {
  const { layout } = await runningNodes();
  const address = `${layout.hostAddress}:${registry.slice(registry.lastIndexOf(":") + 1)}`;
  const ends = await Promise.all(nodesOf(layout).map((node) => mirrorRegistry(node, registry, address)));
  try {
    return await use(address);
  } finally {
    for (const end of ends) await end();
  }
}

/** Digest of an image's manifest, when every node has the image under this full reference. */
export async function imageDigest(ref: string): Promise<string | undefined> {
  const { layout, holders } = await runningNodes();
  const digests = await Promise.all(holders.map(async (holder) => (await listImages(layout, holder)).get(ref)));
  return digests.every((digest) => digest !== undefined) ? digests[0] : undefined;
}
