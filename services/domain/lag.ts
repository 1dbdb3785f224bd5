/** How far a group is behind in one partition. */

export interface PartitionLag {
  partition: number;
  /** Offset of the next event. */
  end: number;
  lag: number;
}

/**
 * Events between the group's commit and the partition's end. Offsets are decimal text, as Kafka's clients give them.
 * @param committed negative when the group never committed here: then everything that is still there counts.
 */
export function lagOf(low: string, high: string, committed: string): number {
  const from = Number(committed) < 0 ? Number(low) : Math.max(Number(committed), Number(low));
  // A commit just after the ends were read lies beyond them.
  return Math.max(0, Number(high) - from);
}
