/**
 * Breaks each part of the running pipeline on purpose, while events flow, and proves that no acknowledged event was lost.
 *
 *   bun scripts/resilience-test.ts                           every drill that is possible here
 *   bun scripts/resilience-test.ts --only delete-processor --repeat 3
 *   bun scripts/resilience-test.ts --without-fault delete-processor     must read INCONCLUSIVE
 *   bun scripts/resilience-test.ts --heal                    undoes what a run that was killed left behind
 *
 * Each drill: healthy before, effect proven, healed (always), proven by real traffic; then the audit's laws over the
 * drill's own events. docs/resilience.md has the table of drills.
 */
import { randomBytes } from "node:crypto";
import { relative } from "node:path";
import { runCommand } from "./cli/command.ts";
import { EXIT, type ExitCode, OperatorError } from "./cli/errors.ts";
import { formatDuration, paint, type Report } from "./cli/report.ts";
import { ProbeSession } from "./clients/probe-session.ts";
import { type Cluster, NAMESPACE } from "./cluster/cluster.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import { CLUSTER_FLAGS, requireReachable, selectCluster } from "./cluster/target.ts";
import { DRILLS } from "./drills/catalog.ts";
import { restoreVolume } from "./drills/disk-full.ts";
import { writeDocument } from "./drills/document.ts";
import type { Drill } from "./drills/drill.ts";
import { ClusterEnvironment } from "./drills/environment.ts";
import { FaultAgents, healLeftovers, removeNamespace } from "./drills/fault-agents.ts";
import { judgeDrills } from "./drills/judgement.ts";
import { type DrillOutcome, runDrill } from "./drills/runner.ts";
import { startStoredWatch } from "./drills/stored-watch.ts";
import { CONVEYORS } from "./drills/traffic.ts";
import { restoreBrokers } from "./drills/two-brokers-down.ts";
import { watchAlertsAndLogs } from "./live/alert-log-feed.ts";
import { LiveFeed, sourceOf } from "./live/live-feed.ts";
import { startLivePage } from "./live/live-page.ts";
import { LIVE_FILE } from "./live/live-state.ts";
import { localTarget } from "./local-cluster/index.ts";
import { startObserver } from "./recording/observer.ts";
import type { MarkKind } from "./recording/recording.ts";
import type { DrillResult, DrillsResult, DrillVerdict, PhaseName } from "./recording/result.ts";
import { runFacts } from "./recording/run-facts.ts";
import { createRun } from "./recording/run-folder.ts";
import { drillLine } from "./report/drill-line.ts";
import { recoveryTime } from "./report/format.ts";
import { renderReport } from "./report/page.ts";
import { requireVideoTools, videoOfRun } from "./video/video.ts";

/** Rows of the charts. Recoveries are measured by finer looks (scripts/drills/stored-watch.ts). */
const TICK_MS = 500;
const MAX_REPEATS = 100;
/** Moments of a drill that a person at the terminal is told at once. */
const TOLD: readonly MarkKind[] = ["fault", "effect", "recovered", "healed"];
/** Undoing takes seconds; a database that is stopped and started for its volume, twenty or more. */
const CLEANUP_LIMIT_MS = 120_000;

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

/** The exit code of a run: a drill that did not pass is a violation, also one that could not show its effect. */
export function exitCodeOf(drills: readonly DrillResult[], interrupted: boolean): ExitCode {
  if (interrupted) return EXIT.interrupted;
  return drills.length > 0 && drills.every(({ verdict }) => verdict === "passed") ? EXIT.ok : EXIT.violations;
}

/** Everything that is not as deploy left it because of a drill, undone. @returns a sentence for each thing. */
async function healAll(cluster: Cluster, image: string): Promise<string[]> {
  const agents = new FaultAgents(cluster, image);
  const undone = [await restoreBrokers(cluster), ...(await healLeftovers(cluster, agents))];
  undone.push(await restoreVolume(cluster, agents));
  for (const pod of await cluster.list("pods", "app.kubernetes.io/name=observer")) {
    // A load test's observer is not ours to end.
    if (!pod.metadata.labels?.["conveyor.dev/run"]?.includes("-drills")) continue;
    await cluster.kubectl(["delete", "pod", pod.metadata.name, "-n", NAMESPACE, "--now", "--wait=false"]);
    undone.push(`${pod.metadata.name}: watched for a run that is no more, is taken away`);
  }
  await removeNamespace(cluster, true);
  return undone.filter((line) => line !== undefined);
}

