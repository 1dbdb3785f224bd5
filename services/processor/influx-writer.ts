/**
 * Writes lines to InfluxDB and says, per line, what became of it. A write resolves when every line is either confirmed
 * (204) or refused by the database for what it says; it never gives up on anything else: an absent, busy or forbidding
 * database is asked again until it answers or the caller no longer wants the lines (its partitions were taken away, or
 * the process ends).
 *
 * Submissions that arrive together share a request, up to 5,000 lines: six partitions with a few events each cost one
 * request, not six.
 */
import type { InfluxConfig } from "../runtime/config.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";

/** Lines per request: the size that InfluxDB recommends. */
export const MAX_BODY_LINES = 5000;
/** Requests at the same time: two keep the database busy while the answer to one is on its way. */
export const MAX_CONCURRENT_WRITES = 2;
/** A write of 5,000 lines takes tens of milliseconds; minutes-long compactions have been seen to hold one for seconds. */
export const WRITE_TIMEOUT_MS = 20_000;
const FIRST_RETRY_MS = 100;
/** A database that answers that it cannot is given time. */
const MAX_RETRY_MS = 5000;
/**
 * One that cannot be reached has nothing to recover from our questions, and each pause is added to its outage: asked for
 * the last time just before it was there again, it would stand idle for all of a longer one.
 */
const MAX_UNREACHABLE_RETRY_MS = 1000;
/** A wrong token or a missing bucket is repaired by a person: ask again, but not eagerly. */
export const OPERATOR_RETRY_MS = 5000;
/** A database that asks for more patience than this is asked again sooner. */
const MAX_RETRY_AFTER_MS = 60_000;
const LOG_INTERVAL_MS = 5000;
/** Of an error body: enough to see the first faults. */
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

export interface WriterHooks {
  /** Every attempt: a sign of life. */
  onAttempt?: () => void;
  onRequest?: (outcome: WriteRequestOutcome, durationMs: number, lines: number) => void;
  /** True while only an operator can end the refusal. */
  onBlocked?: (blocked: boolean) => void;
}

interface Submission {
  lines: readonly string[];
  /** When it was handed over, on the monotonic clock (ms). */
  sinceMs: number;
  cancelled: boolean;
  refused: RefusedLine[];
  resolve: (refused: RefusedLine[]) => void;
}

export interface PendingWrite {
  /** The lines that the database refused; all others are confirmed. Never settles after `cancel`. */
  done: Promise<RefusedLine[]>;
  /** The caller no longer wants these lines: stop trying. What was written stays written. */
  cancel(): void;
}

/** A piece of a request's lines that belongs to one submission. */
interface Piece {
  submission: Submission;
  from: number;
  to: number;
}

type Verdict =
  | { kind: "written" }
  | { kind: "line_fault"; detail: string; dropped?: number; outcome: "partly_refused" | "refused" }
  | { kind: "too_large" }
  | { kind: "retry"; outcome: WriteRequestOutcome; afterMs?: number; detail: string }
  | { kind: "operator"; detail: string };

