/** The state of the live page: entries of a run's record are applied one by one. */
import type { Mark, Recording, Row, SeriesName } from "../recording/recording.ts";
import type { Ledger, LogLine, OperatorCommand, PhaseName } from "../recording/result.ts";
import type { AlertStatus, DrillStart, FinishedDrill, PodStatus, RecordEntry } from "../recording/run-record.ts";

/** Bounds of the lists: more than a page shows; a run takes up to an hour. */
const KEPT_ROWS = 1200;
const KEPT_MARKS = 200;
const KEPT_LINES = 200;
const KEPT_COMMANDS = 40;

export interface LiveState {
  runId: string;
  startedAtMs: number;
  timeMs: number;
  rows: { timeMs: number; row: Row }[];
  marks: Mark[];
  drill: DrillStart | undefined;
  /** When the present drill began. */
  drillStartedAtMs: number;
  /** Phases of the present drill so far, with the time at which each began. */
  phases: { name: PhaseName; startedAtMs: number }[];
  pods: readonly PodStatus[];
  alerts: readonly AlertStatus[];
  lines: LogLine[];
  commands: OperatorCommand[];
  ledger: Partial<Ledger>;
  finished: FinishedDrill[];
  /** The next drill, while the run waits for its interval. */
  waiting: RecordEntry["waiting"];
}

export const emptyState = (runId: string, startedAtMs: number): LiveState => ({
  runId,
  startedAtMs,
  timeMs: startedAtMs,
  rows: [],
  marks: [],
  drill: undefined,
  drillStartedAtMs: startedAtMs,
  phases: [],
  pods: [],
  alerts: [],
  lines: [],
  commands: [],
  ledger: {},
  finished: [],
  waiting: undefined,
});

function added<T>(list: T[], more: readonly T[] | undefined, kept: number): void {
  if (!more) return;
  list.push(...more);
  if (list.length > kept) list.splice(0, list.length - kept);
}

/** Applies an entry to the state, in place. */
export function applyEntry(state: LiveState, entry: RecordEntry): void {
  state.timeMs = Math.max(state.timeMs, entry.timeMs);
  if (entry.row) added(state.rows, [{ timeMs: entry.timeMs, row: entry.row }], KEPT_ROWS);
  added(state.marks, entry.marksAdded, KEPT_MARKS);
  added(state.lines, entry.linesAdded, KEPT_LINES);
  added(state.commands, entry.commandsAdded, KEPT_COMMANDS);
  state.waiting = entry.waiting ?? state.waiting;
  if (entry.drill) {
    state.waiting = undefined;
    state.drill = entry.drill;
    state.drillStartedAtMs = entry.timeMs;
    state.phases = [{ name: "before", startedAtMs: entry.timeMs }];
    state.ledger = {};
  }
  if (entry.beat && state.phases.at(-1)?.name !== entry.beat) {
    state.phases.push({ name: entry.beat, startedAtMs: entry.timeMs });
  }
  state.pods = entry.pods ?? state.pods;
  state.alerts = entry.alerts ?? state.alerts;
  if (entry.ledger) state.ledger = { ...state.ledger, ...entry.ledger };
  if (entry.finished) state.finished.push(entry.finished);
}

/** The state's rows between two moments as a recording, for charts. */
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
