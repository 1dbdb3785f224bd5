/**
 * Accounts for every event: what the producers say was acknowledged against what stands in Kafka, in InfluxDB and in the
 * dead-letter topic, as sets of identities; one line per law.
 *
 *   bun scripts/audit.ts                     the last ten minutes of the producers' fleets
 *   bun scripts/audit.ts --since 1h --json
 *   bun scripts/audit.ts --run RUN           one run, wherever its events came from
 *
 * It reads and changes nothing. The record is kept in outputs/runs/, so that the verdict can be given again. What could
 * not be recorded is "unknown" and said so; a law that is broken is exit 5.
 */
import { randomBytes } from "node:crypto";
import { join, relative } from "node:path";
import { NAME_PATTERN } from "../services/domain/event.ts";
import { runStart } from "../services/domain/run-id.ts";
import { recordHistory } from "./audit/record.ts";
import { CheckContext } from "./checks/context.ts";
import { runCommand } from "./toolkit/cli.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./toolkit/cluster.ts";
import { EXIT, type ExitCode, OperatorError } from "./toolkit/errors.ts";
import { HistoryWriter, openHistory } from "./toolkit/history.ts";
import { deployedServicesImage } from "./toolkit/live-image.ts";
import { paint } from "./toolkit/report.ts";
import { judge, LAW_TITLES, type LawId, type Status, type Verdict } from "./toolkit/verdict.ts";

/** 120,000 events at the fleet's default rate: audited in well under a minute. */
const DEFAULT_SINCE_MS = 10 * 60_000;
/** A run whose name does not tell when it began is looked for this far back. */
const RUN_LOOK_BACK_MS = 60 * 60_000;
const RUNS_FOLDER = join(import.meta.dir, "..", "outputs", "runs");

/** Without these an audit has told nothing. */
const NEEDED: readonly LawId[] = ["L2", "L3"];

const MARKS = { passed: ["✓", "green"], failed: ["✗", "red"], unknown: ["?", "yellow"] } as const;

/** Since when Kafka's records are judged: as told, or since the run began where its name says so. */
export function windowStart(nowMs: number, flags: { since?: number | undefined; run?: string | undefined }): number {
  if (flags.since !== undefined) return nowMs - flags.since;
  if (flags.run === undefined) return nowMs - DEFAULT_SINCE_MS;
  return runStart(flags.run) ?? nowMs - RUN_LOOK_BACK_MS;
}

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

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/audit.ts",
      summary: "accounts for every acknowledged event by identity, law by law",
      usage: ["[--since DURATION] [--json]", "--run RUN [--json]"],
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
      },
      examples: [
        ["bun scripts/audit.ts", "the last ten minutes of the producers' fleets"],
        ["bun scripts/audit.ts --since 1h --json > audit.json", "for a machine"],
      ],
      notes: ["docs/audit.md says what each law means and what an audit of a running pipeline can record."],
    },
    async ({ flags, report, signal }) => {
      if (flags.run !== undefined && !NAME_PATTERN.test(flags.run)) {
        throw new OperatorError(`--run: must be a run's name; got "${flags.run}"`, { exitCode: EXIT.usage });
      }
      const cluster = await selectCluster(flags);
      report.info(`target: ${cluster.describe()}`);
      await requireReachable(cluster, signal);
      const nowMs = Date.now();
      const sinceMs = windowStart(nowMs, flags);
      const id = `audit-${new Date(nowMs).toISOString().replace(/[-:.]/g, "")}-${randomBytes(2).toString("hex")}`;
      const folder = join(RUNS_FOLDER, id, "history");
      const writer = await HistoryWriter.open(folder);
      const context = new CheckContext(cluster, await deployedServicesImage(cluster), signal);
      const recording = await (async () => {
        try {
          return await recordHistory({
            cluster,
            context,
            writer,
            report,
            signal,
            sinceMs,
            run: flags.run,
          });
        } finally {
          await context.close();
        }
      })();
      await writer.close(recording.meta);
      const verdict = await report.step("verdict", async () => await judge(await openHistory(folder)));
      const { status, line, exitCode } = closing(verdict);
      const color = report.json ? false : Boolean(process.stdout.isTTY) && !process.env.NO_COLOR;
      for (const { law, status: lawStatus, detail, follows } of verdict.laws) {
        const [mark, markColor] = MARKS[lawStatus];
        const cause = follows.length > 0 ? ` (follows from ${follows.join(", ")})` : "";
        const words = lawStatus === "unknown" ? `unknown: ${detail}` : detail;
        report.print(`${paint(color, markColor, mark)} ${law} ${LAW_TITLES[law].padEnd(64)} ${words}${cause}`);
      }
      for (const [place, { count, examples }] of Object.entries(verdict.missing)) {
        if (count === 0) continue;
        const some = examples.map(({ run, conveyor, seq }) => `${run}/${conveyor}/${seq}`).join(", ");
        report.print(`  not in InfluxDB, ${place.replaceAll("_", " ")}: ${count} (${some})`);
      }
      if (recording.acknowledged_before > 0) {
        report.print(`  ${recording.acknowledged_before} events were acknowledged before the window: not judged`);
      }
      if (recording.acknowledged_elsewhere > 0) {
        report.print(
          `  ${recording.acknowledged_elsewhere} acknowledged events came from elsewhere: --run judges a run`,
        );
      }
      report.print(`record: ${relative(process.cwd(), folder)}`);
      report.print(line);
      report.result({
        ok: status === "passed",
        cluster: { context: cluster.context, local: cluster.isLocal },
        since: new Date(sinceMs).toISOString(),
        runs: recording.runs,
        acknowledged_before: recording.acknowledged_before,
        acknowledged_elsewhere: recording.acknowledged_elsewhere,
        history: folder,
        ...verdict,
        status,
      });
      return exitCode;
    },
  );
}
