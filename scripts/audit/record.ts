/**
 * Records the history of the running pipeline, as somebody who trusts none of its parts would: what was acknowledged (as
 * the producers say, those that are gone included, or as the senders were told), what two fresh readers find in Kafka,
 * what the group has committed, what stands in InfluxDB and in the dead-letter topic. Nothing is judged here
 * (scripts/audit/verdict.ts).
 *
 * The order makes the sets comparable while events flow: first what was acknowledged; then an end of the log, which is
 * behind all of that; then the wait until the group has committed up to that end; then the dead letters, the log up to
 * that end, and the database. What was attempted is read last, so that it covers everything found before.
 */
import { runStart } from "../../services/domain/run-id.ts";
import type { Range } from "../../services/domain/sequence.ts";
import type { LogEnd } from "../../services/tools/log-reader.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { pause } from "../cli/wait.ts";
import {
  type CheckpointLine,
  isIn,
  livesOf,
  mergeRanges,
  type ProducerLife,
  type RangesByRun,
  Unknowns,
} from "./checkpoints.ts";
import type { FaultRecord, HistoryMeta, HistoryWriter, OutcomeRecord } from "./history.ts";
import { type Column, IdentityTable } from "./identity-table.ts";
import { planSlices } from "./point-slices.ts";
import type { AuditSources, ProducerLedger } from "./sources.ts";

/** The group commits several times a second; a backlog beyond this is reported as unread, not waited for. */
const COMMIT_LIMIT_MS = 60_000;
const COMMIT_LOOK_MS = 500;
/** After a broker was lost or came back, a group's coordinator moves within seconds; meanwhile nobody can say. */
const ASK_LIMIT_MS = 20_000;
/** Places in the database at which it is looked who holds the point of a missing event: a pattern shows in fewer. */
const MAX_HOLDER_LOOKS = 200;

/** Which events an audit is about, and what is known of them beforehand. */
export interface AuditScope {
  /** Kafka's records since this moment (ms since 1970): when the first of the runs began to send. */
  sinceMs: number;
  /** Only these runs; with neither runs, prefix nor outcomes, the runs of the producers' own fleets. */
  runs?: readonly string[] | undefined;
  /** Only conveyors whose name begins so ("load-7-"). */
  conveyorsPrefix?: string | undefined;
  /**
   * What the senders were told, of every event that they attempted, in ranges: ok, fail (refused, certainly not stored) or
   * unknown (no answer, 503). When given, nobody else is asked what was acknowledged.
   */
  outcomes?: Iterable<OutcomeRecord> | AsyncIterable<OutcomeRecord> | undefined;
  /** False: the senders cannot say of every event what they were told, so `outcomes` does not list all of them. */
  outcomesComplete?: boolean | undefined;
  /** Events that the senders sent again because they were not sure: as many may stand in Kafka twice. */
  resent?: number | undefined;
  faults?: readonly FaultRecord[] | undefined;
  /** What was heard of producers that are gone (checkpoint-watch.ts), beside what the sources still know. */
  checkpoints?: readonly CheckpointLine[] | undefined;
  /** How long the processor may take to read what is there; a minute when absent. */
  commitLimitMs?: number | undefined;
}

export interface RecordOptions extends AuditScope {
  sources: AuditSources;
  writer: HistoryWriter;
  report: Pick<Report, "step">;
  signal: AbortSignal;
}

export interface Recording {
  meta: HistoryMeta;
  runs: string[];
  /** Acknowledged before the window, so not judged. */
  acknowledged_before: number;
  /** Acknowledged events of other runs in the producers' ledgers, not judged. */
  acknowledged_elsewhere: number;
  /** Events of other runs that stand in Kafka's window, not judged. */
  others_in_kafka: { runs: number; events: number };
  producers: {
    running: number;
    /** Gone, with everything they acknowledged on record. */
    ended: number;
    /** Gone, frozen or killed: what they acknowledged last is unknown. */
    cut_off: string[];
  };
  /** What could not be looked at, in words. */
  gaps: string[];
}

