/**
 * The stages of a deploy: what is applied, in which order, and what is awaited before the next stage. Deploy reads the
 * list forward, destroy backward, validate as its checklist. Every file of k8s/ belongs to exactly one stage.
 */
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { readExternalStores } from "../cluster/external-stores.ts";
import { EXPOSE_MODES, type ExposeMode, exposureOf } from "../cluster/intake-exposure.ts";
import { METRICS_API, METRICS_API_INSTALL } from "./autoscalers.ts";
import { withExposure } from "./expose.ts";
import { withExternal } from "./external.ts";
import { loadManifestFiles, MANIFEST_FOLDER } from "./manifests.ts";
import { OPERATOR_API, prometheusRules } from "./operator-rules.ts";

export interface StageSpec {
  name: string;
  /** Title of the progress line. */
  title: string;
  /** Paths below k8s/, in the order in which they are applied. */
  files: readonly string[];
  /** How long its workloads may take to be ready, in milliseconds; they are awaited concurrently. */
  limitMs?: number;
  /** The pipeline works without this stage; it is skipped where one of its images is missing. */
  optional?: true;
  /** Group and version that an operator adds to the API server; without it the stage is skipped. */
  needsApi?: string;
  /** Command that installs that API. */
  install?: string;
  /** Name of a stage that this one depends on; it is skipped where neither that stage nor its fallback is applied. */
  needsStage?: string;
  /** Name of the stage that this one replaces: it is applied where that stage is skipped, and only there. */
  fallbackFor?: string;
  /** Name of a stage whose alert rules this one contains as PrometheusRules (operator-rules.ts). */
  rulesOf?: string;
  /** Values of `deploy --expose` with which the stage is applied; with others it is left out (expose.ts). */
  exposes?: readonly ExposeMode[];
}

/** The stages of the log tier, by the value of `deploy --logs`. Exactly one is applied where its images are available. */
export const LOG_STAGES = { loki: "logging", victorialogs: "logging-victorialogs" } as const;
export type LogTier = keyof typeof LOG_STAGES;

/**
 * Annotation of the Namespace: names of the stages that the last deploy skipped, separated by commas. validate does not
 * expect their objects. A stage that deploy kept running without applying it is not among them.
 */
export const SKIPPED_STAGES = "conveyor.dev/left-out";

/**
 * Stages of the metrics of nodes and volumes: the kubelets' scrape jobs, and the alerts about them. Not every cluster can serve
 * them.
 */
export const NODE_STAGES = { jobs: "node-metrics", alerts: "node-alerts" } as const;

/**
 * Values of `deploy --node-metrics`. auto: the alerts are left out where no kubelet's certificate can be verified; on: they are
 * deployed in any case; off: nothing scrapes the kubelets.
 */
export const NODE_METRICS = ["auto", "on", "off"] as const;
export type NodeMetrics = (typeof NODE_METRICS)[number];

export interface Stage extends StageSpec {
  objects: KubernetesObject[];
  /** Not applied; what the last deploy has applied of it is removed, for this reason. */
  closedBy?: string;
}

/** Kafka starts in about 16 s on two cores; after an unclean stop brokers and database read their logs first. */
const STORES_LIMIT_MS = 300_000;
/** The setup job ends after 240 s at most and is restarted once. */
const SETUP_LIMIT_MS = 600_000;
/** A service starts within a second; its readiness depends on Kafka and, on a busy machine, on CPU time. */
const SERVICE_LIMIT_MS = 120_000;
/** Loki reads its write-ahead log and waits 15 s for its ring; Grafana migrates its database. */
const MONITORING_LIMIT_MS = 300_000;

/** The manifest that KEDA's documentation installs, in the tested version. */
const KEDA_RELEASE = "https://github.com/kedacore/keda/releases/download/v2.20.2/keda-2.20.2.yaml";

/** The stage of namespace, service accounts and network policies. */
export const FOUNDATION = "foundation";

