/**
 * Metrics of a workload's pods, read through port-forwards over TLS verified against the project's CA, for commands that
 * must work without Prometheus.
 */
import http from "node:http";
import https from "node:https";
import {
  Histogram,
  parseMetrics,
  quantile,
  readHistogram,
  readSum,
  type Sample,
} from "../../services/domain/exposition.ts";
import { mergeHistograms } from "../../services/domain/pod-counters.ts";
import { OperatorError } from "../cli/errors.ts";
import { type Cluster, isReady, NAMESPACE } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";

export { Histogram, parseMetrics, quantile, readHistogram, readSum, type Sample };

const OPS_PORT = 9464;
/** A scrape has a few kilobytes; a process that needs longer hangs. */
const SCRAPE_LIMIT_MS = 10_000;

/** A server behind a forwarded port. */
export interface ForwardedServer {
  port: number;
  /** Its certificate must be issued by `ca`, or else by one of the system's, for `servername`; absent: plain HTTP. */
  tls?: { ca?: string | undefined; servername: string };
  headers?: Record<string, string>;
}

/** A GET over TLS through a forwarded port; the certificate must be issued by `ca` for `servername`. */
export const getVerified = (port: number, path: string, ca: string, servername: string, signal?: AbortSignal) =>
  getForwarded({ port, tls: { ca, servername } }, path, signal);

/** A GET through a forwarded port. */
export function getForwarded({ port, tls, headers }: ForwardedServer, path: string, signal?: AbortSignal) {
  return new Promise<{ status: number; body: string }>((resolve, reject) => {
    const { request } = tls ? https : http;
    const call = request(
      { host: "127.0.0.1", port, path, headers, ...tls, timeout: SCRAPE_LIMIT_MS, signal },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") }),
        );
        response.on("error", reject);
      },
    );
    call.on("timeout", () => call.destroy(new Error(`no answer within ${SCRAPE_LIMIT_MS / 1000} s`)));
    call.on("error", reject);
    call.end();
  });
}

export type PodSamples = ReadonlyMap<string, readonly Sample[]>;

/** Metrics of every running pod of a workload. @throws OperatorError when none, or one that is Ready, can be read. */
export async function scrape(cluster: Cluster, workload: string, signal?: AbortSignal): Promise<PodSamples> {
  const ca = (await readSecret(cluster, `${workload}-tls`))["ca.crt"] ?? "";
  const pods = await cluster.runningPods(workload);
  if (pods.length === 0) throw new OperatorError(`no running pod of ${workload} to read metrics from`);
  const read = async (name: string): Promise<Sample[]> => {
    await using forward = await cluster.portForward(`pod/${name}`, OPS_PORT, NAMESPACE);
    const { status, body } = await getVerified(forward.port, "/metrics", ca, `${workload}.${NAMESPACE}.svc`, signal);
    if (status !== 200) throw new OperatorError(`/metrics of ${name} answered ${status}`);
    return parseMetrics(body);
  };
  const names = pods.map(({ metadata }) => metadata.name);
  const answers = await Promise.allSettled(names.map(read));
  const found = new Map<string, readonly Sample[]>();
  let failure: unknown;
  for (const [index, answer] of answers.entries()) {
    if (answer.status === "fulfilled") found.set(names[index]!, answer.value);
    else failure ??= answer.reason;
  }
  if (failure === undefined) return found;
  // A pod that the autoscaler has removed since, or has just added and that does not serve yet, is skipped.
  const serving = new Set((await cluster.runningPods(workload)).filter(isReady).map(({ metadata }) => metadata.name));
  if (found.size === 0 || names.some((name) => !found.has(name) && serving.has(name))) throw failure;
  return found;
}

/** Samples of all pods. */
export const allSamples = (pods: PodSamples): Sample[] => [...pods.values()].flat();

const START_TIME = "process_start_time_seconds";
const NOTHING: readonly Sample[] = [];

/**
 * Earlier and later samples of each pod. A new pod, and a pod with a new process, started at zero. A deleted pod has no
 * pair: its counts since the first scrape are lost.
 */
function* sinceStart(before: PodSamples, after: PodSamples): Generator<[readonly Sample[], readonly Sample[]]> {
  for (const [pod, samples] of after) {
    const earlier = before.get(pod) ?? NOTHING;
    const isSame = readSum(earlier, START_TIME) === readSum(samples, START_TIME);
    yield [isSame ? earlier : NOTHING, samples];
  }
}

/** Increase of a counter between two scrapes, over all pods of the second. */
export function counterGain(before: PodSamples, after: PodSamples, name: string): number {
  let gain = 0;
  for (const [earlier, samples] of sinceStart(before, after)) gain += readSum(samples, name) - readSum(earlier, name);
  return gain;
}

/** Observations of a histogram between two scrapes, over all pods of the second. */
export function histogramGain(before: PodSamples, after: PodSamples, name: string): Histogram {
  return mergeHistograms(
    [...sinceStart(before, after)].map(([earlier, samples]) =>
      readHistogram(samples, name).minus(readHistogram(earlier, name)),
    ),
  );
}

/** Pods of the first scrape that are missing in the second. */
export const podsGoneSince = (before: PodSamples, after: PodSamples): string[] =>
  [...before.keys()].filter((pod) => !after.has(pod));
