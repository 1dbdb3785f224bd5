/** The sources of events: a simulated fleet, and lines of a file or of stdin. */
import { setTimeout as sleep } from "node:timers/promises";
import { type AnyParsed, type PointEvent, parseAnyEventAt } from "../domain/any-event.ts";
import { identifyCanonical, MAX_EVENT_BYTES, type Refusal } from "../domain/event.ts";
import { checkEventTime } from "../domain/event-window.ts";
import type { Fleet } from "../domain/fleet.ts";
import { GENERIC_EVENT_VERSION, SOURCE_TAG } from "../domain/generic-event.ts";
import { type Precision, renderLine, seriesOf } from "../domain/line-protocol.ts";
import { isBlank, type Line, LineSplitter } from "../domain/ndjson.ts";
import { eventsDue, type RateProfile } from "../domain/rate.ts";
import type { EventProducer } from "../kafka/event-producer.ts";
import { announcedLines } from "../protocol/input-end.ts";
import type { EventPublisher, PointOffer, Settlement } from "./event-publisher.ts";
import type { EventSchemas } from "./event-schemas.ts";

/** Interval between two groups of simulated events: longer means fewer, fuller requests and a longer delay. */
const TICK_MS = 100;

interface SimulationOptions {
  fleet: Fleet;
  publisher: EventPublisher;
  producer: EventProducer;
  profile: RateProfile;
  eventsPerSecond: number;
  signal: AbortSignal;
  /** Called for each turn of the loop, as progress for the liveness check. */
  onTick?: () => void;
  /** Called after the fleet has paused because the buffer was full. */
  onPaused?: (seconds: number) => void;
}

/**
 * Emits the fleet's events at its rate until the signal. While the buffer is full the fleet pauses; afterwards it
 * continues at its rate and does not catch up.
 */
export async function runSimulation(options: SimulationOptions): Promise<void> {
  const { fleet, publisher, producer, signal } = options;
  let startedAt = performance.now();
  let emitted = 0;
  const aborted = whenAborted(signal);
  while (!signal.aborted) {
    options.onTick?.();
    const due = eventsDue(options.profile, options.eventsPerSecond, performance.now() - startedAt);
    // Also when the clock steps back: seq keeps the points apart, and a held time would leave the window of event time.
    const ts = Date.now();
    while (emitted < due) {
      if (!producer.hasRoom(1, MAX_EVENT_BYTES)) {
        const pausedAt = performance.now();
        await Promise.race([producer.whenRoom(), aborted]);
        const pausedMs = performance.now() - pausedAt;
        startedAt += pausedMs;
        options.onPaused?.(pausedMs / 1000);
        break;
      }
      publisher.offer(fleet.next(ts), "simulated");
      emitted++;
    }
    await sleep(TICK_MS);
  }
}

const whenAborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });

interface InputOptions {
  publisher: EventPublisher;
  producer: EventProducer;
  source: "file" | "stdin";
  signal: AbortSignal;
  /** When given, the input ends with a line of this token (protocol/input-end.ts); an input without it was cut. */
  endToken?: string | undefined;
}

interface InputRead {
  /** Lines that are not blank. */
  lines: number;
  /** The number of lines that the sender announced at the end; undefined without an end line. */
  announced: number | undefined;
  /** Every line of the input was read. */
  isComplete: boolean;
}

/**
 * Reads one event per line (any-event.ts) to the end; waits whenever the buffer is full. Resolves when the last line is in
 * the buffer. A last line without line break is part of a cut line when the input must end with an end line: it is not read.
 */
export async function readInput(input: AsyncIterable<Uint8Array>, options: InputOptions): Promise<InputRead> {
  const { publisher, producer, source, signal, endToken } = options;
  const splitter = new LineSplitter(MAX_EVENT_BYTES + 1);
  let lines = 0;
  let announced: number | undefined;
  const result = (): InputRead => ({
    lines,
    announced,
    isComplete: !signal.aborted && (endToken === undefined || announced === lines),
  });
  const take = async (line: Line) => {
    if (isBlank(line.bytes)) return;
    if (endToken !== undefined && announced === undefined) {
      announced = announcedLines(line.bytes, endToken);
      if (announced !== undefined) return;
    }
    lines++;
    const { offer } = prepare(publisher, source, line);
    while (!offer()) {
      if (!(await producer.whenRoom()) || signal.aborted) return;
    }
  };
  for await (const chunk of input) {
    for (const line of splitter.push(chunk)) await take(line);
    if (signal.aborted) return result();
  }
  if (endToken === undefined) for (const line of splitter.end()) await take(line);
  return result();
}

