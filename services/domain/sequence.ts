/**
 * Which sequence numbers were acknowledged, as ranges: what an audit compares with what it finds in the database.
 * Acknowledgements of one conveyor arrive in order, so a run of any length is normally one range.
 */

/** Closed ranges [first, last], ascending, never touching each other. */
export type Range = [first: number, last: number];

export class SequenceRanges {
  readonly #ranges: Range[] = [];
  #count = 0;
  #changedFrom = Number.POSITIVE_INFINITY;

  /** How many different numbers were added. */
  get count(): number {
    return this.#count;
  }

  /** How many ranges stand for them. */
  get size(): number {
    return this.#ranges.length;
  }

  /** Adds one number; true when it was not there yet. */
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

  /** Something was added since the changes were last taken. */
  get isChanged(): boolean {
    return this.#changedFrom < Number.POSITIVE_INFINITY;
  }

  /** The ranges that hold every number added since the last call, and maybe more; ascending. */
  takeChanges(): Range[] {
    let from = this.#ranges.length;
    while (from > 0 && this.#ranges[from - 1]![1] >= this.#changedFrom) from--;
    this.#changedFrom = Number.POSITIVE_INFINITY;
    return this.#ranges.slice(from).map(([first, last]) => [first, last]);
  }

  has(seq: number): boolean {
    return this.#ranges.some(([first, last]) => seq >= first && seq <= last);
  }

  toJSON(): Range[] {
    return this.#ranges.map(([first, last]) => [first, last]);
  }
}

/** What a ledger lists of one run and conveyor. */
export interface LedgerEntry {
  run: string;
  conveyor: string;
  ranges: Range[];
}

/** (run, conveyor) pairs kept: a fleet has tens; an HTTP client that invents names must not fill the memory. */
export const MAX_LEDGER_ENTRIES = 10_000;
/** Ranges kept per pair: gaps come only from refused or failed events. */
export const MAX_RANGES_PER_ENTRY = 10_000;

/** Acknowledged sequence numbers per run and conveyor, bounded: what is let go is counted, so no audit is misled. */
export class Ledger {
  readonly #entries = new Map<string, { run: string; conveyor: string; ranges: SequenceRanges }>();
  #dropped = 0;
  #repeated = 0;

  constructor(private readonly maxEntries = MAX_LEDGER_ENTRIES) {}

  add(run: string, conveyor: string, seq: number): void {
    const key = `${run}\n${conveyor}`;
    let entry = this.#entries.get(key);
    if (entry === undefined || entry.ranges.size > MAX_RANGES_PER_ENTRY) {
      if (entry !== undefined) {
        this.#dropped += entry.ranges.count;
        this.#entries.delete(key);
      } else if (this.#entries.size >= this.maxEntries) {
        const [oldestKey, oldest] = this.#entries.entries().next().value!;
        this.#dropped += oldest.ranges.count;
        this.#entries.delete(oldestKey);
      }
      entry = { run, conveyor, ranges: new SequenceRanges() };
      this.#entries.set(key, entry);
    }
    if (!entry.ranges.add(seq)) this.#repeated++;
  }

  /** Entries that changed since they were last taken, with their new ranges, at most so many; the rest comes next time. */
  takeChanges(most: number): LedgerEntry[] {
    const changes: LedgerEntry[] = [];
    for (const { run, conveyor, ranges } of this.#entries.values()) {
      if (!ranges.isChanged) continue;
      if (changes.length >= most) break;
      changes.push({ run, conveyor, ranges: ranges.takeChanges() });
    }
    return changes;
  }

  /** Numbers that were acknowledged but are no longer listed (0 unless a bound was reached). */
  get dropped(): number {
    return this.#dropped;
  }

  /** Acknowledgements of a number that had been acknowledged before: the source sent an identity twice. */
  get repeated(): number {
    return this.#repeated;
  }

  /** Different identities listed. */
  get count(): number {
    let count = 0;
    for (const { ranges } of this.#entries.values()) count += ranges.count;
    return count;
  }

  /** { run: { conveyor: [[first, last], …] } } */
  toJSON(): Record<string, Record<string, Range[]>> {
    const runs: Record<string, Record<string, Range[]>> = Object.create(null);
    for (const { run, conveyor, ranges } of this.#entries.values()) {
      runs[run] ??= Object.create(null) as Record<string, Range[]>;
      runs[run][conveyor] = ranges.toJSON();
    }
    return runs;
  }
}
