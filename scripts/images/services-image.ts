/**
 * The services' image: bundled by services/bundle.ts, built from services/Dockerfile by docker, podman or buildah, kept
 * as an archive under the hash of its inputs, so that unchanged services are not built again.
 */
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { cacheFolder } from "../cli/paths.ts";
import { must, runLogged } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import { ensurePart, isBuilt, type Part, partDir, partKey } from "../local-cluster/index.ts";
import type { FoundImage } from "./archive-folder.ts";
import { type Builder, type BuilderName, chooseBuilder, savedImageId } from "./builders.ts";
import { type Archive, BUN_IMAGE, forgetOlder, readArchive, recipeFor, writeIdentity } from "./catalog.ts";

export const SERVICES_IMAGE = "conveyor.invalid/services:1.0.0";
/** Label of the image with the hash of its inputs. */
const INPUTS_LABEL = "dev.conveyor.inputs";
/** A bundle and an image of a few files take seconds. */
const BUILD_LIMIT_MS = 5 * 60_000;

const ROOT = join(import.meta.dir, "../..");

/** Input files of the image, relative to the project, sorted. */
export async function inputFiles(root: string = ROOT): Promise<string[]> {
  const services = join(root, "services");
  const entries = await readdir(services, { recursive: true, withFileTypes: true });
  const files = entries
    .filter(
      (entry) =>
        entry.isFile() && (/\.(ts|json)$/.test(entry.name) || /^(Dockerfile|\.dockerignore)$/.test(entry.name)),
    )
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.startsWith(join("services", "dist")) && !path.includes("node_modules"));
  const extra = ["package-lock.json"];
  for (const file of extra) if (await stat(join(root, file)).catch(() => undefined)) files.push(file);
  return files.sort();
}

/** Hash over names and contents of the inputs: the same on every machine for the same state of the code. */
export async function inputsHash(root: string = ROOT): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const path of await inputFiles(root)) {
    const content = await readFile(join(root, path));
    hash.update(`${path.replaceAll("\\", "/")} ${content.length}\n`).update(content);
  }
  return hash.digest("hex");
}

export interface ServicesOptions {
  tool?: BuilderName;
  /** Lets the tool pull the base image of the Dockerfile. */
  allowPull?: boolean;
  /** The user's archives, for the base image. */
  archives?: readonly FoundImage[];
  signal?: AbortSignal;
}

async function servicesPart(options: ServicesOptions): Promise<Part> {
  const inputs = await inputsHash();
  return {
    name: "image-services",
    version: SERVICES_IMAGE.slice(SERVICES_IMAGE.lastIndexOf(":") + 1),
    recipe: `${inputs} ${recipeFor(BUN_IMAGE)?.key()}`,
    requires: [],
    async build(out, context) {
      const run = { log: context.log, signal: context.signal, timeoutMs: BUILD_LIMIT_MS, cwd: ROOT };
      const builder = await chooseBuilder(options.tool);
      context.update("bundle");
      await runLogged([process.execPath, "services/bundle.ts"], run);
      // COPY keeps permissions, and pods run as another user: a strict umask must not apply.
      await must(["chmod", "-R", "u=rwX,go=rX", join(ROOT, "services", "dist")]);
      context.update(`build with ${builder.name}`);
      const archive = join(out, "image.tar");
      await builder.build(
        {
          ref: SERVICES_IMAGE,
          context: join(ROOT, "services"),
          dockerfile: join(ROOT, "services", "Dockerfile"),
          labels: { [INPUTS_LABEL]: inputs },
          pull: options.allowPull ?? false,
        },
        run,
      );
      context.update("save");
      await builder.save(SERVICES_IMAGE, archive, run);
      await writeIdentity(out, SERVICES_IMAGE, await savedImageId(archive));
    },
  };
}

/** Key that changes with the image's inputs. */
export const servicesKey = async (): Promise<string> => partKey(await servicesPart({}));

/** The archive of the current services, if it is in the cache. */
export async function builtServices(): Promise<Archive | undefined> {
  const part = await servicesPart({});
  return (await isBuilt(part)) ? await readArchive(partDir(part)) : undefined;
}

/** Loads the base image into the tool's store: from the user's archives, or assembled from packages. */
async function provideBase(builder: Builder, report: Report, options: ServicesOptions): Promise<void> {
  const given = options.archives?.find((image) => image.ref === BUN_IMAGE);
  const present = await builder.imageId(BUN_IMAGE);
  // docker's store is the user's: a base image in it is the one to use.
  if (present && builder.name === "docker") return;
  const archive = given ?? (await recipeFor(BUN_IMAGE)!.assemble(report, options.signal));
  if (present === archive.id) return;
  await report.step(`load ${BUN_IMAGE} into ${builder.name}`, async () => {
    const logs = join(cacheFolder(), "logs");
    await mkdir(logs, { recursive: true });
    await builder.load(archive.path, BUN_IMAGE, {
      log: join(logs, "image-base.log"),
      signal: options.signal,
      timeoutMs: BUILD_LIMIT_MS,
    });
  });
}

/**
 * The archive of the current services, built when it is missing.
 * @throws OperatorError: exit 3 when no tool works or the base image is missing; otherwise with the output of the build
 */
export async function ensureServices(report: Report, options: ServicesOptions = {}): Promise<Archive> {
  const part = await servicesPart(options);
  if (!(await isBuilt(part))) {
    const builder = await chooseBuilder(options.tool);
    if (!options.allowPull) await provideBase(builder, report, options);
  }
  const folder = await ensurePart(part, report, options.signal);
  await forgetOlder("image-services", folder);
  return await readArchive(folder);
}