export const STAGES: readonly StageSpec[] = [
  {
    name: FOUNDATION,
    title: "namespace, service accounts, network policies",
    files: [
      "foundation/namespace.yaml",
      "foundation/rbac.yaml",
      "foundation/logging-namespace.yaml",
      "foundation/logging-default-serviceaccount.yaml",
      // Applied before any pod exists, so that no pod runs without its policies.
      "network/default-deny-networkpolicy.yaml",
      "network/logging-default-deny-networkpolicy.yaml",
      "network/allow-dns-networkpolicy.yaml",
      "network/logging-allow-dns-networkpolicy.yaml",
      "network/kafka-networkpolicy.yaml",
      "network/influxdb-networkpolicy.yaml",
      "network/setup-networkpolicy.yaml",
      "network/processor-networkpolicy.yaml",
      "network/producer-networkpolicy.yaml",
      "network/ingest-networkpolicy.yaml",
      "network/observer-networkpolicy.yaml",
      "network/load-generator-networkpolicy.yaml",
      // For the Prometheus of others too.
      "network/allow-scrape-networkpolicy.yaml",
    ],
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
      // The ServiceMonitors name it: for the Prometheus of others too.
      "tls/prometheus-tls-secret.yaml",
      "kafka/kafka-cluster-id-secret.yaml",
      "influxdb/influxdb-admin-secret.yaml",
      "influxdb/influxdb-token-processor-secret.yaml",
      "influxdb/influxdb-token-reader-secret.yaml",
      "producer/producer-intake-secret.yaml",
    ],
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
    limitMs: STORES_LIMIT_MS,
  },
  {
    name: "setup",
    title: "topics, access rights, bucket, tokens",
    files: ["setup/setup-job.yaml"],
    limitMs: SETUP_LIMIT_MS,
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
    limitMs: SERVICE_LIMIT_MS,
  },
  {
    name: "producer",
    title: "producer",
    files: [
      "producer/producer-headless-service.yaml",
      "producer/producer-service.yaml",
      "producer/producer-pdb.yaml",
      "producer/producer-statefulset.yaml",
    ],
    limitMs: SERVICE_LIMIT_MS,
  },
  {
    name: "expose",
    // After the producers, which then present the certificate with the names of the outside.
    title: "network policy of the intake for senders outside the cluster",
    files: ["network/expose/intake-networkpolicy.yaml"],
    exposes: EXPOSE_MODES,
  },
  {
    name: "expose-loadbalancer",
    title: "intake: Service of type LoadBalancer",
    files: ["producer/expose/loadbalancer/intake-loadbalancer-service.yaml"],
    exposes: ["loadbalancer"],
  },
  {
    name: "expose-nodeport",
    title: "intake: Service of type NodePort",
    files: ["producer/expose/nodeport/intake-nodeport-service.yaml"],
    exposes: ["nodeport"],
  },
  {
    name: "expose-gateway",
    title: "intake: TLSRoute of a Gateway",
    files: ["producer/expose/gateway/intake-tlsroute.yaml"],
    exposes: ["gateway"],
  },
  {
    name: "autoscaling-producer",
    title: "autoscaling of the producer: by CPU",
    files: ["producer/hpa.yaml"],
    needsApi: METRICS_API,
    install: METRICS_API_INSTALL,
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
    limitMs: SERVICE_LIMIT_MS,
  },
  {
    name: "logging",
    title: "logs: Loki and Promtail",
    files: [
      "network/loki/loki-networkpolicy.yaml",
      "tls/loki-tls-secret.yaml",
      "logging/loki-serviceaccount.yaml",
      "logging/loki-configmap.yaml",
      "logging/loki-pvc.yaml",
      "logging/loki-service.yaml",
      "logging/loki-pdb.yaml",
      "logging/loki-deployment.yaml",
      "network/loki/promtail-networkpolicy.yaml",
      "logging/promtail-rbac.yaml",
      "logging/promtail-tls-secret.yaml",
      "logging/promtail-configmap.yaml",
      "logging/promtail-service.yaml",
      "logging/promtail-daemonset.yaml",
    ],
    limitMs: MONITORING_LIMIT_MS,
    optional: true,
  },
  {
    name: "logging-victorialogs",
    title: "logs: VictoriaLogs and vlagent",
    files: [
      "network/victorialogs/victorialogs-networkpolicy.yaml",
      "tls/victorialogs-tls-secret.yaml",
      "logging/victorialogs/victorialogs-serviceaccount.yaml",
      "logging/victorialogs/victorialogs-pvc.yaml",
      "logging/victorialogs/victorialogs-service.yaml",
      "logging/victorialogs/victorialogs-pdb.yaml",
      "logging/victorialogs/victorialogs-deployment.yaml",
      "network/victorialogs/vlagent-networkpolicy.yaml",
      "logging/victorialogs/vlagent-rbac.yaml",
      "logging/victorialogs/vlagent-tls-secret.yaml",
      "logging/victorialogs/vlagent-service.yaml",
      "logging/victorialogs/vlagent-daemonset.yaml",
    ],
    limitMs: MONITORING_LIMIT_MS,
    optional: true,
    fallbackFor: "logging",
  },
  {
    name: "logging-alerts",
    title: "alerts of the log tier",
    files: ["prometheus/rules/logs/logging.yaml"],
    needsStage: "logging",
  },
  {
    name: "grafana",
    title: "Grafana",
    files: [
      "network/grafana/grafana-networkpolicy.yaml",
      "tls/grafana-tls-secret.yaml",
      "grafana/grafana-admin-secret.yaml",
      "grafana/grafana-serviceaccount.yaml",
      "grafana/grafana-configmap.yaml",
      "grafana/dashboards/kustomization.yaml",
      "grafana/grafana-service.yaml",
      "grafana/grafana-pdb.yaml",
      "grafana/grafana-deployment.yaml",
    ],
    limitMs: MONITORING_LIMIT_MS,
    optional: true,
  },
  {
    name: "node-metrics",
    title: "metrics of nodes and volumes: scrape jobs of the kubelets",
    files: [
      "network/nodes/prometheus-nodes-networkpolicy.yaml",
      "prometheus/nodes/prometheus-nodes-rbac.yaml",
      "prometheus/nodes/prometheus-nodes-configmap.yaml",
    ],
  },
  {
    name: "node-alerts",
    title: "alerts about the kubelets",
    files: ["prometheus/rules/nodes/nodes.yaml"],
    needsStage: "node-metrics",
  },
  {
    name: "metrics",
    // After the stages that add scrape jobs and rules: Prometheus reads its configuration at start.
    title: "metrics and alerts: Prometheus, Alertmanager, kube-state-metrics",
    files: [
      "network/prometheus-networkpolicy.yaml",
      "network/alertmanager-networkpolicy.yaml",
      "network/kube-state-metrics-networkpolicy.yaml",
      "tls/alertmanager-tls-secret.yaml",
      "tls/kube-state-metrics-tls-secret.yaml",
      "prometheus/prometheus-rbac.yaml",
      "prometheus/prometheus-logging-rbac.yaml",
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
    limitMs: MONITORING_LIMIT_MS,
    optional: true,
  },
  {
    name: "autoscaling-keda",
    // After Prometheus, which KEDA queries.
    title: "autoscaling of the processor: KEDA, by lag and CPU",
    files: [
      "network/keda/keda-networkpolicy.yaml",
      "processor/keda/processor-scaling-configmap.yaml",
      "processor/keda/processor-triggerauthentication.yaml",
      "processor/keda/processor-scaledobject.yaml",
    ],
    needsApi: "keda.sh/v1alpha1",
    install: `kubectl apply --server-side -f ${KEDA_RELEASE}`,
    needsStage: "metrics",
  },
  {
    name: "autoscaling-cpu",
    title: "autoscaling of the processor: by CPU alone",
    files: ["processor/processor-hpa.yaml"],
    needsApi: METRICS_API,
    install: METRICS_API_INSTALL,
    fallbackFor: "autoscaling-keda",
  },
  {
    name: "service-monitors",
    title: "ServiceMonitors and rules for prometheus-operator",
    files: ["prometheus/service-monitors/servicemonitor.yaml"],
    needsApi: OPERATOR_API,
    rulesOf: "metrics",
  },
  {
    name: "operator-rules-logging",
    title: "rules of the log tier for prometheus-operator",
    files: [],
    needsApi: OPERATOR_API,
    needsStage: "logging-alerts",
    rulesOf: "logging-alerts",
  },
];

