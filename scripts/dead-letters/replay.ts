/** `replay`: sends events that are valid now and not stored, and checks that they are stored afterwards. */
import { FIELD_NAME_CHARS } from "../../services/domain/point-content.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import type { TelemetryStore } from "../clients/influxdb.ts";
import { ingest } from "../ingest/ingest.ts";
import { type DeadLetterSession, eachWithStatus, type SubCommand } from "./session.ts";
import { type ReplayEvent, storedAmong } from "./topic.ts";

/** Events of one call; they are held in memory. Another choice of dead letters reaches the rest. */
const MAX_REPLAYED = 100_000;
/** An acknowledged event is stored within a second; a processor that is behind needs longer. */
const STORED_LIMIT_MS = 60_000;
/** Each query covers the time that the events span. */
const STORED_POLL_MS = 1000;
/** Identities that are printed of events that were not stored. */
const MAX_PRINTED = 10;

async function* inputOf(events: readonly ReplayEvent[]): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for (const { text } of events) yield encoder.encode(`${text}\n`);
}

interface Candidates {
  /** By identity. */
  events: Map<string, ReplayEvent>;
  refused: number;
  /** Valid events beyond the limit of one call. */
  beyond: number;
}

function readCandidates(session: DeadLetterSession): Promise<Candidates> {
  return session.report.step("read the dead letters", async (step) => {
    const candidates: Candidates = { events: new Map(), refused: 0, beyond: 0 };
    const { events } = candidates;
    const newestMs = new Map<string, number>();
    await eachWithStatus(session, ({ timestampMs }, status) => {
      if (status.kind !== "valid") {
        candidates.refused++;
        return;
      }
      const { identity } = status.event;
      // Of several of one identity the newest counts; the topic is read partition by partition.
      if (timestampMs < (newestMs.get(identity) ?? 0)) return;
      if (events.size >= MAX_REPLAYED && !events.has(identity)) candidates.beyond++;
      else {
        events.set(identity, status.event);
        newestMs.set(identity, timestampMs);
      }
    });
    step.update(`${events.size + candidates.beyond} valid now, ${candidates.refused} still refused`);
    const ascending = [...events.values()].sort((a, b) => newestMs.get(a.identity)! - newestMs.get(b.identity)!);
    candidates.events = new Map(withoutReplaced(ascending).map((event) => [event.identity, event]));
    return candidates;
  });
}

/**
 * Events in the order in which they are sent, so that the newest value of a field is the one that stays. A field that a later
 * event of the same point has too is not expected to be stored; an event without any other field is left out.
 */
export function withoutReplaced(ascending: readonly ReplayEvent[]): ReplayEvent[] {
  const later = new Map<string, Set<string>>();
  const kept: ReplayEvent[] = [];
  for (const event of ascending.toReversed()) {
    const { content } = event;
    if (!content) {
      kept.push(event);
      continue;
    }
    const names = later.get(content.key) ?? new Set();
    later.set(content.key, names);
    const fields = content.fields.filter((field) => !names.has(field.slice(0, FIELD_NAME_CHARS)));
    for (const field of fields) names.add(field.slice(0, FIELD_NAME_CHARS));
    if (fields.length > 0) kept.push({ ...event, content: { ...content, fields } });
  }
  return kept.reverse();
}

/** Events that are not stored, and those of the same point behind them: the older one also has fields that these replaced. */
export function unstored(ascending: readonly ReplayEvent[], stored: ReadonlySet<string>): ReplayEvent[] {
  const sentPoints = new Set<string>();
  return ascending.filter(({ identity, content }) => {
    if (stored.has(identity) && !(content && sentPoints.has(content.key))) return false;
    if (content) sentPoints.add(content.key);
    return true;
  });
}

/** Identities of the events that are stored when all are, or at the limit. */
function awaitStored(
  { report, signal }: DeadLetterSession,
  store: TelemetryStore,
  events: readonly ReplayEvent[],
): Promise<Set<string>> {
  return report.step("check that they are stored in InfluxDB", async (step) => {
    let found = new Set<string>();
    await waitFor(
      async () => {
        found = await storedAmong(store, events);
        step.update(`${found.size} of ${events.length}`);
        return found.size === events.length
          ? { done: true, value: true }
          : { done: false, state: `${found.size} of ${events.length} are stored` };
      },
      { what: "the events to be stored", limitMs: STORED_LIMIT_MS, intervalMs: STORED_POLL_MS, signal },
    ).catch((error: unknown) => {
      // Events that are not stored by then are the result, not a failure of the command.
      if (!(error instanceof OperatorError) || error.exitCode !== EXIT.timeout) throw error;
    });
    return found;
  });
}

export const replay: SubCommand = async (session) => {
  const { cluster, image, probes, report, signal } = session;
  const { events, refused, beyond } = await readCandidates(session);
  const store = await probes.store();
  const before = await storedAmong(store, [...events.values()]);
  const missing = unstored([...events.values()], before);
  const counts = { valid: events.size, already_stored: before.size, still_refused: refused, not_read: beyond };
  if (session.isDryRun || missing.length === 0) {
    report.result({ ...counts, sent: 0, stored: 0, would_send: missing.length });
    report.print(`${missing.length} would be sent; ${before.size} are stored already; ${refused} are still refused`);
    return EXIT.ok;
  }
  await report.step("send them", async (step) => {
    const sent = await ingest(cluster, inputOf(missing), { image, signal });
    step.update(`${sent.acknowledged} acknowledged, ${sent.refused} refused`);
  });
  const stored = await awaitStored(session, store, missing);
  const notStored = missing.map(({ identity }) => identity).filter((identity) => !stored.has(identity));
  report.result({ ...counts, sent: missing.length, stored: stored.size, not_stored: notStored });
  report.print(
    `${missing.length} sent, ${stored.size} stored; ${before.size} were stored already; ${refused} are still refused`,
  );
  if (beyond > 0)
    report.print(`${beyond} more are valid and were not read: choose them with a shorter --since, --reason or --run`);
  for (const identity of notStored.slice(0, MAX_PRINTED)) report.print(`not stored: ${identity}`);
  return notStored.length === 0 ? EXIT.ok : EXIT.violations;
};
