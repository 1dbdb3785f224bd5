/**
 * The control plane: etcd, the API server, controllers, scheduler, volume provisioner. It runs in the namespaces of the
 * first node.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeIfChanged } from "../cli/files.ts";
import { waitFor } from "../cli/wait.ts";
import { API_PORT, ETCD_METRICS_PORT, IN_NODE, type Layout, LOCAL_CONTEXT, type NodeLayout } from "./layout.ts";
import { nodeDaemonFolders } from "./node.ts";
import { type CertificateRequest, kubeconfigText } from "./pki.ts";
import { type Daemon, ensureDaemon, mustLive, type PidFile } from "./processes.ts";

/** etcd and the API server, with a database of some thousand objects, on a busy two-core machine. */
const API_LIMIT_MS = 90_000;
/** One request to a server on this machine. */
const REQUEST_LIMIT_MS = 5_000;
/** Logs of the cluster's own programs: two of these each. */
const LOG_LIMIT_BYTES = 16 * 1024 * 1024;

/** Programs of the control plane, in the order in which they are started. */
export const CONTROL_PLANE = [
  "logkeeper",
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "provisioner",
] as const;

const METRICS_SERVER_NAMES = ["DNS:metrics-server.kube-system.svc", "DNS:metrics-server.kube-system"];

/** Every certificate of the cluster. */
export function certificateRequests(layout: Layout, nodes: readonly NodeLayout[]): CertificateRequest[] {
  const service = "kubernetes.default.svc";
  return [
    {
      name: "kube-apiserver",
      authority: "ca",
      commonName: "kube-apiserver",
      names: [
        ...["kubernetes", "kubernetes.default", service, `${service}.${layout.properties.domain}`, "localhost"].map(
          (name) => `DNS:${name}`,
        ),
        ...[...new Set(["127.0.0.1", layout.apiAddress, layout.advertiseAddress, layout.kubernetesAddress])].map(
          (address) => `IP:${address}`,
        ),
      ],
    },
    { name: "admin", authority: "ca", commonName: "conveyor-admin", organization: "system:masters" },
    {
      name: "kubelet-client",
      authority: "ca",
      commonName: "kube-apiserver-kubelet-client",
      organization: "system:masters",
    },
    { name: "kube-controller-manager", authority: "ca", commonName: "system:kube-controller-manager" },
    { name: "kube-scheduler", authority: "ca", commonName: "system:kube-scheduler" },
    { name: "kube-proxy", authority: "ca", commonName: "system:kube-proxy" },
    { name: "network-policies", authority: "ca", commonName: "conveyor:network-policies" },
    { name: "provisioner", authority: "ca", commonName: "conveyor:provisioner" },
    { name: "metrics-server", authority: "ca", commonName: "metrics-server", names: METRICS_SERVER_NAMES },
    { name: "front-proxy", authority: "front-proxy-ca", commonName: "front-proxy" },
    { name: "etcd-server", authority: "etcd-ca", commonName: "etcd", names: ["IP:127.0.0.1"] },
    { name: "etcd-client", authority: "etcd-ca", commonName: "kube-apiserver" },
    ...nodes.map((node) => ({
      name: node.name,
      authority: "ca" as const,
      commonName: `system:node:${node.name}`,
      organization: "system:nodes",
      names: [`DNS:${node.name}`, ...node.addresses.map((address) => `IP:${address}`)],
    })),
  ];
}

const readPki = (layout: Layout, name: string) => readFile(join(layout.pki, name), "utf8");

function etcd(layout: Layout): Daemon {
  const pki = (name: string) => join(layout.pki, name);
  return {
    name: "etcd",
    command: [
      join(layout.runtime, "etcd"),
      ...["--name", "etcd", "--data-dir", IN_NODE.etcd],
      ...["--listen-client-urls", "https://127.0.0.1:2379", "--advertise-client-urls", "https://127.0.0.1:2379"],
      ...["--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380"],
      ...["--initial-cluster", "etcd=http://127.0.0.1:2380"],
      ...["--cert-file", pki("etcd-server.crt"), "--key-file", pki("etcd-server.key")],
      ...["--client-cert-auth", "--trusted-ca-file", pki("etcd-ca.crt")],
      ...["--listen-metrics-urls", `http://${layout.apiAddress}:${ETCD_METRICS_PORT}`],
      // Writes are synced to disk: the volumes outlive a power cut, and so must the database that names their owners.
      // It costs well under a millisecond per write on an SSD.
      ...["--auto-compaction-retention", "1h", "--quota-backend-bytes", String(2 * 1024 ** 3)],
      ...["--logger", "zap", "--log-level", "warn"],
    ],
  };
}

