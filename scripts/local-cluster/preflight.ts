/** Checks that this machine can run the local cluster, and lists everything that is missing. */
import { mkdir, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { cacheFolder, stateFolder } from "../cli/paths.ts";
import { capture } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import {
  aptLine,
  describeMissing,
  installTools,
  type MissingTool,
  missingTools,
  type Tool,
  toolPath,
} from "../cli/tools.ts";
import { isBuilt, type Part } from "./cache.ts";
import { hierarchies } from "./cgroups.ts";
import { debianProblem } from "./debian.ts";
import { COVERED } from "./layout.ts";
import { PARTS } from "./parts.ts";

/** Modules, compiler cache and programs of a first build take some 9 GB. */
const BUILD_SPACE_BYTES = 10e9;
const PROBE_LIMIT_MS = 15_000;

/** Programs that the running cluster needs. */
const RUNTIME_TOOLS: Tool[] = [
  { command: "ip", why: "links and routes", aptPackage: "iproute2" },
  { command: "nsenter", why: "starts programs in the node's namespaces", aptPackage: "util-linux" },
  { command: "unshare", why: "creates the node's namespaces", aptPackage: "util-linux" },
  { command: "mount", why: "the node's folders", aptPackage: "mount" },
  { command: "sysctl", why: "forwarding between pods", aptPackage: "procps" },
  { command: "iptables", why: "services and network policies", aptPackage: "iptables" },
  { command: "ipset", why: "network policies", aptPackage: "ipset" },
  { command: "runc", why: "runs containers", aptPackage: "runc" },
  { command: "openssl", why: "the cluster's certificates", aptPackage: "openssl" },
  { command: "tar", why: "container images", aptPackage: "tar" },
];

const CLUSTER_PARTS: Part[] = [PARTS.kubernetes, PARTS["node-runtime"], PARTS.keda];

/** The two alternatives that need none of this. */
export const OTHER_WAYS = [
  "an existing cluster:  bun scripts/deploy.ts --context NAME --registry HOST/PATH",
  "kind, with docker:    npm start -- --kind conveyor   (creates the cluster where it does not exist)",
];

/** Missing tools, for the parts that are not built yet and for running the cluster. */
export async function missingForCluster(): Promise<MissingTool[]> {
  const tools = [...RUNTIME_TOOLS];
  for (const part of CLUSTER_PARTS) if (!(await isBuilt(part))) tools.push(...part.requires);
  return await missingTools(tools);
}

/** Tries iptables with an ipset in a temporary network namespace: the kernel may lack what the programs need. */
async function firewallProblem(): Promise<string | undefined> {
  const script =
    "mount -t tmpfs tmp /run && iptables -w -t mangle -A FORWARD -j DROP && ipset create probe hash:ip && " +
    "iptables -w -A FORWARD -m set --match-set probe src -m comment --comment probe -j REJECT && " +
    "iptables -w -A FORWARD -m conntrack --ctstate ESTABLISHED -m mark --mark 1/1 -j ACCEPT && " +
    "iptables -w -t nat -A POSTROUTING -j MASQUERADE && ip link add probe0 type veth peer name probe1";
  const { exitCode, stderr } = await capture(["unshare", "--net", "--mount", "sh", "-c", script], {
    timeoutMs: PROBE_LIMIT_MS,
    env: { PATH: toolPath() },
  });
  return exitCode === 0
    ? undefined
    : `namespaces or firewall rules that the cluster needs cannot be created: ${stderr.trim().split("\n").at(-1)}`;
}

async function freeBytes(folder: string): Promise<number> {
  await mkdir(folder, { recursive: true });
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/** Problems other than missing tools. */
export async function machineProblems(toolsMissing: boolean): Promise<string[]> {
  const problems: string[] = [];
  if (process.platform !== "linux") return [`the machine runs ${process.platform}, not Linux`];
  if (process.getuid?.() !== 0) problems.push("not run as root: namespaces, mounts and cgroups need it (sudo)");
  const all = await hierarchies();
  const memory = all.some((hierarchy) => hierarchy.version === 2 || hierarchy.controllers.includes("memory"));
  if (!memory) problems.push("no cgroup hierarchy with the memory controller is mounted");
  for (const folder of [cacheFolder(), stateFolder()]) {
    const covered = COVERED.find((top) => folder === top || folder.startsWith(`${top}/`));
    if (covered) {
      problems.push(
        `${folder}: must not be under ${covered}, which a node covers with its own (set XDG_CACHE_HOME, XDG_STATE_HOME)`,
      );
    }
  }
  if (!(await isBuilt(PARTS["node-runtime"]))) {
    const problem = await debianProblem();
    if (problem) problems.push(`etcd and containerd come as Debian packages, but ${problem}`);
  }
  if (!(await isBuilt(PARTS.kubernetes))) {
    const free = await freeBytes(dirname(cacheFolder()));
    if (free < BUILD_SPACE_BYTES) {
      problems.push(
        `${dirname(cacheFolder())}: must have ${BUILD_SPACE_BYTES / 1e9} GB free for the first build; has ${(free / 1e9).toFixed(1)} GB`,
      );
    }
  }
  if (problems.length === 0 && !toolsMissing) {
    const problem = await firewallProblem();
    if (problem) problems.push(problem);
  }
  return problems;
}

/**
 * Everything that prevents the local cluster here, after the installation of missing tools.
 * @param missingOf the missing tools: of the cluster, or also of what runs on it
 * @param options.installTools install missing Debian packages
 */
export async function obstacles(
  report: Report,
  options: { installTools?: boolean; signal?: AbortSignal },
  missingOf = missingForCluster,
): Promise<{ missing: MissingTool[]; problems: string[] }> {
  let missing = await missingOf();
  if (options.installTools && process.getuid?.() === 0 && missing.some(({ aptPackage }) => aptPackage)) {
    await installTools(missing, report, options.signal);
    missing = await missingOf();
  }
  return { missing, problems: await machineProblems(missing.length > 0) };
}

/** The error (exit 3) that lists everything that is missing, the command that installs tools, and the alternatives. */
export function preflightError(problems: readonly string[], missing: readonly MissingTool[]): OperatorError {
  const lines = [...problems, ...describeMissing(missing)].map((line) => `  - ${line}`);
  const install = aptLine(missing);
  const hints = [
    ...(install ? [`install the tools:    ${install}`, "                      (or pass --install-tools)"] : []),
    ...OTHER_WAYS,
  ];
  return new OperatorError(`this machine cannot run the local cluster:\n${lines.join("\n")}`, {
    exitCode: EXIT.precondition,
    hint: hints.join("\n"),
  });
}
