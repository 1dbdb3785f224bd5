/** Queries of Loki, page by page, so that no line is missing from a large result. */
import { PIPELINE_NAMESPACES } from "../cluster/namespace.ts";
import { type LogBackend, type LogRange, type LogStore, MAX_ENTRIES, type StoreConnection } from "./log-backend.ts";
import { byTime, keyOf, type LogEntry, type LogSearch, levelOf } from "./log-search.ts";

export const LOKI: LogBackend = {
  name: "loki",
  title: "Loki",
  collector: "Promtail",
  port: 3100,
};

/** limits_config.max_entries_limit_per_query of k8s/logging/loki-configmap.yaml. */
const PAGE_ENTRIES = 5000;
const MAX_PAGES = MAX_ENTRIES / PAGE_ENTRIES;

interface Stream {
  stream: Record<string, string>;
  values: [timeNs: string, line: string][];
}

/** A string of LogQL: Go's quoting equals JSON's for printable text. */
const quoted = (text: string) => JSON.stringify(text);
const escaped = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
const oneOf = (values: readonly string[]) => quoted(values.map(escaped).join("|"));

/** The namespaces that Promtail reads. */
const STREAMS = `namespace=~"${PIPELINE_NAMESPACES.join("|")}"`;

/** The search as LogQL. The identity is structured metadata, which needs no parser and no stream per value. */
export function logQl(search: LogSearch): string {
  const matchers = [STREAMS];
  if (search.services.length > 0) matchers.push(`service=~${oneOf(search.services)}`);
  if (search.levels.length > 0) matchers.push(`level=~${oneOf(search.levels)}`);
  const parts = [`{${matchers.join(", ")}}`];
  if (search.grep !== undefined) parts.push(`|~ ${quoted(search.grep)}`);
  if (search.event) {
    parts.push(`| run=${quoted(search.event.run)}`);
    if (search.event.conveyor !== undefined) parts.push(`| conveyor=${quoted(search.event.conveyor)}`);
    if (search.event.seq !== undefined) parts.push(`| seq=${quoted(String(search.event.seq))}`);
  }
  return parts.join(" ");
}

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
  return entries.sort(order === "forward" ? byTime : (a, b) => byTime(b, a));
}

export class LokiStore implements LogStore {
  readonly backend = LOKI;
  readonly queryOf = logQl;

  constructor(private readonly connection: StoreConnection) {}

  close = async (): Promise<void> => await this.connection.close();
  [Symbol.asyncDispose] = this.close;

  /** One call of Loki's API. @throws OperatorError with Loki's message */
  async get<T>(path: string, parameters: Record<string, string>, signal?: AbortSignal): Promise<T> {
    return (await (await this.connection.get(path, parameters, signal)).json()) as T;
  }

  async #page(query: string, range: LogRange, limit: number, direction: string, signal?: AbortSignal) {
    const { data } = await this.get<{ data: { result: Stream[] } }>(
      "/loki/api/v1/query_range",
      { query, start: String(range.startNs), end: String(range.endNs), limit: String(limit), direction },
      signal,
    );
    return entriesOf(data.result, direction as "forward" | "backward");
  }

  async newest(search: LogSearch, range: LogRange, limit: number, signal?: AbortSignal): Promise<LogEntry[]> {
    const query = logQl(search);
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

  async *all(search: LogSearch, range: LogRange, signal?: AbortSignal): AsyncGenerator<LogEntry[]> {
    const query = logQl(search);
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
