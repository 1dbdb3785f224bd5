/**
 * Builds or assembles the images that the manifests name, and delivers them to a cluster, a registry or a folder.
 *
 *   bun scripts/build-images.ts --local                        build, assemble, import into the local cluster
 *   bun scripts/build-images.ts --kind dev                     build and load into the nodes of a kind cluster
 *   bun scripts/build-images.ts --registry registry.lan/belts  build and push; prints the references
 *   bun scripts/build-images.ts --export images                write archives, for --images on another machine
 *
 * The project's own images are built from their Dockerfiles with docker, podman or buildah, whichever works.
 */

import { defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { imagesOf, loadManifests } from "./deploy/manifests.ts";
import { BUILDERS, type BuilderName } from "./images/builders.ts";
import { ensureImages, exitCodeFor, type ImageTarget, planImages } from "./images/index.ts";
import { checkPrefix } from "./images/targets.ts";

/** The target that the flags name. @throws OperatorError (exit 2) when they name several. */
export function targetOf(flags: { local: boolean; kind?: string; registry?: string; export?: string }): ImageTarget {
  const targets: ImageTarget[] = [];
  if (flags.local) targets.push({ kind: "local" });
  if (flags.kind) targets.push({ kind: "kind", name: flags.kind });
  if (flags.registry) targets.push({ kind: "registry", prefix: flags.registry });
  if (flags.export) targets.push({ kind: "export", dir: flags.export });
  if (targets.length > 1) {
    throw new OperatorError(
      `--local, --kind, --registry, --export: only one may be given; got ${targets.map(({ kind }) => `--${kind}`).join(" ")}`,
      { exitCode: EXIT.usage },
    );
  }
  return targets[0] ?? { kind: "cache" };
}

/** @throws OperatorError (exit 2) unless the text is a list of platforms */
export function platformsOf(text: string): string[] {
  const platforms = text.split(",");
  const wrong = platforms.find((platform) => !/^linux\/[a-z0-9]+(\/v[0-9]+)?$/.test(platform));
  if (wrong === undefined) return [...new Set(platforms)];
  throw new OperatorError(`--platform: must be linux/ARCHITECTURE, several separated by commas; got "${wrong}"`, {
    exitCode: EXIT.usage,
  });
}

export const command = defineCommand({
  name: "scripts/build-images.ts",
  summary: "build the project's images, and deliver them and the third-party images to a cluster",
  usage: ["[--local | --kind NAME | --registry HOST/PATH | --export DIR] [flags] [IMAGE...]"],
  positionals: [
    { name: "IMAGE", description: "only these references; default: all that the manifests name", many: true },
  ],
  flags: {
    local: { type: "boolean", description: "import into the local cluster" },
    kind: { type: "string", valueName: "NAME", description: "load into the nodes of this kind cluster" },
    registry: { type: "string", valueName: "HOST/PATH", description: "push to this registry, and nowhere else" },
    export: { type: "string", valueName: "DIR", description: "write an archive of each image into this folder" },
    images: { type: "string", valueName: "DIR", description: "folder with archives (docker save, OCI), used first" },
    assemble: {
      type: "boolean",
      description: "assemble third-party images from packages also for --kind and --registry",
    },
    "allow-pull": {
      type: "boolean",
      description: "let the tool pull base images, as it does for --kind and --registry without --assemble",
    },
    "base-registry": {
      type: "string",
      valueName: "HOST/PATH",
      env: "CONVEYOR_BASE_REGISTRY",
      description: "mirror of Docker Hub with the base images",
    },
    platform: {
      type: "string",
      valueName: "LIST",
      description: "platforms of the cluster's nodes, for example linux/amd64,linux/arm64 (default: this machine's)",
    },
    tool: {
      type: "string",
      choices: BUILDERS,
      valueName: "NAME",
      description: "build and push with this tool; default: the first that works",
    },
    "dry-run": { type: "boolean", description: "print the plan for each image" },
  },
  examples: [
    ["bun scripts/build-images.ts --local", "everything that the manifests name, into the local cluster"],
    ["bun scripts/build-images.ts --registry registry.lan:5000/belts", "push; deploy takes the same flag"],
    [
      "bun scripts/build-images.ts --local --images ~/images",
      "archives first, for example of docker save grafana/grafana:13.1.1 -o ~/images/grafana.tar",
    ],
    ["bun scripts/build-images.ts --export images --json", "archives for a machine without a registry"],
  ],
  notes: [
    "Without a target the services' image is built into the cache and the cluster pulls the third-party images.",
    "Images are pushed to the registry of --registry alone. The tool pulls base images for --kind and --registry, and with --allow-pull.",
  ],
  async run({ flags, positionals, report, signal }) {
    const target = targetOf(flags);
    const refs = positionals.length > 0 ? positionals : imagesOf(await loadManifests());
    const options = {
      imagesDir: flags.images,
      signal,
      tool: flags.tool as BuilderName | undefined,
      assemble: flags.assemble,
      allowPull: flags["allow-pull"],
      baseRegistry: flags["base-registry"] && checkPrefix(flags["base-registry"], "--base-registry"),
      platforms: flags.platform ? platformsOf(flags.platform) : undefined,
    };
    if (flags["dry-run"]) {
      const plans = await planImages(target, refs, options);
      for (const { ref, plan } of plans) report.print(`${ref}  ${plan}`);
      report.result({ dry_run: true, target, images: plans });
      return EXIT.ok;
    }
    const results = await ensureImages(target, refs, report, options);
    for (const { ref, action, pushedRef } of results) {
      report.print(`${action.padEnd(9)}  ${ref}${pushedRef ? ` -> ${pushedRef}` : ""}`);
    }
    for (const { ref, action, hint } of results) if (action === "missing") report.warn(`${ref}: ${hint}`);
    report.result({
      target,
      images: results.map(({ pushedRef, ...rest }) => ({ ...rest, pushed_ref: pushedRef })),
    });
    return exitCodeFor(results);
  },
});

if (import.meta.main) await runCommand(command);
