/** What an audit concludes from incomplete records: neither an accusation nor an excuse. Sources are made by the test. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { HistoryWriter, openHistory } from "../../../scripts/audit/history.ts";
import { readIngestOutcomes } from "../../../scripts/audit/ingest-outcomes.ts";
import { type AuditScope, recordHistory } from "../../../scripts/audit/record.ts";
import type { AuditSources, LogEvent, ProducerLedger } from "../../../scripts/audit/sources.ts";
import { judge, type Verdict } from "../../../scripts/audit/verdict.ts";
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
  };
}

/** The status of each invariant. */
async function audited(sources: AuditSources, scope: Partial<AuditScope>): Promise<Record<string, string>> {
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
  const verdict: Verdict = await judge(await openHistory(path));
  return Object.fromEntries(verdict.laws.map(({ law, status }) => [law, status]));
}

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

test("acknowledged events in a batch of Kafka that cannot be read are no loss", async () => {
  const outcomes = [{ run: RUN, conveyor: BELT, seq: 0, last_seq: 9, outcome: "ok" as const }];
  const sources = pipelineOf(numbers(10), [], { first_offset: 4, last_offset: 6 });
  expect(await audited(sources, { outcomes })).toMatchObject({ L1: "unknown", L2: "passed", L3: "passed" });
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
