/**
 * The one list of what is applied, in which order, and what is awaited before the next: deploy reads it forward,
 * destroy backward, validate as its checklist. Every file of k8s/ stands in exactly one stage.
 */
import type { KubernetesObject } from "../cluster/cluster.ts";
import { imagesOf, loadManifestFiles, MANIFEST_FOLDER } from "./manifests.ts";

export interface Await {
  kind: "StatefulSet" | "Deployment" | "DaemonSet" | "Job";
  name: string;
  /** The pipeline's when absent. */
  namespace?: string;
  /** rolled-out: every replica is of the newest template and ready. complete: the job has succeeded. */
  condition: "rolled-out" | "complete";
  /** How long that may take, in milliseconds. */
  limitMs: number;
}

export interface StageSpec {
  name: string;
  /** What a person reads while it runs. */
  title: string;
  /** Below k8s/, in the order in which they are applied. */
  files: readonly string[];
  /** All of them are awaited at the same time. */
  awaits: readonly Await[];
  /** The pipeline works without it: where one of its images cannot be had it is left out, by name. */
  optional?: true;
  /** A group and version that an operator adds to the API server; where that is not there the stage is left out. */
  needsApi?: string;
  /** How a person gets that API. */
  install?: string;
  /** Name of a stage without which this one cannot do its work: it is left out together with that one. */
  needsStage?: string;
  /** Name of a stage that cannot be on every cluster: this one is applied where that one is left out, and only there. */
  standsInFor?: string;
}

/** A stage that was not applied, and why. */
export interface SkippedStage {
  stage: string;
  reason: string;
  /** What a person can do about it. */
  install?: string;
  /** The stage that is applied in its place. */
  standIn?: string;
  /** True for a stand-in that is not needed: nothing that a person has to know. */
  notNeeded?: true;
}

/**
 * Over the Namespace, names separated by commas: the stages that the last deploy left out, so that validate knows what
 * to look for. One that it kept running without applying it (possible-stages.ts) is none of them.
 */
export const SKIPPED_STAGES = "conveyor.dev/left-out";

export interface Stage extends StageSpec {
  objects: KubernetesObject[];
}

/** From nothing three brokers take about 16 s on two cores; logs of an unclean stop are read first, which takes longer. */
const BROKERS_LIMIT_MS = 300_000;
/** Seconds with little data; with full volumes the write-ahead log is read first. */
const DATABASE_LIMIT_MS = 300_000;
/** The setup job gives up by itself after 240 s, and is started again then. */
const SETUP_LIMIT_MS = 600_000;
/** A service starts within a second; its readiness waits for Kafka, and on a busy machine for a core. */
const SERVICE_LIMIT_MS = 120_000;
/** Loki waits 15 s for its ring before it is ready, and reads its write-ahead log first; Grafana makes its database. */
const LOOK_LIMIT_MS = 300_000;

/** What KEDA's own documentation installs, in the version that was tried. */
const KEDA_RELEASE = "https://github.com/kedacore/keda/releases/download/v2.20.2/keda-2.20.2.yaml";

