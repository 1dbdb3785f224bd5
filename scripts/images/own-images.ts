/**
 * The images of this project, built from their Dockerfiles by docker, podman or buildah, and kept as archives under the hash
 * of their inputs, so that an unchanged image is not built again.
 */
import { chmod, mkdir, readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { cacheFolder } from "../cli/paths.ts";
import { must, runLogged, sha256OfFile } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import type { Tool } from "../cli/tools.ts";
import { type BuildContext, ensurePart, isBuilt, type Part, partDir, partKey } from "../local-cluster/index.ts";
import type { FoundImage } from "./archive-folder.ts";
import { type Builder, type BuilderName, chooseBuilder, savedImageId } from "./builders.ts";
import {
  type Archive,
  BUN_IMAGE,
  forgetOlder,
  METRICS_AGENT_IMAGE,
  readArchive,
  recipeFor,
  writeIdentity,
} from "./catalog.ts";
import { AGENT_PATH, AGENT_SHA256, copyAgent, MAVEN } from "./monitoring.ts";

export const SERVICES_IMAGE = "conveyor.invalid/services:1.0.0";
/** The base image of the metrics agent's Dockerfile. */
const AGENT_BASE = "docker.io/library/buildpack-deps:trixie-curl";
/** Label of an image with the hash of its inputs. */
const INPUTS_LABEL = "dev.conveyor.inputs";
/** A bundle and an image of a few files take seconds; pulling a base image over a slow line some minutes. */
const BUILD_LIMIT_MS = 10 * 60_000;
/** The agent's jar has less than a megabyte. */
const JAR_LIMIT_MS = 2 * 60_000;

/** Variable with the address of a Maven repository, for machines without Maven: this project names no registry's address. */
const MAVEN_REPOSITORY = "CONVEYOR_MAVEN_REPOSITORY";
const mavenRepository = () => process.env[MAVEN_REPOSITORY]?.replace(/\/+$/, "");
const JAR_TOOL: Tool = {
  ...MAVEN,
  why: `${MAVEN.why}; or set ${MAVEN_REPOSITORY} to the address of a Maven repository`,
};

const ROOT = join(import.meta.dir, "../..");

/** An image of this project with a Dockerfile. */
export interface OwnImage {
  ref: string;
  /** Path below the project. */
  dockerfile: string;
  /** Base image of the Dockerfile. */
  base: string;
  /** Hash of everything that the image is made of, without its base. */
  inputs(): Promise<string>;
  /** Creates the files that the Dockerfile copies. @returns the folder that the tool builds in */
  prepare(context: BuildContext): Promise<string>;
  /** Programs that this needs, besides the one that builds. */
  tools?(): readonly Tool[];
}

export interface OwnImageOptions {
  tool?: BuilderName;
  /** Lets the tool pull the base image where it is in no archive and not in the tool's store. Otherwise it is assembled. */
  pull?: boolean;
  /** Registry, with path, that has the base images in place of Docker Hub. */
  baseRegistry?: string;
  /** "linux/arm64"; the platform of this machine when absent. */
  platform?: string;
  /** The user's archives, for the base image. */
  archives?: readonly FoundImage[];
  signal?: AbortSignal;
}

/** Input files of the services' image, relative to the project, sorted. */
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

/** Hash over names and contents of the services' inputs: the same on every machine for the same state of the code. */
export async function inputsHash(root: string = ROOT): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const path of await inputFiles(root)) {
    const content = await readFile(join(root, path));
    hash.update(`${path.replaceAll("\\", "/")} ${content.length}\n`).update(content);
  }
  return hash.digest("hex");
}

const services: OwnImage = {
  ref: SERVICES_IMAGE,
  dockerfile: "services/Dockerfile",
  base: BUN_IMAGE,
  inputs: () => inputsHash(),
  async prepare(context) {
    context.update("bundle");
    await runLogged([process.execPath, "services/bundle.ts"], { ...context, cwd: ROOT });
    // COPY keeps permissions, and pods run as another user: a strict umask must not apply.
    await must(["chmod", "-R", "u=rwX,go=rX", join(ROOT, "services", "dist")]);
    return join(ROOT, "services");
  },
};

const metricsAgent: OwnImage = {
  ref: METRICS_AGENT_IMAGE,
  dockerfile: "scripts/images/kafka-metrics-agent/Dockerfile",
  base: AGENT_BASE,
  async inputs() {
    const dockerfile = await readFile(join(ROOT, this.dockerfile));
    return new Bun.CryptoHasher("sha256").update(dockerfile).update(AGENT_SHA256).digest("hex");
  },
  async prepare(context) {
    context.update("fetch the agent");
    const jar = join(context.work, "jmx_prometheus_javaagent.jar");
    const repository = mavenRepository();
    if (repository) {
      await fetchChecked(`${repository}/${AGENT_PATH}`, AGENT_SHA256, jar, context.signal);
    } else {
      await copyAgent(context.work, context);
      await requireSha256(jar, AGENT_SHA256, MAVEN.command);
    }
    return context.work;
  },
  tools: () => (mavenRepository() ? [] : [JAR_TOOL]),
};

export const OWN_IMAGES: readonly OwnImage[] = [services, metricsAgent];

