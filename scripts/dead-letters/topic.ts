/**
 * The dead-letter topic: its records, the replay status of each, and which of their events are stored. A replay is safe: a
 * stored event is not sent, and an event that is sent twice rewrites its own point.
 */
import { parseAnyEventAt, timeMsOf } from "../../services/domain/any-event.ts";
import { UNREADABLE_REASON } from "../../services/domain/dead-letter.ts";
import { MAX_EVENT_BYTES, serializeEvent, type TelemetryEvent } from "../../services/domain/event.ts";
import { checkSchema, type Schemas } from "../../services/domain/event-schema.ts";
import { renderLine, seriesOf } from "../../services/domain/line-protocol.ts";
import { contentOf } from "../../services/domain/point-content.ts";
import type { DeadLetterPage, DeadLetterRecord } from "../../services/protocol/probe.ts";
import { OperatorError } from "../cli/errors.ts";
import type { TelemetryStore } from "../clients/influxdb.ts";
import { KAFKA, type ProbeSession, readBy } from "../clients/probe-session.ts";

/** A page has at most a few megabytes of records; the probe's maximum is a minute. */
const PAGE_LIMIT_MS = 50_000;
/** 4 MiB of bodies each: some 2 GiB of records. */
const MAX_PAGES = 500;
/** The database is queried in slices of time, which bounds its memory… */
const STORED_SLICE_MS = 10 * 60_000;
/** …and in at most this many: a week. */
const MAX_STORED_SLICES = 1008;
/** Runs named in one query. */
const RUNS_PER_QUERY = 50;

export interface StoredDeadLetter {
  partition: number;
  offset: number;
  timestampMs: number;
  reason: string;
  detail: string;
  /** The service that refused the event. */
  service: string;
  /** Source of the event: "kafka conveyor.events/3/1200", "stdin line 17 of run r1". */
  origin: string;
  body: Uint8Array;
  /** Length of the received event; larger than the body when that is truncated. */
  originalBytes: number;
}

/** An event that can be sent again. */
export interface ReplayEvent {
  /** "run/conveyor/seq"; of a point, which has none, its series, the names of its fields, and its time. */
  identity: string;
  /** As one line of the input. */
  text: string;
  timeMs: number;
  /** Of an event of version 1. */
  run?: string;
  /** Of any other: what its point says. */
  content?: { measurement: string; key: string; fields: string[] };
}

/** Outcome of a replay by the current rules. */
export type ReplayStatus =
  | { kind: "valid"; event: ReplayEvent }
  /** Still invalid: it has to be corrected. */
  | { kind: "refused"; reason: string; detail: string }
  /** The body is truncated. */
  | { kind: "cut" };

export interface DeadLetterFilter {
  sinceMs: number;
  /** Empty: any. */
  reasons: readonly string[];
  /** Run of the event, or of the producer that read it. */
  run?: string | undefined;
}

/** A record of the probe with its headers as fields (services/domain/dead-letter.ts). */
export function storedDeadLetterOf({
  partition,
  offset,
  timestampMs,
  headers,
  body,
}: DeadLetterRecord): StoredDeadLetter {
  const bytes = new Uint8Array(Buffer.from(body, "base64"));
  const { source_topic, source_partition, source_offset, source_line, run } = headers;
  const place = source_topic ? `${source_topic}/${source_partition}/${source_offset}` : `line ${source_line} of ${run}`;
  return {
    partition,
    offset,
    timestampMs,
    reason: headers.reason ?? "unknown",
    detail: headers.detail ?? "",
    service: headers.service ?? "unknown",
    origin: `${headers.source ?? "unknown"} ${place}`,
    body: bytes,
    originalBytes: Number(headers.original_bytes ?? bytes.length),
  };
}

/** InfluxDB's refusal of a point whose field has another type in the shard of its day. */
const TYPE_CONFLICT = /field type conflict/i;

/**
 * Replay status by the rules of this version of the project, and by the window of event time at `nowMs`. An event that
 * InfluxDB refused for the type of a field would be refused again: its own time selects the shard, today and later.
 * @param options.typesFixed the points of the other type are deleted
 * @param options.schemas those of the pipeline, which decide validity and types at the intake
 */
