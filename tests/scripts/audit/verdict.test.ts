/**
 * Goal: the judge is right. Method: small histories written by hand, each with a sentence on what it shows; a healthy
 * one, six in which the pipeline has a known defect (each must turn exactly the right law red), and those that must not
 * pass because they show nothing.
 */
import { describe, expect, test } from "bun:test";
import {
  type History,
  type HistoryMeta,
  KINDS,
  type Kind,
  type LogRecord,
  memoryHistory,
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
});
const stored = (seq: number): SinkRecord => ({
  ...id(seq),
  t_ns: `${T0_MS + seq}${String(seq).padStart(6, "0")}`,
});
const twoReaders = (records: LogRecord[]) => [...records, ...records.map((record) => ({ ...record, reader: 2 }))];

type Parts = { [K in Kind]: Records[K][] };

/** Ten events sent, acknowledged, read and stored, through one fault that was proved. */
function healthy(): { meta: HistoryMeta; parts: Parts } {
  return {
    meta: { idempotent_producer: true, quiescent: true, ack_gap_max_ms: 10_000, recovery_max_ms: 10_000 },
    parts: {
      attempts: seqs().map(id),
      outcomes: seqs().map((seq) => ok(seq)),
      log: twoReaders(seqs().map((seq) => inLog(seq))),
      sink: seqs().map(stored),
      holders: [],
      writes: seqs().map(id),
      dlq: [],
      refusals: [],
      commits: [{ partition: 0, offset: EVENTS }],
      faults: [{ kind: "delete_pod", target: "processor", t0_ms: T0_MS + 300, t1_ms: T0_MS + 450, proof: "uid a → b" }],
    },
  };
}

/** The healthy history after a change. */
async function judged(change: (parts: Parts, meta: HistoryMeta) => void): Promise<Verdict> {
  const { meta, parts } = healthy();
  change(parts, meta);
  return await judge(memoryHistory(meta, parts));
}

const lawsWith = (verdict: Verdict, status: string) =>
  verdict.laws.filter((result) => result.status === status).map(({ law }) => law);
const failedLaws = (verdict: Verdict) => lawsWith(verdict, "failed");
const law = (verdict: Verdict, wanted: InvariantId) => verdict.laws.find((result) => result.law === wanted)!;
const placesOf = (verdict: Verdict) =>
  Object.fromEntries(
    Object.entries(verdict.missing)
      .filter(([, { count }]) => count > 0)
      .map(([place, { count }]) => [place, count]),
  );

describe("a healthy history", () => {
  test("passes every law, and nothing is missing", async () => {
    const verdict = await judged(() => {});
    expect(failedLaws(verdict)).toEqual([]);
    expect(lawsWith(verdict, "unknown")).toEqual([]);
    expect(verdict).toMatchObject({
      status: "passed",
      causes: [],
      counts: { attempted: EVENTS, acknowledged: EVENTS, uncertain: 0, in_kafka: EVENTS, in_influxdb: EVENTS },
    });
    expect(placesOf(verdict)).toEqual({});
  });

  test("ranges, as a producer's ledger gives them, say the same as single events", async () => {
    const verdict = await judged((parts) => {
      parts.attempts = [{ ...id(0), last_seq: EVENTS - 1 }];
      parts.sink = [{ ...id(0), last_seq: EVENTS - 1 }];
    });
    expect(verdict.status).toBe("passed");
  });
});

