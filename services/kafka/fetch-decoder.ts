/**
 * Decodes fetch responses in one pass (patches/slow-decode.ts installs it): a record holds its offsets in the response,
 * and its parts are sliced when they are read. It supports what our topics contain: record format 2, uncompressed,
 * without transactions. A response with anything else is decoded by kafkajs.
 */
const MAGIC_V2 = 2;
/** Offsets in a batch: base offset 8 bytes, length 4, leader epoch 4, magic 1, crc 4, attributes 2, … */
const MAGIC_AT = 16;
const ATTRIBUTES_AT = 21;
const FIRST_TIMESTAMP_AT = 27;
const RECORD_COUNT_AT = 57;
const RECORDS_AT = 61;
/** Base offset and length themselves are not part of the length. */
const LENGTH_OVERHEAD = 12;
/** Codec (3 bits), log-append time, transactional, control: unsupported unless 0. */
const UNUSUAL_ATTRIBUTES = 0x3f;
const UINT32 = 4_294_967_296;

/** A record with the interface of kafkajs' messages; its parts are sliced when they are read. */
export class FetchedMessage {
  readonly magicByte = MAGIC_V2;
  readonly attributes = 0;
  readonly isControlRecord = false;
  readonly batchContext = undefined;

  constructor(
    private readonly payload: Buffer,
    private readonly offsetNumber: number,
    private readonly timestampMs: number,
    private readonly keyAt: number,
    private readonly keyLength: number,
    private readonly valueAt: number,
    private readonly valueLength: number,
  ) {}

  get offset(): string {
    return String(this.offsetNumber);
  }
  get timestamp(): string {
    return String(this.timestampMs);
  }
  get key(): Buffer | null {
    return this.keyLength < 0 ? null : this.payload.subarray(this.keyAt, this.keyAt + this.keyLength);
  }
  get value(): Buffer | null {
    return this.valueLength < 0 ? null : this.payload.subarray(this.valueAt, this.valueAt + this.valueLength);
  }
  get headers(): Record<string, Buffer | Buffer[] | null> {
    return readHeaders(this.payload, this.valueAt + Math.max(0, this.valueLength));
  }

  /** The value as text, without an intermediate slice. */
  text(): string {
    return this.valueLength < 0 ? "" : this.payload.toString("utf8", this.valueAt, this.valueAt + this.valueLength);
  }
}

/**
 * The records of a partition, in ascending order. kafkajs' Batch filters them twice, by offset and by "no control
 * record", with a big integer for each: if the first record passes such a rule, all do.
 */
class FetchedMessages extends Array<FetchedMessage> {
  static override get [Symbol.species]() {
    return Array;
  }
  override filter(rule: (message: FetchedMessage, index: number, all: FetchedMessage[]) => unknown): FetchedMessage[] {
    return this.length === 0 || rule(this[0]!, 0, this) ? this : super.filter(rule);
  }
}

// The read position. Decoding is synchronous, and a module variable is cheaper than an object per response.
let at = 0;

function varint(payload: Buffer): number {
  let byte = payload[at++]!;
  if (byte < 0x80) return (byte >>> 1) ^ -(byte & 1);
  let value = byte & 0x7f;
  let shift = 7;
  do {
    byte = payload[at++]!;
    value |= (byte & 0x7f) << shift;
    shift += 7;
  } while (byte >= 0x80);
  return (value >>> 1) ^ -(value & 1);
}

/** Zigzag of up to 64 bits; exact up to 2^53, which offsets and times do not exceed. */
function varlong(payload: Buffer): number {
  let value = 0;
  let factor = 1;
  let byte: number;
  do {
    byte = payload[at++]!;
    value += (byte & 0x7f) * factor;
    factor *= 128;
  } while (byte >= 0x80);
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
}

const int64 = (payload: Buffer, from: number): number =>
  payload.readInt32BE(from) * UINT32 + payload.readUInt32BE(from + 4);

