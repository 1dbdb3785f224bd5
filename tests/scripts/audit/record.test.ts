/** What an audit concludes from incomplete records: neither an accusation nor an excuse. Sources are made by the test. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { HistoryWriter, openHistory } from "../../../scripts/audit/history.ts";
import { readIngestOutcomes } from "../../../scripts/audit/ingest-outcomes.ts";
import { type AuditScope, recordHistory } from "../../../scripts/audit/record.ts";
import {
  type AuditSources,
  type LogEvent,
  MAX_DEAD_LETTERS,
  type ProducerLedger,
} from "../../../scripts/audit/sources.ts";
import { judge, type Verdict } from "../../../scripts/audit/verdict.ts";
import { parseLine } from "../../../services/domain/line-protocol.ts";
import { contentOf } from "../../../services/domain/point-content.ts";
import { assignedRun } from "../../../services/domain/run-id.ts";
import type { Range } from "../../../services/domain/sequence.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const RUN = "r1";
const BELT = "belt-1";
const T0_MS = 1_764_038_400_000;
const folder = temporaryFolder();
let recordings = 0;

/** A pipeline that holds these sequence numbers in Kafka, in this order, and each of them in InfluxDB. */
function pipelineOf(
  seqs: readonly number[],
  ledgers: ProducerLedger[] = [],
  unreadable: { first_offset: number; last_offset: number } | undefined = undefined,
): AuditSources {
  const events: LogEvent[] = seqs.map((seq, offset) => ({
    partition: 0,
    offset,
    run: RUN,
    conveyor: BELT,
    seq,
    tsMs: T0_MS + seq,
    hash: `h${seq}`,
    values: seq,
  }));
  return {
    ledgers: async () => ({ ledgers, unresponsive: [] }),
    checkpoints: async () => ({ lines: [] }),
    offsets: async () => [{ partition: 0, begin: 0, end: seqs.length, committed: seqs.length }],
    deadLetters: async () => [],
    log: async (_, visit) => {
      const { first_offset = Number.POSITIVE_INFINITY, last_offset = -1 } = unreadable ?? {};
      for (const event of events) if (event.offset < first_offset || event.offset > last_offset) await visit(event);
      const unreadable_batches = unreadable ? [{ partition: 0, ...unreadable, reason: "CRC" }] : [];
      return { records: events.length, unreadable_batches, other_runs: {} } as Awaited<ReturnType<AuditSources["log"]>>;
    },
    pointCounts: async (_, { startMs }) => [{ startMs, points: seqs.length }],
    points: async (_filter, _startMs, _endMs, visit) => {
      for (const seq of new Set(seqs)) {
        const timestampNs = `${T0_MS + seq}${String(seq).padStart(6, "0")}`;
        await visit({ run: RUN, conveyor: BELT, seq, timestampNs, values: seq });
      }
    },
    fieldCounts: async () => [],
    fieldValues: async () => {},
  };
}

/** A pipeline that has taken lines: a producer's ledger, the records in Kafka, and the fields in InfluxDB. */
function pipelineOfLines(producerRun: string, lines: readonly string[], stored: readonly string[]): AuditSources {
  const run = assignedRun(producerRun, 1);
  const contentsOf = (texts: readonly string[]) =>
    texts.map((text) => contentOf(parseLine(text, "ns", 0).point!)).map(({ key, fields }) => ({ key, fields }));
  const ledger = { pod: "producer-0", run: producerRun, started_at: "", repeated: 0, dropped_from_ledger: 0 };
  const runs = { [run]: { token: [[0, lines.length - 1] as Range] } };
  return {
    ...pipelineOf([], [{ ...ledger, runs }]),
    offsets: async () => [{ partition: 0, begin: 0, end: lines.length, committed: lines.length }],
    log: async ({ runs: wanted, fleets }, visit) => {
      const isWanted = fleets || wanted!.includes(run);
      for (const [offset, { key, fields }] of contentsOf(lines).entries()) {
        const identity = isWanted ? ("assigned" as const) : ("foreign" as const);
        const point = { identity, measurement: "m", key, fields: fields.join("") };
        const event = { partition: 0, offset, run, conveyor: "token", seq: offset, tsMs: T0_MS };
        await visit({ ...event, hash: String(offset), values: undefined, point });
      }
      return { records: lines.length, other_runs: {} } as Awaited<ReturnType<AuditSources["log"]>>;
    },
    pointCounts: async () => [],
    points: async () => {},
    fieldCounts: async (_, { startMs }) => [{ startMs, points: stored.length }],
    fieldValues: async (_measurement, _startMs, _endMs, visit) => {
      for (const { key, fields } of contentsOf(stored)) for (const field of fields) await visit({ key, field });
    },
  };
}

