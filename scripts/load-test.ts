/**
 * The load test: an open load from inside the cluster, observed each second, judged by its thresholds.
 *
 *   bun scripts/load-test.ts --profile ramp
 *   bun scripts/load-test.ts --stages 60s@500,120s@5000,60s@0 --threshold 'e2e_p99_ms<1000'
 *   bun scripts/load-test.ts compare A B
 *
 * Writes outputs/runs/<id>/ with result.json, report.html and pictures; a profile that scales also replaces
 * outputs/hpa-scaling.png and outputs/hpa-scaling.txt.
 */
import { copyFile, readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { dueEvents, type LoadStage, parseStages, totalSeconds } from "../services/domain/load-stages.ts";
import { LOAD_EVENTS, type LoadEvents } from "../services/protocol/load-generator.ts";
import { MAX_COMPARED_POINTS } from "./audit/point-contents.ts";
import { findBrowser } from "./browser/browser.ts";
import { htmlToPng } from "./browser/page-picture.ts";
import { type CommandContext, defineCommand, type Flags, runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { formatDuration } from "./cli/report.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { compareRows, compareText } from "./load/compare.ts";
import { LoadDisplay } from "./load/load-display.ts";
import { COMMON_THRESHOLDS, PROFILE_NAMES, PROFILES, type Profile, type ProfileName } from "./load/load-profiles.ts";
import { runLoadTest } from "./load/load-run.ts";
import { scalingText } from "./load/scaling-text.ts";
import { METRICS, mergeLimits, parseLimit } from "./load/thresholds.ts";
import { localTarget } from "./local-cluster/index.ts";
import type { LoadTestResult } from "./recording/result.ts";
import { createRun, openRun, RUNS_FOLDER, type RunFolder } from "./recording/run-folder.ts";
import { readAutoscalers } from "./recording/scaling-limits.ts";
import { renderComparison } from "./report/compare-page.ts";
import { renderScalingPicture } from "./report/load-report.ts";
import { renderReport } from "./report/page.ts";

const PROJECT = join(import.meta.dir, "..");
const OUTPUTS = join(PROJECT, "outputs");
const PICTURE_WIDTH_PX = 1200;

const FLAGS = {
  ...CLUSTER_FLAGS,
  profile: { type: "string", choices: PROFILE_NAMES, default: "smoke", description: "a named load" },
  stages: {
    type: "string",
    valueName: "STAGES",
    description: "stages instead of a profile, as DURATION@EVENTS_PER_SECOND separated by commas",
  },
  events: {
    type: "string",
    choices: LOAD_EVENTS,
    default: "v1",
    description: "version of the events; v2: points of the measurement conveyor_load",
  },
  threshold: {
    type: "string",
    multiple: true,
    valueName: "LIMIT",
    description: "a limit such as 'e2e_p99_ms<1000'; replaces the profile's limit of that metric",
  },
  audit: { type: "boolean", description: "also audit the run's events from Kafka to the database (30 s per million)" },
  "no-pictures": { type: "boolean", description: "no PNG (they need Chromium)" },
} as const satisfies Flags;

/** Turns an error of parsing into exit 2. */
function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new OperatorError(error instanceof Error ? error.message : String(error), {
      exitCode: EXIT.usage,
      hint: "bun scripts/load-test.ts --help",
    });
  }
}

/** @throws OperatorError (exit 2) when the load has more events than an audit compares */
export function requireComparable(events: LoadEvents, stages: readonly LoadStage[]): void {
  const count = dueEvents(stages, totalSeconds(stages) * 1000);
  if (events === "v1" || count <= MAX_COMPARED_POINTS) return;
  const most = MAX_COMPARED_POINTS.toLocaleString("en");
  throw new OperatorError(
    `--audit: compares at most ${most} points of version 2; these stages send ${count.toLocaleString("en")}`,
    { exitCode: EXIT.usage, hint: "shorter --stages, or --events v1" },
  );
}

const show = (path: string) => relative(process.cwd(), path) || path;