export function replayStatusOf(
  deadLetter: StoredDeadLetter,
  nowMs = Date.now(),
  { typesFixed = false, schemas }: { typesFixed?: boolean; schemas?: Schemas } = {},
): ReplayStatus {
  const { body, originalBytes, reason, detail } = deadLetter;
  if (reason === UNREADABLE_REASON) return { kind: "refused", reason, detail };
  if (originalBytes > body.length) {
    return originalBytes > MAX_EVENT_BYTES
      ? {
          kind: "refused",
          reason: "too_large",
          detail: `an event must be at most ${MAX_EVENT_BYTES} bytes; got ${originalBytes}`,
        }
      : { kind: "cut" };
  }
  const { event: replay, refusal } = replayEventOf(body, nowMs, deadLetter.timestampMs, schemas);
  if (refusal) return { kind: "refused", reason: refusal.reason, detail: refusal.detail };
  if (reason === "refused_by_database" && TYPE_CONFLICT.test(detail) && !typesFixed) {
    const day = new Date(replay.timeMs).toISOString().slice(0, 10);
    return { kind: "refused", reason, detail: `stored points of ${day} have another type; ${detail}` };
  }
  return { kind: "valid", event: replay };
}

/** The replay of an event of version 1. */
export const replayOf = (event: TelemetryEvent): ReplayEvent => ({
  identity: identityText(event),
  text: serializeEvent(event),
  timeMs: event.ts,
  run: event.run,
});

/** A line without time has the one at which it was refused: each replay writes the same point. */
function replayEventOf(body: Uint8Array, nowMs: number, receivedMs: number, schemas: Schemas | undefined) {
  const { event, generic, refusal } = parseAnyEventAt(nowMs, body, body.length, { precision: "any", receivedMs });
  if (refusal) return { refusal };
  if (event) return { event: replayOf(event) };
  const { source } = generic;
  const form = source === undefined ? "line" : "json";
  const point = schemas ? checkSchema(schemas, generic.point, form) : generic.point;
  if ("reason" in point) return { refusal: point };
  return {
    event: {
      // Two points of one series and time complete each other where they have different fields.
      identity: `${seriesOf(point)} ${[...point.fields.keys()].sort().join(",")} ${point.timeNs}`,
      // JSON keeps the identity that it gives.
      text: source === undefined ? renderLine(generic.point) : lineOf(body),
      timeMs: timeMsOf(point),
      content: { measurement: point.measurement, ...contentOf(point) },
    } satisfies ReplayEvent,
  };
}

/** Whether a record matches a filter. */
export function matchesFilter(deadLetter: StoredDeadLetter, filter: DeadLetterFilter): boolean {
  if (deadLetter.timestampMs < filter.sinceMs) return false;
  if (filter.reasons.length > 0 && !filter.reasons.includes(deadLetter.reason)) return false;
  if (filter.run === undefined) return true;
  return deadLetter.origin.endsWith(` of ${filter.run}`) || runNamed(deadLetter.body) === filter.run;
}

/** The run in a body, which need not be valid JSON. */
function runNamed(body: Uint8Array): string | undefined {
  return /"run"\s*:\s*"([^"\\]*)"/.exec(Buffer.from(body).toString("utf8"))?.[1];
}

/** A body as one line with the same meaning, for line tools. */
export function lineOf(body: Uint8Array): string {
  const text = Buffer.from(body).toString("utf8");
  if (!/[\r\n]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text.replaceAll(/[\r\n]+/g, " ");
  }
}

const identityText = ({ run, conveyor, seq }: Pick<TelemetryEvent, "run" | "conveyor" | "seq">) =>
  `${run}/${conveyor}/${seq}`;

/**
 * Reads the topic since a time, page by page, up to its end at the first page.
 * @throws OperatorError when Kafka cannot be read, or has more pages than the limit
 */
