/** The audit as a function, for the command (scripts/audit.ts), load tests and drills: records, judges, counts. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { EXIT, type ExitCode } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { ProbeSession } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { deployedServicesImage } from "../cluster/services-image.ts";
import type { Ledger } from "../recording/result.ts";
import { clusterSources } from "./cluster-sources.ts";
import { HistoryWriter, openHistory } from "./history.ts";
import { type AuditScope, type RecordedHistory, recordHistory } from "./record.ts";
import { type InvariantId, judge, type Status, type Verdict } from "./verdict.ts";

const RUNS_FOLDER = join(import.meta.dir, "..", "..", "outputs", "runs");
/** Without these two the audit is unknown. */
const REQUIRED: readonly InvariantId[] = ["L2", "L3"];
/** Most difference between the clocks of senders and Kafka. */
const CLOCK_MARGIN_MS = 10_000;

export interface AuditOptions extends AuditScope {
  /** Invariants that these senders do not promise: judged and reported, but not counted in the status. */
  notPromised?: readonly InvariantId[] | undefined;
  /** Folder of the record; outputs/runs/audit-… when absent. */
  folder?: string | undefined;
  /** A session to use, which stays open; one is opened and closed when absent. */
  context?: ProbeSession | undefined;
  report?: Pick<Report, "step"> | undefined;
  signal?: AbortSignal | undefined;
}

export interface RunsAudit {
  verdict: Verdict;
  ledger: Ledger;
  /** passed: no invariant is violated, and L2 and L3 were judged. unknown: L2 or L3 could not be judged. */
  status: Status;
  /** The verdict in one line. */
  line: string;
  exitCode: ExitCode;
  recording: RecordedHistory;
  /** Folder of the record. */
  history: string;
}

const silent: Pick<Report, "step"> = { step: (_title, work) => work({ update: () => {} }) };

/**
 * The closing line of an audit and its exit code: 5 for a violated invariant, 1 for an unknown result.
 * @param notPromised invariants that are not counted; a violated one of them is named in the line
 */
export function closing(
  { laws, causes }: Verdict,
  notPromised: readonly InvariantId[] = [],
): { status: Status; line: string; exitCode: ExitCode } {
  const isCounted = (id: InvariantId) => !notPromised.includes(id);
  const counted = laws.filter(({ law }) => isCounted(law));
  const count = (status: Status) => counted.filter((result) => result.status === status).length;
  const uncounted = laws.filter(({ law, status }) => status === "failed" && !isCounted(law)).map(({ law }) => law);
  const counts =
    `${count("passed")} invariants hold, ${count("failed")} violated, ${count("unknown")} unknown` +
    (uncounted.length > 0 ? `; violated, but not promised by the sender: ${uncounted.join(", ")}` : "");
  if (count("failed") > 0) {
    const line = `FAILED: ${counts}; cause: ${causes.filter(isCounted).join(", ")}`;
    return { status: "failed", line, exitCode: EXIT.violations };
  }
  const open = counted.filter(({ law, status }) => REQUIRED.includes(law) && status === "unknown");
  return open.length > 0
    ? { status: "unknown", line: `UNKNOWN: ${counts}`, exitCode: EXIT.failed }
    : { status: "passed", line: `PASSED: ${counts}`, exitCode: EXIT.ok };
}

/** A verdict's counts as load tests and drills show them; `duplicated` counts unexplained duplicates. */
export function ledgerOf({ counts }: Verdict): Ledger {
  return {
    offered: counts.attempted,
    acknowledged: counts.acknowledged,
    failed: counts.failed,
    unknown: counts.uncertain,
    stored: counts.in_influxdb,
    dead_lettered: counts.dead_lettered,
    lost: counts.lost,
    duplicated: counts.twice_in_kafka - counts.twice_in_kafka_explained + counts.twice_in_influxdb,
  };
}

/** A new folder for the record of one audit. */
function auditFolder(nowMs: number): string {
  const stamp = new Date(nowMs).toISOString().replace(/[-:.]/g, "");
  return join(RUNS_FOLDER, `audit-${stamp}-${randomBytes(2).toString("hex")}`, "history");
}

/**
 * Records what Kafka and InfluxDB hold of some runs: seconds for some ten thousand events, half a minute for a million.
 * @returns the recording and the folder of the history. @throws OperatorError when a part cannot be read.
 */
export async function recordRuns(
  cluster: Cluster,
  options: AuditOptions,
): Promise<{ recording: RecordedHistory; history: string }> {
  const signal = options.signal ?? new AbortController().signal;
  const history = options.folder ?? auditFolder(Date.now());
  await using writer = await HistoryWriter.open(history);
  const context = options.context ?? new ProbeSession(cluster, await deployedServicesImage(cluster), signal);
  try {
    const recording = await recordHistory({
      ...options,
      sinceMs: options.sinceMs - (options.outcomes ? CLOCK_MARGIN_MS : 0),
      sources: clusterSources(cluster, context, signal),
      writer,
      report: options.report ?? silent,
      signal,
    });
    await writer.close(recording.meta);
    return { recording, history };
  } finally {
    if (!options.context) await context.close();
  }
}

/** Records the events of some runs, and judges them. @throws OperatorError when a part cannot be read. */
export async function auditRuns(cluster: Cluster, options: AuditOptions): Promise<RunsAudit> {
  const { recording, history } = await recordRuns(cluster, options);
  const report = options.report ?? silent;
  const verdict = await report.step("verdict", async () => await judge(await openHistory(history)));
  return { verdict, ledger: ledgerOf(verdict), ...closing(verdict, options.notPromised), recording, history };
}
