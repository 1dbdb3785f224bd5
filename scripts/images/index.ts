/**
 * Delivers the images that manifests name. The source of each reference is the first that exists:
 *
 *   1. an archive in the folder of --images
 *   2. the services' own image: built from services/Dockerfile
 *   3. assembled from packages under the same name (local cluster; elsewhere with --assemble)
 *   4. the cluster's nodes pull it (kind and other clusters)
 *   5. the image that an earlier archive brought to the local cluster under that name
 *
 * Images are pulled from and pushed to no registry that the user did not name.
 */

import { causeChain, EXIT, isAbort, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { missingTools, type Tool } from "../cli/tools.ts";
import { type FoundImage, fullReference, scanArchives } from "./archive-folder.ts";
import { anyBuilderWorks, type BuilderName, DEFAULT_BUILDER_TOOL } from "./builders.ts";
import { ARCHIVE_ONLY, type Archive, BUN_IMAGE, type ImageRecipe, recipeFor } from "./catalog.ts";
import { builtServices, ensureServices, SERVICES_IMAGE, servicesKey } from "./services-image.ts";
import { type ImageTarget, OWN_PREFIX, openTarget, type Target } from "./targets.ts";

export { SERVICES_IMAGE } from "./services-image.ts";
export type { ImageTarget } from "./targets.ts";

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
  /** Lets the tool pull the base image of services/Dockerfile. */
  allowPull?: boolean;
}

/** Source of an image. */
export type Source =
  | { via: "archive"; image: FoundImage }
  | { via: "build" }
  | { via: "assemble"; recipe: ImageRecipe }
  | { via: "left" }
  | { via: "missing"; hint: string };

/** The source of one reference. */
export function sourceOf(
  ref: string,
  target: ImageTarget["kind"],
  archives: readonly FoundImage[],
  options: { assemble?: boolean } = {},
): Source {
  const full = fullReference(ref);
  if (target === "none") return { via: "left" };
  const image = archives.find((found) => found.ref === full);
  if (image) return { via: "archive", image };
  if (full === SERVICES_IMAGE) return { via: "build" };
  const recipe = recipeFor(full);
  // Images with the project's name are in no registry.
  const own = full.startsWith(OWN_PREFIX);
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
  const opened = await openTarget(target, options.tool);
  const plans: ImagePlan[] = [];
  for (const ref of unique(refs)) {
    const source = sourceOf(ref, target.kind, archives, options);
    const key = await keyOf(source);
    const held = source.via === "missing" ? opened.holds?.(fullReference(ref)) : undefined;
    const present = key === undefined ? await held : await opened.has(fullReference(ref), key);
    const plan = present ? "present, nothing to do" : await planned(source, opened);
    const expected = present ?? (key === undefined ? {} : await opened.expect?.(fullReference(ref), key));
    plans.push({ ref, plan, missing: !present && source.via === "missing", ...expected });
  }
  return plans;
}

async function planned(source: Source, target: Target): Promise<string> {
  switch (source.via) {
    case "archive":
      return `from ${source.image.path} to ${target.title}`;
    case "build":
      return `${(await builtServices()) ? "built already" : "build from services/Dockerfile"}, to ${target.title}`;
    case "assemble":
      return `${(await source.recipe.built()) ? "assembled already" : "assemble from packages"}, to ${target.title}`;
    case "left":
      return "left to the cluster's nodes to pull";
    case "missing":
      return `missing: ${source.hint}`;
  }
}

const unique = (refs: readonly string[]): string[] => [...new Set(refs)];

async function keyOf(source: Source): Promise<string | undefined> {
  if (source.via === "archive") return source.image.id;
  if (source.via === "build") return await servicesKey();
  if (source.via === "assemble") return source.recipe.key();
  return undefined;
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
  const wanted = new Set([...refs.map(fullReference), BUN_IMAGE]);
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
  const key = (await keyOf(source))!;
  const present = await opened.has(full, key);
  if (present) return { ref, action: "present", ...present };

  let archive: Archive;
  let made: ImageAction;
  if (source.via === "archive") {
    archive = source.image;
    made = "imported";
  } else if (source.via === "build") {
    made = (await builtServices()) ? "present" : "built";
    archive = await ensureServices(report, { ...options, archives });
  } else {
    try {
      made = (await source.recipe.built()) ? "present" : "assembled";
      archive = await source.recipe.assemble(report, options.signal);
    } catch (error) {
      if (options.signal?.aborted || isAbort(error) || !(error instanceof OperatorError)) throw error;
      const reason = causeChain(error).join("; ");
      const hint = `could not be assembled: ${reason}${error.hint ? ` (${error.hint})` : ""}; or give an archive with --images DIR`;
      return { ref, action: "missing", hint };
    }
  }
  const named = source.via === "archive" ? source.image.named : true;
  // A failed layer changes the key, so it is computed again.
  const deliverable = { ref: full, path: archive.path, id: archive.id, named, key: (await keyOf(source))! };
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
 * The missing programs that `ensureImages` would need on this machine. Images in the cache need none.
 */
export async function missingImageTools(
  target: ImageTarget["kind"],
  refs: readonly string[],
  options: Pick<ImageOptions, "imagesDir" | "assemble"> = {},
): Promise<Tool[]> {
  const archives = options.imagesDir ? (await scanArchives(options.imagesDir)).images : [];
  const tools: Tool[] = [];
  const assembly = async (recipe: ImageRecipe | undefined) => {
    if (recipe && !(await recipe.built())) tools.push(...recipe.tools);
  };
  let builder = false;
  for (const ref of unique(refs)) {
    const source = sourceOf(ref, target, archives, options);
    if (source.via === "assemble") await assembly(source.recipe);
    if (source.via === "build" && !(await builtServices())) {
      builder = true;
      await assembly(recipeFor(BUN_IMAGE));
    }
  }
  const missing = await missingTools(tools);
  if (builder && !(await anyBuilderWorks())) missing.push(DEFAULT_BUILDER_TOOL);
  return missing;
}

/** Exit code for results: 3 when an image is missing. */
export const exitCodeFor = (results: readonly ImageResult[]) =>
  results.some(({ action }) => action === "missing") ? EXIT.precondition : EXIT.ok;
