/**
 * Judges a recorded history (history.ts): which invariants it proves, which it refutes, which it cannot decide.
 *
 * Sets of identities (run, conveyor, seq): A acknowledged, K in Kafka, I in InfluxDB, D dead-lettered. Events in batches
 * that cannot be read are in none of them: what depends on them is unknown.
 *
 *   L1  lost in Kafka         A \ K is empty
 *   L2  lost in the processor the part of K that the group has read is in I or D
 *   L3  end to end            A \ (I ∪ D) is empty
 *   P1  phantoms              K and I hold only attempted events, and none that certainly failed
 *   V1  values                a point says what its event in Kafka says (point-contents.ts where it has no identity)
 *   X1  offsets               an event is at the offset that Kafka acknowledged; two readers find the same log
 *   D1  duplicates in Kafka   none with an idempotent producer, otherwise at most its retries
 *   D2  one point per event   no event has two points, none overwrote the point of another
 *   D3  redeliveries          no more repeated writes than the faults explain
 *   O1  order                 events of one conveyor and partition are in order, no acknowledged one is missing
 *   R1  recovery              the longest silence and each fault's recovery stay within their bounds
 *
 * Each checker is a pure function of the collected facts and returns passed, failed or unknown; the worst result is the
 * verdict. Missing records, a crash of the checker and an empty set of events are all unknown: an empty history never
 * passes. A failed invariant that only repeats the finding of another one names it in `follows`.
 *
 * Memory: bitmaps per run and conveyor (identity-table.ts), and one number per event when acknowledgements have offsets.
 */
import { pointTimestampNs, SLOTS_PER_MS } from "../../services/domain/point.ts";
import { causeChain } from "../cli/errors.ts";
import {
  type FaultRecord,
  type History,
  type HistoryMeta,
  type Identities,
  type Identity,
  KINDS,
  type Kind,
  type LogRecord,
  type UnreadableRecord,
} from "./history.ts";
import { type Column, entryOf, IdentityTable, type Selection, type Word } from "./identity-table.ts";
import { type ContentFacts, comparePoints } from "./point-contents.ts";
import { UnreadableBatches } from "./unreadable.ts";

export type Status = "passed" | "failed" | "unknown";
const INVARIANTS = ["L1", "L2", "L3", "P1", "V1", "X1", "D1", "D2", "D3", "O1", "R1"] as const;
export type InvariantId = (typeof INVARIANTS)[number];

export const INVARIANT_TITLES: Readonly<Record<InvariantId, string>> = {
  L1: "acknowledged events are in Kafka",
  L2: "events read from Kafka are in InfluxDB or dead-lettered",
  L3: "acknowledged events are in InfluxDB or dead-lettered",
  P1: "no event is stored that was not sent",
  V1: "a stored point says what its event says",
  X1: "events are at their acknowledged offsets; two readers agree",
  D1: "no event is in Kafka twice",
  D2: "every event has its own point in InfluxDB",
  D3: "no more rewrites than the faults explain",
  O1: "the events of a conveyor keep their order",
  R1: "silences and recoveries are within their bounds",
};

export interface InvariantResult {
  law: InvariantId;
  status: Status;
  /** The finding, with numbers; for unknown, the missing record. */
  detail: string;
  /** Failed invariants that explain all of this failure. */
  follows: InvariantId[];
  examples: Identity[];
}

/** Where an event without a point in InfluxDB is. */
const LOCATIONS = [
  /** Attempted, never acknowledged, not in Kafka: no promise was made. */
  "never_acknowledged",
  /** Acknowledged, not in Kafka. */
  "lost_in_kafka",
  /** Acknowledged, and not found in Kafka, where batches that cannot be read may hold it. */
  "in_kafka_unreadable",
  "in_kafka_unread",
  "dead_lettered",
  "refused_by_database",
  "overwritten",
  /** Read and committed by the group, but neither stored nor dead-lettered. */
  "lost_in_processor",
  /** Not known from the record. */
  "unplaced",
] as const;
export type Location = (typeof LOCATIONS)[number];

export interface Verdict {
  status: Status;
  laws: InvariantResult[];
  /** Failed invariants that no other one explains. */
  causes: InvariantId[];
  counts: {
    attempted: number;
    acknowledged: number;
    failed: number;
    uncertain: number;
    uncertain_percent: number;
    in_kafka: number;
    in_influxdb: number;
    dead_lettered: number;
    dead_letters_without_identity: number;
    /** Acknowledged, read, and neither stored nor dead-lettered. */
    lost: number;
    /** Repeated occurrences in Kafka, and how many of them are explained. */
    twice_in_kafka: number;
    twice_in_kafka_explained: number;
    /** Points beyond the first of an event. */
    twice_in_influxdb: number;
  };
  /** Events without a point in InfluxDB, by location. */
  missing: Record<Location, Selection>;
}

// ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The content of a history, collected in one pass over each of its files. */
export interface Facts {
  meta: HistoryMeta;
  recorded: ReadonlySet<Kind>;
  table: IdentityTable;
  logRepeats: number;
  /** First occurrences with a lower sequence number than an earlier one of the same conveyor and partition. */
  outOfOrder: Selection;
  /** Records per reader of the log. */
  readers: Map<number, number>;
  /** Partitions in which two readers found different records. */
  disagreeing: number[];
  /** The batches that the first reader could not read; empty without one. */
  unreadableBatches: string;
  acknowledgedWithPosition: number;
  sinkRepeats: number;
  /** Points whose values were compared with those of their event. */
  comparedPoints: number;
  /** Of events whose points have no identity. */
  contents: ContentFacts;
  writeRepeats: number;
  deadLettersWithoutIdentity: number;
  faults: FaultRecord[];
  ackTimes: Gaps;
  /** There were more events without a point than the search for overwritten ones covers. */
  overwriteSearchCut: boolean;
}

/** The longest pause between acknowledgements, and the first one after each fault. */
class Gaps {
  #last: number | undefined;
  longestMs = 0;
  moments = 0;
  /** Per fault: the first moment after its end. */
  readonly recoveredAt: (number | undefined)[];

  constructor(readonly faults: readonly FaultRecord[]) {
    this.recoveredAt = faults.map(() => undefined);
  }

  add(moment: number): void {
    this.moments++;
    if (this.#last !== undefined) this.longestMs = Math.max(this.longestMs, moment - this.#last);
    this.#last = this.#last === undefined ? moment : Math.max(this.#last, moment);
    for (let index = 0; index < this.faults.length; index++) {
      const at = this.recoveredAt[index];
      if (moment > this.faults[index]!.t1_ms && (at === undefined || moment < at)) this.recoveredAt[index] = moment;
    }
  }
}

/** Partition numbers are lower, so partition and offset fit into one number exactly (offsets below 2^43). */
const MAX_PARTITIONS = 1024;
const positionOf = (partition: number, offset: number) => offset * MAX_PARTITIONS + partition;
const partitionAndOffset = (position: number) => ({
  partition: position % MAX_PARTITIONS,
  offset: Math.floor(position / MAX_PARTITIONS),
});
/** Replaces the position once the log was found to hold the event there. */
const POSITION_CONFIRMED = -1;
/** The digits of slot 0 in a timestamp: what a writer of milliseconds stores for every event. */
const SLOT_0 = "000000";
/** Events without a point that are searched for overwriting: enough to show a pattern. */
const MAX_OVERWRITE_CANDIDATES = 100_000;
const MAX_EXAMPLES = 5;

const OUTCOME_COLUMNS = { ok: "acknowledged", fail: "failed", unknown: "uncertain" } as const;

const same = (a: Identity, b: Identity) => a.run === b.run && a.conveyor === b.conveyor && a.seq === b.seq;

/** Adds the events of a record to a set. Returns how many of them it held already. */
function addTo(table: IdentityTable, column: Column, record: Identities): number {
  if (record.last_seq !== undefined) return table.addRange(column, record, record.last_seq);
  return table.add(column, record) ? 0 : 1;
}

/** What the readers found in Kafka; the sets are filled from the first reader. */
class LogFacts {
  repeats = 0;
  /** Judged events whose points have no identity. */
  points = 0;
  readonly outOfOrder: Selection = { count: 0, examples: [] };
  readonly readers = new Map<number, number>();
  /** Reader → partition → fingerprint of its records, in order. */
  readonly #fingerprints = new Map<number, Map<number, bigint>>();
  /** Run → partition and conveyor → highest sequence number so far. */
  readonly #highest = new Map<string, Map<string, number>>();

  constructor(
    private readonly table: IdentityTable,
    private readonly committed: ReadonlyMap<number, number>,
    private readonly unreadable: UnreadableBatches,
  ) {}