function apiServer(layout: Layout): Daemon {
  const pki = (name: string) => join(layout.pki, name);
  return {
    name: "kube-apiserver",
    command: [
      join(layout.kubernetes, "kube-apiserver"),
      // "::" is every address of both families.
      `--bind-address=${layout.properties.isIpv6First ? "::" : layout.apiAddress}`,
      `--advertise-address=${layout.advertiseAddress}`,
      `--secure-port=${API_PORT}`,
      "--etcd-servers=https://127.0.0.1:2379",
      `--etcd-cafile=${pki("etcd-ca.crt")}`,
      `--etcd-certfile=${pki("etcd-client.crt")}`,
      `--etcd-keyfile=${pki("etcd-client.key")}`,
      `--service-cluster-ip-range=${layout.serviceRanges}`,
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      "--anonymous-auth=false",
      "--allow-privileged=true",
      "--profiling=false",
      `--client-ca-file=${pki("ca.crt")}`,
      `--tls-cert-file=${pki("kube-apiserver.crt")}`,
      `--tls-private-key-file=${pki("kube-apiserver.key")}`,
      `--kubelet-client-certificate=${pki("kubelet-client.crt")}`,
      `--kubelet-client-key=${pki("kubelet-client.key")}`,
      // kubeadm sets no authority either, since none signs the certificates of its kubelets.
      ...(layout.properties.kubeletCertificate === "cluster"
        ? [`--kubelet-certificate-authority=${pki("ca.crt")}`]
        : []),
      "--kubelet-preferred-address-types=InternalIP",
      `--service-account-issuer=https://kubernetes.default.svc.${layout.properties.domain}`,
      `--service-account-key-file=${pki("service-accounts.pub")}`,
      `--service-account-signing-key-file=${pki("service-accounts.key")}`,
      `--requestheader-client-ca-file=${pki("front-proxy-ca.crt")}`,
      "--requestheader-allowed-names=front-proxy",
      "--requestheader-extra-headers-prefix=X-Remote-Extra-",
      "--requestheader-group-headers=X-Remote-Group",
      "--requestheader-username-headers=X-Remote-User",
      `--proxy-client-cert-file=${pki("front-proxy.crt")}`,
      `--proxy-client-key-file=${pki("front-proxy.key")}`,
      // Directly to the endpoints of an aggregated API, without a hop over its Service.
      "--enable-aggregator-routing=true",
    ],
  };
}

function controllerManager(layout: Layout, kubeconfig: string): Daemon {
  const pki = (name: string) => join(layout.pki, name);
  return {
    name: "kube-controller-manager",
    command: [
      join(layout.kubernetes, "kube-controller-manager"),
      `--kubeconfig=${kubeconfig}`,
      `--authentication-kubeconfig=${kubeconfig}`,
      `--authorization-kubeconfig=${kubeconfig}`,
      "--bind-address=127.0.0.1",
      "--use-service-account-credentials=true",
      `--service-account-private-key-file=${pki("service-accounts.key")}`,
      `--root-ca-file=${pki("ca.crt")}`,
      `--cluster-signing-cert-file=${pki("ca.crt")}`,
      `--cluster-signing-key-file=${pki("ca.key")}`,
      "--allocate-node-cidrs=true",
      `--cluster-cidr=${layout.podRanges}`,
      `--service-cluster-ip-range=${layout.serviceRanges}`,
      // There is one instance: no election, no lease to write every two seconds.
      "--leader-elect=false",
      // Shorter intervals than in a large cluster, so that autoscaling and the loss of a node show within seconds.
      "--horizontal-pod-autoscaler-sync-period=5s",
      "--horizontal-pod-autoscaler-cpu-initialization-period=30s",
      "--horizontal-pod-autoscaler-initial-readiness-delay=10s",
      "--node-monitor-period=2s",
      "--node-monitor-grace-period=20s",
    ],
  };
}

async function client(layout: Layout, name: string): Promise<{ path: string; text: string }> {
  const text = await kubeconfigText(layout.pki, name, layout.apiServer, LOCAL_CONTEXT);
  const path = join(layout.state, "etc", `${name}.kubeconfig`);
  await writeIfChanged(path, text);
  return { path, text };
}