/** Why each drill that cannot be done here cannot, by its name. */
async function obstacles(scene: ClusterEnvironment, cluster: Cluster, drills: readonly Drill[], signal: AbortSignal) {
  const found = new Map<string, string>();
  for (const drill of drills) {
    const missing: string[] = [];
    for (const workload of drill.workloads) {
      if ((await cluster.pods(workload)).length === 0) missing.push(workload);
    }
    const reason =
      missing.length > 0 ? `${missing.join(", ")} is not deployed here` : await drill.possible?.(scene.context(signal));
    if (reason) found.set(drill.name, reason);
  }
  return found;
}

/** A result of drills from its file. @throws OperatorError (exit 2) that names the file. */
async function readResult(path: string): Promise<DrillsResult> {
  const result = (await Bun.file(path)
    .json()
    .catch(() => undefined)) as DrillsResult | undefined;
  if (result?.facts?.kind !== "drills") {
    throw new OperatorError(`--document: must name a result.json of drills; got "${path}"`, { exitCode: EXIT.usage });
  }
  return result;
}

function showList(report: Report): void {
  for (const { name, title, budgetMs, hypothesis } of DRILLS) {
    report.print(`${name.padEnd(24)} ${formatDuration(budgetMs).padStart(8)}  ${title}`);
    report.print(`${"".padEnd(35)}${hypothesis}`);
  }
  report.result({
    drills: DRILLS.map(({ name, title, hypothesis, fault, budgetMs, budgetReason, recoversFrom }) => ({
      name,
      title,
      hypothesis,
      fault,
      budget_ms: budgetMs,
      budget_reason: budgetReason,
      recovers_from: recoversFrom,
    })),
  });
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/resilience-test.ts",
      summary: "breaks each part on purpose while events flow, and proves that none was lost",
      usage: ["[--only NAME] [--repeat N] [--json]", "--without-fault NAME", "--heal", "--list"],
      flags: {
        ...CLUSTER_FLAGS,
        only: {
          type: "string",
          multiple: true,
          valueName: "NAME",
          description: "these drills; names may be joined by commas",
        },
        repeat: { type: "number", default: 1, min: 1, max: MAX_REPEATS, description: "how often each drill is run" },
        "time-limit": {
          type: "duration",
          description: "begin no further drill after this long, and judge what was run",
        },
        "without-fault": {
          type: "string",
          valueName: "NAME",
          description: "runs this drill with its fault left out: it has to come out inconclusive (exit 5)",
        },
        open: { type: "boolean", description: "open the live page, which is served on 127.0.0.1 while drills run" },
        record: {
          type: "boolean",
          description: "make a video of the run, outputs/resilience-drill.mp4 (needs Chromium and ffmpeg)",
        },
        heal: { type: "boolean", description: "undo what a run that was killed has left behind, and run nothing" },
        document: {
          type: "string",
          multiple: true,
          valueName: "RESULT",
          description: "write the figures of these result.json into docs/resilience.md, and run nothing",
        },
        list: { type: "boolean", description: "show the drills, their budgets and what they expect" },
      },
      examples: [
        ["bun scripts/resilience-test.ts", "every drill that is possible on this cluster"],
        [
          "bun scripts/resilience-test.ts --only kill-processor,kill-influxdb --repeat 3",
          "two of them, three times each",
        ],
        [
          "bun scripts/resilience-test.ts --without-fault delete-processor",
          "shows that a fault without effect is noticed",
        ],
      ],
      cleanupLimitMs: CLEANUP_LIMIT_MS,
      notes: [
        "It breaks parts of the cluster that it names first. What it breaks it mends, also when it is interrupted.",
        "docs/resilience.md has the drills, their budgets and the last figures.",
      ],
    },
    async ({ flags, report, signal }) => {
      if (flags.list) return void showList(report);
      if (flags.document.length > 0) {
        const results = await Promise.all(flags.document.map((path) => readResult(path)));
        await writeDocument(DRILLS, results);
        report.print(`docs/resilience.md: figures of ${results.length} results`);
        report.result({ ok: true, results: flags.document });
        return;
      }
      const without = flags["without-fault"];
      const drills = chosenDrills(without === undefined ? flags.only : [without]);
      const cluster = await selectCluster(flags, localTarget);
      report.info(`target: ${cluster.describe()}`);
      await requireReachable(cluster, signal);
      const image = await deployedServicesImage(cluster);
      if (flags.heal) {
        const undone = await report.step("undo what is left of earlier runs", () => healAll(cluster, image));
        for (const line of undone) report.print(line);
        if (undone.length === 0) report.print("nothing was left");
        report.result({ ok: true, undone });
        return;
      }
      // Before the first fault: an hour of drills must not end without its video.
      if (flags.record) await requireVideoTools();
      const { repeat, open, record } = flags;
      const timeLimitMs = flags["time-limit"] ?? Number.POSITIVE_INFINITY;
      return await runAll({ cluster, image, drills, repeat, timeLimitMs, without, open, record, report, signal });
    },
  );
}

