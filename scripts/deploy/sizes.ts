/**
 * The sizes of the pipeline: `small` is k8s/ as it is, the others are kustomize components of k8s/sizes/. kubectl applies
 * them here too, so that a deploy has the result of `kubectl apply -k k8s/overlays/SIZE`.
 */
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, type KubernetesObject, keyOf, listOf, NAMESPACE } from "../cluster/cluster.ts";
import { DEFAULT_NAMESPACE, objectInNamespace } from "../cluster/namespace.ts";
import { MANIFEST_FOLDER, parseManifest } from "./manifests.ts";
import { loadStages, type Stage } from "./stages.ts";

/** The nodes that each size needs: on fewer, brokers of `standard` and `large` stay without a node. */
export const SIZES = { small: { nodes: 1 }, standard: { nodes: 3 }, large: { nodes: 3 } } as const;
export type Size = keyof typeof SIZES;

/** Annotation of the Namespace: the size of the last deploy. The manifests and components contain it. */
export const SIZE = "conveyor.dev/size";

/** The output of a kubectl call that needs no cluster. */
type Kubectl = (args: readonly string[]) => Promise<string>;

/**
 * The stages in a size. Objects that the size adds belong to the first stage: pods of the others name them.
 * @throws OperatorError when kubectl cannot apply the component
 */
export async function sized(stages: readonly Stage[], size: Size, kubectl: Kubectl): Promise<Stage[]> {
  if (size === "small") return [...stages];
  // A component is named by a relative path, and kustomize resolves links first.
  const folder = await realpath(await mkdtemp(join(tmpdir(), "conveyor-size-")));
  try {
    const kustomization = {
      apiVersion: "kustomize.config.k8s.io/v1beta1",
      kind: "Kustomization",
      resources: ["objects.json"],
      components: [relative(folder, await realpath(join(MANIFEST_FOLDER, "sizes", size)))],
    };
    await writeFile(join(folder, "objects.json"), listOf(stages.flatMap(({ objects }) => objects)));
    await writeFile(join(folder, "kustomization.yaml"), JSON.stringify(kustomization));
    const objects = parseManifest(await kubectl(["kustomize", folder]), `k8s/sizes/${size}`);
    return withObjects(stages, objects);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function withObjects(stages: readonly Stage[], objects: readonly KubernetesObject[]): Stage[] {
  const left = new Map(objects.map((object) => [keyOf(object), object]));
  const placed = stages.map((stage) => ({
    ...stage,
    objects: stage.objects.flatMap((object) => {
      const found = left.get(keyOf(object)) ?? [];
      left.delete(keyOf(object));
      return found;
    }),
  }));
  return placed.map((stage, index) =>
    index > 0 ? stage : { ...stage, objects: [...stage.objects, ...left.values()] },
  );
}

/** The size of the last deploy; `small` where nothing is deployed. @throws OperatorError (exit 3) for an unknown size */
export async function deployedSize(cluster: Cluster): Promise<Size> {
  const namespace = await cluster.get<KubernetesObject>("namespace", NAMESPACE);
  const size = namespace?.metadata.annotations?.[SIZE] ?? "small";
  if (Object.hasOwn(SIZES, size)) return size as Size;
  throw new OperatorError(`Namespace ${NAMESPACE}: ${SIZE} must be ${Object.keys(SIZES).join(", ")}; got "${size}"`, {
    exitCode: EXIT.precondition,
    hint: "--size names the size",
  });
}

/** The stages in the named size, or in that of the last deploy. */
export async function loadSizedStages(
  cluster: Cluster,
  named: Size | undefined,
  signal: AbortSignal,
): Promise<Stage[]> {
  const size = named ?? (await deployedSize(cluster));
  // The components name objects by the names of k8s/; another namespace has others.
  const stages = await sized(
    await loadStages(MANIFEST_FOLDER, DEFAULT_NAMESPACE),
    size,
    async (args) => (await cluster.kubectl(args, { signal })).stdout,
  );
  return stages.map((stage) => ({ ...stage, objects: stage.objects.map((object) => objectInNamespace(object)) }));
}