describe("seeded defects", () => {
  test("commit before write: the processor committed 10, wrote 7 and died → L2", async () => {
    const verdict = await judged((parts) => {
      parts.sink = parts.sink.slice(0, 7);
      parts.writes = parts.writes.slice(0, 7);
    });
    expect(verdict.causes).toEqual(["L2"]);
    expect(failedLaws(verdict)).toEqual(["L2", "L3"]);
    expect(law(verdict, "L3").follows).toEqual(["L2"]);
    expect(placesOf(verdict)).toEqual({ lost_in_processor: 3 });
    expect(law(verdict, "L2").examples).toEqual([id(7), id(8), id(9)]);
  });

  test("colliding timestamps: the writer cut them to milliseconds, and later events took the earlier ones' points → D2", async () => {
    const verdict = await judged((parts) => {
      // Two events in each millisecond, one point for both: the second one's.
      parts.log = twoReaders(seqs().map((seq) => ({ ...inLog(seq), ts_ms: T0_MS + Math.floor(seq / 2) })));
      parts.sink = seqs()
        .filter((seq) => seq % 2 === 1)
        .map((seq) => ({ ...id(seq), t_ns: `${T0_MS + Math.floor(seq / 2)}000000` }));
    });
    expect(verdict.causes).toEqual(["D2"]);
    expect(failedLaws(verdict)).toEqual(["L3", "D2"]);
    expect(placesOf(verdict)).toEqual({ overwritten: 5 });
  });

  test("another run of the same conveyor took its points, and is not judged itself → D2, no phantom", async () => {
    const verdict = await judged((parts) => {
      parts.sink = parts.sink.filter(({ seq }) => seq > 2);
      parts.holders = seqs(3).map((seq) => ({ ...id(seq), run: "another-run", t_ns: stored(seq).t_ns! }));
    });
    expect(verdict.causes).toEqual(["D2"]);
    expect(placesOf(verdict)).toEqual({ overwritten: 3 });
    expect(law(verdict, "P1").status).toBe("passed");
  });

  test("swallowed 422: the database refused two points, the processor committed and told nobody → L2", async () => {
    const verdict = await judged((parts) => {
      parts.sink = parts.sink.filter(({ seq }) => seq !== 3 && seq !== 4);
      parts.refusals = [id(3), id(4)];
    });
    expect(verdict.causes).toEqual(["L2"]);
    expect(failedLaws(verdict)).toEqual(["L2", "L3"]);
    expect(law(verdict, "L2").detail).toContain("2 of them the database had refused");
    expect(placesOf(verdict)).toEqual({ refused_by_database: 2 });
  });

  test("dropped tail on SIGTERM: acknowledged when buffered, and the buffer went with the process → L1", async () => {
    const verdict = await judged((parts) => {
      parts.outcomes = seqs().map((seq) => (seq < 7 ? ok(seq) : { ...id(seq), outcome: "ok", t_ms: T0_MS + seq }));
      parts.log = twoReaders(seqs(7).map((seq) => inLog(seq)));
      parts.sink = parts.sink.slice(0, 7);
      parts.commits = [{ partition: 0, offset: 7 }];
    });
    expect(verdict.causes).toEqual(["L1"]);
    expect(law(verdict, "L3").follows).toEqual(["L1"]);
    expect(law(verdict, "X1").status).toBe("passed");
    expect(placesOf(verdict)).toEqual({ lost_in_kafka: 3 });
  });

  test("acks=1 and an unclean election: the new leader lacks the tail, later events stand at its offsets → L1", async () => {
    const verdict = await judged((parts) => {
      parts.outcomes = seqs().map((seq) => ok(seq, seq < 7 ? seq : seq - 3));
      const survived = [0, 1, 2, 3, 7, 8, 9];
      parts.log = twoReaders(survived.map((seq, offset) => inLog(seq, offset)));
      parts.sink = survived.map(stored);
      parts.commits = [{ partition: 0, offset: 7 }];
    });
    expect(verdict.causes).toEqual(["L1"]);
    expect(failedLaws(verdict)).toEqual(["L1", "L3", "X1", "O1"]);
    expect(law(verdict, "X1")).toMatchObject({ follows: ["L1"], examples: [id(4), id(5), id(6)] });
    expect(placesOf(verdict)).toEqual({ lost_in_kafka: 3 });
  });

  test("retry without idempotence: one batch stands in Kafka twice, once in the database → D1 alone", async () => {
    const twice = (parts: Parts) => {
      const log = [...seqs(6), 4, 5, ...seqs(4, 6)].map((seq, offset) => inLog(seq, offset));
      parts.log = twoReaders(log);
      parts.outcomes = seqs().map((seq) => ok(seq, seq < 4 ? seq : seq + 2));
      parts.commits = [{ partition: 0, offset: 12 }];
    };
    const verdict = await judged(twice);
    expect(failedLaws(verdict)).toEqual(["D1"]);
    expect(law(verdict, "D1").detail).toContain("2 duplicates");
    expect(placesOf(verdict)).toEqual({});

    const explained = await judged((parts, meta) => {
      twice(parts);
      meta.idempotent_producer = false;
      meta.retries = 2;
    });
    expect(explained.status).toBe("passed");
  });
});

describe("each missing event has its place", () => {
  test("never acknowledged, unread, dead-lettered, refused by the database", async () => {
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
    expect(placesOf(verdict)).toEqual({
      never_acknowledged: 2,
      in_kafka_unread: 2,
      dead_lettered: 1,
      refused_by_database: 1,
    });
    expect(failedLaws(verdict)).toEqual([]);
    expect(law(verdict, "L2").status).toBe("passed");
    expect(law(verdict, "L3")).toMatchObject({ status: "unknown", detail: expect.stringContaining("2 of 10") });
    expect(verdict.counts).toMatchObject({ uncertain: 2, dead_letters_without_identity: 1 });
    expect(verdict.counts.uncertain_percent).toBeCloseTo((2 / 12) * 100);
  });

  test("without Kafka's log a missing event is unplaced, and still missing", async () => {
    const { meta, parts } = healthy();
    const { log: _log, ...rest } = { ...parts, sink: parts.sink.slice(1) };
    const verdict = await judge(memoryHistory(meta, rest));
    expect(verdict.causes).toEqual(["L3"]);
    expect(placesOf(verdict)).toEqual({ unplaced: 1 });
    expect(law(verdict, "L1")).toMatchObject({ status: "unknown", detail: "not recorded: what stands in Kafka" });
  });
});

