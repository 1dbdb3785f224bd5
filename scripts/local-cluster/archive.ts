/**
 * Container images without a registry or a daemon: a docker-archive tar (what `docker save` writes and `ctr images
 * import`, `docker load` and `buildah pull docker-archive:` read) from single files, folders or tars.
 * The same input gives the same bytes: names are sorted, times are fixed, so that an unchanged image keeps its digest.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { finished } from "node:stream/promises";
import { must, sha256OfFile } from "../cli/process.ts";

/** Time of every file and of the image, so that the bytes are always the same. */
const FIXED_TIME_S = 0;
const BLOCK_BYTES = 512;
/** A tar ends with two empty blocks. */
const END_BLOCKS = 2;
/** ustar's name field. */
const MAX_NAME_BYTES = 100;

export interface ArchiveFile {
  /** Path in the image, without leading slash: "usr/bin/thing". Its folders are created. */
  path: string;
  /** Exactly one of: a file of this machine, the content itself. */
  from?: string;
  content?: string;
  /** Permission bits; 0o755 for `from`, 0o644 for `content`. */
  mode?: number;
}

/** A layer from single files, from a folder (owners and modes kept unless `owner` is given), or an existing tar. */
export type Layer =
  | { kind: "files"; files: readonly ArchiveFile[] }
  | { kind: "folder"; folder: string; prefix?: string; owner?: { uid: number; gid: number } }
  | { kind: "tar"; tar: string };

export interface ImageConfig {
  Entrypoint?: readonly string[];
  Cmd?: readonly string[];
  Env?: readonly string[];
  User?: string;
  WorkingDir?: string;
}

export interface ArchiveImage {
  /** Complete reference, for example "docker.io/library/influxdb:2.9.1". */
  ref: string;
  /** Bottom first. */
  layers: readonly Layer[];
  config: ImageConfig;
}

/** The header of a file ("0") or a folder ("5") that root owns. */
function header(name: string, size: number, mode: number, type: "0" | "5"): Uint8Array {
  const block = Buffer.alloc(BLOCK_BYTES);
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw new RangeError(`tar name: must be at most ${MAX_NAME_BYTES} bytes; got "${name}"`);
  }
  const octal = (value: number, at: number, width: number) =>
    block.write(`${value.toString(8).padStart(width - 1, "0")}\0`, at, "latin1");
  block.write(name, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8); // user
  octal(0, 116, 8); // group
  octal(size, 124, 12);
  octal(FIXED_TIME_S, 136, 12);
  block.write("        ", 148); // the checksum counts as spaces while it is computed
  block.write(type, 156);
  block.write("ustar\x0000", 257, "latin1");
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

/** Writes a tar of the given files, sorted by path, with the folders that they need. */
async function writeTar(out: string, files: readonly ArchiveFile[]): Promise<void> {
  const folders = new Set<string>();
  for (const file of files) {
    for (let folder = dirname(file.path); folder !== "." && folder !== "/"; folder = dirname(folder))
      folders.add(folder);
  }
  const entries: { path: string; file?: ArchiveFile }[] = [
    ...[...folders].map((path) => ({ path })),
    ...files.map((file) => ({ path: file.path, file })),
  ].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  for (const { path, from, content } of files) {
    if ((from === undefined) === (content === undefined)) {
      throw new TypeError(`archive file "${path}": exactly one of from, content must be given`);
    }
  }
  const stream = createWriteStream(out);
  // Every failed write rejects its own promise; without a listener the stream would end the process as well.
  stream.on("error", () => {});
  const write = (bytes: Uint8Array) =>
    new Promise<void>((resolve, reject) => stream.write(bytes, (error) => (error ? reject(error) : resolve())));
  try {
    for (const { path, file } of entries) {
      if (!file) {
        await write(header(`${path}/`, 0, 0o755, "5"));
        continue;
      }
      const { from, content } = file;
      const bytes = content === undefined ? undefined : Buffer.from(content);
      const size = bytes ? bytes.length : (await stat(from!)).size;
      await write(header(path, size, file.mode ?? (bytes ? 0o644 : 0o755), "0"));
      let written = 0;
      for await (const chunk of bytes ? [bytes] : createReadStream(from!, { highWaterMark: 1 << 20 })) {
        await write(chunk as Buffer);
        written += (chunk as Buffer).length;
      }
      if (written !== size) throw new Error(`${from}: changed while it was read`);
      if (size % BLOCK_BYTES) await write(Buffer.alloc(BLOCK_BYTES - (size % BLOCK_BYTES)));
    }
    await write(Buffer.alloc(BLOCK_BYTES * END_BLOCKS));
    stream.end();
    await finished(stream);
  } catch (error) {
    stream.destroy();
    throw error;
  }
}

async function layerTar(layer: Layer, out: string, signal?: AbortSignal): Promise<string> {
  if (layer.kind === "tar") return layer.tar;
  if (layer.kind === "files") {
    await writeTar(out, layer.files);
    return out;
  }
  const prefix = (layer.prefix ?? "").replace(/^\/+|\/+$/g, "");
  const command = ["tar", "--create", "--file", out, "--directory", layer.folder];
  command.push("--sort=name", `--mtime=@${FIXED_TIME_S}`, "--numeric-owner", "--format=gnu");
  if (layer.owner) command.push(`--owner=x:${layer.owner.uid}`, `--group=x:${layer.owner.gid}`);
  // "./x" becomes "prefix/x"; flags=r leaves the targets of symbolic links alone.
  command.push(`--transform=flags=rh;s,^\\.\\(/\\|$\\),${prefix ? `${prefix}/` : "./"},`, ".");
  await must(command, { signal });
  return out;
}

/**
 * Writes the archive of an image, atomically.
 * @returns the image's ID ("sha256:…", digest of its configuration), the same for the same content
 */
export async function writeImageArchive(
  out: string,
  image: ArchiveImage,
  options: { signal?: AbortSignal } = {},
): Promise<{ id: string }> {
  await mkdir(dirname(out), { recursive: true });
  const work = await mkdtemp(join(dirname(out), ".archive-"));
  try {
    const layers: { path: string; digest: string }[] = [];
    for (const [index, layer] of image.layers.entries()) {
      options.signal?.throwIfAborted();
      const path = await layerTar(layer, join(work, `layer-${index}.tar`), options.signal);
      layers.push({ path, digest: await sha256OfFile(path) });
    }
    const created = new Date(FIXED_TIME_S * 1000).toISOString();
    const config = JSON.stringify({
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      created,
      config: image.config,
      rootfs: { type: "layers", diff_ids: layers.map((layer) => `sha256:${layer.digest}`) },
      history: layers.map(() => ({ created, created_by: "conveyor" })),
    });
    const id = new Bun.CryptoHasher("sha256").update(config).digest("hex");
    const manifest = [
      { Config: `${id}.json`, RepoTags: [image.ref], Layers: layers.map((layer) => `${layer.digest}.tar`) },
    ];
    const files: ArchiveFile[] = [
      { path: `${id}.json`, content: config },
      { path: "manifest.json", content: JSON.stringify(manifest) },
    ];
    const stored = new Set<string>();
    for (const layer of layers) {
      if (!stored.has(layer.digest)) files.push({ path: `${layer.digest}.tar`, from: layer.path, mode: 0o644 });
      stored.add(layer.digest);
    }
    const finishedTar = join(work, "image.tar");
    await writeTar(finishedTar, files);
    await rename(finishedTar, out);
    return { id: `sha256:${id}` };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
