/**
 * Acknowledged events in batches of Kafka's log that cannot be read. Their identities are unknown, so that they are found
 * by exclusion: events that are in no other place of the log, and for which the batches have room.
 */
import type { LogRecord, UnreadableRecord } from "./history.ts";
import { entryOf, type IdentityTable } from "./identity-table.ts";

/** Sequence numbers of a conveyor on both sides of a partition's unreadable batches. */
interface Neighbours {
  /** Highest number below the first of these batches. */
  below: number;
  /** Lowest number above the last one. */
  above: number;
}

interface UnreadablePartition {
  partition: number;
  first: number;
  last: number;
  /** By run and conveyor; events in order (invariant O1) lie between them. */
  neighbours: Map<string, Neighbours>;
}

/** Batches that a detail names: one line stays readable. */
const MAX_PLACES = 5;

const keyOf = ({ run, conveyor }: { run: string; conveyor: string }) => `${run}\n${conveyor}`;

export class UnreadableBatches {
  readonly #partitions = new Map<number, UnreadablePartition>();
  /** Runs and conveyors of the log: an event of another one can be in any of the batches. */
  readonly #listed = new Set<string>();

  constructor(private readonly batches: readonly UnreadableRecord[]) {
    for (const { partition, first_offset, last_offset } of batches) {
      const range = entryOf(this.#partitions, partition, () => ({
        partition,
        first: first_offset,
        last: last_offset,
        neighbours: new Map<string, Neighbours>(),
      }));
      range.first = Math.min(range.first, first_offset);
      range.last = Math.max(range.last, last_offset);
    }
  }

  /** Whether an offset is in one of the batches. A reader without a check of the CRC may return its records. */
  covers(partition: number, offset: number): boolean {
    return (
      this.#partitions.has(partition) &&
      this.batches.some(
        (batch) => batch.partition === partition && offset >= batch.first_offset && offset <= batch.last_offset,
      )
    );
  }

  /** Adds a record that the first reader found. */
  add(record: LogRecord): void {
    if (this.batches.length === 0) return;
    const key = keyOf(record);
    this.#listed.add(key);
    const range = this.#partitions.get(record.partition);
    if (!range) return;
    const neighbours = entryOf(range.neighbours, key, () => ({ below: -1, above: Number.POSITIVE_INFINITY }));
    if (record.offset < range.first) neighbours.below = Math.max(neighbours.below, record.seq);
    else if (record.offset > range.last) neighbours.above = Math.min(neighbours.above, record.seq);
  }

  /**
   * Marks acknowledged events that may be in the batches. None when there are more of them than the batches have records:
   * some are certainly lost then, and nothing tells which.
   * @param partitionAndOffset where an event was acknowledged, if that was recorded
   */
  mark(table: IdentityTable, partitionAndOffset: (position: number) => { partition: number; offset: number }): void {
    if (this.batches.length === 0) return;
    const found = table.list(
      (word) => word("acknowledged") & ~word("log"),
      (identity) => {
        const position = table.position(identity);
        if (position !== undefined) {
          const { partition, offset } = partitionAndOffset(position);
          return this.covers(partition, offset);
        }
        const key = keyOf(identity);
        if (!this.#listed.has(key)) return true;
        return [...this.#partitions.values()].some(({ neighbours }) => {
          const between = neighbours.get(key);
          return between !== undefined && identity.seq > between.below && identity.seq < between.above;
        });
      },
      this.#records,
    );
    for (const identity of found ?? []) table.add("unreadable", identity);
  }

  get #records(): number {
    return this.batches.reduce((sum, { first_offset, last_offset }) => sum + last_offset - first_offset + 1, 0);
  }

  /** The places for a verdict's detail; empty without such a batch. */
  toString(): string {
    const places = this.batches.slice(0, MAX_PLACES).map(({ partition, first_offset, last_offset, reason }) => {
      return `partition ${partition}: offsets ${first_offset} to ${last_offset} cannot be read: ${reason}`;
    });
    const more = this.batches.length - places.length;
    return [...places, ...(more > 0 ? [`${more} more batches`] : [])].join("; ");
  }
}
