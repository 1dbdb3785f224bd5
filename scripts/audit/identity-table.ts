/**
 * Several sets of event identities as bitmaps: a million events take a megabyte or two. Sequence numbers of one run and
 * conveyor are stored in chunks of 1,024; a chunk holds one bit per event and set, so that "in this set but not in those"
 * takes a few operations on 32-bit words.
 */
import type { Identity } from "./history.ts";

/** The sets of a judged history. */
const COLUMNS = [
  /** Passed to the producer. */
  "attempted",
  "acknowledged",
  "failed",
  /** Without a certain outcome. */
  "uncertain",
  /** In Kafka, found by the first reader. */
  "log",
  /** In Kafka more than once. */
  "logTwice",
  /** In Kafka, below the offset that the group committed. */
  "logRead",
  /** Acknowledged and not found in Kafka, where unreadable batches may hold it. */
  "unreadable",
  "sink",
  "sinkTwice",
  "dead",
  /** Refused by the database, dead-lettered or not. */
  "refused",
  /** Another event holds its point. */
  "overwritten",
  "written",
  /** Its point says something else than the event in Kafka. */
  "altered",
] as const;
export type Column = (typeof COLUMNS)[number];

const CHUNK_EVENTS = 1024;
const WORD_BITS = 32;
const WORDS = CHUNK_EVENTS / WORD_BITS;
/** A longer range is an error in the record: a billion events are 58 days at 200 a second. */
const MAX_RANGE_EVENTS = 1_000_000_000;

const columnBase = Object.fromEntries(COLUMNS.map((column, index) => [column, index * WORDS])) as Record<
  Column,
  number
>;

interface Chunk {
  words: Uint32Array;
  /** Position in Kafka at which each event was acknowledged, allocated on first use. */
  positions: Float64Array | undefined;
  /** Checksum of what each event says, allocated on first use. */
  values: Uint32Array | undefined;
}

/** Stored instead of a checksum: the event is in the log several times, with different values. */
const VALUES_VARY = 1;

export interface Selection {
  count: number;
  /** The first few. */
  examples: Identity[];
}

/** The word of a set for the 32 events at hand. */
export type Word = (column: Column) => number;
/** Combines words to the word of the selected events. */
type Rule = (word: Word) => number;

/** Examples per selection: enough to find one in the logs, few enough to read. */
const MAX_EXAMPLES = 5;

