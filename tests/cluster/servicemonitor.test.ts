/**
 * The ServiceMonitors of k8s/ with a real prometheus-operator: its Prometheus must have the same targets and labels as the
 * deployed one. Everything that the operator needs is removed afterwards.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { TerminalReport } from "../../scripts/cli/report.ts";
import { waitFor } from "../../scripts/cli/wait.ts";
import { PrometheusReader, type Target } from "../../scripts/clients/prometheus.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type PortForward } from "../../scripts/cluster/cluster.ts";
import { MANIFEST_FOLDER, parseManifest } from "../../scripts/deploy/manifests.ts";
import { importImage } from "../../scripts/local-cluster/index.ts";
import { cluster, describeOnCluster } from "./harness.ts";
import { OPERATOR_IMAGE, OPERATOR_RECIPES, operatorCrds, RELOADER_IMAGE } from "./operator.ts";

const OPERATOR_NAMESPACE = "conveyor-operator-test";
const LOG_NAMESPACE = "conveyor-logging";
/** Compiling the operator takes minutes, once per machine. */
const SETUP_LIMIT_MS = 1_800_000;
/** A new ServiceMonitor is scraped within a minute: the kubelet refreshes a Secret, then the reloader reloads Prometheus. */
const EQUAL_LIMIT_MS = 300_000;
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
const NAME = "conveyor-operator-test";
const role = (kind: "Role" | "ClusterRole", name: string, namespace: string | undefined, rules: unknown[]) => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind,
  metadata: { name, ...(namespace ? { namespace } : {}) },
  rules,
});
const binding = (
  kind: "Role" | "ClusterRole",
  name: string,
  namespace: string | undefined,
  subject: [string, string],
) => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: `${kind}Binding`,
  metadata: { name, ...(namespace ? { namespace } : {}) },
  roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name },
  subjects: [{ kind: "ServiceAccount", namespace: subject[0], name: subject[1] }],
});

/** The operator, in its own namespace. */
const operator = [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: OPERATOR_NAMESPACE } },
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "operator", namespace: OPERATOR_NAMESPACE } },
  role("ClusterRole", NAME, undefined, [
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
  binding("ClusterRole", NAME, undefined, [OPERATOR_NAMESPACE, "operator"]),
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
              args: [
                `--prometheus-config-reloader=${RELOADER_IMAGE}`,
                "--kubelet-service=kube-system/kubelet",
                "--kubelet-endpointslice=true",
                "--kubelet-endpoints=false",
              ],
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

/** Its Prometheus, with the service account of the deployed one, and network policies for it. */
const OPERATED = { "operator.prometheus.io/name": "operated" };
/** Opens a namespace's pods to the operator's Prometheus. */
const scrapes = (namespace: string) => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "operated-prometheus-scrapes", namespace },
  spec: {
    podSelector: {},
    policyTypes: ["Ingress"],
    ingress: [
      {
        from: [
          {
            namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": NAMESPACE } },
            podSelector: { matchLabels: OPERATED },
          },
        ],
      },
    ],
  },
});

const operated = [
  {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "operated-prometheus", namespace: NAMESPACE },
    spec: {
      podSelector: { matchLabels: OPERATED },
      policyTypes: ["Ingress", "Egress"],
      egress: [{}],
    },
  },
  // The operator keeps the kubelets' Service here.
  role("Role", NAME, "kube-system", [
    { apiGroups: [""], resources: ["pods", "services"], verbs: ["list", "watch"] },
    { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"] },
  ]),
  binding("Role", NAME, "kube-system", [NAMESPACE, "prometheus"]),
  {
    apiVersion: "monitoring.coreos.com/v1",
    kind: "Prometheus",
    metadata: { name: "operated", namespace: NAMESPACE },
    spec: {
      replicas: 1,
      version: "v3.5.3",
      image: "docker.io/prom/prometheus:v3.5.3",
      serviceAccountName: "prometheus",
      automountServiceAccountToken: true,
      serviceDiscoveryRole: "EndpointSlice",
      serviceMonitorSelector: { matchLabels: { "app.kubernetes.io/part-of": "conveyor" } },
      scrapeInterval: "15s",
      retention: "2h",
      enableServiceLinks: false,
      securityContext: POD_CONTEXT,
      resources: { requests: { cpu: "50m", memory: "128Mi" }, limits: { memory: "512Mi" } },
    },
  },
] as unknown as KubernetesObject[];

/** Targets as comparable text: URL and labels. */
const comparable = (targets: readonly Target[]): string[] =>
  targets
    .map(({ scrapeUrl, labels }) => {
      const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
      return `${scrapeUrl} ${sorted.map(([name, value]) => `${name}=${value}`).join(" ")}`;
    })
    .sort();

