/**
 * Log searches and log lines. A search becomes a query of the deployed log store (loki.ts, victorialogs.ts), and a filter
 * for the logs of pods, so that every cluster is searched with the same flags.
 */
import { printable } from "../../services/domain/printable.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";

/** Levels of k8s/logging/promtail-configmap.yaml, by severity; `unknown`: the line has none. */
export const LOG_LEVELS = ["error", "warn", "info", "debug", "unknown"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Identity of an event, or its first parts. */
export interface EventIdentity {
  run: string;
  conveyor?: string;
  seq?: number;
}

export interface LogSearch {
  /** Components; all when empty. */
  services: readonly string[];
  levels: readonly LogLevel[];
  /** Regular expression (RE2 in a log store) that a line contains. */
  grep?: string;
  event?: EventIdentity;
}

export interface LogEntry {
  /** Nanoseconds since the epoch, as text: they exceed 2^53. */
  timeNs: string;
  service: string;
  level: LogLevel;
  app: string;
  pod: string;
  container: string;
  run?: string;
  conveyor?: string;
  seq?: string;
  /** Kind of the log event, for the project's services. */
  event?: string;
  line: string;
}

/** Longest `--grep`. */
const MAX_GREP_CHARS = 500;

/**
 * "RUN", "RUN/CONVEYOR" or "RUN/CONVEYOR/SEQ".
 * @throws OperatorError (exit 2) that names the flag, the rule and the value
 */
export function parseIdentity(text: string, flag = "--event"): EventIdentity {
  const [run, conveyor, seq, ...rest] = text.split("/");
  const wrong = (rule: string) =>
    new OperatorError(`${flag}: must be RUN, RUN/CONVEYOR or RUN/CONVEYOR/SEQ${rule}; got "${text}"`, {
      exitCode: EXIT.usage,
    });
  if (!run || conveyor === "" || rest.length > 0) throw wrong("");
  if (seq !== undefined && !/^\d{1,15}$/.test(seq)) throw wrong(", SEQ an integer");
  return { run, conveyor, seq: seq === undefined ? undefined : Number(seq) };
}

/** @throws OperatorError (exit 2) for an invalid or too long expression */
export function checkedGrep(text: string): string {
  if (text.length > MAX_GREP_CHARS) {
    throw new OperatorError(`--grep: must be at most ${MAX_GREP_CHARS} characters; got ${text.length}`, {
      exitCode: EXIT.usage,
    });
  }
  try {
    new RegExp(text);
  } catch (error) {
    throw new OperatorError(`--grep: must be a regular expression; got "${text}"`, {
      exitCode: EXIT.usage,
      cause: error,
    });
  }
  return text;
}

/** Whether an entry matches the search, as the query of a log store does. */
export function isMatch(search: LogSearch, entry: LogEntry): boolean {
  const { event } = search;
  return (
    (search.services.length === 0 || search.services.includes(entry.service)) &&
    (search.levels.length === 0 || search.levels.includes(entry.level)) &&
    (search.grep === undefined || new RegExp(search.grep).test(entry.line)) &&
    (!event ||
      (entry.run === event.run &&
        (event.conveyor === undefined || entry.conveyor === event.conveyor) &&
        (event.seq === undefined || entry.seq === String(event.seq))))
  );
}

const SPELLINGS: Partial<Record<LogLevel, string>> = {
  debug: "trace debug dbug",
  info: "info i notice",
  warn: "warn warning w",
  error: "error eror e fatal f critical panic",
};
const LEVELS = new Map(
  LOG_LEVELS.flatMap((level) => (SPELLINGS[level]?.split(" ") ?? []).map((word) => [word, level] as const)),
);

/** The canonical level of a spelling. */
export const levelOf = (word: string | undefined): LogLevel => LEVELS.get(word?.toLowerCase() ?? "") ?? "unknown";

/** Nanoseconds since the epoch of an RFC 3339 time with up to nine decimals; undefined for anything else. */
export function nsOfTime(time: string): string | undefined {
  const timeMs = Date.parse(time);
  if (Number.isNaN(timeMs)) return undefined;
  const fraction = (/\.(\d+)/.exec(time)?.[1] ?? "").padEnd(9, "0").slice(0, 9);
  return `${Math.floor(timeMs / 1000)}${fraction}`;
}

/** Identity of an entry: a collector that has lost its position delivers lines again. */
export const keyOf = (entry: LogEntry): string => `${entry.timeNs} ${entry.pod}/${entry.container} ${entry.line}`;

/** Orders entries from the oldest. */
export function byTime(a: LogEntry, b: LogEntry): number {
  const [left, right] = [BigInt(a.timeNs), BigInt(b.timeNs)];
  return left < right ? -1 : left > right ? 1 : 0;
}

const text = (value: unknown) => (typeof value === "string" || typeof value === "number" ? String(value) : undefined);

/**
 * Fields of a raw line, as Promtail's pipeline extracts them: JSON of the project's services, Kafka's log4j, logfmt, and
 * the format of Kubernetes.
 */
export function readLine(line: string): Pick<LogEntry, "level" | "run" | "conveyor" | "seq" | "event"> & {
  service?: string;
} {
  if (line.startsWith("{")) {
    try {
      const fields = JSON.parse(line) as Record<string, unknown>;
      const found = { run: text(fields.run), conveyor: text(fields.conveyor), seq: text(fields.seq) };
      return { level: levelOf(text(fields.level)), ...found, event: text(fields.event), service: text(fields.service) };
    } catch {
      return { level: "unknown" };
    }
  }
  const word =
    /^\[[^\]]+\] (TRACE|DEBUG|INFO|WARN|ERROR|FATAL) /.exec(line)?.[1] ??
    /(?:^| )(?:level|lvl)=([a-zA-Z]+)/.exec(line)?.[1] ??
    /^([IWEF])\d{4} /.exec(line)?.[1];
  return { level: levelOf(word) };
}

/** Clock time of an entry in UTC, to the millisecond. */
export function clockOf(timeNs: string): string {
  return new Date(Number(BigInt(timeNs) / 1_000_000n)).toISOString().slice(11, 23);
}

/** A line for a terminal; of a JSON line, without the fields that are printed in columns. */
export const briefly = (entry: Pick<LogEntry, "line">): string => printable(withoutColumns(entry.line));

function withoutColumns(line: string): string {
  if (!line.startsWith("{")) return line;
  try {
    const { timestamp: _t, level: _l, service: _s, event, ...rest } = JSON.parse(line) as Record<string, unknown>;
    const fields = Object.entries(rest).map(
      ([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`,
    );
    return [String(event ?? ""), ...fields].filter(Boolean).join(" ");
  } catch {
    return line;
  }
}
