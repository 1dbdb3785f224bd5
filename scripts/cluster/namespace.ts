/**
 * The namespace of the pipeline. It is fixed for the life of a process, because every module names objects by it: that of
 * --namespace, of CONVEYOR_NAMESPACE, of the last deploy to the chosen existing cluster, or "conveyor".
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";

/** The namespace that the files of k8s/ name. */
export const DEFAULT_NAMESPACE = "conveyor";
/** The cluster of kind that a deploy creates. */
export const KIND_NAME = "conveyor";
/** Value of app.kubernetes.io/part-of of every object of the project, in any namespace. */
export const PART_OF = "conveyor";

/** File with the cluster and the namespace of the last deploy. */
export const targetFile = (): string =>
  join(process.env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "conveyor", "target.json");

/** The part of the file of the last deploy that names namespaces. */
interface RememberedNamespaces {
  context?: string;
  /** By context. */
  namespaces?: Record<string, string>;
}

function readRemembered(): RememberedNamespaces {
  try {
    return JSON.parse(readFileSync(targetFile(), "utf8")) as RememberedNamespaces;
  } catch {
    // Nothing was deployed from here yet.
    return {};
  }
}

/** The last value of a flag on a command line, in both notations. */
function flagOf(argv: readonly string[], name: string): string | undefined {
  const values = argv.flatMap((argument, index) => {
    if (argument === `--${name}`) return argv[index + 1] ?? [];
    return argument.startsWith(`--${name}=`) ? argument.slice(name.length + 3) : [];
  });
  return values.at(-1);
}

/** The namespace that a process works in; `makesLocal`: on this machine --auto makes the local cluster. That of the local cluster is not remembered: each new local cluster is another one. */
export function chooseNamespace(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  remembered: () => RememberedNamespaces,
  makesLocal = process.platform === "linux" && process.getuid?.() === 0,
): string {
  const namespace = flagOf(argv, "namespace") ?? environment.CONVEYOR_NAMESPACE;
  if (namespace) return namespace;
  if (argv.includes("--local")) return DEFAULT_NAMESPACE;
  const { context, namespaces = {} } = remembered();
  const kind = flagOf(argv, "kind");
  const named = flagOf(argv, "context") ?? environment.CONVEYOR_CONTEXT ?? (kind && `kind-${kind}`);
  // With --auto a deploy goes to the local cluster, or where it cannot make one to its own one of kind, whatever cluster the
  // last one went to.
  const isOther = argv.includes("--auto") && (makesLocal || context !== `kind-${KIND_NAME}`);
  const chosen = named ?? (isOther ? undefined : context);
  return (chosen && namespaces[chosen]) || DEFAULT_NAMESPACE;
}

/** Namespace of the producer, Kafka, the processor, InfluxDB and the monitoring. */
export const NAMESPACE: string = chooseNamespace(process.argv.slice(2), process.env, readRemembered);

/** Namespace of the log collector, which needs a folder of the node: its pods are not of the "restricted" kind. */
export const LOGGING_NAMESPACE: string = `${NAMESPACE}-logging`;

/** All namespaces of the pipeline. */
export const PIPELINE_NAMESPACES: readonly string[] = [NAMESPACE, LOGGING_NAMESPACE];

/** A DNS label with room for the suffix of the log collector's namespace. */
const NAMESPACE_RULE = /^[a-z]([-a-z0-9]{0,52}[a-z0-9])?$/;

/** @throws OperatorError (exit 2) that names the rule and the value */
export function checkNamespace(namespace: string): void {
  if (NAMESPACE_RULE.test(namespace)) return;
  throw new OperatorError(
    `--namespace: must be lower-case letters, digits and dashes, start with a letter, end with a letter or digit, at most 54 characters; got "${namespace}"`,
    { exitCode: EXIT.usage },
  );
}

// ── objects of k8s/ in another namespace ─────────────────────────────────────────────────────────────────────────

/** How texts of k8s/ (configurations, scripts, queries) name the namespace, which is NS here. */
const TEXT_FORMS: readonly string[] = [
  ".NS.svc",
  ".NS-logging.svc",
  'namespace="NS"',
  'namespace=\\"NS\\"',
  "names: [NS]",
  "names: [NS-logging]",
  "names: [NS, NS-logging]",
  "NS|NS-logging",
  "in(NS,NS-logging)",
  "--namespaces=NS",
  "kubectl -n NS ",
];

/** A text of k8s/ for another namespace. */
export function textInNamespace(text: string, namespace: string = NAMESPACE): string {
  if (namespace === DEFAULT_NAMESPACE) return text;
  const form = (pattern: string, name: string) => pattern.replaceAll("NS", name);
  return TEXT_FORMS.reduce(
    (changed, pattern) => changed.replaceAll(form(pattern, DEFAULT_NAMESPACE), form(pattern, namespace)),
    text,
  );
}

/** Label of the objects that belong to no namespace, with the namespace of the pipeline that they belong to. */
export const NAMESPACE_LABEL = "conveyor.dev/namespace";

/** Fields whose value, or each of whose values, is a namespace. */
const NAMESPACE_FIELDS = new Set(["namespace", "kubernetes.io/metadata.name", "matchNames", NAMESPACE_LABEL]);

/** Kinds whose names all namespaces share; the manifests' names start with that of the default namespace. */
const CLUSTER_WIDE = new Set(["ClusterRole", "ClusterRoleBinding", "PriorityClass"]);
/** Fields with the name of an object of these kinds, or with a folder of the node. */
const SHARED_NAME_FIELDS = new Set(["priorityClassName", "path"]);
const SHARED_NAME = /^(\/var\/lib\/)?conveyor-/;

/** A copy of an object of k8s/ for another namespace. */
export function objectInNamespace<T extends { kind: string; metadata: { name: string } }>(
  object: T,
  namespace: string = NAMESPACE,
): T {
  if (namespace === DEFAULT_NAMESPACE) return object;
  const rename = (name: string) => name.replace(/^conveyor(?=$|-logging$)/, namespace);
  const shared = (name: string) => name.replace(SHARED_NAME, `$1${namespace}-`);
  const copyOf = (value: unknown, field: string): unknown => {
    if (Array.isArray(value)) return value.map((entry) => copyOf(entry, field));
    if (value !== null && typeof value === "object") {
      const entries = Object.entries(value).map(([name, entry]) => [name, copyOf(entry, name)]);
      return Object.fromEntries(entries);
    }
    if (typeof value !== "string") return value;
    if (NAMESPACE_FIELDS.has(field)) return rename(value);
    return SHARED_NAME_FIELDS.has(field) ? shared(value) : textInNamespace(value, namespace);
  };
  const copy = copyOf(object, "") as T & { roleRef?: { kind: string; name: string } };
  if (copy.kind === "Namespace") copy.metadata.name = rename(copy.metadata.name);
  if (CLUSTER_WIDE.has(copy.kind)) copy.metadata.name = shared(copy.metadata.name);
  if (copy.roleRef?.kind === "ClusterRole") copy.roleRef.name = shared(copy.roleRef.name);
  return copy;
}