/** How long to wait before a write is sent again, in milliseconds; `attempt` counts from 0. */
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
  /** Neither answered nor given up, the oldest first. */
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

  /** True while only an operator can end the refusal of every write. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /**
   * How long the oldest lines have been waiting for the database's answer (seconds); 0 when none wait. It grows whatever
   * the reason: slow, refusing, unreachable, or silent.
   */
  get pendingSeconds(): number {
    const oldest = this.#waiting.values().next().value;
    return oldest ? (performance.now() - oldest.sinceMs) / 1000 : 0;
  }

  /** Hands lines over; at most MAX_BODY_LINES. */
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
        for (const wake of this.#wakeRetry) wake();
      },
    };
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    // After the current turn: batches of several partitions that were decoded together go together.
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

  /** Returns when every line of every wanted piece is confirmed or refused. */
  async #deliver(pieces: Piece[]): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const wanted = pieces.filter(({ submission }) => !submission.cancelled);
      if (wanted.length === 0) return;
      const count = wanted.reduce((sum, { from, to }) => sum + to - from, 0);
      const verdict = await this.#post(wanted, count);
      this.#setBlocked(verdict.kind === "operator");
      switch (verdict.kind) {
        case "written":
          return;
        case "line_fault":
        case "too_large": {
          // All of them: no need to look for the ones at fault (a whole batch older than the bucket keeps).
          const all = verdict.kind === "line_fault" && verdict.dropped === count;
          if (count === 1 || all) {
            const detail = verdict.kind === "too_large" ? "the line is too large for InfluxDB" : verdict.detail;
            for (const { submission, from, to } of wanted) {
              for (let index = from; index < to; index++) submission.refused.push({ index, detail });
            }
            return;
          }
          // Halving finds b bad lines of n in about 2·b·log2(n) requests; good lines written twice are the same points.
          for (const half of halves(wanted, count)) await this.#deliver(half);
          return;
        }
        case "retry":
          this.#note("influxdb_retry", "warn", verdict.detail, count);
          await this.#pause(verdict.afterMs ?? retryPauseMs(verdict.outcome, attempt));
          break;
        case "operator":
          this.#note("influxdb_refuses", "error", verdict.detail, count);
          await this.#pause(this.operatorRetryMs);
          break;
      }
    }
  }

  async #post(pieces: readonly Piece[], count: number): Promise<Verdict> {
    const body = pieces
      .map(({ submission: { lines }, from, to }) =>
        (from === 0 && to === lines.length ? lines : lines.slice(from, to)).join("\n"),
      )
      .join("\n");
    this.hooks.onAttempt?.();
    const startedAt = performance.now();
    let verdict: Verdict;
    let outcome: WriteRequestOutcome;
    try {
      const response = await fetch(this.#endpoint, {
        method: "POST",
        headers: this.#headers,
        body,
        tls: { ca: this.config.ca },
        redirect: "error",
        signal: AbortSignal.timeout(this.timeoutMs),
      });
      // Read even when empty: the connection is free for the next request only then.
      const text = await response.text();
      verdict = classifyResponse(response.status, text, response.headers.get("retry-after"));
      outcome = outcomeOf(verdict);
    } catch (error) {
      const detail = error instanceof Error ? error.message || error.name : String(error);
      verdict = { kind: "retry", outcome: "unreachable", detail };
      outcome = "unreachable";
    }
    this.hooks.onRequest?.(outcome, performance.now() - startedAt, count);
    return verdict;
  }

  /** Waits, but not longer than somebody wants the lines. */
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

/** What InfluxDB writes when lines, not the request, are at fault. */
const LINE_FAULT =
  /unable to parse|partial write|field type conflict|retention policy|invalid (?:line|field|tag|point)/i;

/** What an answer means for the lines of the request. */
export function classifyResponse(status: number, body: string, retryAfter: string | null): Verdict {
  const detail = `InfluxDB answered ${status}: ${messageOf(body)}`;
  if (status >= 200 && status < 300) return { kind: "written" };
  if (status === 422 || (status === 400 && LINE_FAULT.test(body))) {
    const dropped = /dropped=(\d+)/.exec(body)?.[1];
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
  // 400 for another cause, 401, 403, 404, a redirect: the request is wrong, whatever its lines say.
  if (status < 500) return { kind: "operator", detail };
  return { kind: "retry", outcome: "failed", detail };
}

function outcomeOf(verdict: Verdict): WriteRequestOutcome {
  switch (verdict.kind) {
    case "written":
      return "written";
    case "too_large":
      return "too_large";
    case "operator":
      return "forbidden";
    default:
      return verdict.outcome;
  }
}

function messageOf(body: string): string {
  try {
    const { message, error } = JSON.parse(body) as { message?: string; error?: string };
    return (message ?? error ?? body).slice(0, MAX_ERROR_CHARS);
  } catch {
    return body.slice(0, MAX_ERROR_CHARS);
  }
}

/** Milliseconds of a Retry-After header (seconds or a date), bounded; undefined when there is none. */
export function retryAfterMs(header: string | null, nowMs: number): number | undefined {
  if (header === null || header.trim() === "") return undefined;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - nowMs;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS) : undefined;
}
