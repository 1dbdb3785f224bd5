/** Compares decodeFetch() with kafkajs' decoder, on responses from kafkajs' encoder. */
import { describe, expect, test } from "bun:test";
import zlib from "node:zlib";
import Batch from "kafkajs/src/consumer/batch.js";
import Encoder from "kafkajs/src/protocol/encoder.js";
import encodeRecord from "kafkajs/src/protocol/recordBatch/record/v0/index.js";
import recordBatch from "kafkajs/src/protocol/recordBatch/v0/index.js";
import { decompress } from "../../../services/kafka/compression.ts";
import { crc32c } from "../../../services/kafka/crc32c.ts";
import {
  decodeFetch,
  type FetchedMessage,
  MAX_EXPANDED_BYTES,
  MAX_RECORDS,
  UnreadableBatch,
} from "../../../services/kafka/fetch-decoder.ts";
import { installKafkajsPatches } from "../../../services/kafka/patches/index.ts";
import { kafkajsDecode } from "../../../services/kafka/patches/slow-decode.ts";
import javaBatches from "./java-batches.json" with { type: "json" };

installKafkajsPatches();

interface TestRecord {
  key?: string | null;
  value?: string | null;
  headers?: Record<string, string | string[]>;
  timestamp?: number;
}

async function batchOf(
  records: TestRecord[],
  baseOffset: number,
  options: Record<string, unknown> = {},
): Promise<Buffer> {
  const firstTimestamp = records[0]?.timestamp ?? 1_795_000_000_000;
  const { buffer } = await recordBatch.RecordBatch({
    records: records.map(({ key = null, value = null, headers, timestamp }, offsetDelta) =>
      encodeRecord({
        key,
        value,
        headers,
        offsetDelta,
        timestampDelta: (timestamp ?? firstTimestamp) - firstTimestamp,
      }),
    ),
    firstOffset: baseOffset,
    firstTimestamp,
    maxTimestamp: firstTimestamp,
    lastOffsetDelta: records.length - 1,
    ...options,
  });
  return Buffer.from(buffer);
}

function answer(partitions: { partition: number; data: Buffer; aborted?: boolean }[]): Buffer {
  const encoded = partitions.map(({ partition, data, aborted }) => {
    const encoder = new Encoder().writeInt32(partition).writeInt16(0);
    for (const offset of [5_000_000_000, 4_999_999_999, 3]) encoder.writeInt64(offset);
    encoder.writeInt32(aborted ? 1 : -1);
    if (aborted) encoder.writeInt64(1).writeInt64(1);
    return encoder.writeInt32(-1).writeBytes(data);
  });
  const topic = new Encoder().writeString("topic").writeArray(encoded);
  return new Encoder().writeInt32(0).writeInt16(0).writeInt32(77).writeArray([topic]).buffer;
}

/** Everything that a consumer can read from a message. */
const plain = (message: {
  offset: string;
  timestamp: string;
  key: Buffer | null;
  value: Buffer | null;
  headers: Record<string, unknown>;
  isControlRecord: boolean;
}) => ({
  offset: message.offset,
  timestamp: message.timestamp,
  key: message.key?.toString() ?? null,
  value: message.value?.toString() ?? null,
  headers: Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, String(value)])),
  isControlRecord: message.isControlRecord,
});

interface Decoded {
  responses: {
    topicName: string;
    partitions: ({ messages: Parameters<typeof plain>[0][] } & Record<string, unknown>)[];
  }[];
}

async function expectSame(payload: Buffer): Promise<void> {
  const [left, right] = [decodeFetch(payload) as unknown as Decoded, (await kafkajsDecode(payload)) as Decoded];
  const shape = (decoded: Decoded) => ({
    ...decoded,
    responses: decoded.responses.map(({ topicName, partitions }) => ({
      topicName,
      partitions: partitions.map((partition) => ({ ...partition, messages: [...partition.messages].map(plain) })),
    })),
  });
  expect(shape(left)).toEqual(shape(right));
}

