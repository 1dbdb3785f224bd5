/** One case of a conformance run: steps in order, and the removal of what they made. */
import { causeChain } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";

/** A row of `validate` that this cluster cannot serve, with the reason. */
export interface OptionalRow {
  title: string;
  reason: string;
}

export interface StepOutcome {
  ok: boolean;
  /** What a failed step said; empty when it passed. */
  detail: string;
  optional?: OptionalRow[];
}

export interface Step {
  name: string;
  /** As typed in a shell. */
  command: string;
  limitMs: number;
  run(signal: AbortSignal): Promise<StepOutcome>;
}

export interface Case {
  name: string;
  title: string;
  steps: readonly Step[];
  /** Runs whatever the steps' results are, also after an interrupt. */
  removal: Step;
}

interface StepResult {
  name: string;
  command: string;
  status: "passed" | "failed" | "not_run";
  detail: string;
  duration_ms: number;
}

export interface CaseResult {
  name: string;
  title: string;
  ok: boolean;
  steps: StepResult[];
  /** Rows of validate that are optional on this cluster. */
  optional: OptionalRow[];
}

const notRun = ({ name, command }: Step): StepResult => ({
  name,
  command,
  status: "not_run",
  detail: "",
  duration_ms: 0,
});

/**
 * Runs a case. After a failed step the remaining ones are not run; the removal always is. An exception of a step is a failed
 * step with its message.
 * @throws the abort reason, after the removal, when the signal is aborted
 */
export async function runCase(
  { name, title, steps, removal }: Case,
  report: Report,
  signal: AbortSignal,
): Promise<CaseResult> {
  const results: StepResult[] = [];
  const optional: OptionalRow[] = [];
  const runStep = async (step: Step, stepSignal: AbortSignal) => {
    const startedAt = performance.now();
    const outcome = await report
      .step(`${name}: ${step.name}`, async () => await step.run(stepSignal), { limitMs: step.limitMs })
      .catch((error: unknown): StepOutcome => ({ ok: false, detail: causeChain(error).join(": ") }));
    if (!outcome.ok) report.warn(`${name}: ${step.command}: ${outcome.detail}`);
    optional.push(...(outcome.optional ?? []));
    const status = outcome.ok ? ("passed" as const) : ("failed" as const);
    const duration_ms = Math.round(performance.now() - startedAt);
    results.push({ name: step.name, command: step.command, status, detail: outcome.detail, duration_ms });
    return outcome.ok;
  };
  let ok = true;
  for (const step of steps) {
    if (ok && !signal.aborted) ok = await runStep(step, signal);
    else results.push(notRun(step));
  }
  ok = (await runStep(removal, new AbortController().signal)) && ok;
  signal.throwIfAborted();
  return { name, title, ok, steps: results, optional };
}
