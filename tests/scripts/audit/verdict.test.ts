/**
 * The verdict on small histories written by hand: a healthy one, some with a known defect of the pipeline (each must fail
 * exactly the right invariants), and some that must not pass because they show nothing.
 */
import { describe, expect, test } from "bun:test";
import {
  type History,
  type HistoryMeta,
  KINDS,
  type Kind,
  type LogRecord,
  type OutcomeRecord,
  type Records,
  type SinkRecord,
} from "../../../scripts/audit/history.ts";
import {
  check,
  collectFacts,
  type InvariantId,
  judge,
  judgeFacts,
  type Verdict,
} from "../../../scripts/audit/verdict.ts";
import { memoryHistory } from "./memory-history.ts";

const RUN = "r1";
const BELT = "belt-0";
const T0_MS = 1_764_038_400_000;
const EVENTS = 10;

const id = (seq: number) => ({ run: RUN, conveyor: BELT, seq });
const seqs = (count = EVENTS, from = 0) => Array.from({ length: count }, (_, index) => from + index);
const ok = (seq: number, offset = seq): OutcomeRecord => ({
  ...id(seq),
  outcome: "ok",
  partition: 0,
  offset,
  t_ms: T0_MS + seq * 100,
});
const inLog = (seq: number, offset = seq, reader = 1): LogRecord => ({
  ...id(seq),
  reader,
  partition: 0,
  offset,
  hash: `h${seq}`,
  ts_ms: T0_MS + seq,
  values: 1000 + seq,
});
const stored = (seq: number): SinkRecord => ({
  ...id(seq),
  t_ns: `${T0_MS + seq}${String(seq).padStart(6, "0")}`,
  values: 1000 + seq,
});
const twoReaders = (records: LogRecord[]) => [...records, ...records.map((record) => ({ ...record, reader: 2 }))];

type Parts = { [K in Kind]: Records[K][] };

/** Ten events sent, acknowledged, read and stored during one proved fault. */
function healthy(): { meta: HistoryMeta; parts: Parts } {
  return {
    meta: { idempotent_producer: true, quiescent: true, ack_gap_max_ms: 10_000, recovery_max_ms: 10_000 },
    parts: {
      attempts: seqs().map(id),
      outcomes: seqs().map((seq) => ok(seq)),
      log: twoReaders(seqs().map((seq) => inLog(seq))),
      unreadable: [],
      sink: seqs().map(stored),
      stored_fields: [],
      holders: [],
      writes: seqs().map(id),
      dlq: [],
      refusals: [],
      commits: [{ partition: 0, offset: EVENTS }],
      faults: [{ kind: "delete_pod", target: "processor", t0_ms: T0_MS + 300, t1_ms: T0_MS + 450, proof: "uid a → b" }],
    },
  };
}

/** The verdict on the healthy history after a change. */
async function judged(change: (parts: Parts, meta: HistoryMeta) => void): Promise<Verdict> {
  const { meta, parts } = healthy();
  change(parts, meta);
  return await judge(memoryHistory(meta, parts));
}

const idsWith = (verdict: Verdict, status: string) =>
  verdict.laws.filter((result) => result.status === status).map(({ law }) => law);
const failedIds = (verdict: Verdict) => idsWith(verdict, "failed");
const invariant = (verdict: Verdict, wanted: InvariantId) => verdict.laws.find((result) => result.law === wanted)!;
const locationsOf = (verdict: Verdict) =>
  Object.fromEntries(
    Object.entries(verdict.missing)
      .filter(([, { count }]) => count > 0)
      .map(([location, { count }]) => [location, count]),
  );

