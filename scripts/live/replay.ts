/** A run played again from its record: its states at any moment, as the live page had them. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SeriesName, Value } from "../recording/recording.ts";
import type { DrillsResult } from "../recording/result.ts";
import { applyPatch, emptyState, LIVE_FILE, type LivePatch, type LiveState, readPatches } from "./live-state.ts";

/**
 * Patches made from result.json alone, for a run whose live page kept none: everything but the pods, the alerts'
 * comings and goings, and the counts of a drill before its end.
 */
export function patchesOfResult(result: DrillsResult): LivePatch[] {
  const patches = result.drills.flatMap((drill, index): LivePatch[] => {
    const { name, title, hypothesis, fault, repeat, recording, beats, commands, logLines, ledger, verdict, recovery } =
      drill;
    const endMs = Math.max(recording.endedAtMs, beats.at(-1)?.endedAtMs ?? 0);
    const number = index + 1;
    return [
      {
        timeMs: recording.startedAtMs,
        drill: { name, title, hypothesis, fault, repeat, number, count: result.drills.length },
      },
      ...recording.timesMs.map((timeMs, at): LivePatch => {
        const row: Partial<Record<SeriesName, Value>> = {};
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
  return patches.toSorted((a, b) => a.timeMs - b.timeMs);
}

/**
 * All that is known of a run: its result, and what only the live page was told (pods, alerts, counts on the way). What
 * both have is taken from the result: alerts and log lines that were found later stand there at their own time.
 */
export function mergedPatches(result: DrillsResult, live: readonly LivePatch[]): LivePatch[] {
  const onlyLive = live.flatMap(({ timeMs, pods, alerts, ledger }): LivePatch[] =>
    pods || alerts || ledger ? [{ timeMs, pods, alerts, ledger }] : [],
  );
  return [...patchesOfResult(result), ...onlyLive].toSorted((a, b) => a.timeMs - b.timeMs);
}

/** Patches of the run whose folder that is; a run without a live record has those of its result alone. */
export async function patchesOfRun(folder: string, result: DrillsResult): Promise<LivePatch[]> {
  const path = join(folder, LIVE_FILE);
  return mergedPatches(result, existsSync(path) ? await readPatches(path) : []);
}

/** States at ascending moments; going back begins again. */
export class Replay {
  #state: LiveState;
  #next = 0;

  constructor(
    private readonly runId: string,
    private readonly patches: readonly LivePatch[],
  ) {
    this.#state = this.#begin();
  }

  #begin(): LiveState {
    return emptyState(this.runId, this.patches[0]?.timeMs ?? 0);
  }

  /** The state as it was at that moment. The same object each time, changed in place. */
  at(timeMs: number): LiveState {
    if (timeMs < this.#state.timeMs) {
      this.#state = this.#begin();
      this.#next = 0;
    }
    while (this.#next < this.patches.length && this.patches[this.#next]!.timeMs <= timeMs) {
      applyPatch(this.#state, this.patches[this.#next]!);
      this.#next += 1;
    }
    this.#state.timeMs = Math.max(timeMs, this.#state.timeMs);
    return this.#state;
  }
}
