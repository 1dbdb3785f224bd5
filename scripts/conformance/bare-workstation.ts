/**
 * A deploy from a workstation that has only Node.js, kubectl, openssl and buildah: no Debian packages, no Maven, no root. The
 * workstation is a separate root file system, entered as an unprivileged user in a user namespace. It builds the project's
 * own images from base images of a registry on loopback, pushes them there, and deploys to the local cluster through its API
 * server alone, which it knows as a cluster of another name.
 *
 * The base images in the registry are assembled under the names of those of Docker Hub, and the nodes have the images of other
 * projects: neither registry can be reached where this runs.
 */
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture, must } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import { findTool } from "../cli/tools.ts";
import { Cluster, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { imagesOf, loadManifests } from "../deploy/manifests.ts";
import { chooseBuilder } from "../images/builders.ts";
import { assembled, type ImageRecipe, recipeFor } from "../images/catalog.ts";
import { ensureImages } from "../images/index.ts";
import { BASE, program, SUITE } from "../images/layers.ts";
import { AGENT_PATH, METRICS_AGENT } from "../images/monitoring.ts";
import { OWN_IMAGES } from "../images/own-images.ts";
import { OWN_PREFIX } from "../images/targets.ts";
import {
  DEBIAN_TOOLS,
  ensurePart,
  kubeconfigPath,
  kubectlPath,
  localTarget,
  type Part,
  partDir,
  unpackDebian,
  withMachineRegistry,
} from "../local-cluster/index.ts";
import { REGISTRY, startRegistry } from "./registry.ts";

const PROJECT = join(import.meta.dir, "../..");
/** Name of the cluster on the workstation. */
const CONTEXT = "bare-workstation";
/** User of the workstation: no account of the machine has it. */
const UID = 61_001;
/** Of the registry; one that belongs to no known service. */
const PORT = 15_871;
const HOST = `127.0.0.1:${PORT}`;
const MAVEN_REPOSITORY = `http://127.0.0.1:${PORT + 1}`;
/** A deploy on two busy cores takes some 4 min after its images are built. */
const DEPLOY_LIMIT_MS = 20 * 60_000;
const DESTROY_LIMIT_MS = 5 * 60_000;
/** Without the stages whose images no package has: the nodes cannot pull them here. */
const DEPLOY_FLAGS = [
  ...["--registry", `${HOST}/team`, "--base-registry", HOST],
  ...["--logs", "victorialogs", "--without", "grafana"],
];
/** Programs that the workstation must not have: what the local cluster and assembled images need. */
const ABSENT = ["docker", "podman", "kind", "apt-get", "dpkg-deb", "mvn", "java", "go", "cargo", "iptables"];
const PRESENT = ["node", "kubectl", "openssl", "buildah"];

/** Debian is only where these programs come from here; nothing on the workstation installs packages. */
const PACKAGES = [
  ...["bash", "coreutils", "grep", "sed", "tar", "util-linux", "base-files"],
  ...["nodejs", "openssl", "buildah", "netavark"],
];
const ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";

/** The programs of the workstation. */
const ROOT_FILES: Part = {
  name: "bare-workstation",
  version: SUITE,
  recipe: JSON.stringify([PACKAGES, ACCOUNTS]),
  requires: DEBIAN_TOOLS,
  async build(out, context) {
    await unpackDebian(SUITE, PACKAGES, out, context, { dependencies: true });
    // No package script runs.
    await must(["ln", "-sfn", "bash", join(out, "usr/bin/sh")]);
    await writeFile(join(out, "etc/passwd"), ACCOUNTS);
    await writeFile(join(out, "etc/group"), "root:x:0:\nnogroup:x:65534:\n");
    for (const name of ABSENT)
      for (const folder of ["bin", "sbin"]) await rm(join(out, "usr", folder, name), { force: true });
  },
};

/** Stands for the base image of the metrics agent, with the programs that the agent's image uses. */
const agentBase = (ref: string): ImageRecipe =>
  assembled(ref, [BASE, program(METRICS_AGENT, "openssl", "usr/bin/openssl")], {
    Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    Cmd: ["bash"],
  });

/** Prepares the workstation's mounts and starts a command as its root; `$1` is its root file system. */
const ENTER = `set -eu
root=$1; shift
# Its own mount, as the root of a container is: programs change the propagation of "/".
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
exec chroot "$root" /bin/sh -c 'cd /project && exec "$@"' workstation "$@"
`;

/** Variables of this machine without which downloads fail behind its proxy; the certificates are copied to the same paths. */
const NETWORK_VARIABLES = [
  "HTTPS_PROXY",
  "https_proxy",
  "NO_PROXY",
  "no_proxy",
  "NODE_EXTRA_CA_CERTS",
  "SSL_CERT_FILE",
];

export interface BareDeploy {
  /** Programs that the workstation was searched for. */
  present: string[];
  absent: string[];
  uid: number;
  /** References of the own images that the pods run. */
  images: string[];
  pods: number;
  /** Rows of the closing check. */
  checks: { title: string; status: string }[];
  deploy_ms: number;
  destroy_ms: number;
}

interface DeployDocument {
  flow: { ok: boolean; checks: { title: string; status: string }[] };
}

/** Creates the workstation's file system in a folder that its user can reach. */
async function makeWorkstation(folder: string): Promise<string> {
  const root = join(folder, "root");
  await must(["cp", "-a", "--reflink=auto", partDir(ROOT_FILES), root]);
  const copy = async (from: string, to: string) => {
    await mkdir(dirname(join(root, to)), { recursive: true });
    await cp(from, join(root, to), { recursive: true, dereference: true });
  };
  await copy(kubectlPath(), "usr/local/bin/kubectl");
  const npm = findTool("npm");
  if (!npm) throw new OperatorError("npm is not installed", { exitCode: EXIT.precondition });
  // …/npm/bin/npm-cli.js, without dependencies outside of its folder.
  await must(["cp", "-a", dirname(dirname(await realpath(npm))), join(root, "usr/local/npm")]);
  await must(["ln", "-s", "../npm/bin/npx-cli.js", join(root, "usr/local/bin/npx")]);
  for (const file of ["/etc/hosts", "/etc/resolv.conf"]) await copy(file, file);
  const certificates = NETWORK_VARIABLES.filter((name) => /CERT/.test(name)).flatMap((name) => process.env[name] ?? []);
  for (const file of new Set(certificates)) await copy(file, file);
  await mkdir(join(root, "project"));
  for (const name of await readdir(PROJECT)) {
    // Neither history and results, nor keys: the workstation makes its own certificates.
    if ([".git", "outputs", "certs"].includes(name)) continue;
    await must(["cp", "-a", join(PROJECT, name), join(root, "project", name)]);
  }
  const kubeconfig = JSON.parse(await readFile(kubeconfigPath(), "utf8")) as { contexts: { name: string }[] };
  kubeconfig.contexts[0]!.name = CONTEXT;
  await mkdir(join(root, "root/.kube"), { recursive: true });
  await writeFile(join(root, "root/.kube/config"), JSON.stringify(kubeconfig), { mode: 0o600 });
  for (const name of ["dev", "proc", "run", "tmp"]) await mkdir(join(root, name), { recursive: true });
  await must(["chown", "-R", "--no-dereference", `${UID}:${UID}`, root]);
  return root;
}

/** A command on the workstation: an unprivileged user of the machine, who is root in a user namespace. */
function onWorkstation(root: string, command: readonly string[]): string[] {
  const variables = NETWORK_VARIABLES.flatMap((name) => (process.env[name] ? [`${name}=${process.env[name]}`] : []));
  const paths = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
  return [
    ...["setpriv", `--reuid=${UID}`, `--regid=${UID}`, "--clear-groups"],
    ...[
      "env",
      "-i",
      paths,
      "HOME=/root",
      "LANG=C.UTF-8",
      `CONVEYOR_MAVEN_REPOSITORY=${MAVEN_REPOSITORY}`,
      ...variables,
    ],
    ...["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ENTER, "enter", root],
    ...command,
  ];
}

/** A Maven repository on loopback that has the agent's jar alone. */
function serveAgent(): Disposable {
  const { hostname, port } = new URL(MAVEN_REPOSITORY);
  const jar = () => Bun.file(join(partDir(METRICS_AGENT), "jmx_prometheus_javaagent.jar"));
  const server = Bun.serve({
    hostname,
    port,
    fetch: ({ url }) =>
      new URL(url).pathname === `/${AGENT_PATH}` ? new Response(jar()) : new Response(null, { status: 404 }),
  });
  return { [Symbol.dispose]: () => void server.stop(true) };
}

/** The base images of the own images, in the registry under their names. */
async function publishBases(log: string, report: Report, signal: AbortSignal): Promise<void> {
  const builder = await chooseBuilder("buildah");
  for (const { base } of OWN_IMAGES) {
    const archive = await (recipeFor(base) ?? agentBase(base)).assemble(report, signal);
    const target = base.replace(/^[^/]+/, HOST);
    await report.step(`push ${target}`, async () => {
      const run = { log, signal };
      await builder.load(archive.path, base, run);
      await builder.push(base, target, run);
    });
  }
}

/** @throws OperatorError that names each own image of a pod that is not the one that was pushed, by digest */
export function requirePushed(pods: readonly Pod[], prefix: string): string[] {
  const names = OWN_IMAGES.map(({ ref }) => ref.slice(OWN_PREFIX.length).replace(/:.*$/, ""));
  const containers = pods.flatMap(({ spec }) => [
    ...spec.containers,
    ...((spec as { initContainers?: typeof spec.containers }).initContainers ?? []),
  ]);
  const own = [...new Set(containers.map(({ image }) => image))]
    .filter((image) => names.some((name) => image.includes(`/${name}:`)))
    .sort();
  const wrong = own.filter((image) => !image.startsWith(`${prefix}/`) || !/@sha256:[0-9a-f]{64}$/.test(image));
  if (wrong.length > 0) throw new OperatorError(`not pulled by digest from ${prefix}: ${wrong.join(", ")}`);
  const missing = names.filter((name) => !own.some((image) => image.includes(`/${name}:`)));
  if (missing.length > 0) throw new OperatorError(`no pod runs the image ${missing.join(", ")}`);
  return own;
}

/**
 * Deploys from a bare workstation to the running local cluster, without a pipeline on it, and removes the pipeline.
 * @throws OperatorError with the step that failed
 */
export async function deployFromBareWorkstation(report: Report, signal: AbortSignal): Promise<BareDeploy> {
  const { kubeconfig, kubectl } = await localTarget.locate();
  const cluster = new Cluster({ context: localTarget.context, kubeconfig, isLocal: true }, kubectl);
  if (await cluster.get("namespace", NAMESPACE)) {
    throw new OperatorError(`the cluster has a pipeline (namespace ${NAMESPACE}); this deploys one from nothing`, {
      exitCode: EXIT.precondition,
      hint: "bun scripts/destroy.ts --local --yes",
    });
  }
  for (const part of [REGISTRY, ROOT_FILES]) await ensurePart(part, report, signal);
  const others = imagesOf(await loadManifests()).filter((ref) => !ref.startsWith(OWN_PREFIX));
  await ensureImages({ kind: "local" }, others, report, { signal });
  // Not below /root or the cache, which the workstation's user cannot enter.
  const folder = await mkdtemp("/var/tmp/conveyor-workstation-");
  await chmod(folder, 0o755);
  try {
    const root = await report.step("bare workstation", () => makeWorkstation(folder));
    return await withMachineRegistry(HOST, async (address) => {
      await using _ = await startRegistry(join(folder, "registry"), [HOST, address]);
      using _repository = serveAgent();
      await publishBases(join(folder, "push.log"), report, signal);
      return await deployFrom(root, cluster, report, signal);
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function deployFrom(root: string, cluster: Cluster, report: Report, signal: AbortSignal): Promise<BareDeploy> {
  const run = async (command: readonly string[], timeoutMs: number) => {
    const startedAt = performance.now();
    const stdout = await must(onWorkstation(root, command), { signal, timeoutMs, what: command.join(" ") });
    return { stdout, durationMs: Math.round(performance.now() - startedAt) };
  };
  const has = async (name: string) =>
    (await capture(onWorkstation(root, ["sh", "-c", `command -v ${name}`]), { signal })).exitCode === 0;
  const found = async (names: readonly string[]) => {
    const all = await Promise.all(names.map(async (name) => [name, await has(name)] as const));
    return all.flatMap(([name, isThere]) => (isThere ? [name] : []));
  };
  const [present, unwanted] = [await found(PRESENT), await found(ABSENT)];
  if (present.length < PRESENT.length || unwanted.length > 0) {
    throw new OperatorError(
      `the workstation has ${[...present, ...unwanted].join(", ")}; it must have ${PRESENT.join(", ")}`,
    );
  }
  const bun = (...args: string[]) => ["npx", "--no-install", "bun", ...args, "--context", CONTEXT, "--json"];
  const deployed = await report.step(
    `deploy from the workstation, images by ${HOST}`,
    () => run(bun("scripts/deploy.ts", ...DEPLOY_FLAGS), DEPLOY_LIMIT_MS),
    { limitMs: DEPLOY_LIMIT_MS },
  );
  const { flow } = JSON.parse(deployed.stdout) as DeployDocument;
  const pods = await cluster.list<Pod>("pods");
  const images = requirePushed(pods, `${HOST}/team/conveyor`);
  const destroyed = await report.step("destroy from the workstation", () =>
    run(bun("scripts/destroy.ts", "--yes"), DESTROY_LIMIT_MS),
  );
  return {
    present,
    absent: ABSENT,
    uid: UID,
    images,
    pods: pods.length,
    checks: flow.checks.map(({ title, status }) => ({ title, status })),
    deploy_ms: deployed.durationMs,
    destroy_ms: destroyed.durationMs,
  };
}
