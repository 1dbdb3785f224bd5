/**
 * Records the history of the running pipeline without trusting any part of it: acknowledged events (from the ledgers of
 * producers, ended ones included, or from the senders' outcomes), events in Kafka (from two independent readers), committed
 * offsets, points in InfluxDB, dead letters. verdict.ts judges it.
 *
 * The order makes the sets comparable while events flow: acknowledged events first; then the end of the log, which is
 * after all of them; then the wait until the group has committed up to that end; then dead letters, the log up to that
 * end, and the database. Attempts are read last, so that they cover everything found before.
 */

import { BloomFilter } from "../../services/domain/bloom-filter.ts";
import { addLedger, addRanges, countOf, mergeRanges, type RangesByRun } from "../../services/domain/ledger-ranges.ts";
import { producerRunOf, runStart } from "../../services/domain/run-id.ts";
import type { Range } from "../../services/domain/sequence.ts";
import type { LedgerCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";
import type { LogEnd } from "../../services/protocol/log-reader.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { pause } from "../cli/wait.ts";
import { isInRanges, type ProducerLife, producerLives, RangeCollector } from "./checkpoints.ts";
import type { FaultRecord, HistoryMeta, HistoryWriter, LogRecord, OutcomeRecord } from "./history.ts";
import { type Column, IdentityTable } from "./identity-table.ts";
import { MAX_COMPARED_POINTS } from "./point-contents.ts";
import { planSlices } from "./point-slices.ts";
import { type AuditSources, type LogEvent, MAX_DEAD_LETTERS, type ProducerLedger } from "./sources.ts";

/** The group commits several times a second; a longer backlog is reported as unread. */
const COMMIT_LIMIT_MS = 60_000;
const POLL_INTERVAL_MS = 500;
/** After a broker failure, a group's coordinator moves within seconds; meanwhile queries fail. */
const QUERY_RETRY_LIMIT_MS = 20_000;
/** Field values per query: they are read as a stream, and a query must end within its limit. */
const MAX_FIELD_VALUES_PER_SLICE = 500_000;
/** One query per measurement. */
const MAX_MEASUREMENTS = 1000;
/** Timestamps of missing events that are queried for other points: fewer show a pattern. */
const MAX_HOLDER_QUERIES = 200;

/** Which events are audited, and what is known of them beforehand. */
export interface AuditScope {
  /** Start of the window (ms since 1970): when the first of the runs began to send. */
  sinceMs: number;
  /** Only these runs. Without runs, prefix and outcomes: the runs of the producers' fleets. */
  runs?: readonly string[] | undefined;
  /** Only conveyors with this prefix ("load-7-"). */
  conveyorsPrefix?: string | undefined;
  /**
   * The outcome of every event that the senders attempted, in ranges: ok, fail (refused, certainly not stored) or
   * unknown (no response, 503). When given, the producers' ledgers are not read.
   */
  outcomes?: Iterable<OutcomeRecord> | AsyncIterable<OutcomeRecord> | undefined;
  /** False: the senders do not know every outcome, so `outcomes` is incomplete. */
  outcomesComplete?: boolean | undefined;
  /** Events that the senders repeated after an unknown outcome: as many may be in Kafka twice. */
  resent?: number | undefined;
  /** Acknowledged events that `outcomes` does not list, since a bound removed them. */
  unlisted?: number | undefined;
  faults?: readonly FaultRecord[] | undefined;
  /** Checkpoints of ended producers, besides those that the sources still have. */
  checkpoints?: readonly LedgerCheckpoint[] | undefined;
}

export interface RecordOptions extends AuditScope {
  sources: AuditSources;
  writer: HistoryWriter;
  report: Pick<Report, "step">;
  signal: AbortSignal;
}

export interface RecordedHistory {
  meta: HistoryMeta;
  runs: string[];
  /** Acknowledged before the window: not judged. */
  acknowledged_before: number;
  /** Acknowledged events of other runs in the producers' ledgers: not judged. */
  acknowledged_elsewhere: number;
  /** Events of other runs in the window of Kafka's log: not judged. */
  others_in_kafka: { runs: number; events: number };
  producers: {
    running: number;
    /** Ended, with a complete ledger. */
    ended: number;
    /** Ended, frozen or killed: their last acknowledgements are unknown. */
    cut_off: string[];
  };
  /** What could not be read, as messages. */
  gaps: string[];
}

/**
 * The first and last sequence number per run and conveyor in the window; earlier events are not judged.
 *
 * A partition is read from its first record that is not older than the window, and so are older records behind it, of
 * another producer. The numbers of one source of an assigned run spread over all partitions, in the order of their records'
 * times (event-producer.ts): from the first one whose record is not older, all were read.
 */
export class Window {
  readonly #first = new Map<string, number>();
  readonly #firstReceived = new Map<string, number>();
  /** Numbers that were read though their records are older than the window. */
  readonly older = new RangeCollector();
  readonly #last = new Map<string, number>();

  /** @param sinceMs runs that began later are in the window from their first event on */
  constructor(private readonly sinceMs = Number.POSITIVE_INFINITY) {}

  /** @param recordMs Kafka's time of the record, where the numbers spread over partitions */
  add(run: string, conveyor: string, seq: number, recordMs = Number.POSITIVE_INFINITY): void {
    const key = `${run}\n${conveyor}`;
    const lower = (firsts: Map<string, number>) => {
      const first = firsts.get(key);
      if (first === undefined || seq < first) firsts.set(key, seq);
    };
    lower(this.#first);
    if (recordMs >= this.sinceMs) lower(this.#firstReceived);
    else this.older.add(run, conveyor, seq);
    if (!(seq <= (this.#last.get(key) ?? -1))) this.#last.set(key, seq);
  }

  /** -1: not in the window. */
  last(run: string, conveyor: string): number {
    return this.#last.get(`${run}\n${conveyor}`) ?? -1;
  }

  /** Undefined: not in the window. */
  first(run: string, conveyor: string): number | undefined {
    return this.#firstIn(this.#first, run, conveyor);
  }

  /** The number from which on all records were read; undefined: none. */
  firstReceived(run: string, conveyor: string): number | undefined {
    return this.#firstIn(this.#firstReceived, run, conveyor);
  }

  #firstIn(firsts: ReadonlyMap<string, number>, run: string, conveyor: string): number | undefined {
    const startMs = runStart(run);
    return startMs !== undefined && startMs >= this.sinceMs ? 0 : firsts.get(`${run}\n${conveyor}`);
  }
}

/** The parts of ranges from `first` on (undefined: none), and how many numbers are before it. */
export function clipRanges(
  ranges: readonly Range[],
  first: number = Number.POSITIVE_INFINITY,
): { inside: Range[]; before: number } {
  let before = 0;
  const inside: Range[] = [];
  for (const [from, to] of ranges) {
    if (to < first) before += to - from + 1;
    else {
      before += Math.max(0, first - from);
      inside.push([Math.max(from, first), to]);
    }
  }
  return { inside, before };
}

/** Acknowledgements as the producers recorded them, before the log is read. */
interface ProducerRecords {
  running: ProducerLedger[];
  lives: ProducerLife[];
  acknowledged: RangesByRun;
  /** Events that two producers have acknowledged: their sender repeated them after an answer that was lost. */
  acknowledgedTwice: number;
  /** Runs with acknowledgements that may be missing here. */
  open: Set<string>;
  unresponsive: string[];
}

function* entriesOf(ledger: RangesByRun) {
  for (const [run, conveyors] of ledger) {
    for (const [conveyor, ranges] of conveyors) yield { run, conveyor, ranges };
  }
}

/** Combines the ledgers of running producers with those of ended ones. */
function combineLedgers(
  ledgers: readonly ProducerLedger[],
  lives: ProducerLife[],
  unresponsive: string[],
  isJudged: (run: string, conveyor: string) => boolean,
): ProducerRecords {
  const acknowledged: RangesByRun = new Map();
  const open = new Set<string>();
  let acknowledgedTwice = 0;
  const add = (run: string, conveyor: string, ranges: readonly Range[], isOther: boolean) => {
    const known = acknowledged.get(run)?.get(conveyor) ?? [];
    if (isOther && known.length > 0 && isJudged(run, conveyor))
      acknowledgedTwice += countOf(ranges) - countOf(subtractRanges(ranges, known));
    addRanges(acknowledged, run, conveyor, ranges);
  };
  for (const { runs } of ledgers) {
    for (const [run, conveyors] of Object.entries(runs))
      for (const [conveyor, ranges] of Object.entries(conveyors)) add(run, conveyor, ranges, true);
  }
  const isRunning = new Set(ledgers.map(({ run }) => run));
  for (const life of lives) {
    for (const { run, conveyor, ranges } of entriesOf(life.ledger)) {
      // The checkpoints of a running producer repeat its ledger.
      add(run, conveyor, ranges, !isRunning.has(life.run));
      if (!life.isComplete && !isRunning.has(life.run)) open.add(run);
    }
    if (!life.isComplete && !isRunning.has(life.run)) open.add(life.run);
  }
  for (const ledger of ledgers) {
    if (ledger.dropped_from_ledger > 0) for (const run of Object.keys(ledger.runs)) open.add(run);
  }
  return { running: [...ledgers], lives, acknowledged, acknowledgedTwice, open, unresponsive };
}

/** Repeats a query that fails. @throws the last error, after QUERY_RETRY_LIMIT_MS */
async function retryQuery<T>(query: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const untilMs = performance.now() + QUERY_RETRY_LIMIT_MS;
  for (;;) {
    try {
      return await query();
    } catch (error) {
      if (signal.aborted || performance.now() > untilMs) throw error;
      await pause(POLL_INTERVAL_MS, signal);
    }
  }
}

/** Writes the history of the running pipeline; the writer stays open. */
export async function recordHistory(options: RecordOptions): Promise<RecordedHistory> {
  const { sources, writer, sinceMs } = options;
  const meta: HistoryMeta = {
    attempts_complete: options.outcomes !== undefined && options.outcomesComplete !== false,
    quiescent: false,
    not_recorded: {
      writes: "the processor counts its writes but does not list them",
      ...(options.faults ? {} : { faults: "an audit injects none" }),
    },
  };
  const gaps: string[] = [];
  for (const fault of options.faults ?? []) await writer.append("faults", fault);

  const scope = options.outcomes
    ? await recordSenderOutcomes(options, options.outcomes, meta)
    : await readProducers(options, meta, gaps);
  const ends = await recordCommits(options, meta);
  const refusedAt = await recordDeadLetters(options, meta);
  const reading: Reading = {
    ...scope,
    window: new Window(sinceMs),
    unknowns: new RangeCollector(),
    newer: new RangeCollector(),
    table: new IdentityTable(),
    unreportedFleets: [],
    oldestMs: sinceMs,
    newestMs: Date.now(),
    logEnd: undefined,
    contents: new PointContents(),
  };
  await recordLog(options, reading, ends, refusedAt);
  if (!reading.logEnd) meta.not_recorded!.log = "the deployed image is older than this command";
  await recordPoints(options, reading);
  await recordStoredFields(options, reading, meta);
  if (reading.logEnd) await recordHolders(sources, writer, reading.table);

  const others = Object.values(reading.logEnd?.other_runs ?? {});
  const recording: RecordedHistory = {
    meta,
    runs: reading.runs ?? [],
    acknowledged_before: 0,
    acknowledged_elsewhere: 0,
    others_in_kafka: { runs: others.length, events: others.reduce((sum, events) => sum + events, 0) },
    producers: { running: 0, ended: 0, cut_off: [] },
    gaps,
  };
  if (reading.known) await recordProducerOutcomes(options, reading.known, reading, recording);
  meta.acknowledged_before = recording.acknowledged_before;
  return recording;
}

/** Whose events are read. */
interface ReadScope {
  /** Undefined: all. Fleets found in the log are added. */
  runs: string[] | undefined;
  /** Every fleet that wrote in the window is judged, also one without any record of its producer. */
  fleets: boolean;
  /** Undefined: the senders' outcomes are used instead. */
  known: ProducerRecords | undefined;
}

/** 1. Acknowledged events, before anything else is read: from the senders' outcomes. */
async function recordSenderOutcomes(
  { writer, runs, conveyorsPrefix, resent, unlisted }: RecordOptions,
  outcomes: NonNullable<RecordOptions["outcomes"]>,
  meta: HistoryMeta,
): Promise<ReadScope> {
  const named = new Set<string>();
  await writer.begin("attempts");
  await writer.begin("outcomes");
  for await (const outcome of outcomes) {
    const { run, conveyor, seq, last_seq } = outcome;
    named.add(run);
    await writer.append("attempts", { run, conveyor, seq, last_seq });
    await writer.append("outcomes", outcome);
  }
  if (resent) Object.assign(meta, { idempotent_producer: false, retries: resent });
  if (unlisted) Object.assign(meta, { attempts_complete: false, unlisted, retries_uncounted: unlisted });
  const isOfAll = runs === undefined && conveyorsPrefix === undefined;
  const wanted = isOfAll ? [...named] : runs && [...runs];
  if (wanted?.length === 0) throw noProducer();
  return { runs: wanted, fleets: false, known: undefined };
}

/** 1. Acknowledged events, before anything else is read: from the producers' ledgers, ended ones included. */
async function readProducers(options: RecordOptions, meta: HistoryMeta, gaps: string[]): Promise<ReadScope> {
  const { sources, report, sinceMs } = options;
  const known = await report.step("producers' ledgers", async (step) => {
    const [{ ledgers, unresponsive }, { lines, gap }] = await Promise.all([
      sources.ledgers(),
      sources.checkpoints(sinceMs),
    ]);
    if (gap) gaps.push(gap);
    const { runs, conveyorsPrefix } = options;
    // Without a choice, the fleets: their runs are named by their start.
    const isJudged = (run: string, conveyor: string) =>
      (runs?.includes(run) ?? (conveyorsPrefix !== undefined || runStart(run) !== undefined)) &&
      conveyor.startsWith(conveyorsPrefix ?? "");
    const lives = producerLives([...lines, ...(options.checkpoints ?? [])]);
    const found = combineLedgers(ledgers, lives, unresponsive, isJudged);
    const ended = found.lives.filter(({ run }) => !isRunningIn(found, run)).length;
    step.update(`${ledgers.length} running producers${ended > 0 ? `, ${ended} ended` : ""}`);
    return found;
  });
  const ended = known.lives.filter(({ run }) => !isRunningIn(known, run));
  const sumOf = (counts: number[]) => counts.reduce((sum, count) => sum + count, 0);
  const repeated = sumOf([...known.running, ...ended].map((producer) => producer.repeated)) + known.acknowledgedTwice;
  const dropped = sumOf([
    ...known.running.map((ledger) => ledger.dropped_from_ledger),
    ...ended.map((life) => life.dropped),
  ]);
  if (repeated > 0) Object.assign(meta, { idempotent_producer: false, retries: repeated });
  if (dropped > 0) meta.retries_uncounted = dropped;
  const fleets = options.runs === undefined && options.conveyorsPrefix === undefined;
  if (fleets) {
    const runs = [...known.running, ...known.lives].map(({ run }) => run);
    return { runs: withAssigned(runs, known), fleets, known };
  }
  if (options.runs?.length === 0) throw noProducer();
  return { runs: options.runs && withAssigned(options.runs, known), fleets, known };
}

/** Runs, and those that their producers have assigned to events without identity. */
function withAssigned(runs: readonly string[], { acknowledged }: ProducerRecords): string[] {
  const named = new Set(runs);
  return [...new Set([...runs, ...[...acknowledged.keys()].filter((run) => named.has(producerRunOf(run)))])];
}

const noProducer = () =>
  new OperatorError("no producer is running: acknowledged events are not known", {
    exitCode: EXIT.precondition,
    hint: "bun scripts/audit.ts --run RUN judges the events of one run in Kafka",
  });

/**
 * 2. The end of the log, and the offsets that the group commits up to it.
 * @returns the end of each partition
 */
async function recordCommits(
  { sources, writer, report, signal, sinceMs }: RecordOptions,
  meta: HistoryMeta,
): Promise<Map<number, number>> {
  const { ends, committed } = await report.step(
    "the processor's offsets",
    async (step) => {
      const query = () => retryQuery(() => sources.offsets(), signal);
      const first = await query();
      const ends = new Map(first.map(({ partition, end }) => [partition, end]));
      const startedAt = performance.now();
      for (let now = first; ; now = await query()) {
        const behind = now.reduce(
          (sum, { partition, committed }) => sum + Math.max(0, (ends.get(partition) ?? 0) - (committed ?? 0)),
          0,
        );
        if (now.some(({ committed }) => committed === undefined)) {
          meta.not_recorded!.commits = "the deployed image is older than this command";
          step.update("not supported by the deployed image");
          return { ends, committed: undefined };
        }
        step.update(behind === 0 ? "all read and committed" : `${behind} behind`);
        meta.deleted_unread = now
          .filter(({ gap_found_at_ms }) => (gap_found_at_ms ?? 0) >= sinceMs)
          .reduce((sum, { deleted_unread }) => sum + (deleted_unread ?? 0), 0);
        if (behind === 0 || performance.now() - startedAt > COMMIT_LIMIT_MS) {
          return { ends, committed: now.map(({ partition, committed }) => ({ partition, offset: committed! })) };
        }
        await pause(POLL_INTERVAL_MS, signal);
      }
    },
    { limitMs: COMMIT_LIMIT_MS },
  );
  for (const commit of committed ?? []) await writer.append("commits", commit);
  return ends;
}

/**
 * 3. Dead letters. Those of the processor name the refused record; its identity is read from the log.
 * @returns the reason by "partition offset" of the record
 */
async function recordDeadLetters(
  { sources, writer, report, signal, sinceMs }: RecordOptions,
  meta: HistoryMeta,
): Promise<Map<string, string>> {
  const refusedAt = new Map<string, string>();
  await report.step("dead letters", async (step) => {
    const deadLetters = await retryQuery(() => sources.deadLetters(sinceMs), signal);
    // With a part of them, events whose dead letters are in the rest would count as lost.
    if (deadLetters.length >= MAX_DEAD_LETTERS) {
      meta.not_recorded!.dlq = `there are ${MAX_DEAD_LETTERS} dead letters or more: a shorter --since has fewer`;
      step.update(`${MAX_DEAD_LETTERS} or more, which are not read`);
      return;
    }
    await writer.begin("dlq");
    for (const { headers } of deadLetters) {
      const reason = headers.reason ?? "none";
      if (headers.source_offset !== undefined)
        refusedAt.set(`${headers.source_partition} ${headers.source_offset}`, reason);
      else await writer.append("dlq", { reason });
    }
    step.update(String(deadLetters.length));
  });
  return refusedAt;
}

/** State of reading the log and the database. */
interface Reading extends ReadScope, Seen {
  runs: string[] | undefined;
  /** Fleets in the log without any record of their producer. */
  unreportedFleets: string[];
  table: IdentityTable;
  /** Times of the log's events (ms since 1970): the range to read from the database. */
  oldestMs: number;
  newestMs: number;
  /** Undefined: the log was not read. */
  logEnd: LogEnd | undefined;
  contents: PointContents;
}

/** Events of the log whose points have no identity: which points to read from the database. */
class PointContents {
  /** Times of their points (ms since 1970). */
  readonly ranges = new Map<string, { oldestMs: number; newestMs: number }>();
  readonly keys = new BloomFilter();
  count = 0;

  add(measurement: string, key: string, tsMs: number): void {
    this.count++;
    this.keys.add(key);
    const range = this.ranges.get(measurement);
    if (range) {
      range.oldestMs = Math.min(range.oldestMs, tsMs);
      range.newestMs = Math.max(range.newestMs, tsMs);
      // One more than the limit shows that there are more.
    } else if (this.ranges.size <= MAX_MEASUREMENTS) {
      this.ranges.set(measurement, { oldestMs: tsMs, newestMs: tsMs });
    }
  }

  /** Why the points are not read, if they are not. */
  get excess(): string | undefined {
    if (this.count > MAX_COMPARED_POINTS) return `${this.count} points; at most ${MAX_COMPARED_POINTS} are compared`;
    return this.ranges.size > MAX_MEASUREMENTS ? `more than ${MAX_MEASUREMENTS} measurements` : undefined;
  }
}

/** 4. The log, by two independent readers with different decoders. */
async function recordLog(
  { sources, writer, report, sinceMs, conveyorsPrefix }: RecordOptions,
  reading: Reading,
  ends: ReadonlyMap<number, number>,
  refusedAt: ReadonlyMap<string, string>,
): Promise<void> {
  const { runs, fleets, known } = reading;
  const named = new Set(runs);
  const to = [...ends].map(([partition, offset]) => ({ partition, offset }));
  for (const reader of [1, 2]) {
    const isRead = await report.step(`Kafka's log, reader ${reader} of 2`, async (step) => {
      let listed = 0;
      const end = await sources.log(
        {
          to,
          from_timestamp_ms: sinceMs,
          decoder: reader === 1 ? "own" : "kafkajs",
          ...(runs ? { runs, fleets } : {}),
          conveyors_prefix: conveyorsPrefix,
        },
        async ({ partition, offset, run, conveyor, seq, tsMs, hash, values, point }) => {
          const identity = { run, conveyor, seq };
          const content = point && contentRecordOf(point);
          const record = { reader, partition, offset, ...identity, hash, ts_ms: tsMs, values };
          await writer.append("log", content ? { ...record, point: content } : record);
          if (content?.foreign) return;
          if (++listed % 10_000 === 0) step.update(`${listed} events`);
          if (reader !== 1) return;
          if (fleets && !named.has(run)) {
            named.add(run);
            runs!.push(run);
            const producerRun = producerRunOf(run);
            if (known!.open.has(producerRun)) known!.open.add(run);
            else if (producerRun === run || !named.has(producerRun)) {
              known!.open.add(run);
              reading.unreportedFleets.push(run);
            }
          }
          reading.window.add(run, conveyor, seq, point?.identity === "assigned" ? point.recordMs : undefined);
          if (point) reading.contents.add(point.measurement, point.key, tsMs);
          else {
            reading.table.add("log", identity);
            if (tsMs < reading.oldestMs) reading.oldestMs = tsMs;
            if (tsMs > reading.newestMs) reading.newestMs = tsMs;
          }
          if (known?.open.has(run) && !isInRanges(known.acknowledged.get(run)?.get(conveyor), seq)) {
            reading.unknowns.add(run, conveyor, seq);
          }
          const reason = refusedAt.size > 0 ? refusedAt.get(`${partition} ${offset}`) : undefined;
          if (reason !== undefined) await writer.append("dlq", { ...identity, reason });
        },
      );
      if (!end) {
        step.update("not supported by the deployed image");
        return false;
      }
      await writer.begin("log");
      // An older image lists no batches.
      const batches = end.unreadable_batches ?? [];
      if (reader === 1) {
        reading.logEnd = end;
        await writer.begin("unreadable");
        for (const batch of batches) await writer.append("unreadable", batch);
      }
      const unreadable = batches.map(
        ({ partition, first_offset, last_offset, reason }) =>
          `; partition ${partition}: offsets ${first_offset} to ${last_offset} cannot be read: ${reason}`,
      );
      step.update(`${listed} events of ${end.records}${unreadable.join("")}`);
      return true;
    });
    if (!isRead) break;
  }
}

/** 5. The database, over the times of the log's events. */
async function recordPoints(
  { sources, writer, report, signal, conveyorsPrefix }: RecordOptions,
  reading: Reading,
): Promise<void> {
  const { runs, known, window, newer, table, logEnd } = reading;
  await report.step("InfluxDB's points", async (step) => {
    await writer.begin("sink");
    const endMs = Math.max(Date.now(), reading.newestMs) + 1;
    const filter = { runs, conveyorsPrefix, withValues: true };
    let points = 0;
    const slices = await planSlices(
      (range) => sources.pointCounts({ conveyorsPrefix }, range),
      reading.oldestMs,
      endMs,
    );
    for (const [startMs, stopMs] of slices) {
      signal.throwIfAborted();
      await sources.points(filter, startMs, stopMs, async (point) => {
        const { run, conveyor, seq, timestampNs, values } = point;
        if (known) {
          if (!logEnd) window.add(run, conveyor, seq);
          const first = window.first(run, conveyor);
          if (first === undefined || seq < first) return;
          if (logEnd && seq > window.last(run, conveyor)) {
            newer.add(run, conveyor, seq);
            return;
          }
        }
        points++;
        table.add("sink", { run, conveyor, seq });
        await writer.append("sink", { run, conveyor, seq, t_ns: timestampNs, values });
      });
      step.update(`${points} points`);
    }
  });
}

const contentRecordOf = ({ identity, key, fields }: NonNullable<LogEvent["point"]>): LogRecord["point"] => ({
  key,
  fields,
  ...(identity === "assigned" ? { assigned: true } : {}),
  ...(identity === "foreign" ? { foreign: true } : {}),
});

/** 5a. The points of events that are not of version 1: every field at the series and time of one of them. */
async function recordStoredFields(
  { sources, writer, report, signal }: RecordOptions,
  { contents }: Reading,
  meta: HistoryMeta,
): Promise<void> {
  if (contents.count === 0) {
    await writer.begin("stored_fields");
    return;
  }
  await report.step("InfluxDB's points of other measurements", async (step) => {
    if (contents.excess) {
      meta.not_recorded!.stored_fields = contents.excess;
      step.update(contents.excess);
      return;
    }
    await writer.begin("stored_fields");
    let values = 0;
    for (const [measurement, { oldestMs, newestMs }] of contents.ranges) {
      const slices = await planSlices(
        (range) => sources.fieldCounts(measurement, range),
        oldestMs,
        newestMs + 1,
        MAX_FIELD_VALUES_PER_SLICE,
      );
      for (const [startMs, endMs] of slices) {
        signal.throwIfAborted();
        await sources.fieldValues(measurement, startMs, endMs, async ({ key, field }) => {
          if (!contents.keys.mayHave(key)) return;
          values++;
          await writer.append("stored_fields", { key, field });
        });
        step.update(`${values} values of ${contents.ranges.size} measurements`);
      }
    }
  });
}

const isRunningIn = (known: ProducerRecords, run: string) => known.running.some((ledger) => ledger.run === run);

/**
 * Events in Kafka that are missing in the database may have been overwritten by a run that is not judged: reads the
 * points at their timestamps.
 */
async function recordHolders(sources: AuditSources, writer: HistoryWriter, table: IdentityTable): Promise<void> {
  const isMissing = (word: (column: Column) => number) => word("log") & ~word("sink");
  if (table.select(isMissing).count === 0) return;
  const queries = new Map<string, { conveyor: string; ms: number }>();
  await writer.each("log", ({ reader, run, conveyor, seq, ts_ms, point }) => {
    if (reader !== 1 || ts_ms === undefined || point || queries.size >= MAX_HOLDER_QUERIES) return;
    if (!table.has("sink", { run, conveyor, seq })) queries.set(`${conveyor} ${ts_ms}`, { conveyor, ms: ts_ms });
  });
  await writer.begin("holders");
  for (const { conveyor, ms } of queries.values()) {
    await sources.points({ conveyors: [conveyor] }, ms, ms + 1, async ({ run, conveyor, seq, timestampNs }) => {
      const holder = { run, conveyor, seq };
      if (!table.has("sink", holder)) await writer.append("holders", { ...holder, t_ns: timestampNs });
    });
  }
}

interface Seen {
  runs: readonly string[] | undefined;
  unreportedFleets: readonly string[];
  window: Window;
  /** In Kafka, of ended producers whose ledger may lack their acknowledgement. */
  unknowns: RangeCollector;
  /** In InfluxDB, after the end of the log that was read. */
  newer: RangeCollector;
}

/**
 * 6. Attempts and outcomes, from the producers' ledgers. Read last, they cover everything found before; events after the
 * end of the log that was read are newer than this audit and are skipped.
 */
async function recordProducerOutcomes(
  { sources, writer, conveyorsPrefix }: RecordOptions,
  known: ProducerRecords,
  { runs, unreportedFleets, window, unknowns, newer }: Seen,
  recording: RecordedHistory,
): Promise<void> {
  const { meta } = recording;
  const lives = known.lives.filter(({ run }) => !isRunningIn(known, run));
  recording.producers = {
    running: known.running.length,
    ended: lives.filter(({ isComplete }) => isComplete).length,
    cut_off: [
      ...lives.filter(({ isComplete }) => !isComplete).map(({ run, gap }) => `${run}: ${gap}`),
      ...unreportedFleets.map((run) => `${run}: no record of its producer is left`),
      ...known.unresponsive.map((pod) => `${pod}: is running and does not answer`),
    ],
  };
  const isWanted = (run: string, conveyor: string) =>
    (runs === undefined || runs.includes(run)) && conveyor.startsWith(conveyorsPrefix ?? "");
  const now: RangesByRun = new Map();
  for (const { runs } of (await sources.ledgers()).ledgers) addLedger(now, runs);
  for (const { run, conveyor, ranges } of entriesOf(known.acknowledged)) addRanges(now, run, conveyor, ranges);
  // Without the log, only what was acknowledged before anything else was read.
  const hasLog = meta.not_recorded!.log === undefined;
  let isBegun = false;
  for (const { run, conveyor, ranges } of entriesOf(now)) {
    if (!isWanted(run, conveyor)) {
      recording.acknowledged_elsewhere += countOf(ranges);
      continue;
    }
    if (!isBegun) {
      await writer.begin("attempts");
      await writer.begin("outcomes");
      isBegun = true;
    }
    const before = known.acknowledged.get(run)?.get(conveyor) ?? [];
    const seen = hasLog ? until(ranges, window.last(run, conveyor)) : [];
    const acknowledged = mergeRanges([...before, ...seen]);
    // The numbers of an assigned run spread over all partitions: one above the first that was read may be older than the
    // window, and one below the last newer than the end of its own partition. The others must be in the log.
    const isOfOnePartition = producerRunOf(run) === run;
    const first = isOfOnePartition ? window.first(run, conveyor) : window.firstReceived(run, conveyor);
    const { inside, before: outside } = clipRanges(acknowledged, first);
    const older = intersectRanges(window.older.of(run, conveyor), acknowledged);
    for (const [seq, last_seq] of mergeRanges([...older, ...inside])) {
      await writer.append("attempts", { run, conveyor, seq, last_seq });
    }
    const judged = isOfOnePartition ? inside : clipRanges(before, first).inside;
    for (const [seq, last_seq] of judged)
      await writer.append("outcomes", { run, conveyor, seq, last_seq, outcome: "ok" });
    recording.acknowledged_before += outside;
  }
  if (!isBegun) {
    meta.not_recorded!.attempts = "no producer lists this run, running or ended";
    meta.not_recorded!.outcomes = meta.not_recorded!.attempts;
  }
  for (const { run, conveyor, ranges } of unknowns.entries()) {
    for (const [seq, last_seq] of ranges) {
      const reason = "its producer ended before it recorded the outcome";
      await writer.append("outcomes", { run, conveyor, seq, last_seq, outcome: "unknown", reason });
    }
  }
  for (const { run, conveyor, ranges } of newer.entries()) {
    for (const [seq, last_seq] of subtractRanges(ranges, now.get(run)?.get(conveyor) ?? [])) {
      await writer.append("sink", { run, conveyor, seq, last_seq });
    }
  }
}

function until(ranges: readonly Range[], last: number): Range[] {
  return ranges.filter(([from]) => from <= last).map(([from, to]) => [from, Math.min(to, last)]);
}

/** The parts of ranges that are also in one of the others; both are sorted. */
const intersectRanges = (ranges: readonly Range[], others: readonly Range[]): Range[] =>
  subtractRanges(ranges, subtractRanges(ranges, others));

/** The parts of ranges that are in none of the others; both are sorted. */
export function subtractRanges(ranges: readonly Range[], others: readonly Range[]): Range[] {
  const left: Range[] = [];
  let next = 0;
  for (const [first, last] of ranges) {
    let from = first;
    while (next < others.length && others[next]![1] < first) next++;
    // The last one of these may reach into the next range, too.
    for (let at = next; at < others.length && others[at]![0] <= last; at++) {
      const [otherFirst, otherLast] = others[at]!;
      if (otherFirst > from) left.push([from, otherFirst - 1]);
      from = Math.max(from, otherLast + 1);
      next = at;
    }
    if (from <= last) left.push([from, last]);
  }
  return left;
}