async function verdictOf(sources: AuditSources, scope: Partial<AuditScope>): Promise<Verdict> {
  const path = join(folder, `history-${recordings++}`);
  const writer = await HistoryWriter.open(path);
  const { meta } = await recordHistory({
    sinceMs: T0_MS,
    ...scope,
    sources,
    writer,
    report: { step: (_title, work) => work({ update: () => {} }) },
    signal: new AbortController().signal,
  });
  await writer.close(meta);
  return await judge(await openHistory(path));
}

/** The status of each invariant. */
const statusesOf = ({ laws }: Verdict): Record<string, string> =>
  Object.fromEntries(laws.map(({ law, status }) => [law, status]));

const audited = async (sources: AuditSources, scope: Partial<AuditScope>) =>
  statusesOf(await verdictOf(sources, scope));

const numbers = (count: number) => Array.from({ length: count }, (_, seq) => seq);

describe("the outcomes of an ingest", () => {
  const accountOf = (counts: { acknowledged: number; repeated: number }, ranges: Range[]) => {
    const result = { run: RUN, failed: 0, ...counts, ledger: { [BELT]: [{ run: RUN, ranges }] } };
    const { outcomes, resent, unlisted, isComplete } = readIngestOutcomes(JSON.stringify(result), "account");
    return { outcomes, resent, unlisted, outcomesComplete: isComplete };
  };

  test("that list everything: all invariants of the account hold; repeats explain duplicates", async () => {
    const whole = accountOf({ acknowledged: 12, repeated: 2 }, [[0, 9]]);
    const found = await audited(pipelineOf([...numbers(10), 8, 9]), whole);
    expect(found).toMatchObject({ L1: "passed", L2: "passed", L3: "passed", P1: "passed", D1: "passed" });
    const oneMore = await audited(pipelineOf([...numbers(10), 7, 8, 9]), whole);
    expect(oneMore).toMatchObject({ D1: "failed" });
  });

  test("that were cut: events beyond them are no phantoms, and nothing that was not read passes", async () => {
    const cut = accountOf({ acknowledged: 10, repeated: 0 }, [[6, 9]]);
    const found = await audited(pipelineOf(numbers(10)), cut);
    expect(found).toMatchObject({ L1: "unknown", L2: "passed", L3: "unknown", P1: "unknown", D1: "passed" });
  });

  test("that were cut: duplicates are explained only as far as they were counted", async () => {
    const cut = accountOf({ acknowledged: 10, repeated: 0 }, [[6, 9]]);
    const six = await audited(pipelineOf([...numbers(10), ...numbers(6)]), cut);
    expect(six).toMatchObject({ D1: "unknown" });
    const seven = await audited(pipelineOf([...numbers(10), ...numbers(7)]), cut);
    expect(seven).toMatchObject({ D1: "failed" });
  });

  test("that were cut: a listed event that is missing is still a loss", async () => {
    const cut = accountOf({ acknowledged: 10, repeated: 0 }, [[6, 9]]);
    expect(await audited(pipelineOf(numbers(9)), cut)).toMatchObject({ L1: "failed", L3: "failed" });
  });
});

