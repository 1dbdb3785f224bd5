/**
 * Decodes fetch responses in one pass (patches/slow-decode.ts installs it): a record holds its offsets in the response,
 * and its parts are sliced when they are read. A batch that cannot be read becomes one UnreadableBatch and ends its
 * partition's records; the other partitions of the response are not affected.
 */
import { CODECS, decompress, ExpansionLimitError } from "./compression.ts";
import { crc32c } from "./crc32c.ts";

const MAGIC_V2 = 2;
/** Offsets in a batch: base offset 8 bytes, length 4, leader epoch 4, magic 1, crc 4, attributes 2, … */
const LENGTH_AT = 8;
const LEADER_EPOCH_AT = 12;
const MAGIC_AT = 16;
const CRC_AT = 17;
const ATTRIBUTES_AT = 21;
const LAST_OFFSET_DELTA_AT = 23;
const FIRST_TIMESTAMP_AT = 27;
const MAX_TIMESTAMP_AT = 35;
const PRODUCER_ID_AT = 43;
const RECORD_COUNT_AT = 57;
const RECORDS_AT = 61;
/** Base offset and length themselves are not part of the length. */
const LENGTH_OVERHEAD = 12;
/** Bits of the attributes. */
const CODEC = 0x07;
const LOG_APPEND_TIME = 0x08;
const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;
const UINT32 = 4_294_967_296;

/**
 * Decompressed bytes of one partition in one response; the batches beyond it come with the next one. A batch has at most
 * 1 MiB, and our events shrink to a tenth; six partitions of this size fit the memory of every pod that reads.
 */
export const MAX_EXPANDED_BYTES = 16 * 1024 * 1024;
/** Records of one partition in one response: more in so few bytes are no events, and each costs an object. */
export const MAX_RECORDS = 200_000;

interface BatchContext {
  /** Of the leader that wrote the batch. */
  partitionLeaderEpoch: number;
  producerId: string;
  inTransaction: boolean;
  isControlBatch: boolean;
}

/** A record with the interface of kafkajs' messages; its parts are sliced when they are read. */
export class FetchedMessage {
  readonly magicByte = MAGIC_V2;
  readonly attributes = 0;

  constructor(
    readonly batchContext: BatchContext,
    private readonly payload: Buffer,
    private readonly offsetNumber: number,
    private readonly timestampMs: number,
    private readonly keyAt: number,
    private readonly keyLength: number,
    private readonly valueAt: number,
    private readonly valueLength: number,
  ) {}

  get isControlRecord(): boolean {
    return this.batchContext.isControlBatch;
  }
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

/** A batch whose records cannot be read, in place of them. A consumer that is not prepared for it fails at its value. */
export class UnreadableBatch {
  readonly magicByte = MAGIC_V2;
  readonly attributes = 0;
  readonly isControlRecord = false;
  readonly key = null;
  readonly headers = {};
  readonly timestamp = "-1";

  constructor(
    readonly firstOffset: number,
    readonly lastOffset: number,
    readonly reason: string,
    /** As received, with its header. */
    readonly bytes: Buffer,
    private readonly partitionLeaderEpoch = 0,
    /** The log's end; given when the header does not say where the batch ends. */
    private readonly logEnd?: number,
  ) {}

  /** Without it the batch cannot be stepped over: lastOffset is its first one. */
  get hasKnownEnd(): boolean {
    return this.logEnd === undefined;
  }
  get batchContext(): BatchContext {
    const { partitionLeaderEpoch } = this;
    return { partitionLeaderEpoch, producerId: "-1", inTransaction: false, isControlBatch: false };
  }
  /** The last one: a fetch can begin in the middle of a batch, and kafkajs drops what is before the fetched offset. */
  get offset(): string {
    return String(this.logEnd === undefined ? this.lastOffset : this.logEnd - 1);
  }
  get value(): never {
    throw new Error(this.text);
  }
  /** "offsets 120 to 219 cannot be read: …" */
  get text(): string {
    return `offsets ${this.firstOffset} to ${this.lastOffset} cannot be read: ${this.reason}`;
  }
}

/**
 * The records of a partition, in ascending order. kafkajs' Batch filters them twice, by offset and by "no control
 * record", with a big integer for each: if the first record passes such a rule, all do, unless there are transactions.
 */
class FetchedMessages extends Array<FetchedMessage | UnreadableBatch> {
  hasTransactions = false;

