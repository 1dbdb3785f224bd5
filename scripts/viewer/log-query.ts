/**
 * LogQL of the dashboards for both log stores. VictoriaLogs has another language; the part of LogQL that the dashboards use
 * is translated: stream matchers, line filters, label filters, and `sum by (LABEL) (rate(… [DURATION]))`,
 * with or without `or vector(0)`.
 */

import type { LogStore } from "../clients/log-backend.ts";
import { nsOfMs } from "../clients/log-backend.ts";
import { byTime, keyOf, type LogEntry } from "../clients/log-search.ts";
import { entriesOf, type LokiStore } from "../clients/loki.ts";
import { DERIVED_FIELDS, entryOf, VictoriaLogsStore } from "../clients/victorialogs.ts";
import type { Period, SeriesFrame } from "./frame.ts";
import { stepOf } from "./query-text.ts";

/** Lines of a panel. */
const MAX_LINES = 500;

export interface LogQuery {
  /** Label of a rate; undefined for the lines themselves. */
  by?: string;
  /** A rate without lines is 0: `or vector(0)`. */
  orZero?: true;
  /** Matchers of labels and filters of fields: equal, or a complete match of a pattern. */
  fields: { name: string; isPattern: boolean; value: string }[];
  /** Patterns that a line contains. */
  contains: string[];
}

const RATE = /^sum by \((\w+)\) \(rate\((.*?)\s*\[\w+\]\)\)( or vector\(0\))?$/s;
const MATCHERS = /^\{([^}]*)\}/;
const MATCHER = /\s*(\w+)\s*(=~|=)\s*("(?:[^"\\]|\\.)*")\s*,?/y;
const FILTER = /\s*\|(~)?\s*(?:(\w+)\s*(=~|=)\s*)?("(?:[^"\\]|\\.)*")/y;

/** Reads the LogQL of a dashboard. @throws Error with the part that is not supported */
export function parseLogQl(text: string): LogQuery {
  const [, by, inner, orZero] = RATE.exec(text.trim()) ?? [];
  const rest = (inner ?? text).trim();
  const matchers = MATCHERS.exec(rest);
  if (!matchers) throw new Error(`LogQL must start with stream matchers; got: ${text}`);
  const fields: LogQuery["fields"] = [];
  const contains: string[] = [];
  const read = (pattern: RegExp, part: string, take: (match: RegExpExecArray) => void) => {
    pattern.lastIndex = 0;
    while (pattern.lastIndex < part.trimEnd().length) {
      const at = pattern.lastIndex;
      const match = pattern.exec(part);
      if (!match) throw new Error(`LogQL is not supported here: ${part.slice(at)}`);
      take(match);
    }
  };
  read(MATCHER, matchers[1]!, ([, name, operator, value]) => {
    fields.push({ name: name!, isPattern: operator === "=~", value: JSON.parse(value!) as string });
  });
  read(FILTER, rest.slice(matchers[0].length), ([, isLine, name, operator, value]) => {
    const literal = JSON.parse(value!) as string;
    if (isLine && !name) contains.push(literal);
    else if (name && !isLine) fields.push({ name, isPattern: operator === "=~", value: literal });
    else throw new Error(`LogQL is not supported here: ${text}`);
  });
  return { ...(by ? { by } : {}), ...(orZero ? { orZero: true } : {}), fields, contains };
}

/** A pattern that matches every text, also none or any. */
const matchesAll = (pattern: string) => [".*", ".+", "(?i)", ""].includes(pattern);

/** The query as LogsQL, without the pipes of a rate. */
export function toLogsQl({ fields, contains }: LogQuery): string {
  const quoted = (text: string) => JSON.stringify(text);
  const stored: string[] = [];
  const derived: string[] = [];
  for (const { name, isPattern, value } of fields) {
    if (isPattern && matchesAll(value)) continue;
    const field = name === "namespace" ? "kubernetes.pod_namespace" : name;
    const filter = isPattern ? `${field}:~${quoted(`^(?:${value})$`)}` : `${field}:=${quoted(value)}`;
    if (name === "service" || name === "level") derived.push(filter);
    else stored.push(filter);
  }
  const pipes = [stored.join(" ") || "*", DERIVED_FIELDS, ...derived.map((filter) => `filter ${filter}`)];
  for (const pattern of contains.filter((one) => !matchesAll(one))) {
    pipes.push('pack_json as "@line"', `filter ("@line":~${quoted(pattern)} or _msg:~${quoted(pattern)})`);
    pipes.push('delete "@line"');
  }
  return pipes.join(" | ");
}