  add(record: LogRecord): void {
    const { reader, partition, offset, run, conveyor, seq, hash, point } = record;
    // A decoder without a check of the CRC returns records that nothing vouches for.
    if (this.unreadable.covers(partition, offset) || point?.foreign) return;
    this.readers.set(reader, (this.readers.get(reader) ?? 0) + 1);
    const ofReader = entryOf(this.#fingerprints, reader, () => new Map<number, bigint>());
    const line = `${offset}\n${run}\n${conveyor}\n${seq}\n${hash ?? ""}`;
    ofReader.set(partition, Bun.hash.wyhash(line, ofReader.get(partition) ?? 0n));
    if (reader !== 1) return;
    this.unreadable.add(record);
    if (point) this.points++;
    const { table } = this;
    if (table.position(record) === positionOf(partition, offset)) table.setPosition(record, POSITION_CONFIRMED);
    if (record.values !== undefined) table.setValues(record, record.values);
    if (offset < (this.committed.get(partition) ?? 0)) table.add("logRead", record);
    if (table.add("log", record)) {
      this.#checkOrder(record);
    } else {
      this.repeats++;
      table.add("logTwice", record);
    }
  }

  #checkOrder({ partition, run, conveyor, seq }: LogRecord): void {
    const ofRun = entryOf(this.#highest, run, () => new Map<string, number>());
    const key = `${partition} ${conveyor}`;
    const highest = ofRun.get(key);
    if (highest === undefined || seq >= highest) {
      ofRun.set(key, seq);
      return;
    }
    this.outOfOrder.count++;
    if (this.outOfOrder.examples.length < MAX_EXAMPLES) this.outOfOrder.examples.push({ run, conveyor, seq });
  }

  /** Partitions in which the readers found different records. */
  disagreeing(): number[] {
    const readers = [...this.#fingerprints.values()];
    const partitions = new Set(readers.flatMap((reader) => [...reader.keys()]));
    return [...partitions]
      .filter((partition) => new Set(readers.map((reader) => reader.get(partition))).size > 1)
      .sort((a, b) => a - b);
  }
}

/** Collects the facts: each file is read once; log and sink a second time when events without a point need a reason. */
export async function collectFacts(history: History): Promise<Facts> {
  const table = new IdentityTable();
  const recorded = new Set(KINDS.filter((kind) => history.recorded(kind)));
  const each: History["each"] = async (kind, visit) => {
    if (recorded.has(kind)) await history.each(kind, visit);
  };

  const faults: FaultRecord[] = [];
  await each("faults", (fault) => void faults.push(fault));
  const committed = new Map<number, number>();
  await each("commits", ({ partition, offset }) => {
    committed.set(partition, Math.max(offset, committed.get(partition) ?? 0));
  });

  await each("attempts", (record) => void addTo(table, "attempted", record));
  const ackTimes = new Gaps(faults);
  let acknowledgedWithPosition = 0;
  await each("outcomes", (record) => {
    const { outcome, partition, offset, t_ms } = record;
    addTo(table, OUTCOME_COLUMNS[outcome], record);
    if (outcome !== "ok") return;
    if (t_ms !== undefined) ackTimes.add(t_ms);
    if (partition !== undefined && offset !== undefined && record.last_seq === undefined) {
      acknowledgedWithPosition++;
      table.setPosition(record, positionOf(partition, offset));
    }
  });

  const batches: UnreadableRecord[] = [];
  await each("unreadable", (batch) => void batches.push(batch));
  const unreadable = new UnreadableBatches(batches);
  const log = new LogFacts(table, committed, unreadable);
  await each("log", (record) => log.add(record));
  unreadable.mark(table, partitionAndOffset);
  let sinkRepeats = 0;
  let comparedPoints = 0;
  await each("sink", (record) => {
    const said = record.values === undefined ? undefined : table.values(record);
    if (said !== undefined) {
      comparedPoints++;
      if (said !== record.values) table.add("altered", record);
    }
    const repeated = addTo(table, "sink", record);
    sinkRepeats += repeated;
    if (repeated > 0) table.add("sinkTwice", record);
  });
  const contents = await comparePoints(history, table, log.points, (partition, offset) =>
    unreadable.covers(partition, offset),
  );
  comparedPoints += contents.compared;
  let writeRepeats = 0;
  await each("writes", (record) => {
    writeRepeats += addTo(table, "written", record);
  });
  let deadLettersWithoutIdentity = 0;
  await each("dlq", ({ run, conveyor, seq, reason }) => {
    if (run === undefined || conveyor === undefined || seq === undefined) {
      deadLettersWithoutIdentity++;
      return;
    }
    table.add("dead", { run, conveyor, seq });
    if (reason === "refused_by_database") table.add("refused", { run, conveyor, seq });
  });
  await each("refusals", (record) => void table.add("refused", record));

  return {
    meta: history.meta,
    recorded,
    table,
    logRepeats: log.repeats,
    outOfOrder: log.outOfOrder,
    readers: log.readers,
    disagreeing: log.disagreeing(),
    unreadableBatches: String(unreadable),
    acknowledgedWithPosition,
    sinkRepeats,
    comparedPoints,
    contents,
    writeRepeats,
    deadLettersWithoutIdentity,
    faults,
    ackTimes,
    overwriteSearchCut: await findOverwritten(history, table),
  };
}

/**
 * Marks events without a point whose point another event has overwritten: at their timestamp by the rule of
 * services/domain/point.ts, or at their millisecond, where a writer of coarser timestamps would have put them.
 * Returns whether there were more candidates than the search covers.
 */
async function findOverwritten(history: History, table: IdentityTable): Promise<boolean> {
  if (!history.recorded("log") || !history.recorded("sink")) return false;
  const read: Column = history.meta.quiescent ? "log" : "logRead";
  const { count } = table.select((word) => word(read) & ~word("sink") & ~word("dead"));
  if (count === 0) return false;
  /** Conveyor and timestamp → the events whose point belongs there. */
  const wanted = new Map<string, Identity[]>();
  let kept = 0;
  await history.each("log", ({ reader, run, conveyor, seq, ts_ms, point }) => {
    const identity = { run, conveyor, seq };
    if (reader !== 1 || ts_ms === undefined || point || kept >= MAX_OVERWRITE_CANDIDATES) return;
    if (!table.has(read, identity) || table.has("sink", identity) || table.has("dead", identity)) return;
    kept++;
    for (const ns of new Set([pointTimestampNs(String(ts_ms), String(seq)), `${ts_ms}${SLOT_0}`])) {
      entryOf(wanted, `${ns} ${conveyor}`, () => []).push(identity);
    }
  });
  // The point of slot 0 belongs at a full millisecond: it overwrites other slots only if the writer's timestamps are coarse.
  let isCoarse = false;
  const ifCoarse: Identity[] = [];
  const markOverwritten = ({ run, conveyor, seq, t_ns }: Identity & { t_ns?: string }) => {
    if (t_ns === undefined) return;
    const slot = seq % SLOTS_PER_MS;
    if (slot !== 0 && t_ns.endsWith(SLOT_0)) isCoarse = true;
    for (const identity of wanted.get(`${t_ns} ${conveyor}`) ?? []) {
      if (same(identity, { run, conveyor, seq })) continue;
      if (slot === 0 && identity.seq % SLOTS_PER_MS !== 0) ifCoarse.push(identity);
      else table.add("overwritten", identity);
    }
  };
  await history.each("sink", markOverwritten);
  if (history.recorded("holders")) await history.each("holders", markOverwritten);
  if (isCoarse) for (const identity of ifCoarse) table.add("overwritten", identity);
  return count > MAX_OVERWRITE_CANDIDATES;
}

// ── checkers ─────────────────────────────────────────────────────────────────────────────────────────────────────

type Finding = Omit<InvariantResult, "law" | "follows" | "examples"> &
  Partial<Pick<InvariantResult, "follows" | "examples">>;
export type Checker = (facts: Facts) => Finding;

const unknown = (detail: string): Finding => ({ status: "unknown", detail });
const passed = (detail: string): Finding => ({ status: "passed", detail });
const failed = (detail: string, examples: Identity[] = [], follows: InvariantId[] = []): Finding => ({
  status: "failed",
  detail,
  examples,
  follows,
});

const KIND_TITLES: Readonly<Record<Kind, string>> = {
  attempts: "attempted events",
  outcomes: "acknowledged events",
  log: "events in Kafka",
  unreadable: "batches that cannot be read",
  sink: "points in InfluxDB",
  stored_fields: "fields of points without identity",
  holders: "points at the timestamps of missing ones",
  writes: "the processor's writes",
  dlq: "dead letters",
  refusals: "events refused by the database",
  commits: "the group's committed offsets",
  faults: "faults",
};

/** Unknown, for the first kind of record that an invariant needs and that is missing. */
function missingRecord({ meta, recorded }: Facts, ...kinds: Kind[]): Finding | undefined {
  const kind = kinds.find((wanted) => !recorded.has(wanted));
  if (!kind) return undefined;
  const why = meta.not_recorded?.[kind];
  return unknown(`not recorded: ${KIND_TITLES[kind]}${why ? ` (${why})` : ""}`);
}

const countOf = ({ table }: Facts, column: Column) => table.select((word) => word(column)).count;

/** Lost as in L2: read (or all, once nothing is in flight), neither stored nor dead-lettered, and not overwritten. */
const lostInProcessor = ({ table, meta }: Facts): Selection =>
  table.select(
    (word) => (meta.quiescent ? word("log") : word("logRead")) & ~(word("sink") | word("dead") | word("overwritten")),
  );

/** Duplicates in Kafka that the sender's retries explain. */
const explainedRepeats = ({ meta }: Facts): number => (meta.idempotent_producer === false ? (meta.retries ?? 0) : 0);

/** The events of the log that the group has not read yet; none where its offsets were not recorded. */
const unreadRule = ({ recorded, meta }: Facts) => {
  const isKnown = recorded.has("log") && recorded.has("commits") && !meta.quiescent;
  return (word: Word) => (isKnown ? word("log") & ~word("logRead") : 0);
};

/** Acknowledged, neither stored nor dead-lettered, not waiting to be read, and not in an unreadable batch. */
const lostEndToEnd = (facts: Facts): Selection => {
  const isUnread = unreadRule(facts);
  return facts.table.select(
    (word) => word("acknowledged") & ~(word("sink") | word("dead") | word("unreadable")) & ~isUnread(word),
  );
};

const lostInKafka = ({ table }: Facts): Selection =>
  table.select((word) => word("acknowledged") & ~(word("log") | word("unreadable")));

/** Unknown, when acknowledged events that an invariant judges may be in batches that cannot be read. */
const unreadable = (facts: Facts, isJudged: (word: Word) => number = () => ~0): Finding | undefined => {
  const { count } = facts.table.select((word) => word("unreadable") & isJudged(word));
  return count > 0
    ? unknown(
        `${count} of ${countOf(facts, "acknowledged")} acknowledged events may be in batches of Kafka that cannot be read (${facts.unreadableBatches})`,
      )
    : undefined;
};

/** Unknown, when the senders counted acknowledged events that the record does not list. */
const unlisted = (facts: Facts): Finding | undefined =>
  facts.meta.unlisted
    ? unknown(
        `nothing is missing of ${countOf(facts, "acknowledged")} acknowledged events; ${facts.meta.unlisted} more are not listed`,
      )
    : undefined;

/** Unknown, when events that count as acknowledged before the window may be those that Kafka deleted. */
const deletedBefore = ({ meta: { deleted_unread, acknowledged_before } }: Facts): Finding | undefined =>
  deleted_unread && acknowledged_before
    ? unknown(
        `Kafka deleted ${deleted_unread} events of all runs before they were read; ${acknowledged_before} acknowledged events are older than the oldest ones in Kafka`,
      )
    : undefined;

/** Unknown, when the points without identity were not compared with their events. */
const undecided = ({ contents }: Facts): Finding | undefined =>
  contents.undecided === undefined ? undefined : unknown(contents.undecided);

const replacedText = ({ replaced }: ContentFacts) =>
  replaced > 0 ? `; ${replaced} of them have a value of a later event with the same series and time` : "";

/** A checker that is unknown without some kinds of records. */
const needing =
  (kinds: Kind[], checker: Checker): Checker =>
  (facts) =>
    missingRecord(facts, ...kinds) ?? checker(facts);

export const CHECKERS: Readonly<Record<InvariantId, Checker>> = {
  L1: needing(["outcomes", "log"], (facts) => {
    const acknowledged = countOf(facts, "acknowledged");
    if (acknowledged === 0) return unknown("no event was acknowledged");
    const lost = lostInKafka(facts);
    const { deleted_unread } = facts.meta;
    const deleted = deleted_unread ? `; Kafka deleted ${deleted_unread} events of all runs before they were read` : "";
    if (lost.count > 0) {
      const batches = facts.unreadableBatches && `; ${facts.unreadableBatches}`;
      return failed(
        `${lost.count} of ${acknowledged} acknowledged events are not in Kafka${deleted}${batches}`,
        lost.examples,
      );
    }
    return (
      unreadable(facts) ??
      unlisted(facts) ??
      deletedBefore(facts) ??
      passed(`${acknowledged} acknowledged, all in Kafka${deleted}`)
    );
  }),

  L2(facts) {
    const gap =
      missingRecord(facts, "log", "sink", "dlq") ??
      (facts.meta.quiescent ? undefined : missingRecord(facts, "commits")) ??
      undecided(facts);
    if (gap) return gap;
    const read = facts.meta.quiescent ? countOf(facts, "log") : countOf(facts, "logRead");
    if (read === 0) return unknown("the group has read none of the recorded events");
    const lost = lostInProcessor(facts);
    if (lost.count === 0) return passed(`${read} read from Kafka, all stored or dead-lettered`);
    const refused = facts.table.select(
      (word) => word("logRead") & word("refused") & ~(word("sink") | word("dead")),
    ).count;
    const why = refused > 0 ? `; ${refused} of them were refused by the database` : "";
    const cut = facts.overwriteSearchCut ? "; the search for overwritten ones was cut short" : "";
    return failed(
      `${lost.count} of ${read} events read from Kafka are neither stored nor dead-lettered${why}${cut}`,
      lost.examples,
    );
  },

  L3: needing(["outcomes", "sink", "dlq"], (facts) => {
    const { table, meta, recorded } = facts;
    const gap = undecided(facts);
    if (gap) return gap;
    const acknowledged = countOf(facts, "acknowledged");
    if (acknowledged === 0) return unknown("no event was acknowledged");
    const knowsUnread = recorded.has("log") && recorded.has("commits") && !meta.quiescent;
    const isUnread = unreadRule(facts);
    const missing = lostEndToEnd(facts);
    const waiting = table.select((word) => word("acknowledged") & ~(word("sink") | word("dead")) & isUnread(word));
    if (missing.count > 0) {
      const explainedBy: InvariantId[] = [];
      // With the log and the read offsets, every missing event is one of L1, L2 or D2; without them it may be none of these.
      if (recorded.has("log") && (knowsUnread || meta.quiescent)) {
        if (lostInKafka(facts).count > 0) explainedBy.push("L1");
        if (lostInProcessor(facts).count > 0) explainedBy.push("L2");
        if (countOf(facts, "overwritten") > 0) explainedBy.push("D2");
      }
      return failed(
        `${missing.count} of ${acknowledged} acknowledged events are missing`,
        missing.examples,
        explainedBy,
      );
    }
    if (waiting.count > 0)
      return unknown(`${waiting.count} of ${acknowledged} acknowledged events are in Kafka, not read yet`);
    const dead = table.select((word) => word("acknowledged") & word("dead") & ~word("sink")).count;
    return (
      unreadable(facts, (word) => ~(word("sink") | word("dead"))) ??
      unlisted(facts) ??
      deletedBefore(facts) ??
      passed(`${acknowledged} acknowledged = ${acknowledged - dead} stored + ${dead} dead-lettered, 0 missing`)
    );
  }),

  P1(facts) {
    const { table, meta, recorded } = facts;
    const gap = missingRecord(facts, "attempts");
    if (gap) return gap;
    if (!recorded.has("log") && !recorded.has("sink")) return missingRecord(facts, "log", "sink")!;
    const found = table.select((word) => word("log") | word("sink")).count;
    if (found === 0) return unknown("no event was found");
    const wrong = table.select((word) => word("failed") & word("log") & ~word("acknowledged"));
    if (wrong.count > 0)
      return failed(`${wrong.count} events that were reported as failed are in Kafka`, wrong.examples);
    const phantoms = table.select((word) => (word("log") | word("sink")) & ~word("attempted"));
    if (phantoms.count === 0) return passed(`${found} found, all of them sent`);
    // The last attempts of a killed producer are not known; these may be among them.
    const open = table.select((word) => (word("log") | word("sink")) & ~word("attempted") & word("uncertain")).count;
    if (open === phantoms.count) {
      return unknown(`${open} of ${found} events found may be last attempts of a producer that was killed`);
    }
    return meta.attempts_complete === false
      ? unknown(`${phantoms.count} of ${found} events found are not among the recorded attempts, which are incomplete`)
      : failed(`${phantoms.count} of ${found} events found were never sent`, phantoms.examples);
  },

  V1: needing(["log", "sink"], (facts) => {
    const { comparedPoints, contents, table } = facts;
    const gap = undecided(facts);
    if (gap) return gap;
    if (comparedPoints === 0) return unknown("no point and its event in Kafka were recorded with their values");
    const altered = table.select((word) => word("altered"));
    return altered.count === 0
      ? passed(`${comparedPoints} points say what their events say${replacedText(contents)}`)
      : failed(`${altered.count} of ${comparedPoints} points differ from their events`, altered.examples);
  }),

  X1: needing(["log"], (facts) => {
    const { table, disagreeing, readers } = facts;
    if (disagreeing.length > 0) {
      return failed(`the readers found different records in partition ${disagreeing.join(", ")}`);
    }
    const elsewhere = table.countPositions(
      (position, identity) =>
        position >= 0 && table.has("acknowledged", identity) && !table.has("unreadable", identity),
    );
    if (elsewhere.count > 0) {
      const present = table.countPositions((position, identity) => position >= 0 && table.has("log", identity)).count;
      return failed(
        `${elsewhere.count} events are not at their acknowledged offsets (${present} are at others)`,
        elsewhere.examples,
        present === 0 ? ["L1"] : [],
      );
    }
    const hidden = unreadable(facts);
    if (hidden) return hidden;
    const agreement =
      readers.size >= 2 ? `${readers.size} readers agree on ${readers.get(1) ?? 0} records` : "one reader only";
    if (facts.acknowledgedWithPosition === 0) return unknown(`${agreement}; not recorded: acknowledged offsets`);
    if (readers.size < 2)
      return unknown(`${facts.acknowledgedWithPosition} at their acknowledged offsets; ${agreement}`);
    return passed(`${facts.acknowledgedWithPosition} at their acknowledged offsets; ${agreement}`);
  }),

  D1: needing(["log"], (facts) => {
    const found = countOf(facts, "log");
    if (found === 0) return unknown("no event is in Kafka");
    const { logRepeats, table } = facts;
    const allowed = explainedRepeats(facts);
    const detail = `${logRepeats} duplicates among ${found} events, at most ${allowed} explained`;
    const uncounted = facts.meta.retries_uncounted ?? 0;
    if (logRepeats <= allowed) return passed(detail);
    if (logRepeats <= allowed + uncounted)
      return unknown(`${detail}; up to ${uncounted} repeats may not be counted, since the ledgers are cut`);
    return failed(detail, table.select((word) => word("logTwice")).examples);
  }),

  D2: needing(["sink"], (facts) => {
    const gap = undecided(facts);
    if (gap) return gap;
    const found = countOf(facts, "sink");
    const overwritten = facts.table.select((word) => word("overwritten"));
    if (facts.sinkRepeats > 0 || overwritten.count > 0) {
      return failed(
        `${facts.sinkRepeats} points beyond the first of an event, ${overwritten.count} events overwritten by another`,
        [...facts.table.select((word) => word("sinkTwice")).examples, ...overwritten.examples].slice(0, MAX_EXAMPLES),
      );
    }
    return found === 0 ? unknown("no point is in InfluxDB") : passed(`${found} events, one point each`);
  }),

  D3: needing(["writes", "faults"], (facts) => {
    const written = countOf(facts, "written");
    if (written === 0) return unknown("the processor wrote no event");
    const bound = facts.faults.reduce((sum, { redeliveries_max }) => sum + (redeliveries_max ?? 0), 0);
    const detail = `${facts.writeRepeats} rewrites among ${written} events, at most ${bound} explained`;
    return facts.writeRepeats <= bound ? passed(detail) : failed(detail);
  }),

  O1: needing(["outcomes", "log"], (facts) => {
    const { table, outOfOrder } = facts;
    if (table.select((word) => word("acknowledged") & word("log")).count === 0) {
      return unknown("no acknowledged event is in Kafka");
    }
    if (outOfOrder.count > 0) {
      return failed(
        `${outOfOrder.count} events are stored in Kafka after later ones of their conveyor`,
        outOfOrder.examples,
      );
    }
    const lost = lostInKafka(facts);
    if (lost.count > 0) {
      return failed(`${lost.count} acknowledged events are missing from the order`, lost.examples, ["L1"]);
    }
    return unreadable(facts) ?? passed(`${countOf(facts, "log")} events in order, no gap`);
  }),

  R1: needing(["outcomes", "faults"], (facts) => {
    const { ackTimes, faults, meta } = facts;
    if (ackTimes.moments < 2) return unknown("not recorded: times of acknowledgement");
    if (meta.ack_gap_max_ms === undefined) return unknown(`longest silence ${ackTimes.longestMs} ms; no bound is set`);
    const measured = `longest silence ${ackTimes.longestMs} ms of at most ${meta.ack_gap_max_ms} ms`;
    if (ackTimes.longestMs > meta.ack_gap_max_ms) return failed(measured);
    const recoveries: string[] = [];
    for (const [index, fault] of faults.entries()) {
      const name = `${fault.kind} ${fault.target}`;
      const at = ackTimes.recoveredAt[index];
      if (!fault.proof) return unknown(`${name}: no proof that the fault happened`);
      if (at === undefined) return failed(`${name}: no event was acknowledged after it`);
      const tookMs = at - fault.t1_ms;
      const bound = meta.recovery_max_ms;
      if (bound !== undefined && tookMs > bound) return failed(`${name}: ${tookMs} ms to recover, at most ${bound} ms`);
      recoveries.push(`${name} ${tookMs} ms`);
    }
    return passed([measured, ...recoveries].join("; "));
  }),
};

// ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────────

const SEVERITY: Readonly<Record<Status, number>> = { passed: 0, unknown: 1, failed: 2 };

/** The worst of several; unknown for an empty list. */
const worst = (statuses: readonly Status[]): Status =>
  statuses.length === 0 ? "unknown" : statuses.reduce((a, b) => (SEVERITY[b] > SEVERITY[a] ? b : a));

/** Runs one checker; a crash inside it is unknown. */
export function check(id: InvariantId, facts: Facts, checker: Checker = CHECKERS[id]): InvariantResult {
  try {
    return { law: id, follows: [], examples: [], ...checker(facts) };
  } catch (error) {
    const detail = `the checker failed: ${causeChain(error).join(": ")}`;
    return { law: id, status: "unknown", detail, follows: [], examples: [] };
  }
}

/** The location of each event without a point; every event has exactly one. */
function locateMissing({ table, recorded, meta }: Facts): Record<Location, Selection> {
  const knowsLog = recorded.has("log");
  const knowsRead = recorded.has("commits") || meta.quiescent === true;
  const expected = (word: Word) => (word("attempted") | word("acknowledged") | word("log")) & ~word("sink");
  const none = (): Selection => ({ count: 0, examples: [] });
  const locations = Object.fromEntries(LOCATIONS.map((location) => [location, none()])) as Record<Location, Selection>;
  if (!recorded.has("sink")) return locations;
  const refused = (word: Word) => expected(word) & word("refused");
  const dead = (word: Word) => expected(word) & word("dead") & ~word("refused");
  /** Neither refused nor dead-lettered. */
  const rest = (word: Word) => expected(word) & ~word("refused") & ~word("dead");
  locations.refused_by_database = table.select(refused);
  locations.dead_lettered = table.select(dead);
  locations.overwritten = table.select((word) => rest(word) & word("overwritten"));
  const open = (word: Word) => rest(word) & ~word("overwritten");
  const read = (word: Word) => (meta.quiescent ? word("log") : word("logRead"));
  if (!knowsLog) {
    locations.unplaced = table.select(open);
    return locations;
  }
  if (knowsRead) {
    locations.in_kafka_unread = table.select((word) => open(word) & word("log") & ~read(word));
    locations.lost_in_processor = table.select((word) => open(word) & read(word));
  } else {
    locations.unplaced = table.select((word) => open(word) & word("log"));
  }
  locations.in_kafka_unreadable = table.select((word) => open(word) & word("unreadable"));
  const isLost = (word: Word) => open(word) & ~word("log") & ~word("unreadable") & word("acknowledged");
  locations.lost_in_kafka = table.select(isLost);
  locations.never_acknowledged = table.select((word) => open(word) & ~word("log") & ~word("acknowledged"));
  return locations;
}

/** Judges facts; pure. */
export function judgeFacts(facts: Facts, checkers: Readonly<Record<InvariantId, Checker>> = CHECKERS): Verdict {
  const results = INVARIANTS.map((id) => check(id, facts, checkers[id]));
  const failedInvariants = new Set(results.filter(({ status }) => status === "failed").map(({ law }) => law));
  for (const result of results) result.follows = result.follows.filter((id) => failedInvariants.has(id));
  const { table } = facts;
  const acknowledged = countOf(facts, "acknowledged");
  const attempted = table.select((word) => word("attempted") | word("acknowledged")).count;
  /** Attempted without a certain outcome, recorded or not. */
  const uncertain = table.select(
    (word) => (word("attempted") | word("uncertain")) & ~(word("acknowledged") | word("failed")),
  ).count;
  return {
    status: worst(results.map(({ status }) => status)),
    laws: results,
    causes: results.filter(({ status, follows }) => status === "failed" && follows.length === 0).map(({ law }) => law),
    counts: {
      attempted,
      acknowledged,
      failed: countOf(facts, "failed"),
      uncertain,
      uncertain_percent: attempted === 0 ? 0 : (uncertain / attempted) * 100,
      in_kafka: countOf(facts, "log"),
      in_influxdb: countOf(facts, "sink"),
      dead_lettered: countOf(facts, "dead"),
      dead_letters_without_identity: facts.deadLettersWithoutIdentity,
      lost: lostEndToEnd(facts).count,
      twice_in_kafka: facts.logRepeats,
      twice_in_kafka_explained: Math.min(facts.logRepeats, explainedRepeats(facts)),
      twice_in_influxdb: facts.sinkRepeats,
    },
    missing: locateMissing(facts),
  };
}

/** Judges a recorded history. */
export async function judge(history: History): Promise<Verdict> {
  return judgeFacts(await collectFacts(history));
}
