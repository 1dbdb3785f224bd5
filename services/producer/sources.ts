/** The sources of events: a simulated fleet, and lines of a file or of stdin. */
import { setTimeout as sleep } from "node:timers/promises";
import { identifyCanonical, MAX_EVENT_BYTES } from "../domain/event.ts";
import { checkEventTime, parseEventAt } from "../domain/event-window.ts";
import type { Fleet } from "../domain/fleet.ts";
import { isBlank, type Line, LineSplitter } from "../domain/ndjson.ts";
import { eventsDue, type RateProfile } from "../domain/rate.ts";
import type { EventProducer } from "../kafka/event-producer.ts";
import { announcedLines } from "../protocol/input-end.ts";
import type { EventPublisher, Settlement } from "./event-publisher.ts";

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
 * Reads NDJSON to its end; waits whenever the buffer is full. Resolves when the last line is in the buffer. A last line
 * without line break is part of a cut line when the input must end with an end line: it is not read.
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
    const offer = prepare(publisher, source, line);
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

/** Checks a line once and returns the function that offers it; call that one repeatedly while it returns false. */
export function prepare(
  publisher: EventPublisher,
  source: "file" | "stdin" | "http",
  line: Line,
  settled?: (outcome: Settlement) => void,
  onRefused?: (reason: string, detail: string) => void,
): () => boolean {
  const nowMs = Date.now();
  if (line.length === line.bytes.length) {
    const text = Buffer.from(line.bytes.buffer, line.bytes.byteOffset, line.bytes.byteLength).toString();
    const identity = identifyCanonical(text);
    if (identity && checkEventTime(identity.ts, nowMs) === undefined) {
      return () => publisher.offerText(text, identity, source, settled);
    }
  }
  const { event, refusal } = parseEventAt(nowMs, line.bytes, line.length);
  if (event) return () => publisher.offer(event, source, settled);
  onRefused?.(refusal.reason, refusal.detail);
  // Copied, since the dead letter outlives the chunk.
  const value = line.bytes.slice();
  return () => publisher.refuse(refusal, { source, line: line.number }, { value, bytes: line.length }, settled);
}
