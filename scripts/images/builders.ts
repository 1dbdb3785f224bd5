/**
 * docker, podman and buildah behind one interface: build a Dockerfile, load and save archives, push images and lists of
 * images for several platforms. Only a tool that works counts, not a docker client without an engine. On Linux podman and
 * buildah use a separate store in the cache folder, so that the user's images are not changed; docker has only the store of
 * its engine, and elsewhere podman only that of its virtual machine.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { cacheFolder } from "../cli/paths.ts";
import { capture, must, type RunOptions, runLogged } from "../cli/process.ts";
import { findTool, installLine, type MissingTool, type Tool, toolPath } from "../cli/tools.ts";

export const BUILDERS = ["docker", "podman", "buildah"] as const;
export type BuilderName = (typeof BUILDERS)[number];

/** The one to install where none works: the smallest, without an engine or a registry. */
const DEFAULT_BUILDER_TOOL: Tool = {
  command: "buildah",
  why: "builds and pushes the project's images (docker and podman do it too)",
  // buildah 1.39 builds nothing without netavark, which Debian's package only recommends.
  aptPackage: "buildah netavark",
  dnfPackage: "buildah",
  // buildah runs on Linux only.
  brewPackage: "podman",
};

/** An engine that does not answer within this time does not work. */
const PROBE_LIMIT_MS = 10_000;

export interface BuildRequest {
  ref: string;
  context: string;
  dockerfile: string;
  labels: Readonly<Record<string, string>>;
  /** Lets the tool pull the Dockerfile's base image where it is not in the store. */
  pull: boolean;
  base: string;
  /** "linux/arm64"; the tool's own when undefined. */
  platform: string | undefined;
  buildArguments: Readonly<Record<string, string>>;
}

export type Run = RunOptions & { log: string };

export interface Builder {
  name: BuilderName;
  /** Image ID in the tool's store. */
  imageId(ref: string): Promise<string | undefined>;
  build(request: BuildRequest, run: Run): Promise<void>;
  /** Loads an archive's image into the store under its reference. */
  load(archive: string, ref: string, run: Run): Promise<void>;
  /** Writes a docker-archive. */
  save(ref: string, archive: string, run: Run): Promise<void>;
  /** @returns the manifest's digest, where the tool reports it */
  push(ref: string, target: string, run: Run): Promise<string | undefined>;
  /** Pushes a list of images for several platforms that are in the same repository. @returns the list's digest */
  pushList(images: readonly string[], target: string, run: Run): Promise<string | undefined>;
}

/** The host part of "HOST[:PORT]/PATH". */
export const registryHost = (target: string): string => target.slice(0, target.indexOf("/"));

/** True for a registry of this machine, the only one that is used without TLS. */
export const isLoopback = (host: string): boolean => /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/.test(host);

/** The flags that all tools share. */
const buildFlags = ({ ref, dockerfile, labels, platform, buildArguments }: BuildRequest): string[] => [
  ...["--tag", ref, "--file", dockerfile],
  ...Object.entries(labels).flatMap(([name, value]) => ["--label", `${name}=${value}`]),
  ...Object.entries(buildArguments).flatMap(([name, value]) => ["--build-arg", `${name}=${value}`]),
  ...(platform ? ["--platform", platform] : []),
];

const idOf = (text: string): string | undefined => {
  const id = text.trim();
  return id === "" ? undefined : id.startsWith("sha256:") ? id : `sha256:${id}`;
};

