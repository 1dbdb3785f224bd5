/** Facts of a cluster for tests: one node, the local cluster's addresses, everything that a deploy wants. */
import type { ClusterFacts } from "../../../scripts/deploy/facts.ts";

export const FACTS: ClusterFacts = {
  kubernetesVersion: "v1.36.3",
  dnsAddresses: ["10.96.0.10"],
  apiServers: [
    { address: "10.96.0.1", port: 443 },
    { address: "198.19.0.2", port: 6443 },
  ],
  storageClasses: [{ name: "standard", isDefault: true }],
  nodes: [
    {
      name: "node-1",
      operatingSystem: "linux",
      architecture: "amd64",
      isSchedulable: true,
      addresses: ["198.19.0.2"],
      cpuCores: 2,
      memoryBytes: 16 * 1024 ** 3,
    },
  ],
  kedaNamespace: "keda",
  isCilium: false,
  isOpenShift: false,
  quotas: [],
};
