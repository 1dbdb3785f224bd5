/** The cluster's add-ons, and their images, which are assembled from the built programs. */
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseAllDocuments, parseDocument } from "yaml";
import { cacheFolder } from "../cli/paths.ts";
import { capture, must } from "../cli/process.ts";
import { type ArchiveFile, writeImageArchive } from "./archive.ts";
import { type Part, partDir, partKey } from "./cache.ts";
import { apiGet } from "./control-plane.ts";
import { apply, type KubernetesObject } from "./kubectl.ts";
import type { Layout } from "./layout.ts";
import { ctr } from "./node.ts";
import { PARTS, VERSIONS } from "./parts.ts";
import type { Properties } from "./variants.ts";

/** Import of an image into containerd: the largest are some 500 MB. */
const IMPORT_LIMIT_MS = 3 * 60_000;

interface SystemImage {
  ref: string;
  /** The only file of the image, and its entry point. */
  program: string;
  /** The part that has the program. */
  part: Part;
}

function systemImage(part: Part, repository: string, program: string, version?: string): SystemImage {
  // Changes with the programs, so that an image of older ones is not mistaken for the current one.
  const suffix = partKey(part).slice(-12);
  return { ref: `${repository}:${version ? `${version}-` : ""}${suffix}`, program, part };
}

export const SYSTEM_IMAGES = {
  pause: systemImage(PARTS.kubernetes, "conveyor.invalid/pause", "pause"),
  netprobe: systemImage(PARTS.kubernetes, "conveyor.invalid/netprobe", "netprobe"),
  coredns: systemImage(PARTS.kubernetes, "docker.io/coredns/coredns", "coredns", VERSIONS.coredns),
  metricsServer: systemImage(
    PARTS.kubernetes,
    "conveyor.invalid/metrics-server",
    "metrics-server",
    VERSIONS.metricsServer,
  ),
  keda: systemImage(PARTS.keda, "conveyor.invalid/keda", "keda", VERSIONS.keda),
  kedaAdapter: systemImage(PARTS.keda, "conveyor.invalid/keda-adapter", "keda-adapter", VERSIONS.keda),
} as const;

/** User of images whose pod sets none. */
const NOBODY = 65532;

/** References of the images on a node, with their digests. */
export async function listImages(layout: Layout, holder: number): Promise<Map<string, string>> {
  const text = await must(ctr(layout, holder, ["images", "list"]), { timeoutMs: IMPORT_LIMIT_MS });
  const images = new Map<string, string>();
  for (const line of text.split("\n").slice(1)) {
    const [ref, , digest] = line.split(/\s+/);
    // containerd lists every image two more times, under its digests.
    if (ref && digest && !ref.startsWith("sha256:") && !ref.includes("@")) images.set(ref, digest);
  }
  return images;
}

/** Imports an archive into a node's images. */
export async function importArchive(layout: Layout, holder: number, tar: string, signal?: AbortSignal): Promise<void> {
  await must(ctr(layout, holder, ["images", "import", tar]), { timeoutMs: IMPORT_LIMIT_MS, signal });
}

/** Assembles and imports missing images of the cluster, and removes those of older programs. */
export async function ensureSystemImages(
  layout: Layout,
  holder: number,
  update: (detail: string) => void,
  signal?: AbortSignal,
): Promise<number> {
  const present = await listImages(layout, holder);
  const wanted = Object.values(SYSTEM_IMAGES);
  const missing = wanted.filter((image) => !present.has(image.ref));
  for (const [index, image] of missing.entries()) {
    update(`${image.program}, ${index + 1} of ${missing.length}`);
    const tar = join(cacheFolder(), "images", `${image.program}-${process.pid}.tar`);
    const files: ArchiveFile[] = [{ path: image.program, from: join(partDir(image.part), image.program) }];
    try {
      await writeImageArchive(
        tar,
        {
          ref: image.ref,
          layers: [{ kind: "files", files }],
          config: { Entrypoint: [`/${image.program}`], User: String(NOBODY), WorkingDir: "/" },
        },
        { signal },
      );
      await importArchive(layout, holder, tar, signal);
    } finally {
      await rm(tar, { force: true });
    }
  }
  const repositories = wanted.map((image) => `${image.ref.slice(0, image.ref.lastIndexOf(":"))}:`);
  const old = [...present.keys()].filter(
    (ref) => repositories.some((start) => ref.startsWith(start)) && !wanted.some((image) => image.ref === ref),
  );
  if (old.length > 0) await capture(ctr(layout, holder, ["images", "delete", ...old]), { timeoutMs: IMPORT_LIMIT_MS });
  return missing.length;
}

