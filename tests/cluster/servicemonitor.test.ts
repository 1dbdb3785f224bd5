/**
 * The ServiceMonitors and PrometheusRules with a real prometheus-operator, as kube-prometheus-stack runs it: its Prometheus is
 * in another namespace, has its own rights, and selects by a release label. It must have the same targets, labels and rules
 * as the deployed one, without the kubelets and the dead-man's switch, which the stack brings itself. Nothing is added to the
 * pipeline's namespaces but what deploy applies. Everything that the operator needs is removed afterwards.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { TerminalReport } from "../../scripts/cli/report.ts";
import { waitFor } from "../../scripts/cli/wait.ts";
import { KUBELET_JOB } from "../../scripts/clients/kubelets.ts";
import { PrometheusReader, type Target } from "../../scripts/clients/prometheus.ts";
import type { Cluster, KubernetesObject, PortForward } from "../../scripts/cluster/cluster.ts";
import {
  installOperator,
  OPERATOR_NAMESPACE,
  OPERATOR_OBJECTS,
  PROMETHEUS_OBJECTS,
  PROMETHEUS_POD,
  RELEASE,
  startPrometheus,
} from "../../scripts/conformance/prometheus-operator.ts";
import { OPERATOR_API } from "../../scripts/deploy/operator-rules.ts";
import { plan } from "../../scripts/deploy/plan.ts";
import { readSnapshot } from "../../scripts/deploy/snapshot.ts";
import { loadStages } from "../../scripts/deploy/stages.ts";
import { cluster, describeOnCluster } from "./harness.ts";

/** Compiling the operator takes minutes, once per machine. */
const SETUP_LIMIT_MS = 1_800_000;
/** A new ServiceMonitor is scraped within a minute: the kubelet refreshes a Secret, then the reloader reloads Prometheus. */
const EQUAL_LIMIT_MS = 300_000;
const REMOVAL_LIMIT_MS = 180_000;

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

/** Data of an answer of the operator's Prometheus. */
async function answer<T>(path: string): Promise<T> {
  const response = await fetch(`http://127.0.0.1:${forward!.port}/api/v1/${path}`);
  return ((await response.json()) as { data: T }).data;
}

const remove = async (objects: readonly KubernetesObject[]) =>
  await target.kubectl(["delete", "-f", "-", "--ignore-not-found", "--wait=true"], {
    input: JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }),
    timeoutMs: REMOVAL_LIMIT_MS,
    allowFailure: true,
  });

describeOnCluster("ServiceMonitors", () => {
  beforeAll(async () => {
    target = await cluster();
    const report = new TerminalReport({ quiet: true });
    crds = await installOperator(target, report);
    const stages = await loadStages();
    const snapshot = await readSnapshot(target, stages, new AbortController().signal);
    monitors = plan(snapshot, stages, [], { monitorLabels: RELEASE })
      .stages.flatMap(({ apply }) => apply)
      .filter(({ apiVersion }) => apiVersion === OPERATOR_API);
    await target.apply(monitors);
    await startPrometheus(target);
    plain = await PrometheusReader.open(target);
    forward = await target.portForward(`pod/${PROMETHEUS_POD}`, 9090, OPERATOR_NAMESPACE);
  }, SETUP_LIMIT_MS);

  afterAll(async () => {
    await plain?.close();
    await forward?.close();
    if (!target) return;
    await remove([...monitors, ...PROMETHEUS_OBJECTS].reverse());
    await remove([...OPERATOR_OBJECTS].reverse());
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
