/**
 * The judge: what a recorded history (history.ts) proves about the events in it.
 *
 * Vocabulary: A acknowledged, U uncertain, F certainly failed (by the producer's own record), K in Kafka, I in InfluxDB,
 * D dead-lettered; each a set of identities (run, conveyor, seq), never a count.
 *
 *   L1  lost in Kafka         A \ K is empty
 *   L2  lost in the processor what the group has read of K is in I or D
 *   L3  end to end            A \ (I ∪ D) is empty
 *   P1  phantoms              K and I hold only what was attempted, and nothing that certainly failed
 *   X1  offsets               an event stands where Kafka acknowledged it; two readers see the same log
 *   D1  duplicates in Kafka   none with an idempotent producer, else no more than its retries
 *   D2  one point per event   none has two points, none holds the point of another
 *   D3  redeliveries          no more writes beyond the first than the faults explain
 *   O1  order                 the events of one conveyor and partition appear in order, none acknowledged is skipped
 *   R1  recovery              the longest silence and each fault's recovery stay within their bounds
 *
 * Each checker is a pure function of the collected facts and says passed, failed or unknown; the worst wins. What was
 * not recorded is unknown, a checker that crashes is unknown, and a law about no events at all is unknown: a history
 * that shows nothing never passes. A failed law that only repeats what another law found names it in `follows`.
 *
 * Memory: bitmaps per (run, conveyor), see identity-table.ts; one more number per event when acknowledgements carry
 * offsets. Nothing else grows with the number of events.
 */
import { pointTimestampNs, SLOTS_PER_MS } from "../../services/domain/point.ts";
import { causeChain } from "../cli/errors.ts";
import type { FaultRecord, History, HistoryMeta, Identities, Identity, Kind } from "./history.ts";
import { type Column, entryOf, IdentityTable, type Selection } from "./identity-table.ts";

export type Status = "passed" | "failed" | "unknown";
export const INVARIANTS = ["L1", "L2", "L3", "P1", "X1", "D1", "D2", "D3", "O1", "R1"] as const;
export type InvariantId = (typeof INVARIANTS)[number];

export const INVARIANT_TITLES: Readonly<Record<InvariantId, string>> = {
  L1: "acknowledged events stand in Kafka",
  L2: "events read from Kafka stand in InfluxDB or as dead letters",
  L3: "acknowledged events stand in InfluxDB or as dead letters",
  P1: "nothing stands anywhere that was not sent",
  X1: "events stand where Kafka acknowledged them; two readers agree",
  D1: "no event stands in Kafka twice",
  D2: "every event has one point of its own in InfluxDB",
  D3: "no more rewrites than the faults explain",
  O1: "the events of a conveyor keep their order",
  R1: "silences and recoveries within their bounds",
};

export interface InvariantResult {
  law: InvariantId;
  status: Status;
  /** What was found, with numbers; for unknown, what is missing. */
  detail: string;
  /** Laws that failed already and explain all of this failure. */
  follows: InvariantId[];
  examples: Identity[];
}

/** Where an event is that has no point in InfluxDB. */
export const LOCATIONS = [
  /** Attempted, never acknowledged, not in Kafka: nobody was promised anything. */
  "never_acknowledged",
  /** Acknowledged, not in Kafka. */
  "lost_in_kafka",
  "in_kafka_unread",
  "dead_lettered",
  "refused_by_database",
  "overwritten",
  /** Read by the group, committed, and in no place. */
  "lost_in_processor",
  /** The record does not say. */
  "unplaced",
] as const;
export type Location = (typeof LOCATIONS)[number];

export interface Verdict {
  status: Status;
  laws: InvariantResult[];
  /** Failed laws that no other law explains. */
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
    /** Acknowledged, in no place, and not merely unread. */
    lost: number;
    /** Occurrences in Kafka beyond the first of an event, and how many of them are explained. */
    twice_in_kafka: number;
    twice_in_kafka_explained: number;
    /** Points beyond the first of an event. */
    twice_in_influxdb: number;
  };
  /** Events without a point in InfluxDB, by where they are. */
  missing: Record<Location, Selection>;
}

