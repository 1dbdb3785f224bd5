/**
 * A checklist: checks in order, each with the checks that it depends on.
 *
 * A check that depends on a failed one is "not run", so that one fault is one failed check and not twenty. A check of a
 * capability that this cluster cannot have is "skipped", with the reason. The verdict is passed only when every check passed
 * or was skipped.
 */
import { causeChain, EXIT, type ExitCode, isAbort } from "../cli/errors.ts";
import { formatDuration, paint, type Report } from "../cli/report.ts";

export interface CheckOutcome {
  ok: boolean;
  /** The cluster cannot have what is checked, or it was switched off: the detail is the reason. */
  skipped?: true;
  /** Observed values; for a failure the expected and the actual ones. */
  detail: string;
  /** Figures for --json. */
  data?: Record<string, unknown>;
}

export interface Check<Context> {
  /** Stable name for --only and --json, kebab-case. */
  id: string;
  title: string;
  /** Checks that must have passed before this one runs. */
  needs?: readonly string[];
  /** Time limit; a longer check fails. */
  limitMs: number;
  run(context: Context, signal: AbortSignal): Promise<CheckOutcome>;
}

export interface CheckResult {
  id: string;
  title: string;
  status: "passed" | "failed" | "not_run" | "skipped";
  detail: string;
  duration_ms: number;
  data?: Record<string, unknown>;
}

export interface ChecklistResult {
  ok: boolean;
  passed: number;
  failed: number;
  not_run: number;
  skipped: number;
  duration_ms: number;
  checks: CheckResult[];
}

export const passed = (detail: string, data?: CheckOutcome["data"]): CheckOutcome => ({ ok: true, detail, data });
/** Neither passed nor failed: optional, and not to be had here. @param reason why, and how to have it */
export const skipped = (reason: string): CheckOutcome => ({ ok: true, skipped: true, detail: reason });
export const failed = (detail: string, data?: CheckOutcome["data"]): CheckOutcome => ({ ok: false, detail, data });

/** Passed without problems, otherwise failed with all of them. */
export const outcomeOf = (problems: readonly string[], detail: string, data?: CheckOutcome["data"]): CheckOutcome =>
  problems.length === 0 ? passed(detail, data) : failed(problems.join("; "), data);

/**
 * The selected checks and those that they depend on, in the order of the list; all without a selection.
 * @throws RangeError that names the unknown id and the known ones
 */
export function selectChecks<C>(checks: readonly Check<C>[], only: readonly string[]): Check<C>[] {
  const byId = new Map(checks.map((check) => [check.id, check]));
  const wanted = new Set<string>();
  const add = (id: string) => {
    const check = byId.get(id);
    if (!check) throw new RangeError(`no check "${id}"; known: ${[...byId.keys()].join(", ")}`);
    if (wanted.has(id)) return;
    wanted.add(id);
    for (const need of check.needs ?? []) add(need);
  };
  for (const id of only.length > 0 ? only : byId.keys()) add(id);
  return checks.filter((check) => wanted.has(check.id));
}

/** Runs the checks in order; an exception in a check is a failed check with the exception's message. */
export async function runChecklist<C>(
  checks: readonly Check<C>[],
  context: C,
  signal: AbortSignal,
  onResult: (result: CheckResult) => void = () => {},
): Promise<ChecklistResult> {
  const startedAt = performance.now();
  const results: CheckResult[] = [];
  const statusOf = new Map<string, CheckResult["status"]>();
  for (const check of checks) {
    signal.throwIfAborted();
    const checkStartedAt = performance.now();
    const unmet = (check.needs ?? []).filter((need) => !["passed", "skipped"].includes(statusOf.get(need) ?? ""));
    const outcome = unmet.length > 0 ? undefined : await bounded(check, context, signal);
    const result: CheckResult = {
      id: check.id,
      title: check.title,
      status: !outcome ? "not_run" : outcome.skipped ? "skipped" : outcome.ok ? "passed" : "failed",
      detail: outcome?.detail ?? `needs ${unmet.join(", ")}`,
      duration_ms: outcome ? Math.round(performance.now() - checkStartedAt) : 0,
      data: outcome?.data,
    };
    statusOf.set(check.id, result.status);
    results.push(result);
    onResult(result);
  }
  const count = (status: CheckResult["status"]) => results.filter((result) => result.status === status).length;
  return {
    ok: count("passed") > 0 && count("passed") + count("skipped") === results.length,
    passed: count("passed"),
    failed: count("failed"),
    not_run: count("not_run"),
    skipped: count("skipped"),
    duration_ms: Math.round(performance.now() - startedAt),
    checks: results,
  };
}

async function bounded<C>(check: Check<C>, context: C, signal: AbortSignal): Promise<CheckOutcome> {
  const limit = new AbortController();
  const timer = setTimeout(
    () => limit.abort(new Error(`no result within ${formatDuration(check.limitMs)}`)),
    check.limitMs,
  );
  const both = AbortSignal.any([signal, limit.signal]);
  try {
    const late = new Promise<never>((_, reject) => {
      both.addEventListener("abort", () => reject(both.reason), { once: true });
    });
    return await Promise.race([check.run(context, both), late]);
  } catch (error) {
    signal.throwIfAborted();
    if (isAbort(error) && limit.signal.aborted) return failed(String(limit.signal.reason));
    return failed(causeChain(error).join(": "));
  } finally {
    clearTimeout(timer);
  }
}

const MARKS = {
  passed: ["✓", "green"],
  failed: ["✗", "red"],
  not_run: ["-", "yellow"],
  skipped: ["-", "dim"],
} as const;

/** The line of one check. */
export function formatCheck(result: CheckResult, color: boolean): string {
  const [mark, markColor] = MARKS[result.status];
  const time = result.status === "not_run" ? "" : `  ${paint(color, "dim", formatDuration(result.duration_ms))}`;
  const state = { not_run: "not run: ", skipped: "skipped (optional): ", passed: "", failed: "" }[result.status];
  return `${paint(color, markColor, mark)} ${result.title.padEnd(52)} ${state}${result.detail}${time}`;
}

/** The closing line and the exit code. */
export function verdict(result: ChecklistResult): { line: string; exitCode: ExitCode } {
  const counts = [`${result.passed} passed`];
  if (result.failed > 0) counts.push(`${result.failed} failed`);
  if (result.not_run > 0) counts.push(`${result.not_run} not run`);
  if (result.skipped > 0) counts.push(`${result.skipped} skipped`);
  return {
    line: `${result.ok ? "PASSED" : "FAILED"}: ${counts.join(", ")} in ${formatDuration(result.duration_ms)}`,
    exitCode: result.ok ? EXIT.ok : EXIT.violations,
  };
}

/** Runs a checklist and reports each result as a line. */
export async function reportChecklist<C>(
  checks: readonly Check<C>[],
  context: C,
  report: Report & { color?: boolean },
  signal: AbortSignal,
): Promise<ChecklistResult> {
  return await runChecklist(checks, context, signal, (result) => {
    const line = formatCheck(result, report.color ?? false);
    if (result.status === "passed" || result.status === "skipped") report.info(line);
    else report.warn(line);
  });
}