describe("a healthy history", () => {
  test("passes every invariant, with no missing event", async () => {
    const verdict = await judged(() => {});
    expect(failedIds(verdict)).toEqual([]);
    expect(idsWith(verdict, "unknown")).toEqual([]);
    expect(verdict).toMatchObject({
      status: "passed",
      causes: [],
      counts: { attempted: EVENTS, acknowledged: EVENTS, uncertain: 0, in_kafka: EVENTS, in_influxdb: EVENTS },
    });
    expect(locationsOf(verdict)).toEqual({});
  });

  test("passes with ranges, as in a producer's ledger, instead of single events", async () => {
    const verdict = await judged((parts) => {
      parts.attempts = [{ ...id(0), last_seq: EVENTS - 1 }];
      parts.sink = [{ ...id(0), last_seq: EVENTS - 1 }];
    });
    expect(failedIds(verdict)).toEqual([]);
    // A range says nothing about values.
    expect(idsWith(verdict, "unknown")).toEqual(["V1"]);
  });
});

describe("seeded defects", () => {
  test("commit before write: 10 committed, 7 written → L2", async () => {
    const verdict = await judged((parts) => {
      parts.sink = parts.sink.slice(0, 7);
      parts.writes = parts.writes.slice(0, 7);
    });
    expect(verdict.causes).toEqual(["L2"]);
    expect(failedIds(verdict)).toEqual(["L2", "L3"]);
    expect(invariant(verdict, "L3").follows).toEqual(["L2"]);
    expect(locationsOf(verdict)).toEqual({ lost_in_processor: 3 });
    expect(invariant(verdict, "L2").examples).toEqual([id(7), id(8), id(9)]);
  });

  test("timestamps cut to milliseconds: later events overwrite earlier ones → D2", async () => {
    const verdict = await judged((parts) => {
      // Two events in each millisecond, one point for both: that of the second one.
      parts.log = twoReaders(seqs().map((seq) => ({ ...inLog(seq), ts_ms: T0_MS + Math.floor(seq / 2) })));
      parts.sink = seqs()
        .filter((seq) => seq % 2 === 1)
        .map((seq) => ({ ...id(seq), t_ns: `${T0_MS + Math.floor(seq / 2)}000000` }));
    });
    expect(verdict.causes).toEqual(["D2"]);
    expect(failedIds(verdict)).toEqual(["L3", "D2"]);
    expect(locationsOf(verdict)).toEqual({ overwritten: 5 });
  });

  test("timestamps cut to milliseconds, and the first event written last → D2 alone", async () => {
    // InfluxDB applied a write late that had timed out: the point of the first millisecond is that of event 0.
    const kept = [0, 3, 5, 7, 9];
    const verdict = await judged((parts) => {
      parts.log = twoReaders(seqs().map((seq) => ({ ...inLog(seq), ts_ms: T0_MS + Math.floor(seq / 2) })));
      parts.sink = kept.map((seq) => ({ ...id(seq), t_ns: `${T0_MS + Math.floor(seq / 2)}000000` }));
    });
    expect(verdict.causes).toEqual(["D2"]);
    expect(locationsOf(verdict)).toEqual({ overwritten: 5 });
  });

  test("a lost event beside the point of event 0 in its millisecond, with exact timestamps → L2", async () => {
    const verdict = await judged((parts) => {
      parts.log = twoReaders(seqs().map((seq) => ({ ...inLog(seq), ts_ms: T0_MS })));
      parts.sink = seqs()
        .filter((seq) => seq !== 4)
        .map((seq) => ({ ...id(seq), t_ns: `${T0_MS}${String(seq).padStart(6, "0")}` }));
    });
    expect(verdict.causes).toEqual(["L2"]);
    expect(locationsOf(verdict)).toEqual({ lost_in_processor: 1 });
  });

  test("overwritten by a run of the same conveyor that is not judged → D2, not P1", async () => {
    const verdict = await judged((parts) => {
      parts.sink = parts.sink.filter(({ seq }) => seq > 2);
      parts.holders = seqs(3).map((seq) => ({ ...id(seq), run: "another-run", t_ns: stored(seq).t_ns! }));
    });
    expect(verdict.causes).toEqual(["D2"]);
    expect(locationsOf(verdict)).toEqual({ overwritten: 3 });
    expect(invariant(verdict, "P1").status).toBe("passed");
  });

  test("ignored 422: two points refused, neither retried nor dead-lettered → L2", async () => {
    const verdict = await judged((parts) => {
      parts.sink = parts.sink.filter(({ seq }) => seq !== 3 && seq !== 4);
      parts.refusals = [id(3), id(4)];
    });
    expect(verdict.causes).toEqual(["L2"]);
    expect(failedIds(verdict)).toEqual(["L2", "L3"]);
    expect(invariant(verdict, "L2").detail).toContain("2 of them were refused by the database");
    expect(locationsOf(verdict)).toEqual({ refused_by_database: 2 });
  });

  test("acknowledged when buffered, and the buffer lost on SIGTERM → L1", async () => {
    const verdict = await judged((parts, meta) => {
      meta.deleted_unread = 12;
      parts.outcomes = seqs().map((seq) => (seq < 7 ? ok(seq) : { ...id(seq), outcome: "ok", t_ms: T0_MS + seq }));
      parts.log = twoReaders(seqs(7).map((seq) => inLog(seq)));
      parts.sink = parts.sink.slice(0, 7);
      parts.commits = [{ partition: 0, offset: 7 }];
    });
    expect(verdict.causes).toEqual(["L1"]);
    expect(invariant(verdict, "L3").follows).toEqual(["L1"]);
    expect(invariant(verdict, "X1").status).toBe("passed");
    expect(invariant(verdict, "L1").detail).toContain("Kafka deleted 12 events of all runs before they were read");
    expect(locationsOf(verdict)).toEqual({ lost_in_kafka: 3 });
  });

  test("unread events deleted at the beginning of a run that is older than the window → L1 and L3 unknown", async () => {
    const deleted = (acknowledged_before: number) =>
      judged((_, meta) => Object.assign(meta, { deleted_unread: 12, acknowledged_before }));
    const verdict = await deleted(12);
    expect(idsWith(verdict, "unknown")).toEqual(["L1", "L3"]);
    expect(invariant(verdict, "L1").detail).toContain("Kafka deleted 12 events of all runs before they were read");
    // All acknowledged events of the judged runs are in the window: others' events were deleted.
    expect(idsWith(await deleted(0), "unknown")).toEqual([]);
  });

  test("acks=1 and an unclean election: later events at the offsets of lost ones → L1", async () => {
    const verdict = await judged((parts) => {
      parts.outcomes = seqs().map((seq) => ok(seq, seq < 7 ? seq : seq - 3));
      const survived = [0, 1, 2, 3, 7, 8, 9];
      parts.log = twoReaders(survived.map((seq, offset) => inLog(seq, offset)));
      parts.sink = survived.map(stored);
      parts.commits = [{ partition: 0, offset: 7 }];
    });
    expect(verdict.causes).toEqual(["L1"]);
    expect(failedIds(verdict)).toEqual(["L1", "L3", "X1", "O1"]);
    expect(invariant(verdict, "X1")).toMatchObject({ follows: ["L1"], examples: [id(4), id(5), id(6)] });
    expect(locationsOf(verdict)).toEqual({ lost_in_kafka: 3 });
  });

  test("retry without idempotence: a batch twice in Kafka, once in InfluxDB → D1 only", async () => {
    const twice = (parts: Parts) => {
      const log = [...seqs(6), 4, 5, ...seqs(4, 6)].map((seq, offset) => inLog(seq, offset));
      parts.log = twoReaders(log);
      parts.outcomes = seqs().map((seq) => ok(seq, seq < 4 ? seq : seq + 2));
      parts.commits = [{ partition: 0, offset: 12 }];
    };
    const verdict = await judged(twice);
    expect(failedIds(verdict)).toEqual(["D1"]);
    expect(invariant(verdict, "D1").detail).toContain("2 duplicates");
    expect(locationsOf(verdict)).toEqual({});

    const explained = await judged((parts, meta) => {
      twice(parts);
      meta.idempotent_producer = false;
      meta.retries = 2;
    });
    expect(explained.status).toBe("passed");
  });
});

