/** Names, addresses and folders of the local cluster. */
import { join } from "node:path";
import { cacheFolder, stateFolder } from "../cli/paths.ts";
import { addressAt, type Subnets } from "./subnets.ts";
import { type Properties, propertiesOf, type VariantName } from "./variants.ts";

/** Context name in the kubeconfig; other commands identify the local cluster by it. */
export const LOCAL_CONTEXT = "conveyor-local";
/** The only network interface of the cluster outside its namespaces. */
export const HOST_LINK = "conveyor0";
/** Its other end, in the node's network namespace. */
export const NODE_LINK = "uplink";

export const API_PORT = 6443;
/** etcd's metrics, without a certificate, for a Prometheus in the cluster; no data can be read there. */
export const ETCD_METRICS_PORT = 2381;
/** Position of the cluster's DNS in the services' range, as kubeadm has it. */
const DNS_POSITION = 10;

/**
 * Ranges of a cluster with IPv6 addresses: unique local ones (RFC 4193), which exist inside the nodes' namespaces alone, so
 * that they cannot clash with the machine's.
 */
export const IPV6 = {
  nodes: "fd7c:9a31:e2b5::/64",
  services: "fd7c:9a31:e2b5:1::/112",
  pods: "fd7c:9a31:e2b5:100::/56",
} as const;

/** The address at a position of an IPv6 range that ends in "::". */
const ipv6At = (range: string, position: number) => `${range.split("/")[0]}${position.toString(16)}`;

/** The settings that the first `up` chooses and later ones keep. */
export interface ClusterPlan {
  format: 1;
  subnets: Subnets;
  nodes: string[];
  /** Absent: the plain local cluster. */
  like?: VariantName;
  created_at: string;
}

export interface Layout {
  plan: ClusterPlan;
  properties: Properties;
  state: string;
  pki: string;
  run: string;
  logs: string;
  /** Folders of persistent volumes on the machine. */
  volumes: string;
  etcd: string;
  kubeconfig: string;
  apiServer: string;
  hostAddress: string;
  apiAddress: string;
  /** These three are of the first family. */
  advertiseAddress: string;
  dnsAddress: string;
  kubernetesAddress: string;
  /** Ranges of each family, the first one first, separated by commas as the programs' flags have them. */
  podRanges: string;
  serviceRanges: string;
  /** Folders with the programs. */
  kubernetes: string;
  runtime: string;
}

export interface NodeLayout {
  name: string;
  address: string;
  /** One of each family, the first family first. */
  addresses: string[];
  /** Folders of this node on the machine; inside the node they are at the usual paths (/var/lib, /var/log). */
  folder: string;
  varLib: string;
  varLog: string;
  etc: string;
  /** containerd's images and snapshots: kept in the cache, since importing images takes most of the time. */
  containerd: string;
}

/** Paths inside a node; every node has its own mount namespace. */
export const IN_NODE = {
  kubelet: "/var/lib/kubelet",
  containerd: "/var/lib/containerd",
  volumes: "/var/lib/conveyor/volumes",
  etcd: "/var/lib/conveyor/etcd",
  containerdSocket: "/run/containerd/containerd.sock",
} as const;

/** Folders of the machine that a node covers with its own; our folders must not be under them. */
export const COVERED = ["/run", "/var/run", "/var/lib", "/var/log"] as const;

/** Also while there is no cluster. */
export const kubeconfigPath = (): string => join(stateFolder(), "kubeconfig");
export const planPath = (): string => join(stateFolder(), "cluster.json");

/** Variables that send web traffic to a proxy. */
const PROXY_VARIABLES = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/**
 * Exempts the API server, which only this machine can reach, from the user's proxy: for this process, and for kubectl,
 * which inherits its environment.
 */
export function exemptFromProxies(
  address: string,
  environment: Record<string, string | undefined> = process.env,
): void {
  if (!PROXY_VARIABLES.some((name) => environment[name])) return;
  const exempt = (environment.NO_PROXY ?? environment.no_proxy ?? "").split(",").filter(Boolean);
  if (!exempt.includes(address)) exempt.push(address);
  environment.NO_PROXY = exempt.join(",");
  environment.no_proxy = environment.NO_PROXY;
}

export function layoutOf(plan: ClusterPlan, programs: { kubernetes: string; runtime: string }): Layout {
  const state = stateFolder();
  const apiAddress = addressAt(plan.subnets.nodes, 2);
  exemptFromProxies(apiAddress);
  const { pods, services } = plan.subnets;
  const properties = propertiesOf(plan.like);
  const { isIpv6First } = properties;
  const serviceAddress = (position: number) =>
    isIpv6First ? ipv6At(IPV6.services, position) : addressAt(services, position);
  return {
    plan,
    properties,
    state,
    pki: join(state, "pki"),
    run: join(state, "run"),
    logs: join(state, "logs"),
    volumes: join(state, "volumes"),
    etcd: join(state, "etcd"),
    kubeconfig: kubeconfigPath(),
    apiServer: `https://${apiAddress}:${API_PORT}`,
    hostAddress: addressAt(plan.subnets.nodes, 1),
    apiAddress,
    advertiseAddress: isIpv6First ? ipv6At(IPV6.nodes, 2) : apiAddress,
    dnsAddress: serviceAddress(DNS_POSITION),
    kubernetesAddress: serviceAddress(1),
    podRanges: isIpv6First ? `${IPV6.pods},${pods}` : pods,
    serviceRanges: isIpv6First ? `${IPV6.services},${services}` : services,
    ...programs,
  };
}

/** @param index position in the plan's list of nodes; the first one also runs the control plane */
export function nodeLayout(layout: Layout, index: number): NodeLayout {
  const name = layout.plan.nodes[index]!;
  const folder = join(layout.state, "nodes", name);
  const address = addressAt(layout.plan.subnets.nodes, 2 + index);
  return {
    name,
    address,
    addresses: layout.properties.isIpv6First ? [ipv6At(IPV6.nodes, 2 + index), address] : [address],
    folder,
    varLib: join(folder, "var-lib"),
    varLog: join(folder, "var-log"),
    etc: join(folder, "etc"),
    containerd: join(cacheFolder(), "containerd", name),
  };
}
