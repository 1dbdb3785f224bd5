/** Artifacts that are objects of the cluster: the deployed network policies and autoscalers. */
import { join } from "node:path";
import { writeAtomic } from "../cli/files.ts";
import { readFacts } from "../deploy/facts.ts";
import { deployedStages } from "../deploy/stages.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { liveObjects, namespacesOf, yamlOf } from "./live-objects.ts";

/** Line of network-policies.yaml that lists the stages that are not deployed; a test reads it. */
export const SKIPPED_STAGES_LINE = "stages that this cluster does not have: ";

/** Line of network-policies.yaml with the addresses that deploy added to the manifests, as JSON; a test reads it. */
export const ADDRESSES_LINE = "addresses of this cluster: ";

async function addressesLine({ cluster, signal }: EvidenceContext): Promise<string> {
  const { dnsAddresses, apiServers } = await readFacts(cluster, signal);
  return `${ADDRESSES_LINE}${JSON.stringify({ dnsAddresses, apiServers })}`;
}

async function make(
  context: EvidenceContext,
  file: string,
  kinds: readonly string[],
  what: string,
  lines: readonly string[] = [],
): Promise<Making> {
  const cluster = context.cluster;
  const { stages, skipped } = await deployedStages(cluster);
  // Not the objects of the manifests: a policy that was added by hand is shown too.
  const namespaces = namespacesOf(stages);
  const objects = [];
  for (const kind of kinds) objects.push(...(await liveObjects(cluster, kind, namespaces, context.signal)));
  if (objects.length === 0) return { made: false, reason: `no ${what} is deployed`, hint: "bun scripts/deploy.ts" };
  await writeAtomic(
    join(context.out, file),
    yamlOf(objects, [
      `The deployed ${what}, read from the cluster by: bun scripts/evidence.ts`,
      `${SKIPPED_STAGES_LINE}${skipped.join(", ") || "none"}`,
      ...lines,
    ]),
  );
  return { made: true, detail: `${objects.length} objects`, files: [file] };
}

export const networkPolicies: Artifact = {
  name: "network-policies",
  title: "all deployed NetworkPolicies, without the fields of the API server",
  files: ["network-policies.yaml"],
  make: async (context) =>
    await make(context, "network-policies.yaml", ["networkpolicies.networking.k8s.io"], "network policies", [
      await addressesLine(context),
    ]),
};

export const autoscalers: Artifact = {
  name: "autoscalers",
  title: "the deployed autoscalers: HorizontalPodAutoscalers and KEDA's ScaledObjects",
  files: ["autoscalers.yaml"],
  make: (context) =>
    make(
      context,
      "autoscalers.yaml",
      ["horizontalpodautoscalers.autoscaling", "scaledobjects.keda.sh", "triggerauthentications.keda.sh"],
      "autoscalers",
    ),
};