// ── facts ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a history says, gathered in one pass over each of its files. */
export interface Facts {
  meta: HistoryMeta;
  recorded: ReadonlySet<Kind>;
  table: IdentityTable;
  /** Occurrences in the log beyond the first of an event. */
  logRepeats: number;
  /** First appearances below an earlier one of the same conveyor and partition. */
  outOfOrder: Selection;
  /** Readers of the log, in order, with the records of each. */
  readers: Map<number, number>;
  /** Partitions in which two readers found different records. */
  disagreeing: number[];
  acknowledgedWithPlace: number;
  sinkRepeats: number;
  writeRepeats: number;
  lettersWithoutIdentity: number;
  faults: FaultRecord[];
  ackTimes: Gaps;
  /** Overwriting was looked for only among so many of the events without a point. */
  overwriteSearchCut: boolean;
}

/** The longest pause in a sequence of moments, and each fault's wait for the next one. */
class Gaps {
  #last: number | undefined;
  #longestMs = 0;
  #moments = 0;
  /** Per fault: the first moment after its end. */
  readonly recoveredAt: (number | undefined)[];

  constructor(readonly faults: readonly FaultRecord[]) {
    this.recoveredAt = faults.map(() => undefined);
  }

  add(moment: number): void {
    this.#moments++;
    if (this.#last !== undefined) this.#longestMs = Math.max(this.#longestMs, moment - this.#last);
    this.#last = this.#last === undefined ? moment : Math.max(this.#last, moment);
    for (let index = 0; index < this.faults.length; index++) {
      const at = this.recoveredAt[index];
      if (moment > this.faults[index]!.t1_ms && (at === undefined || moment < at)) this.recoveredAt[index] = moment;
    }
  }

  get longestMs(): number {
    return this.#longestMs;
  }
  get moments(): number {
    return this.#moments;
  }
}

/** Kafka's partitions are below this, so partition and offset fit into one number exactly (offsets below 2^43). */
const MAX_PARTITIONS = 1024;
const placeOf = (partition: number, offset: number) => offset * MAX_PARTITIONS + partition;
/** Kept instead of a place once the log was seen to hold the event there. */
const PLACE_CONFIRMED = -1;
/** Events without a point for which the holder of their point is looked for: enough to tell a pattern from an accident. */
const MAX_OVERWRITE_CANDIDATES = 100_000;
const MAX_EXAMPLES = 5;

const same = (a: Identity, b: Identity) => a.run === b.run && a.conveyor === b.conveyor && a.seq === b.seq;

/** Gathers the facts: every file once, and log and sink once more when events without a point must be explained. */
export async function collectFacts(history: History): Promise<Facts> {
  const table = new IdentityTable();
  const recorded = new Set<Kind>();
  const mark = (column: Column, record: Identities): number =>
    record.last_seq === undefined
      ? table.add(column, record)
        ? 0
        : 1
      : table.addRange(column, record, record.last_seq);
  const each: History["each"] = async (kind, visit) => {
    if (!history.recorded(kind)) return;
    recorded.add(kind);
    await history.each(kind, visit);
  };

  const faults: FaultRecord[] = [];
  await each("faults", (fault) => void faults.push(fault));
  const ackTimes = new Gaps(faults);

  const committed = new Map<number, number>();
  await each("commits", ({ partition, offset }) => {
    committed.set(partition, Math.max(offset, committed.get(partition) ?? 0));
  });

  await each("attempts", (record) => void mark("attempted", record));

  let acknowledgedWithPlace = 0;
  await each("outcomes", (record) => {
    const { outcome, partition, offset, t_ms } = record;
    if (outcome === "fail") mark("failed", record);
    else if (outcome === "unknown") mark("uncertain", record);
    else {
      mark("acknowledged", record);
      if (t_ms !== undefined) ackTimes.add(t_ms);
      if (partition !== undefined && offset !== undefined && record.last_seq === undefined) {
        acknowledgedWithPlace++;
        table.setPlace(record, placeOf(partition, offset));
      }
    }
  });

  const readers = new Map<number, number>();
  /** reader → partition → fingerprint of what it read, in order. */
  const fingerprints = new Map<number, Map<number, bigint>>();
  const lastFirst = new Map<string, Map<string, number>>();
  const outOfOrder: Selection = { count: 0, examples: [] };
  let logRepeats = 0;
  await each("log", (record) => {
    const { reader, partition, offset, run, conveyor, seq, hash } = record;
    readers.set(reader, (readers.get(reader) ?? 0) + 1);
    const ofReader = entryOf(fingerprints, reader, () => new Map<number, bigint>());
    const line = `${offset}\n${run}\n${conveyor}\n${seq}\n${hash ?? ""}`;
    ofReader.set(partition, Bun.hash.wyhash(line, ofReader.get(partition) ?? 0n));
    if (reader !== 1) return;
    if (table.place(record) === placeOf(partition, offset)) table.setPlace(record, PLACE_CONFIRMED);
    if (offset < (committed.get(partition) ?? 0)) table.add("logRead", record);
    if (!table.add("log", record)) {
      logRepeats++;
      table.add("logTwice", record);
      return;
    }
    const ofRun = entryOf(lastFirst, run, () => new Map<string, number>());
    const key = `${partition} ${conveyor}`;
    const last = ofRun.get(key);
    if (last !== undefined && seq < last) {
      outOfOrder.count++;
      if (outOfOrder.examples.length < MAX_EXAMPLES) outOfOrder.examples.push({ run, conveyor, seq });
    } else {
      ofRun.set(key, seq);
    }
  });

  let sinkRepeats = 0;
  await each("sink", (record) => {
    const repeated = mark("sink", record);
    sinkRepeats += repeated;
    if (repeated > 0) table.add("sinkTwice", record);
  });

  let writeRepeats = 0;
  await each("writes", (record) => {
    writeRepeats += mark("written", record);
  });

  let lettersWithoutIdentity = 0;
  await each("dlq", ({ run, conveyor, seq, reason }) => {
    if (run === undefined || conveyor === undefined || seq === undefined) {
      lettersWithoutIdentity++;
      return;
    }
    table.add("dead", { run, conveyor, seq });
    if (reason === "refused_by_database") table.add("refused", { run, conveyor, seq });
  });
  await each("refusals", (record) => void table.add("refused", record));

  const overwriteSearchCut = await findOverwritten(history, table);
  return {
    meta: history.meta,
    recorded,
    table,
    logRepeats,
    outOfOrder,
    readers,
    disagreeing: disagreeingPartitions([...fingerprints.values()]),
    acknowledgedWithPlace,
    sinkRepeats,
    writeRepeats,
    lettersWithoutIdentity,
    faults,
    ackTimes,
    overwriteSearchCut,
  };
}

function disagreeingPartitions(readers: readonly Map<number, bigint>[]): number[] {
  const partitions = new Set(readers.flatMap((reader) => [...reader.keys()]));
  return [...partitions]
    .filter((partition) => new Set(readers.map((reader) => reader.get(partition))).size > 1)
    .sort((a, b) => a - b);
}

/**
 * Marks events without a point whose point another event holds: at the timestamp that is theirs by the rule of
 * services/domain/point.ts, or at their bare millisecond, which is where a writer of coarser timestamps would have put
 * them. True when there were more candidates than are looked at.
 */
async function findOverwritten(history: History, table: IdentityTable): Promise<boolean> {
  if (!history.recorded("log") || !history.recorded("sink")) return false;
  const read: Column = history.meta.quiescent ? "log" : "logRead";
  const { count } = table.select((word) => word(read) & ~word("sink") & ~word("dead"));
  if (count === 0) return false;
  /** conveyor and timestamp → the events that would stand there. */
  const wanted = new Map<string, Identity[]>();
  let kept = 0;
  await history.each("log", ({ reader, run, conveyor, seq, ts_ms }) => {
    const identity = { run, conveyor, seq };
    if (reader !== 1 || ts_ms === undefined || kept >= MAX_OVERWRITE_CANDIDATES) return;
    if (!table.has(read, identity) || table.has("sink", identity) || table.has("dead", identity)) return;
    kept++;
    for (const ns of new Set([pointTimestampNs(String(ts_ms), String(seq)), `${ts_ms}000000`])) {
      const key = `${ns} ${conveyor}`;
      const there = wanted.get(key);
      if (there) there.push(identity);
      else wanted.set(key, [identity]);
    }
  });
  const look = ({ run, conveyor, seq, t_ns }: Identity & { t_ns?: string }) => {
    if (t_ns === undefined) return;
    for (const identity of wanted.get(`${t_ns} ${conveyor}`) ?? []) {
      // A point at a bare millisecond may be the right place of its own event; then it took nobody's but its equal's.
      const isExact = seq % SLOTS_PER_MS === identity.seq % SLOTS_PER_MS || seq % SLOTS_PER_MS !== 0;
      if (isExact && !same(identity, { run, conveyor, seq })) table.add("overwritten", identity);
    }
  };
  await history.each("sink", look);
  if (history.recorded("holders")) await history.each("holders", look);
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

const NAMES: Readonly<Record<Kind, string>> = {
  attempts: "what was attempted",
  outcomes: "what was acknowledged",
  log: "what stands in Kafka",
  sink: "what stands in InfluxDB",
  holders: "what stands in InfluxDB in the place of missing points",
  writes: "what the processor wrote",
  dlq: "the dead letters",
  refusals: "what the database refused",
  commits: "the group's committed offsets",
  faults: "the faults",
};

/** Unknown, for the first kind of record that a law needs and that is not there. */
function missingRecord({ meta, recorded }: Facts, ...kinds: Kind[]): Finding | undefined {
  const kind = kinds.find((wanted) => !recorded.has(wanted));
  if (!kind) return undefined;
  const why = meta.not_recorded?.[kind];
  return unknown(`not recorded: ${NAMES[kind]}${why ? ` (${why})` : ""}`);
}

const countOf = ({ table }: Facts, column: Column) => table.select((word) => word(column)).count;

/** What L2 calls lost: read (or everything, once nothing is under way), in no place, and not overwritten. */
const lostInProcessor = ({ table, meta }: Facts): Selection =>
  table.select(
    (word) => (meta.quiescent ? word("log") : word("logRead")) & ~(word("sink") | word("dead") | word("overwritten")),
  );

/** Duplicates in Kafka that the sender's retries explain. */
const explainedRepeats = ({ meta }: Facts): number => (meta.idempotent_producer === false ? (meta.retries ?? 0) : 0);

/** The events of the log that the group has not come to yet; without the record of that, none. */
const unreadRule = ({ recorded, meta }: Facts) => {
  const isKnown = recorded.has("log") && recorded.has("commits") && !meta.quiescent;
  return (word: (column: Column) => number) => (isKnown ? word("log") & ~word("logRead") : 0);
};

/** Acknowledged, in no place, and not waiting to be read. */
const lostEndToEnd = (facts: Facts): Selection => {
  const isUnread = unreadRule(facts);
  return facts.table.select((word) => word("acknowledged") & ~(word("sink") | word("dead")) & ~isUnread(word));
};

const lostInKafka = ({ table }: Facts): Selection => table.select((word) => word("acknowledged") & ~word("log"));

export const CHECKERS: Readonly<Record<InvariantId, Checker>> = {
  L1(facts) {
    const gap = missingRecord(facts, "outcomes", "log");
    if (gap) return gap;
    const acknowledged = countOf(facts, "acknowledged");
    if (acknowledged === 0) return unknown("nothing was acknowledged");
    const lost = lostInKafka(facts);
    return lost.count === 0
      ? passed(`${acknowledged} acknowledged, all in Kafka`)
      : failed(`${lost.count} of ${acknowledged} acknowledged events are not in Kafka`, lost.examples);
  },

  L2(facts) {
    const gap =
      missingRecord(facts, "log", "sink", "dlq") ??
      (facts.meta.quiescent ? undefined : missingRecord(facts, "commits"));
    if (gap) return gap;
    const read = facts.meta.quiescent ? countOf(facts, "log") : countOf(facts, "logRead");
    if (read === 0) return unknown("the group has read nothing of what was recorded");
    const lost = lostInProcessor(facts);
    if (lost.count === 0) return passed(`${read} read from Kafka, all stored or dead-lettered`);
    const refused = facts.table.select(
      (word) => word("logRead") & word("refused") & ~(word("sink") | word("dead")),
    ).count;
    const why = refused > 0 ? `; ${refused} of them the database had refused` : "";
    const cut = facts.overwriteSearchCut ? "; not all were looked at for overwriting" : "";
    return failed(`${lost.count} of ${read} events read from Kafka stand nowhere${why}${cut}`, lost.examples);
  },

  L3(facts) {
    const gap = missingRecord(facts, "outcomes", "sink", "dlq");
    if (gap) return gap;
    const { table, meta, recorded } = facts;
    const acknowledged = countOf(facts, "acknowledged");
    if (acknowledged === 0) return unknown("nothing was acknowledged");
    const knowsUnread = recorded.has("log") && recorded.has("commits") && !meta.quiescent;
    const isUnread = unreadRule(facts);
    const missing = lostEndToEnd(facts);
    const waiting = table.select((word) => word("acknowledged") & ~(word("sink") | word("dead")) & isUnread(word));
    if (missing.count > 0) {
      const explainedBy: InvariantId[] = [];
      // With the log and what was read of it, every missing event is one of L1's, L2's or D2's; without, it may be none.
      if (recorded.has("log") && (knowsUnread || meta.quiescent)) {
        if (lostInKafka(facts).count > 0) explainedBy.push("L1");
        if (lostInProcessor(facts).count > 0) explainedBy.push("L2");
        if (countOf(facts, "overwritten") > 0) explainedBy.push("D2");
      }
      return failed(
        `${missing.count} of ${acknowledged} acknowledged events are in no place`,
        missing.examples,
        explainedBy,
      );
    }
    if (waiting.count > 0)
      return unknown(`${waiting.count} of ${acknowledged} acknowledged events wait in Kafka, unread`);
    const dead = table.select((word) => word("acknowledged") & word("dead") & ~word("sink")).count;
    return passed(`${acknowledged} acknowledged = ${acknowledged - dead} stored + ${dead} dead-lettered, 0 missing`);
  },

  P1(facts) {
    const { table, meta, recorded } = facts;
    const gap = missingRecord(facts, "attempts");
    if (gap) return gap;
    if (!recorded.has("log") && !recorded.has("sink")) return missingRecord(facts, "log", "sink")!;
    const found = table.select((word) => word("log") | word("sink")).count;
    if (found === 0) return unknown("nothing stands anywhere");
    const undead = table.select((word) => word("failed") & word("log") & ~word("acknowledged"));
    if (undead.count > 0) return failed(`${undead.count} events that had failed stand in Kafka`, undead.examples);
    const phantoms = table.select((word) => (word("log") | word("sink")) & ~word("attempted"));
    if (phantoms.count === 0) return passed(`${found} found, all of them sent`);
    // Of a producer that was killed nobody knows the last attempts; these may be among them.
    const open = table.select((word) => (word("log") | word("sink")) & ~word("attempted") & word("uncertain")).count;
    if (open === phantoms.count) {
      return unknown(`${open} of ${found} events found came when nobody could say any more what was sent`);
    }
    return meta.attempts_complete === false
      ? unknown(`${phantoms.count} of ${found} events found are not among the attempts recorded, which are not all`)
      : failed(`${phantoms.count} of ${found} events found were never sent`, phantoms.examples);
  },

  X1(facts) {
    const gap = missingRecord(facts, "log");
    if (gap) return gap;
    const { table, disagreeing, readers } = facts;
    if (disagreeing.length > 0) {
      return failed(`the readers found different records in partition ${disagreeing.join(", ")}`);
    }
    const elsewhere = table.countPlaces((place, identity) => place >= 0 && table.has("acknowledged", identity));
    if (elsewhere.count > 0) {
      const present = table.countPlaces((place, identity) => place >= 0 && table.has("log", identity)).count;
      return failed(
        `${elsewhere.count} events do not stand where Kafka acknowledged them (${present} stand elsewhere)`,
        elsewhere.examples,
        present === 0 ? ["L1"] : [],
      );
    }
    const agreement =
      readers.size >= 2 ? `${readers.size} readers agree on ${readers.get(1) ?? 0} records` : "one reader only";
    if (facts.acknowledgedWithPlace === 0) return unknown(`${agreement}; not recorded: the acknowledged offsets`);
    if (readers.size < 2) return unknown(`${facts.acknowledgedWithPlace} stand where acknowledged; ${agreement}`);
    return passed(`${facts.acknowledgedWithPlace} stand where acknowledged; ${agreement}`);
  },

  D1(facts) {
    const gap = missingRecord(facts, "log");
    if (gap) return gap;
    const found = countOf(facts, "log");
    if (found === 0) return unknown("nothing stands in Kafka");
    const { logRepeats, table } = facts;
    const allowed = explainedRepeats(facts);
    const detail = `${logRepeats} duplicates among ${found} events, at most ${allowed} explained`;
    return logRepeats <= allowed ? passed(detail) : failed(detail, table.select((word) => word("logTwice")).examples);
  },

  D2(facts) {
    const gap = missingRecord(facts, "sink");
    if (gap) return gap;
    const found = countOf(facts, "sink");
    const overwritten = facts.table.select((word) => word("overwritten"));
    if (facts.sinkRepeats > 0 || overwritten.count > 0) {
      return failed(
        `${facts.sinkRepeats} points beyond the first of an event, ${overwritten.count} events overwritten by another`,
        [...facts.table.select((word) => word("sinkTwice")).examples, ...overwritten.examples].slice(0, MAX_EXAMPLES),
      );
    }
    return found === 0 ? unknown("nothing stands in InfluxDB") : passed(`${found} events, a point each`);
  },

  D3(facts) {
    const gap = missingRecord(facts, "writes", "faults");
    if (gap) return gap;
    const written = countOf(facts, "written");
    if (written === 0) return unknown("the processor wrote nothing");
    const bound = facts.faults.reduce((sum, { redeliveries_max }) => sum + (redeliveries_max ?? 0), 0);
    const detail = `${facts.writeRepeats} rewrites among ${written} events, at most ${bound} explained`;
    return facts.writeRepeats <= bound ? passed(detail) : failed(detail);
  },

  O1(facts) {
    const gap = missingRecord(facts, "outcomes", "log");
    if (gap) return gap;
    const { table, outOfOrder } = facts;
    if (table.select((word) => word("acknowledged") & word("log")).count === 0) {
      return unknown("no acknowledged event stands in Kafka");
    }
    if (outOfOrder.count > 0) {
      return failed(`${outOfOrder.count} events appear behind later ones of their conveyor`, outOfOrder.examples);
    }
    const lost = lostInKafka(facts);
    return lost.count > 0
      ? failed(`${lost.count} acknowledged events are left out of the order`, lost.examples, ["L1"])
      : passed(`${countOf(facts, "log")} events in order, no gap`);
  },

  R1(facts) {
    const gap = missingRecord(facts, "outcomes", "faults");
    if (gap) return gap;
    const { ackTimes, faults, meta } = facts;
    if (ackTimes.moments < 2) return unknown("not recorded: when events were acknowledged");
    if (meta.ack_gap_max_ms === undefined)
      return unknown(`longest silence ${ackTimes.longestMs} ms; no bound was given`);
    const measured = `longest silence ${ackTimes.longestMs} ms of at most ${meta.ack_gap_max_ms} ms`;
    if (ackTimes.longestMs > meta.ack_gap_max_ms) return failed(measured);
    const recoveries: string[] = [];
    for (const [index, fault] of faults.entries()) {
      const name = `${fault.kind} ${fault.target}`;
      const at = ackTimes.recoveredAt[index];
      if (!fault.proof) return unknown(`${name}: nothing shows that the fault happened`);
      if (at === undefined) return failed(`${name}: nothing was acknowledged after it`);
      const tookMs = at - fault.t1_ms;
      const bound = meta.recovery_max_ms;
      if (bound !== undefined && tookMs > bound) return failed(`${name}: ${tookMs} ms to recover, at most ${bound} ms`);
      recoveries.push(`${name} ${tookMs} ms`);
    }
    return passed([measured, ...recoveries].join("; "));
  },
};

// ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────────

const SEVERITY: Readonly<Record<Status, number>> = { passed: 0, unknown: 1, failed: 2 };

/** The worse of several; of none, unknown. */
export const worst = (statuses: readonly Status[]): Status =>
  statuses.length === 0 ? "unknown" : statuses.reduce((a, b) => (SEVERITY[b] > SEVERITY[a] ? b : a));

/** Runs one checker; a crash inside it proves nothing. */
export function check(law: InvariantId, facts: Facts, checker: Checker = CHECKERS[law]): InvariantResult {
  try {
    return { law, follows: [], examples: [], ...checker(facts) };
  } catch (error) {
    const detail = `the checker failed: ${causeChain(error).join(": ")}`;
    return { law, status: "unknown", detail, follows: [], examples: [] };
  }
}

/** Where each event without a point is. An event is in exactly one place. */
function placeMissing({ table, recorded, meta }: Facts): Record<Location, Selection> {
  const knowsLog = recorded.has("log");
  const knowsRead = recorded.has("commits") || meta.quiescent === true;
  const expected = (word: (column: Column) => number) =>
    (word("attempted") | word("acknowledged") | word("log")) & ~word("sink");
  const none = (): Selection => ({ count: 0, examples: [] });
  const places = Object.fromEntries(LOCATIONS.map((place) => [place, none()])) as Record<Location, Selection>;
  if (!recorded.has("sink")) return places;
  const refused = (word: (column: Column) => number) => expected(word) & word("refused");
  const dead = (word: (column: Column) => number) => expected(word) & word("dead") & ~word("refused");
  /** Neither refused nor dead-lettered. */
  const rest = (word: (column: Column) => number) => expected(word) & ~word("refused") & ~word("dead");
  places.refused_by_database = table.select(refused);
  places.dead_lettered = table.select(dead);
  places.overwritten = table.select((word) => rest(word) & word("overwritten"));
  const open = (word: (column: Column) => number) => rest(word) & ~word("overwritten");
  const read = (word: (column: Column) => number) => (meta.quiescent ? word("log") : word("logRead"));
  if (!knowsLog) {
    places.unplaced = table.select(open);
    return places;
  }
  if (knowsRead) {
    places.in_kafka_unread = table.select((word) => open(word) & word("log") & ~read(word));
    places.lost_in_processor = table.select((word) => open(word) & read(word));
  } else {
    places.unplaced = table.select((word) => open(word) & word("log"));
  }
  places.lost_in_kafka = table.select((word) => open(word) & ~word("log") & word("acknowledged"));
  places.never_acknowledged = table.select((word) => open(word) & ~word("log") & ~word("acknowledged"));
  return places;
}

/** Judges facts; pure. */
export function judgeFacts(facts: Facts, checkers: Readonly<Record<InvariantId, Checker>> = CHECKERS): Verdict {
  const laws = INVARIANTS.map((law) => check(law, facts, checkers[law]));
  const failedLaws = new Set(laws.filter(({ status }) => status === "failed").map(({ law }) => law));
  for (const result of laws) result.follows = result.follows.filter((law) => failedLaws.has(law));
  const { table } = facts;
  const acknowledged = countOf(facts, "acknowledged");
  const attempted = table.select((word) => word("attempted") | word("acknowledged")).count;
  /** Attempted without any certain outcome, whether that was written down or not. */
  const uncertain = table.select(
    (word) => (word("attempted") | word("uncertain")) & ~(word("acknowledged") | word("failed")),
  ).count;
  return {
    status: worst(laws.map(({ status }) => status)),
    laws,
    causes: laws.filter(({ status, follows }) => status === "failed" && follows.length === 0).map(({ law }) => law),
    counts: {
      attempted,
      acknowledged,
      failed: countOf(facts, "failed"),
      uncertain,
      uncertain_percent: attempted === 0 ? 0 : (uncertain / attempted) * 100,
      in_kafka: countOf(facts, "log"),
      in_influxdb: countOf(facts, "sink"),
      dead_lettered: countOf(facts, "dead"),
      dead_letters_without_identity: facts.lettersWithoutIdentity,
      lost: lostEndToEnd(facts).count,
      twice_in_kafka: facts.logRepeats,
      twice_in_kafka_explained: Math.min(facts.logRepeats, explainedRepeats(facts)),
      twice_in_influxdb: facts.sinkRepeats,
    },
    missing: placeMissing(facts),
  };
}

/** Judges a recorded history. */
export async function judge(history: History): Promise<Verdict> {
  return judgeFacts(await collectFacts(history));
}