interface RunAll {
  cluster: Cluster;
  image: string;
  drills: readonly Drill[];
  repeat: number;
  timeLimitMs: number;
  without: string | undefined;
  open: boolean;
  record: boolean;
  report: Report;
  signal: AbortSignal;
}

/** Two that are started at the same time; when one of them fails, the other is closed. @throws what the one threw. */
async function bothOrNone<A extends Closable, B extends Closable>(a: Promise<A>, b: Promise<B>): Promise<[A, B]> {
  try {
    return await Promise.all([a, b]);
  } catch (error) {
    for (const done of await Promise.allSettled([a, b])) if (done.status === "fulfilled") await done.value.close();
    throw error;
  }
}

interface Closable {
  close(): Promise<unknown>;
}

/** Where in the run a drill stands. */
interface Place {
  round: number;
  repeat: number;
  /** From 1. */
  number: number;
  count: number;
}

interface Stage {
  scene: ClusterEnvironment;
  feed: LiveFeed;
  report: Report;
  signal: AbortSignal;
}

/** One drill of a run, as a step that terminal and live page follow. */
async function leadDrill(
  drill: Drill,
  { round, repeat, number, count }: Place,
  withoutFault: boolean,
  { scene, feed, report, signal }: Stage,
): Promise<DrillOutcome> {
  const { name, title, hypothesis, fault } = drill;
  feed.drillStarted({ name, title, hypothesis, fault, repeat: round, number, count });
  const outcome = await report.step(repeat > 1 ? `${name} (${round} of ${repeat})` : name, async (step) => {
    const onBeat = (beat: PhaseName, detail: string) => {
      feed.beatEnded(beat);
      step.update(`${beat}: ${detail}`);
    };
    const run = `drill-${name}-${round}-${randomBytes(3).toString("hex")}`;
    const done = await runDrill(drill, scene, { repeat: round, run, withoutFault, onBeat }, signal);
    const { verdict, recovery, reasons } = done.result;
    const took = recovery ? `, recovered in ${recoveryTime(recovery)}` : "";
    step.update(`${verdict}${took}${reasons.length > 0 ? `: ${reasons.join("; ")}` : ""}`);
    return done;
  });
  feed.drillEnded(outcome.result);
  return outcome;
}

interface Told {
  /** The record's file. */
  path: string;
  /** Why drills that cannot be done here cannot, by their names. */
  impossible: ReadonlyMap<string, string>;
  /** Drills, repeats counted. */
  wanted: number;
}

/** The table at the end of a run, and what was left out of it. */
function printOutcome(report: Report, result: DrillsResult, { path, impossible, wanted }: Told): void {
  const { drills } = result;
  const color = Boolean(process.stdout.isTTY) && !process.env.NO_COLOR && !report.json;
  const shades = { passed: "green", failed: "red", inconclusive: "yellow", interrupted: "yellow" } as const;
  for (const drill of drills) {
    report.print(paint(color, shades[drill.verdict], drillLine(drill)));
    for (const reason of drill.reasons) report.print(`  ${reason}`);
  }
  for (const [name, reason] of impossible) report.print(`${name.padEnd(24)} NOT POSSIBLE ${reason}`);
  const leftOut = wanted - drills.length;
  if (leftOut > 0) report.print(`left out when the time was over: ${leftOut} of ${wanted}`);
  report.print(`record: ${relative(process.cwd(), path)}, report.html beside it`);
  const count = (verdict: DrillVerdict) => drills.filter((drill) => drill.verdict === verdict).length;
  report.print(
    `${result.passed ? "PASSED" : "NOT PASSED"}: ${count("passed")} passed, ${count("failed")} failed, ${count("inconclusive")} inconclusive`,
  );
  report.result({ ...result, not_possible: Object.fromEntries(impossible), left_out: leftOut });
}

