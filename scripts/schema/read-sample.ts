/** The points of a sample: events of version 2, or lines of line protocol, one a line. */
import { MAX_EVENT_BYTES } from "../../services/domain/event.ts";
import { checkGenericEvent } from "../../services/domain/generic-event.ts";
import { isComment, type ParsedLine, parseLineOfAnyPrecision } from "../../services/domain/line-protocol.ts";
import { isBlank, type Line, LineSplitter } from "../../services/domain/ndjson.ts";
import type { SchemaSample } from "./sample.ts";

const OPEN_BRACE = 0x7b;

/** What the sample held besides points. */
export interface SampleOutcome {
  lines: number;
  refused: number;
  /** Number and reason of the first line that is no event. */
  firstRefusal?: string;
}

/** Adds every point of the lines to the sample. */
export async function readSample(chunks: AsyncIterable<Uint8Array>, sample: SchemaSample): Promise<SampleOutcome> {
  const outcome: SampleOutcome = { lines: 0, refused: 0 };
  const splitter = new LineSplitter(MAX_EVENT_BYTES + 1);
  const take = (line: Line) => {
    if (isBlank(line.bytes)) return;
    const text = new TextDecoder().decode(line.bytes);
    if (line.bytes[0] !== OPEN_BRACE && isComment(text)) return;
    outcome.lines++;
    const { point, refusal } = line.bytes[0] === OPEN_BRACE ? eventOf(text) : parseLineOfAnyPrecision(text, Date.now());
    if (point) {
      sample.add(point);
      return;
    }
    outcome.refused++;
    outcome.firstRefusal ??= `line ${line.number}: ${refusal.detail}`;
  };
  for await (const chunk of chunks) for (const line of splitter.push(chunk)) take(line);
  for (const line of splitter.end()) take(line);
  return outcome;
}

function eventOf(text: string): ParsedLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { refusal: { reason: "malformed_json", detail: `must be JSON: ${(error as Error).message}` } };
  }
  const { event, refusal } = checkGenericEvent(value);
  return event ? { point: event.point } : { refusal };
}
