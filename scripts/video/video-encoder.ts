/** Frames become an MP4 that every browser and player shows: H.264, 4:2:0, its index in front, chapters as metadata. */
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { missingTools, type Tool, toolsError } from "../cli/tools.ts";

export const FFMPEG: Tool = { command: "ffmpeg", why: "makes the video of the drills", aptPackage: "ffmpeg" };

/** The last frames are encoded within seconds after they came; on two busy cores some more. */
const FINISH_LIMIT_MS = 60_000;
/** Still pictures with text: sharp at this quality, and a few megabytes for three minutes. */
const QUALITY = ["-preset", "medium", "-crf", "23", "-tune", "animation"];
/** The end of what ffmpeg said, for the message. */
const COMPLAINT_CHARACTERS = 500;

/** @throws OperatorError (exit 3) with the line that installs what is missing. */
export async function requireEncoder(): Promise<void> {
  const missing = await missingTools([FFMPEG]);
  if (missing.length > 0) throw toolsError("a video needs", missing);
}

export interface EncoderOptions {
  out: string;
  title: string;
  framesPerSecond: number;
  /** Ascending, without gaps. */
  chapters: readonly { title: string; startMs: number; endMs: number }[];
  signal?: AbortSignal;
}

/** In ffmpeg's metadata files these have a meaning of their own. */
const escapeMetadata = (text: string) => text.replaceAll(/[=;#\\\n]/g, (character) => `\\${character}`);

/** Chapters as ffmpeg reads them. */
export const chapterFile = (options: Pick<EncoderOptions, "title" | "chapters">): string =>
  [
    ";FFMETADATA1",
    `title=${escapeMetadata(options.title)}`,
    ...options.chapters.flatMap(({ title, startMs, endMs }) => [
      "[CHAPTER]",
      "TIMEBASE=1/1000",
      `START=${startMs}`,
      `END=${endMs}`,
      `title=${escapeMetadata(title)}`,
    ]),
    "",
  ].join("\n");

/**
 * Encodes PNGs, one per frame, in order. The file is there whole or not at all.
 * @throws OperatorError with what ffmpeg said.
 */
export async function encode(frames: AsyncIterable<Uint8Array>, options: EncoderOptions): Promise<void> {
  await mkdir(dirname(options.out), { recursive: true });
  const folder = await mkdtemp(join(tmpdir(), "conveyor-video-"));
  const unfinished = `${options.out}.unfinished.mp4`;
  try {
    const metadata = join(folder, "chapters.txt");
    await writeFile(metadata, chapterFile(options));
    const child = Bun.spawn(
      [
        ...["ffmpeg", "-hide_banner", "-loglevel", "error", "-y"],
        ...["-f", "image2pipe", "-c:v", "png", "-framerate", String(options.framesPerSecond), "-i", "-"],
        ...["-i", metadata, "-map", "0:v", "-map_metadata", "1", "-map_chapters", "1"],
        ...["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", "-c:v", "libx264", ...QUALITY],
        ...["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"],
        ...["-movflags", "+faststart", unfinished],
      ],
      { stdin: "pipe", stdout: "ignore", stderr: "pipe" },
    );
    const said = new Response(child.stderr).text();
    const stop = () => child.kill();
    options.signal?.addEventListener("abort", stop, { once: true });
    try {
      try {
        for await (const frame of frames) {
          options.signal?.throwIfAborted();
          child.stdin.write(frame);
          // Waits while ffmpeg is behind, so that frames do not pile up in memory.
          await child.stdin.flush();
        }
        await child.stdin.end();
      } catch (error) {
        options.signal?.throwIfAborted();
        // A pipe that broke has its reason in what ffmpeg said; a frame that could not be made has its own.
        if (child.exitCode === null) throw error;
      }
      const limit = setTimeout(stop, FINISH_LIMIT_MS);
      const exitCode = await child.exited;
      clearTimeout(limit);
      options.signal?.throwIfAborted();
      if (exitCode !== 0) {
        throw new OperatorError(
          `ffmpeg ended with exit ${exitCode}: ${(await said).slice(-COMPLAINT_CHARACTERS).trim()}`,
        );
      }
    } finally {
      options.signal?.removeEventListener("abort", stop);
      child.kill();
    }
    await rename(unfinished, options.out);
  } finally {
    await rm(unfinished, { force: true });
    await rm(folder, { recursive: true, force: true });
  }
}