function readHeaders(payload: Buffer, from: number): Record<string, Buffer | Buffer[] | null> {
  at = from;
  const headers: Record<string, Buffer | Buffer[] | null> = {};
  const count = varint(payload);
  for (let index = 0; index < count; index++) {
    const keyLength = varint(payload);
    const key = payload.toString("utf8", at, at + keyLength);
    at += keyLength;
    const length = varint(payload);
    const value = length < 0 ? null : payload.subarray(at, at + length);
    at += Math.max(0, length);
    const before = headers[key];
    if (before === undefined) headers[key] = value;
    else headers[key] = [...(Array.isArray(before) ? before : [before as Buffer]), value as Buffer];
  }
  return headers;
}

/** The records from `from` to `end`; undefined when one of them is unsupported. */
function readRecords(payload: Buffer, from: number, end: number): FetchedMessages | undefined {
  const messages = new FetchedMessages();
  let batch = from;
  // After the last complete batch may follow the beginning of one that the size limit cut.
  while (batch + RECORDS_AT <= end) {
    const batchEnd = batch + LENGTH_OVERHEAD + payload.readInt32BE(batch + 8);
    if (payload[batch + MAGIC_AT] !== MAGIC_V2) return undefined;
    if (batchEnd > end) break;
    if ((payload[batch + ATTRIBUTES_AT + 1]! & UNUSUAL_ATTRIBUTES) !== 0) return undefined;
    const baseOffset = int64(payload, batch);
    const baseTimestamp = int64(payload, batch + FIRST_TIMESTAMP_AT);
    const count = payload.readInt32BE(batch + RECORD_COUNT_AT);
    at = batch + RECORDS_AT;
    for (let index = 0; index < count; index++) {
      const length = varint(payload);
      const next = at + length;
      at++; // attributes: none are in use
      const timestamp = baseTimestamp + varlong(payload);
      const offset = baseOffset + varint(payload);
      const keyLength = varint(payload);
      const keyAt = at;
      if (keyLength > 0) at += keyLength;
      const valueLength = varint(payload);
      messages.push(new FetchedMessage(payload, offset, timestamp, keyAt, keyLength, at, valueLength));
      at = next;
    }
    if (at !== batchEnd) return undefined;
    batch = batchEnd;
  }
  return messages;
}

interface FetchResponse {
  throttleTime: number;
  clientSideThrottleTime: number;
  errorCode: number;
  sessionId: number;
  responses: {
    topicName: string;
    partitions: {
      partition: number;
      errorCode: number;
      highWatermark: string;
      lastStableOffset: string;
      lastStartOffset: string;
      abortedTransactions: never[];
      preferredReadReplica: number;
      messages: FetchedMessages;
    }[];
  }[];
}

/** Decodes a fetch response of version 11; undefined when it contains something unsupported. */
export function decodeFetch(payload: Buffer): FetchResponse | undefined {
  let position = 0;
  const int32 = () => {
    position += 4;
    return payload.readInt32BE(position - 4);
  };
  const int16 = () => {
    position += 2;
    return payload.readInt16BE(position - 2);
  };
  const long = () => {
    position += 8;
    return String(int64(payload, position - 8));
  };
  const clientSideThrottleTime = int32();
  const errorCode = int16();
  const sessionId = int32();
  const responses: FetchResponse["responses"] = [];
  const topics = int32();
  for (let topic = 0; topic < topics; topic++) {
    const nameLength = int16();
    const topicName = payload.toString("utf8", position, position + nameLength);
    position += nameLength;
    const partitions: FetchResponse["responses"][number]["partitions"] = [];
    const count = int32();
    for (let index = 0; index < count; index++) {
      const head = {
        partition: int32(),
        errorCode: int16(),
        highWatermark: long(),
        lastStableOffset: long(),
        lastStartOffset: long(),
      };
      if (int32() > 0) return undefined; // aborted transactions
      const preferredReadReplica = int32();
      const size = Math.max(0, int32());
      const messages = readRecords(payload, position, Math.min(position + size, payload.length));
      if (messages === undefined) return undefined;
      // A partition with data and no complete batch: left to kafkajs.
      if (messages.length === 0 && size > 0) return undefined;
      position += size;
      partitions.push({ ...head, abortedTransactions: [], preferredReadReplica, messages });
    }
    responses.push({ topicName, partitions });
  }
  return { throttleTime: 0, clientSideThrottleTime, errorCode, sessionId, responses };
}
