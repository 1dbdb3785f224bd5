/** How the nodes get the images of pods: pull policy, and Secrets for private registries. */
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Cluster, KubernetesObject } from "./cluster.ts";

/**
 * Pull policy of an image. The names of images that are only loaded into the nodes are in the domain `.invalid`, which no
 * resolver answers (RFC 2606): a node that lost such an image says so, instead of a failed download.
 */
export const pullPolicy = (image: string): "Never" | "IfNotPresent" =>
  /^[^/]*\.invalid(:\d+)?\//.test(image) ? "Never" : "IfNotPresent";

/** Types of Secrets that the kubelet reads credentials of registries from. */
const PULL_SECRET_TYPES = ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"];

/** @throws OperatorError (exit 3) that names each namespace without a usable pull secret, and the command that creates it */
export async function requirePullSecret(cluster: Cluster, name: string, namespaces: readonly string[]): Promise<void> {
  const problems: string[] = [];
  const lacking: string[] = [];
  for (const namespace of namespaces) {
    const secret = await cluster.get<KubernetesObject & { type?: string }>("secret", name, namespace);
    if (secret && PULL_SECRET_TYPES.includes(secret.type ?? "")) continue;
    lacking.push(namespace);
    problems.push(
      secret
        ? `Secret ${name} in namespace ${namespace}: must be of type ${PULL_SECRET_TYPES.join(" or ")}; got "${secret.type}"`
        : `namespace ${namespace} has no Secret ${name}`,
    );
  }
  if (problems.length === 0) return;
  const kubectl = `kubectl --context ${cluster.context}`;
  throw new OperatorError(`--image-pull-secret: ${problems.join("; ")}`, {
    exitCode: EXIT.precondition,
    hint: lacking
      .map(
        (namespace) =>
          `${kubectl} create namespace ${namespace}   (where it does not exist)\n` +
          `${kubectl} -n ${namespace} create secret docker-registry ${name} --docker-server=HOST --docker-username=NAME --docker-password=PASSWORD`,
      )
      .join("\n"),
  });
}

/** Names of the pull secrets of the deployed pipeline's pods. */
async function deployedPullSecrets(cluster: Cluster): Promise<string[]> {
  const account = await cluster.get<KubernetesObject & { imagePullSecrets?: { name: string }[] }>(
    "serviceaccount",
    "default",
  );
  return account?.imagePullSecrets?.map(({ name }) => name) ?? [];
}

/**
 * Copies of the pipeline's pull secrets for another namespace. Service accounts and their Secrets belong to one namespace,
 * so a pod elsewhere has to name copies itself.
 */
export async function copiedPullSecrets(
  cluster: Cluster,
  namespace: string,
  labels: Record<string, string>,
): Promise<KubernetesObject[]> {
  const copies: KubernetesObject[] = [];
  for (const name of await deployedPullSecrets(cluster)) {
    const secret = await cluster.get<KubernetesObject & { type?: string; data?: Record<string, string> }>(
      "secret",
      name,
    );
    if (!secret) continue;
    const { type, data } = secret;
    copies.push({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace, labels }, type, data });
  }
  return copies;
}