async function runAll({
  cluster,
  image,
  drills,
  repeat,
  timeLimitMs,
  without,
  open,
  record,
  report,
  signal,
}: RunAll): Promise<ExitCode> {
  const startedAtMs = Date.now();
  const folder = await createRun("drills", startedAtMs);
  const agents = new FaultAgents(cluster, image);
  // Of its own: an interrupt must not close what the healing needs.
  const checksEnd = new AbortController();
  const checks = new ProbeSession(cluster, image, checksEnd.signal);
  let world: ClusterEnvironment | undefined;
  const extra = () => ({ slowest_freshness_seconds: world?.ageSeconds ?? null });
  const watching = { image, run: folder.id };
  const [observer, stored] = await report.step("observer", () =>
    bothOrNone(
      startObserver(cluster, { ...watching, tickMs: TICK_MS, extra }, checksEnd.signal),
      startStoredWatch(cluster, { ...watching, conveyors: CONVEYORS }, checksEnd.signal),
    ),
  );
  const page = await startLivePage({
    runId: folder.id,
    startedAtMs,
    recordPath: folder.path(LIVE_FILE),
    open,
    onTrouble: (message) => report.warn(message),
  });
  report.info(`live page: ${page.url}`);
  const feed = new LiveFeed(page, sourceOf(observer));
  const troubles = watchAlertsAndLogs(cluster, feed, sourceOf(observer), checksEnd.signal);
  observer.onMark(({ kind, text }) => {
    if (TOLD.includes(kind)) report.info(`  ${kind}: ${text}`);
  });
  let reportHtml: string | undefined;
  const outcomes: DrillOutcome[] = [];
  const facts = await runFacts(cluster, { id: folder.id, kind: "drills", startedAtMs });
  const document = (results: readonly DrillResult[]): DrillsResult => ({
    facts: { ...facts, endedAt: new Date().toISOString(), interrupted: signal.aborted },
    drills: results,
    passed: exitCodeOf(results, signal.aborted) === EXIT.ok,
  });
  try {
    const scene = new ClusterEnvironment({ cluster, image, observer, agents, checks, stored, feed });
    world = scene;
    const impossible = await report.step("what is possible here", () => obstacles(scene, cluster, drills, signal));
    for (const [name, reason] of impossible) report.warn(`not possible here: ${name}: ${reason}`);
    const possible = drills.filter(({ name }) => !impossible.has(name));
    const isOver = () => signal.aborted || Date.now() - startedAtMs > timeLimitMs;
    for (let round = 1; round <= repeat && !isOver(); round++) {
      for (const drill of possible) {
        if (isOver()) break;
        const place: Place = { round, repeat, number: outcomes.length + 1, count: possible.length * repeat };
        outcomes.push(await leadDrill(drill, place, without === drill.name, { scene, feed, report, signal }));
        await folder.writeJson("result.json", document(outcomes.map(({ result }) => result)));
        // What was looked at, so that each recovery can be measured again from it.
        await folder.writeJson("looks.json", scene.samples());
        // What the senders were told, event by event: the laws can be judged again from it.
        await folder.writeJson(
          "accounts.json",
          outcomes.flatMap(({ account }) => account ?? []),
        );
      }
    }
    const judged = signal.aborted
      ? outcomes.map(({ result }) => result)
      : await judgeDrills(cluster, outcomes, {
          folder: folder.path("history"),
          sinceMs: startedAtMs,
          report,
          signal,
          checks,
        });
    const result = document(judged);
    const path = await folder.writeJson("result.json", result);
    reportHtml = renderReport(result);
    await folder.writeText("report.html", reportHtml);
    if (record && !signal.aborted) {
      const { paths } = await report.step("video", async (step) => {
        const video = await videoOfRun(folder, result, { signal, onState: step.update });
        step.update(`${formatDuration(video.seconds * 1000)} of ${video.drills.join(", ")}`);
        return video;
      });
      report.print(`video: ${paths.map((video) => relative(process.cwd(), video)).join(", ")}`);
    }
    printOutcome(report, result, { path, impossible, wanted: possible.length * repeat });
    return exitCodeOf(judged, signal.aborted);
  } finally {
    feed.close();
    await Promise.allSettled([page.close(reportHtml), observer.close(), stored.close(), removeNamespace(cluster)]);
    checksEnd.abort();
    await troubles;
    await checks.close().catch(() => {});
  }
}
