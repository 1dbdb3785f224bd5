/**
 * The metadata of an offset that the processor commits, as JSON text. Kafka keeps it with the offset, so it outlives every
 * pod: the leader epoch shows later whether the log was truncated below the offset, and the counters keep what was found.
 */
export interface CommitMetadata {
  /** Leader epoch of the record before the offset; undefined when unknown. */
  epoch?: number | undefined;
  /** Events that Kafka deleted before the group read them, since the group's first commit. */
  deletedUnread: number;
  /** How often the log was found to have lost records that the group had read. */
  truncations: number;
  /** When one of the two was last found (ms since 1970). */
  foundAtMs?: number | undefined;
}

/** Older versions and other programs write none, or something else: then nothing is known. */
export function readCommitMetadata(text: string | null | undefined): CommitMetadata {
  try {
    const { epoch, deleted_unread, truncations, found_at_ms } = JSON.parse(text || "{}") as Record<string, unknown>;
    const natural = (value: unknown) =>
      Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
    return {
      epoch: natural(epoch),
      deletedUnread: natural(deleted_unread) ?? 0,
      truncations: natural(truncations) ?? 0,
      foundAtMs: natural(found_at_ms),
    };
  } catch {
    return { deletedUnread: 0, truncations: 0 };
  }
}

export function writeCommitMetadata({ epoch, deletedUnread, truncations, foundAtMs }: CommitMetadata): string {
  return JSON.stringify({
    epoch,
    ...(deletedUnread > 0 ? { deleted_unread: deletedUnread } : {}),
    ...(truncations > 0 ? { truncations } : {}),
    found_at_ms: foundAtMs,
  });
}
