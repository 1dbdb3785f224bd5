/**
 * prometheus-operator and a Prometheus of it in their own namespace, as kube-prometheus-stack runs them: built from the Go
 * module, assembled into images under its own names. That Prometheus has its own rights, and selects by a release label.
 */
import { join } from "node:path";
import { must } from "../cli/process.ts";
import type { Report } from "../cli/report.ts";
import { waitFor } from "../cli/wait.ts";
import type { Cluster, KubernetesObject } from "../cluster/cluster.ts";
import { assembled } from "../images/catalog.ts";
import { BASE, program } from "../images/layers.ts";
import {
  ensurePart,
  GO_TOOL,
  type GoBuild,
  goBuild,
  goModuleFolder,
  goRecipe,
  importImage,
  type Part,
} from "../local-cluster/index.ts";

const VERSION = "0.93.1";
const MODULE = "github.com/prometheus-operator/prometheus-operator";
const OPERATOR_IMAGE = `quay.io/prometheus-operator/prometheus-operator:v${VERSION}`;
const RELOADER_IMAGE = `quay.io/prometheus-operator/prometheus-config-reloader:v${VERSION}`;

/** Kinds that the operator always watches; it does not start without any of the first five. */
const CRDS = [
  ...["prometheuses", "servicemonitors", "prometheusrules", "podmonitors", "probes"],
  ...["alertmanagers", "alertmanagerconfigs", "scrapeconfigs", "prometheusagents", "thanosrulers"],
];

const build = {
  module: join(import.meta.dir, "prometheus-operator"),
  packages: [`${MODULE}/cmd/operator`, `${MODULE}/cmd/prometheus-config-reloader`],
  cgo: false,
} satisfies Omit<GoBuild, "out">;

const OPERATOR: Part = {
  name: "prometheus-operator",
  version: VERSION,
  recipe: JSON.stringify([goRecipe(build), CRDS]),
  requires: [GO_TOOL],
  async build(out, context) {
    await goBuild({ ...build, out: `${out}/` }, context);
    const source = await goModuleFolder(build.module, MODULE, context);
    const folder = join(source, "example/prometheus-operator-crd");
    const files = CRDS.map((name) => join(folder, `monitoring.coreos.com_${name}.yaml`));
    await must(["cp", "--no-preserve=mode", ...files, out]);
  },
};

/** Paths of the CRD files. */
async function operatorCrds(report: Report): Promise<string[]> {
  const folder = await ensurePart(OPERATOR, report);
  return CRDS.map((name) => join(folder, `monitoring.coreos.com_${name}.yaml`));
}

/** Recipes of the operator's images. */
const OPERATOR_RECIPES = [
  assembled(OPERATOR_IMAGE, [BASE, program(OPERATOR, "operator", "usr/bin/operator")], {
    Entrypoint: ["/bin/operator"],
  }),
  assembled(
    RELOADER_IMAGE,
    [BASE, program(OPERATOR, "prometheus-config-reloader", "usr/bin/prometheus-config-reloader")],
    {
      Entrypoint: ["/bin/prometheus-config-reloader"],
    },
  ),
];

export const OPERATOR_NAMESPACE = "external-monitoring";
/** As of `deploy --monitor-labels release=…`. */
export const RELEASE = { release: "external" };
export const PROMETHEUS_IMAGE = "docker.io/prom/prometheus:v3.5.3";
/** Name of the Prometheus object; the operator names StatefulSet and pods after it. */
const PROMETHEUS = "operated";
export const PROMETHEUS_POD = `prometheus-${PROMETHEUS}-0`;
/** The Service that the operator makes for every Prometheus of its namespace. */
export const PROMETHEUS_URL = `http://prometheus-operated.${OPERATOR_NAMESPACE}.svc:9090`;
/** The operator starts within seconds, and its Prometheus after it. */
const READY_LIMIT_MS = 180_000;

const RESTRICTED = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
};
const POD_CONTEXT = {
  runAsNonRoot: true,
  runAsUser: 10001,
  runAsGroup: 10001,
  fsGroup: 10001,
  seccompProfile: { type: "RuntimeDefault" },
};
const RBAC = "rbac.authorization.k8s.io";
/** A service account of the operator's namespace with rights in the complete cluster. */
const account = (name: string, rules: unknown[]) => [
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: OPERATOR_NAMESPACE } },
  { apiVersion: `${RBAC}/v1`, kind: "ClusterRole", metadata: { name: `${OPERATOR_NAMESPACE}-${name}` }, rules },
  {
    apiVersion: `${RBAC}/v1`,
    kind: "ClusterRoleBinding",
    metadata: { name: `${OPERATOR_NAMESPACE}-${name}` },
    roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: `${OPERATOR_NAMESPACE}-${name}` },
    subjects: [{ kind: "ServiceAccount", namespace: OPERATOR_NAMESPACE, name }],
  },
];

