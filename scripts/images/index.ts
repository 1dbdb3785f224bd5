/**
 * Delivers the images that manifests name. The source of each reference is the first that exists:
 *
 *   1. an archive in the folder of --images
 *   2. the project's own images: built from their Dockerfiles; for kind and a registry from base images that the tool pulls,
 *      otherwise from assembled ones
 *   3. assembled from packages under the same name (local cluster; elsewhere with --assemble)
 *   4. the cluster's nodes pull it (kind and other clusters)
 *   5. the image that an earlier archive brought to the local cluster under that name
 *
 * Images are pushed to no registry that the user did not name, and pulled from that of the base images alone.
 */

import { causeChain, EXIT, isAbort, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { type MissingTool, missingTools, type Tool } from "../cli/tools.ts";
import { type FoundImage, fullReference, scanArchives } from "./archive-folder.ts";
import { type BuilderName, missingBuilder } from "./builders.ts";
import { ARCHIVE_ONLY, type ImageRecipe, recipeFor } from "./catalog.ts";
import { builtOwn, ensureOwn, OWN_IMAGES, type OwnImage, type OwnImageOptions, ownKey } from "./own-images.ts";
import { type ImageTarget, KIND_TOOL, openTarget, type Target, type Variant } from "./targets.ts";

export { engineWorks } from "./builders.ts";
export { SERVICES_IMAGE } from "./own-images.ts";
export type { ImageTarget } from "./targets.ts";
export { kindEngine } from "./targets.ts";

/** What was done with an image: "left": the cluster's nodes pull it; "missing": there is no source. */
type ImageAction = "present" | "built" | "assembled" | "imported" | "pushed" | "exported" | "left" | "missing";

export interface ImageResult {
  /** As requested. */
  ref: string;
  action: ImageAction;
  /** Digest that changes with the image's content: of its configuration, or of the pushed manifest. */
  digest?: string;
  /** The next step, or an explanation. */
  hint?: string;
  /** The pushed reference, for the manifests. */
  pushedRef?: string;
}

export interface ImageOptions {
  /** Folder with archives of images. */
  imagesDir?: string;
  signal?: AbortSignal;
  tool?: BuilderName;
  /** Assemble third-party images from packages also for kind and for a registry. */
  assemble?: boolean;
  /** Lets the tool pull base images also where it does not by default: for the local cluster and for archives. */
  allowPull?: boolean;
  /** HOST[:PORT][/PATH] with the base images, in place of Docker Hub. */
  baseRegistry?: string;
  /**
   * Platforms of the target's nodes, as "linux/arm64": own images are built for each, and pushed as one list. The platform of
   * this machine when absent.
   */
  platforms?: readonly string[];
}

/** Source of an image. */
export type Source =
  | { via: "archive"; image: FoundImage }
  | { via: "build"; image: OwnImage }
  | { via: "assemble"; recipe: ImageRecipe }
  | { via: "left" }
  | { via: "missing"; hint: string };

/** True when the tool may pull base images: --assemble asks for images without any registry. */
const mayPull = (target: ImageTarget["kind"], { allowPull, assemble }: ImageOptions): boolean =>
  allowPull || (!assemble && (target === "kind" || target === "registry"));

/** The source of one reference. */
export function sourceOf(
  ref: string,
  target: ImageTarget["kind"],
  archives: readonly FoundImage[],
  options: ImageOptions = {},
): Source {
  const full = fullReference(ref);
  if (target === "none") return { via: "left" };
  const image = archives.find((found) => found.ref === full);
  if (image) return { via: "archive", image };
  const own = OWN_IMAGES.find((one) => one.ref === full);
  const recipe = recipeFor(full);
  if (own && (!recipe || mayPull(target, options))) return { via: "build", image: own };
  // Images with the project's name are in no registry.
  const assemble = options.assemble || own || target === "local" || target === "export";
  if (recipe && assemble) return { via: "assemble", recipe };
  if (target !== "local" && target !== "export") return { via: "left" };
  return { via: "missing", hint: missingHint(full) };
}

/** The user's next step for an image that is not assembled from packages. */
function missingHint(ref: string): string {
  const file = `${ref.replace(/^.*\//, "").replaceAll(":", "-")}.tar`;
  const reason = ARCHIVE_ONLY.some((start) => ref.startsWith(start)) ? "no package has it" : "no recipe assembles it";
  return `${reason}; where its registry can be reached: docker pull ${ref} && docker save ${ref} -o DIR/${file}; here: --images DIR`;
}

export interface ImagePlan {
  ref: string;
  /** Description for users. */
  plan: string;
  /** True when neither the target nor any source has the image. */
  missing: boolean;
  /** Digest of an image that the target has, or that was pushed before. */
  digest?: string;
  pushedRef?: string;
}

/** The plan for each reference, without executing it. */
export async function planImages(
  target: ImageTarget,
  refs: readonly string[],
  options: ImageOptions = {},
): Promise<ImagePlan[]> {
  const archives = options.imagesDir ? (await scanArchives(options.imagesDir)).images : [];
  requireDeliverable(target, options);
  const opened = await openTarget(target, options.tool);
  const plans: ImagePlan[] = [];
  for (const ref of unique(refs)) {
    const source = sourceOf(ref, target.kind, archives, options);
    const key = await keyOf(source, target, options);
    const held = source.via === "missing" ? opened.holds?.(fullReference(ref)) : undefined;
    const present = key === undefined ? await held : await opened.has(fullReference(ref), key);
    const plan = present ? "present, nothing to do" : await planned(source, opened, target, options);
    const expected = present ?? (key === undefined ? {} : await opened.expect?.(fullReference(ref), key));
    plans.push({ ref, plan, missing: !present && source.via === "missing", ...expected });
  }
  return plans;
}

async function planned(source: Source, opened: Target, target: ImageTarget, options: ImageOptions): Promise<string> {
  switch (source.via) {
    case "archive":
      return `from ${source.image.path} to ${opened.title}`;
    case "build":
      return `${(await isOwnBuilt(source.image, target, options)) ? "built already" : `build from ${source.image.dockerfile}`}, to ${opened.title}`;
    case "assemble":
      return `${(await source.recipe.built()) ? "assembled already" : "assemble from packages"}, to ${opened.title}`;
    case "left":
      return "left to the cluster's nodes to pull";
    case "missing":
      return `missing: ${source.hint}`;
  }
}

const unique = (refs: readonly string[]): string[] => [...new Set(refs)];

/** How an own image is built for a target, once per platform of its nodes. */
function ownVariants(target: ImageTarget["kind"], options: ImageOptions): OwnImageOptions[] {
  const { tool, signal, baseRegistry, platforms } = options;
  const pull = mayPull(target, options);
  // Named also where it is this machine's: the store may have the base image of another platform under the same name. The
  // assembled base image is always this machine's.
  const own = pull ? `linux/${process.arch === "x64" ? "amd64" : process.arch}` : undefined;
  const wanted = target === "local" || !platforms?.length ? [own] : platforms;
  return wanted.map((platform) => ({ tool, signal, pull, platform, baseRegistry: pull ? baseRegistry : undefined }));
}

async function isOwnBuilt(image: OwnImage, target: ImageTarget, options: ImageOptions): Promise<boolean> {
  const built = await Promise.all(ownVariants(target.kind, options).map((variant) => builtOwn(image, variant)));
  return built.every((archive) => archive !== undefined);
}

async function keyOf(source: Source, target: ImageTarget, options: ImageOptions): Promise<string | undefined> {
  if (source.via === "archive") return source.image.id;
  if (source.via === "assemble") return source.recipe.key();
  if (source.via !== "build") return undefined;
  return (await Promise.all(ownVariants(target.kind, options).map((variant) => ownKey(source.image, variant)))).join(
    " ",
  );
}

/** @throws OperatorError (exit 3) when nodes of several platforms cannot get an image each */
function requireDeliverable({ kind }: ImageTarget, { platforms = [] }: ImageOptions): void {
  if (kind === "registry" || kind === "none" || kind === "local" || platforms.length < 2) return;
  throw new OperatorError(
    `the nodes have several platforms (${platforms.join(", ")}): only a registry can have an image for each`,
    {
      exitCode: EXIT.precondition,
      hint: "--registry HOST/PATH",
    },
  );
}

/**
 * Delivers every image to the target, in the given order, and returns what was done with each. An image without a source is
 * a result ("missing", with the next step), so that the caller can skip its component; a failed build of the project's own
 * image is an error.
 * @throws OperatorError exit 2 (folder, registry), 3 (no tool for the services' image), 1 (its build or a delivery failed)
 */
export async function ensureImages(
  target: ImageTarget,
  refs: readonly string[],
  report: Report,
  options: ImageOptions = {},
): Promise<ImageResult[]> {
  requireDeliverable(target, options);
  const archives = options.imagesDir ? await announceArchives(options.imagesDir, refs, report) : [];
  const opened = await openTarget(target, options.tool);
  const results: ImageResult[] = [];
  for (const ref of unique(refs)) {
    options.signal?.throwIfAborted();
    results.push(await ensureImage(ref, target, opened, archives, report, options));
  }
  return results;
}

async function announceArchives(folder: string, refs: readonly string[], report: Report): Promise<FoundImage[]> {
  const { images, unusable } = await scanArchives(folder);
  const wanted = new Set([...refs.map(fullReference), ...OWN_IMAGES.map(({ base }) => base)]);
  for (const image of images) {
    report.info(`  ${image.path}: ${image.ref}${wanted.has(image.ref) ? "" : " (not needed)"}`);
  }
  for (const { path, reason } of unusable) report.warn(`${path}: not used: ${reason}`);
  if (images.length + unusable.length === 0) report.warn(`${folder}: no archive of an image in it (*.tar, *.tar.gz)`);
  return images;
}

/** An image without a source: the cluster may have it from an earlier archive. */
export async function heldOrMissing(ref: string, hint: string, target: Pick<Target, "holds">): Promise<ImageResult> {
  const held = await target.holds?.(fullReference(ref));
  return held ? { ref, action: "present", ...held } : { ref, action: "missing", hint };
}

async function ensureImage(
  ref: string,
  target: ImageTarget,
  opened: Target,
  archives: readonly FoundImage[],
  report: Report,
  options: ImageOptions,
): Promise<ImageResult> {
  const full = fullReference(ref);
  const source = sourceOf(ref, target.kind, archives, options);
  if (source.via === "missing") return await heldOrMissing(ref, source.hint, opened);
  if (source.via === "left") return { ref, action: "left", hint: "the cluster's nodes pull it themselves" };
  const key = (await keyOf(source, target, options))!;
  const present = await opened.has(full, key);
  if (present) return { ref, action: "present", ...present };

  let variants: [Variant, ...Variant[]];
  let made: ImageAction;
  if (source.via === "archive") {
    variants = [source.image];
    made = "imported";
  } else if (source.via === "build") {
    made = (await isOwnBuilt(source.image, target, options)) ? "present" : "built";
    const built: Variant[] = [];
    for (const variant of ownVariants(target.kind, options)) {
      const archive = await ensureOwn(source.image, report, { ...variant, archives });
      built.push({ ...archive, platform: variant.platform });
    }
    variants = built as typeof variants;
  } else {
    try {
      made = (await source.recipe.built()) ? "present" : "assembled";
      variants = [await source.recipe.assemble(report, options.signal)];
    } catch (error) {
      if (options.signal?.aborted || isAbort(error) || !(error instanceof OperatorError)) throw error;
      const reason = causeChain(error).join("; ");
      const hint = `could not be assembled: ${reason}${error.hint ? ` (${error.hint})` : ""}; or give an archive with --images DIR`;
      return { ref, action: "missing", hint };
    }
  }
  const named = source.via === "archive" ? source.image.named : true;
  // A failed layer changes the key, so it is computed again.
  const keyNow = (await keyOf(source, target, options))!;
  const { path, id } = variants[0];
  const deliverable = { ref: full, path, id, named, key: keyNow, variants };
  const delivery = await opened.deliver(deliverable, report, options.signal);
  return { ref, action: actionFor(target.kind, made), ...delivery };
}

/** The action in a result: created now, or only delivered to the target. */
function actionFor(target: ImageTarget["kind"], made: ImageAction): ImageAction {
  if (target === "registry") return "pushed";
  if (target === "export") return "exported";
  if (target === "cache") return made;
  return made === "present" ? "imported" : made;
}

/**
 * The missing programs that `ensureImages` would need on this machine. Images in the cache need none, a registry needs the
 * tool that pushes to it.
 */
export async function missingImageTools(
  target: ImageTarget,
  refs: readonly string[],
  options: ImageOptions = {},
): Promise<MissingTool[]> {
  const archives = options.imagesDir ? (await scanArchives(options.imagesDir)).images : [];
  const tools: Tool[] = target.kind === "kind" ? [KIND_TOOL] : [];
  const assembly = async (recipe: ImageRecipe | undefined) => {
    if (recipe && !(await recipe.built())) tools.push(...recipe.tools);
  };
  let builder = target.kind === "registry";
  for (const ref of unique(refs)) {
    const source = sourceOf(ref, target.kind, archives, options);
    if (source.via === "assemble") await assembly(source.recipe);
    if (source.via === "build" && !(await isOwnBuilt(source.image, target, options))) {
      builder = true;
      tools.push(...(source.image.tools?.() ?? []));
      if (!mayPull(target.kind, options)) await assembly(recipeFor(source.image.base));
    }
  }
  const missing = await missingTools(tools);
  const noBuilder = builder ? await missingBuilder() : undefined;
  return noBuilder ? [...missing, noBuilder] : missing;
}

/** Exit code for results: 3 when an image is missing. */
export const exitCodeFor = (results: readonly ImageResult[]) =>
  results.some(({ action }) => action === "missing") ? EXIT.precondition : EXIT.ok;