/** Starts etcd and the API server in the given namespaces. @returns their pid files */
export async function startApi(layout: Layout, inside: PidFile): Promise<PidFile[]> {
  await mkdir(join(layout.state, "etc"), { recursive: true, mode: 0o700 });
  const folders = nodeDaemonFolders(layout);
  const logkeeper: Daemon = {
    name: "logkeeper",
    command: [join(layout.kubernetes, "logkeeper"), layout.logs, String(LOG_LIMIT_BYTES)],
  };
  const certificates = await Promise.all(
    ["etcd-server.crt", "kube-apiserver.crt", "service-accounts.pub"].map((name) => readPki(layout, name)),
  );
  const files: PidFile[] = [];
  for (const daemon of [logkeeper, etcd(layout), apiServer(layout)]) {
    const namespaced = daemon === logkeeper ? {} : { inside: inside.pid, reads: certificates };
    files.push((await ensureDaemon({ ...daemon, ...namespaced }, folders)).file);
  }
  return files;
}

/** Starts controllers, scheduler and provisioner; the API server must answer. */
export async function startControllers(layout: Layout, inside: PidFile): Promise<PidFile[]> {
  const folders = nodeDaemonFolders(layout);
  const [manager, scheduler, provisioner] = await Promise.all(
    ["kube-controller-manager", "kube-scheduler", "provisioner"].map((name) => client(layout, name)),
  );
  const daemons: Daemon[] = [
    { ...controllerManager(layout, manager!.path), reads: [manager!.text] },
    {
      name: "kube-scheduler",
      command: [
        join(layout.kubernetes, "kube-scheduler"),
        `--kubeconfig=${scheduler!.path}`,
        `--authentication-kubeconfig=${scheduler!.path}`,
        `--authorization-kubeconfig=${scheduler!.path}`,
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
      ],
      reads: [scheduler!.text],
    },
    {
      name: "provisioner",
      command: [
        join(layout.kubernetes, "provisioner"),
        `--kubeconfig=${provisioner!.path}`,
        `--root=${IN_NODE.volumes}`,
        `--source=${layout.properties.volumes}`,
      ],
      reads: [provisioner!.text],
    },
  ];
  const files: PidFile[] = [];
  for (const daemon of daemons) files.push((await ensureDaemon({ ...daemon, inside: inside.pid }, folders)).file);
  return files;
}

/** A node, as far as this project reads it. */
export interface NodeObject {
  metadata: { name: string };
  spec: { podCIDRs?: string[] };
  status: {
    conditions?: { type: string; status: string; reason: string; message: string; lastHeartbeatTime: string }[];
    nodeInfo?: { kubeletVersion: string; containerRuntimeVersion: string };
  };
}

/**
 * One GET to the API server with the administrator's certificate.
 * @param accept media type of the answer, where the server has several
 * @throws when it does not answer or refuses
 */
export async function apiGet(
  layout: Pick<Layout, "pki" | "apiServer">,
  path: string,
  signal?: AbortSignal,
  accept?: string,
): Promise<string> {
  const [ca, cert, key] = await Promise.all(
    ["ca.crt", "admin.crt", "admin.key"].map((name) => readFile(join(layout.pki, name), "utf8")),
  );
  const limit = AbortSignal.timeout(REQUEST_LIMIT_MS);
  const response = await fetch(`${layout.apiServer}${path}`, {
    tls: { ca, cert, key },
    ...(accept ? { headers: { accept } } : {}),
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
    keepalive: false,
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text.slice(0, 300)}`);
  return text;
}

/** Waits until the API server is ready; at once with the reason when a program that it needs has ended. */
export async function awaitApi(
  layout: Layout,
  files: readonly PidFile[],
  signal?: AbortSignal,
  onState?: (state: string) => void,
): Promise<void> {
  let ended: unknown;
  await waitFor(
    async () => {
      for (const file of files) {
        try {
          await mustLive(file, layout.logs);
        } catch (error) {
          ended = error;
          return { done: true, value: false };
        }
      }
      await apiGet(layout, "/readyz", signal);
      return { done: true, value: true };
    },
    {
      what: "the API server to be ready",
      limitMs: API_LIMIT_MS,
      intervalMs: 100,
      signal,
      onState,
      hint: `its log is ${join(layout.logs, "kube-apiserver.log")}`,
    },
  );
  if (ended) throw ended;
}
