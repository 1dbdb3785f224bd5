/**
 * The objects of k8s/, read as kubectl reads them, and their changes before they are applied: references of another
 * registry, and in each pod template a hash of its dependencies, so that pods restart exactly when a ConfigMap, a Secret
 * or an image changes.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { basename, dirname, join, relative, sep } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { SCHEMA_CONFIG } from "../../services/domain/schema-files.ts";
import { type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { pullPolicy } from "../cluster/image-pulls.ts";
import { objectInNamespace } from "../cluster/namespace.ts";

export const MANIFEST_FOLDER = join(import.meta.dir, "../../k8s");

/** Annotation of pod templates: restarts the pods when a ConfigMap, Secret or image of theirs changes. */
export const CONFIG_HASH = "conveyor.dev/config-hash";

export interface ManifestFile {
  /** Path below k8s/, with "/": `kafka/kafka-service.yaml`. */
  path: string;
  objects: KubernetesObject[];
}

export interface Container {
  name: string;
  image: string;
  env?: { name: string; value?: string; valueFrom?: Record<string, { name?: string }> }[];
  envFrom?: { configMapRef?: { name: string }; secretRef?: { name: string } }[];
  [field: string]: unknown;
}

interface Volume {
  name: string;
  configMap?: { name: string; optional?: boolean };
  secret?: { secretName: string };
  projected?: { sources: { configMap?: { name: string; optional?: boolean }; secret?: { name: string } }[] };
  [field: string]: unknown;
}

export interface PodSpec {
  containers: Container[];
  initContainers?: Container[];
  volumes?: Volume[];
  serviceAccountName?: string;
  [field: string]: unknown;
}

export interface PodTemplate {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: PodSpec;
}

/** Folders of k8s/ with patches, and with objects that deploy does not apply. */
const NOT_APPLIED = /^(overlays|sizes|cert-manager)\//;

/**
 * Every file of k8s/ with its objects in the namespace of the pipeline, sorted by path; links to other files are left out, and
 * so are lists of files.
 * @throws Error with file and reason for invalid YAML, or a document that is not a Kubernetes object
 */
export async function loadManifestFiles(folder = MANIFEST_FOLDER, namespace = NAMESPACE): Promise<ManifestFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile() && /\.ya?ml$/.test(entry.name))
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .filter((path) => !NOT_APPLIED.test(path))
    .sort();
  const files = await Promise.all(
    paths.map(async (path) => {
      const text = await readFile(join(folder, path), "utf8");
      const isKustomization = basename(path) === "kustomization.yaml";
      const objects = isKustomization ? await generatedConfigMaps(folder, path, text) : parseManifest(text, path);
      return objects && { path, objects: objects.map((object) => objectInNamespace(object, namespace)) };
    }),
  );
  return files.filter((file) => file !== undefined);
}

interface Kustomization {
  configMapGenerator?: {
    name: string;
    namespace: string;
    files: string[];
    options: { labels: Record<string, string> };
  }[];
}

/** The ConfigMaps that a kustomization.yaml generates from files, as `kubectl apply -k` does; undefined for one without. */
async function generatedConfigMaps(
  folder: string,
  path: string,
  text: string,
): Promise<KubernetesObject[] | undefined> {
  const { configMapGenerator } = parse(text) as Kustomization;
  if (!configMapGenerator) return undefined;
  return await Promise.all(
    configMapGenerator.map(async ({ name, namespace, files, options }) => {
      const contents = files.map(async (file) => [file, await readFile(join(folder, dirname(path), file), "utf8")]);
      const data: Record<string, string> = Object.fromEntries(await Promise.all(contents));
      return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace, labels: options.labels }, data };
    }),
  );
}

/** Every object of k8s/, sorted by file. */
export async function loadManifests(folder = MANIFEST_FOLDER): Promise<KubernetesObject[]> {
  return (await loadManifestFiles(folder)).flatMap(({ objects }) => objects);
}

