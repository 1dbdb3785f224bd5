/** The local cluster, for the other folders. */

import { kubeconfigPath, LOCAL_CONTEXT } from "./layout.ts";
import { kubectlPath, prepareEnvironment } from "./lifecycle.ts";

/** The local cluster as the target of a command; it need not run. */
export const localTarget = {
  context: LOCAL_CONTEXT,
  async locate(): Promise<{ kubeconfig: string; kubectl: string }> {
    await prepareEnvironment();
    return { kubeconfig: kubeconfigPath(), kubectl: kubectlPath() };
  },
};