describe("the location of each missing event", () => {
  test("is never acknowledged, unread, dead-lettered or refused by the database", async () => {
    const verdict = await judged((parts, meta) => {
      meta.quiescent = false;
      parts.attempts.push(id(10), id(11));
      parts.outcomes.push({ ...id(10), outcome: "unknown" });
      parts.commits = [{ partition: 0, offset: 8 }];
      parts.sink = parts.sink.filter(({ seq }) => ![2, 3, 8, 9].includes(seq));
      parts.dlq = [
        { ...id(2), reason: "out_of_range" },
        { ...id(3), reason: "refused_by_database" },
        { reason: "malformed_json" },
      ];
    });
    expect(locationsOf(verdict)).toEqual({
      never_acknowledged: 2,
      in_kafka_unread: 2,
      dead_lettered: 1,
      refused_by_database: 1,
    });
    expect(failedIds(verdict)).toEqual([]);
    expect(invariant(verdict, "L2").status).toBe("passed");
    expect(invariant(verdict, "L3")).toMatchObject({ status: "unknown", detail: expect.stringContaining("2 of 10") });
    expect(verdict.counts).toMatchObject({ uncertain: 2, dead_letters_without_identity: 1 });
    expect(verdict.counts.uncertain_percent).toBeCloseTo((2 / 12) * 100);
  });

  test("is unplaced without Kafka's log, and the event still counts as missing", async () => {
    const { meta, parts } = healthy();
    const { log: _log, ...rest } = { ...parts, sink: parts.sink.slice(1) };
    const verdict = await judge(memoryHistory(meta, rest));
    expect(verdict.causes).toEqual(["L3"]);
    expect(locationsOf(verdict)).toEqual({ unplaced: 1 });
    expect(invariant(verdict, "L1")).toMatchObject({ status: "unknown", detail: "not recorded: events in Kafka" });
  });
});

