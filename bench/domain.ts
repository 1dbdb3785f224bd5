/** Micro benchmarks of the domain code per event: match, check and render, on the fast and on the slow path. */
import { parseAnyEventAt } from "../services/domain/any-event.ts";
import { identifyCanonical, parseEvent, serializeEvent } from "../services/domain/event.ts";
import { Fleet } from "../services/domain/fleet.ts";
import { serializeGenericEvent } from "../services/domain/generic-event.ts";
import { canonicalTimeMs, renderLine, seriesOf } from "../services/domain/line-protocol.ts";
import { renderCanonical, renderPoint } from "../services/domain/point.ts";
import { crc32c } from "../services/kafka/crc32c.ts";
import { MAX_BODY_LINES } from "../services/processor/influx-writer.ts";
import { genericOf, lineOf, recordOf } from "./forms.ts";

/** Time of the first event. */
const START_MS = 1_795_000_000_000;
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
  const events = Array.from({ length: EVENTS }, (_, index) => fleet.next(START_MS + index));
  const values = events.map((event) => Buffer.from(serializeEvent(event)));
  const records = events.map((event) => Buffer.from(recordOf("version 2", event).value));
  const generics = events.map((event) => Buffer.from(serializeGenericEvent(genericOf(event))));
  const lines = events.map((event) => Buffer.from(lineOf(event)));
  const pointOf = (value: Buffer) => parseAnyEventAt(START_MS, value).generic!.point;
  const cases: Record<string, () => number> = {
    "processor, version 1: match and render": () =>
      inBodies(values, (value) => renderCanonical(value.toString())!.line),
    "processor, version 2 and line: check the line": () =>
      inBodies(records, (value) => {
        const text = value.toString();
        if (canonicalTimeMs(text) === undefined) throw new Error(`not canonical: ${text}`);
        return text;
      }),
    "intake, version 1: match": () => {
      let sum = 0;
      for (const value of values) sum += identifyCanonical(value.toString())!.ts;
      return sum;
    },
    "intake, version 2: parse, check and render the line": () =>
      inBodies(generics, (value) => renderLine(pointOf(value))),
    "intake, line: parse, check and render the line and its series": () =>
      inBodies(lines, (value) => {
        const point = pointOf(value);
        return seriesOf(point) + renderLine(point);
      }),
    "processor, version 1 in another form: parse, check and render": () =>
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
      for (let index = 0; index < EVENTS; index++) length += serializeEvent(fleet.next(START_MS)).length;
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
