/**
 * What Kubernetes does not let a deploy change: claims never shrink, and some fields are fixed when an object is created.
 * Both are decided in the plan, before anything is applied.
 */
import { isDeepStrictEqual } from "node:util";
import { type KubernetesObject, NAMESPACE, refOf } from "../cluster/cluster.ts";
import { quantity } from "../cluster/quantity.ts";

/** An object with another value in a field that cannot be changed. */
export interface BlockedChange {
  ref: string;
  fields: string[];
  /** The command that lets the next deploy create the object again, with its effect. */
  recipe: string;
}

interface ClaimSpec {
  accessModes?: string[];
  resources?: { requests?: { storage?: string } };
  [field: string]: unknown;
}
interface ClaimTemplate {
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: ClaimSpec;
}
type Fields = Record<string, unknown>;

const templatesOf = ({ kind, spec }: KubernetesObject): ClaimTemplate[] =>
  kind === "StatefulSet" ? ((spec as { volumeClaimTemplates?: ClaimTemplate[] }).volumeClaimTemplates ?? []) : [];

/** The claims of an object by name: itself, or the templates of a StatefulSet. */
function claimsOf(object: KubernetesObject): Map<string, ClaimSpec> {
  if (object.kind === "PersistentVolumeClaim") return new Map([[object.metadata.name, object.spec as ClaimSpec]]);
  return new Map(templatesOf(object).map(({ metadata, spec }) => [metadata.name, spec]));
}

/**
 * The object with what an operator has chosen for its claims in the cluster: a larger size, and the storage class where the
 * object names none.
 */
export function withStoredClaims(object: KubernetesObject, live: KubernetesObject | undefined): KubernetesObject {
  const claims = live ? claimsOf(live) : new Map<string, ClaimSpec>();
  if (claims.size === 0) return object;
  const copy = structuredClone(object);
  for (const [name, spec] of claimsOf(copy)) {
    const stored = claims.get(name);
    const current = stored?.resources?.requests?.storage;
    if (stored?.storageClassName !== undefined) spec.storageClassName ??= stored.storageClassName;
    if (current !== undefined && quantity(current) > quantity(spec.resources?.requests?.storage)) {
      spec.resources = { ...spec.resources, requests: { ...spec.resources?.requests, storage: current } };
    }
  }
  return copy;
}

/** A claim without what the API server adds, and with its size as a number. */
function comparableTemplate({ metadata: { name, labels, annotations }, spec }: ClaimTemplate): Fields {
  const { resources, volumeMode = "Filesystem", ...rest } = spec;
  return { name, labels, annotations, ...rest, volumeMode, bytes: quantity(resources?.requests?.storage) };
}

/** The fields of an object that are fixed at its creation. */
function fixedFields(object: KubernetesObject): Fields {
  const spec = (object.spec ?? {}) as Fields;
  switch (object.kind) {
    case "StatefulSet":
      return {
        selector: spec.selector,
        serviceName: spec.serviceName,
        podManagementPolicy: spec.podManagementPolicy ?? "OrderedReady",
        volumeClaimTemplates: templatesOf(object).map(comparableTemplate),
      };
    case "Deployment":
    case "DaemonSet":
      return { selector: spec.selector };
    case "PersistentVolumeClaim":
      return { accessModes: spec.accessModes, storageClassName: spec.storageClassName, volumeMode: spec.volumeMode };
    case "RoleBinding":
    case "ClusterRoleBinding":
      return { roleRef: object.roleRef };
    case "Service":
      return { clusterIP: spec.clusterIP };
    case "Secret":
      return { type: object.type ?? "Opaque" };
    default:
      return {};
  }
}

/** True for a claim that a manifest enlarges, where the storage class of its volume does not allow it. */
function growsInVain(object: KubernetesObject, live: KubernetesObject, fixedClasses: ReadonlySet<string>): boolean {
  const [wanted, current] = [object, live].map((claim) => claim.spec as ClaimSpec);
  return (
    object.kind === "PersistentVolumeClaim" &&
    quantity(wanted?.resources?.requests?.storage) > quantity(current?.resources?.requests?.storage) &&
    fixedClasses.has(String(current?.storageClassName))
  );
}

/**
 * The change of an object that the API server would refuse; undefined where there is none.
 * @param fixedClasses storage classes whose claims cannot be enlarged
 */
export function blockedChange(
  object: KubernetesObject,
  live: KubernetesObject | undefined,
  context: string,
  fixedClasses: ReadonlySet<string>,
): BlockedChange | undefined {
  if (!live) return undefined;
  const current = fixedFields(live);
  // What a manifest does not set, the API server has chosen.
  const fields = Object.entries(fixedFields(object))
    .filter(([name, value]) => value !== undefined && !isDeepStrictEqual(value, current[name]))
    .map(([name]) => name);
  if (growsInVain(object, live, fixedClasses)) fields.push("resources.requests.storage");
  return fields.length === 0 ? undefined : { ref: refOf(object), fields, recipe: recipeFor(object, fields, context) };
}

function recipeFor({ kind, metadata }: KubernetesObject, fields: readonly string[], context: string): string {
  const { name, namespace = NAMESPACE } = metadata;
  const remove = `kubectl --context ${context} -n ${namespace} delete ${kind.toLowerCase()} ${name}`;
  // Pods of another selector would not belong to the new object.
  if (kind === "StatefulSet" && !fields.includes("selector")) {
    return `${remove} --cascade=orphan   (pods and claims stay, and belong to the new object)`;
  }
  if (kind === "PersistentVolumeClaim") return `${remove}   (deletes its data; its pod must be deleted too)`;
  if (kind === "Secret") return `${remove}   (keep a copy of its values)`;
  return remove;
}
