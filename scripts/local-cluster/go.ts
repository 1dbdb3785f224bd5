/** Builds programs from Go modules, with lock files of this folder and flags chosen for a short cold build. */
import { readFileSync } from "node:fs";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { capture, must, type RunOptions, runLogged } from "../cli/process.ts";
import { type Tool, toolPath } from "../cli/tools.ts";
import type { BuildContext } from "./cache.ts";

/** Memory of one compiler or linker before it collects garbage more often; two run at a time. */
const GO_MEMORY_LIMIT = "2GiB";
/** A cold build of the largest part takes six minutes on two cores; the limit is for a machine five times slower. */
const GO_LIMIT_MS = 30 * 60_000;

/** Oldest toolchain that the lock files are for; an older `go` fetches it unless GOTOOLCHAIN=local forbids it. */
const GO_VERSION = "1.26.5";
/** The first `go` that can fetch another toolchain. */
const GO_VERSION_THAT_FETCHES = "1.21.0";

export const GO_TOOL: Tool = {
  command: "go",
  why: "compiles Kubernetes, InfluxDB, KEDA and VictoriaLogs from their Go modules",
  source: `Go ${GO_VERSION} or newer, from the Go project`,
  minVersion: process.env.GOTOOLCHAIN?.startsWith("local") ? GO_VERSION : GO_VERSION_THAT_FETCHES,
  versionCommand: ["go", "version"],
};

export interface GoBuild {
  /** Folder with go.mod and go.sum. */
  module: string;
  packages: readonly string[];
  /** File, or folder ending in "/" when there are several packages. */
  out: string;
  cgo: boolean;
  tags?: readonly string[];
  /** Values for string variables of packages, set when linking. */
  variables?: Record<string, string>;
  /** Additional linker flags. */
  link?: readonly string[];
  /**
   * Packages (patterns of `go build`) that are compiled without inlining, in a third of the time. For a program that is
   * mostly idle. Its behaviour is the same, so this is not part of the recipe.
   */
  withoutInlining?: readonly string[];
  env?: Record<string, string>;
}

const COMPILER_FLAGS = "-dwarf=false";

/** The arguments of `go build`: part of the recipe, since other flags create another program. */
function goBuildArguments(build: GoBuild): string[] {
  const set = Object.entries(build.variables ?? {}).flatMap(([name, value]) => ["-X", `${name}=${value}`]);
  return [
    "-trimpath",
    "-buildvcs=false",
    "-mod=readonly",
    // A main package with its own profile would require every package to be compiled again for it.
    "-pgo=off",
    // No debug information: it takes a tenth of the time.
    `-gcflags=all=${COMPILER_FLAGS}`,
    // A later pattern wins over an earlier one.
    ...(build.withoutInlining ?? []).map((pattern) => `-gcflags=${pattern}=${COMPILER_FLAGS} -l`),
    ...(build.tags ? ["-tags", build.tags.join(",")] : []),
    "-ldflags",
    ["-s", "-w", ...set, ...(build.link ?? [])].join(" "),
    "-o",
    build.out,
    ...build.packages,
  ];
}

/** What a Go build depends on, for a part's recipe. */
export function goRecipe(
  build: Omit<GoBuild, "out" | "env" | "withoutInlining">,
  sources: readonly string[] = [],
): string {
  const files = ["go.mod", "go.sum", ...sources].map((name) => readFileSync(join(build.module, name), "utf8"));
  return JSON.stringify([goBuildArguments({ ...build, out: "out" }).filter((flag) => flag !== build.module), files]);
}

const goEnvironment = (cgo: boolean): Record<string, string> => ({
  PATH: toolPath(),
  CGO_ENABLED: cgo ? "1" : "0",
  // The compiler runs for a short time: collecting garbage half as often saves a few percent.
  GOGC: "200",
  GOMEMLIMIT: GO_MEMORY_LIMIT,
  // A workspace or flags of the user must not change the build.
  GOWORK: "off",
  GOFLAGS: "",
});

/** All packages of a build; fetches their missing modules. */
async function packagesOf(
  build: Pick<GoBuild, "module" | "packages" | "tags">,
  options: RunOptions,
): Promise<ReadonlySet<string>> {
  const tags = build.tags ? ["-tags", build.tags.join(",")] : [];
  const { stdout } = await capture(["go", "list", "-mod=readonly", "-deps", ...tags, ...build.packages], options);
  return new Set(stdout.trim().split("\n"));
}

/**
 * Fetches the modules of a later build while the machine compiles something else. A failure is ignored: the build fetches
 * them again and logs it.
 */
export async function fetchAhead(build: Omit<GoBuild, "out">, signal?: AbortSignal): Promise<void> {
  const run = { cwd: build.module, env: goEnvironment(build.cgo), timeoutMs: GO_LIMIT_MS };
  await packagesOf(build, { ...run, signal }).catch(() => {});
}

/** Runs `go build` with progress by packages compiled. After an interrupt it continues from Go's caches. */
export async function goBuild(build: GoBuild, context: BuildContext): Promise<void> {
  const env = { ...goEnvironment(build.cgo), ...build.env };
  const run = { cwd: build.module, env, log: context.log, signal: context.signal, timeoutMs: GO_LIMIT_MS };
  context.update("fetching modules");
  const total = (await packagesOf(build, run)).size;
  let compiled = 0;
  await runLogged(["go", "build", "-v", ...goBuildArguments(build)], {
    ...run,
    onLine: (line) => {
      // With -v the compiler's driver prints one import path per package that it had to compile.
      if (/^[\w./~-]+$/.test(line)) compiled++;
      if (!line.startsWith("go: downloading")) context.update(`${compiled} of at most ${total} packages compiled`);
    },
  });
}

/** The folder of a module's source in Go's cache, downloaded when missing. */
export async function goModuleFolder(module: string, path: string, context: BuildContext): Promise<string> {
  const env = goEnvironment(false);
  await runLogged(["go", "mod", "download", path], { cwd: module, env, log: context.log, signal: context.signal });
  return (await must(["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", path], { cwd: module, env })).trim();
}

/** A writable copy of a folder of Go's read-only module cache. */
export async function writableCopy(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  await cp(from, to, { recursive: true, force: true });
  await must(["chmod", "-R", "u+w", to]);
}
