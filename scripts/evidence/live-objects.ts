/** Objects of the cluster as manifests: without the fields that the API server adds, in a stable order. */
import { stringify } from "yaml";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import type { Stage } from "../deploy/stages.ts";

/** Annotations of tools. */
const TOOL_ANNOTATIONS = /^(kubectl\.kubernetes\.io|deployment\.kubernetes\.io|autoscaling\.alpha\.kubernetes\.io)\//;

/** The object without status and without metadata of the API server. */
export function asWritten(object: KubernetesObject): KubernetesObject {
  const { apiVersion, kind, metadata, status: _status, ...rest } = object;
  const { name, namespace, labels } = metadata;
  const annotations = Object.entries(metadata.annotations ?? {}).filter(([key]) => !TOOL_ANNOTATIONS.test(key));
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      ...(namespace ? { namespace } : {}),
      ...(labels ? { labels: sorted(labels) } : {}),
      ...(annotations.length > 0 ? { annotations: sorted(Object.fromEntries(annotations)) } : {}),
    },
    ...rest,
  };
}

const sorted = <T>(record: Record<string, T>): Record<string, T> =>
  Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));

const sortKey = ({ kind, metadata }: KubernetesObject) => `${metadata.namespace ?? ""}/${kind}/${metadata.name}`;

/** YAML documents in the order of namespace, kind and name: the same cluster always produces the same text. */
export function yamlOf(objects: readonly KubernetesObject[], head: readonly string[]): string {
  const documents = [...objects]
    .sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1))
    .map((object) => stringify(asWritten(object), { lineWidth: 0 }));
  return [...head.map((line) => `# ${line}`), "---", documents.join("---\n")].join("\n");
}

/** All namespaces of the deployment, sorted. */
export const namespacesOf = (stages: readonly Stage[]): string[] =>
  [
    ...new Set([
      NAMESPACE,
      ...stages.flatMap(({ objects }) => objects.flatMap(({ metadata }) => metadata.namespace || [])),
    ]),
  ].sort();

/** Objects of a kind in some namespaces; none if the API server does not have the kind. */
export async function liveObjects(
  cluster: Cluster,
  kind: string,
  namespaces: readonly string[],
  signal: AbortSignal,
): Promise<KubernetesObject[]> {
  const lists = await Promise.all(namespaces.map((namespace) => cluster.listIfServed(kind, namespace, signal)));
  return lists.flat();
}
