/**
 * Accounts for every event: what the producers say was acknowledged against what stands in Kafka, in InfluxDB and in the
 * dead-letter topic, as sets of identities; one line per law.
 *
 *   bun scripts/audit.ts                     the last ten minutes of the producers' fleets
 *   bun scripts/audit.ts --since 1h --json
 *   bun scripts/audit.ts --run RUN           one run, wherever its events came from
 *   bun scripts/audit.ts --account FILE      what scripts/ingest.ts --json gave an account of
 *
 * It reads and changes nothing. The record is kept in outputs/runs/, so that the verdict can be given again. What could
 * not be recorded is "unknown" and said so; a law that is broken is exit 5.
 */
import { readFile } from "node:fs/promises";
import { relative } from "node:path";
import { runStart } from "../services/domain/run-id.ts";
import { auditRuns } from "./audit/audit-runs.ts";
import { readIngestOutcomes } from "./audit/ingest-outcomes.ts";
import { checkRunFlag } from "./audit/run-flag.ts";
import { INVARIANT_TITLES } from "./audit/verdict.ts";
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { paint } from "./cli/report.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { localTarget } from "./local-cluster/index.ts";

/** 120,000 events at the fleet's default rate: audited in well under a minute. */
const DEFAULT_SINCE_MS = 10 * 60_000;
/** A run whose name does not tell when it began is looked for this far back. */
const RUN_LOOK_BACK_MS = 60 * 60_000;

const MARKS = { passed: ["✓", "green"], failed: ["✗", "red"], unknown: ["?", "yellow"] } as const;

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new OperatorError(`--account ${path}: cannot be read`, { exitCode: EXIT.usage, cause: error });
  }
}

/** Since when Kafka's records are judged: as told, or since the run began where its name says so. */
export function windowStart(nowMs: number, flags: { since?: number | undefined; run?: string | undefined }): number {
  if (flags.since !== undefined) return nowMs - flags.since;
  if (flags.run === undefined) return nowMs - DEFAULT_SINCE_MS;
  return runStart(flags.run) ?? nowMs - RUN_LOOK_BACK_MS;
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/audit.ts",
      summary: "accounts for every acknowledged event by identity, law by law",
      usage: ["[--since DURATION] [--json]", "--run RUN [--json]", "--account FILE [--json]"],
      flags: {
        ...CLUSTER_FLAGS,
        since: {
          type: "duration",
          description: "what Kafka took in this long ago or less (10m when absent; with --run since its start, or 1h)",
        },
        run: {
          type: "string",
          valueName: "RUN",
          description: "one run, also of events that came from a file or over HTTPS",
        },
        account: {
          type: "string",
          valueName: "FILE",
          description: "the events that scripts/ingest.ts --json gave this account of",
        },
      },
      examples: [
        ["bun scripts/audit.ts", "the last ten minutes of the producers' fleets"],
        ["bun scripts/audit.ts --since 1h --json > audit.json", "for a machine"],
      ],
      notes: ["docs/audit.md says what each law means and what an audit of a running pipeline can record."],
    },
    async ({ flags, report, signal }) => {
      checkRunFlag(flags.run);
      if (flags.run !== undefined && flags.account !== undefined) {
        throw new OperatorError("--run and --account exclude each other", { exitCode: EXIT.usage });
      }
      const account =
        flags.account === undefined
          ? undefined
          : readIngestOutcomes(await readText(flags.account), `--account ${flags.account}`);
      if (account && account.startedAtMs === undefined && flags.since === undefined) {
        throw new OperatorError("--since: is needed, since the account's run does not tell when it was sent", {
          exitCode: EXIT.usage,
        });
      }
      const cluster = await selectCluster(flags, localTarget);
      report.info(`target: ${cluster.describe()}`);
      await requireReachable(cluster, signal);
      const startedAt = performance.now();
      const sinceMs = account && flags.since === undefined ? account.startedAtMs! : windowStart(Date.now(), flags);
      const { verdict, ledger, status, line, exitCode, recording, history } = await auditRuns(cluster, {
        sinceMs,
        runs: flags.run === undefined ? undefined : [flags.run],
        outcomes: account?.outcomes,
        outcomesComplete: account?.isComplete,
        resent: account?.resent,
        report,
        signal,
      });
      const color = report.json ? false : Boolean(process.stdout.isTTY) && !process.env.NO_COLOR;
      for (const { law, status: lawStatus, detail, follows } of verdict.laws) {
        const [mark, markColor] = MARKS[lawStatus];
        const cause = follows.length > 0 ? ` (follows from ${follows.join(", ")})` : "";
        const words = lawStatus === "unknown" ? `unknown: ${detail}` : detail;
        report.print(`${paint(color, markColor, mark)} ${law} ${INVARIANT_TITLES[law].padEnd(64)} ${words}${cause}`);
      }
      for (const [place, { count, examples }] of Object.entries(verdict.missing)) {
        if (count === 0) continue;
        const some = examples.map(({ run, conveyor, seq }) => `${run}/${conveyor}/${seq}`).join(", ");
        report.print(`  not in InfluxDB, ${place.replaceAll("_", " ")}: ${count} (${some})`);
      }
      const { acknowledged_before, acknowledged_elsewhere, others_in_kafka, producers, gaps } = recording;
      for (const cut of producers.cut_off) report.print(`  cut off, its last acknowledgements are unknown: ${cut}`);
      for (const gap of gaps) report.print(`  not seen: ${gap}`);
      if (acknowledged_before > 0) {
        report.print(`  ${acknowledged_before} events were acknowledged before the window: not judged`);
      }
      if (others_in_kafka.events > 0) {
        report.print(
          `  ${others_in_kafka.events} events of ${others_in_kafka.runs} other runs stand in Kafka: --run judges a run`,
        );
      }
      report.print(`record: ${relative(process.cwd(), history)}`);
      const cost = {
        seconds: Math.round(performance.now() - startedAt) / 1000,
        peak_memory_bytes: process.resourceUsage().maxRSS * 1024,
      };
      report.print(
        `${line} (${cost.seconds.toFixed(1)} s, ${Math.round(cost.peak_memory_bytes / 1e6)} MB at the most)`,
      );
      report.result({
        ok: status === "passed",
        cluster: { context: cluster.context, local: cluster.isLocal },
        since: new Date(sinceMs).toISOString(),
        runs: recording.runs,
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
      return exitCode;
    },
  );
}
