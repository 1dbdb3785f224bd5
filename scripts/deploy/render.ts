/**
 * The objects that a deploy would apply as files, for Argo CD, Flux or a review. Secrets are not among them: they are named,
 * and their content stays in the cluster. The hashes of pod templates are those of a deploy while the Secrets are unchanged.
 */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { type KubernetesObject, keyOf, NAMESPACE, refOf } from "../cluster/cluster.ts";
import { withHashes } from "./manifests.ts";
import type { ImageState, Plan, Snapshot } from "./plan.ts";
import { contentsOf, FILL_FROM, recipeOf, type SecretContents } from "./secrets.ts";

/** A Secret that pods mount and that the files do not contain. */
export interface RequiredSecret {
  name: string;
  namespace: string;
  type: string;
  /** Empty for one that the setup job fills. */
  keys: string[];
  exists: boolean;
}

export interface Rendered {
  stages: { name: string; title: string; objects: KubernetesObject[] }[];
  secrets: RequiredSecret[];
}

/** The objects of a plan in their stages, with contents and hashes by the Secrets in the cluster. */
export function render(plan: Plan, snapshot: Snapshot, images: readonly ImageState[]): Rendered {
  const live = contentsOf(snapshot.live);
  const existing = new Set(snapshot.live.map(keyOf));
  const declared = plan.stages.flatMap(({ apply }) => apply).filter(({ kind }) => kind === "Secret");
  const files: Record<string, string> = {};
  const contents: SecretContents = {};
  const secrets = declared.map((secret): RequiredSecret => {
    const { name, namespace = NAMESPACE } = secret.metadata;
    const { how, entries } = recipeOf(secret);
    // As in a deploy: keys that others have added do not count.
    const known = entries.flatMap(({ key }) => (live[name]?.[key] ? [[key, live[name][key]] as const] : []));
    const given = contentsOf([secret])[name] ?? {};
    const ownContents = how === "with-values" ? given : Object.fromEntries(known);
    contents[name] = how === "filled-by" ? (live[name] ?? {}) : ownContents;
    if (how === "fill-from") for (const { key, source } of entries) files[source] ||= live[name]?.[key] ?? "";
    const keys = how === "with-values" ? Object.keys(given) : entries.map(({ key }) => key);
    return { name, namespace, type: String(secret.type ?? "Opaque"), keys, exists: existing.has(keyOf(secret)) };
  });
  const stages = plan.stages.map(({ name, title, apply, run }) => {
    const objects = [...apply, ...run].filter(({ kind }) => kind !== "Secret");
    return { name, title, objects: objects.map((object) => withFiles(object, files)) };
  });
  const configuration = [...stages.flatMap(({ objects }) => objects), ...plan.keptConfiguration];
  const imageDigests = Object.fromEntries(images.map(({ ref, pushedRef, digest }) => [pushedRef ?? ref, digest]));
  const inputs = { configuration, secrets: contents, imageDigests };
  return {
    stages: stages
      .map((stage) => ({ ...stage, objects: withHashes(stage.objects, inputs) }))
      .filter(({ objects }) => objects.length > 0),
    secrets,
  };
}

/** A ConfigMap with the public files that it names, as far as a Secret of the cluster contains them. */
function withFiles(object: KubernetesObject, files: Readonly<Record<string, string>>): KubernetesObject {
  if (object.metadata.annotations?.[FILL_FROM] === undefined) return object;
  const known = recipeOf(object).entries.flatMap(({ key, source }) => (files[source] ? [[key, files[source]]] : []));
  return { ...object, data: { ...(object.data as Record<string, string>), ...Object.fromEntries(known) } };
}

/** The first line of a rendered folder's kustomization.yaml: a later run may replace the files of such a folder. */
const HEAD = "# Written by: bun scripts/deploy.ts --render";

/** Text of a file with objects; strings that YAML 1.1 would take for other values are quoted. */
const yamlOf = (objects: readonly KubernetesObject[]): string =>
  objects
    .map((object) => stringify(object, { version: "1.1", lineWidth: 0, aliasDuplicateObjects: false }))
    .join("---\n");

const lineOf = ({ namespace, name, type, keys }: RequiredSecret) =>
  `${namespace}/${name} (${type}): ${keys.join(", ") || "empty, the setup job fills it"}`;

/**
 * Writes one file per stage and a kustomization.yaml that lists them.
 * @returns the names of the files
 * @throws OperatorError (exit 2) for a folder with other files
 */
export async function writeRendered(folder: string, { stages, secrets }: Rendered): Promise<string[]> {
  await clear(folder);
  const files = stages.map(({ name, title, objects }, index) => ({
    name: `${String(index + 1).padStart(2, "0")}-${name}.yaml`,
    text: `# ${title}\n${yamlOf(objects)}`,
  }));
  for (const { name, text } of files) await writeAtomic(join(folder, name), text);
  const names = files.map(({ name }) => name);
  const kustomization = stringify({
    apiVersion: "kustomize.config.k8s.io/v1beta1",
    kind: "Kustomization",
    resources: names,
  });
  const head = [HEAD, "#", "# Secrets that must exist, and their keys:", ...secrets.map((one) => `#   ${lineOf(one)}`)];
  await writeAtomic(join(folder, "kustomization.yaml"), `${head.join("\n")}\n${kustomization}`);
  return [...names, "kustomization.yaml"];
}

/** Removes the files of an earlier run, so that no object of it stays. */
async function clear(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const present = (await readdir(folder)).filter((name) => !name.startsWith("."));
  if (present.length === 0) return;
  const kustomization = await readFile(join(folder, "kustomization.yaml"), "utf8").catch(() => "");
  if (!kustomization.startsWith(HEAD)) {
    throw new OperatorError(`--render: the folder must be empty or written by an earlier --render; got ${folder}`, {
      exitCode: EXIT.usage,
      hint: `it contains ${present.slice(0, 3).join(", ")}`,
    });
  }
  for (const name of present) if (/^(\d\d-.+|kustomization)\.yaml$/.test(name)) await rm(join(folder, name));
}

/** Warnings of a rendered deploy: what the files cannot contain. */
export function describeRendered({ secrets }: Rendered, removed: readonly KubernetesObject[]): string[] {
  const missing = secrets.filter(({ exists }) => !exists);
  return [
    ...(missing.length > 0
      ? [
          `Secrets that do not exist yet: ${missing.map(({ namespace, name }) => `${namespace}/${name}`).join(", ")}; render again when they do: pods restart when a Secret changes by a hash in these files`,
        ]
      : []),
    ...(removed.length > 0 ? [`deploy would also delete: ${removed.map(refOf).join(", ")}`] : []),
  ];
}