export const STAGES: readonly StageSpec[] = [
  {
    name: "foundation",
    title: "namespace, accounts, network policies",
    files: [
      "namespace.yaml",
      "rbac.yaml",
      // Before any pod is there: none ever runs without them.
      "network/default-deny-networkpolicy.yaml",
      "network/allow-dns-networkpolicy.yaml",
      "network/kafka-networkpolicy.yaml",
      "network/influxdb-networkpolicy.yaml",
      "network/setup-networkpolicy.yaml",
      "network/processor-networkpolicy.yaml",
      "network/producer-networkpolicy.yaml",
      "network/ingest-networkpolicy.yaml",
      "network/observer-networkpolicy.yaml",
      "network/load-generator-networkpolicy.yaml",
    ],
    awaits: [],
  },
  {
    name: "secrets",
    title: "certificates and secrets",
    files: [
      "tls/kafka-tls-secret.yaml",
      "tls/influxdb-tls-secret.yaml",
      "tls/producer-tls-secret.yaml",
      "tls/processor-tls-secret.yaml",
      "tls/lag-exporter-tls-secret.yaml",
      "tls/admin-tls-secret.yaml",
      "kafka/kafka-cluster-id-secret.yaml",
      "influxdb/influxdb-admin-secret.yaml",
      "influxdb/influxdb-token-processor-secret.yaml",
      "influxdb/influxdb-token-reader-secret.yaml",
      "producer/producer-intake-secret.yaml",
    ],
    awaits: [],
  },
  {
    name: "stores",
    title: "Kafka and InfluxDB",
    files: [
      "kafka/kafka-configmap.yaml",
      "kafka/kafka-metrics-configmap.yaml",
      "kafka/kafka-headless-service.yaml",
      "kafka/kafka-service.yaml",
      "kafka/kafka-pdb.yaml",
      "kafka/kafka-statefulset.yaml",
      "influxdb/influxdb-configmap.yaml",
      "influxdb/influxdb-headless-service.yaml",
      "influxdb/influxdb-service.yaml",
      "influxdb/influxdb-pdb.yaml",
      "influxdb/influxdb-statefulset.yaml",
    ],
    awaits: [
      { kind: "StatefulSet", name: "kafka", condition: "rolled-out", limitMs: BROKERS_LIMIT_MS },
      { kind: "StatefulSet", name: "influxdb", condition: "rolled-out", limitMs: DATABASE_LIMIT_MS },
    ],
  },
  {
    name: "setup",
    title: "topics, access rights, bucket, tokens",
    files: ["setup/setup-job.yaml"],
    awaits: [{ kind: "Job", name: "setup", condition: "complete", limitMs: SETUP_LIMIT_MS }],
  },
  {
    name: "processor",
    title: "processor",
    files: [
      "processor/processor-headless-service.yaml",
      "processor/processor-service.yaml",
      "processor/processor-pdb.yaml",
      "processor/processor-deployment.yaml",
    ],
    awaits: [{ kind: "Deployment", name: "processor", condition: "rolled-out", limitMs: SERVICE_LIMIT_MS }],
  },
  {
    name: "producer",
    title: "producer",
    files: [
      "producer/producer-headless-service.yaml",
      "producer/producer-service.yaml",
      "producer/producer-pdb.yaml",
      "producer/producer-statefulset.yaml",
      "producer/hpa.yaml",
    ],
    awaits: [{ kind: "StatefulSet", name: "producer", condition: "rolled-out", limitMs: SERVICE_LIMIT_MS }],
  },
  {
    name: "lag-exporter",
    title: "lag exporter",
    files: [
      "network/lag-exporter-networkpolicy.yaml",
      "lag-exporter/lag-exporter-serviceaccount.yaml",
      "lag-exporter/lag-exporter-service.yaml",
      "lag-exporter/lag-exporter-pdb.yaml",
      "lag-exporter/lag-exporter-deployment.yaml",
    ],
    awaits: [{ kind: "Deployment", name: "lag-exporter", condition: "rolled-out", limitMs: SERVICE_LIMIT_MS }],
  },
  {
    name: "logging",
    title: "logs: Loki and Promtail",
    files: [
      "network/loki-networkpolicy.yaml",
      "tls/loki-tls-secret.yaml",
      "logging/loki-serviceaccount.yaml",
      "logging/loki-configmap.yaml",
      "logging/loki-pvc.yaml",
      "logging/loki-service.yaml",
      "logging/loki-pdb.yaml",
      "logging/loki-deployment.yaml",
      "logging/logging-namespace.yaml",
      "network/promtail-networkpolicy.yaml",
      "logging/promtail-rbac.yaml",
      "logging/promtail-tls-secret.yaml",
      "logging/promtail-configmap.yaml",
      "logging/promtail-service.yaml",
      "logging/promtail-daemonset.yaml",
      "prometheus/prometheus-logging.yaml",
      "prometheus/rules/logging.yaml",
    ],
    awaits: [
      { kind: "Deployment", name: "loki", condition: "rolled-out", limitMs: LOOK_LIMIT_MS },
      {
        kind: "DaemonSet",
        name: "promtail",
        namespace: "conveyor-logging",
        condition: "rolled-out",
        limitMs: LOOK_LIMIT_MS,
      },
    ],
    optional: true,
  },
  {
    name: "grafana",
    title: "Grafana",
    files: [
      "network/grafana-networkpolicy.yaml",
      "tls/grafana-tls-secret.yaml",
      "grafana/grafana-admin-secret.yaml",
      "grafana/grafana-serviceaccount.yaml",
      "grafana/grafana-configmap.yaml",
      "grafana/dashboards/kustomization.yaml",
      "grafana/grafana-service.yaml",
      "grafana/grafana-pdb.yaml",
      "grafana/grafana-deployment.yaml",
    ],
    awaits: [{ kind: "Deployment", name: "grafana", condition: "rolled-out", limitMs: LOOK_LIMIT_MS }],
    optional: true,
  },
  {
    name: "metrics",
    // Behind the tiers that bring jobs and rules of their own: Prometheus reads its configuration when it starts.
    title: "metrics and alerts: Prometheus, Alertmanager, kube-state-metrics",
    files: [
      "network/allow-scrape-networkpolicy.yaml",
      "network/prometheus-networkpolicy.yaml",
      "network/alertmanager-networkpolicy.yaml",
      "network/kube-state-metrics-networkpolicy.yaml",
      "tls/prometheus-tls-secret.yaml",
      "tls/alertmanager-tls-secret.yaml",
      "tls/kube-state-metrics-tls-secret.yaml",
      "prometheus/prometheus-rbac.yaml",
      "prometheus/kube-state-metrics-rbac.yaml",
      "prometheus/kube-state-metrics-configmap.yaml",
      "prometheus/kube-state-metrics-service.yaml",
      "prometheus/kube-state-metrics-pdb.yaml",
      "prometheus/kube-state-metrics-deployment.yaml",
      "prometheus/alertmanager-serviceaccount.yaml",
      "prometheus/alertmanager-receiver-secret.yaml",
      "prometheus/alertmanager-configmap.yaml",
      "prometheus/alertmanager-headless-service.yaml",
      "prometheus/alertmanager-service.yaml",
      "prometheus/alertmanager-pdb.yaml",
      "prometheus/alertmanager-statefulset.yaml",
      "prometheus/rules/slo.yaml",
      "prometheus/rules/kafka.yaml",
      "prometheus/rules/processor.yaml",
      "prometheus/rules/producer.yaml",
      "prometheus/rules/influxdb.yaml",
      "prometheus/rules/kubernetes.yaml",
      "prometheus/rules/monitoring.yaml",
      "prometheus/prometheus-configmap.yaml",
      "prometheus/prometheus-pvc.yaml",
      "prometheus/prometheus-service.yaml",
      "prometheus/prometheus-pdb.yaml",
      "prometheus/prometheus-deployment.yaml",
    ],
    awaits: [
      { kind: "Deployment", name: "kube-state-metrics", condition: "rolled-out", limitMs: LOOK_LIMIT_MS },
      { kind: "StatefulSet", name: "alertmanager", condition: "rolled-out", limitMs: LOOK_LIMIT_MS },
      { kind: "Deployment", name: "prometheus", condition: "rolled-out", limitMs: LOOK_LIMIT_MS },
    ],
    optional: true,
  },
  {
    name: "autoscaling-keda",
    // Behind Prometheus, which it asks.
    title: "autoscaling of the processor: KEDA, by lag and CPU",
    files: [
      "network/keda-networkpolicy.yaml",
      "processor/processor-scaling-configmap.yaml",
      "processor/processor-triggerauthentication.yaml",
      "processor/processor-scaledobject.yaml",
    ],
    awaits: [],
    needsApi: "keda.sh/v1alpha1",
    install: `kubectl apply --server-side -f ${KEDA_RELEASE}`,
    needsStage: "metrics",
  },
  {
    name: "autoscaling-cpu",
    title: "autoscaling of the processor: by CPU alone",
    files: ["processor/processor-hpa.yaml"],
    awaits: [],
    standsInFor: "autoscaling-keda",
  },
  {
    name: "service-monitors",
    title: "ServiceMonitors for prometheus-operator",
    files: ["prometheus/servicemonitor.yaml"],
    awaits: [],
    needsApi: "monitoring.coreos.com/v1",
  },
];

