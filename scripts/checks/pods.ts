/** Checks of objects and pods: every object exists, every workload is ready, every pod is restricted. */
import { pause } from "../cli/wait.ts";
import { KAFKA, type ProbeSession } from "../clients/probe-session.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod, refOf, type Workload } from "../cluster/cluster.ts";
import { drillLeftovers } from "../cluster/drill-leftovers.ts";
import { influxdbAccess } from "../cluster/external-stores.ts";
import { podState } from "../cluster/one-off-pods.ts";
import { deployedStages } from "../deploy/stages.ts";
import { type Check, type CheckOutcome, failed, outcomeOf, passed } from "./checklist.ts";

/** Workloads of the data path, in its order; autoscalers add pods to the last two at any time. */
export const WORKLOADS = [
  { name: "kafka", kind: "statefulset", scales: false },
  { name: "influxdb", kind: "statefulset", scales: false },
  { name: "processor", kind: "deployment", scales: true },
  { name: "producer", kind: "statefulset", scales: true },
] as const;

/** A pod that the autoscaler just added is Ready within a quarter of a minute; longer on a busy machine. */
const ADDED_POD_LIMIT_MS = 60_000;
const ADDED_POD_POLL_MS = 500;

type SecurityContext = {
  runAsNonRoot?: boolean;
  runAsUser?: number;
  allowPrivilegeEscalation?: boolean;
  readOnlyRootFilesystem?: boolean;
  privileged?: boolean;
  capabilities?: { drop?: string[]; add?: string[] };
  seccompProfile?: { type?: string };
};

/** Violations of the Pod Security Standard "restricted" and of a read-only root file system, one sentence each. */
export function restrictionGaps(pod: Pick<Pod, "spec">): string[] {
  const gaps: string[] = [];
  const podContext = (pod.spec.securityContext ?? {}) as SecurityContext;
  const spec = pod.spec as Pod["spec"] & {
    hostNetwork?: boolean;
    hostPID?: boolean;
    hostIPC?: boolean;
    initContainers?: Pod["spec"]["containers"];
    ephemeralContainers?: Pod["spec"]["containers"];
    volumes?: Record<string, unknown>[];
  };
  if (spec.hostNetwork || spec.hostPID || spec.hostIPC) gaps.push("shares a namespace of the host");
  for (const volume of spec.volumes ?? []) if (volume.hostPath) gaps.push(`mounts a host path (${volume.name})`);
  const containers = [...spec.containers, ...(spec.initContainers ?? []), ...(spec.ephemeralContainers ?? [])];
  for (const container of containers) {
    const context: SecurityContext = { ...podContext, ...(container.securityContext as SecurityContext) };
    const say = (text: string) => gaps.push(`${container.name}: ${text}`);
    if (context.runAsNonRoot !== true || context.runAsUser === 0) say("may run as root");
    if (context.allowPrivilegeEscalation !== false) say("allowPrivilegeEscalation is not false");
    if (context.readOnlyRootFilesystem !== true) say("root file system is not read-only");
    if (context.privileged) say("is privileged");
    if (!context.capabilities?.drop?.includes("ALL")) say("capabilities are not all dropped");
    if ((context.capabilities?.add ?? []).some((name) => name !== "NET_BIND_SERVICE")) say("adds capabilities");
    if (!["RuntimeDefault", "Localhost"].includes(context.seccompProfile?.type ?? "")) say("has no seccomp profile");
  }
  return gaps;
}

const objectsCheck: Check<ProbeSession> = {
  id: "objects",
  title: "every object of k8s/ exists",
  limitMs: 30_000,
  async run({ cluster }) {
    // NetworkPolicies have their own check; each deploy replaces the setup job.
    const { stages, skipped } = await deployedStages(cluster);
    const objects = stages
      .flatMap((stage) => stage.objects)
      .filter(({ kind }) => kind !== "NetworkPolicy" && kind !== "Job");
    const existing = new Set((await cluster.existing(objects)).map(refOf));
    const missing = objects.map(refOf).filter((ref) => !existing.has(ref));
    return missing.length === 0
      ? passed(`${objects.length} objects${skipped.length > 0 ? `; skipped by deploy: ${skipped.join(", ")}` : ""}`)
      : failed(`${missing.length} of ${objects.length} missing: ${missing.join(", ")}`);
  },
};

