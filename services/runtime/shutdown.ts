/**
 * Orderly shutdown: on the first signal the steps run in order, each within its limit, and the process exits 0. A step
 * over its limit is logged and abandoned. A second signal, or reaching SHUTDOWN_LIMIT_MS, ends the process at once.
 */
import type { Logger } from "./log.ts";
import { TimeLimitError, withTimeout } from "./with-timeout.ts";

/** Below Kubernetes' 30 s grace period, with room for the exit itself. */
const SHUTDOWN_LIMIT_MS = 25_000;

interface ShutdownStep {
  name: string;
  limitMs: number;
  run: () => Promise<unknown> | unknown;
}

interface ShutdownOutcome {
  step: string;
  outcome: "done" | "timed_out" | "failed";
  durationMs: number;
}

export async function runSteps(steps: readonly ShutdownStep[], log: Logger): Promise<ShutdownOutcome[]> {
  const outcomes: ShutdownOutcome[] = [];
  for (const { name, limitMs, run } of steps) {
    const startedAt = performance.now();
    let outcome: ShutdownOutcome["outcome"] = "done";
    try {
      await withTimeout(Promise.resolve(run()), limitMs);
    } catch (error) {
      if (error instanceof TimeLimitError) {
        outcome = "timed_out";
        log.warn("shutdown_step_timed_out", { step: name, limit_ms: limitMs });
      } else {
        outcome = "failed";
        log.warn("shutdown_step_failed", { step: name, error });
      }
    }
    outcomes.push({ step: name, outcome, durationMs: Math.round(performance.now() - startedAt) });
  }
  return outcomes;
}

export class Shutdown {
  readonly #steps: ShutdownStep[] = [];
  #begun: Promise<never> | undefined;
  readonly #controller = new AbortController();

  constructor(
    private readonly log: Logger,
    private readonly exit: (code: number) => never = (code) => process.exit(code),
  ) {}

  /** Aborted when the shutdown begins; loops then take no new work. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get begun(): boolean {
    return this.#begun !== undefined;
  }

  step(name: string, limitMs: number, run: ShutdownStep["run"]): void {
    this.#steps.push({ name, limitMs, run });
  }

  /** Runs the steps and exits. Further calls join the first. */
  begin(reason: string, exitCode = 0): Promise<never> {
    this.#begun ??= this.#run(reason, exitCode);
    return this.#begun;
  }

  async #run(reason: string, exitCode: number): Promise<never> {
    this.log.info("stopping", { reason, exit_code: exitCode });
    const overall = setTimeout(() => {
      this.log.error("shutdown_timed_out", { limit_ms: SHUTDOWN_LIMIT_MS });
      this.exit(1);
    }, SHUTDOWN_LIMIT_MS);
    this.#controller.abort(new Error(reason));
    const outcomes = await runSteps(this.#steps, this.log);
    clearTimeout(overall);
    this.log.info("stopped", {
      exit_code: exitCode,
      steps: Object.fromEntries(outcomes.map(({ step, outcome, durationMs }) => [step, `${outcome} ${durationMs} ms`])),
    });
    await new Promise<void>((resolve) => process.stdout.write("", () => resolve()));
    return this.exit(exitCode);
  }

  /** SIGTERM and SIGINT begin the shutdown, a second one exits at once; an uncaught error exits with 1. */
  listen(): void {
    for (const name of ["SIGTERM", "SIGINT"] as const) {
      process.on(name, () => {
        if (this.begun) {
          this.log.warn("forced_exit", { signal: name });
          this.exit(1);
        }
        void this.begin(name);
      });
    }
    const fatal = (event: string) => (error: unknown) => {
      this.log.error(event, { error, stack: error instanceof Error ? error.stack : undefined });
      // The state is unknown. Acknowledged events are in Kafka, and a restart resumes from the last commit.
      this.exit(1);
    };
    process.on("uncaughtException", fatal("uncaught_exception"));
    process.on("unhandledRejection", fatal("unhandled_rejection"));
  }
}
