/**
 * Audits every event by identity: acknowledged events against those in Kafka, InfluxDB and the dead-letter topic. Prints
 * one line per invariant.
 *
 *   bun scripts/audit.ts                     the last ten minutes of the producers' fleets
 *   bun scripts/audit.ts --since 1h --json
 *   bun scripts/audit.ts --run RUN           one run, whatever the source of its events
 *   bun scripts/audit.ts --account FILE      the events of a scripts/ingest.ts --json result
 *
 * Read-only. The record is kept in outputs/runs/, so that the verdict can be repeated. Missing records are reported as
 * "unknown"; a violated invariant is exit 5.
 */
import { readFile } from "node:fs/promises";
import { relative } from "node:path";
import { runStart } from "../services/domain/run-id.ts";
import { auditRuns, type RunsAudit } from "./audit/audit-runs.ts";
import { readIngestOutcomes } from "./audit/ingest-outcomes.ts";
import { checkRunFlag } from "./audit/run-flag.ts";
import { INVARIANT_TITLES } from "./audit/verdict.ts";
import { defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { paint, type Report } from "./cli/report.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

/** 120,000 events at the fleet's default rate: audited in well under a minute. */
const DEFAULT_SINCE_MS = 10 * 60_000;
/** Window of a run whose name has no start time. */
const DEFAULT_RUN_SINCE_MS = 60 * 60_000;

const MARKS = { passed: ["✓", "green"], failed: ["✗", "red"], unknown: ["?", "yellow"] } as const;

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new OperatorError(`--account ${path}: cannot be read`, { exitCode: EXIT.usage, cause: error });
  }
}

/** Start of the judged window: --since, or the start time in the run's name, or a default. */
export function windowStart(nowMs: number, flags: { since?: number | undefined; run?: string | undefined }): number {
  if (flags.since !== undefined) return nowMs - flags.since;
  if (flags.run === undefined) return nowMs - DEFAULT_SINCE_MS;
  return runStart(flags.run) ?? nowMs - DEFAULT_RUN_SINCE_MS;
}

/** The events of a --account file. @throws OperatorError (exit 2) when the file does not fit the other flags */
async function readAccount(flags: { account?: string; run?: string; since?: number }) {
  if (flags.account === undefined) return undefined;
  if (flags.run !== undefined) throw usageError("--run and --account exclude each other");
  const ingested = readIngestOutcomes(await readText(flags.account), `--account ${flags.account}`);
  const sinceMs = flags.since === undefined ? ingested.startedAtMs : Date.now() - flags.since;
  if (sinceMs === undefined) {
    throw usageError("--since: is required, since the run of the --account file has no start time in its name");
  }
  return { ...ingested, sinceMs };
}

const usageError = (message: string) => new OperatorError(message, { exitCode: EXIT.usage });

function printVerdict({ verdict, recording, history }: RunsAudit, report: Report): void {
  const color = report.json ? false : Boolean(process.stdout.isTTY) && !process.env.NO_COLOR;
  for (const { law: id, status, detail, follows } of verdict.laws) {
    const [mark, markColor] = MARKS[status];
    const cause = follows.length > 0 ? ` (follows from ${follows.join(", ")})` : "";
    const finding = status === "unknown" ? `unknown: ${detail}` : detail;
    report.print(`${paint(color, markColor, mark)} ${id} ${INVARIANT_TITLES[id].padEnd(64)} ${finding}${cause}`);
  }
  for (const [location, { count, examples }] of Object.entries(verdict.missing)) {
    if (count === 0) continue;
    const some = examples.map(({ run, conveyor, seq }) => `${run}/${conveyor}/${seq}`).join(", ");
    report.print(`  not in InfluxDB, ${location.replaceAll("_", " ")}: ${count} (${some})`);
  }
  const { acknowledged_before: before, others_in_kafka: others, producers, gaps } = recording;
  for (const cut of producers.cut_off) report.print(`  last acknowledgements unknown: ${cut}`);
  for (const gap of gaps) report.print(`  not read: ${gap}`);
  if (before > 0) report.print(`  ${before} events were acknowledged before the window: not judged`);
  if (others.events > 0) {
    report.print(`  ${others.events} events of ${others.runs} other runs are in Kafka: --run judges a run`);
  }
  report.print(`record: ${relative(process.cwd(), history)}`);
}

export const command = defineCommand({
  name: "scripts/audit.ts",
  summary: "audits every acknowledged event by identity, one line per invariant",
  usage: ["[--since DURATION] [--json]", "--run RUN [--json]", "--account FILE [--json]"],
  flags: {
    ...CLUSTER_FLAGS,
    since: {
      type: "duration",
      description: "events whose records in Kafka are of this time (default: 10m; with --run: since its start, or 1h)",
    },
    run: {
      type: "string",
      valueName: "RUN",
      description: "one run, also one sent from a file or over HTTPS",
    },
    account: {
      type: "string",
      valueName: "FILE",
      description: "the events of a result that scripts/ingest.ts --json printed",
    },
  },
  examples: [
    ["bun scripts/audit.ts", "the last ten minutes of the producers' fleets"],
    ["bun scripts/audit.ts --since 1h --json > audit.json", "for a machine"],
  ],
  notes: ["docs/audit.md explains each invariant and what an audit of a running pipeline can record."],
  async run({ flags, report, signal }) {
    checkRunFlag(flags.run);
    const ingested = await readAccount(flags);
    const cluster = await selectCluster(flags, localTarget);
    report.info(`target: ${cluster.describe()}`);
    await requireReachable(cluster, signal);
    const startedAt = performance.now();
    const sinceMs = ingested?.sinceMs ?? windowStart(Date.now(), flags);
    const audit = await auditRuns(cluster, {
      sinceMs,
      runs: flags.run === undefined ? undefined : [flags.run],
      outcomes: ingested?.outcomes,
      outcomesComplete: ingested?.isComplete,
      resent: ingested?.resent,
      unlisted: ingested?.unlisted,
      report,
      signal,
    });
    printVerdict(audit, report);
    const cost = {
      seconds: Math.round(performance.now() - startedAt) / 1000,
      peak_memory_bytes: process.resourceUsage().maxRSS * 1024,
    };
    const { verdict, ledger, status, line, recording, history } = audit;
    report.print(`${line} (${cost.seconds.toFixed(1)} s, ${Math.round(cost.peak_memory_bytes / 1e6)} MB at most)`);
    const { runs, acknowledged_before, acknowledged_elsewhere, others_in_kafka, producers, gaps } = recording;
    report.result({
      ok: status === "passed",
      cluster: { context: cluster.context, local: cluster.isLocal },
      since: new Date(sinceMs).toISOString(),
      runs,
      acknowledged_before,
      acknowledged_elsewhere,
      others_in_kafka,
      producers,
      gaps,
      ledger,
      history,
      cost,
      ...verdict,
      status,
    });
    return audit.exitCode;
  },
});

if (import.meta.main) await runCommand(command);