describe("decodeFetch", () => {
  test("equals kafkajs' decoder for keys, values, headers, nulls, times and large offsets", async () => {
    const data = Buffer.concat([
      await batchOf(
        [
          { key: "belt-0-1", value: '{"v":1}' },
          { key: null, value: "ümlaut ✓", timestamp: 1_795_000_000_321 },
          { key: "k", value: null },
          { key: "", value: "" },
          { value: "x".repeat(20_000), headers: { reason: "bad_seq", detail: "", many: ["a", "b", "c"] } },
          { value: "earlier", timestamp: 1_794_999_999_000 },
        ],
        9_007_199_254,
      ),
      await batchOf([{ key: "belt-0-2", value: "second batch" }], 9_007_199_260),
    ]);
    await expectSame(
      answer([
        { partition: 0, data },
        { partition: 5, data: Buffer.alloc(0) },
        { partition: 3, data: await batchOf([{ value: "other" }], 0) },
      ]),
    );
  });

  test("reads a header named like a property of every object as it is, where kafkajs makes a list of it", async () => {
    const data = await batchOf([{ value: "v", headers: { constructor: "x" } }], 0);
    const [message] = decodeFetch(answer([{ partition: 0, data }])).responses[0]!.partitions[0]!.messages;
    expect(String(message!.headers!.constructor)).toBe("x");
  });

  test("ignores a batch that the size limit cut", async () => {
    const complete = await batchOf([{ value: "complete" }], 10);
    const cut = (await batchOf([{ value: "cut".repeat(100) }], 11)).subarray(0, 120);
    const payload = answer([{ partition: 0, data: Buffer.concat([complete, cut]) }]);
    await expectSame(payload);
    expect(decodeFetch(payload).responses[0]!.partitions[0]!.messages).toHaveLength(1);
  });

  test("equals kafkajs' decoder for 3,000 records of different sizes", async () => {
    const records = Array.from({ length: 3000 }, (_, index) => ({
      key: `belt-${index % 7}`,
      value: "v".repeat((index * 37) % 400),
      timestamp: 1_795_000_000_000 + ((index * 7919) % 100_000),
    }));
    const data = Buffer.concat([await batchOf(records.slice(0, 1500), 0), await batchOf(records.slice(1500), 1500)]);
    await expectSame(answer([{ partition: 0, data }]));
  });

  test.each([
    ["transactions", false],
    ["aborted transactions", true],
  ])("equals kafkajs' decoder for %s", async (_, aborted) => {
    const data = await batchOf([{ value: "x" }, { value: "y" }], 0, { transactional: true, producerId: 77 });
    await expectSame(answer([{ partition: 0, data, aborted }]));
  });

  test("kafkajs' Batch drops the records of an aborted transaction and keeps the others", async () => {
    const aborted = await batchOf([{ value: "aborted" }], 1, { transactional: true, producerId: 1 });
    const other = await batchOf([{ value: "kept" }], 2, { transactional: true, producerId: 2 });
    const plainBatch = await batchOf([{ value: "before" }], 0);
    const payload = answer([{ partition: 0, data: Buffer.concat([plainBatch, aborted, other]), aborted: true }]);
    const partition = decodeFetch(payload).responses[0]!.partitions[0]!;
    expect(new Batch("topic", "0", partition).messages.map((message) => (message as FetchedMessage).text())).toEqual([
      "before",
      "kept",
    ]);
  });

  test("kafkajs' Batch drops records before the fetched offset and keeps the others", async () => {
    const data = await batchOf([{ value: "a" }, { value: "b" }, { value: "c" }], 100);
    const partition = decodeFetch(answer([{ partition: 0, data }])).responses[0]!.partitions[0]!;
    const values = (fetchedOffset: string) =>
      new Batch("topic", fetchedOffset, partition).messages.map((message) => (message as FetchedMessage).text());
    expect(values("100")).toEqual(["a", "b", "c"]);
    expect(values("50")).toEqual(["a", "b", "c"]);
    expect(values("102")).toEqual(["c"]);
    expect(new Batch("topic", "102", partition).lastOffset()).toBe("102");
    expect(values("103")).toEqual([]);
  });
});

const CRC_AT = 17;
const LAST_OFFSET_DELTA_AT = 23;
const ATTRIBUTES_AT = 21;
const RECORD_COUNT_AT = 57;
const RECORDS_AT = 61;

/** The messages of a partition whose data are these batches; its high watermark is that of `answer`. */
const messagesOf = (...batches: Buffer[]) => [
  ...decodeFetch(answer([{ partition: 0, data: Buffer.concat(batches) }])).responses[0]!.partitions[0]!.messages,
];

/** The batch with the checksum of its bytes, so that the change behind it is what the decoder finds. */
function sealed(batch: Buffer): Buffer {
  batch.writeUInt32BE(crc32c(batch, ATTRIBUTES_AT), CRC_AT);
  return batch;
}

