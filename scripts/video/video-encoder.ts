/** Encodes frames as an MP4 for every browser and player: H.264, 4:2:0, index at the start, chapters as metadata. */
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OperatorError } from "../cli/errors.ts";
import { createAtomic } from "../cli/files.ts";
import { start } from "../cli/process.ts";
import { missingTools, type Tool, toolsError } from "../cli/tools.ts";

export const FFMPEG: Tool = { command: "ffmpeg", why: "makes the video of the drills", aptPackage: "ffmpeg" };

/** For encoding the last frames: seconds on an idle machine. */
const FINISH_LIMIT_MS = 60_000;
/** Text is sharp at this quality, and three minutes take a few megabytes. */
const QUALITY = ["-preset", "medium", "-crf", "23", "-tune", "animation"];
/** Of the output of ffmpeg, in an error message. */
const MESSAGE_CHARACTERS = 500;

/** @throws OperatorError (exit 3) with the command that installs ffmpeg. */
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

/** Characters with a special meaning in ffmpeg's metadata files. */
const escapeMetadata = (text: string) => text.replaceAll(/[=;#\\\n]/g, (character) => `\\${character}`);

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
 * Encodes PNGs, one per frame, in order. The file is complete or absent.
 * @throws OperatorError with the message of ffmpeg.
 */
export async function encode(frames: AsyncIterable<Uint8Array>, options: EncoderOptions): Promise<void> {
  await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-video-"));
  const metadata = join(folder.path, "chapters.txt");
  await writeFile(metadata, chapterFile(options));
  await createAtomic(options.out, (temporary) => runFfmpeg(frames, metadata, temporary, options));
}

async function runFfmpeg(
  frames: AsyncIterable<Uint8Array>,
  metadata: string,
  out: string,
  { framesPerSecond, signal }: EncoderOptions,
): Promise<void> {
  await using child = start(
    [
      ...["ffmpeg", "-hide_banner", "-loglevel", "error", "-y"],
      ...["-f", "image2pipe", "-c:v", "png", "-framerate", String(framesPerSecond), "-i", "-"],
      ...["-i", metadata, "-map", "0:v", "-map_metadata", "1", "-map_chapters", "1"],
      ...["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", "-c:v", "libx264", ...QUALITY],
      ...["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"],
      ...["-movflags", "+faststart", out],
    ],
    { stdin: "pipe", stdout: "ignore", signal },
  );
  for await (const frame of frames) {
    signal?.throwIfAborted();
    // Waits for a slow ffmpeg, so that frames do not accumulate in memory. One that has ended says why.
    if (!(await child.write(frame))) break;
  }
  child.closeInput();
  const limit = setTimeout(() => void child.stop(), FINISH_LIMIT_MS);
  const exitCode = await child.exited;
  clearTimeout(limit);
  signal?.throwIfAborted();
  if (exitCode !== 0) {
    throw new OperatorError(`ffmpeg ended with exit ${exitCode}: ${child.stderr.slice(-MESSAGE_CHARACTERS).trim()}`);
  }
}
