/**
 * Running other programs. `capture`, `must` and `runLogged` wait for the end of a program; `start` and `lines` work with
 * one while it runs. Commands are lists of arguments that no shell interprets. Each program leads a process group of its
 * own, and the group is ended with it: at its limit, on the signal, and when this process exits.
 *
 * zx runs the programs whose output is collected. It starts them through `spawnGroup`, because its own way is a bash with
 * one quoted string, limited to 128 KiB. Streams do not go through zx: it keeps all output in memory and decodes each
 * chunk alone, which breaks characters that are split over two chunks.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, createReadStream, openSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { constants } from "node:os";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { $, quote } from "zx/core";
import { EXIT, OperatorError } from "./errors.ts";

/** How much of a failed program's log goes into the error: the reason is nearly always in the last lines. */
const LOG_TAIL_LINES = 15;
/** Time between the first signal and SIGKILL: compilers and apt clean up in less. */
const TERM_GRACE_MS = 5_000;
/** Limit of a program whose output is collected: copying the largest image's tree takes a minute on a slow disk. */
const CAPTURE_LIMIT_MS = 5 * 60_000;
/** Limit of a program with a log: a download of hundreds of modules over a slow line. */
const LOGGED_LIMIT_MS = 30 * 60_000;
/** How much of its stderr a running program's handle keeps: the last part explains a failure. */
const STDERR_KEPT_CHARACTERS = 65_536;

export interface RunOptions {
  cwd?: string;
  /** Added to the environment; undefined removes a variable. */
  env?: Record<string, string | undefined>;
  /** Ends the program. */
  signal?: AbortSignal | undefined;
  /** Text for its stdin; without it stdin is empty. */
  input?: string | Uint8Array;
  /** Ends the program after this time. `capture`, `must` and `runLogged` have a default, `start` and `lines` have none. */
  timeoutMs?: number;
  /** The first signal to end it. Default SIGTERM. */
  stopSignal?: NodeJS.Signals;
  /** Time between the first signal and SIGKILL. Default 5 s. */
  graceMs?: number;
  /** Name in error messages. Default: the program. */
  what?: string;
}

export interface RunResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

/** Groups that run now, by the process id of their leader. */
const runningGroups = new Set<number>();
process.on("exit", () => {
  for (const pid of runningGroups) signalGroup(pid, "SIGTERM");
});

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid) process.kill(-pid, signal);
  } catch {
    // It has ended.
  }
}

function environment(extra: RunOptions["env"]): NodeJS.ProcessEnv {
  const merged: NodeJS.ProcessEnv = { ...process.env };
  for (const [name, value] of Object.entries(extra ?? {})) {
    if (value === undefined) delete merged[name];
    else merged[name] = value;
  }
  return merged;
}

const nameOf = (command: readonly string[], options: RunOptions) => options.what ?? command[0] ?? "";

function spawnGroup(command: readonly string[], options: RunOptions, stdio: StdioOptions): ChildProcess {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { cwd: options.cwd, env: environment(options.env), detached: true, stdio });
  const { pid } = child;
  if (pid) {
    runningGroups.add(pid);
    child.once("close", () => runningGroups.delete(pid));
  }
  // A program that ends without reading its input is judged by its exit code, not by the broken pipe.
  child.stdin?.on("error", () => {});
  return child;
}

/** Ends a child's group, once: with its first signal, after the grace with SIGKILL. */
function groupEnd(child: () => ChildProcess | undefined, options: RunOptions): () => void {
  let isEnding = false;
  return () => {
    const target = child();
    if (isEnding || !target?.pid || !runningGroups.has(target.pid)) return;
    isEnding = true;
    signalGroup(target.pid, options.stopSignal ?? "SIGTERM");
    const timer = setTimeout(() => signalGroup(target.pid, "SIGKILL"), options.graceMs ?? TERM_GRACE_MS);
    target.once("close", () => clearTimeout(timer));
  };
}

/** Exit code as a shell reports it: 128 and the signal's number for a program that a signal ended. */
const exitCodeOf = (code: number | null, signal: NodeJS.Signals | null) =>
  code ?? 128 + (signal ? constants.signals[signal] : 0);

const timeoutError = (what: string, timeoutMs: number) =>
  new OperatorError(`${what} did not end within ${timeoutMs / 1000} s`, { exitCode: EXIT.timeout });
const startError = (what: string, cause: unknown) => new OperatorError(`${what} could not be started`, { cause });

