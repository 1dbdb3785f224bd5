/** The window of an audit, its input from ingest, and its exit codes. */
import { describe, expect, test } from "bun:test";
import { closing } from "../../../scripts/audit/audit-runs.ts";
import { readIngestOutcomes } from "../../../scripts/audit/ingest-outcomes.ts";
import { clipRanges, subtractRanges, Window } from "../../../scripts/audit/record.ts";
import { judge } from "../../../scripts/audit/verdict.ts";
import { windowStart } from "../../../scripts/audit.ts";
import { nanosecondsOf } from "../../../scripts/clients/influxdb.ts";
import { pointTimestampNs } from "../../../services/domain/point.ts";
import { newRunId, runStart } from "../../../services/domain/run-id.ts";
import type { Range } from "../../../services/domain/sequence.ts";
import { memoryHistory } from "./memory-history.ts";

describe("Window", () => {
  test("clipRanges cuts ranges at the first event in the window and counts the numbers before it", () => {
    const window = new Window();
    window.add("r", "c", 7);
    window.add("r", "c", 5);
    const ranges: Range[] = [
      [0, 2],
      [4, 8],
      [10, 11],
    ];
    expect(clipRanges(ranges, window.first("r", "c"))).toEqual({
      inside: [
        [5, 8],
        [10, 11],
      ],
      before: 4,
    });
  });

  test("from the first record that is not older than the window, all were read", () => {
    const window = new Window(1000);
    expect(window.firstReceived("r", "c")).toBeUndefined();
    for (const [seq, recordMs] of [
      [5, 999],
      [9, 1001],
      [7, 1000],
    ] as const) {
      window.add("r", "c", seq, recordMs);
    }
    expect([window.first("r", "c"), window.firstReceived("r", "c")]).toEqual([5, 7]);
    expect(window.older.of("r", "c")).toEqual([[5, 5]]);
  });

  test("clipRanges counts all numbers of a conveyor outside the window as before it", () => {
    expect(clipRanges([[0, 9]], new Window().first("r", "c"))).toEqual({ inside: [], before: 10 });
  });
});

test("subtractRanges cuts ranges out of ranges", () => {
  const others: [number, number][] = [
    [2, 3],
    [6, 20],
  ];
  expect(
    subtractRanges(
      [
        [0, 4],
        [5, 9],
        [30, 31],
      ],
      others,
    ),
  ).toEqual([
    [0, 1],
    [4, 4],
    [5, 5],
    [30, 31],
  ]);
  expect(subtractRanges([[0, 4]], [])).toEqual([[0, 4]]);
});

const T0_MS = Date.UTC(2026, 10, 25, 8);

describe("readIngestOutcomes", () => {
  const result = {
    run: newRunId(T0_MS, 0, 1),
    read: 6,
    acknowledged: 5,
    refused: 1,
    failed: 0,
    repeated: 1,
    ledger: {
      "belt-1": [{ run: "r", ranges: [[0, 2]] }],
      "belt-2": [{ run: "s", ranges: [[7, 7]] }],
    },
  };

  test("returns outcomes as ranges, and repeated acknowledgements as resent", () => {
    expect(readIngestOutcomes(JSON.stringify(result), "a")).toEqual({
      outcomes: [
        { run: "r", conveyor: "belt-1", seq: 0, last_seq: 2, outcome: "ok" },
        { run: "s", conveyor: "belt-2", seq: 7, last_seq: 7, outcome: "ok" },
      ],
      startedAtMs: T0_MS,
      resent: 1,
      unlisted: 0,
      isComplete: true,
    });
    expect(readIngestOutcomes(JSON.stringify({ ...result, run: "mine" }), "a").startedAtMs).toBeUndefined();
    expect(readIngestOutcomes(JSON.stringify({ ...result, failed: 1 }), "a").isComplete).toBe(false);
  });

  test("acknowledged events that the ledger does not list are not taken for repeated ones", () => {
    const cut = { ...result, acknowledged: 20 };
    expect(readIngestOutcomes(JSON.stringify(cut), "a")).toMatchObject({ resent: 1, unlisted: 15 });
    // The result of an earlier version: repeated or not listed, it does not say which.
    const { repeated, ...earlier } = result;
    expect(readIngestOutcomes(JSON.stringify(earlier), "a")).toMatchObject({ resent: 0, unlisted: repeated });
    expect(() => readIngestOutcomes(JSON.stringify({ ...result, acknowledged: 4 }), "a")).toThrow(
      "ledger: lists 4 events; 3 were acknowledged",
    );
  });

  test("rejects other input and names the field", () => {
    expect(() => readIngestOutcomes("nonsense", "--account x")).toThrow("--account x: must be JSON");
    expect(() => readIngestOutcomes(JSON.stringify({ ...result, acknowledged: "5" }), "a")).toThrow(
      "acknowledged: must be",
    );
    expect(() =>
      readIngestOutcomes(JSON.stringify({ ...result, ledger: { b: [{ run: "r", ranges: [[3, 1]] }] } }), "a"),
    ).toThrow("ledger.b: a range must be [first, last]; got [3,1]");
    expect(() => readIngestOutcomes(JSON.stringify({ ...result, ledger: {} }), "a")).toThrow(
      "lists no acknowledged event",
    );
  });
});

