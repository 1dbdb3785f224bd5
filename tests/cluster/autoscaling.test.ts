/**
 * Goal: known metrics scale the processors, unknown ones hold them. A missing metric never removes a processor, and a
 * saturated database never adds one.
 * Method: InfluxDB is stopped under the deployed autoscaler. Then the autoscaler gets a query that requires several
 * processors as long as the lag is known, and no stabilization window, so that a wrong step down would show within seconds;
 * Prometheus and the lag exporter are stopped one after the other. At the end the lag requires one processor: the step
 * down must show within the time of the earlier observations.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { pause, waitFor } from "../../scripts/cli/wait.ts";
import { PrometheusReader } from "../../scripts/clients/prometheus.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../../scripts/cluster/cluster.ts";
import type { Autoscaler } from "../../scripts/deploy/autoscalers.ts";
import { loadManifests } from "../../scripts/deploy/manifests.ts";
import { atRest, cluster, describeOnCluster } from "./harness.ts";

/** Four syncs of the autoscaler, which are 5 s apart here. */
const WATCH_MS = 20_000;
/** A scrape, a sync, and KEDA's reading of its ScaledObject take 30 s; a busy machine takes longer. */
const SCALE_LIMIT_MS = 150_000;
const READY_LIMIT_MS = 240_000;
/** The sum of all waits; a test takes two minutes. */
const LIMIT_MS = 1_200_000;
/** The deployed target of the lag per processor, in events. */
const LAG_PER_PROCESSOR = 1000;
/** Processors that the query requires. */
const WANTED = 3;
/** A target far above every lag of these tests: one processor. */
const LAG_FOR_ONE = 1_000_000;
/** Thousandths of a core that no number of processors uses on two cores: one processor. */
const CPU_FOR_ONE = 1_000_000;
/** Processors above the present number that the lag must require by the deployed target. */
const LAG_MARGIN = 2;
/** The deployed query holds the number of processors while a write is pending for longer. */
const SATURATED_SECONDS = 2;

type Deployment = KubernetesObject & { spec: { replicas: number }; status?: { readyReplicas?: number } };
type ScaledObject = KubernetesObject & {
  spec: {
    advanced: { horizontalPodAutoscalerConfig: { behavior: { scaleDown: unknown } } };
    triggers: { name: string; metadata: Record<string, string> }[];
  };
};

let target: Cluster;
let prometheus: PrometheusReader;
let original: ScaledObject;

const processors = async () => (await target.get<Deployment>("deployment", "processor"))!.spec.replicas;
const hpa = async () => (await target.get<Autoscaler>("hpa", "keda-hpa-processor"))!;
const scale = async (workload: string, replicas: number) =>
  await target.kubectl(["scale", workload, "-n", NAMESPACE, `--replicas=${replicas}`]);

async function awaitReady(kind: string, name: string, replicas: number): Promise<void> {
  await waitFor(
    async () => {
      const ready = (await target.get<Deployment>(kind, name))?.status?.readyReplicas ?? 0;
      const pods = (await target.pods(name)).length;
      return ready === replicas && pods === replicas
        ? { done: true, value: true }
        : { done: false, state: `${ready} of ${pods} pods ready` };
    },
    { what: `${name} to have ${replicas} ready pods`, limitMs: READY_LIMIT_MS, intervalMs: 500 },
  );
}

/** Waits until the autoscaler knows all of its metrics, or lacks one. */
async function awaitMetrics(complete: boolean): Promise<void> {
  await waitFor(
    async () => {
      const { spec, status } = await hpa();
      const known = (status?.currentMetrics ?? []).filter(({ type }) => type).length;
      const asked = spec.metrics!.length;
      const active = status?.conditions?.some((one) => one.type === "ScalingActive" && one.status === "True");
      return (known === asked && active === true) === complete
        ? { done: true, value: true }
        : { done: false, state: `${known} of ${asked} metrics known` };
    },
    { what: `the autoscaler to ${complete ? "know" : "lack"} a metric`, limitMs: SCALE_LIMIT_MS, intervalMs: 500 },
  );
}

