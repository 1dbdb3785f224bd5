/**
 * Queries of Prometheus: of the own one through a port-forward, over TLS verified against the project's CA; of an external one
 * through a relay pod. That one has the metrics of more than the pipeline, and this account may have no right but to query: every
 * query is limited to the pipeline's namespaces, and targets are read by a query too.
 */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { type ExternalPrometheus, PROMETHEUS_SECRET, readExternalStores } from "../cluster/external-stores.ts";
import { PIPELINE_NAMESPACES } from "../cluster/namespace.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { type ForwardedServer, getForwarded } from "./pod-metrics.ts";
import { withNamespaces } from "./promql.ts";
import { openRelay } from "./relay.ts";

const PORT = 9090;
/** Where the annotation `runbook_url` of the pipeline's own alerts starts. */
const RUNBOOKS = "docs/runbooks/";

/** One element of an instant vector. */
export interface VectorSample {
  labels: Record<string, string>;
  value: number;
}

/** A series at the requested times. */
export interface RangeSeries {
  labels: Record<string, string>;
  values: (number | null)[];
}

export interface Target {
  labels: Record<string, string>;
  health: "up" | "down" | "unknown";
  lastError: string;
  scrapeUrl: string;
}

export interface Alert {
  labels: Record<string, string>;
  annotations: Record<string, string>;
  state: "pending" | "firing";
  /** RFC 3339. */
  activeAt: string;
}

type QueryResult =
  | { resultType: "vector"; result: { metric: Record<string, string>; value: [number, string] }[] }
  | { resultType: "scalar"; result: [number, string] }
  | { resultType: "matrix" | "string"; result: unknown };

interface Answer<T> {
  status: string;
  error?: string;
  data?: T;
}

/** Whether the deployed pipeline uses a Prometheus of other people. */
export const isPrometheusExternal = async (cluster: Cluster): Promise<boolean> =>
  (await readExternalStores(cluster)).prometheus !== undefined;

export class PrometheusReader implements AsyncDisposable {
  readonly #server: ForwardedServer;
  readonly #end: () => Promise<void>;
  readonly #isExternal: boolean;

  /** @param end closes the connection; called by `close` */
  constructor(server: ForwardedServer, end: () => Promise<void>, isExternal = false) {
    this.#server = server;
    this.#end = end;
    this.#isExternal = isExternal;
  }

  /** Whether there is a Prometheus to query: an own or an external one. */
  static async isDeployed(cluster: Cluster): Promise<boolean> {
    return (await isPrometheusExternal(cluster)) || (await cluster.get("deployment", "prometheus")) !== undefined;
  }

  static async #openExternal(cluster: Cluster, { url, hasCa, hasToken }: ExternalPrometheus) {
    const secret = hasCa || hasToken ? await readSecret(cluster, PROMETHEUS_SECRET) : {};
    const { protocol, host, hostname } = new URL(url);
    const relay = await openRelay(cluster, url);
    const server: ForwardedServer = {
      port: relay.port,
      ...(protocol === "https:" ? { tls: { ca: secret["ca.crt"], servername: hostname } } : {}),
      headers: { host, ...(hasToken ? { authorization: `Bearer ${secret.token ?? ""}` } : {}) },
    };
    return new PrometheusReader(server, relay.close, true);
  }

  /** Opens the connection; the caller closes it. @throws OperatorError (exit 3) without Prometheus. */
  static async open(cluster: Cluster): Promise<PrometheusReader> {
    const { prometheus } = await readExternalStores(cluster);
    if (prometheus) return await PrometheusReader.#openExternal(cluster, prometheus);
    const ca = (await readSecret(cluster, "prometheus-tls"))["ca.crt"];
    if (!ca || !(await cluster.get("deployment", "prometheus"))) {
      throw new OperatorError("there is no Prometheus on this cluster", {
        exitCode: EXIT.precondition,
        hint: "bun scripts/deploy.ts   (lists skipped stages with the reason)",
      });
    }
    const forward = await cluster.portForward("svc/prometheus", PORT, NAMESPACE);
    const server = { port: forward.port, tls: { ca, servername: `prometheus.${NAMESPACE}.svc` } };
    return new PrometheusReader(server, forward.close);
  }

  async close(): Promise<void> {
    await this.#end();
  }

  [Symbol.asyncDispose] = () => this.close();

  #scoped(promql: string): string {
    return this.#isExternal ? withNamespaces(promql, PIPELINE_NAMESPACES.join("|")) : promql;
  }

  /** An instant query. @throws OperatorError with Prometheus' message */
  async query(promql: string, signal?: AbortSignal): Promise<VectorSample[]> {
    const { resultType, result } = await this.#get<QueryResult>(
      `/api/v1/query?${new URLSearchParams({ query: this.#scoped(promql) })}`,
      signal,
    );
    if (resultType === "scalar") return [{ labels: {}, value: Number(result[1]) }];
    if (resultType !== "vector")
      throw new OperatorError(`Prometheus: an instant vector is needed; got a ${resultType}`);
    return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  /**
   * A query at evenly spaced times; a time without a value is null.
   * @throws OperatorError with Prometheus' message
   */
  async range(promql: string, timesMs: readonly number[], signal?: AbortSignal): Promise<RangeSeries[]> {
    const [first, last] = [timesMs[0]!, timesMs.at(-1)!];
    const stepMs = timesMs.length > 1 ? timesMs[1]! - first : 1000;
    const query = new URLSearchParams({
      query: this.#scoped(promql),
      start: String(first / 1000),
      end: String(last / 1000),
      step: String(stepMs / 1000),
    });
    const { result } = await this.#get<{ result: { metric: Record<string, string>; values: [number, string][] }[] }>(
      `/api/v1/query_range?${query}`,
      signal,
    );
    return result.map(({ metric, values }) => {
      const known = new Map(values.map(([seconds, value]) => [Math.round(seconds * 1000), Number(value)]));
      return { labels: metric, values: timesMs.map((timeMs) => known.get(timeMs) ?? null) };
    });
  }

  /** The scrape targets and their last result. */
  async targets(signal?: AbortSignal): Promise<Target[]> {
    if (this.#isExternal) {
      return (await this.query("up", signal)).map(({ labels, value }) => ({
        labels,
        health: value === 1 ? "up" : "down",
        lastError: value === 1 ? "" : "a scrape failed; the external Prometheus has the reason",
        scrapeUrl: "",
      }));
    }
    return (await this.#get<{ activeTargets: Target[] }>("/api/v1/targets?state=active", signal)).activeTargets;
  }

  /** Pending and firing alerts of the pipeline. */
  async alerts(signal?: AbortSignal): Promise<Alert[]> {
    const { alerts } = await this.#get<{ alerts: Alert[] }>("/api/v1/alerts", signal);
    if (!this.#isExternal) return alerts;
    return alerts.filter(
      ({ annotations, labels: { namespace } }) =>
        annotations.runbook_url?.startsWith(RUNBOOKS) && (!namespace || PIPELINE_NAMESPACES.includes(namespace)),
    );
  }

  async #get<T>(path: string, signal?: AbortSignal): Promise<T> {
    const { status, body } = await getForwarded(this.#server, path, signal);
    let answer: Answer<T>;
    try {
      answer = JSON.parse(body) as Answer<T>;
    } catch (error) {
      throw new OperatorError(`Prometheus answered ${status} and no JSON: ${body.slice(0, 200)}`, { cause: error });
    }
    if (answer.status !== "success" || !answer.data) {
      throw new OperatorError(`Prometheus: ${answer.error ?? `answered ${status}`}`);
    }
    return answer.data;
  }
}
