/**
 * The Pod Security Standard "restricted" (version 1.34) for pod templates, and this project's own rules: a read-only
 * root file system, a user above 10000, no automatic service-account token. Each rule is one entry, so that a test can
 * violate each one alone.
 */
import { type Container, containersOf, type PodSpec, type PodTemplate } from "../../scripts/deploy/manifests.ts";

interface SecurityContext {
  privileged?: boolean;
  allowPrivilegeEscalation?: boolean;
  readOnlyRootFilesystem?: boolean;
  runAsNonRoot?: boolean;
  runAsUser?: number;
  runAsGroup?: number;
  procMount?: string;
  capabilities?: { add?: string[]; drop?: string[] };
  seccompProfile?: { type?: string };
  appArmorProfile?: { type?: string };
  seLinuxOptions?: { type?: string; user?: string; role?: string };
  windowsOptions?: { hostProcess?: boolean };
  sysctls?: { name: string }[];
}

const ALLOWED_VOLUMES = new Set([
  "configMap",
  "csi",
  "downwardAPI",
  "emptyDir",
  "ephemeral",
  "persistentVolumeClaim",
  "projected",
  "secret",
]);
const SAFE_SYSCTLS = new Set([
  "kernel.shm_rmid_forced",
  "net.ipv4.ip_local_port_range",
  "net.ipv4.ip_unprivileged_port_start",
  "net.ipv4.tcp_syncookies",
  "net.ipv4.ping_group_range",
  "net.ipv4.ip_local_reserved_ports",
  "net.ipv4.tcp_keepalive_time",
  "net.ipv4.tcp_fin_timeout",
  "net.ipv4.tcp_keepalive_intvl",
  "net.ipv4.tcp_keepalive_probes",
  "net.ipv4.tcp_rmem",
  "net.ipv4.tcp_wmem",
]);
const SELINUX_TYPES = new Set(["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"]);
/** Users of a node have lower ids. */
const LOWEST_UID = 10_000;

type PodRule = (spec: PodSpec, context: SecurityContext) => string | false | undefined;
type ContainerRule = (container: Container, own: SecurityContext, pod: SecurityContext) => string | false | undefined;

const POD_RULES: Record<string, PodRule> = {
  hostNamespaces: (spec) =>
    ["hostNetwork", "hostPID", "hostIPC"]
      .filter((name) => spec[name])
      .map((name) => `${name} is set`)
      .join(", "),
  volumes: (spec) =>
    (spec.volumes ?? [])
      .flatMap((volume) => Object.keys(volume).filter((kind) => kind !== "name" && !ALLOWED_VOLUMES.has(kind)))
      .map((kind) => `volume of kind ${kind}`)
      .join(", "),
  sysctls: (_, { sysctls }) =>
    (sysctls ?? [])
      .filter(({ name }) => !SAFE_SYSCTLS.has(name))
      .map(({ name }) => `sysctl ${name}`)
      .join(", "),
  windows: (_, { windowsOptions }) => windowsOptions?.hostProcess && "hostProcess is set",
  token: (spec) => spec.automountServiceAccountToken !== false && "automountServiceAccountToken is not false",
  serviceLinks: (spec) => spec.enableServiceLinks !== false && "enableServiceLinks is not false",
  account: (spec) =>
    (!spec.serviceAccountName || spec.serviceAccountName === "default") && "no service account of its own",
};

const CONTAINER_RULES: Record<string, ContainerRule> = {
  privileged: (_, { privileged }) => privileged && "privileged",
  escalation: (_, { allowPrivilegeEscalation }) =>
    allowPrivilegeEscalation !== false && "allowPrivilegeEscalation is not false",
  nonRoot: (_, own, pod) => (own.runAsNonRoot ?? pod.runAsNonRoot) !== true && "runAsNonRoot is not true",
  uid: (_, own, pod) => {
    const uid = own.runAsUser ?? pod.runAsUser;
    return (uid === undefined || uid <= LOWEST_UID) && `runAsUser must be above ${LOWEST_UID}; got ${uid}`;
  },
  gid: (_, own, pod) => {
    const gid = own.runAsGroup ?? pod.runAsGroup;
    return (gid === undefined || gid <= LOWEST_UID) && `runAsGroup must be above ${LOWEST_UID}; got ${gid}`;
  },
  dropAll: (_, { capabilities }) => !capabilities?.drop?.includes("ALL") && "capabilities are not all dropped",
  addNone: (_, { capabilities }) =>
    (capabilities?.add ?? [])
      .filter((name) => name !== "NET_BIND_SERVICE")
      .map((name) => `adds capability ${name}`)
      .join(", "),
  seccomp: (_, own, pod) => {
    const type = (own.seccompProfile ?? pod.seccompProfile)?.type;
    return type !== "RuntimeDefault" && type !== "Localhost" && `seccompProfile is ${type ?? "not set"}`;
  },
  appArmor: (_, own, pod) => {
    const type = (own.appArmorProfile ?? pod.appArmorProfile)?.type;
    return type !== undefined && type !== "RuntimeDefault" && type !== "Localhost" && `appArmorProfile is ${type}`;
  },
  seLinux: (_, own, pod) => {
    const options = own.seLinuxOptions ?? pod.seLinuxOptions;
    if (!options) return undefined;
    return (
      (!SELINUX_TYPES.has(options.type ?? "") || options.user || options.role) && "seLinuxOptions beyond the allowed"
    );
  },
  procMount: (_, { procMount }) => procMount !== undefined && procMount !== "Default" && `procMount is ${procMount}`,
  hostPorts: ({ ports }) =>
    ((ports ?? []) as { hostPort?: number }[])
      .filter(({ hostPort }) => hostPort)
      .map(({ hostPort }) => `host port ${hostPort}`)
      .join(", "),
  readOnly: (_, { readOnlyRootFilesystem }) => readOnlyRootFilesystem !== true && "root file system is not read-only",
};

/** The violated rules, one line each; empty for a restricted pod. */
export function violationsOf({ spec }: PodTemplate): string[] {
  const pod = (spec.securityContext ?? {}) as SecurityContext;
  const found: string[] = [];
  for (const [rule, check] of Object.entries(POD_RULES)) {
    const problem = check(spec, pod);
    if (problem) found.push(`${rule}: ${problem}`);
  }
  const all = [...containersOf(spec), ...((spec.ephemeralContainers ?? []) as Container[])];
  for (const container of all) {
    const own = (container.securityContext ?? {}) as SecurityContext;
    for (const [rule, check] of Object.entries(CONTAINER_RULES)) {
      const problem = check(container, own, pod);
      if (problem) found.push(`${rule}: ${container.name}: ${problem}`);
    }
  }
  return found;
}

export const RULE_NAMES = [...Object.keys(POD_RULES), ...Object.keys(CONTAINER_RULES)];
