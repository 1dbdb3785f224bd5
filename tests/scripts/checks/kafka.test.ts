import { describe, expect, test } from "bun:test";
import { unreadProblems } from "../../../scripts/checks/kafka.ts";

describe("unreadProblems", () => {
  const NOW = Date.UTC(2026, 10, 29, 12);
  const HOUR = 3_600_000;
  const range = { partition: 2, begin: 0, end: 100, committed: 90, deleted_unread: 0, truncations: 0 };
  const problems = (fields: object, secondsLeft = new Map<number, number>()) =>
    unreadProblems([{ ...range, ...fields }], secondsLeft, NOW);

  test("a backlog that nothing threatens is none, also from an image without the fields", () => {
    expect(problems({})).toEqual([]);
    expect(unreadProblems([{ partition: 0, begin: 0, end: 5 }], new Map(), NOW)).toEqual([]);
  });

  test("events deleted unread fail the check for a day", () => {
    const gap = { deleted_unread: 162_301, gap_found_at_ms: NOW - HOUR };
    expect(problems(gap)).toEqual([
      "partition 2: Kafka deleted 162301 unread events, last found 2026-11-29T11:00:00.000Z",
    ]);
    expect(problems({ ...gap, gap_found_at_ms: NOW - 25 * HOUR })).toEqual([]);
  });

  test("a truncated log is named, before and after the group has noticed it", () => {
    expect(problems({ committed: 120 })).toEqual(["partition 2: offset 120 is committed, and the log ends at 100"]);
    expect(problems({ truncations: 1, gap_found_at_ms: NOW - HOUR })).toEqual([
      "partition 2: the log lost records that were read 1 times, last found 2026-11-29T11:00:00.000Z",
    ]);
  });

  test("a deletion within two hours is named before it happens", () => {
    expect(problems({}, new Map([[2, 1300]]))).toEqual(["partition 2: Kafka deletes unread events in 21 min 40 s"]);
    expect(problems({}, new Map([[2, 7300]]))).toEqual([]);
  });
});
