/** The lag of a consumer group in one partition. */
export interface PartitionLag {
  partition: number;
  /** Offset of the next event. */
  end: number;
  lag: number;
}

/**
 * Events between the group's commit and the partition's end. Offsets are decimal text, as kafkajs returns them.
 * @param committed negative without a commit: then all remaining events count.
 */
export function lagOf(low: string, high: string, committed: string): number {
  const from = Number(committed) < 0 ? Number(low) : Math.max(Number(committed), Number(low));
  // A commit may be later than the reading of the end.
  return Math.max(0, Number(high) - from);
}
