/**
 * An orderly end: on the first signal the steps run in order, each under its own limit, and the process exits 0; a
 * step that overruns is logged and left behind. A second signal, or the whole taking too long, ends it at once.
 */
import type { Logger } from "./log.ts";

/** Below Kubernetes' 30 s grace period, with room for the exit itself. */
export const SHUTDOWN_LIMIT_MS = 25_000;

export interface ShutdownStep {
  name: string;
  limitMs: number;
  run: () => Promise<unknown> | unknown;
}

export interface ShutdownOutcome {
  step: string;
  outcome: "done" | "timed_out" | "failed";
  durationMs: number;
}

/** Runs the steps; never throws. */
export async function runSteps(steps: readonly ShutdownStep[], log: Logger): Promise<ShutdownOutcome[]> {
  const outcomes: ShutdownOutcome[] = [];
  for (const { name, limitMs, run } of steps) {
    const startedAt = performance.now();
    let outcome: ShutdownOutcome["outcome"] = "done";
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const late = new Promise<"timed_out">((resolve) => {
        timer = setTimeout(() => resolve("timed_out"), limitMs);
      });
      outcome = await Promise.race([Promise.resolve(run()).then(() => "done" as const), late]);
      if (outcome === "timed_out") log.warn("shutdown_step_timed_out", { step: name, limit_ms: limitMs });
    } catch (error) {
      outcome = "failed";
      log.warn("shutdown_step_failed", { step: name, error });
    } finally {
      clearTimeout(timer);
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

  /** Aborted when the end begins: loops stop taking new work. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get begun(): boolean {
    return this.#begun !== undefined;
  }

  /** Adds a step; steps run in the order in which they were added. */
  step(name: string, limitMs: number, run: ShutdownStep["run"]): void {
    this.#steps.push({ name, limitMs, run });
  }

  /** Ends the process in order. Further calls join the first. */
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

  /** SIGTERM and SIGINT begin the end; a second one forces it. What nobody caught ends with exit 1. */
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
      // State is unknown now: what was acknowledged is safe in Kafka, and the restart resumes from the last commit.
      this.exit(1);
    };
    process.on("uncaughtException", fatal("uncaught_exception"));
    process.on("unhandledRejection", fatal("unhandled_rejection"));
  }
}