function bitCount(word: number): number {
  let n = word - ((word >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return (((n + (n >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** The value of a key, created on first use. */
export function entryOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

export class IdentityTable {
  readonly #runs = new Map<string, Map<string, Map<number, Chunk>>>();

  #chunk({ run, conveyor }: Identity, index: number): Chunk {
    const conveyors = entryOf(this.#runs, run, () => new Map<string, Map<number, Chunk>>());
    const chunks = entryOf(conveyors, conveyor, () => new Map<number, Chunk>());
    return entryOf(chunks, index, () => ({
      words: new Uint32Array(COLUMNS.length * WORDS),
      positions: undefined,
      values: undefined,
    }));
  }

  /** The chunk of an event, if it exists. */
  #existing({ run, conveyor, seq }: Identity): Chunk | undefined {
    return this.#runs
      .get(run)
      ?.get(conveyor)
      ?.get(Math.floor(seq / CHUNK_EVENTS));
  }

  *#chunks(): Generator<Chunk & { run: string; conveyor: string; firstSeq: number }> {
    for (const [run, conveyors] of this.#runs) {
      for (const [conveyor, chunks] of conveyors) {
        for (const [index, chunk] of chunks) yield { ...chunk, run, conveyor, firstSeq: index * CHUNK_EVENTS };
      }
    }
  }

  /** Adds one event to a set. Returns whether it was new. */
  add(column: Column, identity: Identity): boolean {
    const { seq } = identity;
    if (!Number.isSafeInteger(seq) || seq < 0) throw new Error(`seq: must be an integer from 0; got ${seq}`);
    const { words } = this.#chunk(identity, Math.floor(seq / CHUNK_EVENTS));
    const bit = seq % CHUNK_EVENTS;
    const at = columnBase[column] + (bit >>> 5);
    const before = words[at]!;
    words[at] = before | (1 << (bit & 31));
    return words[at] !== before;
  }

  /** Adds the events `seq` to `last`. Returns how many of them the set held already. */
  addRange(column: Column, identity: Identity, last: number): number {
    const { run, conveyor, seq: first } = identity;
    if (!(last >= first) || last - first >= MAX_RANGE_EVENTS) {
      throw new Error(`last_seq: must be from ${first} on, at most ${MAX_RANGE_EVENTS} events; got ${last}`);
    }
    let repeated = 0;
    for (let seq = first; seq <= last; ) {
      const bit = seq % CHUNK_EVENTS;
      // Complete 32-bit words at once where the range covers them.
      if (bit % WORD_BITS === 0 && last - seq >= WORD_BITS - 1) {
        const { words } = this.#chunk({ run, conveyor, seq }, Math.floor(seq / CHUNK_EVENTS));
        const at = columnBase[column] + (bit >>> 5);
        repeated += bitCount(words[at]!);
        words[at] = 0xffffffff;
        seq += WORD_BITS;
      } else {
        if (!this.add(column, { run, conveyor, seq })) repeated++;
        seq++;
      }
    }
    return repeated;
  }

  has(column: Column, identity: Identity): boolean {
    const words = this.#existing(identity)?.words;
    if (!words) return false;
    const bit = identity.seq % CHUNK_EVENTS;
    return ((words[columnBase[column] + (bit >>> 5)]! >>> (bit & 31)) & 1) === 1;
  }

  /** Stores the position in Kafka at which an event was acknowledged: eight bytes per event of its chunk. */
  setPosition(identity: Identity, position: number): void {
    const chunk = this.#chunk(identity, Math.floor(identity.seq / CHUNK_EVENTS));
    chunk.positions ??= new Float64Array(CHUNK_EVENTS).fill(Number.NaN);
    chunk.positions[identity.seq % CHUNK_EVENTS] = position;
  }

  /** The stored position of an event, if any. */
  position(identity: Identity): number | undefined {
    const position = this.#existing(identity)?.positions?.[identity.seq % CHUNK_EVENTS];
    return position === undefined || Number.isNaN(position) ? undefined : position;
  }

  /** Stores the checksum of what an event says: four bytes per event of its chunk. */
  setValues(identity: Identity, values: number): void {
    const chunk = this.#chunk(identity, Math.floor(identity.seq / CHUNK_EVENTS));
    chunk.values ??= new Uint32Array(CHUNK_EVENTS);
    const at = identity.seq % CHUNK_EVENTS;
    const before = chunk.values[at]!;
    chunk.values[at] = before === 0 || before === values ? values : VALUES_VARY;
  }

  /** The stored checksum; undefined when there is none, or when the log holds several. */
  values(identity: Identity): number | undefined {
    const values = this.#existing(identity)?.values?.[identity.seq % CHUNK_EVENTS];
    return values === undefined || values <= VALUES_VARY ? undefined : values;
  }

  /**
   * Selects the events whose bits satisfy a rule. The rule gets one word of 32 events at a time and combines the sets'
   * words with &, | and ~.
   */
  select(rule: Rule): Selection {
    let count = 0;
    const examples: Identity[] = [];
    let words!: Uint32Array;
    let index = 0;
    const word = (column: Column) => words[columnBase[column] + index]!;
    for (const { run, conveyor, firstSeq, ...chunk } of this.#chunks()) {
      words = chunk.words;
      for (index = 0; index < WORDS; index++) {
        const found = rule(word) >>> 0;
        if (found === 0) continue;
        count += bitCount(found);
        for (let bit = 0; bit < WORD_BITS && examples.length < MAX_EXAMPLES; bit++) {
          if ((found >>> bit) & 1) examples.push({ run, conveyor, seq: firstSeq + index * WORD_BITS + bit });
        }
      }
    }
    return { count, examples };
  }

  /** The events that satisfy a rule and a test; undefined when there are more than `most`. */
  list(rule: Rule, test: (identity: Identity) => boolean, most: number): Identity[] | undefined {
    const found: Identity[] = [];
    let words!: Uint32Array;
    let index = 0;
    const word = (column: Column) => words[columnBase[column] + index]!;
    for (const { run, conveyor, firstSeq, ...chunk } of this.#chunks()) {
      words = chunk.words;
      for (index = 0; index < WORDS; index++) {
        const selected = rule(word);
        for (let bit = 0; selected !== 0 && bit < WORD_BITS; bit++) {
          if (((selected >>> bit) & 1) === 0) continue;
          const identity = { run, conveyor, seq: firstSeq + index * WORD_BITS + bit };
          if (test(identity) && found.push(identity) > most) return undefined;
        }
      }
    }
    return found;
  }

  /** Selects the events whose stored position satisfies a test. */
  countPositions(test: (position: number, identity: Identity) => boolean): Selection {
    let count = 0;
    const examples: Identity[] = [];
    for (const { run, conveyor, firstSeq, positions } of this.#chunks()) {
      for (const [bit, position] of positions?.entries() ?? []) {
        if (Number.isNaN(position)) continue;
        const identity = { run, conveyor, seq: firstSeq + bit };
        if (!test(position, identity)) continue;
        count++;
        if (examples.length < MAX_EXAMPLES) examples.push(identity);
      }
    }
    return { count, examples };
  }
}