const rangeOf = ({ fromMs, toMs }: Period) => ({ startNs: nsOfMs(fromMs), endNs: nsOfMs(toMs) });

/** The newest lines of a query, newest first. */
export async function logLines(store: LogStore, text: string, period: Period, signal: AbortSignal) {
  const range = rangeOf(period);
  let entries: LogEntry[];
  let found: number;
  if (store instanceof VictoriaLogsStore) {
    const rows = await store.rows(
      `${toLogsQl(parseLogQl(text))} | sort by (_time desc) limit ${MAX_LINES}`,
      range,
      signal,
    );
    found = rows.length;
    const distinct = new Map(rows.flatMap((row) => entryOf(row) ?? []).map((entry) => [keyOf(entry), entry]));
    entries = [...distinct.values()].sort((a, b) => byTime(b, a));
  } else {
    const { data } = await (store as LokiStore).get<{ data: { result: Parameters<typeof entriesOf>[0] } }>(
      "/loki/api/v1/query_range",
      {
        query: text,
        start: String(range.startNs),
        end: String(range.endNs),
        limit: String(MAX_LINES),
        direction: "backward",
      },
      signal,
    );
    entries = entriesOf(data.result, "backward");
    found = entries.length;
  }
  return { entries, isCut: found === MAX_LINES };
}

/** A rate of lines by a label, per second. */
export async function logRates(
  store: LogStore,
  text: string,
  period: Period,
  signal: AbortSignal,
): Promise<SeriesFrame> {
  const stepMs = stepOf(period);
  const first = Math.ceil(period.fromMs / stepMs) * stepMs;
  const timesMs = Array.from(
    { length: Math.floor((period.toMs - first) / stepMs) + 1 },
    (_, at) => first + at * stepMs,
  );
  const series = new Map<string, (number | null)[]>();
  const put = (label: string, timeMs: number, value: number) => {
    const values = series.get(label) ?? timesMs.map(() => null);
    series.set(label, values);
    const at = Math.round((timeMs - first) / stepMs);
    if (at >= 0 && at < values.length) values[at] = value;
  };
  if (store instanceof VictoriaLogsStore) {
    const query = parseLogQl(text);
    const by = query.by ?? "service";
    const pipe = `stats by (${by}, _time:${stepMs}ms) count() lines`;
    const rows = await store.rows(`${toLogsQl(query)} | ${pipe}`, rangeOf(period), signal);
    // A bucket begins at its time; a rate describes the time before it.
    for (const row of rows) {
      put(row[by] || "(none)", Date.parse(row._time!) + stepMs, Number(row.lines) / (stepMs / 1000));
    }
    if (query.orZero && rows.length === 0)
      series.set(
        "",
        timesMs.map(() => 0),
      );
  } else {
    const { data } = await (store as LokiStore).get<{
      data: { result: { metric: Record<string, string>; values: [number, string][] }[] };
    }>(
      "/loki/api/v1/query_range",
      { query: text, start: String(timesMs[0]! / 1000), end: String(timesMs.at(-1)! / 1000), step: `${stepMs}ms` },
      signal,
    );
    for (const { metric, values } of data.result) {
      for (const [seconds, value] of values) put(Object.values(metric)[0] ?? "", seconds * 1000, Number(value));
    }
  }
  const sorted = [...series].sort(([a], [b]) => (a < b ? -1 : 1));
  return { kind: "series", timesMs, series: sorted.map(([label, values]) => ({ label, values })) };
}

/** Values of a label of the last hour, for the choices of a variable. */
export async function labelValues(store: LogStore, label: string, signal: AbortSignal): Promise<string[]> {
  const nowMs = Date.now();
  if (store instanceof VictoriaLogsStore) {
    const rows = await store.rows(
      `* | ${DERIVED_FIELDS} | stats by (${label}) count() lines`,
      rangeOf({ fromMs: nowMs - 3_600_000, toMs: nowMs }),
      signal,
    );
    return rows
      .map((row) => row[label] ?? "")
      .filter(Boolean)
      .sort();
  }
  const { data } = await (store as LokiStore).get<{ data: string[] }>(
    `/loki/api/v1/label/${label}/values`,
    { since: "1h" },
    signal,
  );
  return data.sort();
}
