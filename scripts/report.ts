/**
 * Renders the report and the video of a run from its record, without a new run.
 *
 *   bun scripts/report.ts                               report.html of the newest run
 *   bun scripts/report.ts 20261125T072453Z-drills --video   also the video of that run of drills
 *
 * A run is named by its folder below outputs/runs.
 */
import { readdir } from "node:fs/promises";
import { basename, relative } from "node:path";
import { defineCommand, runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { isDrills, RUN_KINDS, type RunResult } from "./recording/result.ts";
import { openRun, RUNS_FOLDER, type RunFolder, readResult } from "./recording/run-folder.ts";
import { renderReport } from "./report/page.ts";
import { requireVideoTools, videoStep } from "./video/video.ts";

const usage = (message: string) => new OperatorError(message, { exitCode: EXIT.usage, hint: "ls outputs/runs" });

/** Name of the newest run that has a report. @throws OperatorError (exit 2) when there is none. */
export async function newestRun(root = RUNS_FOLDER): Promise<string> {
  const names = await readdir(root).catch(() => [] as string[]);
  // Names begin with the time: the last one is the newest.
  const newest = names
    .filter((name) => RUN_KINDS.some((kind) => /^\d{8}T\d{6}Z-/.test(name) && name.includes(kind)))
    .sort()
    .at(-1);
  if (!newest) throw usage("RUN: there is no run in outputs/runs");
  return newest;
}

/** The record of a run. @throws OperatorError (exit 2) that names the folder. */
export async function readRun(folder: RunFolder): Promise<RunResult> {
  const result = await readResult(folder.path("result.json"));
  if (result) return result;
  throw usage(
    `RUN: must name a folder of outputs/runs with a result.json of a load test or of drills; got "${folder.id}"`,
  );
}

export const command = defineCommand({
  name: "scripts/report.ts",
  summary: "renders the report of a run, and its video, from its record",
  usage: ["[RUN] [--video]"],
  positionals: [{ name: "RUN", description: "folder below outputs/runs; the newest when absent" }],
  flags: {
    video: { type: "boolean", description: "render the video too: drills only; needs Chromium and ffmpeg" },
  },
  examples: [
    ["bun scripts/report.ts", "the newest run's report.html"],
    ["bun scripts/report.ts 20261125T072453Z-drills --video", "report and video of that run"],
  ],
  async run({ flags, positionals, report, signal }) {
    const folder = openRun(basename(positionals[0] ?? (await newestRun())));
    const result = await readRun(folder);
    if (flags.video && !isDrills(result)) throw usage(`--video: only for a run of drills; ${folder.id} is a load test`);
    if (flags.video) await requireVideoTools();
    const made = [await folder.writeText("report.html", renderReport(result))];
    if (flags.video && isDrills(result)) {
      made.push(...(await videoStep(report, folder, result, signal)));
    }
    for (const path of made) report.print(relative(process.cwd(), path));
    report.result({ run: folder.id, made: made.map((path) => relative(process.cwd(), path)) });
    return EXIT.ok;
  },
});

if (import.meta.main) await runCommand(command);