/** The first and last sequence number of each run and conveyor that the window holds: nothing before it is judged. */
export class Window {
  readonly #first = new Map<string, number>();
  readonly #last = new Map<string, number>();

  /** @param sinceMs runs that began later lie in the window from their first event on */
  constructor(private readonly sinceMs = Number.POSITIVE_INFINITY) {}

  see(run: string, conveyor: string, seq: number): void {
    const key = `${run}\n${conveyor}`;
    const first = this.#first.get(key);
    if (first === undefined || seq < first) this.#first.set(key, seq);
    if (!(seq <= (this.#last.get(key) ?? -1))) this.#last.set(key, seq);
  }

  /** -1: the window holds nothing of it. */
  last(run: string, conveyor: string): number {
    return this.#last.get(`${run}\n${conveyor}`) ?? -1;
  }

  /** Undefined: the window holds nothing of it. */
  first(run: string, conveyor: string): number | undefined {
    const startMs = runStart(run);
    return startMs !== undefined && startMs >= this.sinceMs ? 0 : this.#first.get(`${run}\n${conveyor}`);
  }

  /** The parts of some ranges that lie in the window or behind it, and how many numbers lie before it. */
  clip(run: string, conveyor: string, ranges: readonly Range[]): { inside: Range[]; before: number } {
    const first = this.first(run, conveyor) ?? Number.POSITIVE_INFINITY;
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
}

/** What is known of acknowledgements before the log is looked at. */
interface Known {
  running: ProducerLedger[];
  lives: ProducerLife[];
  acknowledged: RangesByRun;
  /** Runs of which more may have been acknowledged than anybody can still tell. */
  open: Set<string>;
  silent: string[];
}

function addRanges(target: RangesByRun, run: string, conveyor: string, ranges: readonly Range[]): void {
  const conveyors = target.get(run) ?? new Map<string, Range[]>();
  target.set(run, conveyors);
  conveyors.set(conveyor, mergeRanges([...(conveyors.get(conveyor) ?? []), ...ranges]));
}

function* entriesOf(ledger: RangesByRun) {
  for (const [run, conveyors] of ledger) {
    for (const [conveyor, ranges] of conveyors) yield { run, conveyor, ranges };
  }
}

function addLedger(target: RangesByRun, { runs }: ProducerLedger): void {
  for (const [run, conveyors] of Object.entries(runs)) {
    for (const [conveyor, ranges] of Object.entries(conveyors)) addRanges(target, run, conveyor, ranges);
  }
}

/** What the producers say, those that run and those that are gone. */
export function knowledgeOf(ledgers: readonly ProducerLedger[], lives: ProducerLife[], silent: string[]): Known {
  const acknowledged: RangesByRun = new Map();
  const open = new Set<string>();
  for (const ledger of ledgers) addLedger(acknowledged, ledger);
  const isRunning = new Set(ledgers.map(({ run }) => run));
  for (const life of lives) {
    for (const { run, conveyor, ranges } of entriesOf(life.ledger)) {
      addRanges(acknowledged, run, conveyor, ranges);
      if (!life.isComplete && !isRunning.has(life.run)) open.add(run);
    }
    if (!life.isComplete && !isRunning.has(life.run)) open.add(life.run);
  }
  for (const ledger of ledgers) {
    if (ledger.dropped_from_ledger > 0) for (const run of Object.keys(ledger.runs)) open.add(run);
  }
  return { running: [...ledgers], lives, acknowledged, open, silent };
}

/** Asks again while Kafka cannot say. @throws the last error, after ASK_LIMIT_MS. */
async function patiently<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const until = performance.now() + ASK_LIMIT_MS;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (signal.aborted || performance.now() > until) throw error;
      await pause(COMMIT_LOOK_MS, signal);
    }
  }
}

/** Writes the history of the running pipeline; the writer stays open. */
export async function recordHistory(options: RecordOptions): Promise<Recording> {
  const { sources, writer, sinceMs } = options;
  const meta: HistoryMeta = {
    attempts_complete: options.outcomes !== undefined && options.outcomesComplete !== false,
    quiescent: false,
    not_recorded: {
      writes: "the processor counts its writes, it does not list them",
      ...(options.faults ? {} : { faults: "an audit makes none" }),
    },
  };
  const gaps: string[] = [];
  for (const fault of options.faults ?? []) await writer.append("faults", fault);

  const told = options.outcomes
    ? await recordTold(options, options.outcomes, meta)
    : await askProducers(options, meta, gaps);
  const ends = await recordCommits(options, meta);
  const refusedAt = await recordLetters(options);
  const reading: Reading = {
    ...told,
    window: new Window(sinceMs),
    unknowns: new Unknowns(),
    newer: new Unknowns(),
    table: new IdentityTable(),
    wordless: [],
    oldestMs: sinceMs,
    newestMs: Date.now(),
    logEnd: undefined,
  };
  await recordLog(options, reading, ends, refusedAt);
  if (!reading.logEnd) meta.not_recorded!.log = "the deployed image is older than this command";
  await recordPoints(options, reading);
  if (reading.logEnd) await recordHolders(sources, writer, reading.table);

  const others = Object.values(reading.logEnd?.other_runs ?? {});
  const recording: Recording = {
    meta,
    runs: reading.runs ?? [],
    acknowledged_before: 0,
    acknowledged_elsewhere: 0,
    others_in_kafka: { runs: others.length, events: others.reduce((sum, events) => sum + events, 0) },
    producers: { running: 0, ended: 0, cut_off: [] },
    gaps,
  };
  if (reading.known) await recordKnown(options, reading.known, reading, recording);
  return recording;
}

/** Of whom it is read, once it is known what was acknowledged. */
interface Told {
  /** Undefined: of all. Fleets that turn up in the log are added. */
  runs: string[] | undefined;
  /** Every fleet that wrote in the window is judged, also one whose producer left no word. */
  fleets: boolean;
  /** The producers' word; undefined: the senders' own is there. */
  known: Known | undefined;
}

/** 1. What was acknowledged, before anything else is looked at: as the senders were told. */
async function recordTold(
  { writer, runs, conveyorsPrefix, resent }: RecordOptions,
  outcomes: NonNullable<RecordOptions["outcomes"]>,
  meta: HistoryMeta,
): Promise<Told> {
  const named = new Set<string>();
  await writer.begin("attempts");
  await writer.begin("outcomes");
  for await (const outcome of outcomes) {
    const { run, conveyor, seq, last_seq } = outcome;
    named.add(run);
    await writer.append("attempts", { run, conveyor, seq, ...(last_seq === undefined ? {} : { last_seq }) });
    await writer.append("outcomes", outcome);
  }
  if (resent) Object.assign(meta, { idempotent_producer: false, retries: resent });
  const isOfAll = runs === undefined && conveyorsPrefix === undefined;
  const wanted = isOfAll ? [...named] : runs && [...runs];
  if (wanted?.length === 0) throw nobodyKnows();
  return { runs: wanted, fleets: false, known: undefined };
}

/** 1. What was acknowledged, before anything else is looked at: as the producers say, those that are gone included. */
async function askProducers(options: RecordOptions, meta: HistoryMeta, gaps: string[]): Promise<Told> {
  const { sources, report, sinceMs } = options;
  const known = await report.step("producers' ledgers", async (step) => {
    const [{ ledgers, silent }, { lines, gap }] = await Promise.all([sources.ledgers(), sources.checkpoints(sinceMs)]);
    if (gap) gaps.push(gap);
    const found = knowledgeOf(ledgers, livesOf([...lines, ...(options.checkpoints ?? [])]), silent);
    const gone = found.lives.filter(({ run }) => !isRunningIn(found, run)).length;
    step.update(`${ledgers.length} producers${gone > 0 ? `, ${gone} that are gone` : ""}`);
    return found;
  });
  const repeated = [...known.running, ...known.lives.filter(({ run }) => !isRunningIn(known, run))].reduce(
    (sum, { repeated }) => sum + repeated,
    0,
  );
  if (repeated > 0) Object.assign(meta, { idempotent_producer: false, retries: repeated });
  const fleets = options.runs === undefined && options.conveyorsPrefix === undefined;
  if (fleets) {
    return { runs: [...new Set([...known.running, ...known.lives].map(({ run }) => run))], fleets, known };
  }
  if (options.runs?.length === 0) throw nobodyKnows();
  return { runs: options.runs && [...options.runs], fleets, known };
}

const nobodyKnows = () =>
  new OperatorError("no producer is running: nobody can say what was acknowledged", {
    exitCode: EXIT.precondition,
    hint: "bun scripts/audit.ts --run RUN judges what Kafka holds of one run",
  });

/**
 * 2. An end of the log behind all of that, and the group's way to it.
 * @returns the end of each partition
 */
async function recordCommits(
  { sources, writer, report, signal, commitLimitMs = COMMIT_LIMIT_MS }: RecordOptions,
  meta: HistoryMeta,
): Promise<Map<number, number>> {
  const { ends, committed } = await report.step(
    "the processor's offsets",
    async (step) => {
      const ask = () => patiently(() => sources.offsets(), signal);
      const first = await ask();
      const ends = new Map(first.map(({ partition, end }) => [partition, end]));
      const startedAt = performance.now();
      for (let now = first; ; now = await ask()) {
        const behind = now.reduce(
          (sum, { partition, committed }) => sum + Math.max(0, (ends.get(partition) ?? 0) - (committed ?? 0)),
          0,
        );
        if (now.some(({ committed }) => committed === undefined)) {
          meta.not_recorded!.commits = "the deployed image is older than this command";
          step.update("not told by the deployed image");
          return { ends, committed: undefined };
        }
        step.update(behind === 0 ? "all read and committed" : `${behind} behind`);
        if (behind === 0 || performance.now() - startedAt > commitLimitMs) {
          return { ends, committed: now.map(({ partition, committed }) => ({ partition, offset: committed! })) };
        }
        await pause(COMMIT_LOOK_MS, signal);
      }
    },
    { limitMs: commitLimitMs },
  );
  for (const commit of committed ?? []) await writer.append("commits", commit);
  return ends;
}

/**
 * 3. The dead letters. One of the processor's names the record that it refused: the log gives the identity.
 * @returns the reason by "partition offset" of the record
 */
async function recordLetters({
  sources,
  writer,
  report,
  signal,
  sinceMs,
}: RecordOptions): Promise<Map<string, string>> {
  const refusedAt = new Map<string, string>();
  await report.step("dead letters", async (step) => {
    const letters = await patiently(() => sources.letters(sinceMs), signal);
    await writer.begin("dlq");
    for (const { headers } of letters) {
      const reason = headers.reason ?? "none";
      if (headers.source_offset !== undefined)
        refusedAt.set(`${headers.source_partition} ${headers.source_offset}`, reason);
      else await writer.append("dlq", { reason });
    }
    step.update(`${letters.length}`);
  });
  return refusedAt;
}

/** What the readings of the log and of the database find. */
interface Reading extends Told, Seen {
  runs: string[] | undefined;
  /** Fleets of which nothing but their events is left. */
  wordless: string[];
  table: IdentityTable;
  /** Times of the log's events (ms since 1970): over them the database is read. */
  oldestMs: number;
  newestMs: number;
  /** Undefined: the log was not read. */
  logEnd: LogEnd | undefined;
}

/** 4. The log, by two readers that know nothing of each other and take the brokers' answers apart in different ways. */
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
          ...(conveyorsPrefix === undefined ? {} : { conveyors_prefix: conveyorsPrefix }),
        },
        async ({ partition, offset, run, conveyor, seq, tsMs, hash }) => {
          const identity = { run, conveyor, seq };
          await writer.append("log", { reader, partition, offset, ...identity, hash, ts_ms: tsMs });
          if (++listed % 10_000 === 0) step.update(`${listed} events`);
          if (reader !== 1) return;
          if (fleets && !named.has(run)) {
            named.add(run);
            runs!.push(run);
            known!.open.add(run);
            reading.wordless.push(run);
          }
          reading.window.see(run, conveyor, seq);
          reading.table.add("log", identity);
          if (tsMs < reading.oldestMs) reading.oldestMs = tsMs;
          if (tsMs > reading.newestMs) reading.newestMs = tsMs;
          if (known?.open.has(run) && !isIn(known.acknowledged.get(run)?.get(conveyor), seq)) {
            reading.unknowns.add(run, conveyor, seq);
          }
          const reason = refusedAt.size > 0 ? refusedAt.get(`${partition} ${offset}`) : undefined;
          if (reason !== undefined) await writer.append("dlq", { ...identity, reason });
        },
      );
      if (!end) {
        step.update("not told by the deployed image");
        return false;
      }
      await writer.begin("log");
      if (reader === 1) reading.logEnd = end;
      step.update(`${listed} events of ${end.records}`);
      return true;
    });
    if (!isRead) break;
  }
}

