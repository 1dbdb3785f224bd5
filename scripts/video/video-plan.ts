/**
 * What a video of drills shows, second by second: chapters, captions, and which moment of the run's record each second
 * stands for. Pure, so that it can be judged without a browser. Where the record is played faster, or stands still to be
 * read, the plan says so, and the video shows it.
 */

import type { DrillResult, DrillsResult, OperatorCommand } from "../recording/result.ts";
import { byName, faultTimeMs } from "../report/drills-report.ts";
import { formatMs, formatOffset, plural } from "../report/format.ts";

/** Nobody watches longer; the issue says so too. */
export const MAX_VIDEO_SECONDS = 180;
/** So many drills have room in that time with everything that is to be read. */
const MAX_DRILLS = 3;
/** Commands that are stopped at; the others are in the terminal as they come. */
const READ_COMMANDS = 2;

/** Speeds at which the record may be played. */
const SPEEDS = [1, 2, 4, 8, 16, 32, 64, 128] as const;
/** Longest that a stretch may take in the video; a longer one is played faster. */
const LONGEST_SECONDS = { before: 3, effect: 5, healing: 9, proof: 5 } as const;
const CARD_SECONDS = { title: 4, breaks: 4, verdict: 4.5, end: 6 } as const;
/** To read a proof, or that it has recovered. */
const STILL_SECONDS = 2.5;
/** Typing a command, then at least this long for its output, and a little per line. */
const TYPING_SECONDS = 0.8;
const READ_SECONDS = 2;
const READ_SECONDS_PER_LINE = 0.15;
const MAX_READ_SECONDS = 4.5;
/** What of the healthy time before is shown, and of the time behind the effect. */
const BEFORE_MS = 5000;
const AFTER_EFFECT_MS = 1500;

export const CHAPTERS = ["what breaks", "effect", "healing", "proof", "verdict"] as const;
export type Chapter = (typeof CHAPTERS)[number];

export interface Segment {
  /** Name of the chapter in the video's metadata; segments of one name in a row are one chapter. */
  chapter: string;
  caption: string;
  /**
   * live: the record goes on; still: it stands, to be read; reading: it stands, and a command is read; the others are
   * cards over the whole picture.
   */
  kind: "live" | "still" | "reading" | "title" | "breaks" | "verdict" | "end";
  /** Moments of the record, milliseconds since the epoch; equal where it stands. */
  fromMs: number;
  toMs: number;
  seconds: number;
  /** How many times faster than it was; 0 where it stands. */
  speed: number;
  drill?: DrillResult;
  command?: OperatorCommand;
}

export interface VideoPlan {
  runId: string;
  drills: readonly DrillResult[];
  segments: readonly Segment[];
}

/** Words that tell the parts of the pipeline apart in a drill's name; a video shows different ones. */
const SUBJECTS = ["processor", "kafka", "broker", "influxdb", "producer"] as const;

/**
 * The drills that are shown: one per part of the pipeline, those with a proven effect and a measured recovery first,
 * each in its first repeat. Failed ones are not left out for good ones: what failed comes first.
 */
export function drillsToShow(result: DrillsResult, limit = MAX_DRILLS): DrillResult[] {
  const groups = byName(result.drills);
  const failed = groups.flatMap((repeats) => repeats.find(({ verdict }) => verdict !== "passed") ?? []);
  const telling = groups
    .map((repeats) => repeats[0]!)
    .filter(
      (drill) =>
        drill.effect && drill.recovery && drill.verdict === "passed" && !failed.some(({ name }) => name === drill.name),
    );
  const subjectOf = ({ name }: DrillResult) => SUBJECTS.find((subject) => name.includes(subject)) ?? name;
  // Of one part the first whose recovery took time: one that nobody noticed has little to show.
  const first = [...Map.groupBy(telling, subjectOf).values()].map(
    (drills) => drills.find(({ recovery }) => !recovery!.below) ?? drills[0]!,
  );
  const rank = (drill: DrillResult) => {
    const at = (SUBJECTS as readonly string[]).indexOf(subjectOf(drill));
    return at < 0 ? SUBJECTS.length : at;
  };
  const varied = first.toSorted((a, b) => rank(a) - rank(b));
  const rest = telling.filter((drill) => !first.includes(drill));
  const chosen = [...failed, ...varied, ...rest].slice(0, limit);
  // In the order in which they ran, so that its clock goes forward.
  return chosen.toSorted((a, b) => a.recording.startedAtMs - b.recording.startedAtMs);
}

/** The slowest speed at which the stretch takes no longer than that. */
function speedFor(lengthMs: number, longestSeconds: number): number {
  return SPEEDS.find((speed) => lengthMs / 1000 / speed <= longestSeconds) ?? SPEEDS.at(-1)!;
}

