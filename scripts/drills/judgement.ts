/**
 * The final judgement over all drills of a run: one recording of what stands where, then the laws for each drill's own
 * events. A drill that passed its beats fails here when a law is broken, or could not be judged.
 */
import { auditRuns, closing, ledgerOf } from "../audit/audit-runs.ts";
import { type History, type HistoryMeta, openHistory } from "../audit/history.ts";
import { judge } from "../audit/verdict.ts";
import { EXIT } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { DrillResult, Ledger } from "../recording/result.ts";
import type { DrillOutcome } from "./runner.ts";

/** Before the first event: clocks, and events that were made before they were sent. */
const SINCE_SLACK_MS = 5000;

/** What a history says of one run. What names no run (commits, faults) is kept. */
export function historyOfRun(history: History, run: string, meta: Partial<HistoryMeta>): History {
  return {
    meta: { ...history.meta, ...meta },
    recorded: (kind) => history.recorded(kind),
    each: (kind, visit) =>
      history.each(kind, (record) => {
        const named = (record as { run?: string }).run;
        if (named === undefined || named === run) visit(record);
      }),
  };
}

/** Judges the drills' own events; gives the results with their ledgers. */
export async function judgeDrills(
  cluster: Cluster,
  outcomes: readonly DrillOutcome[],
  options: { folder: string; sinceMs: number; report: Report; signal: AbortSignal; checks: ProbeSession },
): Promise<DrillResult[]> {
  const accounts = outcomes.flatMap(({ account }) => account ?? []);
  const results = await Promise.all(outcomes.map(({ whole }) => whole));
  if (accounts.length === 0) return results;
  const audit = await auditRuns(cluster, {
    sinceMs: options.sinceMs - SINCE_SLACK_MS,
    runs: accounts.map(({ run }) => run),
    outcomes: accounts.flatMap((account) => account.outcomes),
    resent: accounts.reduce((sum, { again }) => sum + again, 0),
    folder: options.folder,
    report: options.report,
    signal: options.signal,
    context: options.checks,
  });
  const history = await openHistory(audit.history);
  const judged: DrillResult[] = [];
  for (const [index, { account }] of outcomes.entries()) {
    const result = results[index]!;
    if (!account) {
      judged.push(result);
      continue;
    }
    const verdict = await judge(
      historyOfRun(history, account.run, { retries: account.again, idempotent_producer: account.again === 0 }),
    );
    const end = closing(verdict);
    const ledger: Ledger = ledgerOf(verdict);
    const broken = verdict.laws
      .filter(({ status }) => status === "failed")
      .map(({ law, detail }) => `${law} is broken: ${detail}`);
    if (end.exitCode !== EXIT.ok && broken.length === 0) broken.push(`the ledger could not be judged: ${end.line}`);
    judged.push({
      ...result,
      ledger,
      verdict: broken.length > 0 && result.verdict === "passed" ? "failed" : result.verdict,
      reasons: [...result.reasons, ...broken],
    });
  }
  return judged;
}