/** 5. The database, over the times that the log's events have. */
async function recordPoints(
  { sources, writer, report, signal, conveyorsPrefix }: RecordOptions,
  reading: Reading,
): Promise<void> {
  const { runs, known, window, newer, table, logEnd } = reading;
  await report.step("InfluxDB's points", async (step) => {
    await writer.begin("sink");
    const endMs = Math.max(Date.now(), reading.newestMs) + 1;
    const prefix = conveyorsPrefix === undefined ? {} : { conveyorsPrefix };
    const filter = { ...(runs ? { runs } : {}), ...prefix };
    let points = 0;
    const slices = await planSlices((range) => sources.pointCounts(prefix, range), reading.oldestMs, endMs);
    for (const [startMs, stopMs] of slices) {
      signal.throwIfAborted();
      await sources.points(filter, startMs, stopMs, async (point) => {
        const { run, conveyor, seq, timestampNs } = point;
        if (known) {
          if (!logEnd) window.see(run, conveyor, seq);
          const first = window.first(run, conveyor);
          if (first === undefined || seq < first) return;
          if (logEnd && seq > window.last(run, conveyor)) {
            newer.add(run, conveyor, seq);
            return;
          }
        }
        points++;
        table.add("sink", { run, conveyor, seq });
        await writer.append("sink", { run, conveyor, seq, t_ns: timestampNs });
      });
      step.update(`${points} points`);
    }
  });
}