/** Waits until Prometheus knows that the database does not confirm writes. */
async function awaitSaturation(): Promise<void> {
  await waitFor(
    async () => {
      const [pending] = await prometheus.query("max(conveyor_processor_write_pending_seconds)");
      const seconds = pending?.value ?? 0;
      return seconds > SATURATED_SECONDS
        ? { done: true, value: seconds }
        : { done: false, state: `oldest pending write ${seconds} s` };
    },
    { what: "the database to be saturated", limitMs: SCALE_LIMIT_MS, intervalMs: 500 },
  );
}

/** The changes of the number of processors during a time, or until a condition that may depend on the newest number. */
async function watch(ms: number, until: (now: number) => boolean | Promise<boolean> = () => false): Promise<number[]> {
  const seen: number[] = [];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    const now = await processors();
    if (seen.at(-1) !== now) seen.push(now);
    if (await until(now)) break;
    await pause(500);
  }
  return seen;
}

/** Waits until the autoscaler has the target of the ScaledObject. */
async function awaitTarget(lagPerProcessor: number): Promise<void> {
  await waitFor(
    async () => {
      const targets = JSON.stringify((await hpa()).spec.metrics);
      return targets.includes(`"averageValue":"${quantity(lagPerProcessor)}"`)
        ? { done: true, value: true }
        : { done: false, state: targets };
    },
    { what: `the autoscaler to have the target ${lagPerProcessor}`, limitMs: SCALE_LIMIT_MS, intervalMs: 500 },
  );
}

/** A Kubernetes quantity: 1k, 1M. */
const quantity = (count: number): string => {
  for (const [letter, unit] of [
    ["M", 1_000_000],
    ["k", 1000],
  ] as const) {
    if (count % unit === 0) return `${count / unit}${letter}`;
  }
  return String(count);
};

/**
 * The deployed ScaledObject with four changes: a known lag counts as that of WANTED processors, another target, a known
 * use of CPU counts as that of one processor, and no stabilization before a step down.
 */
function withoutStabilization(lagPerProcessor: number): ScaledObject {
  const copy = structuredClone(original);
  const trigger = (name: string) => copy.spec.triggers.find((one) => one.name === name)!.metadata;
  const lag = trigger("lag");
  const before = lag.threshold!;
  const held = lag.query!.replace(`\n${before} * max(`, `\n${lagPerProcessor} * max(`);
  lag.query = `${WANTED * LAG_PER_PROCESSOR} + 0 * ${held}`;
  lag.threshold = String(lagPerProcessor);
  // On a busy machine the deployed target requires more processors than the lag.
  trigger("cpu").threshold = String(CPU_FOR_ONE);
  copy.spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown = {
    stabilizationWindowSeconds: 0,
    policies: [{ type: "Percent", value: 100, periodSeconds: 15 }],
  };
  return copy;
}

const lagNow = async () => (await prometheus.query('max(kafka_consumergroup_lag_sum{group="processor"})'))[0]?.value;

