import { describe, expect, test } from "bun:test";
import { readCommitMetadata, writeCommitMetadata } from "../../../services/domain/commit-metadata.ts";
import { partitionLag } from "../../../services/domain/lag.ts";

const lag = (low: number, high: number, offset?: number, metadata?: string | null) =>
  partitionLag(
    { partition: 2, low: String(low), high: String(high) },
    offset === undefined ? undefined : { offset: String(offset), metadata },
  );

describe("partitionLag", () => {
  test("counts from the commit to the end", () => {
    expect(lag(0, 100, 40)).toEqual({ partition: 2, start: 0, end: 100, lag: 60, deletedUnread: 0, truncations: 0 });
    expect(lag(0, 100, 100)).toMatchObject({ lag: 0, deletedUnread: 0 });
  });

  test("counts the marker that ends a transaction until the processor commits it", () => {
    expect(lag(0, 101, 100)).toMatchObject({ lag: 1 });
    expect(lag(0, 101, 101)).toMatchObject({ lag: 0 });
  });

  test("counts all events of a partition without a commit", () => {
    expect(lag(0, 100)).toMatchObject({ lag: 100, deletedUnread: 0 });
    // A group that has never read lost nothing.
    expect(lag(30, 100, -1)).toMatchObject({ lag: 70, deletedUnread: 0 });
  });

  test("does not fall while Kafka deletes unread events, and counts them", () => {
    expect(lag(0, 100, 10)).toMatchObject({ lag: 90, deletedUnread: 0 });
    expect(lag(30, 100, 10)).toMatchObject({ lag: 90, deletedUnread: 20 });
  });

  test("keeps the deleted events of the commit's metadata after the group has moved on", () => {
    const metadata = writeCommitMetadata({ epoch: 4, deletedUnread: 20, truncations: 0, foundAtMs: 1 });
    expect(lag(30, 100, 40, metadata)).toMatchObject({ lag: 60, deletedUnread: 20 });
    expect(lag(50, 100, 40, metadata)).toMatchObject({ lag: 60, deletedUnread: 30 });
  });

  test("a commit beyond the end does not look healthy: the log lost its tail", () => {
    expect(lag(0, 100, 105)).toMatchObject({ lag: 100, deletedUnread: 0 });
  });
});

describe("the commit's metadata", () => {
  test("is read as it was written", () => {
    const metadata = { epoch: 7, deletedUnread: 12, truncations: 1, foundAtMs: 1_764_000_000_000 };
    expect(readCommitMetadata(writeCommitMetadata(metadata))).toEqual(metadata);
    expect(writeCommitMetadata({ epoch: 7, deletedUnread: 0, truncations: 0 })).toBe('{"epoch":7}');
  });

  test.each([null, undefined, "", "no JSON", "null", "[]", '{"epoch":-1,"deleted_unread":"12"}'])(
    "%p of another program: nothing is known",
    (text) => {
      expect(readCommitMetadata(text)).toMatchObject({ deletedUnread: 0, truncations: 0 });
      expect(readCommitMetadata(text).epoch).toBeUndefined();
    },
  );
});
