/**
 * The plan of a video of drills: chapters, captions, and the time of the run's record that each second of the video shows.
 * Pure, so that tests need no browser. The plan contains the playback speed and the pauses, and the video shows them.
 */

import type { MarkKind } from "../recording/recording.ts";
import type { DrillResult, DrillsResult, OperatorCommand, PhaseName } from "../recording/result.ts";
import { byName, faultTimeMs } from "../report/drills-report.ts";
import { formatMs, formatOffset, plural } from "../report/format.ts";
import type { DrillPicture } from "./video-pictures.ts";

/** The limit of the plan of this project. */
export const MAX_VIDEO_SECONDS = 180;
/** As many drills as fit into that time. */
const MAX_DRILLS = 3;
/** Commands with a pause to read them; the others only appear in the terminal. */
const READ_COMMANDS = 2;

const SPEEDS = [1, 2, 4, 8, 16, 32, 64, 128] as const;
/** Longest duration of a part in the video; a longer part is played faster. */
const LONGEST_SECONDS = { before: 3, effect: 5, healing: 9, proof: 5 } as const;
const CARD_SECONDS = { title: 4, breaks: 4, verdict: 4.5, end: 6 } as const;
/** Pause to read a caption. */
const STILL_SECONDS = 2.5;
/** Likewise for a picture of a dashboard. */
const PICTURE_SECONDS = 4;
/** Typing a command, then reading its output: a minimum and a time per line. */
const TYPING_SECONDS = 0.8;
const READ_SECONDS = 2;
const READ_SECONDS_PER_LINE = 0.15;
const MAX_READ_SECONDS = 4.5;
/** Shown of the time before the fault, and in real time after the effect. */
const BEFORE_MS = 5000;
const AFTER_EFFECT_MS = 1500;

export const CHAPTERS = ["what breaks", "effect", "healing", "proof", "verdict"] as const;
type Chapter = (typeof CHAPTERS)[number];

export interface Segment {
  /** Name of the chapter in the video's metadata; segments of one name in a row are one chapter. */
  chapter: string;
  caption: string;
  /** live: playback; still: pause; reading: pause with a command; picture: pause with a dashboard; the others are cards. */
  kind: "live" | "still" | "reading" | "picture" | "title" | "breaks" | "verdict" | "end";
  /** Times of the record, milliseconds since the epoch; equal in a pause. */
  fromMs: number;
  toMs: number;
  seconds: number;
  /** Playback speed; 0 in a pause. */
  speed: number;
  drill?: DrillResult;
  command?: OperatorCommand;
  picture?: DrillPicture;
}

export interface VideoPlan {
  runId: string;
  drills: readonly DrillResult[];
  segments: readonly Segment[];
}

/** Components in the names of drills: a video shows different ones. */
const COMPONENTS = ["processor", "kafka", "broker", "influxdb", "producer"] as const;

/**
 * Selects the drills of the video: failed ones first, then one per component, with a measured effect and recovery. Each is
 * shown in its first repeat.
 */
export function drillsToShow(result: DrillsResult, limit = MAX_DRILLS): DrillResult[] {
  const groups = byName(result.drills);
  const failed = groups.flatMap((repeats) => repeats.find(({ verdict }) => verdict !== "passed") ?? []);
  const suitable = groups
    .map((repeats) => repeats[0]!)
    .filter(
      (drill) =>
        drill.effect && drill.recovery && drill.verdict === "passed" && !failed.some(({ name }) => name === drill.name),
    );
  const componentOf = ({ name }: DrillResult) => COMPONENTS.find((component) => name.includes(component)) ?? name;
  // Of one component the first drill with a measurable outage.
  const first = [...Map.groupBy(suitable, componentOf).values()].map(
    (drills) => drills.find(({ recovery }) => !recovery!.below) ?? drills[0]!,
  );
  const rank = (drill: DrillResult) => {
    const at = (COMPONENTS as readonly string[]).indexOf(componentOf(drill));
    return at < 0 ? COMPONENTS.length : at;
  };
  const varied = first.toSorted((a, b) => rank(a) - rank(b));
  const rest = suitable.filter((drill) => !first.includes(drill));
  const chosen = [...failed, ...varied, ...rest].slice(0, limit);
  // In the order in which they ran, so that the clock goes forward.
  return chosen.toSorted((a, b) => a.recording.startedAtMs - b.recording.startedAtMs);
}

/** The slowest speed at which a part takes no longer than that. */
function speedFor(lengthMs: number, longestSeconds: number): number {
  return SPEEDS.find((speed) => lengthMs / 1000 / speed <= longestSeconds) ?? SPEEDS.at(-1)!;
}