const isRunningIn = (known: Known, run: string) => known.running.some((ledger) => ledger.run === run);

/**
 * Events that stand in Kafka and not in the database may have been overwritten by a run that is not judged, and whose
 * points were not read: it is looked who stands in their places.
 */
async function recordHolders(sources: AuditSources, writer: HistoryWriter, table: IdentityTable): Promise<void> {
  const isMissing = (word: (column: Column) => number) => word("log") & ~word("sink");
  if (table.select(isMissing).count === 0) return;
  const looks = new Map<string, { conveyor: string; ms: number }>();
  await writer.each("log", ({ reader, run, conveyor, seq, ts_ms }) => {
    if (reader !== 1 || ts_ms === undefined || looks.size >= MAX_HOLDER_LOOKS) return;
    if (!table.has("sink", { run, conveyor, seq })) looks.set(`${conveyor} ${ts_ms}`, { conveyor, ms: ts_ms });
  });
  await writer.begin("holders");
  for (const { conveyor, ms } of looks.values()) {
    await sources.points({ conveyors: [conveyor] }, ms, ms + 1, async ({ run, conveyor, seq, timestampNs }) => {
      const holder = { run, conveyor, seq };
      if (!table.has("sink", holder)) await writer.append("holders", { ...holder, t_ns: timestampNs });
    });
  }
}

