/** The services' image of the deployed pipeline, which one-off pods use too. */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE, type Workload } from "./cluster.ts";

/** @throws OperatorError (exit 3) when no processor is deployed. */
export async function deployedServicesImage(cluster: Cluster): Promise<string> {
  const deployment = await cluster.get<Workload>("deployment", "processor");
  const image = deployment?.spec.template.spec.containers[0]?.image;
  if (!image) {
    throw new OperatorError(`no pipeline is deployed in namespace ${NAMESPACE} of context ${cluster.context}`, {
      exitCode: EXIT.precondition,
      hint: "bun scripts/deploy.ts; or --namespace NAME, where it is in another namespace",
    });
  }
  return image;
}
