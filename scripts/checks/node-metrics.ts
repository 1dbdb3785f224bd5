/**
 * Check of the metrics of nodes and volumes, which the kubelets serve. Not every cluster can serve them: the check is then
 * skipped with the reason. The reason is always identified (the error of a scrape, the kind of a volume); a metric that is
 * absent without one fails the check.
 */
import { type PollResult, waitFor } from "../cli/wait.ts";
import { KUBELET_JOB, unverifiableKubelets } from "../clients/kubelets.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import { isPrometheusExternal, PrometheusReader } from "../clients/prometheus.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import { deployedStages, NODE_STAGES } from "../deploy/stages.ts";
import { type Check, type CheckOutcome, failed, passed, skipped } from "./checklist.ts";
import { METRICS_LIMIT_MS, movedNames, namesByJob, targetsNotUp } from "./signals.ts";

/** Container metrics of the kubelets; the first must rise. */
const CONTAINER_METRICS = ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes"] as const;
const VOLUME_METRIC = "kubelet_volume_stats_available_bytes";

/** A kubelet measures a volume once a minute, Prometheus scrapes it every 15 s. */
const VOLUME_MEASURED_MS = 120_000;

export interface Claim extends KubernetesObject {
  spec: { volumeName?: string };
}
export interface PersistentVolume extends KubernetesObject {
  spec: { hostPath?: object; csi?: { driver: string } };
}

/** What provides a volume, where not everything of that kind has statistics; undefined for kinds that always have them. */
function providerOf({ spec }: PersistentVolume): string | undefined {
  return spec.hostPath ? "hostPath" : spec.csi && `CSI driver ${spec.csi.driver}`;
}

/**
 * Claims of running pods that Prometheus has no statistics of.
 * @param pods the running pods
 * @param measured names of the claims that have statistics
 * @returns byProvider: claims whose provider has none at all, by provider. hostPath volumes never have statistics; a CSI driver
 *   need not provide them, which shows when none of its volumes was measured in time. missing: the other claims
 */
export function unmeasuredClaims(
  pods: readonly Pod[],
  claims: readonly Claim[],
  volumes: readonly PersistentVolume[],
  measured: ReadonlySet<string>,
  nowMs: number,
): { byProvider: Map<string, string[]>; missing: string[] } {
  const since = new Map<string, number>();
  for (const { spec, status } of pods) {
    for (const volume of (spec as { volumes?: { persistentVolumeClaim?: { claimName: string } }[] }).volumes ?? []) {
      const claim = volume.persistentVolumeClaim?.claimName;
      if (claim) since.set(claim, Date.parse((status as { startTime?: string }).startTime ?? ""));
    }
  }
  const mounted = claims
    .filter(({ metadata }) => since.has(metadata.name))
    .map(({ metadata, spec }) => {
      const volume = volumes.find((one) => one.metadata.name === spec.volumeName);
      return { name: metadata.name, provider: volume && providerOf(volume) };
    });
  const isOld = (name: string) => nowMs - since.get(name)! >= VOLUME_MEASURED_MS;
  const hasNone = (provider: string) => {
    const own = mounted.filter((claim) => claim.provider === provider).map(({ name }) => name);
    return !own.some((name) => measured.has(name)) && (provider === "hostPath" || own.some(isOld));
  };
  const absent = mounted.filter(({ name }) => !measured.has(name));
  const unserved = absent.filter(({ provider }) => provider !== undefined && hasNone(provider));
  const byProvider = Map.groupBy(unserved, ({ provider }) => provider!);
  return {
    byProvider: new Map([...byProvider].map(([provider, own]) => [provider, own.map(({ name }) => name).sort()])),
    missing: absent.filter((claim) => !unserved.includes(claim)).map(({ name }) => name),
  };
}

interface Readings {
  targets: number;
  byProvider: Map<string, string[]>;
}

