/**
 * Alerts of a processor stopped for 90 s under load. The deployed Prometheus runs with every window and delay divided by
 * 30 and evaluates every two seconds; afterwards its configuration is restored.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { waitFor } from "../../scripts/cli/wait.ts";
import { type Alert, PrometheusReader } from "../../scripts/clients/prometheus.ts";
import {
  apiVersionsOf,
  type Cluster,
  type KubernetesObject,
  NAMESPACE,
  type Pod,
} from "../../scripts/cluster/cluster.ts";
import { KEDA_API } from "../../scripts/deploy/keda.ts";
import { loadManifests } from "../../scripts/deploy/manifests.ts";
import { cluster, describeOnCluster, patchData } from "./harness.ts";
import { shortenedConfiguration, shortenedRules } from "./shortened.ts";

/** The plan's outage. */
const OUTAGE_MS = 90_000;
/** Healthy time before the outage: twice the longest delay of an expected alert (5 min, here 10 s). */
const CALM_MS = 20_000;
/** Earlier events, such as the start of the cluster, have left the half-hour window (here 60 s) by then. */
const CALM_LIMIT_MS = 240_000;
/** The six-hour window is 12 min here: 6 % of it take 43 s, the delay 10 s; more on a busy machine. */
const FIRE_LIMIT_MS = 180_000;
/** Catching up takes seconds; the half-hour window of the second burn rate is 60 s here. */
const CLEAR_LIMIT_MS = 300_000;
/** Prometheus replays its write-ahead log at start: seconds, on a busy machine a minute. */
const READY_LIMIT_MS = 240_000;
/** The sum of these limits. */
const LIMIT_MS = 1_200_000;

type ConfigMap = KubernetesObject & { data: Record<string, string> };

let target: Cluster;
let prometheus: PrometheusReader;
const originals: ConfigMap[] = [];

/** A pod reads its ConfigMaps when it starts. */
async function restartPrometheus(): Promise<void> {
  await prometheus?.close();
  await target.kubectl(["delete", "pod", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=prometheus", "--wait=true"], {
    timeoutMs: READY_LIMIT_MS,
  });
  // The new pod exists before it answers.
  await waitFor(
    async () => {
      const [pod] = (await target.pods("prometheus")) as Pod[];
      const ready = pod?.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True");
      return ready ? { done: true, value: true } : { done: false, state: pod?.status.phase ?? "no pod" };
    },
    { what: "Prometheus to be ready again", limitMs: READY_LIMIT_MS },
  );
  prometheus = await PrometheusReader.open(target);
}

/** @throws Error when the lag is not known, which differs from 0 */
async function lagNow(): Promise<number> {
  const [lag] = await prometheus.query('sum(kafka_consumergroup_lag_sum{group="processor"})');
  if (!lag) throw new Error("the lag is not known");
  return lag.value;
}

const named = (alerts: readonly Alert[], name: string, window?: string) =>
  alerts.filter(({ labels }) => labels.alertname === name && (window === undefined || labels.window === window));
const firing = (alerts: readonly Alert[], name: string, window?: string) =>
  named(alerts, name, window).some(({ state }) => state === "firing");

/** Alerts that this outage must raise and that must clear afterwards. */
const EXPECTED: readonly (readonly [name: string, window?: string])[] = [
  ["ConsumerGroupDead"],
  ["ConsumerLagHigh"],
  ["FreshnessBudgetBurn", "1h"],
  ["FreshnessBudgetBurn", "6h"],
];

/**
 * Waits until none of the expected alerts was pending or firing for CALM_MS while rules are evaluated.
 * @returns the lag then, in events
 */
async function awaitCalm(): Promise<number> {
  let calmSince = performance.now();
  return await waitFor(
    async () => {
      const alerts = await prometheus.alerts();
      const active = EXPECTED.filter(([name, window]) => named(alerts, name, window).length > 0);
      // Watchdog always fires: without it no rule is evaluated yet.
      const isEvaluating = firing(alerts, "Watchdog");
      if (active.length > 0 || !isEvaluating) calmSince = performance.now();
      if (performance.now() - calmSince >= CALM_MS) return { done: true, value: await lagNow() };
      const state = active.map((one) => one.join(" ")).join(", ") || "calm";
      return { done: false, state: isEvaluating ? state : "no rule is evaluated yet" };
    },
    { what: `${CALM_MS / 1000} s without an alert`, limitMs: CALM_LIMIT_MS, intervalMs: 1000 },
  );
}

const PAUSED = "autoscaling.keda.sh/paused-replicas";