/** When the record of a drill ends. */
export const lastMs = ({ recording, beats }: DrillResult) =>
  Math.max(recording.endedAtMs, beats.at(-1)?.endedAtMs ?? 0);

function readSeconds({ output }: OperatorCommand): number {
  const lines = output.trimEnd().split("\n").length;
  return TYPING_SECONDS + Math.min(MAX_READ_SECONDS, READ_SECONDS + lines * READ_SECONDS_PER_LINE);
}

function drillSegments(drill: DrillResult, number: number): Segment[] {
  const segments: Segment[] = [];
  const chapterOf = (chapter: Chapter) => `${number}. ${drill.title}: ${chapter}`;
  const { effect, recovery, beats } = drill;
  const beatOf = (name: string) => beats.find((beat) => beat.name === name);
  const fault = faultTimeMs(drill);
  const endMs = lastMs(drill);
  const markOf = (kind: string) => drill.recording.marks.find((mark) => mark.kind === kind)?.timeMs;
  const still = (chapter: Chapter, caption: string, atMs: number, more: Partial<Segment> = {}) =>
    segments.push({
      chapter: chapterOf(chapter),
      caption,
      kind: "still",
      fromMs: atMs,
      toMs: atMs,
      seconds: STILL_SECONDS,
      speed: 0,
      drill,
      ...more,
    });
  const live = (chapter: Chapter, caption: string, fromMs: number, toMs: number, longest: number) => {
    if (toMs <= fromMs) return;
    const speed = speedFor(toMs - fromMs, longest);
    segments.push({
      chapter: chapterOf(chapter),
      caption,
      kind: "live",
      fromMs,
      toMs,
      seconds: (toMs - fromMs) / 1000 / speed,
      speed,
      drill,
    });
  };

  const beforeFrom = Math.max(drill.recording.startedAtMs, fault - BEFORE_MS);
  still("what breaks", drill.hypothesis, beforeFrom, { kind: "breaks", seconds: CARD_SECONDS.breaks });
  live(
    "what breaks",
    `Healthy before: ${beatOf("before")?.detail ?? "not described"}`,
    beforeFrom,
    fault,
    LONGEST_SECONDS.before,
  );

  // Within the record and behind the fault, whatever clock a time came from: the picture goes forward only.
  const within = (timeMs: number, fromMs: number) => Math.min(endMs, Math.max(fromMs, timeMs));
  const effectMs = within(effect?.timeMs ?? beatOf("fault")?.endedAtMs ?? fault, fault);
  live("effect", `Fault: ${drill.fault}`, fault, effectMs, LONGEST_SECONDS.effect);
  const proof = effect
    ? `Effect proven ${formatOffset(effectMs - fault)}: ${effect.proof}`
    : "No effect was seen: this drill proves nothing.";
  still("effect", proof, effectMs);

  const recoveredMs = markOf("recovered");
  const healedMs = Math.max(recoveredMs ?? 0, markOf("healed") ?? 0, beatOf("healed")?.endedAtMs ?? 0);
  const healedByMs = Math.min(endMs, Math.max(healedMs, effectMs));
  // Stops on the way: commands that were typed, and the moment of the recovery.
  const typed = drill.commands.filter(({ timeMs }) => timeMs >= fault && timeMs <= endMs).slice(0, READ_COMMANDS);
  const stops: { atMs: number; chapter: Chapter; caption: string; more: Partial<Segment> }[] = typed.map((command) => ({
    atMs: within(command.timeMs, effectMs),
    chapter: "effect",
    caption: "What an operator types to see it, and what the cluster answers",
    more: { kind: "reading", seconds: readSeconds(command), command },
  }));
  if (recoveredMs !== undefined && recovery) {
    const words = recovery.measured_ms <= recovery.budget_ms ? "within its budget of" : "over its budget of";
    stops.push({
      atMs: within(recoveredMs, effectMs),
      chapter: "healing",
      caption: recovery.below
        ? `No outage was seen: below ${formatMs(recovery.measured_ms)}, of its budget of ${formatMs(recovery.budget_ms)}`
        : `Recovered after ${formatMs(recovery.measured_ms)}, ${words} ${formatMs(recovery.budget_ms)}`,
      more: {},
    });
  }
  const healing = "Healing: until the newest stored event is as fresh as before and nothing waits in Kafka";
  const proven = `Proven by traffic: ${beatOf("proven")?.detail ?? "it did not come to that"}`;
  let atMs = effectMs;
  const goTo = (toMs: number) => {
    const calmMs = Math.min(toMs, Math.max(atMs, Math.min(effectMs + AFTER_EFFECT_MS, healedByMs)));
    // Right behind the effect at its own speed: that is what one wants to see.
    live("effect", proof, atMs, calmMs, Number.POSITIVE_INFINITY);
    const isRecovered = recoveredMs !== undefined && atMs >= recoveredMs;
    const share = healedByMs > effectMs ? Math.max(0.2, (toMs - calmMs) / (healedByMs - effectMs)) : 1;
    live(
      "healing",
      isRecovered ? "Events flow as before; the last pods get Ready" : healing,
      Math.max(calmMs, atMs),
      Math.min(toMs, healedByMs),
      LONGEST_SECONDS.healing * share,
    );
    live("proof", proven, Math.max(calmMs, atMs, healedByMs), toMs, LONGEST_SECONDS.proof);
    atMs = Math.max(atMs, toMs);
  };
  for (const stop of stops.toSorted((a, b) => a.atMs - b.atMs)) {
    goTo(stop.atMs);
    still(stop.chapter, stop.caption, stop.atMs, stop.more);
  }
  goTo(endMs);
  still("verdict", drill.reasons.join("; ") || "The verdict", endMs, {
    kind: "verdict",
    seconds: CARD_SECONDS.verdict,
  });
  return inOrder(segments);
}

