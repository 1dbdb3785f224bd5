/** The sources that make or read events: a simulated fleet, and lines of a file or of stdin. */
import { MAX_EVENT_BYTES, parseEvent } from "../domain/event.ts";
import type { Fleet } from "../domain/fleet.ts";
import { isBlank, LineSplitter } from "../domain/ndjson.ts";
import { renderCanonical } from "../domain/point.ts";
import { eventsDue, type RateProfile } from "../domain/rate.ts";
import type { EventProducer } from "../kafka/event-producer.ts";
import type { EventPublisher, Settlement } from "./event-publisher.ts";

/** Events are made in bunches this far apart: fewer, fuller requests, at a tenth of a second's delay nobody sees. */
export const TICK_MS = 100;

export interface SimulationOptions {
  fleet: Fleet;
  publisher: EventPublisher;
  producer: EventProducer;
  profile: RateProfile;
  eventsPerSecond: number;
  signal: AbortSignal;
  /** Each turn of the loop: a sign of life. */
  onTick?: () => void;
  /** Seconds in which the fleet stood still because the buffer was full. */
  onPaused?: (seconds: number) => void;
}

/**
 * Emits the fleet's events at its rate until the signal. While the buffer is full the fleet stands still, and the time
 * does not count: afterwards the rate goes on as before instead of making up for it.
 */
export async function runSimulation(options: SimulationOptions): Promise<void> {
  const { fleet, publisher, producer, signal } = options;
  let startedAt = performance.now();
  let emitted = 0;
  let lastTs = 0;
  while (!signal.aborted) {
    options.onTick?.();
    const due = eventsDue(options.profile, options.eventsPerSecond, performance.now() - startedAt);
    // A clock that steps back must not give a new event an old time: two points could meet.
    lastTs = Math.max(lastTs, Date.now());
    while (emitted < due) {
      if (!producer.hasRoom(1, MAX_EVENT_BYTES)) {
        const pausedAt = performance.now();
        await Promise.race([producer.whenRoom(), whenAborted(signal)]);
        const pausedMs = performance.now() - pausedAt;
        startedAt += pausedMs;
        options.onPaused?.(pausedMs / 1000);
        break;
      }
      publisher.offer(fleet.next(lastTs), "simulated");
      emitted++;
    }
    await Bun.sleep(TICK_MS);
  }
}

const whenAborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });

export interface InputOptions {
  publisher: EventPublisher;
  producer: EventProducer;
  source: "file" | "stdin";
  signal: AbortSignal;
}

export interface InputResult {
  /** Lines that are not blank. */
  read: number;
}

/** Reads NDJSON to its end; waits whenever the buffer is full. Resolves when the last line is in the buffer. */
export async function readInput(input: AsyncIterable<Uint8Array>, options: InputOptions): Promise<InputResult> {
  const { publisher, producer, source, signal } = options;
  const splitter = new LineSplitter(MAX_EVENT_BYTES + 1);
  let read = 0;
  const take = async (line: { bytes: Uint8Array; length: number; number: number }) => {
    if (isBlank(line.bytes)) return;
    read++;
    const offer = prepare(publisher, source, line);
    while (!offer()) {
      if (!(await producer.whenRoom()) || signal.aborted) return;
    }
  };
  for await (const chunk of input) {
    for (const line of splitter.push(chunk)) await take(line);
    if (signal.aborted) return { read };
  }
  for (const line of splitter.end()) await take(line);
  return { read };
}

/** Judges a line once and gives the function that offers it, which may have to be called again while there is no room. */
export function prepare(
  publisher: EventPublisher,
  source: "file" | "stdin" | "http",
  line: { bytes: Uint8Array; length: number; number: number },
  settled?: (outcome: Settlement) => void,
  onRefused?: (reason: string, detail: string) => void,
): () => boolean {
  if (line.length === line.bytes.length) {
    const text = Buffer.from(line.bytes.buffer, line.bytes.byteOffset, line.bytes.byteLength).toString();
    const canonical = renderCanonical(text);
    if (canonical) {
      const identity = { run: canonical.run, conveyor: canonical.conveyor, seq: Number(canonical.seq) };
      return () => publisher.offerText(text, identity, source, settled);
    }
  }
  const { event, refusal } = parseEvent(line.bytes, line.length);
  if (event) return () => publisher.offer(event, source, settled);
  onRefused?.(refusal.reason, refusal.detail);
  // Copied: the letter outlives the chunk it was cut from.
  const value = line.bytes.slice();
  return () => publisher.refuse(refusal, { source, line: line.number }, { value, bytes: line.length }, settled);
}