  static override get [Symbol.species]() {
    return Array;
  }
  override filter(
    rule: (
      message: FetchedMessage | UnreadableBatch,
      index: number,
      all: (FetchedMessage | UnreadableBatch)[],
    ) => unknown,
  ): (FetchedMessage | UnreadableBatch)[] {
    if (this.hasTransactions) return super.filter(rule);
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
  // Without a prototype: another writer may name a header "constructor".
  const headers: Record<string, Buffer | Buffer[] | null> = Object.create(null);
  const count = varint(payload);
  for (let index = 0; index < count && at < payload.length; index++) {
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

/** A changed byte on a broker's disk can be a valid event with another value. @throws Error when the checksum differs */
function checkCrc(payload: Buffer, from: number, end: number): void {
  const [said, found] = [payload.readUInt32BE(from + CRC_AT), crc32c(payload, from + ATTRIBUTES_AT, end)];
  if (said !== found) throw new Error(`its CRC is ${found.toString(16)}, and its header says ${said.toString(16)}`);
}

/**
 * Adds the records of one batch, and returns how many bytes its decompression took.
 * @throws Error when the batch cannot be read, ExpansionLimitError when it would exceed `limit`
 */
function readBatch(payload: Buffer, from: number, end: number, limit: number, messages: FetchedMessages): number {
  const received = Math.min(payload.length, end);
  if (end - from < RECORDS_AT || received < end) {
    throw new Error(`its length is ${end - from} bytes, and ${received - from} were received`);
  }
  if (payload[from + MAGIC_AT] !== MAGIC_V2) throw new Error(`its record format is ${payload[from + MAGIC_AT]}, not 2`);
  checkCrc(payload, from, end);
  const attributes = payload[from + ATTRIBUTES_AT + 1]!;
  const codec = attributes & CODEC;
  const compressed = codec === 0 ? undefined : payload.subarray(from + RECORDS_AT, end);
  const records = compressed ? decompress(codec, compressed, limit) : payload;
  const recordsEnd = compressed ? records.length : end;
  const count = payload.readInt32BE(from + RECORD_COUNT_AT);
  if (messages.length + count > MAX_RECORDS && messages.length > 0) throw new ExpansionLimitError(limit);
  if (count < 0 || count > MAX_RECORDS) throw new Error(`it claims ${count} records; at most ${MAX_RECORDS} are read`);
  const context: BatchContext = {
    partitionLeaderEpoch: payload.readInt32BE(from + LEADER_EPOCH_AT),
    producerId: String(payload.readBigInt64BE(from + PRODUCER_ID_AT)),
    inTransaction: (attributes & TRANSACTIONAL) !== 0,
    isControlBatch: (attributes & CONTROL) !== 0,
  };
  if ((attributes & (TRANSACTIONAL | CONTROL)) !== 0) messages.hasTransactions = true;
  const baseOffset = int64(payload, from);
  const isAppendTime = (attributes & LOG_APPEND_TIME) !== 0;
  const baseTimestamp = int64(payload, from + (isAppendTime ? MAX_TIMESTAMP_AT : FIRST_TIMESTAMP_AT));
  at = compressed ? 0 : from + RECORDS_AT;
  for (let index = 0; index < count; index++) {
    const length = varint(records);
    const next = at + length;
    if (length < 0 || next > recordsEnd) throw new Error(`record ${index + 1} of ${count} is longer than the batch`);
    at++; // attributes: none are in use
    const delta = varlong(records);
    const offset = baseOffset + varint(records);
    const keyLength = varint(records);
    const keyAt = at;
    if (keyLength > 0) at += keyLength;
    const valueLength = varint(records);
    if (at + Math.max(0, valueLength) > next)
      throw new Error(`a part of record ${index + 1} is longer than the record`);
    const timestamp = isAppendTime ? baseTimestamp : baseTimestamp + delta;
    messages.push(new FetchedMessage(context, records, offset, timestamp, keyAt, keyLength, at, valueLength));
    at = next;
  }
  if (at !== recordsEnd) throw new Error(`${recordsEnd - at} bytes follow its ${count} records`);
  return compressed ? records.length : 0;
}

/** The batch as one message. Its last offset is only as good as its header: the log's end is beyond it in any case. */
function unreadable(
  payload: Buffer,
  from: number,
  end: number,
  highWatermark: number,
  error: unknown,
): UnreadableBatch {
  const firstOffset = int64(payload, from);
  const lastOffset = firstOffset + payload.readInt32BE(from + LAST_OFFSET_DELTA_AT);
  const isPlausible = lastOffset >= firstOffset && lastOffset < highWatermark;
  const codec = CODECS[(payload[from + ATTRIBUTES_AT + 1]! & CODEC) as keyof typeof CODECS];
  const detail = error instanceof Error ? error.message : String(error);
  const reason = codec ? `${codec}: ${detail}` : detail;
  const bytes = payload.subarray(from, end);
  const epoch = payload.readInt32BE(from + LEADER_EPOCH_AT);
  return isPlausible
    ? new UnreadableBatch(firstOffset, lastOffset, reason, bytes, epoch)
    : new UnreadableBatch(firstOffset, firstOffset, reason, bytes, epoch, highWatermark);
}

/** The records from `from` to `end`, up to the limits of one response or to the first batch that cannot be read. */
function readRecords(payload: Buffer, from: number, end: number, highWatermark: number): FetchedMessages {
  const messages = new FetchedMessages();
  let room = MAX_EXPANDED_BYTES;
  for (let batch = from, batchEnd: number; batch + RECORDS_AT <= end; batch = batchEnd) {
    const count = messages.length;
    batchEnd = batch + LENGTH_OVERHEAD + payload.readInt32BE(batch + LENGTH_AT);
    // After the last complete batch may follow the beginning of one that the size limit cut; the first one is never cut.
    if (batchEnd > end && batch > from) break;
    try {
      room -= readBatch(payload.subarray(0, end), batch, batchEnd, room, messages);
    } catch (error) {
      // The next response begins with this batch.
      if (error instanceof ExpansionLimitError && count > 0) break;
      messages.length = count;
      messages.push(unreadable(payload, batch, Math.min(Math.max(batchEnd, batch), end), highWatermark, error));
      break;
    }
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
      abortedTransactions: { producerId: string; firstOffset: string }[];
      preferredReadReplica: number;
      messages: FetchedMessages;
    }[];
  }[];
}

/** Decodes a fetch response of version 11. */
export function decodeFetch(payload: Buffer): FetchResponse {
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
      const aborted = Array.from({ length: Math.max(0, int32()) }, () => ({ producerId: long(), firstOffset: long() }));
      const preferredReadReplica = int32();
      const size = Math.max(0, int32());
      const messages = readRecords(
        payload,
        position,
        Math.min(position + size, payload.length),
        Number(head.highWatermark),
      );
      position += size;
      partitions.push({ ...head, abortedTransactions: aborted, preferredReadReplica, messages });
    }
    responses.push({ topicName, partitions });
  }
  return { throttleTime: 0, clientSideThrottleTime, errorCode, sessionId, responses };
}
