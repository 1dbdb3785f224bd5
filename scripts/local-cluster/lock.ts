/**
 * A lock between runs on one machine. A helper process holds flock(2) for as long as a pipe to us is open, so the lock
 * is gone the moment this process is, however it ends; a lock file with a pid in it would have to be guessed about.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { pause } from "../cli/wait.ts";

/** How often a lock that another run holds is tried again. */
const RETRY_MS = 500;

export interface Lock {
  release(): Promise<void>;
}

async function tryLock(path: string): Promise<Lock | undefined> {
  // setsid: Ctrl-C in a terminal reaches the whole foreground group; the lock must outlast our own clean-up.
  const child = spawn(
    "setsid",
    ["flock", "--nonblock", "--conflict-exit-code", "9", path, "sh", "-c", "echo held; exec cat"],
    {
      stdio: ["pipe", "pipe", "ignore"],
    },
  );
  const ended = new Promise<number>((resolve, reject) => {
    child.on("error", (error) =>
      reject(new OperatorError("flock could not be started", { exitCode: EXIT.precondition, cause: error })),
    );
    child.on("close", (code) => resolve(code ?? 1));
  });
  const held = new Promise<"held">((resolve) => child.stdout.once("data", () => resolve("held")));
  const outcome = await Promise.race([held, ended]);
  if (outcome === 9) return undefined;
  if (outcome !== "held") throw new OperatorError(`the lock ${path} could not be taken (flock ended with ${outcome})`);
  return {
    async release() {
      child.stdin.end();
      await ended;
    },
  };
}

/**
 * Takes the lock, waiting while another run holds it.
 * @param onWait told who holds it, each time it is tried again
 * @throws OperatorError (exit 4) after limitMs; the abort reason when the signal is aborted
 */
export async function takeLock(
  path: string,
  options: { what: string; limitMs: number; signal?: AbortSignal; onWait?: (holder: string) => void },
): Promise<Lock> {
  await mkdir(dirname(path), { recursive: true });
  const startedAt = performance.now();
  for (;;) {
    options.signal?.throwIfAborted();
    const lock = await tryLock(path);
    if (lock) {
      await writeFile(path, `process ${process.pid}\n`);
      return lock;
    }
    const holder = (await readFile(path, "utf8").catch(() => "")).trim() || "another run";
    if (performance.now() - startedAt >= options.limitMs) {
      throw new OperatorError(
        `${options.what}: ${holder} has held the lock for more than ${options.limitMs / 1000} s`,
        {
          exitCode: EXIT.timeout,
          hint: `wait for it to end, or end it; the lock is ${path}`,
        },
      );
    }
    options.onWait?.(holder);
    await pause(RETRY_MS, options.signal);
  }
}