/** Manifests of the add-ons; names between @ are placeholders. */
const addonFiles = ({ hasMetricsServer, nodeDns }: Properties): string[] => [
  ...["addons.yaml", "keda.yaml"],
  ...(hasMetricsServer ? ["metrics-server.yaml"] : []),
  ...(nodeDns ? ["node-local-dns.yaml"] : []),
];

/** The objects of the add-ons for this cluster, without KEDA's definitions. */
export async function addonObjects(
  layout: Pick<Layout, "pki" | "dnsAddress" | "properties">,
): Promise<KubernetesObject[]> {
  const { domain, storageClass, nodeDns } = layout.properties;
  const base64 = async (name: string) => (await readFile(join(layout.pki, name))).toString("base64");
  const values: Record<string, string> = {
    COREDNS: SYSTEM_IMAGES.coredns.ref,
    METRICS_SERVER: SYSTEM_IMAGES.metricsServer.ref,
    KEDA: SYSTEM_IMAGES.keda.ref,
    KEDA_ADAPTER: SYSTEM_IMAGES.kedaAdapter.ref,
    DNS_ADDRESS: layout.dnsAddress,
    DOMAIN: domain,
    STORAGE_CLASS: storageClass.name,
    STORAGE_CLASS_IS_DEFAULT: String(storageClass.isDefault),
    STORAGE_CLASS_BINDING: storageClass.binding,
    ...(nodeDns ? { NODE_DNS: nodeDns } : {}),
    METRICS_CERTIFICATE: await base64("metrics-server.crt"),
    METRICS_KEY: await base64("metrics-server.key"),
    CA: await base64("ca.crt"),
  };
  const objects: KubernetesObject[] = [];
  for (const file of addonFiles(layout.properties)) {
    const text = (await readFile(join(import.meta.dir, file), "utf8")).replace(/@([A-Z_]+)@/g, (placeholder, name) => {
      const value = values[name as string];
      if (value === undefined) throw new Error(`${file}: ${placeholder} is unknown`);
      return value;
    });
    // YAML 1.1, like kubectl: in 1.2 `defaultMode: 0440` would be the decimal number 440.
    objects.push(...parseAllDocuments(text, { version: "1.1" }).map((document) => document.toJS() as KubernetesObject));
  }
  return objects;
}

/** Label of each of KEDA's definitions: their build. */
const DEFINITIONS_OF = "conveyor.dev/part";

/** Files of KEDA's CustomResourceDefinitions, one per file. */
async function definitionFiles(): Promise<string[]> {
  const folder = join(partDir(PARTS.keda), "crds");
  const names = (await readdir(folder)).filter((name) => name.endsWith(".yaml")).sort();
  return names.map((name) => join(folder, name));
}

/** KEDA's CustomResourceDefinitions, from its module. */
async function kedaDefinitions(): Promise<KubernetesObject[]> {
  return await Promise.all(
    (await definitionFiles()).map(async (path) => {
      const object = parseDocument(await readFile(path, "utf8")).toJS() as KubernetesObject;
      object.metadata.labels = { ...object.metadata.labels, [DEFINITIONS_OF]: partKey(PARTS.keda) };
      return object;
    }),
  );
}

/** Only names and labels: KEDA's definitions have a megabyte. */
const METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/** True when the cluster has every definition of this build, so that a second `up` need not send them. */
async function definitionsArePresent(layout: Layout, wanted: number, signal?: AbortSignal): Promise<boolean> {
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions?labelSelector=${DEFINITIONS_OF}%3D${partKey(PARTS.keda)}`;
  // Without an answer of the API server, all of them are sent.
  const text = await apiGet(layout, path, signal, METADATA_ONLY).catch(() => '{"items":[]}');
  // In this format an empty list has `items: null`.
  return ((JSON.parse(text) as { items: unknown[] | null }).items ?? []).length === wanted;
}

/** Applies the add-ons. */
export async function applyAddons(layout: Layout, signal?: AbortSignal): Promise<void> {
  const wanted = (await definitionFiles()).length;
  const missing = (await definitionsArePresent(layout, wanted, signal)) ? [] : await kedaDefinitions();
  await apply(missing, signal);
  await apply(await addonObjects(layout), signal);
}
