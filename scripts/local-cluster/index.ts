/** The local cluster and the cache of built parts, for the other folders. They import this file alone. */
import { kubeconfigPath, LOCAL_CONTEXT } from "./layout.ts";
import { kubectlPath, prepareEnvironment } from "./plan.ts";

export { type ImageConfig, type Layer, writeImageArchive } from "./archive.ts";
export { type BuildContext, ensurePart, isBuilt, type Part, partDir, partKey } from "./cache.ts";
export { DEBIAN_TOOLS, debianProblem, unpackDebian } from "./debian.ts";
export { down } from "./down.ts";
export { GO_TOOL, type GoBuild, goBuild, goModuleFolder, goRecipe } from "./go.ts";
export { kubeconfigPath } from "./layout.ts";
export { imageDigest, importImage, withMachineRegistry } from "./node-images.ts";
export { PARTS } from "./parts.ts";
export { kubectlPath } from "./plan.ts";
export { missingForCluster, OTHER_WAYS, obstacles, preflightError } from "./preflight.ts";
export { type ClusterStatus, status } from "./status.ts";
export { up } from "./up.ts";
export { describeVariant, VARIANT_NAMES, type VariantName } from "./variants.ts";

/** The local cluster as the target of a command; it need not run. */
export const localTarget = {
  context: LOCAL_CONTEXT,
  async locate(): Promise<{ kubeconfig: string; kubectl: string }> {
    await prepareEnvironment();
    return { kubeconfig: kubeconfigPath(), kubectl: kubectlPath() };
  },
};
