/**
 * The metadata of an offset that the processor commits, as JSON text. It is stored with the offset, so it outlives every
 * pod: the leader epoch shows whether the log was truncated below the offset, and the counter keeps what was lost.
 */
export interface CommitMetadata {
  /** Leader epoch of the record before the offset; undefined when unknown. */
  epoch?: number | undefined;
  /** Events that Kafka deleted before the group read them, since the group's first commit. */
  deletedUnread: number;
  /** When the last of them were found missing (ms since 1970). */
  deletedAtMs?: number | undefined;
}

/** Other members of the group, and older versions, write none or something else: then nothing is known. */
export function readCommitMetadata(text: string | null | undefined): CommitMetadata {
  try {
    const { epoch, deleted_unread, deleted_at_ms } = JSON.parse(text || "{}") as Record<string, unknown>;
    const natural = (value: unknown) =>
      Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
    return { epoch: natural(epoch), deletedUnread: natural(deleted_unread) ?? 0, deletedAtMs: natural(deleted_at_ms) };
  } catch {
    return { deletedUnread: 0 };
  }
}

export function writeCommitMetadata({ epoch, deletedUnread, deletedAtMs }: CommitMetadata): string {
  return JSON.stringify({
    ...(epoch === undefined ? {} : { epoch }),
    ...(deletedUnread > 0 ? { deleted_unread: deletedUnread, deleted_at_ms: deletedAtMs } : {}),
  });
}