describeOnCluster("autoscaling", () => {
  beforeAll(async () => {
    target = await cluster();
    original = (await loadManifests()).find(({ kind }) => kind === "ScaledObject") as ScaledObject;
    await target.apply([original]);
    await atRest(target);
    prometheus = await PrometheusReader.open(target);
    // The query holds the number that Prometheus knows: a recent change must have been scraped. On a slow machine the CPU of
    // a processor at rest is above its target, and there are two.
    await waitFor(
      async () => {
        const [known] = await prometheus.query('max(kube_deployment_spec_replicas{deployment="processor"})');
        const actual = await processors();
        return known?.value === actual
          ? { done: true, value: true }
          : { done: false, state: `${known?.value ?? "no"} of ${actual} processors in Prometheus` };
      },
      { what: "Prometheus to know the number of processors", limitMs: SCALE_LIMIT_MS, intervalMs: 1000 },
    );
    const lags = await prometheus.query(
      'max(quantile_over_time(0.5, kafka_consumergroup_lag_sum{group="processor"}[1m]))',
    );
    if (!((lags[0]?.value ?? 0) > 0)) throw new Error("the fleet's lag is not known: does the producer run?");
  }, LIMIT_MS);

  afterAll(async () => {
    await prometheus?.close();
    if (!target) return;
    await target.apply([original]);
    for (const workload of ["deployment/prometheus", "deployment/lag-exporter", "statefulset/influxdb"]) {
      await scale(workload, 1);
    }
    await awaitReady("statefulset", "influxdb", 1);
    await awaitReady("deployment", "prometheus", 1);
    await awaitReady("deployment", "lag-exporter", 1);
  }, LIMIT_MS);

  test(
    "InfluxDB stopped: no processor is added, whatever the lag",
    async () => {
      let before = 0;
      let lag = 0;
      const seen: number[] = [];
      try {
        await scale("statefulset/influxdb", 0);
        await awaitSaturation();
        // Two syncs that may still use an earlier sample: on a busy machine the CPU adds a processor until then.
        await watch(WATCH_MS / 2);
        before = await processors();
        seen.push(
          ...(await watch(SCALE_LIMIT_MS, async () => {
            lag = (await lagNow()) ?? 0;
            return lag > (before + LAG_MARGIN) * LAG_PER_PROCESSOR;
          })),
        );
        // Two more syncs with that lag known.
        seen.push(...(await watch(WATCH_MS / 2)));
        const [asked] = (await hpa()).status?.currentMetrics ?? [];
        console.info(`lag ${lag}, processors ${seen.join(" ")}, metrics of the autoscaler: ${JSON.stringify(asked)}`);
      } finally {
        // The next test needs the database.
        await scale("statefulset/influxdb", 1);
        await awaitReady("statefulset", "influxdb", 1);
      }
      expect(lag).toBeGreaterThan((before + LAG_MARGIN) * LAG_PER_PROCESSOR);
      expect([...new Set(seen)]).toEqual([before]);
      await waitFor(
        async () => {
          const now = (await lagNow()) ?? lag;
          return now < 1000 ? { done: true, value: now } : { done: false, state: `lag ${now}` };
        },
        { what: "the processors to catch up", limitMs: READY_LIMIT_MS, intervalMs: 1000 },
      );
    },
    LIMIT_MS,
  );

  test(
    "Prometheus, then the lag metric missing: no processor is removed; with both the number follows the lag",
    async () => {
      await target.apply([withoutStabilization(LAG_PER_PROCESSOR)]);
      await waitFor(
        async () => {
          const now = await processors();
          return now >= WANTED ? { done: true, value: now } : { done: false, state: `${now} processors` };
        },
        { what: `${WANTED} processors`, limitMs: SCALE_LIMIT_MS },
      );

      for (const workload of ["prometheus", "lag-exporter"]) {
        await scale(`deployment/${workload}`, 0);
        await awaitMetrics(false);
        const before = await processors();
        expect(before).toBeGreaterThanOrEqual(WANTED);
        const seen = await watch(WATCH_MS);
        console.info(`without ${workload}: processors ${seen.join(" ")}`);
        expect(seen).toEqual([before]);
        await scale(`deployment/${workload}`, 1);
        await awaitReady("deployment", workload, 1);
        await awaitMetrics(true);
      }

      // The lag requires one: the step down shows within the same time.
      await target.apply([withoutStabilization(LAG_FOR_ONE)]);
      await awaitTarget(LAG_FOR_ONE);
      const down = await watch(WATCH_MS * 2, (now) => now === 1);
      console.info(`with both: processors ${down.join(" ")}`);
      expect(down.at(-1)).toBe(1);
    },
    LIMIT_MS,
  );
});
