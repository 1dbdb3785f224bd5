/**
 * Archives of images in a folder (`docker save`, `podman save`, OCI layouts as tar, also compressed): which references
 * they contain, read from the archive's index, not from file names.
 */
import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture, must } from "../cli/process.ts";

/** A tar header block. */
const BLOCK_BYTES = 512;
/** Limit of members read to find the index: an image has some dozens. */
const MAX_MEMBERS = 10_000;
/** An index of an image has a few kilobytes. */
const MAX_INDEX_BYTES = 4 * 1024 * 1024;

export interface FoundImage {
  /** Complete reference: "docker.io/library/influxdb:2.9.1". */
  ref: string;
  path: string;
  /** Digest that changes with the content: of the configuration (docker-archive) or of the manifest (OCI). */
  id: string;
  /** True when container runtimes read the image's name from the archive. */
  named: boolean;
}

/** An archive without a usable image, and the reason. */
export interface UnusableArchive {
  path: string;
  reason: string;
}

/**
 * A complete reference: registry, path and tag, as in manifests.
 * "influxdb:2.9.1" is docker.io/library/influxdb:2.9.1, "apache/kafka" is docker.io/apache/kafka:latest.
 */
export function fullReference(ref: string): string {
  const digestAt = ref.indexOf("@");
  const plain = digestAt < 0 ? ref : ref.slice(0, digestAt);
  const slash = plain.indexOf("/");
  const first = slash < 0 ? "" : plain.slice(0, slash);
  const hasHost = first === "localhost" || /[.:]/.test(first);
  let path = hasHost ? plain : slash < 0 ? `docker.io/library/${plain}` : `docker.io/${plain}`;
  path = path.replace(/^index\.docker\.io\//, "docker.io/").replace(/^(docker\.io)\/([^/]+)$/, "$1/library/$2");
  const tagged = path.lastIndexOf(":") > path.lastIndexOf("/");
  return `${tagged || digestAt >= 0 ? path : `${path}:latest`}${digestAt < 0 ? "" : ref.slice(digestAt)}`;
}

/** Reads members of an uncompressed tar by name, seeking over the others; undefined for any other file. */
async function readMembers(path: string, names: readonly string[]): Promise<Map<string, string> | undefined> {
  const file = await open(path, "r");
  try {
    const found = new Map<string, string>();
    const block = Buffer.alloc(BLOCK_BYTES);
    let at = 0;
    for (let member = 0; member < MAX_MEMBERS; member++) {
      const { bytesRead } = await file.read(block, 0, BLOCK_BYTES, at);
      if (bytesRead < BLOCK_BYTES || block.every((byte) => byte === 0)) return member === 0 ? undefined : found;
      if (block.toString("latin1", 257, 262) !== "ustar") return undefined;
      const name = block.toString("utf8", 0, 100).replace(/\0.*$/s, "").replace(/^\.\//, "");
      const size = Number.parseInt(block.toString("latin1", 124, 136), 8);
      // Base-256 sizes (beyond 8 GiB) are not parsed; the tar program reads such an archive.
      if (!Number.isFinite(size)) return undefined;
      at += BLOCK_BYTES;
      if (names.includes(name) && size <= MAX_INDEX_BYTES) {
        const body = Buffer.alloc(size);
        await file.read(body, 0, size, at);
        found.set(name, body.toString("utf8"));
        if (found.size === names.length) return found;
      }
      at += Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
    }
    return found;
  } finally {
    await file.close();
  }
}

/** The same by the tar program, which supports compression and all formats. */
async function readMembersByTar(path: string, names: readonly string[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of names) {
    for (const member of [name, `./${name}`]) {
      const { stdout, exitCode } = await capture(["tar", "--extract", "--to-stdout", "--file", path, member]);
      if (exitCode === 0 && stdout !== "") found.set(name, stdout);
      if (found.has(name)) break;
    }
  }
  return found;
}

interface DockerEntry {
  Config: string;
  RepoTags: string[] | null;
}
interface OciIndex {
  manifests?: { digest: string; annotations?: Record<string, string> }[];
}

const CONTAINERD_NAME = "io.containerd.image.name";
const OCI_NAME = "org.opencontainers.image.ref.name";

/** The images in an archive's index files. @throws SyntaxError when they are not JSON. */
export function imagesInIndex(path: string, members: ReadonlyMap<string, string>): FoundImage[] {
  const docker = members.get("manifest.json");
  if (docker !== undefined) {
    return (JSON.parse(docker) as DockerEntry[]).flatMap(({ Config, RepoTags }) => {
      const id = `sha256:${Config.replace(/^blobs\/sha256\//, "").replace(/\.json$/, "")}`;
      return (RepoTags ?? []).map((tag) => ({ ref: fullReference(tag), path, id, named: true }));
    });
  }
  const oci = members.get("index.json");
  if (oci === undefined) return [];
  return ((JSON.parse(oci) as OciIndex).manifests ?? []).flatMap(({ digest, annotations = {} }): FoundImage[] => {
    const known = annotations[CONTAINERD_NAME];
    if (known) return [{ ref: fullReference(known), path, id: digest, named: true }];
    const name = annotations[OCI_NAME];
    // A bare tag ("2.9.1") does not name the image.
    if (!name || !/[/:]/.test(name)) return [];
    return [{ ref: fullReference(name), path, id: digest, named: false }];
  });
}

/** The images of all archives in a folder, and the unusable archives. @throws OperatorError when there is no such folder. */
export async function scanArchives(folder: string): Promise<{ images: FoundImage[]; unusable: UnusableArchive[] }> {
  const info = await stat(folder).catch(() => undefined);
  if (!info?.isDirectory()) {
    throw new OperatorError(`--images: must be a folder with archives of images; got "${folder}"`, {
      exitCode: EXIT.usage,
    });
  }
  const images: FoundImage[] = [];
  const unusable: UnusableArchive[] = [];
  const files = (await readdir(folder)).filter((name) => /\.(tar|tgz|tar\.(gz|zst|xz|bz2)|oci)$/.test(name)).sort();
  for (const name of files) {
    const path = join(folder, name);
    const indexes = ["manifest.json", "index.json"];
    try {
      const members = (await readMembers(path, indexes)) ?? (await readMembersByTar(path, indexes));
      const found = imagesInIndex(path, members);
      images.push(...found);
      if (found.length === 0) {
        const reason = members.size === 0 ? "has neither manifest.json nor index.json" : "does not name its image";
        unusable.push({ path, reason });
      }
    } catch (error) {
      unusable.push({ path, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return { images, unusable };
}

/**
 * An archive whose image name containerd reads: the file itself, or, for an OCI layout with the general annotation only, a
 * copy with containerd's annotation.
 */
export async function withNamedArchive<T>(image: FoundImage, use: (path: string) => Promise<T>): Promise<T> {
  if (image.named) return await use(image.path);
  const work = await mkdtemp(join(tmpdir(), "conveyor-image-"));
  try {
    const layout = join(work, "layout");
    await must(["mkdir", layout]);
    await must(["tar", "--extract", "--file", image.path, "--directory", layout]);
    const index = JSON.parse(await readFile(join(layout, "index.json"), "utf8")) as OciIndex;
    for (const manifest of index.manifests ?? []) {
      if (manifest.digest === image.id)
        manifest.annotations = { ...manifest.annotations, [CONTAINERD_NAME]: image.ref };
    }
    await writeFile(join(layout, "index.json"), JSON.stringify(index));
    const named = join(work, "image.tar");
    await must(["tar", "--create", "--file", named, "--directory", layout, "."]);
    return await use(named);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
