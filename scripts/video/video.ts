/**
 * The video of a run of drills, rendered from the run's record: each frame is the live page at one time of that run, drawn
 * by a headless Chromium. The same record always produces the same frames.
 */

import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import type { CDPSession, Page } from "playwright-core";
import { withBrowser } from "../browser/browser.ts";
import { requireBrowser } from "../browser/page-picture.ts";
import { createAtomic, writeAtomic } from "../cli/files.ts";
import { formatDuration, type Report } from "../cli/report.ts";
import { entriesOfRun, Replay } from "../live/replay.ts";
import type { DrillsResult } from "../recording/result.ts";
import type { RunFolder } from "../recording/run-folder.ts";
import type { RecordEntry } from "../recording/run-record.ts";
import { plural } from "../report/format.ts";
import { renderReport } from "../report/page.ts";
import { encode, requireEncoder } from "./video-encoder.ts";
import { FRAME_HEIGHT, FRAME_WIDTH, type FrameParts, frameDocument, frameParts } from "./video-frame.ts";
import { readPictures } from "./video-pictures.ts";
import { chaptersOf, type FramePlan, framesOf, planVideo, type VideoPlan } from "./video-plan.ts";

/** Ten frames per second are smooth enough for values that change once per second. */
const FRAMES_PER_SECOND = 10;
/** For the layout of the empty frame: seconds on a busy machine. */
const LAYOUT_LIMIT_MS = 90_000;

export interface VideoOptions {
  result: DrillsResult;
  /** entriesOfRun of the run's folder. */
  entries: readonly RecordEntry[];
  /** The MP4. */
  out: string;
  signal?: AbortSignal;
  onState?: (state: string) => void;
  /** Chromium's command; the system's when absent. */
  browser?: string;
  /** planVideo of the result when absent. */
  plan?: VideoPlan;
  framesPerSecond?: number;
  /** Called with each frame and its content before it is drawn. */
  onFrame?: (frame: FramePlan, parts: FrameParts) => void;
}

export interface Video {
  seconds: number;
  frames: number;
  chapters: { title: string; startMs: number; endMs: number }[];
  /** Names of the shown drills. */
  drills: string[];
}

/**
 * Checks the programs that a video needs; called before a run begins, since drills take an hour.
 * @throws OperatorError (exit 3) with the command that installs the missing ones.
 */
export async function requireVideoTools(browser?: string): Promise<void> {
  requireBrowser(browser);
  await requireEncoder();
}

/** Shows changed parts, pictures too. Runs in the page: replaceContent is in report/browser/charts.ts. */
async function showParts({ html, speedClass, overlayClass }: FrameParts): Promise<void> {
  const { replaceContent } = globalThis as unknown as { replaceContent(element: Element, text: string): void };
  for (const [id, text] of Object.entries(html)) {
    const element = document.getElementById(id);
    if (element) replaceContent(element, text);
  }
  document.getElementById("speed")!.className = speedClass;
  document.getElementById("overlay")!.className = overlayClass;
  await Promise.all([...document.images].map((image) => image.decode()));
}

/** Draws frames; only parts that changed since the last frame are replaced. */
export class FramePainter {
  #shown: Record<string, string> = {};
  #classes = "";
  #last: Uint8Array | undefined;

  private constructor(
    private readonly page: Page,
    private readonly session: CDPSession,
  ) {}

  static async open(page: Page, runId: string): Promise<FramePainter> {
    await page.setViewportSize({ width: FRAME_WIDTH, height: FRAME_HEIGHT });
    await page.setContent(frameDocument(runId), { waitUntil: "load", timeout: LAYOUT_LIMIT_MS });
    return new FramePainter(page, await page.context().newCDPSession(page));
  }

  /** @returns the frame as a PNG. */
  async paint(parts: FrameParts): Promise<Uint8Array> {
    const changed = Object.fromEntries(Object.entries(parts.html).filter(([id, text]) => this.#shown[id] !== text));
    const classes = `${parts.speedClass}/${parts.overlayClass}`;
    if (this.#last && Object.keys(changed).length === 0 && classes === this.#classes) return this.#last;
    await this.page.evaluate(showParts, { ...parts, html: changed });
    // Not page.screenshot: it waits for fonts and animations, which takes too long for each frame.
    const { data } = await this.session.send("Page.captureScreenshot", { format: "png", optimizeForSpeed: true });
    this.#shown = { ...this.#shown, ...changed };
    this.#classes = classes;
    this.#last = new Uint8Array(Buffer.from(data, "base64"));
    return this.#last;
  }
}

/**
 * Renders the video.
 * @throws OperatorError (exit 3) without Chromium or ffmpeg; Error for a run without a drill.
 */
export async function recordVideo(options: VideoOptions): Promise<Video> {
  const { result, entries, out, signal } = options;
  await requireVideoTools(options.browser);
  const plan = options.plan ?? planVideo(result);
  const framesPerSecond = options.framesPerSecond ?? FRAMES_PER_SECOND;
  const frames = framesOf(plan, framesPerSecond);
  const chapters = chaptersOf(plan);
  const replay = new Replay(plan.runId, entries);
  await withBrowser({ path: requireBrowser(options.browser) }, async (context) => {
    const painter = await FramePainter.open(await context.newPage(), plan.runId);
    async function* painted() {
      for (const [index, frame] of frames.entries()) {
        const parts = frameParts(frame, replay.at(frame.stateMs), result, plan);
        options.onFrame?.(frame, parts);
        if (index % framesPerSecond === 0) options.onState?.(`frame ${index} of ${plural(frames.length, "frame")}`);
        yield await painter.paint(parts);
      }
    }
    await encode(painted(), { out, title: `Resilience drills, run ${plan.runId}`, framesPerSecond, chapters, signal });
  });
  return {
    seconds: frames.length / framesPerSecond,
    frames: frames.length,
    chapters,
    drills: plan.drills.map(({ name }) => name),
  };
}

/** The video of a run as a step of the terminal. @returns the paths of the files. @throws as recordVideo. */
export async function videoStep(
  report: Report,
  folder: RunFolder,
  result: DrillsResult,
  signal: AbortSignal,
): Promise<string[]> {
  return await report.step("video", async (step) => {
    const { seconds, drills, paths } = await videoOfRun(folder, result, { signal, onState: step.update });
    step.update(`${formatDuration(seconds * 1000)} of ${drills.join(", ")}`);
    return paths;
  });
}

/** File names in outputs/; the video is in the run's folder too. */
export const VIDEO_FILE = "resilience-drill.mp4";
export const KEPT_REPORT_FILE = "resilience-drill.html";

/**
 * Renders the video of a run in its folder, and copies it with the report to outputs/.
 * @returns the video and the paths of the files.
 * @throws as recordVideo.
 */
export async function videoOfRun(
  folder: RunFolder,
  result: DrillsResult,
  options: Pick<VideoOptions, "signal" | "onState" | "browser"> = {},
): Promise<Video & { paths: string[] }> {
  const own = folder.path(VIDEO_FILE);
  const plan = planVideo(result, await readPictures(folder, result.drills));
  const entries = await entriesOfRun(folder.folder, result);
  const video = await recordVideo({ ...options, result, entries, plan, out: own });
  const outputs = join(folder.folder, "../..");
  const [kept, report] = [join(outputs, VIDEO_FILE), join(outputs, KEPT_REPORT_FILE)];
  await createAtomic(kept, (temporary) => copyFile(own, temporary));
  await writeAtomic(report, renderReport(result, { isKept: true }));
  return { ...video, paths: [own, kept, report] };
}
