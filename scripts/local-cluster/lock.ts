/**
 * A lock between runs on one machine. A helper process holds flock(2) while its stdin, a pipe from this process, is open:
 * the lock ends with this process, however that ends. A lock file with a process id could be stale.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { start } from "../cli/process.ts";
import { pause } from "../cli/wait.ts";

/** Interval between attempts to take a lock that another run holds. */
const RETRY_MS = 500;
/** Exit code of flock when another process holds the lock. */
const CONFLICT = 9;

export interface Lock {
  release(): Promise<void>;
}

async function tryLock(path: string): Promise<Lock | undefined> {
  const flock = ["flock", "--nonblock", "--conflict-exit-code", String(CONFLICT), path];
  const child = start([...flock, "sh", "-c", "echo held; exec cat"], { stdin: "pipe", stderr: "ignore" });
  for await (const _ of child.stdout) {
    return {
      async release() {
        child.closeInput();
        await child.exited;
      },
    };
  }
  const exitCode = await child.exited.catch((error: unknown) => {
    throw new OperatorError("flock could not be started", { exitCode: EXIT.precondition, cause: error });
  });
  if (exitCode === CONFLICT) return undefined;
  throw new OperatorError(`the lock ${path} could not be taken (flock ended with ${exitCode})`);
}

/**
 * Takes the lock, waiting while another run holds it.
 * @param options.onWait called with the holder at each retry
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
          hint: `wait for its end, or stop it; the lock is ${path}`,
        },
      );
    }
    options.onWait?.(holder);
    await pause(RETRY_MS, options.signal);
  }
}