describe("lines, to which a producer has assigned identities", () => {
  const lines = [0, 1, 2].map((index) => `m,a=1 x=${index},y=5i ${T0_MS}00000${index}`);
  const run = "20251125T024000000Z-0-0000";

  test("are judged with their producer, by content", async () => {
    const found = await audited(pipelineOfLines(run, lines, lines), {});
    const passing = {
      L1: "passed",
      L2: "passed",
      L3: "passed",
      P1: "passed",
      V1: "passed",
      D1: "passed",
      D2: "passed",
    };
    expect(found).toMatchObject(passing);
    expect(await audited(pipelineOfLines("named-run", lines, lines), { runs: ["named-run"] })).toMatchObject(passing);
  });

  test("that are acknowledged after the ends of the partitions were read are not lost: numbers spread over partitions", async () => {
    const sources = pipelineOfLines(run, lines, lines);
    const [before] = (await sources.ledgers()).ledgers;
    const assigned = assignedRun(run, 1);
    // Number 2 is in the log; 1 is behind the end of its own partition, and acknowledged meanwhile.
    const ledgers = [[[0, 0]], [[0, 2]]] as Range[][];
    let reads = 0;
    const late: AuditSources = {
      ...sources,
      ledgers: async () => ({
        ledgers: [{ ...before!, runs: { [assigned]: { token: ledgers[Math.min(reads++, 1)]! } } }],
        unresponsive: [],
      }),
      log: async (range, visit) =>
        await sources.log(range, async (event) => {
          if (event.seq !== 1) await visit(event);
        }),
    };
    expect(await audited(late, {})).toMatchObject({ L1: "passed", L3: "passed", P1: "passed" });
  });

  test("that Kafka received before the window are not lost, also those above the first number that was read", async () => {
    const four = [0, 1, 2, 3].map((index) => `m,a=1 x=${index} ${T0_MS}00000${index}`);
    const sources = pipelineOfLines("20251125T000000000Z-0-0000", four, four);
    // 0 is older, and behind the first record of its partition that is not; 1 is older and was not read.
    const receivedMs = [T0_MS - 2, T0_MS - 1, T0_MS, T0_MS + 1];
    const without = (...missing: number[]): AuditSources => ({
      ...sources,
      log: async (range, visit) =>
        await sources.log(range, async ({ point, ...event }) => {
          if (missing.includes(event.seq)) return;
          await visit({ ...event, point: { ...point!, recordMs: receivedMs[event.seq]! } });
        }),
    });
    const older = await verdictOf(without(1), {});
    expect(statusesOf(older)).toMatchObject({ L1: "passed", L3: "passed", P1: "passed" });
    expect(older.missing.never_acknowledged.count).toBe(0);
    expect(await audited(without(1, 3), {})).toMatchObject({ L1: "failed", P1: "passed" });
  });

  test("fail where a point is missing, and where a field is missing or differs", async () => {
    const missing = await audited(pipelineOfLines(run, lines, lines.slice(1)), {});
    expect(missing).toMatchObject({ L2: "failed", L3: "failed", V1: "passed" });
    const changes: [was: string, becomes: string][] = [
      [",y=5i", ""],
      ["x=1", "x=1.5"],
      ["5i", "5"],
      ["y=5i", "z=5i"],
    ];
    for (const [was, becomes] of changes) {
      const stored = lines.map((line) => line.replace(was, becomes));
      const found = await audited(pipelineOfLines(run, lines, stored), {});
      expect(found).toMatchObject({ L2: "passed", L3: "passed", V1: "failed" });
    }
  });
});

test("acknowledged events in a batch of Kafka that cannot be read are no loss", async () => {
  const outcomes = [{ run: RUN, conveyor: BELT, seq: 0, last_seq: 9, outcome: "ok" as const }];
  const sources = pipelineOf(numbers(10), [], { first_offset: 4, last_offset: 6 });
  expect(await audited(sources, { outcomes })).toMatchObject({ L1: "unknown", L2: "passed", L3: "passed" });
});

test("more dead letters than an audit reads: what they would explain is unknown, not lost", async () => {
  const sources = { ...pipelineOf(numbers(9)), deadLetters: async () => Array(MAX_DEAD_LETTERS).fill({ headers: {} }) };
  const outcomes = [{ run: RUN, conveyor: BELT, seq: 0, last_seq: 8, outcome: "ok" as const }];
  expect(await audited(sources, { outcomes })).toMatchObject({ L1: "passed", L2: "unknown", L3: "unknown" });
});

test("an event that two producers acknowledged, since the first answer was lost, is an explained duplicate", async () => {
  const ledgerOf = (pod: string, ranges: Range[]): ProducerLedger => ({
    ...{ pod, run: pod, started_at: "", repeated: 0, dropped_from_ledger: 0 },
    runs: { [RUN]: { [BELT]: ranges } },
  });
  const ledgers = [ledgerOf("producer-0", [[0, 9]]), ledgerOf("producer-1", [[9, 9]])];
  expect(await audited(pipelineOf([...numbers(10), 9], ledgers), { runs: [RUN] })).toMatchObject({ D1: "passed" });
  const unexplained = pipelineOf([...numbers(10), 8, 9], ledgers);
  expect(await audited(unexplained, { runs: [RUN] })).toMatchObject({ D1: "failed" });
});

describe("a running producer whose ledger was cut", () => {
  const ledgerOf = (dropped: number, runs: ProducerLedger["runs"]): ProducerLedger => ({
    pod: "producer-0",
    run: "fleet",
    started_at: "2025-11-25T00:00:00Z",
    repeated: 0,
    dropped_from_ledger: dropped,
    runs,
  });

  test("may have lost the count of repeats", async () => {
    const sources = pipelineOf([...numbers(10), 9], [ledgerOf(4, { [RUN]: { [BELT]: [[0, 9]] } })]);
    expect(await audited(sources, { runs: [RUN] })).toMatchObject({ D1: "unknown" });
  });
});