export const lastMs = ({ recording, beats }: DrillResult) =>
  Math.max(recording.endedAtMs, beats.at(-1)?.endedAtMs ?? 0);

function readSeconds({ output }: OperatorCommand): number {
  const lines = output.trimEnd().split("\n").length;
  return TYPING_SECONDS + Math.min(MAX_READ_SECONDS, READ_SECONDS + lines * READ_SECONDS_PER_LINE);
}

/** The segments of one drill, in their order. */
class DrillSegments {
  readonly all: Segment[] = [];

  constructor(
    readonly drill: DrillResult,
    private readonly number: number,
  ) {}

  still(chapter: Chapter, caption: string, atMs: number, more: Partial<Segment> = {}): void {
    this.#add(chapter, { caption, kind: "still", fromMs: atMs, toMs: atMs, seconds: STILL_SECONDS, speed: 0, ...more });
  }

  live(chapter: Chapter, caption: string, fromMs: number, toMs: number, longestSeconds: number): void {
    if (toMs <= fromMs) return;
    const speed = speedFor(toMs - fromMs, longestSeconds);
    this.#add(chapter, { caption, kind: "live", fromMs, toMs, seconds: (toMs - fromMs) / 1000 / speed, speed });
  }

  #furthest = 0;
  #add(chapter: Chapter, segment: Omit<Segment, "chapter" | "drill">): void {
    // Chapters only go forward: a later segment of an earlier chapter belongs to the current one.
    this.#furthest = Math.max(this.#furthest, CHAPTERS.indexOf(chapter));
    const name = `${this.number}. ${this.drill.title}: ${CHAPTERS[this.#furthest]}`;
    this.all.push({ ...segment, chapter: name, drill: this.drill });
  }

  /** A time within the record and not before `fromMs`: times of several clocks may be out of order. */
  within(timeMs: number, fromMs: number): number {
    return Math.min(lastMs(this.drill), Math.max(fromMs, timeMs));
  }
}

const phaseOf = ({ beats: phases }: DrillResult, name: PhaseName) => phases.find((phase) => phase.name === name);
const markTimeOf = ({ recording }: DrillResult, kind: MarkKind) =>
  recording.marks.find((mark) => mark.kind === kind)?.timeMs;

function drillSegments(drill: DrillResult, number: number, pictures: readonly DrillPicture[]): readonly Segment[] {
  const segments = new DrillSegments(drill, number);
  const { effect } = drill;
  const faultMs = faultTimeMs(drill);
  const beforeMs = Math.max(drill.recording.startedAtMs, faultMs - BEFORE_MS);
  const healthy = `Healthy before: ${phaseOf(drill, "before")?.detail ?? "not described"}`;
  segments.still("what breaks", drill.hypothesis, beforeMs, { kind: "breaks", seconds: CARD_SECONDS.breaks });
  segments.live("what breaks", healthy, beforeMs, faultMs, LONGEST_SECONDS.before);

  const effectMs = segments.within(effect?.timeMs ?? phaseOf(drill, "fault")?.endedAtMs ?? faultMs, faultMs);
  const proof = effect
    ? `Effect measured ${formatOffset(effectMs - faultMs)}: ${effect.proof}`
    : "No effect was measured: this drill proves nothing.";
  segments.live("effect", `Fault: ${drill.fault}`, faultMs, effectMs, LONGEST_SECONDS.effect);
  segments.still("effect", proof, effectMs);
  addRecovery(segments, effectMs, proof);
  for (const picture of pictures.filter((one) => one.drill === drill.name)) {
    const more = { kind: "picture", seconds: PICTURE_SECONDS, picture } as const;
    segments.still("proof", picture.caption, lastMs(drill), more);
  }
  segments.still("verdict", drill.reasons.join("; ") || "The verdict", lastMs(drill), {
    kind: "verdict",
    seconds: CARD_SECONDS.verdict,
  });
  return segments.all;
}

interface Pause {
  atMs: number;
  chapter: Chapter;
  caption: string;
  more: Partial<Segment>;
}

/** Pauses after the effect: to read commands, and at the moment of the recovery. */
function pausesOf(segments: DrillSegments, effectMs: number): Pause[] {
  const { drill } = segments;
  const { recovery } = drill;
  const faultMs = faultTimeMs(drill);
  const typed = drill.commands.filter(({ timeMs }) => timeMs >= faultMs && timeMs <= lastMs(drill));
  const pauses: Pause[] = typed.slice(0, READ_COMMANDS).map((command) => ({
    atMs: segments.within(command.timeMs, effectMs),
    chapter: "effect",
    caption: "An operator's command, and its output",
    more: { kind: "reading", seconds: readSeconds(command), command },
  }));
  const recoveredMs = markTimeOf(drill, "recovered");
  if (recoveredMs !== undefined && recovery) {
    const within = recovery.measured_ms <= recovery.budget_ms ? "within" : "over";
    pauses.push({
      atMs: segments.within(recoveredMs, effectMs),
      chapter: "healing",
      caption: recovery.below
        ? `No outage was measurable: below ${formatMs(recovery.measured_ms)}, budget ${formatMs(recovery.budget_ms)}`
        : `Recovered after ${formatMs(recovery.measured_ms)}, ${within} its budget of ${formatMs(recovery.budget_ms)}`,
      more: {},
    });
  }
  return pauses.toSorted((a, b) => a.atMs - b.atMs);
}

