/**
 * Properties in which clusters of other makers differ from the local cluster, and variants of the local cluster that have
 * them: `up --like NAME`. A variant reproduces these properties, and nothing else of the cluster that it is named after.
 */
import { EXIT, OperatorError } from "../cli/errors.ts";

export interface Properties {
  /** The domain of services' names. */
  domain: string;
  /** Signer of the certificate with which a kubelet serves; nobody can verify one that it signed itself. */
  kubeletCertificate: "cluster" | "kubelet";
  /** Source of the provisioned volumes. A kubelet has statistics of `local` ones, and none of `hostPath` ones. */
  volumes: "local" | "hostPath";
  storageClass: {
    name: string;
    isDefault: boolean;
    /** WaitForFirstConsumer: a claim stays Pending until a pod uses it. */
    binding: "Immediate" | "WaitForFirstConsumer";
  };
  hasMetricsServer: boolean;
  /** Address, in the node's own network, of the DNS server that pods ask instead of the one behind the Service. */
  nodeDns?: string;
  /** Pods, services and nodes have addresses of both families, and the IPv6 one is the first. */
  isIpv6First: boolean;
}

/** The local cluster without --like. */
const DEFAULTS: Properties = {
  domain: "cluster.local",
  kubeletCertificate: "cluster",
  volumes: "local",
  storageClass: { name: "standard", isDefault: true, binding: "Immediate" },
  hasMetricsServer: true,
  isIpv6First: false,
};

/** What each variant has instead of the defaults, and where that is said of the cluster that it is named after. */
const VARIANTS = {
  kind: {
    // kubeadm, which kind uses, leaves it so: kubernetes/kubeadm#1602.
    kubeletCertificate: "kubelet",
    // Its class `standard` is local-path-provisioner's: kubernetes-sigs/kind#3643, rancher/local-path-provisioner#44.
    volumes: "hostPath",
    storageClass: { name: "standard", isDefault: true, binding: "WaitForFirstConsumer" },
    hasMetricsServer: false,
  },
  kubeadm: {
    kubeletCertificate: "kubelet", // kubernetes/kubeadm#1602
    // kubeadm brings no class; the one that its user installs need not be the default.
    storageClass: { name: "standard", isDefault: false, binding: "Immediate" },
    hasMetricsServer: false,
    // Its default is cluster.local; this is `networking.dnsDomain` of its ClusterConfiguration, set to another one.
    domain: "k8s.internal",
  },
  k3s: {
    // Its packaged local-path-provisioner: rancher/local-path-provisioner#44. Its kubelets' certificates are of the cluster's
    // authority, and metrics-server is packaged too: docs.k3s.io, "Managing Packaged Components".
    volumes: "hostPath",
    storageClass: { name: "local-path", isDefault: true, binding: "WaitForFirstConsumer" },
  },
  gke: {
    // NodeLocal DNSCache, always in Autopilot, by default in Standard from 1.34.1: GKE's page "Set up NodeLocal DNSCache".
    // kube-dns' pods run beside it, unused: tektoncd/operator#4000.
    nodeDns: "169.254.20.10",
    storageClass: { name: "standard-rwo", isDefault: true, binding: "WaitForFirstConsumer" },
  },
  // Names that a cluster's owner may choose, and that no default hides: the domain, and a class that must be named.
  renamed: {
    domain: "k8s.internal",
    storageClass: { name: "fast", isDefault: false, binding: "WaitForFirstConsumer" },
  },
  // Of no maker: what every one of them offers, and what programs that listen on IPv4 alone do not survive.
  ipv6: { isIpv6First: true },
} as const satisfies Record<string, Partial<Properties>>;

export type VariantName = keyof typeof VARIANTS;

export const VARIANT_NAMES = Object.keys(VARIANTS) as VariantName[];

/** @throws OperatorError (exit 2) that names the field, the rule and the value */
export function variantName(text: string, field: string): VariantName {
  const name = VARIANT_NAMES.find((known) => known === text);
  if (name) return name;
  throw new OperatorError(`${field}: must be one of ${VARIANT_NAMES.join(", ")}; got "${text}"`, {
    exitCode: EXIT.usage,
  });
}

/** Properties of a variant; without a name, those of the plain local cluster. */
export const propertiesOf = (name: VariantName | undefined): Properties =>
  name ? { ...DEFAULTS, ...VARIANTS[name] } : DEFAULTS;

/** The properties that differ from the plain local cluster, as text. */
export function describeVariant(name: VariantName): string {
  const { domain, kubeletCertificate, volumes, storageClass, hasMetricsServer, nodeDns, isIpv6First } =
    propertiesOf(name);
  return [
    ...(kubeletCertificate === "kubelet" ? ["self-signed kubelet certificates"] : []),
    ...(volumes === "hostPath" ? ["no volume statistics"] : []),
    ...(hasMetricsServer ? [] : ["no metrics-server"]),
    ...(nodeDns ? [`DNS at ${nodeDns}`] : []),
    ...(domain === DEFAULTS.domain ? [] : [`cluster domain ${domain}`]),
    ...(isIpv6First ? ["IPv6 before IPv4"] : []),
    `storage class ${storageClass.name} (${storageClass.isDefault ? "default" : "not default"}, ${storageClass.binding})`,
  ].join(", ");
}