/** Downloads a file that everyone may read. @throws OperatorError when it cannot be had, or has another SHA-256 */
export async function fetchChecked(url: string, sha256: string, path: string, signal: AbortSignal): Promise<void> {
  try {
    const response = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(JAR_LIMIT_MS)]) });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    await Bun.write(path, response);
  } catch (error) {
    signal.throwIfAborted();
    throw new OperatorError(`${url} could not be downloaded`, {
      cause: error,
      hint: "HTTPS_PROXY names a proxy; or build the image where the address can be reached: bun scripts/build-images.ts --export DIR, then here: --images DIR",
    });
  }
  await requireSha256(path, sha256, url);
}

/** Checks a file, which everyone may then read. @throws OperatorError with its source and both sums */
async function requireSha256(path: string, sha256: string, source: string): Promise<void> {
  const found = await sha256OfFile(path);
  if (found !== sha256) throw new OperatorError(`${source}: its SHA-256 must be ${sha256}; got ${found}`);
  await chmod(path, 0o644);
}

/** The base image, from the named registry. */
const baseOf = ({ base }: OwnImage, { baseRegistry }: OwnImageOptions): string =>
  baseRegistry === undefined ? base : base.replace(/^[^/]+/, baseRegistry);

async function partOf(image: OwnImage, options: OwnImageOptions): Promise<Part> {
  const inputs = await image.inputs();
  const { platform } = options;
  const base = baseOf(image, options);
  const name = image.ref.replace(/^.*\//, "").replace(/:.*$/, "");
  return {
    // Builds for several platforms are kept side by side.
    name: `image-${name}${platform ? `-${platform.replace(/^linux\//, "").replaceAll("/", "-")}` : ""}`,
    version: image.ref.slice(image.ref.lastIndexOf(":") + 1),
    recipe: `${inputs} ${options.pull ? `${base} ${platform}` : recipeFor(image.base)?.key()}`,
    requires: [],
    async build(out, context) {
      const builder = await chooseBuilder(options.tool);
      const run = { log: context.log, signal: context.signal, timeoutMs: BUILD_LIMIT_MS };
      const folder = await image.prepare(context);
      context.update(`build with ${builder.name}`);
      const archive = join(out, "image.tar");
      await builder
        .build(
          {
            ref: image.ref,
            context: folder,
            dockerfile: join(ROOT, image.dockerfile),
            labels: { [INPUTS_LABEL]: inputs },
            pull: options.pull ?? false,
            platform,
            base,
            buildArguments: options.baseRegistry ? { BASE_REGISTRY: options.baseRegistry } : {},
          },
          run,
        )
        .catch((error: unknown) => {
          if (context.signal.aborted || !options.pull) throw error;
          throw new OperatorError(`${image.dockerfile} could not be built with ${builder.name}`, {
            cause: error,
            hint: `it needs ${base}; where Docker Hub cannot be reached: --base-registry HOST/PATH names a mirror, --images DIR has archives`,
          });
        });
      context.update("save");
      await builder.save(image.ref, archive, run);
      await writeIdentity(out, image.ref, await savedImageId(archive));
    },
  };
}

/** Key that changes with the image's inputs. */
export const ownKey = async (image: OwnImage, options: OwnImageOptions): Promise<string> =>
  partKey(await partOf(image, options));

/** The archive of the current inputs, if it is in the cache. */
export async function builtOwn(image: OwnImage, options: OwnImageOptions): Promise<Archive | undefined> {
  const part = await partOf(image, options);
  return (await isBuilt(part)) ? await readArchive(partDir(part)) : undefined;
}

/**
 * Loads the base image into the tool's store: from the user's archives, or assembled from packages. Without either the tool
 * pulls it.
 */
async function provideBase(image: OwnImage, builder: Builder, report: Report, options: OwnImageOptions): Promise<void> {
  const base = baseOf(image, options);
  const given = options.archives?.find(({ ref }) => ref === base);
  if (options.pull && !given) return;
  const present = await builder.imageId(base);
  // docker's store is the user's: a base image in it is the one to use.
  if (present && builder.name === "docker") return;
  const recipe = recipeFor(base);
  if (!given && !recipe) {
    throw new OperatorError(`no package has ${base}, the base image of ${image.dockerfile}`, {
      exitCode: EXIT.precondition,
      hint: "--allow-pull lets the tool pull it; or give an archive with --images DIR",
    });
  }
  const archive = given ?? (await recipe!.assemble(report, options.signal));
  if (present === archive.id) return;
  await report.step(`load ${base} into ${builder.name}`, async () => {
    const logs = join(cacheFolder(), "logs");
    await mkdir(logs, { recursive: true });
    await builder.load(archive.path, base, {
      log: join(logs, "image-base.log"),
      signal: options.signal,
      timeoutMs: BUILD_LIMIT_MS,
    });
  });
}

/**
 * The archive of the current inputs, built when it is missing.
 * @throws OperatorError: exit 3 when no tool works or the base image is missing; otherwise with the output of the build
 */
export async function ensureOwn(image: OwnImage, report: Report, options: OwnImageOptions = {}): Promise<Archive> {
  const part = await partOf(image, options);
  if (!(await isBuilt(part))) await provideBase(image, await chooseBuilder(options.tool), report, options);
  const folder = await ensurePart(part, report, options.signal);
  await forgetOlder(part.name, folder);
  return await readArchive(folder);
}