/**
 * The stages with their objects, in order.
 * @throws Error that names a file in no stage, in two, or that is not there.
 */
export async function loadStages(folder = MANIFEST_FOLDER): Promise<Stage[]> {
  const files = new Map((await loadManifestFiles(folder)).map(({ path, objects }) => [path, objects]));
  const stages = STAGES.map((stage) => ({
    ...stage,
    objects: stage.files.flatMap((path) => {
      const objects = files.get(path);
      if (!objects) throw new Error(`stage ${stage.name}: k8s/${path} is not there, or stands in two stages`);
      files.delete(path);
      return objects;
    }),
  }));
  const left = [...files.keys()];
  if (left.length > 0) throw new Error(`in no stage of scripts/deploy/stages.ts: ${left.join(", ")}`);
  return stages;
}

/**
 * Stages that cannot be on this cluster: an optional one without an image, one whose API the server does not know or
 * nobody works on, one that rests on such a stage; and the stand-ins of all stages that can.
 * @param idleApis APIs that the server knows and whose operator does not work, with the reason
 */
export function skippedStages(
  stages: readonly Stage[],
  missingImages: ReadonlySet<string>,
  apiVersions: ReadonlySet<string>,
  idleApis: ReadonlyMap<string, string> = new Map(),
): SkippedStage[] {
  const left = new Map<string, SkippedStage>();
  // In the order of the list: what a stage rests on stands before it, and so does what it stands in for.
  for (const stage of stages) {
    const reason = whyLeftOut(stage, missingImages, apiVersions, idleApis, left);
    if (reason) left.set(stage.name, { stage: stage.name, ...reason });
    const replaced = stage.standsInFor ? left.get(stage.standsInFor) : undefined;
    if (replaced && !reason) replaced.standIn = stage.name;
  }
  return [...left.values()];
}

