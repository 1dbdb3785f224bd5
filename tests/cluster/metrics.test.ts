/** The deployed Prometheus: its targets, the lag metric of the plan, rules and alert delivery. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { expectedRows, targetsNotUp } from "../../scripts/checks/signals.ts";
import { waitFor } from "../../scripts/cli/wait.ts";
import { KUBELET_JOB } from "../../scripts/clients/kubelets.ts";
import { PrometheusReader } from "../../scripts/clients/prometheus.ts";
import type { Cluster } from "../../scripts/cluster/cluster.ts";
import { deployedStages } from "../../scripts/deploy/stages.ts";
import { TOPIC_TABLE } from "../../services/domain/kafka-layout.ts";
import { cluster, describeOnCluster } from "./harness.ts";

/** A new target is scraped within 15 s; later on a busy machine. */
const TARGETS_LIMIT_MS = 120_000;

let target: Cluster;
let prometheus: PrometheusReader;

/** Repeats a check until it passes: metrics are a scrape old, and a restarted Prometheus has none. */
const settled = async (what: string, check: () => Promise<void>) =>
  await waitFor(
    async () => {
      await check();
      return { done: true, value: undefined };
    },
    { what, limitMs: TARGETS_LIMIT_MS, intervalMs: 2000 },
  );

describeOnCluster("Prometheus", () => {
  beforeAll(async () => {
    target = await cluster();
    prometheus = await PrometheusReader.open(target);
  });
  afterAll(() => prometheus?.close());

  test(
    "has every expected target, each pod once, all up",
    async () => {
      const services = expectedRows((await deployedStages(target)).stages).map(({ service }) => service);
      const expected = [...services, KUBELET_JOB];
      const targets = await waitFor(
        async () => {
          const found = await prometheus.targets();
          const missing = expected.filter((job) => !found.some(({ labels }) => labels.job === job));
          const state = [...missing.map((job) => `no ${job}`), ...targetsNotUp(found)].join("; ");
          return state === "" ? { done: true, value: found } : { done: false, state };
        },
        { what: "every target to be up", limitMs: TARGETS_LIMIT_MS, intervalMs: 2000 },
      );
      expect([...new Set(targets.map(({ labels }) => labels.job))].sort()).toEqual([...expected].sort());
      const urls = targets.map(({ scrapeUrl }) => scrapeUrl);
      expect(urls.filter((url, index) => urls.indexOf(url) !== index)).toEqual([]);
      expect(urls.filter((url) => !url.startsWith("https://"))).toEqual([]);
      expect(
        targets
          .filter(({ labels }) => labels.job === "kafka")
          .map(({ labels }) => labels.pod)
          .sort(),
      ).toEqual(["kafka-0", "kafka-1", "kafka-2"]);
    },
    TARGETS_LIMIT_MS + 30_000,
  );

  test(
    'has kafka_consumergroup_lag{group="processor"}, one series per partition',
    async () => {
      const { name, partitions } = TOPIC_TABLE[0]!;
      // Series of a replaced lag exporter, or of a group without members, may still exist.
      await settled("one lag series per partition", async () => {
        const lag = await prometheus.query('kafka_consumergroup_lag{group="processor"}');
        expect(lag.map(({ labels }) => `${labels.topic}/${labels.partition}`).sort()).toEqual(
          Array.from({ length: partitions }, (_, partition) => `${name}/${partition}`),
        );
        const [sum] = await prometheus.query('sum(kafka_consumergroup_lag_sum{group="processor"})');
        expect(sum?.value).toBeGreaterThanOrEqual(0);
      });
    },
    TARGETS_LIMIT_MS + 30_000,
  );

  test(
    "evaluates every rule without an error",
    async () => {
      await settled("rules to be evaluated", async () => {
        const [evaluated] = await prometheus.query("sum(prometheus_rule_evaluations_total)");
        expect(evaluated?.value).toBeGreaterThan(0);
        expect((await prometheus.alerts()).map(({ labels }) => labels.alertname)).toContain("Watchdog");
      });
      const failed = await prometheus.query("prometheus_rule_evaluation_failures_total > 0");
      expect(failed.map(({ labels, value }) => `${labels.rule_group}: ${value}`)).toEqual([]);
    },
    TARGETS_LIMIT_MS + 30_000,
  );

  test(
    "sends alerts to Alertmanager",
    async () => {
      await settled("an alert to have reached Alertmanager", async () => {
        const [discovered] = await prometheus.query("prometheus_notifications_alertmanagers_discovered");
        expect(discovered?.value).toBe(1);
        const [received] = await prometheus.query("sum(alertmanager_alerts_received_total)");
        expect(received?.value).toBeGreaterThan(0);
      });
    },
    TARGETS_LIMIT_MS + 30_000,
  );
});
