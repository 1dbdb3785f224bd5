/** One line of text per drill: for the terminal and for outputs/resilience-drills.txt. */
import { formatDuration } from "../cli/report.ts";
import type { DrillResult } from "../recording/result.ts";
import { recoveryTime } from "./format.ts";

/** "delete-kafka             PASSED       6.2 s of 30s         4000 acknowledged, 0 lost, 0 twice unexplained" */
export function drillLine({ name, verdict, recovery, ledger }: DrillResult): string {
  const took = recovery ? `${recoveryTime(recovery)} of ${formatDuration(recovery.budget_ms)}` : "no recovery measured";
  const events = ledger
    ? `${ledger.acknowledged} acknowledged, ${ledger.lost} lost, ${ledger.duplicated} twice unexplained`
    : "not audited";
  return `${name.padEnd(24)} ${verdict.toUpperCase().padEnd(12)} ${took.padEnd(20)} ${events}`;
}