describe("a batch of Kafka that cannot be read", () => {
  const batch = { partition: 0, first_offset: 3, last_offset: 5, reason: "CRC" };
  const hidden = [3, 4, 5];
  /** The events of the batch are in no reader's log and in no other place. */
  const hide = (parts: Parts, seqsHidden = hidden) => {
    const isHidden = ({ seq }: { seq: number }) => seqsHidden.includes(seq);
    parts.log = parts.log.filter((record) => !isHidden(record));
    parts.sink = parts.sink.filter((record) => !isHidden(record));
    parts.unreadable = [batch];
  };
  const withoutOffsets = (parts: Parts) => {
    parts.outcomes = parts.outcomes.map(({ partition: _partition, offset: _offset, ...outcome }) => outcome);
  };

  test("makes L1, L3, X1 and O1 unknown, and nothing failed: its events are not lost", async () => {
    const verdict = await judged((parts) => hide(parts));
    expect(failedIds(verdict)).toEqual([]);
    expect(idsWith(verdict, "unknown")).toEqual(["L1", "L3", "X1", "O1"]);
    expect(locationsOf(verdict)).toEqual({ in_kafka_unreadable: 3 });
    expect(verdict.counts.lost).toBe(0);
    expect(invariant(verdict, "L1").detail).toContain("partition 0: offsets 3 to 5 cannot be read: CRC");
  });

  test("covers the missing events between its neighbours, when no offsets were acknowledged", async () => {
    const verdict = await judged((parts) => {
      hide(parts);
      withoutOffsets(parts);
    });
    expect(failedIds(verdict)).toEqual([]);
    expect(locationsOf(verdict)).toEqual({ in_kafka_unreadable: 3 });
  });

  test("may hold all events of a conveyor that is nowhere else in the log", async () => {
    const verdict = await judged((parts) => {
      hide(parts);
      withoutOffsets(parts);
      const other = { ...id(0), conveyor: "belt-1" };
      parts.attempts = [...parts.attempts.filter(({ seq }) => seq !== 5), other];
      parts.outcomes = [...parts.outcomes.filter(({ seq }) => seq !== 5), { ...other, outcome: "ok" }];
    });
    expect(failedIds(verdict)).toEqual([]);
    expect(locationsOf(verdict)).toEqual({ in_kafka_unreadable: 3 });
  });

  test("does not excuse an event outside of it", async () => {
    for (const change of [() => {}, withoutOffsets]) {
      const verdict = await judged((parts) => {
        hide(parts, [3, 4, 5, 8]);
        change(parts);
      });
      expect(invariant(verdict, "L1")).toMatchObject({ status: "failed", examples: [id(8)] });
      expect(locationsOf(verdict)).toEqual({ in_kafka_unreadable: 3, lost_in_kafka: 1 });
    }
  });

  test("does not excuse more events than it has records", async () => {
    const verdict = await judged((parts) => {
      hide(parts);
      withoutOffsets(parts);
      parts.unreadable = [{ ...batch, last_offset: 4 }];
    });
    expect(invariant(verdict, "L1").status).toBe("failed");
    expect(locationsOf(verdict)).toEqual({ lost_in_kafka: 3 });
  });

  test("whose events were stored before leaves L3 passed", async () => {
    const verdict = await judged((parts) => {
      const { sink } = parts;
      hide(parts);
      parts.sink = sink;
    });
    expect(failedIds(verdict)).toEqual([]);
    expect(idsWith(verdict, "unknown")).toEqual(["L1", "X1", "O1"]);
    expect(locationsOf(verdict)).toEqual({});
  });

  test("does not make the readers disagree when the second one has no check of the CRC", async () => {
    const verdict = await judged((parts) => {
      const second = parts.log.filter(({ reader }) => reader === 2);
      hide(parts);
      parts.log = [...parts.log.filter(({ reader }) => reader === 1), ...second];
    });
    expect(failedIds(verdict)).toEqual([]);
  });
});

