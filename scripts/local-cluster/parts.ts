/**
 * Everything that is built or fetched once per machine, with version and recipe.
 *
 * Kubernetes and the programs of the cluster share one Go module, so that their common packages are compiled once, and one
 * `go build`, so that one program links while the next compiles.
 */
import { readFileSync } from "node:fs";
import { chmod, copyFile, cp, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { capture, must, runLogged } from "../cli/process.ts";
import { toolPath } from "../cli/tools.ts";
import type { BuildContext, Part } from "./cache.ts";
import { DEBIAN_TOOLS, unpackDebian } from "./debian.ts";
import { fetchAhead, GO_TOOL, type GoBuild, goBuild, goModuleFolder, goRecipe, writableCopy } from "./go.ts";

export const VERSIONS = {
  kubernetes: "1.36.3",
  coredns: "1.13.1",
  metricsServer: "0.8.0",
  kubeRouter: "2.1.0",
  influxdb: "2.9.1",
  keda: "2.20.2",
} as const;

/** Names of the single Kubernetes binary: each starts another program. */
const KUBE_PROGRAMS = [
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kube-proxy",
  "kubelet",
  "kubectl",
] as const;

/** A program that cannot run (wrong libc, truncated download) fails the build, not a later use. */
const SMOKE_LIMIT_MS = 20_000;

async function mustRun(command: readonly string[]): Promise<void> {
  const { exitCode, stdout, stderr } = await capture(command, { timeoutMs: SMOKE_LIMIT_MS });
  if (exitCode !== 0) {
    throw new OperatorError(
      `${command.join(" ")} does not run on this machine: ${(stderr || stdout).trim().slice(0, 500)}`,
    );
  }
}

const clusterModule = join(import.meta.dir, "go");
const OWN_PROGRAMS = [
  "kube",
  "coredns",
  "metrics-server",
  "network-policies",
  "provisioner",
  "logkeeper",
  "netprobe",
  "pause",
];

const [major, minor] = VERSIONS.kubernetes.split(".");
const kubernetesBuild = {
  module: clusterModule,
  packages: OWN_PROGRAMS.map((name) => `./${name}`),
  cgo: false,
  variables: Object.fromEntries(
    ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap((path) => [
      [`${path}.gitVersion`, `v${VERSIONS.kubernetes}`],
      [`${path}.gitMajor`, major!],
      [`${path}.gitMinor`, minor!],
      [`${path}.gitCommit`, "module"],
      [`${path}.gitTreeState`, "clean"],
    ]),
  ),
} satisfies Omit<GoBuild, "out">;

const kubernetes: Part = {
  name: "kubernetes",
  version: VERSIONS.kubernetes,
  recipe: goRecipe(
    kubernetesBuild,
    OWN_PROGRAMS.map((name) => `${name}/main.go`),
  ),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...kubernetesBuild, out: `${out}/` }, context);
    for (const name of KUBE_PROGRAMS) await symlink("kube", join(out, name));
    await mustRun([join(out, "kubelet"), "--version"]);
  },
};

const DEBIAN_PACKAGES = ["etcd-server", "containerd", "containernetworking-plugins"];
/** Of the unpacked packages: kept as out/NAME. */
const DEBIAN_PROGRAMS = ["etcd", "containerd", "containerd-shim-runc-v2", "ctr"];
const CNI_PLUGINS = ["ptp", "host-local", "loopback", "portmap"];

