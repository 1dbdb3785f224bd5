/**
 * The properties of a cluster that the manifests depend on. What this account may not read is undefined, and the manifests
 * keep their general form there.
 */
import { apiVersionsOf, type Cluster, KubectlError, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { quantity } from "../cluster/quantity.ts";

/** The API server as a pod reaches it: an address and its port. */
export interface Endpoint {
  address: string;
  port: number;
}

interface StorageClass {
  name: string;
  isDefault: boolean;
}

interface NodeFacts {
  name: string;
  operatingSystem: string;
  /** GOARCH: amd64, arm64. */
  architecture: string;
  /** Runs Linux, and is neither cordoned nor has a taint that keeps ordinary pods away. */
  isSchedulable: boolean;
  addresses: string[];
  cpuCores: number;
  memoryBytes: number;
}

export interface ClusterFacts {
  kubernetesVersion: string;
  /** Addresses of the cluster's name server as pods are configured: of the Service kube-dns, both families. */
  dnsAddresses: string[];
  /** Of the Service kubernetes and of the servers behind it; empty where they may not be read. */
  apiServers: Endpoint[];
  storageClasses: StorageClass[] | undefined;
  nodes: NodeFacts[] | undefined;
  /** Namespace of KEDA's operator; undefined without KEDA. */
  kedaNamespace: string | undefined;
  /** Network plugin that does not apply address blocks to the cluster's own nodes. */
  isCilium: boolean;
  /** OpenShift assigns user IDs itself. */
  isOpenShift: boolean;
  /** ResourceQuotas of the pipeline's namespace. */
  quotas: KubernetesObject[];
}

type Service = KubernetesObject & { spec: { clusterIP?: string; clusterIPs?: string[]; ports?: { port: number }[] } };
type Slice = KubernetesObject & { endpoints?: { addresses: string[] }[] | null; ports?: { port?: number }[] | null };
type NodeObject = KubernetesObject & {
  spec: { unschedulable?: boolean; taints?: { key: string; effect: string }[] };
  status: {
    addresses?: { type: string; address: string }[];
    nodeInfo: { operatingSystem: string; architecture: string };
    allocatable?: Record<string, string>;
  };
};

const DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class";

/** A list, or undefined where this account may not read it. */
async function readList<T extends KubernetesObject>(
  cluster: Cluster,
  args: readonly string[],
  signal: AbortSignal,
): Promise<T[] | undefined> {
  try {
    return (await cluster.json<{ items: T[] }>(["get", ...args], { signal })).items;
  } catch (error) {
    if (error instanceof KubectlError) return undefined;
    throw error;
  }
}

const isHeadless = (address: string) => address === "None" || address === "";

function clusterIps({ spec: { clusterIP, clusterIPs } }: Service): string[] {
  return (clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP])).filter((address) => !isHeadless(address));
}

/** A Linux node takes ordinary pods unless it is cordoned or has a taint that keeps them away. */
const isSchedulable = ({ spec, status }: NodeObject) =>
  status.nodeInfo.operatingSystem === "linux" &&
  spec.unschedulable !== true &&
  !(spec.taints ?? []).some(({ effect }) => effect !== "PreferNoSchedule");

/** Reads the facts, in one round of concurrent calls. */
export async function readFacts(cluster: Cluster, signal: AbortSignal): Promise<ClusterFacts> {
  const list = <T extends KubernetesObject>(...args: string[]) => readList<T>(cluster, args, signal);
  const [apiVersions, version, dns, api, slices, classes, nodes, keda, cilium, quotas] = await Promise.all([
    apiVersionsOf(cluster, signal),
    cluster.json<{ serverVersion?: { gitVersion?: string } }>(["version"], { signal }),
    list<Service>("services", "-n", "kube-system", "-l", "k8s-app=kube-dns"),
    list<Service>("services", "-n", "default", "-l", "component=apiserver"),
    list<Slice>("endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes"),
    list<KubernetesObject>("storageclasses"),
    list<NodeObject>("nodes"),
    list<KubernetesObject>("deployments", "-A", "-l", "app=keda-operator"),
    list<KubernetesObject>("daemonsets", "-n", "kube-system", "-l", "k8s-app=cilium"),
    list<KubernetesObject>("resourcequotas", "-n", NAMESPACE),
  ]);
  const services = (api ?? []).flatMap((service) =>
    clusterIps(service).map((address) => ({ address, port: service.spec.ports?.[0]?.port ?? 443 })),
  );
  const servers = (slices ?? []).flatMap(({ endpoints, ports }) =>
    (endpoints ?? []).flatMap(({ addresses }) =>
      addresses.map((address) => ({ address, port: ports?.[0]?.port ?? 6443 })),
    ),
  );
  return {
    kubernetesVersion: version.serverVersion?.gitVersion ?? "unknown",
    dnsAddresses: [...new Set((dns ?? []).flatMap(clusterIps))].sort(),
    apiServers: servers.length === 0 ? [] : uniqueEndpoints([...services, ...servers]),
    storageClasses: classes?.map(({ metadata: { name, annotations } }) => ({
      name,
      isDefault: annotations?.[DEFAULT_CLASS] === "true",
    })),
    nodes: nodes?.map((node) => ({
      name: node.metadata.name,
      operatingSystem: node.status.nodeInfo.operatingSystem,
      architecture: node.status.nodeInfo.architecture,
      isSchedulable: isSchedulable(node),
      addresses: (node.status.addresses ?? [])
        .filter(({ type }) => type === "InternalIP" || type === "ExternalIP")
        .map(({ address }) => address),
      cpuCores: quantity(node.status.allocatable?.cpu),
      memoryBytes: quantity(node.status.allocatable?.memory),
    })),
    kedaNamespace: keda?.[0]?.metadata.namespace,
    isCilium: (cilium ?? []).length > 0,
    isOpenShift: apiVersions.has("security.openshift.io/v1"),
    quotas: quotas ?? [],
  };
}

/** Unique and sorted, so that two reads of the same cluster give the same policies. */
function uniqueEndpoints(endpoints: readonly Endpoint[]): Endpoint[] {
  const byText = new Map(endpoints.map((endpoint) => [`${endpoint.address} ${endpoint.port}`, endpoint]));
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, endpoint]) => endpoint);
}

/**
 * Platforms of the Linux nodes, as "linux/arm64"; undefined where nodes may not be listed: images are then built for the platform
 * of this machine.
 */
export function platformsOf({ nodes }: ClusterFacts): string[] | undefined {
  const linux = nodes?.filter(({ operatingSystem }) => operatingSystem === "linux");
  return linux && [...new Set(linux.map(({ architecture }) => `linux/${architecture}`))].sort();
}