/**
 * Runs a program and returns its output and exit code.
 * @param options.inherit its output goes to this process's stdout and stderr and is not collected
 * @throws OperatorError when it cannot start or reaches its limit (exit 4); the abort reason when the signal is aborted
 */
export async function capture(
  command: readonly string[],
  options: RunOptions & { inherit?: boolean } = {},
): Promise<RunResult> {
  options.signal?.throwIfAborted();
  const what = nameOf(command, options);
  const timeoutMs = options.timeoutMs ?? CAPTURE_LIMIT_MS;
  // zx would wait for more input after an empty one.
  const input = options.input?.length ? Buffer.from(options.input as Uint8Array) : undefined;
  const output = options.inherit ? "inherit" : "pipe";
  let child: ChildProcess | undefined;
  const end = groupEnd(() => child, options);
  let isTimedOut = false;
  const start = () => {
    child = spawnGroup(command, options, [input ? "pipe" : "ignore", output, output]);
    child.stdout?.setEncoding("utf8");
    child.stderr?.setEncoding("utf8");
    return child;
  };
  options.signal?.addEventListener("abort", end, { once: true });
  try {
    const result = await $({
      spawn: start as unknown as typeof spawn,
      // zx itself would search the children with `ps`; it calls this at the time limit.
      kill: async () => {
        isTimedOut = true;
        end();
      },
      quote,
      quiet: true,
      nothrow: true,
      timeout: timeoutMs,
      ...(input ? { input } : {}),
    })`${command}`;
    options.signal?.throwIfAborted();
    if (result.cause) throw startError(what, result.cause);
    if (isTimedOut) throw timeoutError(what, timeoutMs);
    return { stdout: result.stdout, stderr: result.stderr, exitCode: exitCodeOf(result.exitCode, result.signal) };
  } finally {
    options.signal?.removeEventListener("abort", end);
  }
}

/** Like `capture`, for a program that must succeed; returns its stdout. @throws OperatorError with its output. */
export async function must(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { stdout, stderr, exitCode } = await capture(command, options);
  if (exitCode !== 0) {
    throw new OperatorError(
      `${command.join(" ")} failed (exit ${exitCode}): ${(stderr.trim() || stdout.trim()).slice(-2000)}`,
    );
  }
  return stdout;
}

/** A running program. Disposing of it (`await using`) stops it. */
export interface Child extends AsyncDisposable {
  readonly pid: number | undefined;
  /** Chunks of its stdout. A slow reader holds the program back; leaving the loop closes the pipe. */
  readonly stdout: AsyncIterable<Uint8Array>;
  /** Lines of its stdout; read as `stdout`. */
  lines(): AsyncIterable<string>;
  /** The last part of what it printed on stderr so far. */
  readonly stderr: string;
  /** Exit code, after all output was read. @throws OperatorError when it could not be started or reached its limit. */
  readonly exited: Promise<number>;
  /**
   * Writes to its stdin, resolved when the pipe has taken the chunk. For a child with `stdin: "pipe"`.
   * @returns false when the program has closed its stdin; its exit code and stderr say why
   */
  write(chunk: string | Uint8Array): Promise<boolean>;
  /** Ends its stdin. */
  closeInput(): void;
  /** Ends the program with all that it started, and waits for its end; a reader of its output reaches the end too. */
  stop(): Promise<void>;
}

/** Where a stream of a started program goes; a number is an open file descriptor. */
export type OutputTarget = "pipe" | "ignore" | "inherit" | number;

/**
 * Starts a program and returns at once. Stop it, or pass a signal or a limit.
 * @param options.stdin "pipe": the caller writes with `write`
 * @param options.stdout default "pipe": the caller must read it
 * @param options.stderr default "pipe": its last part is kept in `stderr`
 * @param options.onErrorLine called with each line of a piped stderr
 */
