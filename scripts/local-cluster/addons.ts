/** What runs in the cluster from the start, and the images of it, which are made from the built programs. */
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

/** Import of an image into containerd: the largest are some 500 MB. */
const IMPORT_LIMIT_MS = 3 * 60_000;

interface SystemImage {
  ref: string;
  /** The one file of the image, and its entry point. */
  program: string;
  /** Whose folder has it. */
  part: Part;
}

function systemImage(part: Part, repository: string, program: string, version?: string): SystemImage {
  // Changes with the programs, so that an image of older ones is never taken for the current.
  const suffix = partKey(part).slice(-12);
  return { ref: `${repository}:${version ? `${version}-` : ""}${suffix}`, program, part };
}

export const SYSTEM_IMAGES = {
  pause: systemImage(PARTS.kubernetes, "docker.io/conveyor/pause", "pause"),
  netprobe: systemImage(PARTS.kubernetes, "docker.io/conveyor/netprobe", "netprobe"),
  coredns: systemImage(PARTS.kubernetes, "docker.io/coredns/coredns", "coredns", VERSIONS.coredns),
  metricsServer: systemImage(
    PARTS.kubernetes,
    "docker.io/conveyor/metrics-server",
    "metrics-server",
    VERSIONS.metricsServer,
  ),
  keda: systemImage(PARTS.keda, "docker.io/conveyor/keda", "keda", VERSIONS.keda),
  kedaAdapter: systemImage(PARTS.keda, "docker.io/conveyor/keda-adapter", "keda-adapter", VERSIONS.keda),
} as const;

/** User of images whose pod says nothing else. */
const NOBODY = 65532;

/** References of the images on a node, with their digests. */
export async function listImages(layout: Layout, holder: number): Promise<Map<string, string>> {
  const text = await must(ctr(layout, holder, ["images", "list"]), { timeoutMs: IMPORT_LIMIT_MS });
  const images = new Map<string, string>();
  for (const line of text.split("\n").slice(1)) {
    const [ref, , digest] = line.split(/\s+/);
    // containerd lists every image a second and third time, under its digest.
    if (ref && digest && !ref.startsWith("sha256:") && !ref.includes("@")) images.set(ref, digest);
  }
  return images;
}

/** Imports an archive into a node's images. */
export async function importArchive(layout: Layout, holder: number, tar: string, signal?: AbortSignal): Promise<void> {
  await must(ctr(layout, holder, ["images", "import", tar]), { timeoutMs: IMPORT_LIMIT_MS, signal });
}

/** Makes and imports the cluster's own images where they are not there, and removes those of older programs. */
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

/** Manifests of what runs in the cluster from the start; words between @ are filled in. */
const ADDON_FILES = ["addons.yaml", "keda.yaml"];

/** The objects of the add-ons for this cluster, but KEDA's definitions. */
export async function addonObjects(layout: Layout): Promise<KubernetesObject[]> {
  const base64 = async (name: string) => (await readFile(join(layout.pki, name))).toString("base64");
  const words: Record<string, string> = {
    COREDNS: SYSTEM_IMAGES.coredns.ref,
    METRICS_SERVER: SYSTEM_IMAGES.metricsServer.ref,
    KEDA: SYSTEM_IMAGES.keda.ref,
    KEDA_ADAPTER: SYSTEM_IMAGES.kedaAdapter.ref,
    DNS_ADDRESS: layout.dnsAddress,
    METRICS_CERTIFICATE: await base64("metrics-server.crt"),
    METRICS_KEY: await base64("metrics-server.key"),
    CA: await base64("ca.crt"),
  };
  const objects: KubernetesObject[] = [];
  for (const file of ADDON_FILES) {
    const text = (await readFile(join(import.meta.dir, file), "utf8")).replace(/@([A-Z_]+)@/g, (all, word) => {
      const value = words[word as string];
      if (value === undefined) throw new Error(`${file}: ${all} is not known`);
      return value;
    });
    // YAML 1.1, like kubectl: in 1.2 `defaultMode: 0440` would be the decimal number 440.
    objects.push(...parseAllDocuments(text, { version: "1.1" }).map((document) => document.toJS() as KubernetesObject));
  }
  return objects;
}

/** Over each of KEDA's definitions: the build that they are of. */
const DEFINITIONS_OF = "conveyor.dev/part";

/** Files of KEDA's CustomResourceDefinitions, one in each. */
async function definitionFiles(): Promise<string[]> {
  const folder = join(partDir(PARTS.keda), "crds");
  const names = (await readdir(folder)).filter((name) => name.endsWith(".yaml")).sort();
  return names.map((name) => join(folder, name));
}

/** KEDA's CustomResourceDefinitions, as its module holds them. */
export async function kedaDefinitions(): Promise<KubernetesObject[]> {
  return await Promise.all(
    (await definitionFiles()).map(async (path) => {
      const object = parseDocument(await readFile(path, "utf8")).toJS() as KubernetesObject;
      object.metadata.labels = { ...object.metadata.labels, [DEFINITIONS_OF]: partKey(PARTS.keda) };
      return object;
    }),
  );
}

/** Names and labels alone: KEDA's definitions are a megabyte. */
const METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/** True when every definition is there, of this build, so that a second `up` need not send them again. */
async function definitionsAreThere(layout: Layout, wanted: number, signal?: AbortSignal): Promise<boolean> {
  const path = `/apis/apiextensions.k8s.io/v1/customresourcedefinitions?labelSelector=${DEFINITIONS_OF}%3D${partKey(PARTS.keda)}`;
  // Not before the API server answers; then all of them are sent.
  const text = await apiGet(layout, path, signal, METADATA_ONLY).catch(() => '{"items":[]}');
  // A list with nothing in it has `items: null` in this form.
  return ((JSON.parse(text) as { items: unknown[] | null }).items ?? []).length === wanted;
}

/** Applies the add-ons. */
export async function applyAddons(layout: Layout, signal?: AbortSignal): Promise<void> {
  const wanted = (await definitionFiles()).length;
  const missing = (await definitionsAreThere(layout, wanted, signal)) ? [] : await kedaDefinitions();
  await apply(missing, signal);
  await apply(await addonObjects(layout), signal);
}