function whyLeftOut(
  stage: Stage,
  missingImages: ReadonlySet<string>,
  apiVersions: ReadonlySet<string>,
  idleApis: ReadonlyMap<string, string>,
  left: ReadonlyMap<string, SkippedStage>,
): Omit<SkippedStage, "stage"> | undefined {
  if (stage.standsInFor && !left.has(stage.standsInFor)) {
    return { reason: `${stage.standsInFor} is there`, notNeeded: true };
  }
  if (stage.needsStage && left.has(stage.needsStage)) return { reason: `${stage.needsStage} is left out` };
  if (stage.needsApi) {
    const idle = idleApis.get(stage.needsApi);
    const reason = !apiVersions.has(stage.needsApi)
      ? `the cluster has no ${stage.needsApi}`
      : idle && `the cluster has ${stage.needsApi}, but nobody works on it: ${idle}`;
    if (reason) return { reason, ...(stage.install ? { install: stage.install } : {}) };
  }
  const reason = whyNoImage(stage, missingImages);
  return reason ? { reason } : undefined;
}

/** Which images an optional stage lacks; undefined where it has them all, and for one that is not optional. */
export function whyNoImage(stage: Stage, missingImages: ReadonlySet<string>): string | undefined {
  const missing = stage.optional ? imagesOf(stage.objects).filter((image) => missingImages.has(image)) : [];
  return missing.length > 0 ? `no image ${missing.join(", ")}` : undefined;
}

/** One line for a person about a stage that was left out; undefined where there is nothing to know. */
export function describeSkipped({ stage, reason, install, standIn, notNeeded }: SkippedStage): string | undefined {
  if (notNeeded) return undefined;
  return `left out: ${stage} (${reason}${install ? `; to get it: ${install}` : ""})${standIn ? `; ${standIn} stands in` : ""}`;
}
