/**
 * Artifacts that take many minutes: a load test that scales, and the drills. Each is run as a command; the files in
 * outputs/ are made from its record.
 */
import { copyFile, readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { htmlToPng } from "../browser/page-picture.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { writeAtomic } from "../cli/files.ts";
import { NAMESPACE } from "../cluster/cluster.ts";
import { linesOfChanges, scalingText } from "../load/scaling-text.ts";
import type { DrillsResult, LoadTestResult, RunResult } from "../recording/result.ts";
import { openRun, RUNS_FOLDER, readResult } from "../recording/run-folder.ts";
import { drillLine } from "../report/drill-line.ts";
import { renderScalingPicture } from "../report/load-report.ts";
import { renderReport } from "../report/page.ts";
import { KEPT_REPORT_FILE, requireVideoTools, VIDEO_FILE, videoOfRun } from "../video/video.ts";
import type { Artifact, EvidenceContext, Making } from "./artifact.ts";
import { lastOutputLines, type Ran, runScript } from "./child-command.ts";
import { terminalPage } from "./terminal.ts";
import { pictureRun } from "./viewer-pictures.ts";

/** Three minutes of load; as much again for scaling down and for the audit; times three for a busy machine. */
const LOAD_LIMIT_MS = 1_200_000;
/** Twenty-five drills of half a minute to two. */
const DRILLS_LIMIT_MS = 5_400_000;
const PICTURE_WIDTH_PX = 1200;

const SCALING_FILES = ["hpa-scaling.png", "hpa-scaling.txt", "hpa-watch.png"];
const TABLE_FILE = "resilience-drills.txt";
const OUTPUTS = resolve(RUNS_FOLDER, "..");

/** Finished records of a kind that began at `sinceMs` or later, the newest first. */
async function* records<R extends RunResult>(
  kind: R["facts"]["kind"],
  sinceMs: number,
  root: string,
): AsyncGenerator<R> {
  const ids = (await readdir(root).catch(() => [] as string[])).filter((id) => id.includes(`-${kind}`)).sort();
  for (const id of ids.reverse()) {
    const result = (await readResult(openRun(id, root).path("result.json"))) as R | undefined;
    if (result?.facts.kind !== kind || Date.parse(result.facts.startedAt) < sinceMs) continue;
    if (!result.facts.interrupted) yield result;
  }
}

/** The newest record of a kind that `fits` accepts and that began at `sinceMs` or later. */
export async function newestRecord<R extends RunResult>(
  kind: R["facts"]["kind"],
  fits: (result: R) => boolean,
  sinceMs = 0,
  root = RUNS_FOLDER,
): Promise<R | undefined> {
  for await (const result of records<R>(kind, sinceMs, root)) if (fits(result)) return result;
  return undefined;
}

/** Later runs of the drills that did not pass in a run. */
export async function repeatedSince(result: DrillsResult, root = RUNS_FOLDER): Promise<string[]> {
  const failed = new Set(result.drills.filter(({ verdict }) => verdict !== "passed").map(({ name }) => name));
  const lines: string[] = [];
  for await (const later of records<DrillsResult>("drills", Date.parse(result.facts.endedAt), root)) {
    const repeated = later.drills.filter(({ name }) => failed.has(name));
    if (repeated.length > 0) lines.unshift(`# repeated in run ${later.facts.id}`, ...repeated.map(drillLine));
  }
  return lines;
}

/** The record of a new run, or with --reuse the newest one. */
async function recordOf<R extends RunResult>(
  context: EvidenceContext,
  run: { kind: R["facts"]["kind"]; args: readonly string[]; limitMs: number; fits: (result: R) => boolean },
): Promise<{ result: R } | { reason: string; hint: string }> {
  const startedAtMs = Date.now();
  let ran: Ran | undefined;
  if (!context.reuse) ran = await runScript([...run.args, ...context.clusterFlags], run.limitMs, context.signal);
  const result = await newestRecord<R>(run.kind, run.fits, context.reuse ? 0 : startedAtMs);
  if (result) return { result };
  return {
    reason: ran ? `exit ${ran.exitCode}: ${lastOutputLines(ran)}` : `no finished ${run.kind} in outputs/runs`,
    hint: `bun ${run.args.join(" ")}`,
  };
}

export const hpaScaling: Artifact = {
  name: "hpa-scaling",
  title:
    "the autoscalers under a load that rises and falls: replicas, lag and rates over time, and kubectl get hpa as text and as a picture of the terminal",
  files: SCALING_FILES,
  minutes: 8,
  async make(context): Promise<Making> {
    const found = await recordOf<LoadTestResult>(context, {
      kind: "load-test",
      args: ["scripts/load-test.ts", "--profile", "ramp", "--no-pictures"],
      limitMs: LOAD_LIMIT_MS,
      fits: ({ scaling }) => scaling.length > 0,
    });
    if (!("result" in found)) return { made: false, ...found };
    const { result } = found;
    await htmlToPng(renderScalingPicture(result), join(context.out, SCALING_FILES[0]!), {
      width: PICTURE_WIDTH_PX,
      browser: context.browser,
    });
    await writeAtomic(join(context.out, SCALING_FILES[1]!), scalingText(result));
    const watched = {
      command: `kubectl get hpa -n ${NAMESPACE} -w`,
      output: linesOfChanges(result.hpaTable).join("\n"),
    };
    await htmlToPng(
      terminalPage("The autoscalers during the load test: lines at each change of replicas", [watched]),
      join(context.out, SCALING_FILES[2]!),
      {
        width: PICTURE_WIDTH_PX,
        theme: "dark",
        browser: context.browser,
      },
    );
    const { lost, acknowledged } = result.ledger;
    return {
      made: true,
      detail: `run ${result.facts.id}, profile ${result.profile}: ${result.passed ? "passed" : "a threshold was missed"}, ${result.scaling.length} changes of replicas, ${lost} of ${acknowledged} acknowledged events lost`,
      files: SCALING_FILES,
    };
  },
};

/** A run of more than one drill. */
const isBroad = ({ drills }: DrillsResult) => new Set(drills.map(({ name }) => name)).size > 1;

export const resilience: Artifact = {
  name: "resilience",
  title: "faults in each component under traffic: effect, recovery time, losses; a video of three drills",
  files: [VIDEO_FILE, KEPT_REPORT_FILE, TABLE_FILE],
  minutes: 25,
  async make(context): Promise<Making> {
    const found = await recordOf<DrillsResult>(context, {
      kind: "drills",
      args: ["scripts/resilience-test.ts"],
      limitMs: DRILLS_LIMIT_MS,
      fits: isBroad,
    });
    if (!("result" in found)) return { made: false, ...found };
    const { result } = found;
    const head = `# drills of run ${result.facts.id} (UTC), Kubernetes ${result.facts.cluster.kubernetes}`;
    const table = [head, ...result.drills.map(drillLine), ...(await repeatedSince(result))];
    await writeAtomic(join(context.out, TABLE_FILE), `${table.join("\n")}\n`);
    const passed = result.drills.filter(({ verdict }) => verdict === "passed").length;
    const detail = `run ${result.facts.id}: ${passed} of ${result.drills.length} passed`;
    try {
      await requireVideoTools(context.browser);
    } catch (error) {
      if (!(error instanceof OperatorError) || error.exitCode !== EXIT.precondition) throw error;
      await writeAtomic(join(context.out, KEPT_REPORT_FILE), renderReport(result, { isKept: true }));
      return {
        made: true,
        detail,
        files: [KEPT_REPORT_FILE, TABLE_FILE],
        missing: { [VIDEO_FILE]: `${error.message}; ${error.hint ?? ""}` },
      };
    }
    const folder = openRun(result.facts.id);
    // Of an older run the cluster may not have the data any more.
    const pictured = context.reuse
      ? undefined
      : await pictureRun(context, result, folder).catch((error: Error) => error);
    const video = await videoOfRun(folder, result, {
      signal: context.signal,
      onState: context.step.update,
      browser: context.browser,
    });
    // videoOfRun writes to the outputs/ of the project; another folder gets copies.
    for (const name of [VIDEO_FILE, KEPT_REPORT_FILE]) {
      const path = video.paths.find((made) => made === join(OUTPUTS, name));
      if (path && resolve(context.out) !== OUTPUTS) await copyFile(path, join(context.out, name));
    }
    return {
      made: true,
      detail: `${detail}; video of ${Math.round(video.seconds)} s: ${video.drills.join(", ")}${pictured ? `, without dashboards: ${pictured.message}` : ""}`,
      files: [VIDEO_FILE, KEPT_REPORT_FILE, TABLE_FILE],
    };
  },
};
