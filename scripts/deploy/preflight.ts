/**
 * What would make a deploy fail or leave a part without effect on this cluster, found before anything is applied: with the
 * way out of each.
 */
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { type Cluster, type KubernetesObject, keyOf, listOf, NAMESPACE } from "../cluster/cluster.ts";
import { quantity } from "../cluster/quantity.ts";
import { canNameApiServer, STORAGE_TIERS, type StorageChoice } from "./adapt.ts";
import type { ClusterFacts } from "./facts.ts";
import { podTemplateOf } from "./manifests.ts";
import { SIZE, SIZES, type Size } from "./sizes.ts";
import type { Stage } from "./stages.ts";

export interface Finding {
  /** A deploy with it is refused; without it, it is reported. */
  isFatal: boolean;
  text: string;
  /** The way out. */
  hint?: string;
}

const fatal = (text: string, hint: string): Finding => ({ isFatal: true, text, hint });
const warning = (text: string, hint: string): Finding => ({ isFatal: false, text, hint });

/** A right that a deploy needs, as in SelfSubjectAccessReview. */
interface Right {
  verb: string;
  group?: string;
  resource: string;
  namespace?: string;
}

/** One right per kind of object that is refused separately in practice; a role may also lack others. */
const RIGHTS: readonly Right[] = [
  { verb: "create", resource: "namespaces" },
  { verb: "create", group: "rbac.authorization.k8s.io", resource: "clusterroles" },
  { verb: "create", group: "rbac.authorization.k8s.io", resource: "clusterrolebindings" },
  { verb: "create", group: "networking.k8s.io", resource: "networkpolicies", namespace: NAMESPACE },
  { verb: "create", group: "apps", resource: "statefulsets", namespace: NAMESPACE },
  { verb: "create", resource: "secrets", namespace: NAMESPACE },
  { verb: "create", resource: "pods/exec", namespace: NAMESPACE },
];

/** The rights that this account lacks. */
async function missingRights(cluster: Cluster, signal: AbortSignal): Promise<Right[]> {
  const reviews = RIGHTS.map(({ resource, ...right }) => {
    const [name, subresource] = resource.split("/");
    return {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectAccessReview",
      metadata: {} as KubernetesObject["metadata"],
      spec: { resourceAttributes: { ...right, resource: name, subresource } },
    };
  });
  // kubectl prints the created objects one after another, which is no JSON document.
  const { stdout } = await cluster.kubectl(["create", "-f", "-", "-o", "jsonpath={.status.allowed} "], {
    input: listOf(reviews),
    signal,
  });
  const allowed = stdout.trim().split(" ");
  return RIGHTS.filter((_, index) => allowed[index] === "false");
}

interface Claim {
  tier: string;
  name: string;
}

function hasClaim({ kind, spec }: KubernetesObject): boolean {
  const { volumeClaimTemplates = [] } = (spec ?? {}) as { volumeClaimTemplates?: unknown[] };
  return kind === "PersistentVolumeClaim" || volumeClaimTemplates.length > 0;
}

/** The claims of the stages that do not exist yet; a StatefulSet makes those of its pods. */
function newClaims(stages: readonly Stage[], live: readonly KubernetesObject[]): Claim[] {
  const existing = new Set(live.map(keyOf));
  return stages
    .flatMap(({ objects }) => objects)
    .filter((object) => hasClaim(object) && !existing.has(keyOf(object)))
    .map(({ metadata }) => ({ tier: metadata.labels?.["app.kubernetes.io/name"] ?? "", name: metadata.name }));
}

