/**
 * Compares points that have no identity with their events in Kafka's log, by series, time and fields
 * (services/domain/point-content.ts). Two events with the same series and time are one point, which holds the last value
 * of each field: a value of a later event replaces that of an earlier one.
 *
 * The points are compared in passes over the files of the history, each for a share of the keys: the memory is bounded by
 * MAX_PASS_POINTS, whatever the number of points.
 */
import { FIELD_HASH_CHARS, FIELD_NAME_CHARS } from "../../services/domain/point-content.ts";
import type { History, Identity, LogRecord } from "./history.ts";
import { entryOf, type IdentityTable } from "./identity-table.ts";

/** Points of one pass: some 100 MB. */
const MAX_PASS_POINTS = 100_000;
/** A pass reads both files once: a minute for four million points. */
const MAX_PASSES = 40;
export const MAX_COMPARED_POINTS = MAX_PASS_POINTS * MAX_PASSES;

export interface ContentFacts {
  /** Events whose points were compared. */
  compared: number;
  /** Events of which a later one has replaced a value, as their sender must expect without identities. */
  replaced: number;
  /** Why the points were not compared: nothing is concluded about their events. */
  undecided: string | undefined;
}

type PointRecord = LogRecord & { point: NonNullable<LogRecord["point"]> };

interface Entry {
  events: PointRecord[];
  /** Hashes of the fields in the database, one after the other. */
  stored: string;
}

const fieldsOf = function* (hashes: string): Generator<[name: string, value: string]> {
  for (let at = 0; at < hashes.length; at += FIELD_HASH_CHARS) {
    const valueAt = at + FIELD_NAME_CHARS;
    yield [hashes.slice(at, valueAt), hashes.slice(valueAt, at + FIELD_HASH_CHARS)];
  }
};

/**
 * Marks the events whose points are stored, altered or overwritten.
 * @param points number of events with points that are judged
 * @param isHidden whether an offset is in a batch that cannot be read
 */
export async function comparePoints(
  history: History,
  table: IdentityTable,
  points: number,
  isHidden: (partition: number, offset: number) => boolean,
): Promise<ContentFacts> {
  const facts: ContentFacts = { compared: 0, replaced: 0, undecided: undefined };
  if (points === 0) return facts;
  if (!history.recorded("stored_fields")) {
    const why = history.meta.not_recorded?.stored_fields;
    facts.undecided = `not recorded: fields of points without identity${why ? ` (${why})` : ""}`;
    return facts;
  }
  if (points > MAX_COMPARED_POINTS) {
    facts.undecided = `${points} points have no identity; at most ${MAX_COMPARED_POINTS} are compared`;
    return facts;
  }
  const passes = Math.ceil(points / MAX_PASS_POINTS);
  for (let pass = 0; pass < passes; pass++) {
    const isOfPass = (key: string) => Number.parseInt(key.slice(0, 8), 16) % passes === pass;
    const entries = new Map<string, Entry>();
    await history.each("log", (record) => {
      const { point, reader, partition, offset } = record;
      if (reader !== 1 || !point || !isOfPass(point.key) || isHidden(partition, offset)) return;
      entryOf(entries, point.key, () => ({ events: [], stored: "" })).events.push({ ...record, point });
    });
    await history.each("stored_fields", ({ key, field }) => {
      const entry = entries.get(key);
      if (entry) entry.stored += field;
    });
    for (const entry of entries.values()) compareEntry(entry, table, facts);
  }
  return facts;
}

function compareEntry({ events, stored }: Entry, table: IdentityTable, facts: ContentFacts): void {
  if (stored === "") return;
  const values = new Map(fieldsOf(stored));
  for (const event of events) {
    if (event.point.foreign) continue;
    facts.compared++;
    const result = compareEvent(event, values, events);
    if (result === "overwritten") {
      table.add("overwritten", event);
      continue;
    }
    table.add("sink", event);
    if (result === "altered") table.add("altered", event);
    if (result === "replaced") facts.replaced++;
  }
}

const same = (a: Identity, b: Identity) => a.run === b.run && a.conveyor === b.conveyor && a.seq === b.seq;

function compareEvent(event: PointRecord, values: ReadonlyMap<string, string>, events: readonly PointRecord[]) {
  let result: "equal" | "replaced" | "overwritten" = "equal";
  for (const [name, value] of fieldsOf(event.point.fields)) {
    const found = values.get(name);
    if (found === value) continue;
    // The order between partitions is not known.
    const later = events.filter(({ partition, offset }) => partition !== event.partition || offset > event.offset);
    const writers = found === undefined ? [] : later.filter(({ point }) => hasField(point.fields, name + found));
    if (writers.length === 0) return "altered";
    const isExpected = event.point.assigned === true || writers.some((writer) => same(writer, event));
    if (!isExpected) result = "overwritten";
    else if (result === "equal") result = "replaced";
  }
  return result;
}

function hasField(hashes: string, field: string): boolean {
  for (let at = 0; at < hashes.length; at += FIELD_HASH_CHARS) if (hashes.startsWith(field, at)) return true;
  return false;
}