const scaleProcessors = async (replicas: number) =>
  await target.kubectl(["scale", "deployment", "processor", "-n", NAMESPACE, `--replicas=${replicas}`]);

async function hasScaledObject(): Promise<boolean> {
  if (!(await apiVersionsOf(target)).has(KEDA_API)) return false;
  return (await target.get("scaledobject", "processor")) !== undefined;
}

/** Scales the processors to 0 and pauses KEDA, which would restore them at once. */
async function stopProcessors(): Promise<void> {
  if (await hasScaledObject()) {
    await target.kubectl(["annotate", "scaledobject", "processor", "-n", NAMESPACE, "--overwrite", `${PAUSED}=0`]);
  }
  await scaleProcessors(0);
}

/** Starts the processors and resumes KEDA. */
async function startProcessors(): Promise<void> {
  const deployment = await target.get<KubernetesObject & { spec: { replicas?: number } }>("deployment", "processor");
  if (deployment?.spec.replicas === 0) await scaleProcessors(1);
  if (await hasScaledObject()) {
    await target.kubectl(["annotate", "scaledobject", "processor", "-n", NAMESPACE, `${PAUSED}-`]);
  }
}

describeOnCluster("alerts", () => {
  beforeAll(async () => {
    target = await cluster();
    for (const map of await target.list<ConfigMap>("configmap", "app.kubernetes.io/name=prometheus")) {
      if (map.metadata.name !== "prometheus" && !map.metadata.name.startsWith("prometheus-rules-")) continue;
      originals.push(map);
      const shorten = map.metadata.name === "prometheus" ? shortenedConfiguration : shortenedRules;
      const data = Object.fromEntries(
        Object.entries(map.data).map(([key, text]) => [key, key === "web.yml" ? text : shorten(text)]),
      );
      await patchData(target, "configmap", map.metadata.name, data);
    }
    await restartPrometheus();
  }, LIMIT_MS);

  afterAll(async () => {
    if (!target) return;
    await startProcessors();
    if (originals.length > 0) {
      // Applied as deploy does, so that the next deploy finds no change, also not of field owners.
      const changed = new Set(originals.map(({ metadata }) => metadata.name));
      const manifests = await loadManifests();
      await target.apply(manifests.filter(({ kind, metadata }) => kind === "ConfigMap" && changed.has(metadata.name)));
      await restartPrometheus();
    }
    await prometheus?.close();
  }, LIMIT_MS);

  test(
    "on lag and freshness fire while the processor is stopped and clear after its restart",
    async () => {
      const lagBefore = await awaitCalm();

      await stopProcessors();
      const stoppedAt = performance.now();
      const raised = new Set<string>();
      let lagPeak = 0;
      try {
        await waitFor(
          async () => {
            const alerts = await prometheus.alerts();
            lagPeak = Math.max(lagPeak, await lagNow());
            for (const [name, window] of EXPECTED)
              if (firing(alerts, name, window)) raised.add(`${name} ${window ?? ""}`);
            const open = EXPECTED.filter(([name, window]) => !raised.has(`${name} ${window ?? ""}`));
            return open.length === 0 && performance.now() - stoppedAt >= OUTAGE_MS
              ? { done: true, value: true }
              : {
                  done: false,
                  state: `lag ${lagPeak}; not firing yet: ${open.map((one) => one.join(" ")).join(", ")}`,
                };
          },
          { what: "the alerts of a stopped processor", limitMs: FIRE_LIMIT_MS, intervalMs: 1000 },
        );
      } finally {
        await startProcessors();
      }
      expect(lagPeak).toBeGreaterThan(lagBefore + 1000);

      const startedAt = performance.now();
      await waitFor(
        async () => {
          const alerts = await prometheus.alerts();
          const still = EXPECTED.filter(([name, window]) => firing(alerts, name, window));
          return still.length === 0
            ? { done: true, value: true }
            : { done: false, state: `lag ${await lagNow()}; firing: ${still.map((one) => one.join(" ")).join(", ")}` };
        },
        { what: "the alerts to clear", limitMs: CLEAR_LIMIT_MS, intervalMs: 2000 },
      );
      console.info(
        `lag ${lagBefore} → ${lagPeak}; all alerts cleared ${Math.round((performance.now() - startedAt) / 1000)} s after the restart`,
      );
      await waitFor(
        async () => {
          const lag = await lagNow();
          return lag < 1000 ? { done: true, value: true } : { done: false, state: `lag ${lag}` };
        },
        { what: "the lag to fall below 1000", limitMs: CLEAR_LIMIT_MS, intervalMs: 1000 },
      );
    },
    LIMIT_MS,
  );
});
