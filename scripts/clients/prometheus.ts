/** Queries of Prometheus through a port-forward, over TLS verified against the project's CA. */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE, type PortForward } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { getVerified } from "./pod-metrics.ts";

const PORT = 9090;

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

export class PrometheusReader implements AsyncDisposable {
  readonly #forward: PortForward;
  readonly #ca: string;

  private constructor(forward: PortForward, ca: string) {
    this.#forward = forward;
    this.#ca = ca;
  }

  /** Whether Prometheus is deployed. */
  static async isDeployed(cluster: Cluster): Promise<boolean> {
    return (await cluster.get("deployment", "prometheus")) !== undefined;
  }

  /** Opens the port-forward; the caller closes it. @throws OperatorError (exit 3) without Prometheus. */
  static async open(cluster: Cluster): Promise<PrometheusReader> {
    const ca = (await readSecret(cluster, "prometheus-tls"))["ca.crt"];
    if (!ca || !(await PrometheusReader.isDeployed(cluster))) {
      throw new OperatorError("there is no Prometheus on this cluster", {
        exitCode: EXIT.precondition,
        hint: "bun scripts/deploy.ts   (lists skipped stages with the reason)",
      });
    }
    return new PrometheusReader(await cluster.portForward("svc/prometheus", PORT, NAMESPACE), ca);
  }

  async close(): Promise<void> {
    await this.#forward.close();
  }

  [Symbol.asyncDispose] = () => this.close();

  /** An instant query. @throws OperatorError with Prometheus' message */
  async query(promql: string, signal?: AbortSignal): Promise<VectorSample[]> {
    const { resultType, result } = await this.#get<QueryResult>(
      `/api/v1/query?${new URLSearchParams({ query: promql })}`,
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
      query: promql,
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
    return (await this.#get<{ activeTargets: Target[] }>("/api/v1/targets?state=active", signal)).activeTargets;
  }

  /** Pending and firing alerts. */
  async alerts(signal?: AbortSignal): Promise<Alert[]> {
    return (await this.#get<{ alerts: Alert[] }>("/api/v1/alerts", signal)).alerts;
  }

  async #get<T>(path: string, signal?: AbortSignal): Promise<T> {
    const { status, body } = await getVerified(
      this.#forward.port,
      path,
      this.#ca,
      `prometheus.${NAMESPACE}.svc`,
      signal,
    );
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
