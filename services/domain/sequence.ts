/**
 * The acknowledged sequence numbers as ranges, which an audit compares with the database. Acknowledgements of one
 * conveyor arrive in order, so a run of any length is normally one range.
 */

/** Closed ranges [first, last], ascending, never touching each other. */
export type Range = [first: number, last: number];

export class SequenceRanges {
  readonly #ranges: Range[] = [];
  #count = 0;
  #changedFrom = Number.POSITIVE_INFINITY;

  /** Of different sequence numbers. */
  get count(): number {
    return this.#count;
  }

  get size(): number {
    return this.#ranges.length;
  }

  /** Adds one number; false when it was added before. */
  add(seq: number): boolean {
    const ranges = this.#ranges;
    const last = ranges[ranges.length - 1];
    if (last === undefined || seq > last[1] + 1) {
      ranges.push([seq, seq]);
    } else if (seq === last[1] + 1) {
      last[1] = seq;
    } else {
      // Out of order or repeated: find the first range that ends at seq - 1 or later.
      let low = 0;
      let high = ranges.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (ranges[middle]![1] < seq - 1) low = middle + 1;
        else high = middle;
      }
      const range = ranges[low]!;
      if (seq >= range[0] && seq <= range[1]) return false;
      if (seq === range[1] + 1) {
        range[1] = seq;
        const next = ranges[low + 1];
        if (next && next[0] === seq + 1) {
          range[1] = next[1];
          ranges.splice(low + 1, 1);
        }
      } else if (seq === range[0] - 1) {
        range[0] = seq;
      } else {
        ranges.splice(low, 0, [seq, seq]);
      }
    }
    this.#count++;
    if (seq < this.#changedFrom) this.#changedFrom = seq;
    return true;
  }

  /** True when a number was added since the last takeChanges(). */
  get isChanged(): boolean {
    return this.#changedFrom < Number.POSITIVE_INFINITY;
  }

  /** Ranges that contain every number added since the last call, and possibly others; ascending. */
  takeChanges(): Range[] {
    let from = this.#ranges.length;
    while (from > 0 && this.#ranges[from - 1]![1] >= this.#changedFrom) from--;
    this.#changedFrom = Number.POSITIVE_INFINITY;
    return this.#ranges.slice(from).map(([first, last]) => [first, last]);
  }

  /** Removes the `most` lowest ranges. Returns how many numbers they held. */
  dropLowest(most: number): number {
    let dropped = 0;
    for (const [first, last] of this.#ranges.splice(0, most)) dropped += last - first + 1;
    this.#count -= dropped;
    return dropped;
  }

  has(seq: number): boolean {
    return this.#ranges.some(([first, last]) => seq >= first && seq <= last);
  }

  toJSON(): Range[] {
    return this.#ranges.map(([first, last]) => [first, last]);
  }
}

export interface LedgerEntry {
  run: string;
  conveyor: string;
  ranges: Range[];
}

/** Pairs of run and conveyor: a fleet has tens; the limit bounds the memory when an HTTP client sends random names. */
const MAX_LEDGER_ENTRIES = 10_000;
/**
 * Ranges of all pairs together: some 50 MB, and as much again while /ledger is answered, in a pod of 384 MiB. Only gaps
 * in seq need more than one range per pair.
 */
const MAX_LEDGER_RANGES = 500_000;

interface Acknowledged {
  run: string;
  conveyor: string;
  ranges: SequenceRanges;
}

/** Acknowledged sequence numbers per run and conveyor, bounded; `dropped` counts those that a bound removed. */
export class Ledger {
  /** Ascending by the time of their last checkpoint, or of their first number. */
  readonly #entries = new Map<string, Acknowledged>();
  readonly #maxEntries: number;
  readonly #maxRanges: number;
  #rangeCount = 0;
  /** Acknowledged numbers that are no longer listed (0 unless a bound was reached). */
  dropped = 0;
  /** Acknowledgements of listed numbers: the source sent an identity again. A repeated number that was dropped is not counted. */
  repeated = 0;

  constructor({ maxEntries = MAX_LEDGER_ENTRIES, maxRanges = MAX_LEDGER_RANGES } = {}) {
    this.#maxEntries = maxEntries;
    this.#maxRanges = maxRanges;
  }

  add(run: string, conveyor: string, seq: number): void {
    const key = `${run}\n${conveyor}`;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      if (this.#entries.size >= this.#maxEntries) this.#dropOldestEntry();
      entry = { run, conveyor, ranges: new SequenceRanges() };
      this.#entries.set(key, entry);
    }
    const before = entry.ranges.size;
    if (!entry.ranges.add(seq)) this.repeated++;
    this.#rangeCount += entry.ranges.size - before;
    if (this.#rangeCount > this.#maxRanges) this.#dropLowestRanges();
  }

  #dropOldestEntry(): void {
    const [key, { ranges }] = this.#entries.entries().next().value!;
    this.#entries.delete(key);
    this.#rangeCount -= ranges.size;
    this.dropped += ranges.count;
  }

  /** Halves the ledger, so that the cost per number stays constant: each pair keeps the newest ranges of its equal share. */
  #dropLowestRanges(): void {
    const share = Math.max(1, Math.floor(this.#maxRanges / 2 / this.#entries.size));
    for (const { ranges } of this.#entries.values()) {
      const excess = ranges.size - share;
      if (excess <= 0) continue;
      this.dropped += ranges.dropLowest(excess);
      this.#rangeCount -= excess;
    }
  }

  /**
   * At most `most` entries that changed since the last call, with their new ranges. Entries that were returned go behind
   * all others, so that the next calls return those first.
   */
  takeChanges(most: number): LedgerEntry[] {
    const changed: [string, Acknowledged][] = [];
    for (const entry of this.#entries) {
      if (!entry[1].ranges.isChanged) continue;
      if (changed.length >= most) break;
      changed.push(entry);
    }
    return changed.map(([key, entry]) => {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
      return { run: entry.run, conveyor: entry.conveyor, ranges: entry.ranges.takeChanges() };
    });
  }

  /** Ranges of all pairs. */
  get rangeCount(): number {
    return this.#rangeCount;
  }

  get count(): number {
    let count = 0;
    for (const { ranges } of this.#entries.values()) count += ranges.count;
    return count;
  }

  toJSON(): Record<string, Record<string, Range[]>> {
    const runs: Record<string, Record<string, Range[]>> = Object.create(null);
    for (const { run, conveyor, ranges } of this.#entries.values()) {
      runs[run] ??= Object.create(null) as Record<string, Range[]>;
      runs[run][conveyor] = ranges.toJSON();
    }
    return runs;
  }
}