async function loadTest(context: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  const { flags, report, signal } = context;
  const profile: Profile = PROFILES[flags.profile as ProfileName];
  const stages: readonly LoadStage[] =
    flags.stages === undefined ? profile.stages : asUsage(() => parseStages(flags.stages!));
  // Only the common limits apply to --stages: those of a profile belong to its own stages.
  const own = flags.stages !== undefined && flags.profile === "smoke";
  const events = flags.events as LoadEvents;
  if (flags.audit) requireComparable(events, stages);
  const limits = asUsage(() =>
    mergeLimits([...(own ? COMMON_THRESHOLDS : profile.thresholds), ...flags.threshold].map(parseLimit)),
  );
  const cluster = await selectCluster(flags, localTarget);
  await requireReachable(cluster, signal);
  report.info(`target: ${cluster.describe()}`);
  const image = await deployedServicesImage(cluster);
  const autoscalers = await readAutoscalers(cluster);
  const missing = (["producer", "processor"] as const).filter((workload) => !autoscalers.bounds[workload]);
  if (profile.scales && missing.length > 0) {
    throw new OperatorError(`profile ${flags.profile} needs autoscalers; ${missing.join(" and ")} has none`, {
      exitCode: EXIT.precondition,
      hint: "bun scripts/deploy.ts applies them; see docs/autoscaling.md",
    });
  }
  const wantsPictures = !flags["no-pictures"];
  const pictures = wantsPictures && findBrowser() !== undefined;
  if (wantsPictures && !pictures) report.warn("Chromium is not installed: only the page is written, no pictures");
  const folder = await createRun("load-test", Date.now());
  report.info(
    `run ${folder.id}: ${formatDuration(totalSeconds(stages) * 1000)} of load, then until the pipeline has settled`,
  );
  const display = new LoadDisplay(report.quiet);
  const result = await runLoadTest({
    cluster,
    image,
    folder,
    profile: own ? "own stages" : flags.profile,
    stages,
    events,
    limits: flags.audit ? mergeLimits([...limits, parseLimit("audit_laws_broken=0")]) : limits,
    audit: flags.audit,
    awaitMinimum: profile.scales,
    report,
    signal,
    onProgress: (progress) => display.show(progress),
    onPhaseEnd: () => display.clear(),
  });
  await render(folder, result, { report, pictures: pictures && !signal.aborted, scales: profile.scales });
  printResult(result, folder, report);
  report.result({ ...result, recording: undefined, hpaTable: undefined, folder: show(folder.folder) });
  if (signal.aborted) return EXIT.interrupted;
  return result.passed ? EXIT.ok : EXIT.violations;
}

async function render(
  folder: RunFolder,
  result: LoadTestResult,
  options: { report: CommandContext<typeof FLAGS>["report"]; pictures: boolean; scales: boolean },
): Promise<void> {
  const html = renderReport(result);
  await folder.writeText("report.html", html);
  if (!options.pictures) return;
  await options.report.step("pictures", async () => {
    await htmlToPng(html, folder.path("report.png"), { width: PICTURE_WIDTH_PX });
    await htmlToPng(renderScalingPicture(result), folder.path("hpa-scaling.png"), { width: PICTURE_WIDTH_PX });
  });
  if (!options.scales) return;
  await copyFile(folder.path("hpa-scaling.png"), join(OUTPUTS, "hpa-scaling.png"));
  await writeFile(join(OUTPUTS, "hpa-scaling.txt"), scalingText(result));
}

function printResult(result: LoadTestResult, folder: RunFolder, report: CommandContext<typeof FLAGS>["report"]): void {
  const { ledger, scaling, thresholds, audit } = result;
  const number = (value: number) => value.toLocaleString("en");
  report.print(`offered       ${number(ledger.offered)} events`);
  report.print(
    `acknowledged  ${number(ledger.acknowledged)}   failed ${number(ledger.failed)}   unknown ${number(ledger.unknown)}`,
  );
  report.print(
    `stored        ${number(ledger.stored)}   lost ${number(ledger.lost)}   duplicated ${number(ledger.duplicated)}   dead-lettered ${number(ledger.dead_lettered)}`,
  );
  if (audit) report.print(`audit         ${audit.line}`);
  for (const { timeMs, workload, from, to, ready_after_ms } of scaling) {
    const ready = ready_after_ms === undefined ? "" : `, Ready after ${formatDuration(ready_after_ms)}`;
    report.print(`scaled        ${new Date(timeMs).toISOString().slice(11, 19)} ${workload} ${from} → ${to}${ready}`);
  }
  for (const { text, value, ok, by } of thresholds) {
    report.print(
      `${ok ? "✓" : "✗"} ${text.padEnd(34)} ${value === null ? "–" : Number(value.toPrecision(6))}${by ? `   ${by}` : ""}`,
    );
  }
  const verdict = result.facts.interrupted
    ? "interrupted; the recording is kept"
    : result.passed
      ? "passed"
      : "violated";
  report.print(`${verdict}: ${show(folder.path("report.html"))}`);
}