/** What the kubelets serve now, or what is missing. */
async function readNodes(
  cluster: Cluster,
  prometheus: PrometheusReader,
  signal: AbortSignal,
): Promise<PollResult<Readings | string>> {
  const targets = (await prometheus.targets(signal)).filter(({ labels }) => labels.job === KUBELET_JOB);
  const unverifiable = unverifiableKubelets(targets);
  if (unverifiable) return { done: true, value: unverifiable };
  const [pods, claims, volumes] = await Promise.all([
    cluster.list<Pod>("pods"),
    cluster.list<Claim>("persistentvolumeclaims"),
    cluster.list<PersistentVolume>("persistentvolumes"),
  ]);
  const measured = await prometheus.query(`${VOLUME_METRIC}{namespace="${NAMESPACE}"}`, signal);
  const running = pods.filter(({ status }) => status.phase === "Running");
  const names = new Set(measured.map(({ labels }) => labels.persistentvolumeclaim ?? ""));
  const { byProvider, missing } = unmeasuredClaims(running, claims, volumes, names, Date.now());
  const present = (await namesByJob(prometheus, CONTAINER_METRICS, signal)).get(KUBELET_JOB);
  const moved = (await movedNames(prometheus, CONTAINER_METRICS.slice(0, 1), signal)).get(KUBELET_JOB);
  const problems = [
    ...(targets.length === 0 ? ["no target of the kubelets"] : targetsNotUp(targets)),
    ...CONTAINER_METRICS.filter((name) => !present?.has(name)).map((name) => `no ${name}`),
    ...(moved ? [] : [`did not rise: ${CONTAINER_METRICS[0]}`]),
    ...(missing.length > 0 ? [`no ${VOLUME_METRIC} of ${missing.join(", ")}`] : []),
  ];
  return problems.length > 0
    ? { done: false, state: problems.join("; ") }
    : { done: true, value: { targets: targets.length, byProvider } };
}

/** The outcome for what was read. @param hasAlerts deploy has applied the alerts about the kubelets */
export function nodeOutcome(read: Readings | string, hasAlerts: boolean): CheckOutcome {
  if (typeof read === "string") {
    return hasAlerts
      ? failed(
          `${read}; the alerts about them are deployed: bun scripts/deploy.ts decides again, --node-metrics off removes them`,
        )
      : skipped(read);
  }
  if (!hasAlerts) return skipped("Prometheus reads the kubelets now: bun scripts/deploy.ts adds the alerts about them");
  if (read.byProvider.size === 0)
    return passed(`${read.targets} targets of the kubelets, every mounted volume measured`);
  const blind = [...read.byProvider].map(([provider, names]) => `${provider}: ${names.join(", ")}`).join("; ");
  return skipped(
    `containers are measured, but not these volumes, whose kind has no statistics: ${blind}; the alerts VolumeFilling and VolumeFullWithinADay cannot fire for them; to have them: a StorageClass with statistics (docs/observability.md)`,
  );
}

export const nodeMetricsCheck: Check<ProbeSession> = {
  id: "node-metrics",
  title: "kubelets: metrics of containers and volumes",
  needs: ["objects"],
  limitMs: METRICS_LIMIT_MS + 20_000,
  async run({ cluster }, signal) {
    const { skipped: left } = await deployedStages(cluster);
    if (await isPrometheusExternal(cluster))
      return skipped("what an external Prometheus scrapes of nodes is its owner's");
    if (!(await PrometheusReader.isDeployed(cluster))) return skipped("they need Prometheus, which is not deployed");
    if (left.includes(NODE_STAGES.jobs)) {
      return skipped(
        "switched off by deploy --node-metrics off; bun scripts/deploy.ts --node-metrics auto has them again",
      );
    }
    await using prometheus = await PrometheusReader.open(cluster);
    const read = await waitFor(async () => await readNodes(cluster, prometheus, signal), {
      what: "the metrics of the kubelets",
      limitMs: METRICS_LIMIT_MS,
      intervalMs: 3000,
      signal,
    });
    return nodeOutcome(read, !left.includes(NODE_STAGES.alerts));
  },
};
