/**
 * Queries of VictoriaLogs. Its collector splits JSON lines into fields and keeps other lines as `_msg`; services and levels
 * are derived when a query runs, since the collector has no pipeline.
 */
import { LOGGING_NAMESPACE, NAMESPACE } from "../cluster/namespace.ts";
import { type LogBackend, type LogRange, type LogStore, MAX_ENTRIES, type StoreConnection } from "./log-backend.ts";
import { byTime, isMatch, keyOf, type LogEntry, type LogSearch, levelOf, nsOfTime } from "./log-search.ts";

export const VICTORIA_LOGS: LogBackend = {
  name: "victorialogs",
  title: "VictoriaLogs",
  collector: "vlagent",
  port: 9428,
};

/** A string of LogsQL: Go's quoting equals JSON's for printable text. */
const quoted = (text: string) => JSON.stringify(text);
const oneOf = (values: readonly string[]) => `in(${values.map(quoted).join(",")})`;

/** Fields that describe the pod, renamed so that the others are those of the line. */
const POD_FIELDS = {
  "kubernetes.pod_name": "@pod",
  "kubernetes.container_name": "@container",
  "kubernetes.pod_labels.app.kubernetes.io/name": "@app",
} as const;

/**
 * Derives `service` and `level` as Promtail's pipeline does: the service of a line that names one, otherwise the app; the
 * level of a JSON field, of log4j's brackets or of logfmt, in one spelling.
 */
export const DERIVED_FIELDS = [
  `rename ${Object.entries(POD_FIELDS)
    .map(([from, to]) => `${quoted(from)} as ${quoted(to)}`)
    .join(", ")}`,
  "delete kubernetes.*, _stream, _stream_id",
  'format if (service:"") "<@app>" as service',
  String.raw`extract_regexp if (level:"") "(?:^\\[[^\\]]+\\] |(?:^|[ ])(?:level|lvl)=)(?P<level>[a-zA-Z]+)" from _msg`,
  'format if (level:~"(?i)^(debug|trace|dbug)$") "debug" as level',
  'format if (level:~"(?i)^(info|i|notice)$") "info" as level',
  'format if (level:~"(?i)^(warn|warning|w)$") "warn" as level',
  'format if (level:~"(?i)^(error|eror|e|fatal|f|critical|panic)$") "error" as level',
  'format if (!level:in(debug,info,warn,error)) "unknown" as level',
].join(" | ");

const rfc3339 = (ns: bigint): string => {
  const text = String(ns).padStart(10, "0");
  const seconds = new Date(Number(text.slice(0, -9)) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${text.slice(-9)}Z`;
};

/** The search as LogsQL. A text is searched in the line and in its fields as JSON; `isMatch` then decides. */
export function logsQl(search: LogSearch): string {
  const filters = [`kubernetes.pod_namespace:in(${NAMESPACE},${LOGGING_NAMESPACE})`];
  if (search.event) {
    filters.push(`run:=${quoted(search.event.run)}`);
    if (search.event.conveyor !== undefined) filters.push(`conveyor:=${quoted(search.event.conveyor)}`);
    if (search.event.seq !== undefined) filters.push(`seq:=${quoted(String(search.event.seq))}`);
  }
  const pipes = [filters.join(" "), DERIVED_FIELDS];
  if (search.services.length > 0) pipes.push(`filter service:${oneOf(search.services)}`);
  if (search.levels.length > 0) pipes.push(`filter level:${oneOf(search.levels)}`);
  if (search.grep !== undefined) {
    const pattern = quoted(search.grep);
    pipes.push('pack_json as "@line"', `filter ("@line":~${pattern} or _msg:~${pattern})`, 'delete "@line"');
  }
  return pipes.join(" | ");
}

/**
 * The line of a row. A JSON line is written again from its fields, all values as text; the collector has stored the message
 * of a line, or without one its event, as `_msg`.
 */
function lineOf(message: string, fields: Record<string, string>, isJson: boolean): string {
  if (!isJson) return message;
  const { timestamp, level, service, event, ...rest } = fields;
  const first = { timestamp, level, service, event: event ?? message };
  return JSON.stringify({ ...first, ...(event === undefined ? {} : { message }), ...rest });
}

/** An entry from a row of a query with the derived fields; undefined for a row without a time. */
export function entryOf(row: Record<string, string>): LogEntry | undefined {
  const { _time, _msg = "", "@pod": pod = "", "@container": container = "", "@app": app = "", ...fields } = row;
  const timeNs = nsOfTime(_time ?? "");
  if (timeNs === undefined) return undefined;
  const { service = app, level, event, run, conveyor, seq } = fields;
  // Every line has a derived service and level; only JSON has more.
  const isJson = Object.keys(fields).some((name) => name !== "service" && name !== "level");
  // The project's services name an event in every line, and its time.
  const isOwn = fields.timestamp !== undefined;
  return {
    timeNs,
    service,
    level: levelOf(level),
    app,
    pod,
    container,
    run,
    conveyor,
    seq,
    event: event ?? (isOwn ? _msg : undefined),
    line: lineOf(_msg, fields, isJson),
  };
}

export class VictoriaLogsStore implements LogStore {
  readonly backend = VICTORIA_LOGS;
  readonly queryOf = logsQl;

  constructor(private readonly connection: StoreConnection) {}

  close = async (): Promise<void> => await this.connection.close();
  [Symbol.asyncDispose] = this.close;

  /** Rows of a query of a range. @throws OperatorError with VictoriaLogs' message */
  async rows(query: string, range: LogRange, signal?: AbortSignal): Promise<Record<string, string>[]> {
    const time = `_time:[${rfc3339(range.startNs)}, ${rfc3339(range.endNs)})`;
    const response = await this.connection.get("/select/logsql/query", { query: `${time} ${query}` }, signal);
    const text = await response.text();
    return text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as Record<string, string>]));
  }

  /** Distinct entries of at most `limit` rows, sorted; and whether there may be others. */
  async #entries(search: LogSearch, range: LogRange, order: string, limit: number, signal?: AbortSignal) {
    const rows = await this.rows(`${logsQl(search)} | ${order} limit ${limit}`, range, signal);
    const entries = new Map<string, LogEntry>();
    for (const row of rows) {
      const entry = entryOf(row);
      if (entry && isMatch(search, entry)) entries.set(keyOf(entry), entry);
    }
    return { entries: [...entries.values()].sort(byTime), isCut: rows.length === limit };
  }

  async newest(search: LogSearch, range: LogRange, limit: number, signal?: AbortSignal): Promise<LogEntry[]> {
    // Lines that were delivered twice, or that only the store's filter matches, do not count: more rows are needed then.
    for (let rows = limit; ; rows *= 4) {
      const { entries, isCut } = await this.#entries(
        search,
        range,
        "sort by (_time desc)",
        Math.min(rows, MAX_ENTRIES),
        signal,
      );
      if (entries.length >= limit || !isCut || rows >= MAX_ENTRIES) return entries.slice(-limit);
    }
  }

  async *all(search: LogSearch, range: LogRange, signal?: AbortSignal): AsyncGenerator<LogEntry[]> {
    const { entries } = await this.#entries(search, range, "", MAX_ENTRIES, signal);
    if (entries.length > 0) yield entries;
  }
}