function storageFindings(
  { storageClasses }: ClusterFacts,
  claims: readonly Claim[],
  { all, tiers }: StorageChoice,
): Finding[] {
  if (storageClasses === undefined || claims.length === 0) return [];
  const names = storageClasses.map(({ name }) => name);
  const choose =
    names.length > 0
      ? `--storage-class NAME, or TIER=NAME for ${STORAGE_TIERS.join(", ")}; classes of this cluster: ${names.join(", ")}`
      : "this cluster has no storage class: install a provisioner, for example https://github.com/rancher/local-path-provisioner";
  const named = [...(all === undefined ? [] : [all]), ...Object.values(tiers)];
  const unknown = named.filter((name) => !names.includes(name));
  if (unknown.length > 0) return [fatal(`--storage-class: the cluster has no class ${unknown.join(", ")}`, choose)];
  const without = claims.filter(({ tier }) => tiers[tier] === undefined && all === undefined);
  if (without.length === 0 || storageClasses.some(({ isDefault }) => isDefault)) return [];
  return [
    fatal(
      `the cluster has no default StorageClass for the volumes of ${without.map(({ name }) => name).join(", ")}`,
      choose,
    ),
  ];
}

/**
 * What all pods of the stages request together, each workload with its declared replicas, a DaemonSet on each node. A stage that
 * replaces another one does not count: only one of the two is applied.
 */
export function requestsOf(
  stages: readonly Stage[],
  nodeCount: number,
): { cpuCores: number; memoryBytes: number; pods: number } {
  const total = { cpuCores: 0, memoryBytes: 0, pods: 0 };
  for (const object of stages.flatMap(({ objects, fallbackFor }) => (fallbackFor ? [] : objects))) {
    const template = podTemplateOf(object);
    if (!template) continue;
    const { replicas = 1 } = object.spec as { replicas?: number };
    const count = object.kind === "DaemonSet" ? nodeCount : replicas;
    // Init containers run before the others: the larger of both counts.
    const sum = (resource: "cpu" | "memory", containers: readonly object[]) =>
      containers.map((container) => {
        const { resources } = container as { resources?: { requests?: Record<string, string> } };
        return quantity(resources?.requests?.[resource] ?? "0");
      });
    const { initContainers = [], containers } = template.spec;
    const needed = (resource: "cpu" | "memory") =>
      Math.max(
        sum(resource, containers).reduce((total, value) => total + value, 0),
        ...sum(resource, initContainers),
      );
    total.cpuCores += count * needed("cpu");
    total.memoryBytes += count * needed("memory");
    total.pods += count;
  }
  return total;
}

const gib = (bytes: number) => `${(bytes / 1024 ** 3).toFixed(1)} GiB`;

/** The size that the Namespace of the stages names. */
function sizeOf(stages: readonly Stage[]): Size {
  const objects = stages.flatMap((stage) => stage.objects);
  const namespace = objects.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === NAMESPACE);
  return (namespace?.metadata.annotations?.[SIZE] as Size | undefined) ?? "small";
}

function nodeFindings({ nodes }: ClusterFacts, stages: readonly Stage[]): Finding[] {
  if (nodes === undefined) return [];
  const usable = nodes.filter(({ isSchedulable }) => isSchedulable);
  if (usable.length === 0) {
    return [
      fatal(
        `no node takes pods: ${nodes.map(({ name }) => name).join(", ") || "the cluster has none"}`,
        "kubectl get nodes; remove the cordon (kubectl uncordon NODE) or the taint (kubectl taint node NODE KEY-)",
      ),
    ];
  }
  const size = sizeOf(stages);
  if (usable.length < SIZES[size].nodes) {
    return [
      fatal(
        `size ${size} needs ${SIZES[size].nodes} nodes, one for each broker; ${usable.length} of the cluster's ${nodes.length} take pods`,
        "--size small, or add nodes",
      ),
    ];
  }
  const needed = requestsOf(stages, usable.length);
  const cpuCores = usable.reduce((total, node) => total + node.cpuCores, 0);
  const memoryBytes = usable.reduce((total, node) => total + node.memoryBytes, 0);
  if (needed.cpuCores <= cpuCores && needed.memoryBytes <= memoryBytes) return [];
  return [
    fatal(
      `the pipeline requests ${needed.cpuCores.toFixed(1)} cores and ${gib(needed.memoryBytes)}; the nodes that take pods have ${cpuCores.toFixed(1)} cores and ${gib(memoryBytes)}`,
      "add nodes",
    ),
  ];
}