interface Seen {
  runs: readonly string[] | undefined;
  wordless: readonly string[];
  window: Window;
  /** In Kafka, of producers that could not say any more whether they were acknowledged. */
  unknowns: Unknowns;
  /** In InfluxDB, behind the end of the log that was read. */
  newer: Unknowns;
}

/**
 * 6. What was acknowledged and attempted, by the producers' word. What they say now covers everything found before; what
 * it tells beyond the log that was read is newer than this audit, and is left out.
 */
async function recordKnown(
  { sources, writer, conveyorsPrefix }: RecordOptions,
  known: Known,
  { runs, wordless, window, unknowns, newer }: Seen,
  recording: Recording,
): Promise<void> {
  const { meta } = recording;
  const gone = known.lives.filter(({ run }) => !isRunningIn(known, run));
  recording.producers = {
    running: known.running.length,
    ended: gone.filter(({ isComplete }) => isComplete).length,
    cut_off: [
      ...gone.filter(({ isComplete }) => !isComplete).map(({ run, gap }) => `${run}: ${gap}`),
      ...wordless.map((run) => `${run}: nothing is left of what its producer said`),
      ...known.silent.map((pod) => `${pod}: runs and does not answer`),
    ],
  };
  const isWanted = (run: string, conveyor: string) =>
    (runs === undefined || runs.includes(run)) && conveyor.startsWith(conveyorsPrefix ?? "");
  const now: RangesByRun = new Map();
  for (const ledger of (await sources.ledgers()).ledgers) addLedger(now, ledger);
  for (const { run, conveyor, ranges } of entriesOf(known.acknowledged)) addRanges(now, run, conveyor, ranges);
  // With no log, only what was acknowledged before anything was looked at.
  const hasLog = meta.not_recorded!.log === undefined;
  let isTold = false;
  for (const { run, conveyor, ranges } of entriesOf(now)) {
    if (!isWanted(run, conveyor)) {
      recording.acknowledged_elsewhere += ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
      continue;
    }
    if (!isTold) {
      await writer.begin("attempts");
      await writer.begin("outcomes");
      isTold = true;
    }
    const before = known.acknowledged.get(run)?.get(conveyor) ?? [];
    const seen = hasLog ? until(ranges, window.last(run, conveyor)) : [];
    const { inside, before: outside } = window.clip(run, conveyor, mergeRanges([...before, ...seen]));
    recording.acknowledged_before += outside;
    for (const [seq, last_seq] of inside) {
      await writer.append("attempts", { run, conveyor, seq, last_seq });
      await writer.append("outcomes", { run, conveyor, seq, last_seq, outcome: "ok" });
    }
  }
  if (!isTold) {
    meta.not_recorded!.attempts = "no producer lists this run, and none has left a word of it";
    meta.not_recorded!.outcomes = meta.not_recorded!.attempts;
  }
  for (const { run, conveyor, ranges } of unknowns.entries()) {
    for (const [seq, last_seq] of ranges) {
      const reason = "its producer was gone before it could say";
      await writer.append("outcomes", { run, conveyor, seq, last_seq, outcome: "unknown", reason });
    }
  }
  for (const { run, conveyor, ranges } of newer.entries()) {
    for (const [seq, last_seq] of without(ranges, now.get(run)?.get(conveyor) ?? [])) {
      await writer.append("sink", { run, conveyor, seq, last_seq });
    }
  }
}

/** The parts of ranges up to a last number. */
function until(ranges: readonly Range[], last: number): Range[] {
  return ranges.filter(([from]) => from <= last).map(([from, to]) => [from, Math.min(to, last)]);
}

/** What of some ranges lies in none of the others; both in order. */
export function without(ranges: readonly Range[], others: readonly Range[]): Range[] {
  const left: Range[] = [];
  for (const [first, last] of ranges) {
    let from = first;
    for (const [otherFirst, otherLast] of others) {
      if (otherLast < from || otherFirst > last) continue;
      if (otherFirst > from) left.push([from, otherFirst - 1]);
      from = otherLast + 1;
    }
    if (from <= last) left.push([from, last]);
  }
  return left;
}
