/** What runs in the cluster from the start, and the images of it, which are made from the built programs. */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { Cluster, KubernetesObject } from "../toolkit/cluster.ts";
import { type ArchiveFile, writeImageArchive } from "./archive.ts";
import { partKey } from "./cache.ts";
import { capture, must } from "./exec.ts";
import type { Layout } from "./layout.ts";
import { ctr } from "./node.ts";
import { PARTS, VERSIONS } from "./parts.ts";
import { cacheFolder } from "./paths.ts";

/** Import of an image into containerd: the largest are some 500 MB. */
const IMPORT_LIMIT_MS = 3 * 60_000;

/** Changes with the programs, so that an image of older ones is never taken for the current. */
const suffix = partKey(PARTS.kubernetes).slice(-12);

export const SYSTEM_IMAGES = {
  pause: { ref: `docker.io/conveyor/pause:${suffix}`, program: "pause" },
  netprobe: { ref: `docker.io/conveyor/netprobe:${suffix}`, program: "netprobe" },
  coredns: { ref: `docker.io/coredns/coredns:${VERSIONS.coredns}-${suffix}`, program: "coredns" },
  metricsServer: {
    ref: `docker.io/conveyor/metrics-server:${VERSIONS.metricsServer}-${suffix}`,
    program: "metrics-server",
  },
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
    const files: ArchiveFile[] = [{ path: image.program, from: join(layout.kubernetes, image.program) }];
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

/** The objects of addons.yaml for this cluster. */
export async function addonObjects(layout: Layout): Promise<KubernetesObject[]> {
  const base64 = async (name: string) => (await readFile(join(layout.pki, name))).toString("base64");
  const words: Record<string, string> = {
    COREDNS: SYSTEM_IMAGES.coredns.ref,
    METRICS_SERVER: SYSTEM_IMAGES.metricsServer.ref,
    DNS_ADDRESS: layout.dnsAddress,
    METRICS_CERTIFICATE: await base64("metrics-server.crt"),
    METRICS_KEY: await base64("metrics-server.key"),
    CA: await base64("ca.crt"),
  };
  const text = (await readFile(join(import.meta.dir, "addons.yaml"), "utf8")).replace(/@([A-Z_]+)@/g, (all, word) => {
    const value = words[word as string];
    if (value === undefined) throw new Error(`addons.yaml: ${all} is not known`);
    return value;
  });
  return parseAllDocuments(text).map((document) => document.toJS() as KubernetesObject);
}

/** Applies the add-ons. @returns names of what changed */
export async function applyAddons(cluster: Cluster, layout: Layout, signal?: AbortSignal): Promise<string[]> {
  const applied = await cluster.apply(await addonObjects(layout), signal ? { signal } : {});
  return applied.filter((object) => object.change !== "unchanged").map((object) => object.ref);
}