type Quota = KubernetesObject & { spec: { hard?: Record<string, string> } };

function quotaFindings({ quotas, nodes }: ClusterFacts, stages: readonly Stage[]): Finding[] {
  const needed = requestsOf(stages, (nodes ?? []).filter(({ isSchedulable }) => isSchedulable).length);
  const amounts: Record<string, number> = {
    "requests.cpu": needed.cpuCores,
    cpu: needed.cpuCores,
    "requests.memory": needed.memoryBytes,
    memory: needed.memoryBytes,
    pods: needed.pods,
  };
  return (quotas as Quota[]).flatMap(({ metadata, spec }) =>
    Object.entries(spec.hard ?? {})
      .filter(([resource, hard]) => (amounts[resource] ?? 0) > quantity(hard))
      .map(([resource, hard]) =>
        fatal(
          `ResourceQuota ${metadata.name} allows ${resource}=${hard} in namespace ${NAMESPACE}; the pipeline needs ${Number(amounts[resource]!.toFixed(2))}`,
          `kubectl -n ${NAMESPACE} edit resourcequota ${metadata.name}, or another --namespace`,
        ),
      ),
  );
}

/** Findings that need nothing but the facts. */
export function findingsOf(
  facts: ClusterFacts,
  stages: readonly Stage[],
  live: readonly KubernetesObject[],
  storage: StorageChoice,
): Finding[] {
  const findings = [
    ...storageFindings(facts, newClaims(stages, live), storage),
    ...nodeFindings(facts, stages),
    ...quotaFindings(facts, stages),
  ];
  if (!canNameApiServer(facts)) {
    findings.push(
      warning(
        "the network policies allow the ports 443 and 6443 of every address to the pods that need the API server",
        facts.isCilium
          ? "Cilium applies address blocks to nodes only with policy-cidr-match-mode=nodes"
          : "this account may not read the EndpointSlices of the Service kubernetes in the namespace default",
      ),
    );
  }
  if (facts.isOpenShift) {
    findings.push(
      warning(
        "OpenShift assigns user IDs; the pods of the pipeline have the user ID 10001",
        `oc adm policy add-scc-to-group nonroot-v2 system:serviceaccounts:${NAMESPACE}`,
      ),
    );
  }
  return findings;
}

/**
 * Examines the cluster before a deploy, and reports what is found.
 * @throws OperatorError (exit 3) that lists everything that would make the deploy fail, with the way out of each
 */
export async function preflight(
  cluster: Cluster,
  facts: ClusterFacts,
  stages: readonly Stage[],
  storage: StorageChoice,
  report: Pick<Report, "warn">,
  signal: AbortSignal,
): Promise<void> {
  const objects = stages.flatMap((stage) => stage.objects).filter(hasClaim);
  const [live, rights] = await Promise.all([cluster.existing(objects, signal), missingRights(cluster, signal)]);
  const lacking = rights.map(({ verb, group, resource, namespace }) =>
    fatal(
      `this account may not ${verb} ${resource}${group ? `.${group}` : ""}${namespace ? ` in namespace ${namespace}` : ""}`,
      "use an account with the ClusterRole cluster-admin for the deploy; the pipeline itself runs without such rights",
    ),
  );
  const findings = [...lacking, ...findingsOf(facts, stages, live, storage)];
  for (const { isFatal, text, hint } of findings) if (!isFatal) report.warn(`${text}; ${hint}`);
  const problems = findings.filter(({ isFatal }) => isFatal);
  if (problems.length === 0) return;
  throw new OperatorError(
    `the pipeline cannot be deployed to this cluster:\n${problems.map(({ text }) => `  - ${text}`).join("\n")}`,
    {
      exitCode: EXIT.precondition,
      hint: `nothing was applied\n${[...new Set(problems.map(({ hint }) => hint))].join("\n")}`,
    },
  );
}
