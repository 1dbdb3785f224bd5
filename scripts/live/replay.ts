/** The replay of a run from its record: the state of the live page at any moment. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Row, SeriesName } from "../recording/recording.ts";
import type { DrillsResult } from "../recording/result.ts";
import { RECORD_FILE, type RecordEntry, readRecord } from "../recording/run-record.ts";
import { applyEntry, emptyState, type LiveState } from "./live-state.ts";

/** Entries made from result.json alone: everything but pods, alerts over time, and a drill's counts before its end. */
export function entriesOfResult(result: DrillsResult): RecordEntry[] {
  const entries = result.drills.flatMap((drill, index): RecordEntry[] => {
    const { name, title, hypothesis, fault, repeat, recording, beats, commands, logLines, ledger, verdict, recovery } =
      drill;
    const endMs = Math.max(recording.endedAtMs, beats.at(-1)?.endedAtMs ?? 0);
    const number = index + 1;
    return [
      {
        timeMs: recording.startedAtMs,
        drill: { name, title, hypothesis, fault, repeat, number, count: result.drills.length },
      },
      ...recording.timesMs.map((timeMs, at): RecordEntry => {
        const row: Row = {};
        for (const [series, values] of Object.entries(recording.series)) row[series as SeriesName] = values[at] ?? null;
        return { timeMs, row };
      }),
      ...recording.marks.map((mark) => ({ timeMs: mark.timeMs, marksAdded: [mark] })),
      ...beats.map((beat) => ({ timeMs: beat.startedAtMs, beat: beat.name })),
      ...commands.map((command) => ({ timeMs: command.timeMs, commandsAdded: [command] })),
      ...logLines.map((line) => ({ timeMs: line.timeMs, linesAdded: [line] })),
      { timeMs: endMs, ledger, finished: { name, title, repeat, verdict, recovery } },
    ];
  });
  return entries.toSorted((a, b) => a.timeMs - b.timeMs);
}

/**
 * Entries of a run's result, and what only its record has (pods, alerts, counts before the end). What both have is taken
 * from the result, where alerts and log lines that were collected later have their own time.
 */
export function mergedEntries(result: DrillsResult, record: readonly RecordEntry[]): RecordEntry[] {
  const onlyRecord = record.flatMap(({ timeMs, pods, alerts, ledger }): RecordEntry[] =>
    pods || alerts || ledger ? [{ timeMs, pods, alerts, ledger }] : [],
  );
  return [...entriesOfResult(result), ...onlyRecord].toSorted((a, b) => a.timeMs - b.timeMs);
}

/** Entries of the run in a folder; without a record, those of its result alone. */
export async function entriesOfRun(folder: string, result: DrillsResult): Promise<RecordEntry[]> {
  const path = join(folder, RECORD_FILE);
  return mergedEntries(result, existsSync(path) ? await readRecord(path) : []);
}

/** States at ascending moments; an earlier moment replays from the start. */
export class Replay {
  #state: LiveState;
  #next = 0;

  constructor(
    private readonly runId: string,
    private readonly entries: readonly RecordEntry[],
  ) {
    this.#state = this.#begin();
  }

  #begin(): LiveState {
    return emptyState(this.runId, this.entries[0]?.timeMs ?? 0);
  }

  /** The state at a moment. The same object each time, changed in place. */
  at(timeMs: number): LiveState {
    if (timeMs < this.#state.timeMs) {
      this.#state = this.#begin();
      this.#next = 0;
    }
    while (this.#next < this.entries.length && this.entries[this.#next]!.timeMs <= timeMs) {
      applyEntry(this.#state, this.entries[this.#next]!);
      this.#next += 1;
    }
    this.#state.timeMs = Math.max(timeMs, this.#state.timeMs);
    return this.#state;
  }
}