/** Optional stages, without the log tiers, of which `--logs` chooses one. */
export const DISPENSABLE_STAGES: readonly string[] = STAGES.filter(
  ({ name, optional }) => optional && !Object.values<string>(LOG_STAGES).includes(name),
).map(({ name }) => name);

/**
 * The stages with their objects, in order.
 * @throws Error that names a file that is missing, in two stages, or in no stage.
 */
export async function loadStages(folder = MANIFEST_FOLDER, namespace = NAMESPACE): Promise<Stage[]> {
  const files = new Map((await loadManifestFiles(folder, namespace)).map(({ path, objects }) => [path, objects]));
  const stages = STAGES.map((stage) => ({
    ...stage,
    objects: stage.files.flatMap((path) => {
      const objects = files.get(path);
      if (!objects) throw new Error(`stage ${stage.name}: k8s/${path} is missing, or belongs to two stages`);
      files.delete(path);
      return objects;
    }),
  }));
  const left = [...files.keys()];
  if (left.length > 0) throw new Error(`in no stage of scripts/deploy/stages.ts: ${left.join(", ")}`);
  return stages.map((stage) => ({ ...stage, objects: [...stage.objects, ...prometheusRules(stage, stages)] }));
}

/**
 * The stages that the last deploy applied or kept, by the annotation of the Namespace.
 * @returns skipped: names of the skipped stages, without fallbacks that were not needed
 */
export async function deployedStages(cluster: Cluster): Promise<{ stages: Stage[]; skipped: string[] }> {
  const namespace = await cluster.get<KubernetesObject>("namespace", NAMESPACE);
  const names = (namespace?.metadata.annotations?.[SKIPPED_STAGES] ?? "").split(",").filter(Boolean);
  const own = withExternal(await loadStages(), { stores: await readExternalStores(cluster), secrets: {} });
  const all = withExposure(own, { exposure: exposureOf(namespace) });
  return {
    stages: all.filter(({ name }) => !names.includes(name)),
    skipped: names.filter((name) => !all.find((stage) => stage.name === name)?.fallbackFor),
  };
}
