/** A consumer group's position in one partition, from Kafka's offsets. */
import { readCommitMetadata } from "./commit-metadata.ts";

/** The lag of a consumer group in one partition. */
export interface PartitionLag {
  partition: number;
  /** Offset of the oldest event that Kafka has. */
  start: number;
  /** Offset of the next event. */
  end: number;
  lag: number;
  /** Events that Kafka deleted before the group read them, since the group's first commit. */
  deletedUnread: number;
  /** How often the group found that the log had lost records that it had read. */
  truncations: number;
}

/** Offsets as kafkajs returns them, in decimal text. */
interface PartitionOffsets {
  partition: number;
  low: string;
  high: string;
}

/** What the group committed; undefined without a commit, and a negative offset means the same. */
type Committed = { offset: string; metadata?: string | null } | undefined;

/**
 * The lag counts from the commit to the end, deleted events included: it must not fall while Kafka deletes unread events.
 * Without a commit, and with one beyond the end (the log lost its tail), it counts all events of the partition.
 */
export function partitionLag({ partition, low, high }: PartitionOffsets, committed: Committed): PartitionLag {
  const start = Number(low);
  const end = Number(high);
  const offset = Number(committed?.offset ?? -1);
  const { deletedUnread, truncations } = readCommitMetadata(committed?.metadata);
  return {
    partition,
    start,
    end,
    lag: offset < 0 || offset > end ? end - start : end - offset,
    deletedUnread: deletedUnread + (offset < 0 ? 0 : Math.max(0, start - offset)),
    truncations,
  };
}