type Claim = KubernetesObject & { spec: { storageClassName?: string }; status?: { phase?: string } };

/**
 * Claims without a volume, one sentence each, with the reason where the StorageClasses show one.
 * @param classes the StorageClasses of the cluster
 */
export function unboundClaims(claims: readonly Claim[], classes: readonly KubernetesObject[]): string[] {
  const DEFAULT = "storageclass.kubernetes.io/is-default-class";
  const hasDefault = classes.some(({ metadata }) => metadata.annotations?.[DEFAULT] === "true");
  return claims
    .filter(({ status }) => status?.phase !== "Bound")
    .map(({ metadata, spec: { storageClassName: name }, status }) => {
      const isKnown = classes.some((storage) => storage.metadata.name === name);
      const reason = name
        ? isKnown
          ? `class ${name}: kubectl -n ${metadata.namespace} describe pvc ${metadata.name}`
          : `the cluster has no StorageClass ${name}`
        : hasDefault
          ? "created before the cluster had a default StorageClass: delete the claim and its pod"
          : `it names no StorageClass, and none has the annotation ${DEFAULT}: "true"`;
      return `${metadata.name} is ${status?.phase ?? "without a state"} (${reason})`;
    });
}

const volumesCheck: Check<ProbeSession> = {
  id: "volumes",
  title: "every volume claim is bound",
  needs: ["objects"],
  limitMs: 20_000,
  async run({ cluster }) {
    const [claims, classes] = await Promise.all([
      cluster.list<Claim>("persistentvolumeclaims"),
      cluster.list<KubernetesObject>("storageclasses"),
    ]);
    const used = [...new Set(claims.map(({ spec }) => spec.storageClassName || "no class"))].sort();
    return outcomeOf(unboundClaims(claims, classes), `${claims.length} claims of ${used.join(", ")}`);
  },
};

/** Faults of a drill that was killed stay until they are undone: privileged pods, frozen processes, stopped brokers. */
const drillsCheck: Check<ProbeSession> = {
  id: "drills",
  title: "no drill runs, and none was killed",
  needs: ["cluster"],
  limitMs: 20_000,
  async run({ cluster }) {
    const found = await drillLeftovers(cluster);
    return found.length === 0
      ? passed("no leftover")
      : failed(`${found.join("; ")}; if no drill runs now: bun scripts/resilience-test.ts --heal`);
  },
};

/** Whether every replica of a workload is ready, now. */
async function readiness(cluster: Cluster, workload: Workload): Promise<CheckOutcome> {
  const wanted = workload.spec.replicas ?? 1;
  const ready = workload.status?.readyReplicas ?? 0;
  const pods = await cluster.pods(workload.metadata.name);
  const restarts = pods
    .flatMap((pod) => pod.status.containerStatuses ?? [])
    .reduce((sum, status) => sum + status.restartCount, 0);
  if (ready >= wanted && wanted > 0) {
    return passed(`${ready} of ${wanted}, ${restarts} restarts`, { ready, wanted, restarts });
  }
  const states = pods
    .filter((pod) => !pod.status.containerStatuses?.every((status) => status.ready))
    .map((pod) => `${pod.metadata.name} ${podState(pod)}`);
  return failed(`${ready} of ${wanted} ready${states.length > 0 ? `: ${states.join("; ")}` : ""}`);
}