/** Begins each event of version 1 in canonical form, and no line. */
const OPEN_BRACE = 0x7b;

/** What a line of line protocol does not say itself. */
export interface LineContext {
  /** Of its time; ns when absent. */
  precision?: Precision;
  /** Its source in the identity that it gets; the kind of input when absent. */
  sender?: string;
}

/** What an event writes: the rights and bounds of its sender are about these. */
interface EventNames {
  /** Conveyor of version 1, source of version 2, tag `source` of a line. */
  source?: string | undefined;
  /** Its measurement and tags; of version 1, the conveyor. */
  series?: string | undefined;
}

/** An event that was checked. */
export interface Prepared {
  /** Offers it, or its dead letter; to be called again while it returns false. */
  offer(): boolean;
  /** Why it goes to the dead letters. */
  refusal?: Refusal;
  names(): EventNames;
}

/** Checks an event of any form once. */
export function prepare(
  publisher: EventPublisher,
  source: "file" | "stdin" | "http",
  line: Line,
  settled?: (outcome: Settlement) => void,
  { precision, sender = source }: LineContext = {},
): Prepared {
  const nowMs = Date.now();
  if (line.bytes[0] === OPEN_BRACE && line.length === line.bytes.length) {
    const text = Buffer.from(line.bytes.buffer, line.bytes.byteOffset, line.bytes.byteLength).toString();
    const identity = identifyCanonical(text);
    if (identity && checkEventTime(identity.ts, nowMs) === undefined) {
      return {
        offer: () => publisher.offerText(text, identity, source, settled),
        names: () => ({ source: identity.conveyor, series: identity.conveyor }),
      };
    }
  }
  const parsed = parseAnyEventAt(nowMs, line.bytes, line.length, { precision });
  const { event, generic, refusal } = bySchema(parsed, publisher.options.schemas);
  if (event) {
    return {
      offer: () => publisher.offer(event, source, settled),
      names: () => ({ source: event.conveyor, series: event.conveyor }),
    };
  }
  if (generic) {
    const point = pointOffer(generic, sender);
    return {
      offer: () => publisher.offerPoint(point, source, settled),
      names: () => ({
        source: generic.point.tags.get(SOURCE_TAG),
        series: generic.source === undefined ? point.key : seriesOf(generic.point),
      }),
    };
  }
  // Copied, since the dead letter outlives the chunk.
  const value = line.bytes.slice();
  return {
    offer: () => publisher.refuse(refusal, { source, line: line.number }, { value, bytes: line.length }, settled),
    refusal,
    names: () => ({ source: sourceNamed(line) }),
  };
}

/** Bytes that are not UTF-8 are no event; a byte order mark is no part of one. */
const utf8 = new TextDecoder();
/** The tag `source` of a line, which may be invalid otherwise. */
const SOURCE_OF_LINE = new RegExp(`^(?:[^ \\\\]|\\\\.)*?,${SOURCE_TAG}=((?:[^, \\\\]|\\\\.)*)`);

/**
 * The source that an invalid event names: a replay of dead letters must not write what their sender must not. Undefined:
 * none, which no replay can write.
 */
function sourceNamed(line: Line): string | undefined {
  if (line.length > MAX_EVENT_BYTES) return undefined;
  const text = utf8.decode(line.bytes);
  try {
    const { v, conveyor, source } = (JSON.parse(text) ?? {}) as Record<"v" | "conveyor" | "source", unknown>;
    const name = v === GENERIC_EVENT_VERSION ? source : conveyor;
    return typeof name === "string" ? name : undefined;
  } catch {
    return SOURCE_OF_LINE.exec(text.replace(/^[ \t]+/, ""))?.[1];
  }
}

/** The event after the schema of its measurement. */
function bySchema(parsed: AnyParsed, schemas: EventSchemas | undefined): AnyParsed {
  if (!parsed.generic || !schemas) return parsed;
  const { generic } = parsed;
  const checked = schemas.check(generic.point, generic.source === undefined ? "line" : "json");
  return "reason" in checked ? { refusal: checked } : { generic: { ...generic, point: checked } };
}

/** The record of a valid point; `sender` is the source of a line, which names none. */
function pointOffer({ point, source, given }: PointEvent, sender: string): PointOffer {
  const line = renderLine(point);
  return source === undefined ? { line, key: seriesOf(point), source: sender } : { line, key: source, source, given };
}
