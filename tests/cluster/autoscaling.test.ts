/**
 * Goal: the processors are scaled by what is known, and held by what is not. A metric that went missing never takes a
 * processor away, and a database that is the limit never adds one.
 * Method: InfluxDB is taken away under the deployed autoscaler. Then the autoscaler gets a lag that always asks for several
 * processors as long as it is known (the fleet's own is small and moves), and loses its patience, so that a wrong step down
 * would be seen within seconds; Prometheus and the lag exporter are taken away, one after the other. At the end the lag is
 * let ask for one: the step down that was not seen before must be seen now, within the time that was watched before.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { pause, waitFor } from "../../scripts/cli/wait.ts";
import { PrometheusReader } from "../../scripts/clients/prometheus.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../../scripts/cluster/cluster.ts";
import type { Autoscaler } from "../../scripts/deploy/autoscalers.ts";
import { loadManifests } from "../../scripts/deploy/manifests.ts";
import { atRest, cluster, describeOnCluster } from "./harness.ts";

/** The autoscaler looks every 5 s here: four looks. */
const WATCH_MS = 20_000;
/** Up or down when it is right: a scrape, a look, and KEDA's own reading of its ScaledObject take 30 s; a busy machine more. */
const SCALE_LIMIT_MS = 150_000;
const READY_LIMIT_MS = 240_000;
/** All that is waited for, one after the other; a test takes two minutes. */
const LIMIT_MS = 1_200_000;
/** The lag per processor that is deployed, in events. */
const LAG_PER_PROCESSOR = 1000;
/** Processors that the lag is made to ask for. */
const WANTED = 3;
/** A lag per processor that no lag of these tests comes near: it asks for one. */
const LAG_FOR_ONE = 1_000_000;
/** While the database is the limit the lag must have asked for so many more processors, by the real threshold. */
const LAG_OF_SEVERAL = 4000;

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

/** Whether the autoscaler knows all of its metrics. */
async function awaitSight(sees: boolean): Promise<void> {
  await waitFor(
    async () => {
      const { spec, status } = await hpa();
      const known = (status?.currentMetrics ?? []).filter(({ type }) => type).length;
      const asked = spec.metrics!.length;
      const active = status?.conditions?.some((one) => one.type === "ScalingActive" && one.status === "True");
      return (known === asked && active === true) === sees
        ? { done: true, value: true }
        : { done: false, state: `${known} of ${asked} metrics known` };
    },
    { what: `the autoscaler to ${sees ? "know" : "lack"} a metric`, limitMs: SCALE_LIMIT_MS, intervalMs: 500 },
  );
}

/** The numbers of processors seen, each once, in order, over a time. */
async function watch(ms: number, until: () => Promise<boolean> = async () => false): Promise<number[]> {
  const seen: number[] = [];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    const now = await processors();
    if (seen.at(-1) !== now) seen.push(now);
    if (await until()) break;
    await pause(500);
  }
  return seen;
}

/** Waits until the autoscaler has what the ScaledObject asks for now, events behind for each processor. */
async function awaitTarget(lagPerProcessor: number): Promise<void> {
  await waitFor(
    async () => {
      const targets = JSON.stringify((await hpa()).spec.metrics);
      return targets.includes(`"averageValue":"${quantity(lagPerProcessor)}"`)
        ? { done: true, value: true }
        : { done: false, state: targets };
    },
    { what: `the autoscaler to have ${lagPerProcessor} for its target`, limitMs: SCALE_LIMIT_MS, intervalMs: 500 },
  );
}

/** A number as Kubernetes writes it: thousands and millions by their letter. */
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
 * The ScaledObject as deployed, but for three things: the lag, where it is known, counts as that of WANTED processors; the
 * lag per processor is another; a step down waits for nothing.
 */
function impatient(lagPerProcessor: number): ScaledObject {
  const copy = structuredClone(original);
  const lag = copy.spec.triggers.find(({ name }) => name === "lag")!.metadata;
  const before = lag.threshold!;
  const held = lag.query!.replace(`\n${before} * max(`, `\n${lagPerProcessor} * max(`);
  lag.query = `${WANTED * LAG_PER_PROCESSOR} + 0 * ${held}`;
  lag.threshold = String(lagPerProcessor);
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
    // The number that is held is the one that Prometheus knows: a step of a moment ago must have come through.
    await waitFor(
      async () => {
        const [known] = await prometheus.query('max(kube_deployment_spec_replicas{deployment="processor"})');
        return known?.value === 1
          ? { done: true, value: true }
          : { done: false, state: `${known?.value ?? "no"} processors known to Prometheus` };
      },
      { what: "Prometheus to know of one processor", limitMs: SCALE_LIMIT_MS, intervalMs: 1000 },
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
    "InfluxDB the limit: no processor is added, however much is behind",
    async () => {
      const before = await processors();
      let lag = 0;
      const seen: number[] = [];
      try {
        await scale("statefulset/influxdb", 0);
        seen.push(
          ...(await watch(SCALE_LIMIT_MS, async () => {
            lag = (await lagNow()) ?? 0;
            return lag > LAG_OF_SEVERAL;
          })),
        );
        // Two more looks with all that lag known.
        seen.push(...(await watch(WATCH_MS / 2)));
        const [asked] = (await hpa()).status?.currentMetrics ?? [];
        console.info(`lag ${lag}, processors ${seen.join(" ")}, told to the autoscaler: ${JSON.stringify(asked)}`);
      } finally {
        // Whatever was seen: what comes next needs the database.
        await scale("statefulset/influxdb", 1);
        await awaitReady("statefulset", "influxdb", 1);
      }
      expect(lag).toBeGreaterThan(LAG_OF_SEVERAL);
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
    "Prometheus gone, then the lag's metric gone: the processors stay; with both back they follow the lag again",
    async () => {
      await target.apply([impatient(LAG_PER_PROCESSOR)]);
      await waitFor(
        async () => {
          const now = await processors();
          return now >= WANTED ? { done: true, value: now } : { done: false, state: `${now} processors` };
        },
        { what: `${WANTED} processors`, limitMs: SCALE_LIMIT_MS },
      );

      for (const workload of ["prometheus", "lag-exporter"]) {
        await scale(`deployment/${workload}`, 0);
        await awaitSight(false);
        const before = await processors();
        expect(before).toBeGreaterThanOrEqual(WANTED);
        const seen = await watch(WATCH_MS);
        console.info(`without ${workload}: processors ${seen.join(" ")}`);
        // One more may come by what is still known (CPU, on a busy machine); none may go.
        expect(seen).toEqual(seen.toSorted((one, other) => one - other));
        expect(seen[0]).toBeGreaterThanOrEqual(before);
        await scale(`deployment/${workload}`, 1);
        await awaitReady("deployment", workload, 1);
        await awaitSight(true);
      }

      // The lag asks for one: what was not seen in the same time above is seen now.
      await target.apply([impatient(LAG_FOR_ONE)]);
      await awaitTarget(LAG_FOR_ONE);
      const down = await watch(WATCH_MS * 2, async () => (await processors()) === 1);
      console.info(`with both: processors ${down.join(" ")}`);
      expect(down.at(-1)).toBe(1);
    },
    LIMIT_MS,
  );
});
