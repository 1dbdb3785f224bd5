/**
 * The objects of k8s/ for one cluster. The manifests are valid on every cluster; where their form is general for lack of
 * knowledge ("the API server, wherever it is"), the facts of the cluster make it exact.
 */
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { KubernetesObject } from "../cluster/cluster.ts";
import type { ClusterFacts, Endpoint } from "./facts.ts";
import type { Stage } from "./stages.ts";

/** Storage class of all claims, or of the claims of one tier. */
export interface StorageChoice {
  all?: string;
  tiers: Readonly<Record<string, string>>;
}

/** The tiers with a volume, by the label app.kubernetes.io/name of their claims. */
export const STORAGE_TIERS = ["kafka", "influxdb", "prometheus", "alertmanager", "loki", "victorialogs"] as const;

/**
 * The choice of `--storage-class NAME` and `--storage-class TIER=NAME`, in any number.
 * @throws OperatorError (exit 2) that names the rule and the value
 */
export function parseStorageClasses(values: readonly string[]): StorageChoice {
  const choice: { all?: string; tiers: Record<string, string> } = { tiers: {} };
  for (const value of values) {
    const [, tier, name = ""] = /^(?:([^=]*)=)?([a-z0-9]([-a-z0-9.]*[a-z0-9])?)$/.exec(value) ?? [];
    if (name === "" || (tier !== undefined && !STORAGE_TIERS.some((known) => known === tier))) {
      throw new OperatorError(
        `--storage-class: must be NAME or TIER=NAME, where TIER is one of ${STORAGE_TIERS.join(", ")}; got "${value}"`,
        { exitCode: EXIT.usage },
      );
    }
    if (tier === undefined) choice.all = name;
    else choice.tiers[tier] = name;
  }
  return choice;
}

interface Rule {
  from?: Peer[];
  to?: Peer[];
  ports?: { protocol?: string; port?: number | string }[];
}
interface Peer {
  ipBlock?: { cidr: string };
  namespaceSelector?: { matchLabels?: Record<string, string> };
  podSelector?: { matchLabels?: Record<string, string> };
}
type Policy = KubernetesObject & { spec: { egress?: Rule[]; ingress?: Rule[] } };

const blockOf = (address: string): Peer => ({ ipBlock: { cidr: `${address}/${address.includes(":") ? 128 : 32}` } });

/** Address of NodeLocal DNSCache; the peer list that has it is the one for name servers. */
const LOCAL_DNS_BLOCK = "169.254.20.10/32";
/** Ports under which API servers are reached; a rule with these alone is the one for the API server. */
const API_SERVER_PORTS = [443, 6443];
/** Namespace of KEDA's own manifests. */
const KEDA_NAMESPACE = "keda";
const NAMESPACE_NAME = "kubernetes.io/metadata.name";

/** Annotation of the policies that deploy has adapted; those of `kubectl apply -k` have the general form of k8s/network. */
export const ADAPTED = "conveyor.dev/adapted";

const isEveryAddress = ({ ipBlock }: Peer) => ipBlock?.cidr === "0.0.0.0/0";
const isDnsRule = ({ to }: Rule) => (to ?? []).some(({ ipBlock }) => ipBlock?.cidr === LOCAL_DNS_BLOCK);
export const isApiServerRule = ({ to, ports }: Rule): boolean =>
  to === undefined &&
  ports !== undefined &&
  ports.every(({ port }) => API_SERVER_PORTS.some((known) => known === port));

/** One rule per port of the API server, with the addresses that serve it. */
function apiServerRules(endpoints: readonly Endpoint[]): Rule[] {
  return [...Map.groupBy(endpoints, ({ port }) => port)].map(([port, servers]) => ({
    to: servers.map(({ address }) => blockOf(address)),
    ports: [{ protocol: "TCP", port }],
  }));
}

/**
 * Whether the API server can be named by its addresses. Cilium does not apply address blocks to the nodes of the cluster, so
 * there the manifests' general rule stays where the API server runs on a node.
 * Source: docs.cilium.io, "policy-cidr-match-mode".
 */
export function canNameApiServer({ apiServers, nodes, isCilium }: ClusterFacts): boolean {
  if (apiServers.length === 0) return false;
  const ofNodes = new Set((nodes ?? []).flatMap(({ addresses }) => addresses));
  return !isCilium || !apiServers.some(({ address }) => ofNodes.has(address));
}

function adaptPolicy(policy: Policy, facts: ClusterFacts): Policy {
  const { spec } = policy;
  const egress = spec.egress?.flatMap((rule): Rule | Rule[] => {
    if (isDnsRule(rule)) return { ...rule, to: [...rule.to!, ...facts.dnsAddresses.map(blockOf)] };
    return isApiServerRule(rule) && canNameApiServer(facts) ? apiServerRules(facts.apiServers) : rule;
  });
  const ingress = spec.ingress?.map(({ from, ...rule }): Rule => {
    // Cilium's blocks match no node, and a node forwards what comes to a Service from outside.
    if (from === undefined || (facts.isCilium && from.some(isEveryAddress))) return rule;
    const peers = from.map((peer) => {
      const isKeda = peer.namespaceSelector?.matchLabels?.[NAMESPACE_NAME] === KEDA_NAMESPACE;
      if (!isKeda || facts.kedaNamespace === undefined) return peer;
      return { ...peer, namespaceSelector: { matchLabels: { [NAMESPACE_NAME]: facts.kedaNamespace } } };
    });
    return { from: peers, ...rule };
  });
  const { metadata } = policy;
  return {
    ...policy,
    metadata: { ...metadata, annotations: { ...metadata.annotations, [ADAPTED]: "true" } },
    spec: { ...spec, ...(egress ? { egress } : {}), ...(ingress ? { ingress } : {}) },
  };
}

interface ClaimSpec {
  storageClassName?: string;
}
type StatefulSet = KubernetesObject & { spec: { volumeClaimTemplates?: { spec: ClaimSpec }[] } };

function withStorageClass(object: KubernetesObject, { all, tiers }: StorageChoice): KubernetesObject {
  const name = tiers[object.metadata.labels?.["app.kubernetes.io/name"] ?? ""] ?? all;
  if (name === undefined) return object;
  if (object.kind === "PersistentVolumeClaim") {
    return { ...object, spec: { ...(object.spec as ClaimSpec), storageClassName: name } };
  }
  const templates = (object as StatefulSet).spec?.volumeClaimTemplates;
  if (object.kind !== "StatefulSet" || !templates) return object;
  const volumeClaimTemplates = templates.map((claim) => ({
    ...claim,
    spec: { ...claim.spec, storageClassName: name },
  }));
  return { ...object, spec: { ...(object as StatefulSet).spec, volumeClaimTemplates } };
}

/** The object for a cluster with these facts. */
function adaptObject(
  object: KubernetesObject,
  facts: ClusterFacts,
  storage: StorageChoice = { tiers: {} },
): KubernetesObject {
  if (object.kind === "NetworkPolicy") return adaptPolicy(object as Policy, facts);
  return withStorageClass(object, storage);
}

/** The stages for a cluster with these facts. */
export const adaptStages = (stages: readonly Stage[], facts: ClusterFacts, storage?: StorageChoice): Stage[] =>
  stages.map((stage) => ({ ...stage, objects: stage.objects.map((object) => adaptObject(object, facts, storage)) }));