describe("the other laws", () => {
  test("P1: an event that nobody sent, and one that had failed and stands in Kafka", async () => {
    expect(failedLaws(await judged((parts) => void parts.sink.push(stored(99))))).toEqual(["P1"]);
    const undead = await judged((parts) => {
      parts.outcomes = parts.outcomes.map((record) => (record.seq === 5 ? { ...id(5), outcome: "fail" } : record));
    });
    expect(failedLaws(undead)).toEqual(["P1"]);
  });

  test("P1: unknown where the attempts are not all recorded", async () => {
    const verdict = await judged((parts, meta) => {
      meta.attempts_complete = false;
      parts.sink.push(stored(99));
    });
    expect(law(verdict, "P1").status).toBe("unknown");
  });

  test("X1: two readers see different payloads", async () => {
    const verdict = await judged((parts) => {
      parts.log = parts.log.map((record) =>
        record.reader === 2 && record.seq === 6 ? { ...record, hash: "other" } : record,
      );
    });
    expect(failedLaws(verdict)).toEqual(["X1"]);
  });

  test("X1: an event stands elsewhere than acknowledged", async () => {
    const verdict = await judged((parts) => {
      parts.outcomes = parts.outcomes.map((record) => (record.seq === 6 ? { ...record, offset: 60 } : record));
    });
    expect(verdict.causes).toEqual(["X1"]);
  });

  test("D2: an event with two points", async () => {
    const verdict = await judged((parts) => void parts.sink.push({ ...id(3), t_ns: "1" }));
    expect(failedLaws(verdict)).toEqual(["D2"]);
    expect(law(verdict, "D2").examples).toEqual([id(3)]);
  });

  test("D3: rewrites are explained by faults up to their bound", async () => {
    const again = (parts: Parts) => void parts.writes.push(id(3), id(4));
    expect(failedLaws(await judged(again))).toEqual(["D3"]);
    const explained = await judged((parts) => {
      again(parts);
      parts.faults[0]!.redeliveries_max = 2;
    });
    expect(explained.status).toBe("passed");
  });

  test("O1: a later event stands before an earlier one", async () => {
    const verdict = await judged((parts) => {
      parts.log = twoReaders([0, 1, 2, 3, 5, 4, 6, 7, 8, 9].map((seq, offset) => inLog(seq, offset)));
      parts.outcomes = parts.outcomes.map(({ offset: _offset, partition: _partition, ...rest }) => rest);
    });
    expect(failedLaws(verdict)).toEqual(["O1"]);
    expect(law(verdict, "O1").examples).toEqual([id(4)]);
  });

  test("R1: a silence beyond its bound; a fault without proof proves nothing; nothing after a fault is a failure", async () => {
    expect(failedLaws(await judged((_, meta) => void Object.assign(meta, { ack_gap_max_ms: 50 })))).toEqual(["R1"]);
    const unproved = await judged((parts) => void delete parts.faults[0]!.proof);
    expect(law(unproved, "R1").status).toBe("unknown");
    expect(unproved.status).toBe("unknown");
    expect(failedLaws(await judged((parts) => void Object.assign(parts.faults[0]!, { t1_ms: T0_MS + 5000 })))).toEqual([
      "R1",
    ]);
  });
});

describe("what shows nothing never passes", () => {
  const statuses = (verdict: Verdict) => new Set(verdict.laws.map(({ status }) => status));

  test("a history without records, and one with empty ones", async () => {
    const nothing = await judge(memoryHistory({}, {}));
    expect(nothing.status).toBe("unknown");
    expect(statuses(nothing)).toEqual(new Set(["unknown"]));
    const empty = Object.fromEntries(KINDS.map((kind) => [kind, []]));
    expect(statuses(await judge(memoryHistory({ quiescent: true }, empty)))).toEqual(new Set(["unknown"]));
  });

  test("a history in which nothing was acknowledged for certain", async () => {
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
    expect(lawsWith(verdict, "passed")).toEqual([]);
    expect(verdict.counts.uncertain_percent).toBe(100);
  });

  test("a checker that crashes gives unknown, and the whole is no longer passed", async () => {
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

  test("a reason for what was not recorded is said", async () => {
    const history: History = memoryHistory({ not_recorded: { log: "--skip-log" } }, { outcomes: [ok(0)] });
    expect(law(await judge(history), "L1").detail).toBe("not recorded: what stands in Kafka (--skip-log)");
  });
});