/** Contents of files that were parsed: a command reads k8s/ for several of its steps, and parsing takes half a second. */
const parsed = new Map<string, KubernetesObject[]>();

/** The objects of one file, without empty documents; the caller may change them. @throws Error with file and reason */
export function parseManifest(text: string, path: string): KubernetesObject[] {
  const known = parsed.get(text) ?? parseDocuments(text, path);
  parsed.set(text, known);
  return structuredClone(known);
}

function parseDocuments(text: string, path: string): KubernetesObject[] {
  // YAML 1.1, as in kubectl: in YAML 1.2 `defaultMode: 0440` is the decimal number 440.
  const documents = parseAllDocuments(text, { version: "1.1", uniqueKeys: true });
  const objects: KubernetesObject[] = [];
  for (const document of Array.isArray(documents) ? documents : []) {
    const problem = document.errors[0];
    if (problem) throw new Error(`${path}: ${problem.message}`);
    const value = document.toJS() as KubernetesObject | null;
    if (value === null) continue;
    if (typeof value.apiVersion !== "string" || typeof value.kind !== "string" || !value.metadata?.name) {
      throw new Error(`${path}: a document without apiVersion, kind or metadata.name`);
    }
    objects.push(value);
  }
  return objects;
}

/** The pod template of a workload (not a copy); undefined for other kinds. */
export function podTemplateOf(object: KubernetesObject): PodTemplate | undefined {
  const spec = object.spec as { template?: PodTemplate; jobTemplate?: { spec: { template: PodTemplate } } } | undefined;
  switch (object.kind) {
    case "Deployment":
    case "StatefulSet":
    case "DaemonSet":
    case "Job":
      return spec?.template;
    case "CronJob":
      return spec?.jobTemplate?.spec.template;
    default:
      return undefined;
  }
}

/** All containers of a pod, init containers included. */
export function containersOf(spec: PodSpec): Container[] {
  return [...(spec.initContainers ?? []), ...spec.containers];
}

/** References of the images of the objects, unique and sorted. */
export function imagesOf(objects: readonly KubernetesObject[]): string[] {
  const templates = objects.map(podTemplateOf).filter((template) => template !== undefined);
  return [...new Set(templates.flatMap(({ spec }) => containersOf(spec).map(({ image }) => image)))].sort();
}

/**
 * Copies of the objects with every image reference replaced, and the pull policy of images that no registry has. The
 * manifests have the other policy, so that an image that kubectl or Kustomize renames is pulled.
 */
export function withImages(
  objects: readonly KubernetesObject[],
  rewrite: (reference: string) => string,
): KubernetesObject[] {
  return objects.map((object) => {
    const copy = structuredClone(object);
    const template = podTemplateOf(copy);
    for (const container of template ? containersOf(template.spec) : []) {
      container.image = rewrite(container.image);
      if (pullPolicy(container.image) === "Never") container.imagePullPolicy = "Never";
    }
    return copy;
  });
}

/** Namespaces of the pods of the objects, sorted. */
export const podNamespaces = (objects: readonly KubernetesObject[]): string[] =>
  [...new Set(objects.filter(podTemplateOf).map(({ metadata }) => metadata.namespace ?? NAMESPACE))].sort();

/** Copies of the objects with a pull secret in every service account: pods of the manifests and one-off pods get it there. */
export const withPullSecret = (objects: readonly KubernetesObject[], name: string): KubernetesObject[] =>
  objects.map((object) => (object.kind === "ServiceAccount" ? { ...object, imagePullSecrets: [{ name }] } : object));

export interface References {
  configMaps: string[];
  secrets: string[];
}

/** Name of the ConfigMap with the dashboards that deploy makes from schemas. */
export const SCHEMA_DASHBOARDS = "grafana-schema-dashboards";

/** ConfigMaps whose files a pod reads again while it runs: a change needs no restart. */
export const RELOADED: ReadonlySet<string> = new Set([SCHEMA_CONFIG, SCHEMA_DASHBOARDS]);

