/**
 * Trees of unpacked Debian packages as layers. No package script runs, so the recipe writes what a script would create
 * (password file, links), and the loader of the new tree checks that every library is present.
 */
import { createReadStream } from "node:fs";
import { chmod, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture, must } from "../cli/process.ts";

/** Documentation and translations that no container reads; licences (usr/share/doc/…/copyright) are kept. */
const LEFT_OUT = ["man", "locale", "info", "lintian", "bug", "doc-base"].map((name) => `usr/share/${name}`);

/** Names of the architectures in Node.js and in Debian. */
const PLATFORMS: Partial<Record<NodeJS.Architecture, { triplet: string; loader: string }>> = {
  x64: { triplet: "x86_64-linux-gnu", loader: "lib64/ld-linux-x86-64.so.2" },
  arm64: { triplet: "aarch64-linux-gnu", loader: "lib/ld-linux-aarch64.so.1" },
};

/** Folder of the shared libraries and path of the loader, both without leading slash. */
export function platform(arch: NodeJS.Architecture = process.arch): { triplet: string; loader: string } {
  const found = PLATFORMS[arch];
  if (!found) {
    throw new OperatorError(
      `images can be assembled on ${Object.keys(PLATFORMS).join(" and ")} machines; this is ${arch}`,
      { exitCode: EXIT.precondition },
    );
  }
  return found;
}

/** Removes from a tree what no container reads. */
export async function prune(tree: string): Promise<void> {
  // Character sets of iconv(1); Java, Bun and Go have their own.
  const folders = [...LEFT_OUT, `usr/lib/${platform().triplet}/gconv`];
  for (const folder of folders) await rm(join(tree, folder), { recursive: true, force: true });
}

/** Libraries that `ld.so --list` could not find, from its output. */
export function missingLibraries(listing: string): string[] {
  const missing = listing.matchAll(/^\s*(\S+) => not found/gm);
  const failed = listing.matchAll(/error while loading shared libraries: ([^:]+):/g);
  return [...new Set([...missing, ...failed].map((match) => match[1]!))];
}

async function isElf(path: string): Promise<boolean> {
  for await (const chunk of createReadStream(path, { end: 3 }))
    return (chunk as Buffer).toString("latin1") === "\x7fELF";
  return false;
}

/**
 * Checks with the tree's loader that the libraries of every program and library below the given folders are present.
 * @throws OperatorError that names each file and its missing libraries
 */
export async function checkLibraries(tree: string, folders: readonly string[], signal?: AbortSignal): Promise<void> {
  const { triplet, loader } = platform();
  const problems: string[] = [];
  for (const folder of folders) {
    for (const entry of await readdir(join(tree, folder), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || !(await isElf(path))) continue;
      const libraries = [join(tree, "usr/lib", triplet), entry.parentPath, join(entry.parentPath, "server")];
      const { stdout, stderr } = await capture(
        [join(tree, loader), "--library-path", libraries.join(":"), "--list", path],
        { signal },
      );
      const missing = missingLibraries(`${stdout}\n${stderr}`);
      if (missing.length > 0) problems.push(`${path.slice(tree.length)} needs ${missing.join(", ")}`);
    }
  }
  if (problems.length > 0) {
    throw new OperatorError(`packages are missing from the image's list:\n  ${problems.join("\n  ")}`);
  }
}

/** Creates a folder with access for all users, independent of the umask: pods run as another user. */
export async function openFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o755);
}

/** Packs a tree as a layer: names sorted, times fixed, everything owned by root. */
export async function packTree(tree: string, tar: string, signal?: AbortSignal): Promise<void> {
  await rm(tar, { force: true });
  await must(
    [
      ...["tar", "--create", "--file", tar, "--directory", tree, "--sort=name", "--mtime=@0", "--format=gnu"],
      ...["--owner=+0", "--group=+0", "--numeric-owner", "."],
    ],
    { signal },
  );
}
