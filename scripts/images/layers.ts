/**
 * Layers of images: parts in the cache with one layer each, shared by all images that use them.
 *
 * base   a shell, coreutils and the C library of Debian: enough to inspect a running pod
 * java   a Java runtime on top of it
 */
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { must } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import type { Tool } from "../cli/tools.ts";
import {
  type BuildContext,
  DEBIAN_TOOLS,
  ensurePart,
  type Layer,
  type Part,
  partDir,
  partKey,
  unpackDebian,
} from "../local-cluster/index.ts";
import { checkLibraries, openFolder, packTree, platform, prune } from "./tree.ts";

/** One or more layers of an image, created on demand. */
export interface LayerSource {
  /** Programs of this machine that creating it needs. */
  tools: readonly Tool[];
  /** Changes whenever the layer's content may change: part of the key of every image that has the layer. */
  key(): string;
  /** Creates it when it is missing. */
  ensure(report: Report, signal?: AbortSignal): Promise<void>;
  layers(): Layer[];
}

/** Layers from one part's folder. */
export function fromPart(part: Part, layers: (folder: string) => Layer[]): LayerSource {
  return {
    tools: part.requires,
    key: () => partKey(part),
    ensure: async (report, signal) => {
      await ensurePart(part, report, signal);
    },
    layers: () => layers(partDir(part)),
  };
}

/** One program of a part, at a path of the image. */
export const program = (part: Part, file: string, path: string): LayerSource => ({
  ...fromPart(part, (folder) => [{ kind: "files", files: [{ path, from: join(folder, file), mode: 0o755 }] }]),
  key: () => `${partKey(part)} ${file} ${path}`,
});

export const SUITE = "trixie";

/** The lists include every library that their programs link against; checkLibraries verifies it at each build. */
const BASE_PACKAGES = [
  ...["base-files", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"],
  ...["dash", "bash", "libtinfo6", "sed", "grep", "libpcre2-8-0"],
  ...[
    "coreutils",
    "libacl1",
    "libattr1",
    "libcap2",
    "libgmp10",
    "libselinux1",
    "libssl3t64",
    "libzstd1",
    "libsystemd0",
  ],
];
const JAVA_PACKAGES = ["openjdk-21-jre-headless", "libjpeg62-turbo", "liblcms2-2"];

/** Files that package scripts would create. The uid of this project's pods has a name, for programs that ask for it. */
const BASE_FILES = {
  "etc/passwd": [
    "root:x:0:0:root:/root:/bin/bash",
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    "conveyor:x:10001:10001:conveyor:/tmp:/usr/sbin/nologin",
    "",
  ].join("\n"),
  "etc/group": "root:x:0:\nnogroup:x:65534:\nconveyor:x:10001:\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
} as const;

const javaHome = () => {
  const arch = { x64: "amd64", arm64: "arm64" }[process.arch as string] ?? process.arch;
  return `usr/lib/jvm/java-21-openjdk-${arch}`;
};

async function buildDebianLayers(out: string, context: BuildContext): Promise<void> {
  const whole = join(context.work, "whole");
  const trees = { base: join(context.work, "base"), java: join(context.work, "java") };
  await must(["rm", "-rf", whole, trees.base, trees.java]);

  for (const tree of Object.values(trees)) await openFolder(tree);
  await unpackDebian(SUITE, BASE_PACKAGES, trees.base, context);
  await prune(trees.base);
  for (const [path, content] of Object.entries(BASE_FILES)) {
    await writeFile(join(trees.base, path), content);
    await chmod(join(trees.base, path), 0o644);
  }
  await must(["ln", "-sfn", "dash", join(trees.base, "usr/bin/sh")]);

  await unpackDebian(SUITE, JAVA_PACKAGES, trees.java, context);
  await prune(trees.java);
  await openFolder(join(trees.java, "usr/bin"));
  await must(["ln", "-sfn", `../../${javaHome()}/bin/java`, join(trees.java, "usr/bin/java")]);
  // The class archive for heaps beyond 32 GB, which no pod here has.
  await must(["rm", "-f", join(trees.java, javaHome(), "lib/server/classes_nocoops.jsa")]);

  context.update("check libraries");
  await must(["cp", "-a", "--reflink=auto", trees.base, whole]);
  await must(["cp", "-a", "--reflink=auto", `${trees.java}/.`, whole]);
  await checkLibraries(whole, ["usr/bin", `usr/lib/${platform().triplet}`, javaHome()], context.signal);

  context.update("pack");
  for (const [name, tree] of Object.entries(trees)) {
    await packTree(tree, join(out, `${name}.tar`), context.signal);
  }
}

/** The builder's own text is part of the recipe: another step is another layer. */
const debianLayers: Part = {
  name: "image-layers",
  version: SUITE,
  recipe: JSON.stringify([BASE_PACKAGES, JAVA_PACKAGES, BASE_FILES, buildDebianLayers.toString()]),
  requires: [...DEBIAN_TOOLS],
  build: buildDebianLayers,
};

/** A shell, coreutils and the C library. */
export const BASE = fromPart(debianLayers, (folder) => [{ kind: "tar", tar: join(folder, "base.tar") }]);
/** A Java runtime, on top of BASE. */
export const JAVA = fromPart(debianLayers, (folder) => [{ kind: "tar", tar: join(folder, "java.tar") }]);
