/** The services' image of the deployed pipeline, which one-off pods use too. */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "./cluster.ts";

type Deployment = KubernetesObject & { spec: { template: { spec: { containers: { image: string }[] } } } };

/** @throws OperatorError (exit 3) when no processor is deployed. */
export async function deployedServicesImage(cluster: Cluster): Promise<string> {
  const deployment = await cluster.get<Deployment>("deployment", "processor", NAMESPACE);
  const image = deployment?.spec.template.spec.containers[0]?.image;
  if (!image) {
    throw new OperatorError(`no pipeline is deployed in namespace ${NAMESPACE} of context ${cluster.context}`, {
      exitCode: EXIT.precondition,
      hint: "bun scripts/deploy.ts",
    });
  }
  return image;
}
