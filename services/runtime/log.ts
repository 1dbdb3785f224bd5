/**
 * Logs are events, not prose: one JSON object per line on stdout with time, level, service, a typed kind and fields.
 * Promtail reads them as they are. Secrets never get here: callers log names and outcomes, not configuration values.
 */

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type LogFields = Record<string, unknown>;

/** Stack and message of an error, its causes flattened: the outermost message of a network error is often empty. */
export function errorText(error: unknown): string {
  const parts: string[] = [];
  // Bounded: a cause chain may be circular.
  for (let cause: unknown = error, depth = 0; cause != null && depth < 5; depth++) {
    const text = cause instanceof Error ? cause.message || cause.name : String(cause);
    const code = (cause as { code?: unknown }).code;
    const whole = typeof code === "string" && !text.includes(code) ? `${text} (${code})` : text;
    if (whole && !parts.some((part) => part.includes(whole))) parts.push(whole);
    cause = cause instanceof Error ? cause.cause : undefined;
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

  /** @param event kind of the event in snake_case; what a search or an alert looks for. */
  log(level: LogLevel, event: string, fields: LogFields = {}): void {
    if (!this.isOn(level)) return;
    const { error, ...rest } = fields;
    const head = { timestamp: new Date(this.now()).toISOString(), level, service: this.service, event };
    const line = { ...head, ...this.fixed, ...rest, ...(error === undefined ? {} : { error: errorText(error) }) };
    this.write(`${JSON.stringify(line)}\n`);
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
 * Lets one of a kind through per interval and counts the rest: a broker that is away for an hour must not write a
 * million equal lines. `allow` gives the number left out since the last one, or undefined when to stay silent.
 */
export class LogThrottle {
  readonly #last = new Map<string, { at: number; suppressed: number }>();
  /** Kinds are written in the code, not by users; the bound only guards against a mistake. */
  static readonly MAX_KINDS = 1000;

  constructor(
    private readonly intervalMs: number,
    private readonly now: () => number = Date.now,
  ) {}

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