/** Chapters go forward: one that has begun is not left for an earlier one. */
function inOrder(segments: Segment[]): Segment[] {
  let furthest = 0;
  return segments.map((segment) => {
    const [, head = "", chapter = ""] = /^(.*: )(.*?)$/.exec(segment.chapter) ?? [];
    const at = (CHAPTERS as readonly string[]).indexOf(chapter);
    furthest = Math.max(furthest, at);
    return { ...segment, chapter: `${head}${CHAPTERS[furthest]}` };
  });
}

export const secondsOf = (segments: readonly Segment[]): number =>
  segments.reduce((sum, { seconds }) => sum + seconds, 0);

/**
 * The plan of a run's video. Fewer drills are shown where more would take longer than the limit.
 * @throws Error for a run without any drill: there is nothing to show.
 */
export function planVideo(result: DrillsResult): VideoPlan {
  const runId = result.facts.id;
  for (let limit = MAX_DRILLS; limit >= 1; limit--) {
    const drills = drillsToShow(result, limit);
    const [first] = drills;
    if (!first) throw new Error(`run ${runId} has no drill that a video could show`);
    const last = drills.at(-1)!;
    const card = (kind: "title" | "end", chapter: string, atMs: number): Segment => ({
      chapter,
      caption: "",
      kind,
      fromMs: atMs,
      toMs: atMs,
      seconds: CARD_SECONDS[kind],
      speed: 0,
    });
    const segments = [
      card("title", "Title", first.recording.startedAtMs),
      ...drills.flatMap((drill, index) => drillSegments(drill, index + 1)),
      card("end", "Verdict of the whole run", lastMs(last)),
    ];
    if (secondsOf(segments) <= MAX_VIDEO_SECONDS) return { runId, drills, segments };
  }
  throw new Error(`run ${runId}: no drill fits into a video of ${plural(MAX_VIDEO_SECONDS, "second")}`);
}

export interface FramePlan {
  segment: Segment;
  /** Moment of the record. */
  stateMs: number;
  /** Since the segment's begin. */
  second: number;
}

/** One entry per frame. */
export function framesOf(plan: Pick<VideoPlan, "segments">, framesPerSecond: number): FramePlan[] {
  const frames: FramePlan[] = [];
  let dueSeconds = 0;
  for (const segment of plan.segments) {
    const startSeconds = dueSeconds;
    dueSeconds += segment.seconds;
    // By the whole video's clock, so that roundings do not add up.
    const [first, end] = [Math.round(startSeconds * framesPerSecond), Math.round(dueSeconds * framesPerSecond)];
    for (let frame = first; frame < end; frame++) {
      const second = (frame - first) / framesPerSecond;
      const share = segment.seconds > 0 ? Math.min(1, second / segment.seconds) : 0;
      frames.push({ segment, second, stateMs: segment.fromMs + share * (segment.toMs - segment.fromMs) });
    }
  }
  return frames;
}

/** Chapters with their begin and end in the video. */
export function chaptersOf(plan: Pick<VideoPlan, "segments">): { title: string; startMs: number; endMs: number }[] {
  const chapters: { title: string; startMs: number; endMs: number }[] = [];
  let atMs = 0;
  for (const { chapter, seconds } of plan.segments) {
    const endMs = atMs + seconds * 1000;
    const last = chapters.at(-1);
    if (last?.title === chapter) last.endMs = Math.round(endMs);
    else chapters.push({ title: chapter, startMs: Math.round(atMs), endMs: Math.round(endMs) });
    atMs = endMs;
  }
  return chapters;
}