export async function eachDeadLetter(
  context: ProbeSession,
  filter: DeadLetterFilter,
  signal: AbortSignal,
  visit: (deadLetter: StoredDeadLetter) => void,
): Promise<void> {
  let page: DeadLetterPage | undefined;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    signal.throwIfAborted();
    const { result } = await context.probeFrom("admin", {
      result: {
        kind: "letter_read",
        ...KAFKA,
        timeout_ms: PAGE_LIMIT_MS,
        ...(page ? { from: page.next, to: page.to } : { from_timestamp_ms: filter.sinceMs }),
      },
    });
    page = readBy<DeadLetterPage>(result, "the dead letters");
    for (const deadLetter of page.letters.map(storedDeadLetterOf))
      if (matchesFilter(deadLetter, filter)) visit(deadLetter);
    const ends = new Map(page.to.map(({ partition, offset }) => [partition, offset]));
    if (page.next.every(({ partition, offset }) => offset >= (ends.get(partition) ?? 0))) return;
  }
  throw new OperatorError(`there are more dead letters than ${MAX_PAGES} pages`, { hint: "a shorter --since" });
}

/** The slices of time that contain events. */
export function slicesOf(timesMs: readonly number[]): [startMs: number, endMs: number][] {
  const slices = new Set(timesMs.map((ms) => Math.floor(ms / STORED_SLICE_MS)));
  return [...slices].sort((a, b) => a - b).map((slice) => [slice * STORED_SLICE_MS, (slice + 1) * STORED_SLICE_MS]);
}

/**
 * Identities of those events that are stored in InfluxDB.
 * @throws OperatorError when their times span more than the database can be queried for
 */
export async function storedAmong(
  store: Pick<TelemetryStore, "eachPoint" | "eachFieldValue">,
  events: readonly ReplayEvent[],
): Promise<Set<string>> {
  const slices = slicesOf(events.map(({ timeMs }) => timeMs));
  if (slices.length > MAX_STORED_SLICES) {
    throw new OperatorError(
      `the events span ${slices.length} slices of ten minutes; at most ${MAX_STORED_SLICES} are queried`,
      {
        hint: "choose fewer with --reason, --run or --since",
      },
    );
  }
  const found = new Set<string>();
  for (const [startMs, endMs] of slices) {
    const inSlice = events.filter(({ timeMs }) => timeMs >= startMs && timeMs < endMs);
    await addStoredIdentities(store, inSlice, startMs, endMs, found);
    await addStoredPoints(store, inSlice, startMs, endMs, found);
  }
  return found;
}

/** Adds those events of version 1 that are stored. */
async function addStoredIdentities(
  store: Pick<TelemetryStore, "eachPoint">,
  events: readonly ReplayEvent[],
  startMs: number,
  endMs: number,
  found: Set<string>,
): Promise<void> {
  const wanted = new Set(events.map(({ identity }) => identity));
  const runs = [...new Set(events.map(({ run }) => run).filter((run) => run !== undefined))];
  for (let first = 0; first < runs.length; first += RUNS_PER_QUERY) {
    await store.eachPoint({ runs: runs.slice(first, first + RUNS_PER_QUERY) }, startMs, endMs, (point) => {
      const identity = identityText(point);
      if (wanted.has(identity)) found.add(identity);
    });
  }
}

/** Adds those points of which every field is stored with its type and value. */
async function addStoredPoints(
  store: Pick<TelemetryStore, "eachFieldValue">,
  events: readonly ReplayEvent[],
  startMs: number,
  endMs: number,
  found: Set<string>,
): Promise<void> {
  const contents = events.map(({ content }) => content).filter((content) => content !== undefined);
  const stored = new Map(contents.map(({ key }) => [key, new Set<string>()]));
  for (const measurement of new Set(contents.map((content) => content.measurement))) {
    await store.eachFieldValue(measurement, startMs, endMs, ({ key, field }) => void stored.get(key)?.add(field));
  }
  for (const { identity, content } of events) {
    if (content?.fields.every((field) => stored.get(content.key)!.has(field))) found.add(identity);
  }
}