function dockerBuilder(): Builder {
  return {
    name: "docker",
    async imageId(ref) {
      const { stdout, exitCode } = await capture(["docker", "image", "inspect", "--format", "{{.Id}}", ref]);
      return exitCode === 0 ? idOf(stdout) : undefined;
    },
    async build(request, run) {
      // docker fetches a missing base image in any case; the caller has loaded it, or allows that. Without attestations
      // the result is one image, which a list can contain, and not a list itself.
      const env = { BUILDX_NO_DEFAULT_ATTESTATIONS: "1" };
      await runLogged(["docker", "build", ...buildFlags(request), request.context], { ...run, env });
    },
    async load(archive, _ref, run) {
      await runLogged(["docker", "load", "--input", archive], run);
    },
    async save(ref, archive, run) {
      await runLogged(["docker", "save", "--output", archive, ref], run);
    },
    async push(ref, target, run) {
      await runLogged(["docker", "tag", ref, target], run);
      await runLogged(["docker", "push", target], run);
      const { stdout } = await capture(["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", target]);
      const digests = JSON.parse(stdout || "[]") as string[];
      const repository = target.slice(0, target.lastIndexOf(":"));
      return digests.find((digest) => digest.startsWith(`${repository}@`))?.split("@")[1];
    },
    async pushList(images, target, run) {
      const plain = isLoopback(registryHost(target)) ? ["--insecure"] : [];
      // A list of an interrupted run under that name would be extended.
      await capture(["docker", "manifest", "rm", target]);
      await runLogged(["docker", "manifest", "create", ...plain, target, ...images], run);
      const pushed = await must(["docker", "manifest", "push", "--purge", ...plain, target], run);
      return /sha256:[0-9a-f]{64}/.exec(pushed)?.[0];
    },
  };
}

const storeFolder = () => join(cacheFolder(), "containers");

/**
 * Folder of the private store's run-time state: one per store, removed by a reboot. Podman accepts at most 50 characters.
 */
function runFolder(): string {
  const place = process.env.XDG_RUNTIME_DIR || (process.getuid?.() === 0 ? "/run" : tmpdir());
  const key = new Bun.CryptoHasher("sha256").update(storeFolder()).digest("hex").slice(0, 8);
  return join(place, `conveyor-${key}`);
}

/** As root these tools do not remove a mount of their store; in a separate mount namespace it ends with the tool. */
const ownMounts = (): string[] => (process.getuid?.() === 0 && findTool("unshare") ? ["unshare", "--mount"] : []);

function storeBuilder(name: "podman" | "buildah"): Builder {
  // On other systems podman is a client of a virtual machine, which has one store.
  const store = process.platform === "linux" ? ["--root", storeFolder(), "--runroot", runFolder()] : [];
  const tool = (...args: string[]) => [...ownMounts(), name, ...store, ...args];
  return {
    name,
    async imageId(ref) {
      // Both print {{.Id}} for `images`; `inspect` differs between them.
      const { stdout, exitCode } = await capture(tool("images", "--no-trunc", "--format", "{{.ID}}", ref));
      return exitCode === 0 ? idOf(stdout.split("\n")[0] ?? "") : undefined;
    },
    async build(request, run) {
      // Without the flag both pull what is missing.
      const pulling = request.pull ? [] : [name === "podman" ? "--pull=never" : "--pull-never"];
      const plain = request.pull && isLoopback(registryHost(request.base)) ? ["--tls-verify=false"] : [];
      // chroot: needs no runtime, cgroup or namespace, so it works in a restricted shell too. Timestamp: the same inputs
      // result in the same image.
      const how = ["--isolation", "chroot", "--timestamp", "0", ...pulling, ...plain];
      await runLogged(tool("build", ...how, ...buildFlags(request), request.context), run);
    },
    async load(archive, ref, run) {
      if (name === "podman") {
        await runLogged(tool("load", "--input", archive), run);
        return;
      }
      await runLogged(tool("pull", `docker-archive:${archive}`), run);
      if (!(await this.imageId(ref))) throw new OperatorError(`${archive} has no image named ${ref}`);
    },
    async save(ref, archive, run) {
      // A client of a virtual machine pushes to registries only.
      if (name === "podman") await runLogged(tool("save", "--format", "docker-archive", "--output", archive, ref), run);
      else await runLogged(tool("push", ref, `docker-archive:${archive}:${ref}`), run);
    },
    async push(ref, target, run) {
      const digestFile = `${run.log}.digest`;
      const plain = isLoopback(registryHost(target)) ? ["--tls-verify=false"] : [];
      await runLogged(tool("push", ...plain, "--digestfile", digestFile, ref, `docker://${target}`), run);
      return (await Bun.file(digestFile).text()).trim() || undefined;
    },
    async pushList(images, target, run) {
      const list = `localhost/conveyor-list:${process.pid}`;
      const digestFile = `${run.log}.digest`;
      const plain = isLoopback(registryHost(target)) ? ["--tls-verify=false"] : [];
      await runLogged(tool("manifest", "create", list), run);
      try {
        for (const image of images) await runLogged(tool("manifest", "add", ...plain, list, `docker://${image}`), run);
        await runLogged(
          tool("manifest", "push", ...plain, "--digestfile", digestFile, list, `docker://${target}`),
          run,
        );
      } finally {
        await capture(tool("manifest", "rm", list));
      }
      return (await Bun.file(digestFile).text()).trim() || undefined;
    },
  };
}

