/**
 * Progress of a command: one line per step with the time it took, on stderr.
 * Results go to stdout, so that `--json` prints one document there and nothing else.
 *
 * On a terminal a running step is redrawn in place with its elapsed time; elsewhere (CI, a pipe) it prints one line
 * when it ends, and one each time it has been running for a while.
 */
import { escapeCharacter, printable, UNPRINTABLE } from "../../services/domain/printable.ts";

export interface StepHandle {
  /** Replaces the detail after the title, for example what is awaited and the last state seen. */
  update(detail: string): void;
}

export interface StepOptions {
  /** Limit in milliseconds, shown after the elapsed time. */
  limitMs?: number;
}

export interface StepRecord {
  title: string;
  ok: boolean;
  detail: string;
  durationMs: number;
}

export interface Report {
  readonly json: boolean;
  readonly quiet: boolean;
  /** Runs `work` as one named step; its line has the duration, also when it throws. */
  step<T>(title: string, work: (step: StepHandle) => Promise<T>, options?: StepOptions): Promise<T>;
  /** A line on stderr (not with --quiet). */
  info(line: string): void;
  /** A warning on stderr, also with --quiet. */
  warn(line: string): void;
  /** The document of --json, printed when the command ends; a later call replaces an earlier one. */
  result(value: unknown): void;
  /** A line of the result on stdout; nothing with --json. */
  print(line: string): void;
  /** The steps so far, for timings in results. */
  readonly steps: readonly StepRecord[];
}

export interface ReportOptions {
  json?: boolean;
  quiet?: boolean;
  color?: boolean;
  stdout?: Writer;
  stderr?: Writer;
}

/** The part of a stream that a report writes to. */
export interface Writer {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

/** Interval in which a running step is redrawn on a terminal. */
const REDRAW_MS = 200;
/** Without a terminal, a step prints "still running" after this time and at each multiple. */
const STILL_RUNNING_MS = 30_000;

/** A duration as text: "0.4 s", "12.3 s", "3 min 05 s". */
export function formatDuration(durationMs: number): string {
  if (durationMs < 60_000) return `${(durationMs / 1000).toFixed(1)} s`;
  const seconds = Math.round(durationMs / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

/** A table with padded columns; `alignRight` names the columns of numbers. */
export function tableLines(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  alignRight: readonly string[] = [],
): string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const pad = (cell: string, column: number) =>
    alignRight.includes(head[column]!) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!);
  return [head, ...rows].map((row) => row.map(pad).join("  ").trimEnd());
}

const COLORS = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 } as const;

const ESCAPE = String.fromCharCode(27);
/** What a terminal may receive: line breaks, tabs and the sequences of paint(); then what it may not. */
const SEQUENCES = new RegExp(
  `(${ESCAPE}\\[(?:0|${Object.values(COLORS).join("|")})m|\\r?\\n|\\t)|${UNPRINTABLE}`,
  "gu",
);

/** Text for a terminal, without foreign control sequences. Lines may hold text of senders, servers and other tools. */
const terminalText = (text: string): string =>
  text.replaceAll(SEQUENCES, (found, allowed: string | undefined) => allowed ?? escapeCharacter(found));

/** Wraps text in an ANSI colour when `enabled`. */
export function paint(enabled: boolean, color: keyof typeof COLORS, text: string): string {
  return enabled ? `\u001b[${COLORS[color]}m${text}\u001b[0m` : text;
}

/** Colour only on a terminal, and never against NO_COLOR or TERM=dumb (no-color.org). */
export function colorAllowed(stream: Writer, environment: Record<string, string | undefined> = process.env): boolean {
  return Boolean(stream.isTTY) && !environment.NO_COLOR && environment.TERM !== "dumb";
}

/** A report that writes to a terminal or a pipe; `finish` prints the --json document. */
export class TerminalReport implements Report {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly color: boolean;
  readonly steps: StepRecord[] = [];
  readonly #stdout: Writer;
  readonly #stderr: Writer;
  readonly #live: boolean;
  #document: unknown;
  #hasDocument = false;
  /** True while the line of a running step is at the bottom of the terminal. */
  #drawn = false;

  constructor(options: ReportOptions = {}) {
    this.json = options.json ?? false;
    this.quiet = options.quiet ?? false;
    this.#stdout = options.stdout ?? process.stdout;
    this.#stderr = options.stderr ?? process.stderr;
    this.color = options.color ?? colorAllowed(this.#stderr);
    this.#live = Boolean(this.#stderr.isTTY) && process.env.TERM !== "dumb" && !this.quiet;
  }

  async step<T>(title: string, work: (step: StepHandle) => Promise<T>, options: StepOptions = {}): Promise<T> {
    const startedAt = performance.now();
    let detail = "";
    let shownAtMs = 0;
    const elapsed = () => performance.now() - startedAt;
    const limit = options.limitMs === undefined ? "" : ` of at most ${formatDuration(options.limitMs)}`;
    const draw = () => {
      const text = printable(`${title}${detail ? ` — ${detail}` : ""}`);
      if (this.#live) {
        const width = (this.#stderr.columns ?? 100) - 1;
        const time = `  ${formatDuration(elapsed())}${limit}`;
        const room = Math.max(10, width - 2 - time.length);
        const shown = text.length > room ? `${text.slice(0, room - 1)}…` : text;
        this.#erase();
        this.#stderr.write(`${paint(this.color, "yellow", "…")} ${shown}${paint(this.color, "dim", time)}`);
        this.#drawn = true;
      } else if (!this.quiet && elapsed() - shownAtMs >= STILL_RUNNING_MS) {
        shownAtMs = elapsed();
        this.#stderr.write(`… ${text}  still running after ${formatDuration(elapsed())}${limit}\n`);
      }
    };
    const timer = setInterval(draw, this.#live ? REDRAW_MS : 1000);
    draw();
    const end = (ok: boolean) => {
      clearInterval(timer);
      const durationMs = elapsed();
      this.steps.push({ title, ok, detail, durationMs });
      if (this.quiet && ok) return;
      const mark = ok ? paint(this.color, "green", "✓") : paint(this.color, "red", "✗");
      this.#line(
        `${mark} ${title}${detail ? ` — ${detail}` : ""}  ${paint(this.color, "dim", formatDuration(durationMs))}`,
      );
    };
    try {
      const value = await work({
        update: (text) => {
          detail = text;
        },
      });
      end(true);
      return value;
    } catch (error) {
      end(false);
      throw error;
    }
  }

  info(line: string): void {
    if (!this.quiet) this.#line(line);
  }

  warn(line: string): void {
    this.#line(`${paint(this.color, "yellow", "!")} ${line}`);
  }

  result(value: unknown): void {
    this.#document = value;
    this.#hasDocument = true;
  }

  print(line: string): void {
    if (this.json) return;
    this.#erase();
    this.#stdout.write(`${terminalText(line)}\n`);
  }

  /** Prints the document of --json, if this is a --json run; called once, by runCommand. */
  finish(): void {
    this.#erase();
    if (this.json && this.#hasDocument)
      this.#stdout.write(`${terminalText(JSON.stringify(this.#document, null, 2))}\n`);
  }

  /** An error's text, below a line that is being redrawn. */
  error(text: string): void {
    this.#line(paint(this.color, "red", text));
  }

  #line(text: string): void {
    this.#erase();
    this.#stderr.write(`${terminalText(text)}\n`);
  }

  #erase(): void {
    if (this.#drawn) this.#stderr.write("\r\u001b[2K");
    this.#drawn = false;
  }
}
