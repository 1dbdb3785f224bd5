/**
 * Writes lines to InfluxDB. A write resolves when InfluxDB has confirmed (204) or refused each of its lines. All other
 * outcomes are retried without a limit, until the caller cancels the write (its partitions were reassigned, or the
 * process ends). Writes that are submitted together share a request of up to 5,000 lines.
 */
import { caOption, type InfluxConfig } from "../runtime/config.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";

/** Lines per request, as InfluxDB recommends. */
export const MAX_BODY_LINES = 5000;
/** Concurrent requests: two keep the database busy while one response is under way. */
const MAX_CONCURRENT_WRITES = 2;
/** A write of 5,000 lines takes tens of milliseconds, during a compaction seconds. */
const WRITE_TIMEOUT_MS = 20_000;
const FIRST_RETRY_MS = 100;
/** Longest pause after an error response. */
const MAX_RETRY_MS = 5000;
/** Longest pause while InfluxDB is unreachable: it needs no relief, and every pause may prolong its outage. */
const MAX_UNREACHABLE_RETRY_MS = 1000;
/** Pause after errors that an operator must resolve (a wrong token, a missing bucket). */
const OPERATOR_RETRY_MS = 5000;
/** Upper limit for the pause that InfluxDB requests with Retry-After. */
const MAX_RETRY_AFTER_MS = 60_000;
const LOG_INTERVAL_MS = 5000;
/** Part of an error body that is logged; it contains the first invalid lines. */
const MAX_ERROR_CHARS = 1000;

export interface RefusedLine {
  /** Index within the submission. */
  index: number;
  detail: string;
}

export type WriteRequestOutcome =
  | "written"
  | "partly_refused"
  | "refused"
  | "too_large"
  | "throttled"
  | "forbidden"
  | "failed"
  | "unreachable";

interface WriterHooks {
  /** Called for every attempt, as progress for the liveness check. */
  onAttempt?: () => void;
  onRequest?: (outcome: WriteRequestOutcome, durationMs: number, lines: number) => void;
  /** True while InfluxDB refuses every write for a reason that an operator must resolve. */
  onBlocked?: (blocked: boolean) => void;
}

interface Submission {
  lines: readonly string[];
  sinceMs: number;
  cancelled: boolean;
  refused: RefusedLine[];
  resolve: (refused: RefusedLine[]) => void;
}

export interface PendingWrite {
  /** The lines that InfluxDB refused; all others are confirmed. Never settles after `cancel`. */
  done: Promise<RefusedLine[]>;
  /** Stops the retries. Lines that are already written remain. */
  cancel(): void;
}

interface Piece {
  submission: Submission;
  from: number;
  to: number;
}

type WriteResult =
  | { kind: "written" }
  | { kind: "line_fault"; detail: string; dropped?: number; outcome: "partly_refused" | "refused" }
  | { kind: "too_large" }
  | { kind: "retry"; outcome: WriteRequestOutcome; afterMs?: number; detail: string }
  | { kind: "operator"; detail: string };

/** Pause before a write is retried, in milliseconds; `attempt` counts from 0. */
export function retryPauseMs(outcome: WriteRequestOutcome, attempt: number): number {
  const most = outcome === "unreachable" ? MAX_UNREACHABLE_RETRY_MS : MAX_RETRY_MS;
  return Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempt, 10), most);
}

export class InfluxWriter {
  readonly #endpoint: string;
  readonly #headers: Record<string, string>;
  readonly #throttle = new LogThrottle(LOG_INTERVAL_MS);
  readonly #queue: Submission[] = [];
  readonly #wakeRetry = new Set<() => void>();
  /** Unsettled submissions, the oldest first. */
  readonly #waiting = new Set<Submission>();
  #active = 0;
  #scheduled = false;
  #blocked = false;

  constructor(
    private readonly config: InfluxConfig,
    private readonly log: Logger,
    private readonly hooks: WriterHooks = {},
    private readonly timeoutMs = WRITE_TIMEOUT_MS,
    private readonly operatorRetryMs = OPERATOR_RETRY_MS,
  ) {
    const query = new URLSearchParams({ org: config.org, bucket: config.bucket, precision: "ns" });
    this.#endpoint = `${config.url}/api/v2/write?${query}`;
    this.#headers = { authorization: `Token ${config.token}`, "content-type": "text/plain; charset=utf-8" };
  }