const builder = (name: BuilderName): Builder => (name === "docker" ? dockerBuilder() : storeBuilder(name));

const PROBES: Record<BuilderName, readonly string[]> = {
  docker: ["docker", "info", "--format", "{{.ServerVersion}}"],
  podman: ["podman", "info", "--format", "{{.Host.OS}}"],
  buildah: ["buildah", "info"],
};

/** The reason why a tool does not work; undefined when it works. */
async function whyNot(name: BuilderName): Promise<string | undefined> {
  if (!findTool(name)) return "is not installed";
  try {
    const { stdout, stderr, exitCode } = await capture(PROBES[name], {
      timeoutMs: PROBE_LIMIT_MS,
      env: { PATH: toolPath() },
    });
    // docker info without an engine may end with 0 and an empty version.
    if (exitCode === 0 && stdout.trim() !== "") return undefined;
    const reason = stderr.trim().split("\n").at(-1);
    return `is installed but does not work: ${reason || `exit ${exitCode}`}`;
  } catch (error) {
    return `is installed but does not work: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** True when the engine of a kind cluster's nodes works; kind's own list has docker and podman. */
export const engineWorks = async (engine: string): Promise<boolean> =>
  (engine === "docker" || engine === "podman") && (await whyNot(engine)) === undefined;

/**
 * The tool to build with: the requested one, or the first that works.
 * @throws OperatorError (exit 3) with the reason for each tool
 */
export async function chooseBuilder(wanted?: BuilderName): Promise<Builder> {
  const reasons: string[] = [];
  for (const name of wanted ? [wanted] : BUILDERS) {
    const reason = await whyNot(name);
    if (!reason) return builder(name);
    reasons.push(`${name} ${reason}`);
  }
  const other =
    wanted && wanted !== DEFAULT_BUILDER_TOOL.command ? "; or leave --tool out: any that works will do" : "";
  throw new OperatorError(
    `no tool to build the project's images with:\n${reasons.map((reason) => `  - ${reason}`).join("\n")}`,
    {
      exitCode: EXIT.precondition,
      hint: `${installLine([DEFAULT_BUILDER_TOOL]) ?? "install docker, podman or buildah"}${other}`,
    },
  );
}

/** The entry for the list of missing tools when no tool works; names those that are installed and do not work. */
export async function missingBuilder(): Promise<MissingTool | undefined> {
  const broken: string[] = [];
  for (const name of BUILDERS) {
    const reason = await whyNot(name);
    if (!reason) return undefined;
    if (findTool(name)) broken.push(`${name} ${reason}`);
  }
  return {
    ...DEFAULT_BUILDER_TOOL,
    ...(broken.length > 0 ? { problem: `is not installed, and ${broken.join("; ")}` } : {}),
  };
}

/** Digest of the configuration of the only image in a docker-archive that a tool saved. */
export async function savedImageId(archive: string): Promise<string> {
  const manifest = JSON.parse(await must(["tar", "--extract", "--to-stdout", "--file", archive, "manifest.json"])) as {
    Config: string;
  }[];
  return `sha256:${manifest[0]!.Config.replace(/^blobs\/sha256\//, "").replace(/\.json$/, "")}`;
}