/** From the effect to the end of the record, with pauses: at first in real time, then healing, then traffic. */
function addRecovery(segments: DrillSegments, effectMs: number, proof: string): void {
  const { drill } = segments;
  const recoveredMs = markTimeOf(drill, "recovered");
  const healedMs = Math.max(
    recoveredMs ?? 0,
    markTimeOf(drill, "healed") ?? 0,
    phaseOf(drill, "healed")?.endedAtMs ?? 0,
  );
  const healedByMs = segments.within(healedMs, effectMs);
  const healing = "Healing: until the newest stored event is as recent as before and the lag is zero";
  const proven = `Proven by traffic: ${phaseOf(drill, "proven")?.detail ?? "this phase was not reached"}`;
  let atMs = effectMs;
  const playTo = (toMs: number) => {
    const realTimeMs = Math.min(toMs, Math.max(atMs, Math.min(effectMs + AFTER_EFFECT_MS, healedByMs)));
    segments.live("effect", proof, atMs, realTimeMs, Number.POSITIVE_INFINITY);
    const isRecovered = recoveredMs !== undefined && atMs >= recoveredMs;
    const share = healedByMs > effectMs ? Math.max(0.2, (toMs - realTimeMs) / (healedByMs - effectMs)) : 1;
    segments.live(
      "healing",
      isRecovered ? "Events flow as before; the last pods become ready" : healing,
      Math.max(realTimeMs, atMs),
      Math.min(toMs, healedByMs),
      LONGEST_SECONDS.healing * share,
    );
    segments.live("proof", proven, Math.max(realTimeMs, atMs, healedByMs), toMs, LONGEST_SECONDS.proof);
    atMs = Math.max(atMs, toMs);
  };
  for (const pause of pausesOf(segments, effectMs)) {
    playTo(pause.atMs);
    segments.still(pause.chapter, pause.caption, pause.atMs, pause.more);
  }
  playTo(lastMs(drill));
}

export const secondsOf = (segments: readonly Segment[]): number =>
  segments.reduce((sum, { seconds }) => sum + seconds, 0);

/**
 * The plan of a run's video, with as many drills as fit into the limit.
 * @param pictures of the dashboards, shown at the end of their drill
 * @throws Error for a run without a drill.
 */
export function planVideo(result: DrillsResult, pictures: readonly DrillPicture[] = []): VideoPlan {
  const runId = result.facts.id;
  for (let limit = MAX_DRILLS; limit >= 1; limit--) {
    const drills = drillsToShow(result, limit);
    const [first] = drills;
    if (!first) throw new Error(`run ${runId} has no drill to show in a video`);
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
      ...drills.flatMap((drill, index) => drillSegments(drill, index + 1, pictures)),
      card("end", "Verdict of the run", lastMs(last)),
    ];
    if (secondsOf(segments) <= MAX_VIDEO_SECONDS) return { runId, drills, segments };
  }
  throw new Error(`run ${runId}: no drill fits into a video of ${plural(MAX_VIDEO_SECONDS, "second")}`);
}

export interface FramePlan {
  segment: Segment;
  /** Time of the record. */
  stateMs: number;
  /** Since the start of the segment. */
  second: number;
}

export function framesOf(plan: Pick<VideoPlan, "segments">, framesPerSecond: number): FramePlan[] {
  const frames: FramePlan[] = [];
  let dueSeconds = 0;
  for (const segment of plan.segments) {
    const startSeconds = dueSeconds;
    dueSeconds += segment.seconds;
    // By the clock of the complete video, so that rounding errors do not accumulate.
    const [first, end] = [Math.round(startSeconds * framesPerSecond), Math.round(dueSeconds * framesPerSecond)];
    for (let frame = first; frame < end; frame++) {
      const second = (frame - first) / framesPerSecond;
      const share = segment.seconds > 0 ? Math.min(1, second / segment.seconds) : 0;
      frames.push({ segment, second, stateMs: segment.fromMs + share * (segment.toMs - segment.fromMs) });
    }
  }
  return frames;
}

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