/** A batch whose records are replaced by these bytes in a codec. */
function compressedBatch(template: Buffer, codec: number, records: Buffer, count: number): Buffer {
  const batch = Buffer.concat([template.subarray(0, RECORDS_AT), records]);
  batch.writeInt32BE(batch.length - 12, 8);
  batch.writeInt16BE(codec, ATTRIBUTES_AT);
  batch.writeInt32BE(count - 1, LAST_OFFSET_DELTA_AT);
  batch.writeInt32BE(count, RECORD_COUNT_AT);
  return sealed(batch);
}

/** java-batches.json: 500 records of Kafka's Java client (MemoryRecords.withRecords), one batch in each codec. */
describe("compressed batches", () => {
  test.each(Object.entries(javaBatches))("equals kafkajs' decoder for %s of the Java client", async (_, base64) => {
    const batch = Buffer.from(base64, "base64");
    await expectSame(answer([{ partition: 0, data: Buffer.concat([batch, batch]) }]));
    const messages = messagesOf(batch);
    expect(messages).toHaveLength(500);
    expect(JSON.parse((messages[499] as FetchedMessage).text())).toMatchObject({ conveyor: "belt-0-19", seq: 499 });
    expect(messages[499]!.offset).toBe("5000000499");
  });

  test("a cut or changed stream of each codec is unreadable or decodes to other records, and never throws", () => {
    for (const [name, base64] of Object.entries(javaBatches)) {
      const batch = Buffer.from(base64, "base64");
      const cut = compressedBatch(batch, batch.readInt16BE(ATTRIBUTES_AT), batch.subarray(RECORDS_AT, -20), 500);
      const [only] = messagesOf(cut);
      expect(only, name).toBeInstanceOf(UnreadableBatch);
      expect((only as UnreadableBatch).reason, name).toStartWith(`${name}: `);
      for (let at = RECORDS_AT; at < batch.length; at += 211) {
        const changed = Buffer.from(batch);
        changed[at]! ^= 0xff;
        const messages = messagesOf(sealed(changed));
        expect(messages.length === 500 || messages[0] instanceof UnreadableBatch, `${name} at ${at}`).toBe(true);
      }
    }
  });

  test("Snappy without Java's framing is read", () => {
    // Declared length 11, a literal of 4 bytes, a copy of 7 bytes from 4 before.
    const records = Buffer.from([11, 3 << 2, 20, 0, 0, 0, ((7 - 4) << 2) | 1, 4]);
    expect(decompress(2, records, 100)).toEqual(Buffer.from([20, 0, 0, 0, 20, 0, 0, 0, 20, 0, 0]));
  });

  const EXPANDED = 64 * 1024 * 1024;
  const lz4Bomb = () => {
    // A literal of one byte, then one copy of it whose length takes a byte for each 255.
    const block = Buffer.concat([Buffer.from([0x1f, 0, 1, 0]), Buffer.alloc(EXPANDED / 255, 255), Buffer.from([0])]);
    const header = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0, 0, 0, 0]);
    header.writeUInt32LE(block.length, 7);
    return Buffer.concat([header, block, Buffer.alloc(4)]);
  };
  const snappyBomb = () => {
    const copies = Buffer.alloc(3 * (EXPANDED / 64), Buffer.from([(63 << 2) | 2, 1, 0]));
    return Buffer.concat([Buffer.from([0x80, 0x80, 0x80, 0x20, 0, 0]), copies]);
  };
  test.each([
    ["gzip", 1, () => zlib.gzipSync(Buffer.alloc(EXPANDED))],
    ["snappy", 2, snappyBomb],
    ["lz4", 3, lz4Bomb],
    ["zstd", 4, () => zlib.zstdCompressSync(Buffer.alloc(EXPANDED))],
  ])(
    "a %s batch that expands to 64 MiB is unreadable, and its expansion is not allocated",
    async (name, codec, make) => {
      const bomb = compressedBatch(await batchOf([{ value: "x" }], 100), codec, make(), 1);
      const [only, ...others] = messagesOf(bomb);
      expect(others).toEqual([]);
      expect((only as UnreadableBatch).reason).toBe(`${name}: expands to more than ${MAX_EXPANDED_BYTES} bytes`);
    },
  );

  test("many batches that expand far are read in several responses", async () => {
    const value = "v".repeat(6 * 1024 * 1024);
    const raw = (await batchOf([{ value }], 0)).subarray(RECORDS_AT);
    const zstd = zlib.zstdCompressSync(raw);
    const data = await Promise.all(
      [0, 1, 2].map(async (offset) => compressedBatch(await batchOf([{ value: "" }], offset), 4, zstd, 1)),
    );
    expect(messagesOf(...data).map(({ offset }) => offset)).toEqual(["0", "1"]);
    expect(messagesOf(data[2]!).map(({ offset }) => offset)).toEqual(["2"]);
  });
});

