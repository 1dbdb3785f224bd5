/** Running other programs: their output to a log or a string, killed as a whole when the signal is aborted. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, createReadStream, createWriteStream, openSync } from "node:fs";
import { open } from "node:fs/promises";
import { createInterface } from "node:readline";
import { finished } from "node:stream/promises";
import { EXIT, OperatorError } from "./errors.ts";

/** How much of a failed program's log goes into the error: the reason is nearly always in the last lines. */
const LOG_TAIL_LINES = 15;
/** A program that was told to end gets this long before it is killed: compilers and apt clean up in less. */
const TERM_GRACE_MS = 5_000;
/** A program whose output is read, where its caller sets no limit: copying the largest image's tree takes a minute on a slow disk. */
const CAPTURE_LIMIT_MS = 5 * 60_000;
/** A program with a log, where its caller sets no limit: a download of hundreds of modules over a slow line. */
const LOGGED_LIMIT_MS = 30 * 60_000;

export interface RunOptions {
  cwd?: string;
  /** Added to the environment; undefined removes a variable. */
  env?: Record<string, string | undefined>;
  signal?: AbortSignal;
  input?: string | Uint8Array;
  /** Killed after this long; no program runs without a limit. */
  timeoutMs?: number;
}

export interface RunResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

function environment(extra: RunOptions["env"]): NodeJS.ProcessEnv {
  const merged: NodeJS.ProcessEnv = { ...process.env };
  for (const [name, value] of Object.entries(extra ?? {})) {
    if (value === undefined) delete merged[name];
    else merged[name] = value;
  }
  return merged;
}

/** Ends a process group: politely, then for good. The child must have been spawned detached. */
function endGroup(child: ChildProcess): void {
  const kill = (signal: NodeJS.Signals) => {
    try {
      if (child.pid) process.kill(-child.pid, signal);
    } catch {
      // Gone already.
    }
  };
  kill("SIGTERM");
  setTimeout(() => child.exitCode === null && child.signalCode === null && kill("SIGKILL"), TERM_GRACE_MS).unref();
}

function settle(
  child: ChildProcess,
  what: string,
  { signal, timeoutMs }: { signal?: AbortSignal | undefined; timeoutMs: number },
): Promise<number> {
  return new Promise((resolve, reject) => {
    let timedOut = false;
    const stop = () => endGroup(child);
    const timer = setTimeout(() => {
      timedOut = true;
      stop();
    }, timeoutMs);
    signal?.addEventListener("abort", stop, { once: true });
    const done = (act: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      act();
    };
    child.on("error", (error) =>
      done(() => reject(new OperatorError(`${what} could not be started`, { cause: error }))),
    );
    child.on("close", (code, killedBy) =>
      done(() => {
        if (signal?.aborted) reject(signal.reason);
        else if (timedOut) {
          reject(new OperatorError(`${what} did not end within ${timeoutMs / 1000} s`, { exitCode: EXIT.timeout }));
        } else resolve(code ?? (killedBy ? 128 : 1));
      }),
    );
  });
}

/** Runs a program and gives back what it printed and its exit code. @throws when it cannot start, times out or is aborted. */
export async function capture(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  options.signal?.throwIfAborted();
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: environment(options.env),
    detached: true,
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  const chunks: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  child.stdout?.on("data", (chunk: Buffer) => chunks.stdout.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => chunks.stderr.push(chunk));
  if (options.input !== undefined) {
    // A program that ends without reading its input is judged by its exit code, not by the broken pipe.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input);
  }
  const exitCode = await settle(child, program, { ...options, timeoutMs: options.timeoutMs ?? CAPTURE_LIMIT_MS });
  return {
    stdout: Buffer.concat(chunks.stdout).toString(),
    stderr: Buffer.concat(chunks.stderr).toString(),
    exitCode,
  };
}

/** Like `capture`, for a program that must succeed. @throws OperatorError with its own words. */
export async function must(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { stdout, stderr, exitCode } = await capture(command, options);
  if (exitCode !== 0) {
    throw new OperatorError(
      `${command.join(" ")} failed (exit ${exitCode}): ${(stderr.trim() || stdout.trim()).slice(-2000)}`,
    );
  }
  return stdout;
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
 * @param onLine told of each line that it prints, for progress
 * @throws OperatorError with the end of the log when it fails; the abort reason when the signal is aborted
 */
export async function runLogged(
  command: readonly string[],
  options: RunOptions & { log: string; onLine?: (line: string) => void },
): Promise<void> {
  options.signal?.throwIfAborted();
  const [program = "", ...args] = command;
  const log = openSync(options.log, "a");
  let exitCode: number;
  try {
    const watch = options.onLine;
    let written: Promise<void> | undefined;
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: environment(options.env),
      detached: true,
      stdio: ["ignore", log, watch ? "pipe" : log],
    });
    if (watch && child.stderr) {
      // Nothing is awaited before settle listens: a program that ends at once would never be seen to end.
      const writer = createWriteStream(options.log, { flags: "a" });
      written = finished(writer);
      // Looked at below; a program that fails before that must not bring a second error.
      written.catch(() => {});
      createInterface({ input: child.stderr })
        .on("line", (line) => {
          writer.write(`${line}\n`);
          watch(line);
        })
        .on("close", () => writer.end());
    }
    exitCode = await settle(child, program, { ...options, timeoutMs: options.timeoutMs ?? LOGGED_LIMIT_MS });
    // The end of the log is what an error shows.
    await written;
  } finally {
    closeSync(log);
  }
  if (exitCode !== 0) {
    throw new OperatorError(`${[program, ...args].join(" ").slice(0, 200)} failed (exit ${exitCode})`, {
      hint: `the whole output is in ${options.log}`,
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
