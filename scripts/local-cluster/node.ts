/**
 * One node: its namespaces, container runtime, kubelet, service proxy and network policies. The control plane is in
 * control-plane.ts, so that more nodes, each in separate namespaces, can be added.
 *
 * A node is a network namespace and a mount namespace, held by a small process. In the mount namespace the node has its own
 * /run, /var/lib and /var/log: programs and pods use the usual paths (/var/lib/kubelet, /var/log/pods), the machine does not
 * see them, and all mounts of pods disappear with the node's last process. A node whose holder and programs were all killed
 * starts like a machine after a power cut, for which containerd and the kubelet are designed.
 */

import { mkdir, readFile, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { writeIfChanged } from "../cli/files.ts";
import { capture, must, tail } from "../cli/process.ts";
import { findTool } from "../cli/tools.ts";
import { waitFor } from "../cli/wait.ts";
import { CGROUP, ensureCgroup, hierarchies, isVersion1, processesInCgroup } from "./cgroups.ts";
import { HOST_LINK, IN_NODE, IPV6, type Layout, LOCAL_CONTEXT, NODE_LINK, type NodeLayout } from "./layout.ts";
import { kubeconfigText } from "./pki.ts";
import {
  type Daemon,
  type DaemonFolders,
  endProcesses,
  ensureDaemon,
  livingDaemon,
  markedProcesses,
  type PidFile,
} from "./processes.ts";

/** The holder's script runs a dozen short commands. */
const HOLDER_LIMIT_MS = 10_000;
/** containerd opens its database and loads plug-ins; with many images on a slow disk some seconds. */
const CONTAINERD_LIMIT_MS = 40_000;
/** ip, mount and the like. */
const TOOL_LIMIT_MS = 10_000;
/** The node's /run has sockets and the containers' files and FIFOs, no data. */
const RUN_SIZE = "256m";
/** Both ends of the node's own programs' logs; pods' logs are bounded by the kubelet. */
const PODS_PER_NODE = 110;

/** overlayfs' magic number in statfs: an overlay cannot be the base of a snapshot. */
const OVERLAY_MAGIC = 0x794c7630;

export const nodeDaemonFolders = (layout: Layout): DaemonFolders => ({
  state: layout.state,
  run: layout.run,
  logs: layout.logs,
  path: [layout.kubernetes, layout.runtime],
});

const holderName = (node: NodeLayout) => `${node.name}-holder`;

/** Names of a node's programs, in the order in which they are started. */
export const nodeDaemonNames = (node: NodeLayout): string[] =>
  ["holder", "containerd", "kubelet", "kube-proxy", "network-policies"].map((part) => `${node.name}-${part}`);

/** The script that prepares the namespaces; `$1`… are the folders of the node. */
const HOLDER_SCRIPT = `
set -eu
# Pods' mounts must reach the kubelet and the other way round, but never the machine: slave of the machine's tree,
# shared within the node.
mount --make-rshared /
mount --bind "$1" /var/lib
mkdir -p ${IN_NODE.kubelet} ${IN_NODE.containerd} ${IN_NODE.volumes} ${IN_NODE.etcd}
mount --bind "$3" ${IN_NODE.containerd}
mount --bind "$4" ${IN_NODE.volumes}
mount --bind "$5" ${IN_NODE.etcd}
mount --bind "$2" /var/log
mount -t tmpfs -o mode=755,size=${RUN_SIZE} node-run /run
mkdir -p /run/lock /run/tmp /run/netns
ip link set lo up
touch /run/node-ready
exec "$6"
`;

/** A program in a node's network namespace; with its mounts where the program uses /run. */
const inNetwork = (holder: number, command: readonly string[], ...more: "--mount"[]) => [
  ...["nsenter", `--target=${holder}`, "--net", ...more, "--"],
  ...command,
];

/** The machine's path of a file of the node, through the holder's root. */
const nodePath = (holder: number, path: string): string => `/proc/${holder}/root${path}`;

/** The living holder of a node's namespaces. */
export const livingHolder = (layout: Layout, node: NodeLayout): Promise<PidFile | undefined> =>
  livingDaemon(layout.run, holderName(node));

/**
 * Creates the node's namespaces, or finds them. When the holder was killed but another program of the node runs, a new
 * holder joins its namespaces; when none runs, the leftovers of the old node are ended and new namespaces created.
 */
async function ensureHolder(layout: Layout, node: NodeLayout): Promise<PidFile> {
  const living = await livingHolder(layout, node);
  if (living) return living;
  const folders = nodeDaemonFolders(layout);
  const pause = join(layout.kubernetes, "pause");
  for (const name of nodeDaemonNames(node)) {
    const other = await livingDaemon(layout.run, name);
    if (!other) continue;
    const holder: Daemon = { name: holderName(node), command: [pause], inside: other.pid };
    return (await ensureDaemon(holder, folders)).file;
  }
  await endProcesses(await markedProcesses(layout.state), { signal: "SIGKILL" });
  await endProcesses(await processesInCgroup(), { signal: "SIGKILL" });
  for (const folder of [node.varLib, node.varLog, node.containerd, layout.volumes, layout.etcd]) {
    await mkdir(folder, { recursive: true });
  }
  const holder: Daemon = {
    name: holderName(node),
    command: [
      ...["unshare", "--net", "--mount", "--propagation", "slave", "--", "sh", "-c", HOLDER_SCRIPT, "node"],
      ...[node.varLib, node.varLog, node.containerd, layout.volumes, layout.etcd, pause],
    ],
  };
  const { file } = await ensureDaemon(holder, folders);
  await waitFor(
    async () => {
      const ready = await stat(nodePath(file.pid, "/run/node-ready")).catch(() => undefined);
      if (ready) return { done: true, value: true };
      return { done: false, state: (await tail(join(layout.logs, `${file.name}.log`), 3)) || "preparing namespaces" };
    },
    { what: `the namespaces of ${node.name}`, limitMs: HOLDER_LIMIT_MS, intervalMs: 20 },
  );
  return file;
}

/**
 * The node's link and routes. There is no default route and no address translation: pods reach only pods, services and the
 * node. Of a pod's packets to the machine only the answers pass, to connections that the machine has opened to a node port.
 */
async function ensureNetwork(layout: Layout, node: NodeLayout, holder: number): Promise<void> {
  const limit = { timeoutMs: TOOL_LIMIT_MS };
  const inside = await capture(inNetwork(holder, ["ip", "link", "show", NODE_LINK]), limit);
  const ip = (...args: string[]) => must(["ip", ...args], limit);
  if (inside.exitCode !== 0) {
    await capture(["ip", "link", "delete", HOST_LINK], limit);
    await ip("link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", String(holder));
  }
  const length = layout.plan.subnets.nodes.split("/")[1]!;
  await ip("address", "replace", `${layout.hostAddress}/${length}`, "dev", HOST_LINK);
  await ip("link", "set", HOST_LINK, "up");
  const nodeIp = (...args: string[]) => must(inNetwork(holder, ["ip", ...args]), limit);
  await nodeIp("address", "replace", `${node.address}/${length}`, "dev", NODE_LINK);
  await nodeIp("link", "set", NODE_LINK, "up");
  // On the loopback link, since not every kernel has the dummy links that NodeLocal DNSCache uses.
  const { nodeDns } = layout.properties;
  if (nodeDns) await nodeIp("address", "replace", `${nodeDns}/32`, "dev", "lo");
  // Without a route to a service's address the kernel refuses connections of the node before kube-proxy's rules apply.
  // With those rules the packet never takes this route.
  await nodeIp("route", "replace", layout.plan.subnets.services, "dev", NODE_LINK, "src", node.address);
  const mangle = (program: "iptables" | "ip6tables", action: "-C" | "-A" | "-D", rule: readonly string[]) =>
    inNetwork(holder, [program, "-w", "-t", "mangle", action, ...rule], "--mount");
  const ensureRule = async (program: "iptables" | "ip6tables", rule: readonly string[]) => {
    if ((await capture(mangle(program, "-C", rule), limit)).exitCode !== 0)
      await must(mangle(program, "-A", rule), limit);
  };
  const toMachine = ["FORWARD", "-o", NODE_LINK];
  for (const program of ["iptables", ...(layout.properties.isIpv6First ? (["ip6tables"] as const) : [])] as const) {
    await ensureRule(program, [...toMachine, "-m", "conntrack", "!", "--ctstate", "ESTABLISHED,RELATED", "-j", "DROP"]);
    // The rule of a node that an earlier version of this program has prepared drops answers too.
    await capture(mangle(program, "-D", [...toMachine, "-j", "DROP"]), limit);
  }
  if (layout.properties.isIpv6First) {
    // kube-router refuses a pod's neighbour discovery where a policy restricts the pod, which then reaches nobody. This is
    // the mark of the packets that its policies permit.
    for (const type of ["neighbour-solicitation", "neighbour-advertisement"]) {
      const packets = ["PREROUTING", "-p", "icmpv6", "--icmpv6-type", type];
      await ensureRule("ip6tables", [...packets, "-j", "MARK", "--set-xmark", "0x10000/0x10000"]);
    }
    const [address = ""] = node.addresses;
    // Nobody else is on the link: without detection of duplicates the address can be used at once.
    await nodeIp("address", "replace", `${address}/${IPV6.nodes.split("/")[1]}`, "dev", NODE_LINK, "nodad");
    await nodeIp("route", "replace", IPV6.services, "dev", NODE_LINK, "src", address);
    await must(inNetwork(holder, ["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]), limit);
  }
  await must(inNetwork(holder, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]), limit);
}

/** A folder per registry, with its address; containerd reads it at each pull. */
const registriesFolder = (node: NodeLayout): string => join(node.etc, "registries");

/** Lets a node pull images of a registry from another address, without TLS. @returns a function that ends it */
export async function mirrorRegistry(
  node: NodeLayout,
  registry: string,
  address: string,
): Promise<() => Promise<void>> {
  const folder = join(registriesFolder(node), registry);
  const server = `http://${address}`;
  await mkdir(folder, { recursive: true });
  await writeIfChanged(
    join(folder, "hosts.toml"),
    `server = "${server}"\n[host."${server}"]\n  capabilities = ["pull", "resolve"]\n`,
  );
  return () => rm(folder, { recursive: true, force: true });
}

/** containerd's configuration. */
function containerdConfig(
  runtime: string,
  cniConfig: string,
  registries: string,
  pauseImage: string,
  snapshotter: string,
  runc: string,
): string {
  return `version = 3
root = "${IN_NODE.containerd}"
state = "/run/containerd"
temp = "/run/tmp"
# Never used here, and some of them make folders elsewhere or probe for hardware.
disabled_plugins = [
  "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "${IN_NODE.containerdSocket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/conveyor/opt"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "${snapshotter}"
  # A name that is not here cannot be had: nothing leads out of the node. Say so at once.
  image_pull_progress_timeout = "5s"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "${pauseImage}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "${registries}"

[plugins."io.containerd.cri.v1.runtime"]
  # A machine may lack the right to lower a process's OOM score; runc would fail with every pod.
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["${runtime}/cni"]
  conf_dir = "${cniConfig}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "${runc}"
  SystemdCgroup = false
`;
}

/** The pods' network: one routed link per pod, so that the node's policy rules apply to every packet between pods. */
function cniConfig(podRanges: readonly string[]): string {
  return JSON.stringify({
    cniVersion: "1.0.0",
    name: "conveyor",
    plugins: [
      {
        type: "ptp",
        ipMasq: false,
        ipam: {
          type: "host-local",
          dataDir: "/run/cni",
          ranges: podRanges.map((subnet) => [{ subnet }]),
          routes: podRanges.map((range) => ({ dst: range.includes(":") ? "::/0" : "0.0.0.0/0" })),
        },
      },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  });
}

/** The kubelet's configuration, for drills: a killed container restarts within seconds, a lost node is detected soon. */
function kubeletConfig(layout: Layout, node: NodeLayout, cgroupVersion1: boolean): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    containerRuntimeEndpoint: `unix://${IN_NODE.containerdSocket}`,
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${CGROUP}`,
    ...(cgroupVersion1 ? { failCgroupV1: false } : {}),
    failSwapOn: false,
    clusterDNS: [layout.properties.nodeDns ?? layout.dnsAddress],
    clusterDomain: layout.properties.domain,
    resolvConf: join(node.etc, "resolv.conf"),
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(layout.pki, "ca.crt") },
    },
    authorization: { mode: "Webhook" },
    // Without these, a kubelet signs a certificate itself.
    ...(layout.properties.kubeletCertificate === "cluster"
      ? {
          tlsCertFile: join(layout.pki, `${node.name}.crt`),
          tlsPrivateKeyFile: join(layout.pki, `${node.name}.key`),
        }
      : {}),
    address: layout.properties.isIpv6First ? "::" : node.address,
    // Disk pressure on the user's disk must not evict the pipeline before the disk is nearly full.
    evictionHard: { "memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
    // There is no registry: a removed image could not be pulled again.
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    serializeImagePulls: false,
    registryPullQPS: 0,
    containerLogMaxSize: "10Mi",
    containerLogMaxFiles: 3,
    maxPods: PODS_PER_NODE,
    nodeStatusUpdateFrequency: "5s",
    nodeLeaseDurationSeconds: 20,
    // Pods see a changed Secret or ConfigMap within this time, instead of a minute or more.
    syncFrequency: "15s",
    // A container that fails repeatedly is restarted every 10 s, not every 5 min: a drill waits for its recovery.
    featureGates: { KubeletCrashLoopBackOffMax: true },
    crashLoopBackOff: { maxContainerRestartPeriod: "10s" },
    enableDebuggingHandlers: true,
    logging: { format: "text" },
  };
}

function proxyConfig(layout: Layout, kubeconfig: string): object {
  return {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "iptables",
    clusterCIDR: layout.podRanges,
    // The default of 1 s, during which a Ready pod is not reached yet, is for clusters with thousands of services.
    iptables: { minSyncPeriod: "100ms" },
    clientConnection: { kubeconfig },
    // Zero: keep the machine's limits, which cannot be set from a namespace.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: "0s", tcpCloseWaitTimeout: "0s" },
    healthzBindAddress: "127.0.0.1:10256",
    metricsBindAddress: "127.0.0.1:10249",
  };
}

const isOverlay = async (folder: string): Promise<boolean> => (await statfs(folder)).type === OVERLAY_MAGIC;

/** Namespaces, network and container runtime of a node. @returns the holder and whether containerd was started now */
export async function startRuntime(
  layout: Layout,
  node: NodeLayout,
  pauseImage: string,
): Promise<{ holder: PidFile; containerd: PidFile; started: boolean }> {
  await ensureCgroup();
  const holder = await ensureHolder(layout, node);
  await ensureNetwork(layout, node, holder.pid);
  await mkdir(join(node.etc, "cni"), { recursive: true });
  const snapshotter = (await isOverlay(node.containerd)) ? "native" : "overlayfs";
  const runc = findTool("runc");
  if (!runc)
    throw new OperatorError("runc is not installed", { exitCode: EXIT.precondition, hint: "apt-get install runc" });
  const text = containerdConfig(
    layout.runtime,
    join(node.etc, "cni"),
    registriesFolder(node),
    pauseImage,
    snapshotter,
    runc,
  );
  const config = join(node.etc, "containerd.toml");
  await writeIfChanged(config, text);
  const { file, started } = await ensureDaemon(
    {
      name: `${node.name}-containerd`,
      command: [join(layout.runtime, "containerd"), "--config", config],
      reads: [text],
      inside: holder.pid,
    },
    nodeDaemonFolders(layout),
  );
  return { holder, containerd: file, started };
}

/** Starts the programs that join the node to the cluster; the API server must answer. */
export async function startNode(layout: Layout, node: NodeLayout, holder: PidFile): Promise<PidFile[]> {
  const kubeconfigFor = async (client: string): Promise<[path: string, text: string]> => {
    const path = join(node.etc, `${client}.kubeconfig`);
    const text = await kubeconfigText(layout.pki, client, layout.apiServer, LOCAL_CONTEXT);
    await writeIfChanged(path, text);
    return [path, text];
  };
  await writeIfChanged(
    join(node.etc, "resolv.conf"),
    "# Pods use the cluster's DNS, without an upstream server.\n",
    0o644,
  );
  const kubelet = JSON.stringify(kubeletConfig(layout, node, isVersion1(await hierarchies())), null, 2);
  await writeIfChanged(join(node.etc, "kubelet.json"), kubelet);
  const [kubeletClient, kubeletClientText] = await kubeconfigFor(node.name);
  const [proxyClient, proxyClientText] = await kubeconfigFor("kube-proxy");
  const [policiesClient, policiesClientText] = await kubeconfigFor("network-policies");
  const proxy = JSON.stringify(proxyConfig(layout, proxyClient), null, 2);
  await writeIfChanged(join(node.etc, "kube-proxy.json"), proxy);
  const serving = await readFile(join(layout.pki, `${node.name}.crt`), "utf8");
  const daemon = (program: string, reads: string[], ...flags: string[]): Daemon => ({
    name: `${node.name}-${program}`,
    command: [join(layout.kubernetes, program), ...flags],
    reads,
    inside: holder.pid,
  });
  const daemons = [
    daemon(
      "kubelet",
      [kubelet, kubeletClientText, serving],
      `--config=${join(node.etc, "kubelet.json")}`,
      `--kubeconfig=${kubeletClient}`,
      `--hostname-override=${node.name}`,
      `--node-ip=${node.addresses.join(",")}`,
      `--root-dir=${IN_NODE.kubelet}`,
    ),
    daemon(
      "kube-proxy",
      [proxy, proxyClientText],
      `--config=${join(node.etc, "kube-proxy.json")}`,
      `--hostname-override=${node.name}`,
    ),
    daemon(
      "network-policies",
      [policiesClientText],
      `--kubeconfig=${policiesClient}`,
      `--node=${node.name}`,
      `--services=${layout.serviceRanges}`,
    ),
  ];
  const files: PidFile[] = [];
  for (const daemon of daemons) files.push((await ensureDaemon(daemon, nodeDaemonFolders(layout))).file);
  return files;
}

/** Configures the node's pod network with the ranges that the cluster assigned; only then the node becomes Ready. */
export async function startPodNetwork(node: NodeLayout, podRanges: readonly string[]): Promise<void> {
  await writeIfChanged(join(node.etc, "cni", "10-conveyor.conflist"), cniConfig(podRanges), 0o644);
}

// ── containers of a node ─────────────────────────────────────────────────────────────────────────────────────────

/** The command line of `ctr` for a node. */
export const ctr = (layout: Layout, holder: number, args: readonly string[]): string[] => [
  join(layout.runtime, "ctr"),
  "--address",
  nodePath(holder, IN_NODE.containerdSocket),
  "--namespace",
  "k8s.io",
  ...args,
];

/** Waits until containerd answers. */
export async function awaitContainerd(
  layout: Layout,
  holder: PidFile,
  containerd: PidFile,
  signal?: AbortSignal,
): Promise<void> {
  await waitFor(
    async () => {
      const { exitCode, stderr } = await capture(ctr(layout, holder.pid, ["version"]), {
        timeoutMs: TOOL_LIMIT_MS,
        signal,
      });
      if (exitCode === 0) return { done: true, value: true };
      return { done: false, state: stderr.trim().split("\n").at(-1) ?? "" };
    },
    {
      what: "containerd to answer",
      limitMs: CONTAINERD_LIMIT_MS,
      intervalMs: 100,
      signal,
      hint: `its log is ${join(layout.logs, `${containerd.name}.log`)}`,
    },
  );
}

/** Removes containers without a process: those of an earlier run of the node. */
export async function removeDeadContainers(layout: Layout, holder: number): Promise<number> {
  const lines = async (args: string[]) =>
    (await must(ctr(layout, holder, args), { timeoutMs: CONTAINERD_LIMIT_MS })).split("\n").filter(Boolean);
  const containers = await lines(["containers", "list", "--quiet"]);
  const tasks = new Set(await lines(["tasks", "list", "--quiet"]));
  const dead = containers.filter((id) => !tasks.has(id));
  if (dead.length > 0) {
    await capture(ctr(layout, holder, ["containers", "delete", ...dead]), { timeoutMs: CONTAINERD_LIMIT_MS });
  }
  return dead.length;
}

/** Removes what only a running node needs, so that `var/lib` has no files of pods of another cluster. */
export const removeNodeFolders = (node: NodeLayout): Promise<void> => rm(node.folder, { recursive: true, force: true });