describe("UnreadableBatch", () => {
  test("ends its partition alone; the other partitions and the records before it are read", async () => {
    const broken = compressedBatch(await batchOf([{ value: "x" }], 110), 4, Buffer.from("no zstd"), 10);
    const readable = await batchOf([{ value: "a" }, { value: "b" }], 108);
    const after = await batchOf([{ value: "after" }], 120);
    const payload = answer([
      { partition: 1, data: Buffer.concat([readable, broken, after]) },
      { partition: 2, data: readable },
    ]);
    const [first, second] = decodeFetch(payload).responses[0]!.partitions;
    expect(first!.messages.map(({ offset }) => offset)).toEqual(["108", "109", "119"]);
    expect(second!.messages.map(({ offset }) => offset)).toEqual(["108", "109"]);
    const last = first!.messages.at(-1) as UnreadableBatch;
    expect(last).toMatchObject({ firstOffset: 110, lastOffset: 119 });
    expect(last.bytes).toEqual(broken);
    expect(() => last.value).toThrow("offsets 110 to 119 cannot be read: zstd: ");
    // A fetch can begin in the middle of the batch.
    expect(new Batch("topic", "115", first).messages).toEqual([last]);
  });

  test.each([
    ["an unknown codec", (batch: Buffer) => batch.writeInt16BE(6, ATTRIBUTES_AT), "Kafka has no compression codec 6"],
    ["another format", (batch: Buffer) => batch.writeInt8(1, 16), "its record format is 1, not 2"],
    ["a length below the header", (batch: Buffer) => batch.writeInt32BE(3, 8), "its length is 15 bytes, and"],
    ["a length beyond the response", (batch: Buffer) => batch.writeInt32BE(1 << 30, 8), "were received"],
    ["more records than bytes", (batch: Buffer) => batch.writeInt32BE(9, RECORD_COUNT_AT), "is longer than the batch"],
    ["a huge count", (batch: Buffer) => batch.writeInt32BE(2 ** 31 - 1, RECORD_COUNT_AT), `at most ${MAX_RECORDS}`],
    [
      "fewer records than bytes",
      (batch: Buffer) => batch.writeInt32BE(1, RECORD_COUNT_AT),
      "bytes follow its 1 record",
    ],
    ["a record beyond the batch", (batch: Buffer) => batch.writeInt8(0x7e, RECORDS_AT), "record 1 of 2 is longer than"],
  ])("%s", async (_, change, reason) => {
    const batch = await batchOf([{ value: "a" }, { value: "b" }], 7);
    change(batch);
    const messages = messagesOf(sealed(batch));
    expect(messages).toHaveLength(1);
    expect((messages[0] as UnreadableBatch).reason).toContain(reason);
    expect(messages[0]!.batchContext).toMatchObject({ partitionLeaderEpoch: 0 });
  });

  test("a changed byte: the event with another value is valid JSON, and is never read", async () => {
    const batch = await batchOf([{ value: '{"load_kg":320.5}' }, { value: "b" }], 7);
    const digit = batch.indexOf("320.5");
    batch[digit + 2]! += 1;
    const [only, ...others] = messagesOf(batch);
    expect(others).toEqual([]);
    expect((only as UnreadableBatch).text).toMatch(
      /^offsets 7 to 8 cannot be read: its CRC is [0-9a-f]+, and its header says [0-9a-f]+$/,
    );
    expect(messagesOf(sealed(batch)).map((message) => (message as FetchedMessage).text())).toEqual([
      '{"load_kg":321.5}',
      "b",
    ]);
  });

  test("a last offset beyond the log's end is not used", async () => {
    const batch = await batchOf([{ value: "a" }], 7, {});
    batch.writeInt16BE(6, ATTRIBUTES_AT);
    batch.writeInt32BE(2 ** 31 - 1, LAST_OFFSET_DELTA_AT);
    const data = sealed(Buffer.from(batch));
    data.writeBigInt64BE(4_999_999_000n, 0);
    const [partition] = decodeFetch(answer([{ partition: 0, data }])).responses[0]!.partitions;
    expect([...partition!.messages]).toMatchObject([{ firstOffset: 4_999_999_000, lastOffset: 4_999_999_000 }]);
    // Without it a fetch in the middle of the batch must not skip it either.
    expect(new Batch("topic", "4999999100", partition!).messages).toEqual([...partition!.messages]);
  });
});
