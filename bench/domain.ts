/** Micro benchmarks of the domain code per event: match, check and render, on the fast and on the slow path. */
import { parseEvent, serializeEvent } from "../services/domain/event.ts";
import { Fleet } from "../services/domain/fleet.ts";
import { renderCanonical, renderPoint } from "../services/domain/point.ts";
import { crc32c } from "../services/kafka/crc32c.ts";
import { MAX_BODY_LINES } from "../services/processor/influx-writer.ts";

const EVENTS = 100_000;
const ROUNDS = 5;

interface DomainFigure {
  what: string;
  /** Median over the rounds. */
  microsecondsPerEvent: number;
}

/** Renders in bodies of the processor's size; returns the number of bytes. */
function inBodies(values: readonly Buffer[], render: (value: Buffer) => string): number {
  let bytes = 0;
  for (let from = 0; from < values.length; from += MAX_BODY_LINES) {
    const lines: string[] = [];
    for (const value of values.slice(from, from + MAX_BODY_LINES)) lines.push(render(value));
    bytes += lines.join("\n").length;
  }
  return bytes;
}

export function benchDomain(): DomainFigure[] {
  const fleet = new Fleet({ ordinal: 0, count: 20, run: "20261125T000000000Z-0-0000", seed: 1 });
  const events = Array.from({ length: EVENTS }, (_, index) => fleet.next(1_795_000_000_000 + index));
  const values = events.map((event) => Buffer.from(serializeEvent(event)));
  const cases: Record<string, () => number> = {
    "match and render (the processor's path for events of our producer)": () =>
      inBodies(values, (value) => renderCanonical(value.toString())!.line),
    "parse, check and render (any other valid event)": () =>
      inBodies(values, (value) => renderPoint(parseEvent(value).event!)),
    "CRC-32C of the event (checked for each batch that is fetched)": () => {
      let sum = 0;
      for (const value of values) sum += crc32c(value);
      return sum;
    },
    "JSON.parse alone, for comparison": () => {
      let sum = 0;
      for (const value of values) sum += (JSON.parse(value.toString()) as { seq: number }).seq;
      return sum;
    },
    "simulate and serialize (the producer's source)": () => {
      let length = 0;
      for (let index = 0; index < EVENTS; index++) length += serializeEvent(fleet.next(1_795_000_000_000)).length;
      return length;
    },
  };
  return Object.entries(cases).map(([what, work]) => {
    const rounds: number[] = [];
    work();
    for (let round = 0; round < ROUNDS; round++) {
      const startedAt = performance.now();
      if (work() <= 0) throw new Error("the work returned nothing");
      rounds.push(((performance.now() - startedAt) * 1000) / EVENTS);
    }
    return { what, microsecondsPerEvent: rounds.sort((a, b) => a - b)[ROUNDS >> 1]! };
  });
}
