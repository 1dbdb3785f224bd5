/** Dead letters: refused events as received, with reason and origin in headers. */
import { MAX_EVENT_BYTES, REASONS, type Refusal } from "./event.ts";

/** A line of the producer's input, in the run of the producer that read it. */
export interface InputOrigin {
  source: "file" | "stdin" | "http";
  line: number;
  run: string;
}

type DeadLetterOrigin = { source: "kafka"; topic: string; partition: number; offset: string } | InputOrigin;

export interface DeadLetter {
  key: Uint8Array | string | null;
  value: Uint8Array;
  headers: Record<string, string>;
}

/** Reason of the dead letters of a batch that cannot be read: their bodies are its bytes, and no event. */
export const UNREADABLE_REASON = "unreadable_batch";
export const DEAD_LETTER_REASONS = [...REASONS, UNREADABLE_REASON] as const;

/** Bytes of a batch per dead letter: the topic's limit is 1 MiB with headers, and a batch can be as long. */
const BATCH_PART_BYTES = 512 * 1024;

/** Enough for every rule and the beginning of every value. */
const MAX_DETAIL_CHARS = 512;

/**
 * The dead letter of a refused event. Its body is cut at MAX_EVENT_BYTES (`original_bytes` has the original size), so
 * that it fits into the topic.
 */
export function createDeadLetter(
  refusal: Refusal,
  origin: DeadLetterOrigin,
  original: {
    key: Uint8Array | string | null;
    value: Uint8Array | null;
    /** Length of the complete event when `value` is only its beginning. */
    bytes?: number;
    /** Identity of an event whose body has none: identityText() of record-identity.ts. */
    event?: string;
  },
  service: string,
): DeadLetter {
  const value = original.value ?? new Uint8Array();
  const position: Record<string, string> =
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
      ...position,
      service,
      original_bytes: String(original.bytes ?? value.length),
      ...(original.event === undefined ? {} : { event: original.event }),
    },
  };
}

/** The dead letters of a batch that cannot be read: its bytes as received, in parts. */
export function createBatchDeadLetters(batch: {
  topic: string;
  partition: number;
  firstOffset: number;
  lastOffset: number;
  /** Offsets and reason. */
  text: string;
  bytes: Uint8Array;
}): DeadLetter[] {
  const { topic, partition, firstOffset, lastOffset, text, bytes } = batch;
  const parts = Math.max(1, Math.ceil(bytes.length / BATCH_PART_BYTES));
  return Array.from({ length: parts }, (_, index) => ({
    key: null,
    value: bytes.subarray(index * BATCH_PART_BYTES, (index + 1) * BATCH_PART_BYTES),
    headers: {
      reason: UNREADABLE_REASON,
      detail: text.slice(0, MAX_DETAIL_CHARS),
      source: "kafka",
      source_topic: topic,
      source_partition: String(partition),
      source_offset: String(firstOffset),
      source_last_offset: String(lastOffset),
      part: `${index + 1}/${parts}`,
      service: "dead-letters",
      original_bytes: String(bytes.length),
    },
  }));
}