export function start(
  command: readonly string[],
  options: RunOptions & {
    stdin?: "pipe";
    stdout?: OutputTarget;
    stderr?: OutputTarget;
    onErrorLine?: (line: string) => void;
  } = {},
): Child {
  const stdin = options.stdin ?? (options.input === undefined ? "ignore" : "pipe");
  const child = spawnGroup(command, options, [stdin, options.stdout ?? "pipe", options.stderr ?? "pipe"]);
  const end = groupEnd(() => child, options);
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-STDERR_KEPT_CHARACTERS);
  });
  if (child.stderr && options.onErrorLine) createInterface({ input: child.stderr }).on("line", options.onErrorLine);
  if (options.input !== undefined) child.stdin?.end(options.input);
  const exited = exitOf(child, end, options, nameOf(command, options));
  let isStopped = false;
  const stop = async () => {
    isStopped = true;
    end();
    // The end of a program is reported after its output: unread output would delay it for ever.
    child.stdout?.destroy();
    await exited.catch(() => {});
  };
  async function* output(): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* child.stdout as AsyncIterable<Uint8Array>;
    } catch (error) {
      if (!isStopped) throw error;
    }
  }
  const stdout = output();
  return {
    pid: child.pid,
    stdout,
    lines: () => createInterface({ input: Readable.from(stdout) }),
    get stderr() {
      return stderr;
    },
    exited,
    async write(chunk) {
      try {
        if (!child.stdin?.write(chunk)) await Promise.race([once(child.stdin!, "drain"), exited]);
        return child.exitCode === null && child.signalCode === null;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EPIPE") return false;
        throw error;
      }
    },
    closeInput: () => void child.stdin?.end(),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** The exit code of a started program, which the limit and the signal end. */
function exitOf(
  child: ChildProcess,
  end: () => void,
  { timeoutMs, signal }: RunOptions,
  what: string,
): Promise<number> {
  let isTimedOut = false;
  const onLimit = () => {
    isTimedOut = true;
    end();
  };
  const timer = timeoutMs === undefined ? undefined : setTimeout(onLimit, timeoutMs);
  signal?.addEventListener("abort", end, { once: true });
  if (signal?.aborted) end();
  const exited = new Promise<number>((resolve, reject) => {
    child.once("error", (error) => reject(startError(what, error)));
    child.once("close", (code, endSignal) => {
      if (isTimedOut) reject(timeoutError(what, timeoutMs ?? 0));
      else resolve(exitCodeOf(code, endSignal));
    });
  }).finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
  });
  // A caller that only reads the output need not await the end.
  exited.catch(() => {});
  return exited;
}

/**
 * Lines that a program prints, while it runs. Leaving the loop ends the program. When the signal is aborted, the lines end
 * without an error.
 * @param options.allowFailure its exit code does not matter; otherwise one that is not 0 is an error
 * @throws OperatorError with the last part of its stderr
 */
export async function* lines(
  command: readonly string[],
  options: RunOptions & { allowFailure?: boolean } = {},
): AsyncGenerator<string, void, void> {
  if (options.signal?.aborted) return;
  await using child = start(command, options);
  for await (const line of child.lines()) {
    if (options.signal?.aborted) return;
    yield line;
  }
  const exitCode = await child.exited;
  if (exitCode === 0 || options.allowFailure || options.signal?.aborted) return;
  throw new OperatorError(`${nameOf(command, options)} failed (exit ${exitCode}): ${child.stderr.trim().slice(-2000)}`);
}

/** The last lines of a log file; empty when there is none. */
export async function tail(path: string, lines = LOG_TAIL_LINES, windowBytes = 65_536): Promise<string> {
  try {
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      const start = Math.max(0, size - windowBytes);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
      return buffer.subarray(0, bytesRead).toString().trimEnd().split("\n").slice(-lines).join("\n");
    } finally {
      await file.close();
    }
  } catch {
    return "";
  }
}

/**
 * Runs a long program with its output appended to a log file.
 * @param options.onLine called with each line of its stderr, for progress
 * @throws OperatorError with the end of the log when it fails; the abort reason when the signal is aborted
 */
export async function runLogged(
  command: readonly string[],
  options: RunOptions & { log: string; onLine?: (line: string) => void },
): Promise<void> {
  options.signal?.throwIfAborted();
  const log = openSync(options.log, "a");
  let exitCode: number;
  try {
    const { onLine } = options;
    const child = start(command, {
      ...options,
      timeoutMs: options.timeoutMs ?? LOGGED_LIMIT_MS,
      stdout: log,
      stderr: onLine ? "pipe" : log,
      onErrorLine(line) {
        writeSync(log, `${line}\n`);
        onLine?.(line);
      },
    });
    exitCode = await child.exited;
    options.signal?.throwIfAborted();
  } finally {
    closeSync(log);
  }
  if (exitCode !== 0) {
    throw new OperatorError(`${command.join(" ").slice(0, 200)} failed (exit ${exitCode})`, {
      hint: `the complete output is in ${options.log}`,
      cause: new Error((await tail(options.log)) || "it printed nothing"),
    });
  }
}

/** SHA-256 of a file in hex, read as a stream. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