describe("windowStart", () => {
  const nowMs = Date.UTC(2026, 10, 25, 12);

  test("is --since, else the start time in the run's name, else 10 minutes, or 1 hour for a run", () => {
    const run = newRunId(nowMs - 123_456, 2, 0xabcd);
    expect(windowStart(nowMs, { since: 5000, run })).toBe(nowMs - 5000);
    expect(windowStart(nowMs, { run })).toBe(nowMs - 123_456);
    expect(windowStart(nowMs, { run: "check-1" })).toBe(nowMs - 3_600_000);
    expect(windowStart(nowMs, {})).toBe(nowMs - 600_000);
    expect(runStart("20269999T000000000Z-0-0000")).toBeUndefined();
  });
});

test("nanosecondsOf returns a point's timestamp, also without trailing digits", () => {
  const ms = Date.UTC(2026, 10, 25, 4, 0, 0, 120);
  expect(nanosecondsOf("2026-11-25T04:00:00.120000007Z")).toBe(pointTimestampNs(String(ms), "7"));
  expect(nanosecondsOf("2026-11-25T04:00:00.12Z")).toBe(pointTimestampNs(String(ms), "0"));
  expect(nanosecondsOf("2026-11-25T04:00:00Z")).toBe(`${Date.UTC(2026, 10, 25, 4)}000000`);
  expect(() => nanosecondsOf("yesterday")).toThrow("RFC 3339");
});

describe("closing", () => {
  const id = { run: "r", conveyor: "c", seq: 0 };
  const log = [{ ...id, reader: 1, partition: 0, offset: 0 }];
  const commits = [{ partition: 0, offset: 1 }];
  const outcomes = [{ ...id, outcome: "ok" as const }];

  test("exit 0 when all invariants that could be judged hold", async () => {
    const verdict = await judge(memoryHistory({}, { outcomes, log, commits, sink: [id], dlq: [] }));
    expect(closing(verdict)).toMatchObject({ status: "passed", exitCode: 0 });
  });

  test("exit 5 with the cause when an event is lost", async () => {
    const verdict = await judge(memoryHistory({}, { outcomes, log, commits, sink: [], dlq: [] }));
    expect(closing(verdict)).toMatchObject({
      status: "failed",
      exitCode: 5,
      line: expect.stringContaining("cause: L2"),
    });
  });

  test("an invariant that is not promised does not count, and is named when violated", async () => {
    const twoOutOfOrder = [1, 0].map((seq, offset) => ({ ...log[0]!, seq, offset }));
    const both = [0, 1].map((seq) => ({ ...id, seq }));
    const acknowledged = both.map((each) => ({ ...each, outcome: "ok" as const }));
    const parts = { log: twoOutOfOrder, commits: [{ partition: 0, offset: 2 }], sink: both, dlq: [] };
    const verdict = await judge(memoryHistory({}, { outcomes: acknowledged, ...parts }));
    expect(closing(verdict)).toMatchObject({
      status: "failed",
      exitCode: 5,
      line: expect.stringContaining("cause: O1"),
    });
    expect(closing(verdict, ["O1"])).toMatchObject({
      status: "passed",
      exitCode: 0,
      line: expect.stringContaining("violated, but not promised by the sender: O1"),
    });
    // The other invariants still count: a lost event fails, and unknown L2 and L3 are not hidden by the violated O1.
    const lossy = await judge(memoryHistory({}, { outcomes: acknowledged, ...parts, sink: [both[0]!] }));
    expect(closing(lossy, ["O1"])).toMatchObject({ status: "failed", line: expect.stringMatching(/cause: L2$/) });
    const { commits: _, ...uncommitted } = parts;
    const open = await judge(memoryHistory({}, { outcomes: acknowledged, ...uncommitted }));
    expect(open.laws.filter(({ status }) => status === "failed").map(({ law }) => law)).toEqual(["O1"]);
    expect(closing(open, ["O1"])).toMatchObject({ status: "unknown", exitCode: 1 });
  });

  test("exit 1, never passed, when acknowledged events were not recorded", async () => {
    const verdict = await judge(memoryHistory({}, { log, commits, sink: [id], dlq: [] }));
    expect(closing(verdict)).toMatchObject({ status: "unknown", exitCode: 1 });
  });
});
