/**
 * What a person sees of a run while it goes on, as a state that small patches are added to. The patches are kept in the
 * run's folder (live.ndjson), so that every picture that was there can be made again: the video is made from them.
 */
import { readFile } from "node:fs/promises";
import type { Mark, Recording, SeriesName, Value } from "../recording/recording.ts";
import {
  type DrillRecovery,
  type DrillVerdict,
  type Ledger,
  type LogLine,
  type OperatorCommand,
  PHASES,
  type PhaseName,
} from "../recording/result.ts";

/** Name of the patches' file in a run's folder. */
export const LIVE_FILE = "live.ndjson";

/** What is kept of each kind: more than a page shows, and bounded, since a run may take an hour. */
const KEPT_ROWS = 1200;
const KEPT_MARKS = 200;
const KEPT_LINES = 200;
const KEPT_COMMANDS = 40;

export interface LiveDrill {
  name: string;
  title: string;
  hypothesis: string;
  fault: string;
  /** Which repeat of it, from 1. */
  repeat: number;
  /** Which of all that will run, from 1. */
  number: number;
  count: number;
}

export const POD_STATES = ["ready", "not ready", "ending"] as const;
export interface LivePod {
  name: string;
  /** app.kubernetes.io/name */
  workload: string;
  state: (typeof POD_STATES)[number];
  restarts: number;
}

export interface LiveAlert {
  name: string;
  state: "pending" | "firing";
  severity: string;
}

export interface FinishedDrill {
  name: string;
  title: string;
  repeat: number;
  verdict: DrillVerdict;
  recovery?: DrillRecovery;
}

/** What is new; whole lists replace, `…Added` lists are added. */
export interface LivePatch {
  timeMs: number;
  row?: Partial<Record<SeriesName, Value>>;
  marksAdded?: readonly Mark[];
  /** A drill began. */
  drill?: LiveDrill;
  /** The beat that begins now. */
  beat?: PhaseName;
  pods?: readonly LivePod[];
  alerts?: readonly LiveAlert[];
  linesAdded?: readonly LogLine[];
  commandsAdded?: readonly OperatorCommand[];
  /** What is known by now of the drill's own events. */
  ledger?: Partial<Ledger>;
  finished?: FinishedDrill;
}

export interface LiveState {
  runId: string;
  startedAtMs: number;
  timeMs: number;
  rows: { timeMs: number; row: Partial<Record<SeriesName, Value>> }[];
  marks: Mark[];
  drill: LiveDrill | undefined;
  /** When the present drill began. */
  drillStartedAtMs: number;
  /** Beats of the present drill so far, with the time at which each began. */
  beats: { name: PhaseName; startedAtMs: number }[];
  pods: readonly LivePod[];
  alerts: readonly LiveAlert[];
  lines: LogLine[];
  commands: OperatorCommand[];
  ledger: Partial<Ledger>;
  finished: FinishedDrill[];
}

export const emptyState = (runId: string, startedAtMs: number): LiveState => ({
  runId,
  startedAtMs,
  timeMs: startedAtMs,
  rows: [],
  marks: [],
  drill: undefined,
  drillStartedAtMs: startedAtMs,
  beats: [],
  pods: [],
  alerts: [],
  lines: [],
  commands: [],
  ledger: {},
  finished: [],
});

function added<T>(list: T[], more: readonly T[] | undefined, kept: number): void {
  if (!more) return;
  list.push(...more);
  if (list.length > kept) list.splice(0, list.length - kept);
}

/** Adds a patch to the state, in place. */
export function applyPatch(state: LiveState, patch: LivePatch): void {
  state.timeMs = Math.max(state.timeMs, patch.timeMs);
  if (patch.row) added(state.rows, [{ timeMs: patch.timeMs, row: patch.row }], KEPT_ROWS);
  added(state.marks, patch.marksAdded, KEPT_MARKS);
  added(state.lines, patch.linesAdded, KEPT_LINES);
  added(state.commands, patch.commandsAdded, KEPT_COMMANDS);
  if (patch.drill) {
    state.drill = patch.drill;
    state.drillStartedAtMs = patch.timeMs;
    state.beats = [{ name: "before", startedAtMs: patch.timeMs }];
    state.ledger = {};
  }
  if (patch.beat && state.beats.at(-1)?.name !== patch.beat) {
    state.beats.push({ name: patch.beat, startedAtMs: patch.timeMs });
  }
  state.pods = patch.pods ?? state.pods;
  state.alerts = patch.alerts ?? state.alerts;
  if (patch.ledger) state.ledger = { ...state.ledger, ...patch.ledger };
  if (patch.finished) state.finished.push(patch.finished);
}

/** The beat that follows; the last one is followed by none. */
export const nextPhase = (name: PhaseName): PhaseName | undefined => PHASES[PHASES.indexOf(name) + 1];

/** The state's rows of a stretch of time as a recording, for charts. */
export function recentRecording(state: LiveState, fromMs: number, toMs: number): Recording {
  const rows = state.rows.filter(({ timeMs }) => timeMs >= fromMs && timeMs <= toMs);
  const names = new Set(rows.flatMap(({ row }) => Object.keys(row) as SeriesName[]));
  const series: Recording["series"] = {};
  for (const name of names) series[name] = rows.map(({ row }) => row[name] ?? null);
  return {
    startedAtMs: fromMs,
    endedAtMs: toMs,
    timesMs: rows.map(({ timeMs }) => timeMs),
    series,
    marks: state.marks.filter(({ timeMs }) => timeMs >= fromMs && timeMs <= toMs),
  };
}

/** Patches of a run from its file, in the order of time. A last line that was cut off by a crash is left out. */
export async function readPatches(path: string): Promise<LivePatch[]> {
  const lines = (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  const patches: LivePatch[] = [];
  for (const [index, line] of lines.entries()) {
    try {
      patches.push(JSON.parse(line) as LivePatch);
    } catch (error) {
      if (index < lines.length - 1) throw new Error(`${path}: line ${index + 1} is not JSON`, { cause: error });
    }
  }
  return patches.toSorted((a, b) => a.timeMs - b.timeMs);
}
