/**
 * Waiting with a name, a limit and the last state seen: "waited 60 s for kafka-1 to be Ready, last seen: Pending".
 */
import { setTimeout as sleep } from "node:timers/promises";
import { EXIT, OperatorError } from "./errors.ts";
import { formatDuration } from "./report.ts";

export interface WaitOptions {
  /** What is awaited, as it is written after "waited for". */
  what: string;
  limitMs: number;
  /** Interval between two polls; short, since most waits end within seconds. */
  intervalMs?: number;
  signal?: AbortSignal;
  /** Next step for the operator when the limit is reached. */
  hint?: string;
  /** Called with each state seen, for a progress line. */
  onState?: (state: string) => void;
}

/** Result of a poll: `done` with a value, or the state seen instead. */
export type PollResult<T> = { done: true; value: T } | { done: false; state: string };

/** Resolves after `ms`, or rejects with the signal's reason, which node:timers/promises replaces by a general AbortError. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal?.throwIfAborted());
}

/**
 * Polls until `poll` is done; an error that it throws counts as a state, so that a temporary fault does not end the wait.
 * @throws OperatorError with exit code 4 that names what was awaited, how long, and the last state seen.
 */
export async function waitFor<T>(poll: () => Promise<PollResult<T>>, options: WaitOptions): Promise<T> {
  const startedAt = performance.now();
  let state = "nothing";
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      const seen = await poll();
      if (seen.done) return seen.value;
      state = seen.state;
    } catch (error) {
      if (options.signal?.aborted) throw error;
      state = error instanceof Error ? error.message : String(error);
    }
    options.onState?.(state);
    const elapsedMs = performance.now() - startedAt;
    if (elapsedMs >= options.limitMs) {
      throw new OperatorError(
        `waited ${formatDuration(elapsedMs)} for ${options.what}; last seen: ${state.trim() || "nothing"}`,
        { exitCode: EXIT.timeout, hint: options.hint },
      );
    }
    await pause(Math.min(options.intervalMs ?? 300, Math.max(1, options.limitMs - elapsedMs)), options.signal);
  }
}