/** The operator, in its own namespace, whose Prometheus may scrape. */
export const OPERATOR_OBJECTS = [
  {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: OPERATOR_NAMESPACE, labels: { "conveyor.dev/scrape": "true" } },
  },
  ...account("operator", [
    { apiGroups: ["monitoring.coreos.com"], resources: ["*"], verbs: ["*"] },
    { apiGroups: ["apps"], resources: ["statefulsets"], verbs: ["*"] },
    { apiGroups: [""], resources: ["configmaps", "secrets"], verbs: ["*"] },
    { apiGroups: [""], resources: ["pods"], verbs: ["list", "delete"] },
    {
      apiGroups: [""],
      resources: ["services", "services/finalizers", "endpoints"],
      verbs: ["get", "create", "update", "delete"],
    },
    {
      apiGroups: ["discovery.k8s.io"],
      resources: ["endpointslices"],
      verbs: ["get", "list", "create", "update", "delete"],
    },
    { apiGroups: [""], resources: ["namespaces", "nodes"], verbs: ["get", "list", "watch"] },
    { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["patch", "create"] },
    { apiGroups: ["storage.k8s.io"], resources: ["storageclasses"], verbs: ["get"] },
  ]),
  {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "operator", namespace: OPERATOR_NAMESPACE },
    spec: {
      selector: { matchLabels: { app: "operator" } },
      template: {
        metadata: { labels: { app: "operator" } },
        spec: {
          serviceAccountName: "operator",
          securityContext: POD_CONTEXT,
          containers: [
            {
              name: "operator",
              image: OPERATOR_IMAGE,
              imagePullPolicy: "IfNotPresent",
              args: [`--prometheus-config-reloader=${RELOADER_IMAGE}`],
              ports: [{ name: "http", containerPort: 8080 }],
              readinessProbe: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 2 },
              securityContext: RESTRICTED,
              resources: { requests: { cpu: "20m", memory: "48Mi" }, limits: { memory: "256Mi" } },
            },
          ],
        },
      },
    },
  },
] as unknown as KubernetesObject[];

/** Its Prometheus, with the rights that the chart of kube-prometheus-stack gives it. */
export const PROMETHEUS_OBJECTS = [
  ...account("prometheus", [
    { apiGroups: [""], resources: ["services", "endpoints", "pods"], verbs: ["get", "list", "watch"] },
    { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["get", "list", "watch"] },
  ]),
  {
    apiVersion: "monitoring.coreos.com/v1",
    kind: "Prometheus",
    metadata: { name: PROMETHEUS, namespace: OPERATOR_NAMESPACE },
    spec: {
      replicas: 1,
      version: "v3.5.3",
      image: PROMETHEUS_IMAGE,
      serviceAccountName: "prometheus",
      automountServiceAccountToken: true,
      serviceDiscoveryRole: "EndpointSlice",
      serviceMonitorNamespaceSelector: {},
      serviceMonitorSelector: { matchLabels: RELEASE },
      ruleNamespaceSelector: {},
      ruleSelector: { matchLabels: RELEASE },
      scrapeInterval: "15s",
      retention: "2h",
      enableServiceLinks: false,
      securityContext: POD_CONTEXT,
      resources: { requests: { cpu: "50m", memory: "128Mi" }, limits: { memory: "512Mi" } },
    },
  },
] as unknown as KubernetesObject[];

async function awaitReady(cluster: Cluster, kind: string, name: string, signal?: AbortSignal): Promise<void> {
  await waitFor(
    async () => {
      type Workload = KubernetesObject & { status?: { readyReplicas?: number } };
      const object = await cluster.get<Workload>(kind, name, OPERATOR_NAMESPACE);
      return (object?.status?.readyReplicas ?? 0) > 0
        ? { done: true, value: undefined }
        : { done: false, state: object ? "not ready" : "absent" };
    },
    { what: `${kind} ${name} to be ready`, limitMs: READY_LIMIT_MS, intervalMs: 1000, signal },
  );
}

/** Installs the operator's kinds and the operator. @returns the files of the kinds */
export async function installOperator(cluster: Cluster, report: Report): Promise<string[]> {
  const crds = await operatorCrds(report);
  for (const recipe of OPERATOR_RECIPES) await importImage((await recipe.assemble(report)).path);
  for (const file of crds) await cluster.kubectl(["apply", "--server-side", "-f", file]);
  const files = crds.flatMap((file) => ["-f", file]);
  await cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", ...files], { timeoutMs: 90_000 });
  await cluster.apply(OPERATOR_OBJECTS);
  return crds;
}

/** Starts the operator's Prometheus. */
export async function startPrometheus(cluster: Cluster, signal?: AbortSignal): Promise<void> {
  await cluster.apply(PROMETHEUS_OBJECTS);
  await awaitReady(cluster, "deployment", "operator", signal);
  await awaitReady(cluster, "statefulset", `prometheus-${PROMETHEUS}`, signal);
}
