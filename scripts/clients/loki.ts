/**
 * Queries of Loki through a port-forward, over TLS verified against the project's CA, page by page, so that no line is
 * missing from a large result.
 */

import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE, type PortForward } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { type LogEntry, levelOf } from "./log-search.ts";

const PORT = 3100;
/** limits_config.max_entries_limit_per_query of k8s/logging/loki-configmap.yaml. */
const PAGE_ENTRIES = 5000;
/** Loki itself ends a query after a minute. */
const QUERY_LIMIT_MS = 70_000;
/** 2 million lines: more would exceed the memory. */
const MAX_PAGES = 400;

interface Stream {
  stream: Record<string, string>;
  values: [timeNs: string, line: string][];
}

/** Range of a search, nanoseconds since the epoch; the end is exclusive. */
export interface LogRange {
  startNs: bigint;
  endNs: bigint;
}

export const nsOfMs = (ms: number): bigint => BigInt(Math.round(ms)) * 1_000_000n;

/** Entries of Loki's streams, sorted by time. */
export function entriesOf(streams: readonly Stream[], order: "forward" | "backward" = "forward"): LogEntry[] {
  const entries = streams.flatMap(({ stream, values }) =>
    values.map(([timeNs, line]): LogEntry => {
      const { run, conveyor, seq, event } = stream;
      return {
        timeNs,
        service: stream.service ?? stream.app ?? "",
        level: levelOf(stream.level),
        app: stream.app ?? "",
        pod: stream.pod ?? "",
        container: stream.container ?? "",
        run,
        conveyor,
        seq,
        event,
        line,
      };
    }),
  );
  const sign = order === "forward" ? 1 : -1;
  return entries.sort((a, b) => {
    const [left, right] = [BigInt(a.timeNs), BigInt(b.timeNs)];
    return left < right ? -sign : left > right ? sign : 0;
  });
}

/** Identity of an entry. */
export const keyOf = (entry: LogEntry): string => `${entry.timeNs} ${entry.pod}/${entry.container} ${entry.line}`;

export class LogStore implements AsyncDisposable {
  readonly #forward: PortForward;
  readonly #ca: string;
  readonly #url: string;

  private constructor(forward: PortForward, ca: string) {
    this.#forward = forward;
    this.#ca = ca;
    this.#url = `https://localhost:${forward.port}`;
  }

  /** Whether Loki is deployed. */
  static async isDeployed(cluster: Cluster): Promise<boolean> {
    return (await cluster.get("deployment", "loki")) !== undefined;
  }

  /** Opens the port-forward; the caller closes it. @throws OperatorError (exit 3) without Loki. */
  static async open(cluster: Cluster): Promise<LogStore> {
    const ca = (await readSecret(cluster, "loki-tls"))["ca.crt"];
    if (!ca || !(await LogStore.isDeployed(cluster))) {
      throw new OperatorError(`no Loki is deployed in namespace ${NAMESPACE} of context ${cluster.context}`, {
        exitCode: EXIT.precondition,
        hint: "deploy with --images DIR where the cluster cannot pull docker.io/grafana/loki; --source pods reads the pods themselves",
      });
    }
    return new LogStore(await cluster.portForward("svc/loki", PORT, NAMESPACE), ca);
  }

  async close(): Promise<void> {
    await this.#forward.close();
  }

  [Symbol.asyncDispose] = () => this.close();

  /** One call of Loki's API. @throws OperatorError with Loki's message */
  async get<T>(path: string, parameters: Record<string, string>, signal?: AbortSignal): Promise<T> {
    const limit = AbortSignal.timeout(QUERY_LIMIT_MS);
    const response = await fetch(`${this.#url}${path}?${new URLSearchParams(parameters)}`, {
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      tls: { ca: this.#ca },
    });
    const body = await response.text();
    if (!response.ok) {
      const exitCode = response.status === 400 ? EXIT.usage : EXIT.failed;
      throw new OperatorError(`Loki answered ${response.status}: ${body.slice(0, 500).trim()}`, { exitCode });
    }
    return JSON.parse(body) as T;
  }

  async #page(query: string, range: LogRange, limit: number, direction: string, signal?: AbortSignal) {
    const { data } = await this.get<{ data: { result: Stream[] } }>(
      "/loki/api/v1/query_range",
      { query, start: String(range.startNs), end: String(range.endNs), limit: String(limit), direction },
      signal,
    );
    return entriesOf(data.result, direction as "forward" | "backward");
  }

  /** The newest entries of a range, at most `limit`, sorted from the oldest. */
  async newest(query: string, range: LogRange, limit: number, signal?: AbortSignal): Promise<LogEntry[]> {
    const found: LogEntry[] = [];
    const seen = new Set<string>();
    let endNs = range.endNs;
    for (let page = 0; page < MAX_PAGES && found.length < limit && endNs > range.startNs; page++) {
      const size = Math.min(PAGE_ENTRIES, limit);
      const entries = await this.#page(query, { startNs: range.startNs, endNs }, size, "backward", signal);
      const fresh = entries.filter((entry) => !seen.has(keyOf(entry)));
      for (const entry of fresh) seen.add(keyOf(entry));
      found.push(...fresh);
      if (entries.length < size) break;
      // Entries of the oldest nanosecond may continue on the next page.
      const oldestNs = BigInt(entries.at(-1)!.timeNs);
      endNs = fresh.length > 0 ? oldestNs + 1n : oldestNs;
    }
    return found.slice(0, limit).reverse();
  }

  /** Every entry of a range once, in pages, from the oldest. */
  async *all(query: string, range: LogRange, signal?: AbortSignal): AsyncGenerator<LogEntry[]> {
    let { startNs } = range;
    let seen = new Set<string>();
    for (let page = 0; page < MAX_PAGES && startNs < range.endNs; page++) {
      const entries = await this.#page(query, { startNs, endNs: range.endNs }, PAGE_ENTRIES, "forward", signal);
      const fresh = entries.filter((entry) => !seen.has(keyOf(entry)));
      if (fresh.length > 0) yield fresh;
      if (entries.length < PAGE_ENTRIES) return;
      const newest = entries.at(-1)!.timeNs;
      // The next page repeats entries of the last nanosecond, and no others.
      seen = new Set(entries.filter(({ timeNs }) => timeNs === newest).map(keyOf));
      startNs = fresh.length > 0 ? BigInt(newest) : BigInt(newest) + 1n;
    }
  }
}