describe("the other invariants", () => {
  test("P1 fails on an event that was not sent, and on one reported as failed that is in Kafka", async () => {
    expect(failedIds(await judged((parts) => void parts.sink.push(stored(99))))).toEqual(["P1"]);
    const storedFailure = await judged((parts) => {
      parts.outcomes = parts.outcomes.map((record) => (record.seq === 5 ? { ...id(5), outcome: "fail" } : record));
    });
    expect(failedIds(storedFailure)).toEqual(["P1"]);
  });

  test("P1 is unknown when the recorded attempts are incomplete", async () => {
    const verdict = await judged((parts, meta) => {
      meta.attempts_complete = false;
      parts.sink.push(stored(99));
    });
    expect(invariant(verdict, "P1").status).toBe("unknown");
  });

  test("V1 fails on a point that says something else than its event, and on nothing else", async () => {
    const verdict = await judged((parts) => {
      parts.sink = parts.sink.map((record) => (record.seq === 6 ? { ...record, values: 7 } : record));
    });
    expect(failedIds(verdict)).toEqual(["V1"]);
    expect(invariant(verdict, "V1")).toMatchObject({
      detail: "1 of 10 points differ from their events",
      examples: [id(6)],
    });
  });

  test("V1 does not judge an event that was sent twice with different values", async () => {
    const verdict = await judged((parts, meta) => {
      parts.log = twoReaders([...seqs().map((seq) => inLog(seq)), { ...inLog(6, 10), values: 7 }]);
      parts.commits = [{ partition: 0, offset: 11 }];
      meta.idempotent_producer = false;
      meta.retries = 1;
    });
    expect(invariant(verdict, "V1")).toMatchObject({ status: "passed", detail: "9 points say what their events say" });
  });

  test("V1 is unknown without values, as of an older image", async () => {
    const verdict = await judged((parts) => {
      parts.log = parts.log.map(({ values: _, ...record }) => record);
    });
    expect(invariant(verdict, "V1").status).toBe("unknown");
    expect(failedIds(verdict)).toEqual([]);
  });

  test("X1 fails when two readers find different payloads", async () => {
    const verdict = await judged((parts) => {
      parts.log = parts.log.map((record) =>
        record.reader === 2 && record.seq === 6 ? { ...record, hash: "other" } : record,
      );
    });
    expect(failedIds(verdict)).toEqual(["X1"]);
  });

  test("X1 fails when an event is not at its acknowledged offset", async () => {
    const verdict = await judged((parts) => {
      parts.outcomes = parts.outcomes.map((record) => (record.seq === 6 ? { ...record, offset: 60 } : record));
    });
    expect(verdict.causes).toEqual(["X1"]);
  });

  test("D2 fails on an event with two points", async () => {
    const verdict = await judged((parts) => void parts.sink.push({ ...id(3), t_ns: "1" }));
    expect(failedIds(verdict)).toEqual(["D2"]);
    expect(invariant(verdict, "D2").examples).toEqual([id(3)]);
  });

  test("D3 allows rewrites up to the bound of the faults", async () => {
    const again = (parts: Parts) => void parts.writes.push(id(3), id(4));
    expect(failedIds(await judged(again))).toEqual(["D3"]);
    const explained = await judged((parts) => {
      again(parts);
      parts.faults[0]!.redeliveries_max = 2;
    });
    expect(explained.status).toBe("passed");
  });

  test("O1 fails when a later event comes before an earlier one", async () => {
    const verdict = await judged((parts) => {
      parts.log = twoReaders([0, 1, 2, 3, 5, 4, 6, 7, 8, 9].map((seq, offset) => inLog(seq, offset)));
      parts.outcomes = parts.outcomes.map(({ offset: _offset, partition: _partition, ...rest }) => rest);
    });
    expect(failedIds(verdict)).toEqual(["O1"]);
    expect(invariant(verdict, "O1").examples).toEqual([id(4)]);
  });

  test("R1 fails on too long a silence and without acknowledgement after a fault; it is unknown for a fault without proof", async () => {
    expect(failedIds(await judged((_, meta) => void Object.assign(meta, { ack_gap_max_ms: 50 })))).toEqual(["R1"]);
    const unproved = await judged((parts) => void delete parts.faults[0]!.proof);
    expect(invariant(unproved, "R1").status).toBe("unknown");
    expect(unproved.status).toBe("unknown");
    expect(failedIds(await judged((parts) => void Object.assign(parts.faults[0]!, { t1_ms: T0_MS + 5000 })))).toEqual([
      "R1",
    ]);
  });
});