/** A run by the name of its folder, by its path, or "last" for the newest. */
async function readRun(name: string): Promise<LoadTestResult> {
  const known = (await readdir(RUNS_FOLDER).catch(() => [])).filter((id) => id.includes("-load-test")).sort();
  const id = name === "last" ? known.at(-1) : known.includes(name) ? name : undefined;
  const path = id ? openRun(id).path("result.json") : join(resolve(name), "result.json");
  try {
    const result = JSON.parse(await readFile(path, "utf8")) as LoadTestResult;
    if (result.facts.kind !== "load-test") throw new Error(`the run is of kind ${result.facts.kind}`);
    return result;
  } catch (error) {
    throw new OperatorError(`"${name}" is not a readable load test`, {
      exitCode: EXIT.usage,
      hint: known.length > 0 ? `runs: ${known.slice(-5).join(", ")}, or last` : "there are no runs",
      cause: error,
    });
  }
}

async function compare({ positionals, report }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  const [, first, second] = positionals;
  if (!first || !second || positionals.length !== 3) {
    throw new OperatorError(`compare: needs two runs; got ${positionals.length - 1}`, {
      exitCode: EXIT.usage,
      hint: "bun scripts/load-test.ts compare A B   (names below outputs/runs, paths, or last)",
    });
  }
  const [a, b] = [await readRun(first), await readRun(second)];
  const path = join(RUNS_FOLDER, `compare-${a.facts.id}-${b.facts.id}.html`);
  await Bun.write(path, renderComparison(a, b));
  report.print(compareText(a, b));
  report.print(`\n${show(path)}`);
  report.result({ a: a.facts.id, b: b.facts.id, rows: compareRows(a, b), page: show(path) });
  return EXIT.ok;
}

async function run(context: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  const [command] = context.positionals;
  if (command === undefined) return await loadTest(context);
  if (command === "compare") return await compare(context);
  throw new OperatorError(`unknown command "${command}"; the only one is compare A B`, {
    exitCode: EXIT.usage,
    hint: "bun scripts/load-test.ts --help",
  });
}

export const command = defineCommand({
  name: "scripts/load-test.ts",
  summary: "loads the pipeline at a fixed schedule, measures it, and checks thresholds",
  usage: ["[--profile NAME | --stages STAGES] [--events v1|v2] [--threshold LIMIT]…", "compare A B"],
  positionals: [{ name: "compare", many: true, description: "compare A B: two runs side by side" }],
  flags: FLAGS,
  examples: [
    ["bun scripts/load-test.ts", "ten seconds of 500 events/s"],
    ["bun scripts/load-test.ts --profile ramp", "up and down: the autoscalers follow, no event is lost"],
    [
      "bun scripts/load-test.ts --stages 60s@500,120s@5000,60s@0 --threshold 'e2e_p99_ms<1000'",
      "custom stages and a custom limit",
    ],
    ["bun scripts/load-test.ts --events v2 --audit", "events of version 2, each compared from Kafka to the database"],
    ["bun scripts/load-test.ts --profile soak-drills", "two hours of load, for drills at the same time"],
    ["bun scripts/load-test.ts compare last RUN", "two runs side by side"],
  ],
  notes: [
    ["Profiles:", ...PROFILE_NAMES.map((name) => `  ${name.padEnd(12)} ${PROFILES[name].title}`)].join("\n"),
    ["Metrics of thresholds:", ...Object.entries(METRICS).map((entry) => `  ${entry.join(": ")}`)].join("\n"),
    "The load is open: it does not slow down with the pipeline. Events that could not be sent count as failed.",
  ],
  run,
});

if (import.meta.main) await runCommand(command);
