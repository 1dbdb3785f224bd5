/** Rebuilds the ledgers of ended producers from the checkpoints that they logged (services/producer/ledger-checkpoints.ts). Pure. */
import { addLedger, type RangesByRun } from "../../services/domain/ledger-ranges.ts";
import { type Range, SequenceRanges } from "../../services/domain/sequence.ts";
import type { LedgerCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";
import { entryOf } from "./identity-table.ts";

/** One producer process, as its checkpoints describe it. */
export interface ProducerLife {
  /** The producer's own run. */
  run: string;
  ledger: RangesByRun;
  /** `ledger` has every acknowledgement: the final checkpoint and all before it were read. */
  isComplete: boolean;
  /** Why not. */
  gap?: string;
  /** Acknowledgements of an identity that had been acknowledged before. */
  repeated: number;
  /** Identities that its ledger dropped: as many repeats may not be counted. */
  dropped: number;
}

/**
 * Groups checkpoints by producer process, from the first one present of each; the same line may come from several
 * sources. A missing line between two others, or a missing final one, makes a process incomplete.
 */
export function producerLives(lines: Iterable<LedgerCheckpoint>): ProducerLife[] {
  interface Gathered {
    numbers: Set<number>;
    last: LedgerCheckpoint;
    ledger: RangesByRun;
  }
  const byRun = new Map<string, Gathered>();
  for (const line of lines) {
    const life = entryOf(byRun, line.run, (): Gathered => ({ numbers: new Set(), last: line, ledger: new Map() }));
    if (life.numbers.has(line.number)) continue;
    life.numbers.add(line.number);
    if (line.number > life.last.number) life.last = line;
    // Later lines repeat and extend earlier ones: merged at once, so that days of lines stay small.
    addLedger(life.ledger, line.ledger);
  }
  return [...byRun].map(([run, { numbers, last, ledger }]) => {
    const first = Math.min(...numbers);
    const missing = last.number - first + 1 - numbers.size;
    const gap = !last.final
      ? "its final checkpoint is missing"
      : missing > 0
        ? `${missing} of its checkpoints are missing`
        : last.dropped > 0
          ? `${last.dropped} identities are not in its ledger any more`
          : undefined;
    return { run, ledger, isComplete: gap === undefined, repeated: last.repeated, dropped: last.dropped, gap };
  });
}

/** Whether a number is in one of the sorted ranges. */
export function isInRanges(ranges: readonly Range[] | undefined, seq: number): boolean {
  if (!ranges) return false;
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [first, last] = ranges[middle]!;
    if (seq < first) high = middle - 1;
    else if (seq > last) low = middle + 1;
    else return true;
  }
  return false;
}

/** Collects sequence numbers of any order into ranges. */
export class RangeCollector {
  readonly #ranges = new Map<string, { run: string; conveyor: string; ranges: SequenceRanges }>();

  add(run: string, conveyor: string, seq: number): void {
    entryOf(this.#ranges, `${run}\n${conveyor}`, () => ({ run, conveyor, ranges: new SequenceRanges() })).ranges.add(
      seq,
    );
  }

  of(run: string, conveyor: string): Range[] {
    return this.#ranges.get(`${run}\n${conveyor}`)?.ranges.toJSON() ?? [];
  }

  *entries(): Generator<{ run: string; conveyor: string; ranges: Range[] }> {
    for (const { run, conveyor, ranges } of this.#ranges.values()) yield { run, conveyor, ranges: ranges.toJSON() };
  }
}
