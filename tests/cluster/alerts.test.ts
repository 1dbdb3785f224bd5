/**
 * Goal: with the processor stopped for 90 s under load the lag rises, the alerts on lag and freshness fire, and clear again.
 * Method: the deployed Prometheus with every window and delay divided by thirty and a look every two seconds, everything
 * else as it is; afterwards its configuration is put back.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { waitFor } from "../../scripts/cli/wait.ts";
import { type Alert, PrometheusReader } from "../../scripts/clients/prometheus.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";
import { holdProcessors, releaseProcessors } from "../../scripts/deploy/autoscalers.ts";
import { loadManifests } from "../../scripts/deploy/manifests.ts";
import { cluster, describeOnCluster } from "./harness.ts";
import { shortenedConfiguration, shortenedRules } from "./shortened.ts";

/** The plan's outage. */
const OUTAGE_MS = 90_000;
/** Healthy time first: twice the longest delay of an alert that must fire (5 min, here 10 s). */
const CALM_MS = 20_000;
/** What happened before, be it the start of the whole cluster, has left the half-hour window (60 s) by then. */
const CALM_LIMIT_MS = 240_000;
/** The six-hour window is 12 min here: 6 % of it late take 43 s, the delay 10 s; a busy machine some more. */
const FIRE_LIMIT_MS = 180_000;
/** Catching up takes seconds; the half-hour window of the second burn rate is 60 s here. */
const CLEAR_LIMIT_MS = 300_000;
/** Prometheus reads its log again when it starts: seconds, on a busy machine a minute. */
const READY_LIMIT_MS = 240_000;
/** All of these limits, one after the other. */
const LIMIT_MS = 1_200_000;

type ConfigMap = KubernetesObject & { data: Record<string, string> };

let target: Cluster;
let prometheus: PrometheusReader;
const originals: ConfigMap[] = [];

async function putConfigMap(name: string, data: Record<string, string>): Promise<void> {
  await target.kubectl(["patch", "configmap", name, "-n", NAMESPACE, "--type=merge", "--patch-file=/dev/stdin"], {
    input: JSON.stringify({ data }),
  });
}

/** A pod reads its ConfigMaps when it starts. */
async function restartPrometheus(): Promise<void> {
  await prometheus?.close();
  await target.kubectl(["delete", "pod", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=prometheus", "--wait=true"], {
    timeoutMs: READY_LIMIT_MS,
  });
  // A pod that is there again is not yet one that answers.
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

/** @throws Error where the lag is not known: that is not none. */
async function lagNow(): Promise<number> {
  const [lag] = await prometheus.query('sum(kafka_consumergroup_lag_sum{group="processor"})');
  if (!lag) throw new Error("the lag is not known");
  return lag.value;
}

const named = (alerts: readonly Alert[], name: string, window?: string) =>
  alerts.filter(({ labels }) => labels.alertname === name && (window === undefined || labels.window === window));
const firing = (alerts: readonly Alert[], name: string, window?: string) =>
  named(alerts, name, window).some(({ state }) => state === "firing");

/** Alerts that this outage must raise; none is there before, and each is silent again afterwards. */
const EXPECTED: readonly (readonly [name: string, window?: string])[] = [
  ["ConsumerGroupDead"],
  ["ConsumerLagHigh"],
  ["FreshnessBudgetBurn", "1h"],
  ["FreshnessBudgetBurn", "6h"],
];

/**
 * Waits until none of the alerts has been firing, nor waiting to fire, for CALM_MS with rules that are being judged.
 * @returns the lag then, in events
 */
async function awaitCalm(): Promise<number> {
  let calmSince = performance.now();
  return await waitFor(
    async () => {
      const alerts = await prometheus.alerts();
      const restless = EXPECTED.filter(([name, window]) => named(alerts, name, window).length > 0);
      // The one that always fires: without it nothing is judged yet.
      const isJudging = firing(alerts, "Watchdog");
      if (restless.length > 0 || !isJudging) calmSince = performance.now();
      if (performance.now() - calmSince >= CALM_MS) return { done: true, value: await lagNow() };
      const said = restless.map((one) => one.join(" ")).join(", ") || "calm";
      return { done: false, state: isJudging ? said : "no rule is judged yet" };
    },
    { what: `${CALM_MS / 1000} s without an alert`, limitMs: CALM_LIMIT_MS, intervalMs: 1000 },
  );
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
      await putConfigMap(map.metadata.name, data);
    }
    await restartPrometheus();
  }, LIMIT_MS);

  afterAll(async () => {
    if (!target) return;
    await releaseProcessors(target);
    if (originals.length > 0) {
      // As deploy applies them, so that the next deploy finds nothing changed, the owner of the fields included.
      const changed = new Set(originals.map(({ metadata }) => metadata.name));
      const manifests = await loadManifests();
      await target.apply(manifests.filter(({ kind, metadata }) => kind === "ConfigMap" && changed.has(metadata.name)));
      await restartPrometheus();
    }
    await prometheus?.close();
  }, LIMIT_MS);

  test(
    "a processor stopped for 90 s raises the alerts on lag and freshness, and they clear when it is back",
    async () => {
      const lagBefore = await awaitCalm();

      await holdProcessors(target, 0);
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
              : { done: false, state: `lag ${lagPeak}; still silent: ${open.map((one) => one.join(" ")).join(", ")}` };
          },
          { what: "the alerts of a dead processor", limitMs: FIRE_LIMIT_MS, intervalMs: 1000 },
        );
      } finally {
        await releaseProcessors(target);
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
        `lag ${lagBefore} → ${lagPeak}; all alerts clear ${Math.round((performance.now() - startedAt) / 1000)} s after the restart`,
      );
      await waitFor(
        async () => {
          const lag = await lagNow();
          return lag < 1000 ? { done: true, value: true } : { done: false, state: `lag ${lag}` };
        },
        { what: "the lag to be gone", limitMs: CLEAR_LIMIT_MS, intervalMs: 1000 },
      );
    },
    LIMIT_MS,
  );
});