/** Names of the ConfigMaps that a pod can start without: they belong to an optional stage. */
function optionalConfigMaps(spec: PodSpec): Set<string> {
  const mounted = (spec.volumes ?? []).flatMap(({ configMap, projected }) => [
    configMap,
    ...(projected?.sources ?? []).map((source) => source.configMap),
  ]);
  return new Set(mounted.flatMap((map) => (map?.optional ? [map.name] : [])));
}

/** Names of the ConfigMaps and Secrets that a pod mounts or reads, sorted. */
export function referencesOf(spec: PodSpec): References {
  const configMaps = new Set<string>();
  const secrets = new Set<string>();
  for (const { configMap, secret, projected } of spec.volumes ?? []) {
    if (configMap) configMaps.add(configMap.name);
    if (secret) secrets.add(secret.secretName);
    for (const source of projected?.sources ?? []) {
      if (source.configMap) configMaps.add(source.configMap.name);
      if (source.secret) secrets.add(source.secret.name);
    }
  }
  for (const { env, envFrom } of containersOf(spec)) {
    for (const { valueFrom } of env ?? []) {
      if (valueFrom?.configMapKeyRef?.name) configMaps.add(valueFrom.configMapKeyRef.name);
      if (valueFrom?.secretKeyRef?.name) secrets.add(valueFrom.secretKeyRef.name);
    }
    for (const { configMapRef, secretRef } of envFrom ?? []) {
      if (configMapRef) configMaps.add(configMapRef.name);
      if (secretRef) secrets.add(secretRef.name);
    }
  }
  // Kubernetes creates it in every namespace; pods reload it when it changes.
  configMaps.delete("kube-root-ca.crt");
  return { configMaps: [...configMaps].sort(), secrets: [...secrets].sort() };
}

export interface HashInputs {
  /** Objects that include the ConfigMaps. */
  configuration: readonly KubernetesObject[];
  /** Entries of the Secrets by name: filled by deploy, or read from the cluster for those that the setup job fills. */
  secrets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Digest of each image reference on this cluster; without it the reference itself is hashed. */
  imageDigests?: Readonly<Record<string, string | undefined>>;
}

/**
 * Copies of the objects with the hash of its dependencies in every pod template.
 * @throws Error that names a ConfigMap or Secret of unknown content: pods would not restart with it
 */
export function withHashes(objects: readonly KubernetesObject[], inputs: HashInputs): KubernetesObject[] {
  return objects.map((object) => {
    const copy = structuredClone(object);
    const template = podTemplateOf(copy);
    if (!template) return copy;
    const { configMaps, secrets } = referencesOf(template.spec);
    const known: Record<string, unknown> = {};
    const optional = optionalConfigMaps(template.spec);
    for (const name of configMaps.filter((one) => !RELOADED.has(one))) {
      const map = inputs.configuration.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === name);
      if (!map && optional.has(name)) continue;
      if (!map) throw new Error(`${object.kind}/${object.metadata.name}: ConfigMap ${name} is in no manifest`);
      known[`configmap/${name}`] = [map.data, map.binaryData];
    }
    for (const name of secrets) {
      const content = inputs.secrets[name];
      if (!content) throw new Error(`${object.kind}/${object.metadata.name}: content of Secret ${name} is unknown`);
      known[`secret/${name}`] = content;
    }
    for (const { image } of containersOf(template.spec)) {
      known[`image/${image}`] = inputs.imageDigests?.[image] ?? image;
    }
    template.metadata ??= {};
    template.metadata.annotations = { ...template.metadata.annotations, [CONFIG_HASH]: hashOf(known) };
    return copy;
  });
}

/** A hash that does not depend on the order of keys. 64 bits distinguish the versions of one workload. */
function hashOf(value: unknown): string {
  return createHash("sha256").update(canonical(value)).digest("hex").slice(0, 16);
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${canonical(entry)}`).join()}}`;
}
