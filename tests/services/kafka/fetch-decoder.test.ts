/** Compares decodeFetch() with kafkajs' decoder, on responses from kafkajs' encoder. */
import { describe, expect, test } from "bun:test";
import Batch from "kafkajs/src/consumer/batch.js";
import Encoder from "kafkajs/src/protocol/encoder.js";
import encodeRecord from "kafkajs/src/protocol/recordBatch/record/v0/index.js";
import recordBatch from "kafkajs/src/protocol/recordBatch/v0/index.js";
import { decodeFetch, type FetchedMessage } from "../../../services/kafka/fetch-decoder.ts";
import { kafkajsDecode } from "../../../services/kafka/patches/slow-decode.ts";

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
  const ours = decodeFetch(payload);
  expect(ours).toBeDefined();
  const [left, right] = [ours as unknown as Decoded, (await kafkajsDecode(payload)) as Decoded];
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

  test("ignores a batch that the size limit cut", async () => {
    const complete = await batchOf([{ value: "complete" }], 10);
    const cut = (await batchOf([{ value: "cut".repeat(100) }], 11)).subarray(0, 120);
    const payload = answer([{ partition: 0, data: Buffer.concat([complete, cut]) }]);
    await expectSame(payload);
    expect(decodeFetch(payload)!.responses[0]!.partitions[0]!.messages).toHaveLength(1);
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

  test("returns undefined for compression, transactions, aborted transactions and a single cut batch", async () => {
    const record = [{ value: "x" }];
    const GZIP = 1;
    for (const options of [{ compression: GZIP }, { transactional: true }]) {
      const data = await batchOf(record, 0, options);
      expect(decodeFetch(answer([{ partition: 0, data }]))).toBeUndefined();
    }
    expect(decodeFetch(answer([{ partition: 0, data: await batchOf(record, 0), aborted: true }]))).toBeUndefined();
    const lone = (await batchOf([{ value: "y".repeat(500) }], 0)).subarray(0, 200);
    expect(decodeFetch(answer([{ partition: 0, data: lone }]))).toBeUndefined();
  });

  test("kafkajs' Batch drops records before the fetched offset and keeps the others", async () => {
    const data = await batchOf([{ value: "a" }, { value: "b" }, { value: "c" }], 100);
    const partition = decodeFetch(answer([{ partition: 0, data }]))!.responses[0]!.partitions[0]!;
    const values = (fetchedOffset: string) =>
      new Batch("topic", fetchedOffset, partition).messages.map((message) => (message as FetchedMessage).text());
    expect(values("100")).toEqual(["a", "b", "c"]);
    expect(values("50")).toEqual(["a", "b", "c"]);
    expect(values("102")).toEqual(["c"]);
    expect(new Batch("topic", "102", partition).lastOffset()).toBe("102");
    expect(values("103")).toEqual([]);
  });
});