  /** Age of the oldest unsettled submission in seconds, whatever the cause; 0 when there is none. */
  get pendingSeconds(): number {
    const oldest = this.#waiting.values().next().value;
    return oldest ? (performance.now() - oldest.sinceMs) / 1000 : 0;
  }

  /** Submits lines; at most MAX_BODY_LINES. */
  write(lines: readonly string[]): PendingWrite {
    if (lines.length > MAX_BODY_LINES) {
      throw new Error(`lines: must be at most ${MAX_BODY_LINES}; got ${lines.length}`);
    }
    const { promise, resolve } = Promise.withResolvers<RefusedLine[]>();
    const submission: Submission = { lines, sinceMs: performance.now(), cancelled: false, refused: [], resolve };
    if (lines.length === 0) resolve([]);
    else {
      this.#queue.push(submission);
      this.#waiting.add(submission);
      this.#schedule();
    }
    return {
      done: promise,
      cancel: () => {
        submission.cancelled = true;
        this.#waiting.delete(submission);
        // With nothing to write, InfluxDB refuses nothing.
        if (this.#waiting.size === 0) this.#setBlocked(false);
        for (const wake of this.#wakeRetry) wake();
      },
    };
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // After the current turn, so that batches decoded together share a request.
    setImmediate(() => {
      this.#scheduled = false;
      while (this.#active < MAX_CONCURRENT_WRITES && this.#queue.length > 0) this.#begin();
    });
  }

  #begin(): void {
    const pieces: Piece[] = [];
    let lines = 0;
    while (this.#queue.length > 0) {
      const next = this.#queue[0]!;
      if (lines > 0 && lines + next.lines.length > MAX_BODY_LINES) break;
      this.#queue.shift();
      if (next.cancelled) continue;
      pieces.push({ submission: next, from: 0, to: next.lines.length });
      lines += next.lines.length;
    }
    if (pieces.length === 0) return;
    this.#active++;
    void this.#deliver(pieces).then(() => {
      this.#active--;
      for (const { submission } of pieces) {
        this.#waiting.delete(submission);
        if (!submission.cancelled) submission.resolve(submission.refused);
      }
      this.#schedule();
    });
  }

  /** Resolves when every line of the pieces is confirmed or refused, or its submission cancelled. */
  async #deliver(pieces: Piece[]): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const wanted = pieces.filter(({ submission }) => !submission.cancelled);
      if (wanted.length === 0) return;
      const count = wanted.reduce((sum, { from, to }) => sum + to - from, 0);
      const result = await this.#post(wanted, count);
      this.#setBlocked(result.kind === "operator" && wanted.some(({ submission }) => !submission.cancelled));
      switch (result.kind) {
        case "written":
          return;
        case "line_fault":
        case "too_large": {
          // All lines are refused, for example a batch older than the retention: no need to search the invalid ones.
          const all = result.kind === "line_fault" && result.dropped === count;
          if (count === 1 || all) {
            const detail = result.kind === "too_large" ? "the line is too large for InfluxDB" : result.detail;
            for (const { submission, from, to } of wanted) {
              for (let index = from; index < to; index++) submission.refused.push({ index, detail });
            }
            return;
          }
          // Halving finds b invalid lines of n in about 2·b·log2(n) requests; a valid line written twice is one point.
          for (const half of halves(wanted, count)) await this.#deliver(half);
          return;
        }
        case "retry":
          this.#note("influxdb_retry", "warn", result.detail, count);
          await this.#pause(result.afterMs ?? retryPauseMs(result.outcome, attempt));
          break;
        case "operator":
          this.#note("influxdb_refuses", "error", result.detail, count);
          await this.#pause(this.operatorRetryMs);
          break;
      }
    }
  }

  async #post(pieces: readonly Piece[], count: number): Promise<WriteResult> {
    const body = pieces
      .map(({ submission: { lines }, from, to }) =>
        (from === 0 && to === lines.length ? lines : lines.slice(from, to)).join("\n"),
      )
      .join("\n");
    this.hooks.onAttempt?.();
    const startedAt = performance.now();
    let result: WriteResult;
    try {
      const response = await fetch(this.#endpoint, {
        method: "POST",
        headers: this.#headers,
        body,
        tls: caOption(this.config.ca),
        redirect: "error",
        signal: AbortSignal.timeout(this.timeoutMs),
      });
      // Read even when empty, since only then the connection can be reused.
      const text = await response.text();
      result = classifyResponse(response.status, text, response.headers.get("retry-after"));
    } catch (error) {
      const detail = error instanceof Error ? error.message || error.name : String(error);
      result = { kind: "retry", outcome: "unreachable", detail };
    }
    this.hooks.onRequest?.(outcomeOf(result), performance.now() - startedAt, count);
    return result;
  }

  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#wakeRetry.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#wakeRetry.add(wake);
    });
  }

  #setBlocked(blocked: boolean): void {
    if (this.#blocked !== blocked) this.hooks.onBlocked?.(blocked);
    this.#blocked = blocked;
  }

  #note(event: string, level: "warn" | "error", detail: string, lines: number): void {
    const suppressed = this.#throttle.allow(event);
    if (suppressed === undefined) return;
    this.log.log(level, event, { detail, lines, ...(suppressed > 0 ? { suppressed } : {}) });
  }
}