describe("a history that shows nothing never passes", () => {
  const statuses = (verdict: Verdict) => new Set(verdict.laws.map(({ status }) => status));

  test("without records, and with empty ones", async () => {
    const nothing = await judge(memoryHistory({}, {}));
    expect(nothing.status).toBe("unknown");
    expect(statuses(nothing)).toEqual(new Set(["unknown"]));
    const empty = Object.fromEntries(KINDS.map((kind) => [kind, []]));
    expect(statuses(await judge(memoryHistory({ quiescent: true }, empty)))).toEqual(new Set(["unknown"]));
  });

  test("without a certain acknowledgement", async () => {
    const verdict = await judge(
      memoryHistory(
        { quiescent: true },
        {
          attempts: seqs().map(id),
          outcomes: seqs().map((seq) => ({ ...id(seq), outcome: "unknown" as const })),
          log: [],
          sink: [],
          dlq: [],
        },
      ),
    );
    expect(verdict.status).toBe("unknown");
    expect(idsWith(verdict, "passed")).toEqual([]);
    expect(verdict.counts.uncertain_percent).toBe(100);
  });

  test("with a checker that crashes", async () => {
    const { meta, parts } = healthy();
    const facts = await collectFacts(memoryHistory(meta, parts));
    const crash = () => {
      throw new Error("out of paper");
    };
    expect(check("L1", facts, crash)).toMatchObject({ status: "unknown", detail: "the checker failed: out of paper" });
    expect(judgeFacts(facts).status).toBe("passed");
    const { CHECKERS } = await import("../../../scripts/audit/verdict.ts");
    expect(judgeFacts(facts, { ...CHECKERS, D1: crash }).status).toBe("unknown");
  });

  test("and the detail names the reason of a missing record", async () => {
    const history: History = memoryHistory({ not_recorded: { log: "--skip-log" } }, { outcomes: [ok(0)] });
    expect(invariant(await judge(history), "L1").detail).toBe("not recorded: events in Kafka (--skip-log)");
  });
});
