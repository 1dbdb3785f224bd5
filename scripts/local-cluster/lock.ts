/**
 * A lock between runs on one machine: an open exclusive transaction of an SQLite database without content. The kernel ends
 * it with this process, however that ends; a lock file with a process id could be stale. Needs no program, so it is the
 * same on Linux and macOS.
 */
import { Database, SQLiteError } from "bun:sqlite";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { pause } from "../cli/wait.ts";

/** Interval between attempts to take a lock that another run holds. */
const RETRY_MS = 500;

export interface Lock {
  release(): void;
}

/** @returns undefined while another run holds it */
function tryLock(path: string): Lock | undefined {
  const database = new Database(`${path}.db`, { create: true });
  try {
    database.run("BEGIN EXCLUSIVE");
    return { release: () => database.close() };
  } catch (error) {
    database.close();
    if (error instanceof SQLiteError && error.code === "SQLITE_BUSY") return undefined;
    throw new OperatorError(`the lock ${path} could not be taken`, { cause: error });
  }
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
    const lock = tryLock(path);
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