function halves(pieces: readonly Piece[], count: number): [Piece[], Piece[]] {
  const first: Piece[] = [];
  const second: Piece[] = [];
  let room = count >> 1;
  for (const piece of pieces) {
    const size = piece.to - piece.from;
    const here = Math.min(size, room);
    if (here > 0) first.push({ ...piece, to: piece.from + here });
    if (here < size) second.push({ ...piece, from: piece.from + here });
    room -= here;
  }
  return [first, second];
}

/** Error messages of InfluxDB about lines, not about the request. */
const LINE_FAULT =
  /unable to parse|partial write|field type conflict|retention policy|invalid (?:line|field|tag|point)/i;

/**
 * The number of refused points at the end of InfluxDB's message, with the names that it appends (tsdb/shard.go,
 * PartialWriteError). What stands before may quote what a sender named "dropped=5000".
 */
const DROPPED = / dropped=(\d+)(?: for database: \S+)?(?: for retention policy: \S+)?$/;

/** The meaning of a response for the lines of its request. */
export function classifyResponse(status: number, body: string, retryAfter: string | null): WriteResult {
  const detail = `InfluxDB answered ${status}: ${messageOf(body).slice(0, MAX_ERROR_CHARS)}`;
  if (status >= 200 && status < 300) return { kind: "written" };
  if (status === 422 || (status === 400 && LINE_FAULT.test(body))) {
    // After 400 nothing is written, whatever the message quotes.
    const dropped = status === 422 ? DROPPED.exec(messageOf(body))?.[1] : undefined;
    return {
      kind: "line_fault",
      detail,
      outcome: status === 422 ? "partly_refused" : "refused",
      ...(dropped === undefined ? {} : { dropped: Number(dropped) }),
    };
  }
  if (status === 413) return { kind: "too_large" };
  if (status === 429 || status === 503) {
    const afterMs = retryAfterMs(retryAfter, Date.now());
    return { kind: "retry", outcome: "throttled", detail, ...(afterMs === undefined ? {} : { afterMs }) };
  }
  // 400 for another cause, 401, 403, 404, a redirect: the request is wrong, not its lines.
  if (status < 500) return { kind: "operator", detail };
  return { kind: "retry", outcome: "failed", detail };
}

function outcomeOf(result: WriteResult): WriteRequestOutcome {
  if ("outcome" in result) return result.outcome;
  return result.kind === "operator" ? "forbidden" : result.kind;
}

function messageOf(body: string): string {
  try {
    const { message, error } = JSON.parse(body) as { message?: string; error?: string };
    return message ?? error ?? body;
  } catch {
    return body;
  }
}

/** Milliseconds of a Retry-After header (seconds or a date), bounded; undefined when there is none. */
export function retryAfterMs(header: string | null, nowMs: number): number | undefined {
  if (header === null || header.trim() === "") return undefined;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - nowMs;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS) : undefined;
}
