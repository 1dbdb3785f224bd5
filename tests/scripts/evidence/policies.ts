/** Network policies in a normal form: with the defaults of the API server, sorted. */
import { parseAllDocuments } from "yaml";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { adaptStages } from "../../../scripts/deploy/adapt.ts";
import { withExposure } from "../../../scripts/deploy/expose.ts";
import type { ClusterFacts } from "../../../scripts/deploy/facts.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { ADDRESSES_LINE, SKIPPED_STAGES_LINE } from "../../../scripts/evidence/manifests.ts";

interface Rule {
  ports?: { protocol?: string; port?: number | string }[];
  [peers: string]: unknown;
}

interface PolicySpec {
  policyTypes: string[];
  ingress?: Rule[];
  egress?: Rule[];
  [field: string]: unknown;
}

const withDefaults = (rules: Rule[] | undefined) =>
  (rules ?? []).map((rule) => ({
    ...rule,
    ...(rule.ports ? { ports: rule.ports.map((port) => ({ protocol: "TCP", ...port })) } : {}),
  }));

/** namespace/name → spec; every NetworkPolicy among some objects. */
function meaningOf(objects: readonly KubernetesObject[]): Record<string, unknown> {
  return Object.fromEntries(
    objects
      .filter(({ kind }) => kind === "NetworkPolicy")
      .map((object) => {
        const spec = object.spec as PolicySpec;
        const meaning = {
          ...spec,
          policyTypes: [...spec.policyTypes].sort(),
          ingress: withDefaults(spec.ingress),
          egress: withDefaults(spec.egress),
        };
        return [`${object.metadata.namespace}/${object.metadata.name}`, meaning];
      }),
  );
}

/** Policies of network-policies.yaml and of the manifests, without the stages that the file lists as skipped. */
export async function writtenAndWanted(text: string) {
  const after = (start: string) => text.split("\n").flatMap((line) => line.split(start).slice(1))[0] ?? "";
  const skipped = after(SKIPPED_STAGES_LINE).split(", ");
  const addresses = JSON.parse(after(ADDRESSES_LINE)) as Pick<ClusterFacts, "dnsAddresses" | "apiServers">;
  const facts: ClusterFacts = {
    kubernetesVersion: "",
    storageClasses: undefined,
    nodes: undefined,
    kedaNamespace: undefined,
    isCilium: false,
    isOpenShift: false,
    quotas: [],
    ...addresses,
  };
  const stages = adaptStages(withExposure(await loadStages(), { exposure: undefined }), facts).filter(
    ({ name }) => !skipped.includes(name),
  );
  return {
    skipped,
    written: meaningOf(parseAllDocuments(text).map((document) => document.toJS() as KubernetesObject)),
    wanted: meaningOf(stages.flatMap(({ objects }) => objects)),
  };
}
