/** A refused event on its way to the dead-letter topic: the bytes as they came, and why and from where, in headers. */
import { MAX_EVENT_BYTES, type Refusal } from "./event.ts";

/** A place in the producer's input: a line of it, in the run of the producer that read it. */
export interface InputOrigin {
  source: "file" | "stdin" | "http";
  line: number;
  run: string;
}

export type DeadLetterOrigin = { source: "kafka"; topic: string; partition: number; offset: string } | InputOrigin;

export interface DeadLetter {
  key: Uint8Array | string | null;
  value: Uint8Array;
  headers: Record<string, string>;
}

/** Details are for people; a header of this length holds every rule and the beginning of every value. */
const MAX_DETAIL_CHARS = 512;

/**
 * The dead letter of a refused event. The body is cut at the largest size of a valid event (`original_bytes` keeps the
 * true one), so that a letter always fits into the topic, whatever came.
 */
export function createDeadLetter(
  refusal: Refusal,
  origin: DeadLetterOrigin,
  original: {
    key: Uint8Array | string | null;
    value: Uint8Array | null;
    /** Length of the whole event when `value` is only its beginning. */
    bytes?: number;
  },
  service: string,
): DeadLetter {
  const value = original.value ?? new Uint8Array();
  const place: Record<string, string> =
    origin.source === "kafka"
      ? { source_topic: origin.topic, source_partition: String(origin.partition), source_offset: origin.offset }
      : { source_line: String(origin.line), run: origin.run };
  return {
    key: original.key,
    value: value.length > MAX_EVENT_BYTES ? value.subarray(0, MAX_EVENT_BYTES) : value,
    headers: {
      reason: refusal.reason,
      detail: refusal.detail.slice(0, MAX_DETAIL_CHARS),
      source: origin.source,
      ...place,
      service,
      original_bytes: String(original.bytes ?? value.length),
    },
  };
}
