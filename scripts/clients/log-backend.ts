/** What a client of a log store is, and the connection that all of them use. */
import { EXIT, OperatorError } from "../cli/errors.ts";
import { type Cluster, NAMESPACE, type PortForward } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import type { LogEntry, LogSearch } from "./log-search.ts";

/** A store itself ends a query after a minute. */
const QUERY_LIMIT_MS = 70_000;
/** 2 million entries of a kilobyte: more would exceed the memory. */
export const MAX_ENTRIES = 2_000_000;

/** Range of a search, nanoseconds since the epoch; the end is exclusive. */
export interface LogRange {
  startNs: bigint;
  endNs: bigint;
}

export const nsOfMs = (ms: number): bigint => BigInt(Math.round(ms)) * 1_000_000n;

/** A kind of log store, by the names of its objects. */
export interface LogBackend {
  /** Value of `--source` and `--logs`. */
  name: "loki" | "victorialogs";
  /** The store's name in texts. */
  title: string;
  /** The collector's name in texts. */
  collector: string;
  /** Of the Service, which has the backend's name, as the Deployment has. */
  port: number;
}

/** Searches of a deployed store. A port-forward ends with its pod: open another one after a failure. */
export interface LogStore extends AsyncDisposable {
  readonly backend: LogBackend;
  /** The search in the store's language. */
  queryOf(search: LogSearch): string;
  /** The newest entries of a range, at most `limit`, sorted from the oldest. */
  newest(search: LogSearch, range: LogRange, limit: number, signal?: AbortSignal): Promise<LogEntry[]>;
  /** Every entry of a range once, in batches; each batch is sorted from the oldest. */
  all(search: LogSearch, range: LogRange, signal?: AbortSignal): AsyncGenerator<LogEntry[]>;
  close(): Promise<void>;
}

/** A port-forward to a store, over TLS verified against the project's CA. */
export class StoreConnection {
  private constructor(
    readonly backend: LogBackend,
    private readonly forward: PortForward,
    private readonly ca: string,
  ) {}

  /** @throws OperatorError (exit 3) without a certificate of the store */
  static async open(cluster: Cluster, backend: LogBackend): Promise<StoreConnection> {
    const ca = (await readSecret(cluster, `${backend.name}-tls`))["ca.crt"];
    if (!ca) {
      throw new OperatorError(`${backend.title} has no certificate in namespace ${NAMESPACE} of ${cluster.context}`, {
        exitCode: EXIT.precondition,
        hint: "bun scripts/deploy.ts",
      });
    }
    return new StoreConnection(backend, await cluster.portForward(`svc/${backend.name}`, backend.port, NAMESPACE), ca);
  }

  /** One call of the store's API. @throws OperatorError with the store's message; exit 2 for a rejected query */
  async get(path: string, parameters: Record<string, string>, signal?: AbortSignal): Promise<Response> {
    const limit = AbortSignal.timeout(QUERY_LIMIT_MS);
    const response = await fetch(`https://localhost:${this.forward.port}${path}?${new URLSearchParams(parameters)}`, {
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      tls: { ca: this.ca },
    });
    if (response.ok) return response;
    const exitCode = response.status === 400 ? EXIT.usage : EXIT.failed;
    const message = (await response.text()).slice(0, 500).trim();
    throw new OperatorError(`${this.backend.title} answered ${response.status}: ${message}`, { exitCode });
  }

  async close(): Promise<void> {
    await this.forward.close();
  }
}
