/** Ranges of acknowledged sequence numbers by run and conveyor, gathered from several ledgers or checkpoints. Pure. */
import type { Range } from "./sequence.ts";

export type RangesByRun = Map<string, Map<string, Range[]>>;

/** How many numbers ranges hold that do not overlap. */
export const countOf = (ranges: readonly Range[]): number =>
  ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);

/** Merges ranges in any order, overlapping or adjacent, into as few as possible. */
export function mergeRanges(ranges: readonly Range[]): Range[] {
  const merged: Range[] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = merged.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}

/** Adds ranges of a conveyor. Returns by how many ranges the list has grown; fewer than 0 when gaps were closed. */
export function addRanges(target: RangesByRun, run: string, conveyor: string, ranges: readonly Range[]): number {
  const conveyors = target.get(run) ?? new Map<string, Range[]>();
  target.set(run, conveyors);
  const held = conveyors.get(conveyor) ?? [];
  conveyors.set(conveyor, held);
  const before = held.length;
  // Ranges below the lowest new number stay as they are; checkpoints mostly append.
  const lowest = ranges.reduce((least, [first]) => Math.min(least, first), Number.POSITIVE_INFINITY);
  let from = held.length;
  while (from > 0 && held[from - 1]![1] >= lowest - 1) from--;
  for (const range of mergeRanges([...held.splice(from), ...ranges])) held.push(range);
  return held.length - before;
}

/** Adds the ranges of a ledger, by run and conveyor. Returns by how many ranges the lists have grown. */
export function addLedger(target: RangesByRun, ledger: Record<string, Record<string, Range[]>>): number {
  let growth = 0;
  for (const [run, conveyors] of Object.entries(ledger)) {
    for (const [conveyor, ranges] of Object.entries(conveyors)) growth += addRanges(target, run, conveyor, ranges);
  }
  return growth;
}