let target: Cluster;
let plain: PrometheusReader;
let forward: PortForward | undefined;
let monitors: KubernetesObject[] = [];
let opened: KubernetesObject[] = [];
let crds: string[] = [];

const ready = async (kind: string, name: string, namespace: string) =>
  await waitFor(
    async () => {
      const object = await target.get<KubernetesObject & { status?: { readyReplicas?: number } }>(
        kind,
        name,
        namespace,
      );
      return (object?.status?.readyReplicas ?? 0) > 0
        ? { done: true, value: true }
        : { done: false, state: object ? "not ready" : "absent" };
    },
    { what: `${kind} ${name} to be ready`, limitMs: READY_LIMIT_MS, intervalMs: 1000 },
  );

const remove = async (objects: readonly KubernetesObject[]) =>
  await target.kubectl(["delete", "-f", "-", "--ignore-not-found", "--wait=true"], {
    input: JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }),
    timeoutMs: READY_LIMIT_MS,
    allowFailure: true,
  });

describeOnCluster("ServiceMonitors", () => {
  beforeAll(async () => {
    target = await cluster();
    const report = new TerminalReport({ quiet: true });
    crds = await operatorCrds(report);
    for (const recipe of OPERATOR_RECIPES) await importImage((await recipe.assemble(report)).path);
    for (const file of crds) await target.kubectl(["apply", "--server-side", "-f", file]);
    await target.kubectl(
      ["wait", "--for=condition=Established", "--timeout=60s", ...crds.flatMap((file) => ["-f", file])],
      {
        timeoutMs: 90_000,
      },
    );
    await target.apply(operator);
    const path = "prometheus/servicemonitor.yaml";
    monitors = parseManifest(await readFile(join(MANIFEST_FOLDER, path), "utf8"), path);
    // The collector of the log tier is in another namespace.
    const namespaces = (await target.get("namespace", LOG_NAMESPACE)) ? [NAMESPACE, LOG_NAMESPACE] : [NAMESPACE];
    opened = namespaces.map(scrapes);
    await target.apply([...monitors, ...opened, ...operated]);
    await ready("deployment", "operator", OPERATOR_NAMESPACE);
    await ready("statefulset", "prometheus-operated", NAMESPACE);
    plain = await PrometheusReader.open(target);
    forward = await target.portForward("pod/prometheus-operated-0", 9090, NAMESPACE);
  }, SETUP_LIMIT_MS);

  afterAll(async () => {
    await plain?.close();
    await forward?.close();
    if (!target) return;
    await remove([...monitors, ...opened, ...operated].reverse());
    await remove([...operator].reverse());
    await target.kubectl(["delete", "service,endpoints,endpointslice", "-n", "kube-system", "-l", "k8s-app=kubelet"], {
      allowFailure: true,
    });
    for (const file of crds) await target.kubectl(["delete", "-f", file, "--ignore-not-found"], { allowFailure: true });
  }, SETUP_LIMIT_MS);

  test(
    "give the operator's Prometheus the same targets and labels as the plain configuration",
    async () => {
      const operatedTargets = async () => {
        const response = await fetch(`http://127.0.0.1:${forward!.port}/api/v1/targets?state=active`);
        return ((await response.json()) as { data: { activeTargets: Target[] } }).data.activeTargets;
      };
      const equal = await waitFor(
        async () => {
          const [ours, theirs] = [comparable(await plain.targets()), comparable(await operatedTargets())];
          const missing = ours.filter((one) => !theirs.includes(one));
          const extra = theirs.filter((one) => !ours.includes(one));
          return ours.length > 0 && missing.length + extra.length === 0
            ? { done: true, value: { ours, theirs } }
            : { done: false, state: `only plain:\n${missing.join("\n")}\nonly operator:\n${extra.join("\n")}` };
        },
        { what: "the two lists of targets to be equal", limitMs: EQUAL_LIMIT_MS, intervalMs: 3000 },
      );
      expect(equal.theirs).toEqual(equal.ours);
      const up = await waitFor(
        async () => {
          const down = (await operatedTargets()).filter(({ health }) => health !== "up");
          return down.length === 0
            ? { done: true, value: true }
            : { done: false, state: down.map(({ scrapeUrl, lastError }) => `${scrapeUrl} ${lastError}`).join("; ") };
        },
        { what: "the operator's targets to be up", limitMs: 90_000, intervalMs: 3000 },
      );
      expect(up).toBe(true);
      console.info(`${equal.ours.length} targets, equal in address and labels`);
    },
    EQUAL_LIMIT_MS + 120_000,
  );
});
