/**
 * The audit as a function: records what stands where, judges it, counts it. The command (scripts/audit.ts), load tests
 * and drills take their verdict from here.
 */
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
import { type AuditScope, type Recording, recordHistory } from "./record.ts";
import { type InvariantId, judge, type Status, type Verdict } from "./verdict.ts";

export const RUNS_FOLDER = join(import.meta.dir, "..", "..", "outputs", "runs");
/** Without these an audit has told nothing. */
const NEEDED: readonly InvariantId[] = ["L2", "L3"];
/** The clocks of the senders and of Kafka may differ by so much. */
const CLOCK_MARGIN_MS = 10_000;

export interface AuditOptions extends AuditScope {
  /** Laws that these senders never promised to keep: judged and told like the others, and left out of the status. */
  notPromised?: readonly InvariantId[] | undefined;
  /** Where the record goes; outputs/runs/audit-… when absent. */
  folder?: string | undefined;
  /** A context whose probe pod is used, and which stays open; one is made, and closed, when absent. */
  context?: ProbeSession | undefined;
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

/**
 * The closing line of an audit and its exit code: a broken law is 5, an audit that could not tell is 1.
 * @param notPromised laws that count neither way; a broken one of them is named in the line
 */
export function closing(
  { laws, causes }: Verdict,
  notPromised: readonly InvariantId[] = [],
): { status: Status; line: string; exitCode: ExitCode } {
  const isCounted = (law: InvariantId) => !notPromised.includes(law);
  const counted = laws.filter(({ law }) => isCounted(law));
  const count = (status: Status) => counted.filter((result) => result.status === status).length;
  const aside = laws.filter(({ law, status }) => status === "failed" && !isCounted(law)).map(({ law }) => law);
  const counts =
    `${count("passed")} laws hold, ${count("failed")} broken, ${count("unknown")} unknown` +
    (aside.length > 0 ? `; not promised by the sender, and broken: ${aside.join(", ")}` : "");
  if (count("failed") > 0) {
    return {
      status: "failed",
      line: `FAILED: ${counts}; cause: ${causes.filter(isCounted).join(", ")}`,
      exitCode: EXIT.violations,
    };
  }
  const open = counted.filter(({ law, status }) => NEEDED.includes(law) && status === "unknown");
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
  const signal = options.signal ?? new AbortController().signal;
  const report = options.report ?? silent;
  const history = options.folder ?? auditFolder(Date.now());
  const writer = await HistoryWriter.open(history);
  const context = options.context ?? new ProbeSession(cluster, await deployedServicesImage(cluster), signal);
  const recording = await (async () => {
    try {
      return await recordHistory({
        ...options,
        sinceMs: options.sinceMs - (options.outcomes ? CLOCK_MARGIN_MS : 0),
        sources: clusterSources(cluster, context, signal),
        writer,
        report,
        signal,
      });
    } finally {
      if (!options.context) await context.close();
    }
  })();
  await writer.close(recording.meta);
  const verdict = await report.step("verdict", async () => await judge(await openHistory(history)));
  return { verdict, ledger: ledgerOf(verdict), ...closing(verdict, options.notPromised), recording, history };
}
