/**
 * Breaks each part of the running pipeline on purpose, while events flow, and proves that no acknowledged event was lost.
 *
 *   bun scripts/resilience-test.ts                           every drill that is possible on this cluster
 *   bun scripts/resilience-test.ts --only delete-processor --repeat 3
 *   bun scripts/resilience-test.ts --without-fault delete-processor     must be INCONCLUSIVE
 *   bun scripts/resilience-test.ts --heal                    undoes the faults of a run that was killed
 *
 * A run is recorded in a folder (drills/run.ts), judged from it (drills/judge.ts), and rendered. docs/resilience.md has
 * the table of drills.
 */
import { relative } from "node:path";
import { LOAD_EVENTS, type LoadEvents } from "../services/protocol/load-generator.ts";
import { type CommandContext, defineCommand, type Flags, runCommand } from "./cli/command.ts";
import { causeChain, EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { formatDuration, paint, type Report } from "./cli/report.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { drillLeftovers } from "./cluster/drill-leftovers.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { DRILLS } from "./drills/catalog.ts";
import { writeDocument } from "./drills/document.ts";
import type { Drill } from "./drills/drill.ts";
import { judgeRun } from "./drills/judge.ts";
import { restorePipeline } from "./drills/restore.ts";
import { MAX_RUN_MS, type RecordedRun, type RunOptions, recordRun } from "./drills/run.ts";
import { pictureRun } from "./evidence/viewer-pictures.ts";
import { watchAlertsAndLogs } from "./live/alert-log-feed.ts";
import { startLivePage } from "./live/live-page.ts";
import { localTarget } from "./local-cluster/index.ts";
import type { MarkKind } from "./recording/recording.ts";
import { type DrillResult, type DrillsResult, type DrillVerdict, isDrills } from "./recording/result.ts";
import { createRun, type RunFolder, readResult } from "./recording/run-folder.ts";
import { RECORD_FILE, RunRecord } from "./recording/run-record.ts";
import { drillLine } from "./report/drill-line.ts";
import { renderReport } from "./report/page.ts";
import { requireVideoTools, videoStep } from "./video/video.ts";

const MAX_REPEATS = 100;
/** Shorter than most drills: the next one would always start at once. */
const MIN_EVERY_MS = 60_000;
/** Marks that are printed as they happen. */
const PRINTED_MARKS: readonly MarkKind[] = ["fault", "effect", "recovered", "healed"];
/** Healing takes seconds; a database that is stopped and started for its volume, twenty or more. */
const CLEANUP_LIMIT_MS = 120_000;
const COLORS = { passed: "green", failed: "red", inconclusive: "yellow", interrupted: "yellow" } as const;

const FLAGS = {
  ...CLUSTER_FLAGS,
  only: {
    type: "string",
    multiple: true,
    valueName: "NAME",
    description: "only these drills; names may be joined by commas",
  },
  events: {
    type: "string",
    choices: LOAD_EVENTS,
    default: "v1",
    description: "version of the drills' own events; v2: points of the measurement conveyor_load",
  },
  repeat: { type: "number", default: 1, min: 1, max: MAX_REPEATS, description: "runs of each drill" },
  every: {
    type: "duration",
    description: "start one drill in each interval of this length, in random order, until --time-limit",
  },
  "time-limit": {
    type: "duration",
    description: "start no further drill after this time, and judge those that ran (at most 6h, which is the default)",
  },
  "without-fault": {
    type: "string",
    valueName: "NAME",
    description: "run this drill without its fault: it must be inconclusive (exit 5)",
  },
  yes: { type: "boolean", short: "y", description: "confirm drills on a cluster that is not the local one" },
  open: { type: "boolean", description: "open the live page, which is served on 127.0.0.1 during the run" },
  record: {
    type: "boolean",
    description: "make a video of the run, outputs/resilience-drill.mp4 (needs Chromium and ffmpeg)",
  },
  heal: { type: "boolean", description: "undo the faults of a run that was killed, and run nothing" },
  document: {
    type: "string",
    multiple: true,
    valueName: "RESULT",
    description: "write the figures of these result.json into docs/resilience.md, and run nothing",
  },
  list: { type: "boolean", description: "print the drills, their budgets and their hypotheses" },
} as const satisfies Flags;

/** The drills of `--only a,b --only c`, in the catalog's order; all without it. @throws OperatorError (exit 2). */
export function chosenDrills(only: readonly string[], all: readonly Drill[] = DRILLS): readonly Drill[] {
  const names = only.flatMap((text) => text.split(",")).map((name) => name.trim());
  for (const name of names) {
    if (all.some((drill) => drill.name === name)) continue;
    throw new OperatorError(`--only: must name drills (--list shows them); got "${name}"`, {
      exitCode: EXIT.usage,
      hint: "bun scripts/resilience-test.ts --list",
    });
  }
  return names.length === 0 ? all : all.filter(({ name }) => names.includes(name));
}

/** @throws OperatorError (exit 2) unless drills on a cluster that this project did not make are confirmed */
export function requireConfirmation({ isLocal, context }: Pick<Cluster, "isLocal" | "context">, yes: boolean): void {
  if (isLocal || yes) return;
  throw new OperatorError(`--yes: must confirm drills on context ${context}, which is not the local cluster`, {
    exitCode: EXIT.usage,
    hint: "drills stop, freeze and cut off parts of the running pipeline; --list shows them",
  });
}

interface Schedule {
  everyMs: number | undefined;
  timeLimitMs: number;
}

/** When the drills start and until when. @throws OperatorError (exit 2) that names the flag, the rule and the value */
export function scheduleOf(
  flags: Partial<Record<"every" | "time-limit" | "repeat", number>> & { "without-fault"?: string | undefined },
): Schedule {
  const refuse = (message: string): never => {
    throw new OperatorError(message, { exitCode: EXIT.usage, hint: "bun scripts/resilience-test.ts --help" });
  };
  const { every: everyMs, repeat = 1, "time-limit": timeLimitMs = MAX_RUN_MS } = flags;
  if (timeLimitMs > MAX_RUN_MS) {
    refuse(`--time-limit: must be at most ${formatDuration(MAX_RUN_MS)}; got ${formatDuration(timeLimitMs)}`);
  }
  if (everyMs === undefined) return { everyMs, timeLimitMs };
  if (everyMs < MIN_EVERY_MS) {
    refuse(`--every: must be at least ${formatDuration(MIN_EVERY_MS)}; got ${formatDuration(everyMs)}`);
  }
  if (flags["time-limit"] === undefined) refuse("--every: needs --time-limit, the length of the run");
  if (timeLimitMs < everyMs) {
    refuse(`--time-limit: must be at least --every, ${formatDuration(everyMs)}; got ${formatDuration(timeLimitMs)}`);
  }
  if (repeat > 1) refuse(`--every: must not be combined with --repeat, since it repeats the drills; got ${repeat}`);
  if (flags["without-fault"] !== undefined)
    refuse("--every: must not be combined with --without-fault, a single drill");
  return { everyMs, timeLimitMs };
}

/** The exit code of a run: every drill that did not pass is a violation, also an inconclusive one. */
export function exitCodeOf(drills: readonly DrillResult[], interrupted: boolean): ExitCode {
  if (interrupted) return EXIT.interrupted;
  return drills.length > 0 && drills.every(({ verdict }) => verdict === "passed") ? EXIT.ok : EXIT.violations;
}

/** A result of drills from its file. @throws OperatorError (exit 2) that names the file. */
async function readDrills(path: string): Promise<DrillsResult> {
  const result = await readResult(path);
  if (result && isDrills(result)) return result;
  throw new OperatorError(`--document: must name a result.json of drills; got "${path}"`, { exitCode: EXIT.usage });
}

function showList(report: Report): ExitCode {
  for (const { name, title, budgetMs, hypothesis } of DRILLS) {
    report.print(`${name.padEnd(24)} ${formatDuration(budgetMs).padStart(8)}  ${title}`);
    report.print(`${"".padEnd(35)}${hypothesis}`);
  }
  report.result({
    drills: DRILLS.map(({ name, title, hypothesis, fault, budgetMs, budgetReason, recoversFrom }) => ({
      ...{ name, title, hypothesis, fault },
      ...{ budget_ms: budgetMs, budget_reason: budgetReason, recovers_from: recoversFrom },
    })),
  });
  return EXIT.ok;
}

async function run({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  if (flags.list) return showList(report);
  if (flags.document.length > 0) {
    const results = await Promise.all(flags.document.map(readDrills));
    await writeDocument(DRILLS, results);
    report.print(`docs/resilience.md: figures of ${results.length} results`);
    report.result({ ok: true, results: flags.document });
    return EXIT.ok;
  }
  const withoutFault = flags["without-fault"];
  const schedule = scheduleOf(flags);
  const drills = chosenDrills(withoutFault === undefined ? flags.only : [withoutFault]);
  const cluster = await selectCluster(flags, localTarget);
  report.info(`target: ${cluster.describe()}`);
  await requireReachable(cluster, signal);
  const image = await deployedServicesImage(cluster);
  if (flags.heal) {
    const undone = await heal(cluster, image, report);
    if (undone.length === 0) report.print("nothing to undo");
    report.result({ ok: true, undone });
    return EXIT.ok;
  }
  requireConfirmation(cluster, flags.yes);
  // Faults of a run that was killed would be measured as those of this one.
  if ((await drillLeftovers(cluster)).length > 0) await heal(cluster, image, report);
  // Checked before the first fault: an hour of drills must not end without its video.
  if (flags.record) await requireVideoTools();
  const { repeat, open, record } = flags;
  const startedAtMs = Date.now();
  const events = flags.events as LoadEvents;
  const options = { cluster, image, drills, events, repeat, ...schedule, withoutFault, report, signal, startedAtMs };
  return await runDrills(options, { open, video: record });
}

/** Undoes the faults of earlier runs. @returns a sentence for each */
async function heal(cluster: Cluster, image: string, report: Report): Promise<string[]> {
  const undone = await report.step("undo the faults of earlier runs", () => restorePipeline(cluster, image));
  for (const line of undone) report.print(line);
  return undone;
}

/** Records, judges and renders a run; the live page reads the record meanwhile. */
async function runDrills(
  options: Omit<RunOptions, "folder" | "record">,
  { open, video }: { open: boolean; video: boolean },
): Promise<ExitCode> {
  const { cluster, startedAtMs, report, signal } = options;
  const folder = await createRun("drills", startedAtMs);
  const record = new RunRecord(folder.path(RECORD_FILE), (message) => report.warn(message));
  record.onEntry(({ marksAdded = [] }) => {
    for (const { kind, text } of marksAdded) if (PRINTED_MARKS.includes(kind)) report.info(`  ${kind}: ${text}`);
  });
  const page = await startLivePage({ runId: folder.id, startedAtMs, record, open });
  report.info(`live page: ${page.url}`);
  const feedEnd = new AbortController();
  const feed = watchAlertsAndLogs(cluster, record, feedEnd.signal);
  let html: string | undefined;
  try {
    const run = await recordRun({ ...options, folder, record });
    const result = await judgeRun(folder);
    const path = await folder.writeJson("result.json", result);
    html = renderReport(result);
    await folder.writeText("report.html", html);
    if (video && !signal.aborted) {
      await pictureStep(report, cluster, result, folder);
      const paths = await videoStep(report, folder, result, signal);
      report.print(`video: ${paths.map((file) => relative(process.cwd(), file)).join(", ")}`);
    }
    printSummary(report, result, { ...run, path: relative(process.cwd(), path) });
    return exitCodeOf(result.drills, signal.aborted);
  } finally {
    feedEnd.abort();
    await Promise.allSettled([page.close(html), feed, record.close()]);
  }
}

/** Pictures of the dashboards for the video; a run without Prometheus or log store has a video without them. */
async function pictureStep(report: Report, cluster: Cluster, result: DrillsResult, folder: RunFolder): Promise<void> {
  await report
    .step("pictures of the dashboards", () => pictureRun({ cluster, browser: undefined }, result, folder))
    .catch((error: unknown) =>
      report.warn(`the video has no pictures of the dashboards: ${causeChain(error).join(": ")}`),
    );
}

/** Prints the table of a run, skipped drills, the record's path and the verdict. */
function printSummary(
  report: Report,
  result: DrillsResult,
  { impossible, planned, path }: RecordedRun & { path: string },
): void {
  const { drills } = result;
  const color = Boolean(process.stdout.isTTY) && !process.env.NO_COLOR && !report.json;
  for (const drill of drills) {
    report.print(paint(color, COLORS[drill.verdict], drillLine(drill)));
    for (const reason of drill.reasons) report.print(`  ${reason}`);
  }
  for (const [name, reason] of impossible) report.print(`${name.padEnd(24)} NOT POSSIBLE ${reason}`);
  const skipped = planned - drills.length;
  if (skipped > 0) report.print(`skipped after the time limit: ${skipped} of ${planned}`);
  report.print(`record: ${path}, report.html beside it`);
  const count = (verdict: DrillVerdict) => drills.filter((drill) => drill.verdict === verdict).length;
  report.print(
    `${result.passed ? "PASSED" : "NOT PASSED"}: ${count("passed")} passed, ${count("failed")} failed, ${count("inconclusive")} inconclusive`,
  );
  report.result({ ...result, not_possible: Object.fromEntries(impossible), left_out: skipped });
}

export const command = defineCommand({
  name: "scripts/resilience-test.ts",
  summary: "breaks each part on purpose while events flow, and proves that no acknowledged event is lost",
  usage: [
    "[--only NAME] [--repeat N] [--json]",
    "--every DURATION --time-limit DURATION",
    "--without-fault NAME",
    "--heal",
    "--list",
  ],
  flags: FLAGS,
  examples: [
    ["bun scripts/resilience-test.ts", "every drill that is possible on this cluster"],
    ["bun scripts/resilience-test.ts --only kill-processor,kill-influxdb --repeat 3", "two of them, three times each"],
    ["bun scripts/resilience-test.ts --every 5m --time-limit 2h", "a random drill every five minutes, for two hours"],
    ["bun scripts/resilience-test.ts --context staging --yes", "on another cluster than the local one"],
    ["bun scripts/resilience-test.ts --without-fault delete-processor", "shows that a missing effect is detected"],
  ],
  cleanupLimitMs: CLEANUP_LIMIT_MS,
  notes: [
    "It prints the cluster before it breaks parts of it. Every fault is undone, also after an interrupt.",
    "docs/resilience.md has the drills, their budgets and their last results.",
  ],
  run,
});

if (import.meta.main) await runCommand(command);
