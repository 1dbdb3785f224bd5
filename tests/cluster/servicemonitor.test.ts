/**
 * The ServiceMonitors and PrometheusRules with a real prometheus-operator, as kube-prometheus-stack runs it: its Prometheus is
 * in another namespace, has rights of its own, and selects by a release label. It must have the same targets, labels and rules
 * as the deployed one, without the kubelets and the dead-man's switch, which the stack brings itself. Nothing is added to the
 * pipeline's namespaces but what deploy applies. Everything that the operator needs is removed afterwards.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { TerminalReport } from "../../scripts/cli/report.ts";
import { waitFor } from "../../scripts/cli/wait.ts";
import { KUBELET_JOB } from "../../scripts/clients/kubelets.ts";
import { PrometheusReader, type Target } from "../../scripts/clients/prometheus.ts";
import type { Cluster, KubernetesObject, PortForward } from "../../scripts/cluster/cluster.ts";
import { OPERATOR_API } from "../../scripts/deploy/operator-rules.ts";
import { plan } from "../../scripts/deploy/plan.ts";
import { readSnapshot } from "../../scripts/deploy/snapshot.ts";
import { loadStages } from "../../scripts/deploy/stages.ts";
import { importImage } from "../../scripts/local-cluster/index.ts";
import { cluster, describeOnCluster } from "./harness.ts";
import { OPERATOR_IMAGE, OPERATOR_RECIPES, operatorCrds, RELOADER_IMAGE } from "./operator.ts";

const OPERATOR_NAMESPACE = "conveyor-operator-test";
/** As of `deploy --monitor-labels release=…`. */
const RELEASE = { release: "operator-test" };
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
const RBAC = "rbac.authorization.k8s.io";
/** A service account of the operator's namespace with rights in the complete cluster. */
const account = (name: string, rules: unknown[]) => [
  { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: OPERATOR_NAMESPACE } },
  { apiVersion: `${RBAC}/v1`, kind: "ClusterRole", metadata: { name: `${NAME}-${name}` }, rules },
  {
    apiVersion: `${RBAC}/v1`,
    kind: "ClusterRoleBinding",
    metadata: { name: `${NAME}-${name}` },
    roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: `${NAME}-${name}` },
    subjects: [{ kind: "ServiceAccount", namespace: OPERATOR_NAMESPACE, name }],
  },
];

/** The operator, in its own namespace. */
const operator = [
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
const operated = [
  ...account("prometheus", [
    { apiGroups: [""], resources: ["services", "endpoints", "pods"], verbs: ["get", "list", "watch"] },
    { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["get", "list", "watch"] },
  ]),
  {
    apiVersion: "monitoring.coreos.com/v1",
    kind: "Prometheus",
    metadata: { name: "operated", namespace: OPERATOR_NAMESPACE },
    spec: {
      replicas: 1,
      version: "v3.5.3",
      image: "docker.io/prom/prometheus:v3.5.3",
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

/** Data of an answer of the operator's Prometheus. */
async function answer<T>(path: string): Promise<T> {
  const response = await fetch(`http://127.0.0.1:${forward!.port}/api/v1/${path}`);
  return ((await response.json()) as { data: T }).data;
}

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
    const stages = await loadStages();
    const snapshot = await readSnapshot(target, stages, new AbortController().signal);
    monitors = plan(snapshot, stages, [], { monitorLabels: RELEASE })
      .stages.flatMap(({ apply }) => apply)
      .filter(({ apiVersion }) => apiVersion === OPERATOR_API);
    await target.apply([...monitors, ...operated]);
    await ready("deployment", "operator", OPERATOR_NAMESPACE);
    await ready("statefulset", "prometheus-operated", OPERATOR_NAMESPACE);
    plain = await PrometheusReader.open(target);
    forward = await target.portForward("pod/prometheus-operated-0", 9090, OPERATOR_NAMESPACE);
  }, SETUP_LIMIT_MS);

  afterAll(async () => {
    await plain?.close();
    await forward?.close();
    if (!target) return;
    await remove([...monitors, ...operated].reverse());
    await remove([...operator].reverse());
    for (const file of crds) await target.kubectl(["delete", "-f", file, "--ignore-not-found"], { allowFailure: true });
  }, SETUP_LIMIT_MS);

  test(
    "give the operator's Prometheus the same targets and labels as the plain configuration",
    async () => {
      const operatedTargets = async () =>
        (await answer<{ activeTargets: Target[] }>("targets?state=active")).activeTargets;
      const plainTargets = async () => (await plain.targets()).filter(({ labels }) => labels.job !== KUBELET_JOB);
      const equal = await waitFor(
        async () => {
          const [ours, theirs] = [comparable(await plainTargets()), comparable(await operatedTargets())];
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

  test(
    "give it the same alerts and recorded series, all of which it evaluates",
    async () => {
      const expected = monitors
        .filter(({ kind }) => kind === "PrometheusRule")
        .flatMap(({ spec }) => (spec as { groups: { rules: { alert?: string; record?: string }[] }[] }).groups)
        .flatMap(({ rules }) => rules.map(({ alert, record }) => alert ?? record!));
      type Answer = { groups: { rules: { name: string; health: string; lastError?: string }[] }[] };
      const names = await waitFor(
        async () => {
          const rules = (await answer<Answer>("rules")).groups.flatMap((group) => group.rules);
          const bad = rules.filter(({ health }) => health !== "ok");
          return rules.length === expected.length && bad.length === 0
            ? { done: true, value: rules.map(({ name }) => name) }
            : {
                done: false,
                state: `${rules.length} of ${expected.length} rules; ${bad.map(({ name, health, lastError }) => `${name} ${health} ${lastError ?? ""}`).join("; ")}`,
              };
        },
        { what: "the operator's Prometheus to evaluate every rule", limitMs: EQUAL_LIMIT_MS, intervalMs: 3000 },
      );
      expect(names.sort()).toEqual(expected.sort());
    },
    EQUAL_LIMIT_MS + 10_000,
  );
});
