/**
 * The log: one JSON object per line on stdout with time, level, service, event name and fields, as Promtail reads it.
 * Callers log names and outcomes, never configuration values, so that no secret gets into the log.
 */
import { causesOf } from "../domain/causes.ts";
import { printable } from "../domain/printable.ts";

const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

type LogFields = Record<string, unknown>;

/** The messages of an error and its causes, joined: the outermost message of a network error is often empty. */
export function errorText(error: unknown): string {
  const parts: string[] = [];
  for (const cause of causesOf(error)) {
    const text = cause instanceof Error ? cause.message || cause.name : String(cause);
    const { code } = cause as { code?: unknown };
    const part = typeof code === "string" && !text.includes(code) ? `${text} (${code})` : text;
    if (part && !parts.some((earlier) => earlier.includes(part))) parts.push(part);
  }
  return parts.join(": ");
}

export class Logger {
  readonly #minimum: number;

  constructor(
    readonly service: string,
    level: LogLevel = "info",
    private readonly fixed: LogFields = {},
    private readonly write: (line: string) => void = (line) => void process.stdout.write(line),
    private readonly now: () => number = Date.now,
  ) {
    this.#minimum = LOG_LEVELS.indexOf(level);
  }

  isOn(level: LogLevel): boolean {
    return LOG_LEVELS.indexOf(level) >= this.#minimum;
  }

  /** @param event name in snake_case, by which searches and alerts find the line */
  log(level: LogLevel, event: string, fields: LogFields = {}): void {
    if (!this.isOn(level)) return;
    const { error, ...rest } = fields;
    const head = { timestamp: new Date(this.now()).toISOString(), level, service: this.service, event };
    const line = { ...head, ...this.fixed, ...rest, ...(error === undefined ? {} : { error: errorText(error) }) };
    this.write(`${printable(JSON.stringify(line))}\n`);
  }

  debug(event: string, fields?: LogFields): void {
    this.log("debug", event, fields);
  }
  info(event: string, fields?: LogFields): void {
    this.log("info", event, fields);
  }
  warn(event: string, fields?: LogFields): void {
    this.log("warn", event, fields);
  }
  error(event: string, fields?: LogFields): void {
    this.log("error", event, fields);
  }
}

/**
 * Allows one line of a kind per interval and counts the others, so that an hour without a broker does not log a million
 * equal lines.
 */
export class LogThrottle {
  readonly #last = new Map<string, { at: number; suppressed: number }>();
  /** Kinds are constants of the code; the bound limits the memory if one is not. */
  static readonly MAX_KINDS = 1000;

  constructor(
    private readonly intervalMs: number,
    /** Monotonic: a clock that steps back must not silence the log. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The number of lines suppressed since the last allowed one; undefined when this line is to be suppressed. */
  allow(kind: string): number | undefined {
    const at = this.now();
    const last = this.#last.get(kind);
    if (last && at - last.at < this.intervalMs) {
      last.suppressed++;
      return undefined;
    }
    if (this.#last.size >= LogThrottle.MAX_KINDS) this.#last.clear();
    this.#last.set(kind, { at, suppressed: 0 });
    return last?.suppressed ?? 0;
  }
}
