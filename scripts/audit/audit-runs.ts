/**
 * The audit as a function: records what stands where, judges it, counts it. The command (scripts/audit.ts), load tests
 * and drills take their verdict from here.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { CheckContext } from "../checks/context.ts";
import type { Ledger } from "../runs/result.ts";
import type { Cluster } from "../toolkit/cluster.ts";
import { EXIT, type ExitCode } from "../toolkit/errors.ts";
import { type FaultRecord, HistoryWriter, type OutcomeRecord, openHistory } from "../toolkit/history.ts";
import { deployedServicesImage } from "../toolkit/live-image.ts";
import type { Report } from "../toolkit/report.ts";
import { judge, type LawId, type Status, type Verdict } from "../toolkit/verdict.ts";
import type { CheckpointLine } from "./checkpoints.ts";
import { clusterSources } from "./cluster-sources.ts";
import { type Recording, recordHistory } from "./record.ts";

export const RUNS_FOLDER = join(import.meta.dir, "..", "..", "outputs", "runs");
/** Without these an audit has told nothing. */
const NEEDED: readonly LawId[] = ["L2", "L3"];
/** The clocks of the senders and of Kafka may differ by so much. */
const CLOCK_MARGIN_MS = 10_000;

export interface AuditOptions {
  /** Kafka's records since this moment (ms since 1970): when the first of the runs began to send. */
  sinceMs: number;
  /** Only these runs; otherwise those of `outcomes`, or the producers' own fleets. */
  runs?: readonly string[] | undefined;
  /** Only conveyors whose name begins so ("load-7-"). */
  conveyorsPrefix?: string | undefined;
  /**
   * What a load generator was told, of every event that it attempted, in ranges: ok, fail (refused, certainly not
   * stored) or unknown (no answer, 503). When given, the producers are not asked what they acknowledged.
   */
  outcomes?: Iterable<OutcomeRecord> | AsyncIterable<OutcomeRecord> | undefined;
  /** False: `outcomes` does not list every event that was attempted. */
  outcomesComplete?: boolean | undefined;
  /** Events that the generator sent more than once: as many may stand in Kafka twice. */
  resent?: number | undefined;
  faults?: readonly FaultRecord[] | undefined;
  /** What was heard of producers that are gone (checkpoint-watch.ts), beside what their logs still say. */
  checkpoints?: readonly CheckpointLine[] | undefined;
  /** How long the processor may take to read what is there; a minute when absent. */
  commitLimitMs?: number | undefined;
  /** Where the record goes; outputs/runs/audit-… when absent. */
  folder?: string | undefined;
  /** A context whose probe pod is used, and which stays open; one is made, and closed, when absent. */
  context?: CheckContext | undefined;
  report?: Pick<Report, "step"> | undefined;
  signal?: AbortSignal | undefined;
}

export interface RunsAudit {
  verdict: Verdict;
  ledger: Ledger;
  /** passed: no law is broken, and L2 and L3 were judged. unknown: those two could not be. */
  status: Status;
  /** The verdict in one line. */
  line: string;
  exitCode: ExitCode;
  recording: Recording;
  /** Folder of the record. */
  history: string;
}

const silent: Pick<Report, "step"> = { step: (_title, work) => work({ update: () => {} }) };

/** The closing line of an audit and its exit code: a broken law is 5, an audit that could not tell is 1. */
export function closing(verdict: Verdict): { status: Status; line: string; exitCode: ExitCode } {
  const count = (status: Status) => verdict.laws.filter((result) => result.status === status).length;
  const counts = `${count("passed")} laws hold, ${count("failed")} broken, ${count("unknown")} unknown`;
  if (count("failed") > 0) {
    return {
      status: "failed",
      line: `FAILED: ${counts}; cause: ${verdict.causes.join(", ")}`,
      exitCode: EXIT.violations,
    };
  }
  const open = verdict.laws.filter(({ law, status }) => NEEDED.includes(law) && status === "unknown");
  return open.length > 0
    ? { status: "unknown", line: `UNKNOWN: ${counts}`, exitCode: EXIT.failed }
    : { status: "passed", line: `PASSED: ${counts}`, exitCode: EXIT.ok };
}

/** A verdict's counts as load tests and drills show them. `duplicated` counts what nothing explains. */
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

/** A folder for the record of one audit. */
export function auditFolder(nowMs: number): string {
  const stamp = new Date(nowMs).toISOString().replace(/[-:.]/g, "");
  return join(RUNS_FOLDER, `audit-${stamp}-${randomBytes(2).toString("hex")}`, "history");
}

/**
 * Accounts for the events of some runs: seconds for some ten thousand events, half a minute for a million.
 * @throws OperatorError when a part cannot be asked at all: no verdict is not a good one.
 */
export async function auditRuns(cluster: Cluster, options: AuditOptions): Promise<RunsAudit> {
  const { runs, conveyorsPrefix, outcomes, outcomesComplete, resent, faults, checkpoints, commitLimitMs } = options;
  const signal = options.signal ?? new AbortController().signal;
  const report = options.report ?? silent;
  const history = options.folder ?? auditFolder(Date.now());
  const writer = await HistoryWriter.open(history);
  const context = options.context ?? new CheckContext(cluster, await deployedServicesImage(cluster), signal);
  const recording = await (async () => {
    try {
      return await recordHistory({
        sources: clusterSources(cluster, context, signal),
        writer,
        report,
        signal,
        sinceMs: options.sinceMs - (outcomes ? CLOCK_MARGIN_MS : 0),
        runs,
        conveyorsPrefix,
        outcomes,
        outcomesComplete,
        resent,
        faults,
        checkpoints,
        commitLimitMs,
      });
    } finally {
      if (!options.context) await context.close();
    }
  })();
  await writer.close(recording.meta);
  const verdict = await report.step("verdict", async () => await judge(await openHistory(history)));
  return { verdict, ledger: ledgerOf(verdict), ...closing(verdict), recording, history };
}