/** Whether an external store answers the pipeline's pods; undefined for an own workload. */
async function externalReadiness(context: ProbeSession, name: string): Promise<CheckOutcome | undefined> {
  const { kafka, influxdb } = await context.stores();
  if (name === "kafka" && kafka) {
    const { result } = await context.probeFrom("admin", { result: { kind: "kafka", ...KAFKA, op: "metadata" } });
    const servers = kafka.brokers.join(", ");
    return result.ok
      ? passed(`external: ${result.detail} answer at ${servers}`)
      : failed(`${servers}: ${result.outcome} ${result.detail}`);
  }
  if (name === "influxdb" && influxdb) {
    const { INFLUX_CA: ca } = influxdbAccess(influxdb).environment;
    const trust = ca === "system" ? {} : { ca };
    const { ping } = await context.probeIn("processor", {
      ping: { kind: "http", url: `${influxdb.url}/ping`, ...trust },
    });
    return ping.ok
      ? passed(`external: ${influxdb.url} answers`)
      : failed(`${influxdb.url}: ${ping.outcome} ${ping.detail}`);
  }
  return undefined;
}

const readyCheck = ({ name, kind, scales }: (typeof WORKLOADS)[number]): Check<ProbeSession> => ({
  id: `${name}-ready`,
  title: `${name}: every replica is ready`,
  needs: ["objects", "certificates", "network-policies"],
  limitMs: ADDED_POD_LIMIT_MS + 20_000,
  async run(context, signal) {
    const { cluster } = context;
    const external = await externalReadiness(context, name);
    if (external) return external;
    const untilMs = performance.now() + (scales ? ADDED_POD_LIMIT_MS : 0);
    for (;;) {
      const workload = await cluster.get<Workload>(kind, name);
      if (!workload) return failed(`no ${kind} ${name}`);
      const outcome = await readiness(cluster, workload);
      if (outcome.ok || performance.now() >= untilMs) return outcome;
      await pause(ADDED_POD_POLL_MS, signal);
    }
  },
});

const restrictedCheck: Check<ProbeSession> = {
  id: "pods-restricted",
  title: "every pod is non-root, read-only and restricted",
  needs: ["objects"],
  limitMs: 30_000,
  async run({ cluster }) {
    const namespace = await cluster.get<KubernetesObject>("namespace", NAMESPACE);
    const enforced = namespace?.metadata.labels?.["pod-security.kubernetes.io/enforce"];
    if (enforced !== "restricted") {
      return failed(`namespace ${NAMESPACE} enforces Pod Security "${enforced ?? "nothing"}", not "restricted"`);
    }
    const pods = await cluster.list<Pod>("pods");
    if (pods.length === 0) return failed("no pod found");
    const gaps = pods.flatMap((pod) => restrictionGaps(pod).map((gap) => `${pod.metadata.name}: ${gap}`));
    return outcomeOf(gaps, `${pods.length} pods`, { pods: pods.length });
  },
};

const confinedCheck: Check<ProbeSession> = {
  id: "pods-confined",
  title: "processes are not root, root file system not writable",
  needs: ["processor-ready", "producer-ready"],
  limitMs: 30_000,
  async run(context) {
    const seen: string[] = [];
    for (const workload of ["processor", "producer"]) {
      const { self } = await context.probeIn(workload, { self: { kind: "self" } });
      if (!self.ok || self.data.uid === undefined) return failed(`${workload}: ${self.outcome} ${self.detail}`);
      const { uid, rootWritable } = self.data;
      if (uid === 0 || rootWritable) {
        return failed(`${workload}: uid ${uid}, root file system ${rootWritable ? "writable" : "read-only"}`);
      }
      seen.push(`${workload} uid ${uid}`);
    }
    return passed(`${seen.join(", ")}, read-only`);
  },
};

export const POD_CHECKS = {
  objects: objectsCheck,
  volumes: volumesCheck,
  drills: drillsCheck,
  ready: WORKLOADS.map(readyCheck),
  restricted: restrictedCheck,
  confined: confinedCheck,
};
