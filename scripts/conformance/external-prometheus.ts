/**
 * A Prometheus of prometheus-operator in its own namespace, as kube-prometheus-stack runs it, and the steps that prove that
 * the pipeline works with it instead of an own one: deploy, scrapes, validate, audit.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Report } from "../cli/report.ts";
import { waitFor } from "../cli/wait.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { Case } from "./case.ts";
import { commandStep, DOWN, UP } from "./commands.ts";
import {
  installOperator,
  OPERATOR_NAMESPACE,
  PROMETHEUS_IMAGE,
  PROMETHEUS_POD,
  PROMETHEUS_URL,
  RELEASE,
  startPrometheus,
} from "./prometheus-operator.ts";
import { optionalRows } from "./variants.ts";

/** Namespace of the pipeline. */
const PIPELINE = "conveyor-monitored";
/** Compiling the operator takes minutes, once per machine. */
const OPERATOR_LIMIT_MS = 1_800_000;
/** A new ServiceMonitor is scraped within a minute or two: the kubelet refreshes a Secret, then the reloader Prometheus. */
const SCRAPED_LIMIT_MS = 300_000;
const REQUEST_LIMIT_MS = 15_000;
/** Workloads that every deploy has, by the jobs of their ServiceMonitors. */
const JOBS = ["producer", "processor", "lag-exporter", "kafka", "influxdb", "kube-state-metrics"];

/** Waits until the Prometheus has scraped every job. */
async function awaitScrapes(cluster: Cluster, signal: AbortSignal): Promise<void> {
  await using forward = await cluster.portForward(`pod/${PROMETHEUS_POD}`, 9090, OPERATOR_NAMESPACE);
  const query = new URLSearchParams({ query: `count by (job) (up{namespace="${PIPELINE}"} == 1)` });
  const scraped = async () => {
    const answer = await fetch(`http://127.0.0.1:${forward.port}/api/v1/query?${query}`, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_LIMIT_MS)]),
    });
    const { data } = (await answer.json()) as { data: { result: { metric: { job: string } }[] } };
    const found = data.result.map(({ metric }) => metric.job);
    const missing = JOBS.filter((job) => !found.includes(job));
    return missing.length === 0
      ? { done: true as const, value: undefined }
      : { done: false as const, state: `not scraped: ${missing.join(", ")}` };
  };
  await waitFor(scraped, {
    what: "the external Prometheus to scrape the pipeline",
    limitMs: SCRAPED_LIMIT_MS,
    intervalMs: 3000,
    signal,
  });
}

/**
 * The case of an external Prometheus: operator, deploy, scrapes, validate, audit, destroy.
 * @param folder for the certificates and the file of the server
 */
export function externalPrometheusCase(cluster: Cluster, folder: string, report: Report): Case {
  const file = join(folder, "external.yaml");
  const target = ["--local", "--namespace", PIPELINE];
  const labels = Object.entries(RELEASE).map((label) => label.join("="));
  return {
    name: "prometheus",
    title: `Prometheus of prometheus-operator in namespace ${OPERATOR_NAMESPACE}, pipeline in namespace ${PIPELINE}`,
    steps: [
      UP,
      commandStep("images", ["build-images.ts", "--local", PROMETHEUS_IMAGE]),
      {
        name: "operator",
        command: `prometheus-operator in namespace ${OPERATOR_NAMESPACE}`,
        limitMs: OPERATOR_LIMIT_MS,
        async run(signal) {
          await installOperator(cluster, report);
          await startPrometheus(cluster, signal);
          await mkdir(folder, { recursive: true, mode: 0o700 });
          await writeFile(file, `prometheus:\n  url: ${PROMETHEUS_URL}\n`);
          return { ok: true, detail: "" };
        },
      },
      commandStep("deploy", [
        ...["deploy.ts", ...target, "--external", file, "--certs", join(folder, "certs")],
        ...["--monitor-labels", labels.join(",")],
      ]),
      {
        name: "scrapes",
        command: "every ServiceMonitor has a target that is up",
        limitMs: SCRAPED_LIMIT_MS,
        async run(signal) {
          await awaitScrapes(cluster, signal);
          return { ok: true, detail: "" };
        },
      },
      commandStep("validate", ["validate.ts", ...target], undefined, (stdout) => ({ optional: optionalRows(stdout) })),
      commandStep("audit", ["audit.ts", ...target]),
      commandStep("destroy", ["destroy.ts", ...target, "--yes"]),
    ],
    removal: DOWN,
  };
}