const nodeRuntime: Part = {
  name: "node-runtime",
  // sid has one version at a time; versions.json records it.
  version: "sid",
  recipe: JSON.stringify([DEBIAN_PACKAGES, DEBIAN_PROGRAMS, CNI_PLUGINS]),
  requires: DEBIAN_TOOLS,
  async build(out, context) {
    const unpacked = join(context.work, "unpacked");
    await rm(unpacked, { recursive: true, force: true });
    await mkdir(unpacked, { recursive: true });
    const versions = await unpackDebian("sid", DEBIAN_PACKAGES, unpacked, context);
    await mkdir(join(out, "cni"));
    for (const name of DEBIAN_PROGRAMS) await copyFile(join(unpacked, "usr/bin", name), join(out, name));
    for (const name of CNI_PLUGINS) await copyFile(join(unpacked, "usr/lib/cni", name), join(out, "cni", name));
    await writeFile(join(out, "versions.json"), `${JSON.stringify(versions, null, 2)}\n`);
    for (const name of ["etcd", "containerd", "ctr"]) await mustRun([join(out, name), "--version"]);
    context.update(
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version.split("-")[0]}`)
        .join(", "),
    );
  },
};

const influxdModule = join(import.meta.dir, "influxd");
const influxdBuild = {
  module: influxdModule,
  packages: ["github.com/influxdata/influxdb/v2/cmd/influxd"],
  cgo: true,
  tags: ["sqlite_foreign_keys", "sqlite_json", "sqlite_omit_load_extension", "netgo", "osusergo", "static_build"],
  variables: { "main.version": `v${VERSIONS.influxdb}`, "main.commit": "module" },
  // A static program needs no other file in its image.
  link: ["-linkmode=external", "-extldflags=-static"],
} satisfies Omit<GoBuild, "out">;

/**
 * Settings of the Rust build. Its defaults (fat LTO, smallest size) take three times as long for a library that only parses
 * queries. With one profile for build script and library, its largest crate is compiled once instead of twice.
 */
const CARGO_SETTINGS: Record<string, string> = {
  CARGO_INCREMENTAL: "0",
  CARGO_PROFILE_RELEASE_LTO: "off",
  CARGO_PROFILE_RELEASE_OPT_LEVEL: "1",
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: "16",
  CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_OPT_LEVEL: "1",
  CARGO_PROFILE_RELEASE_BUILD_OVERRIDE_CODEGEN_UNITS: "16",
};
const CARGO_ARGUMENTS = ["rustc", "--locked", "--release", "--package", "flux", "--lib", "--crate-type", "staticlib"];
/** Twelve times its time on two cores. */
const CARGO_LIMIT_MS = 15 * 60_000;

/** InfluxDB's query language as a static library; Go finds it by the pkg-config that is written for it. */
async function buildFlux(context: BuildContext): Promise<{ pkgConfig: string }> {
  const source = await goModuleFolder(influxdModule, "github.com/influxdata/flux", context);
  const flux = join(context.work, "flux");
  for (const folder of ["libflux", "stdlib"]) await writableCopy(join(source, folder), join(flux, folder));
  // A file of flux names an old toolchain; the installed one builds it too.
  const active = await capture(["rustup", "show", "active-toolchain"], { cwd: "/" }).catch(() => undefined);
  const toolchain = active?.exitCode === 0 ? active.stdout.split(/\s/)[0] : undefined;
  let crates = 0;
  await runLogged(["cargo", ...CARGO_ARGUMENTS], {
    cwd: join(flux, "libflux"),
    env: { ...CARGO_SETTINGS, PATH: toolPath(), ...(toolchain ? { RUSTUP_TOOLCHAIN: toolchain } : {}) },
    log: context.log,
    signal: context.signal,
    timeoutMs: CARGO_LIMIT_MS,
    onLine: (line) => {
      if (line.trimStart().startsWith("Compiling")) context.update(`flux: ${++crates} crates`);
    },
  });
  const pkgConfig = join(context.work, "pkg-config");
  await writeFile(
    pkgConfig,
    `#!/bin/sh
case "$*" in
*--cflags*) echo '-I${join(flux, "libflux/include")}' ;;
*--libs*) echo '-L${join(flux, "libflux/target/release")} -lflux -ldl -lm' ;;
esac
`,
  );
  await chmod(pkgConfig, 0o755);
  return { pkgConfig };
}

const influxd: Part = {
  name: "influxd",
  version: VERSIONS.influxdb,
  recipe: JSON.stringify([goRecipe(influxdBuild), CARGO_SETTINGS, CARGO_ARGUMENTS]),
  requires: [
    GO_TOOL,
    {
      command: "cargo",
      why: "compiles InfluxDB's query language (Rust)",
      source: "Rust 1.83 or newer, from the Rust project",
      minVersion: "1.83.0",
      versionCommand: ["cargo", "--version"],
    },
    { command: "gcc", why: "compiles and links InfluxDB's C parts", aptPackage: "gcc" },
    { command: "ld", why: "links InfluxDB", aptPackage: "binutils" },
  ],
  async build(out, context) {
    const { pkgConfig } = await buildFlux(context);
    await goBuild(
      {
        ...influxdBuild,
        out: join(out, "influxd"),
        // SQLite stores only annotations and notebooks: it need not be fast, and -O2 takes a minute.
        env: { PKG_CONFIG: pkgConfig, CGO_CFLAGS: "-O1 -g0" },
      },
      context,
    );
    await mustRun([join(out, "influxd"), "version"]);
  },
};

const kedaModule = join(import.meta.dir, "keda");
const KEDA_PATH = "github.com/kedacore/keda/v2";
/** Command below cmd/ → its name in KEDA's images. */
const KEDA_PROGRAMS = { operator: "keda", adapter: "keda-adapter" } as const;
const kedaBuild = {
  module: kedaModule,
  packages: Object.keys(KEDA_PROGRAMS).map((command) => `${KEDA_PATH}/cmd/${command}`),
  cgo: false,
  variables: { [`${KEDA_PATH}/version.Version`]: VERSIONS.keda, [`${KEDA_PATH}/version.GitCommit`]: "module" },
} satisfies Omit<GoBuild, "out">;
/** Clients of clouds and queues, which take most of the build. Go's own packages are shared with other builds. */
const KEDA_DEPENDENCIES = [
  ...["github.com/...", "k8s.io/...", "sigs.k8s.io/...", "google.golang.org/...", "cloud.google.com/..."],
  ...["go.opentelemetry.io/...", "go.temporal.io/...", "go.mongodb.org/...", "gopkg.in/...", "golang.org/x/..."],
];

/**
 * KEDA's operator and metrics adapter, and its CustomResourceDefinitions (`crds/`) of the module. It is a
 * separate Go module: KEDA requires older Kubernetes libraries than the cluster.
 */
const keda: Part = {
  name: "keda",
  version: VERSIONS.keda,
  recipe: JSON.stringify([goRecipe(kedaBuild), KEDA_PROGRAMS]),
  requires: [GO_TOOL],
  async build(out, context) {
    const source = await goModuleFolder(kedaModule, KEDA_PATH, context);
    await cp(join(source, "config/crd/bases"), join(out, "crds"), { recursive: true });
    await must(["chmod", "-R", "u+w", join(out, "crds")]);
    await goBuild({ ...kedaBuild, out: `${out}/`, withoutInlining: KEDA_DEPENDENCIES }, context);
    for (const [command, name] of Object.entries(KEDA_PROGRAMS)) await rename(join(out, command), join(out, name));
    await mustRun([join(out, "keda"), "--help"]);
  },
};

/** Fetches KEDA's hundreds of modules, which takes half a minute, while Kubernetes is compiled. */
export const fetchKedaAhead = (signal?: AbortSignal): Promise<void> => fetchAhead(kedaBuild, signal);

/** Parts by name. `up` needs kubernetes, node-runtime and keda; images take the others. */
export const PARTS = { kubernetes, "node-runtime": nodeRuntime, influxd, keda } satisfies Record<string, Part>;

/** Versions of the Debian packages in a built node-runtime. */
export function nodeRuntimeVersions(folder: string): Record<string, string> {
  return JSON.parse(readFileSync(join(folder, "versions.json"), "utf8")) as Record<string, string>;
}
