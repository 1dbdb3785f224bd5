/** Probes that read the dead-letter topic, with a client that joins no existing group and commits nothing. */
import type { Kafka, KafkaMessage } from "kafkajs";
import { UNREADABLE_REASON } from "../../domain/dead-letter.ts";
import { DLQ_TOPIC, PROBE_GROUP_PREFIX } from "../../domain/kafka-layout.ts";
import { withAdmin } from "../../kafka/client.ts";
import { UnreadableBatch } from "../../kafka/fetch-decoder.ts";
import type { PartitionOffset } from "../../protocol/kafka.ts";
import type { DeadLetterHeaders, DeadLetterPage, DeadLetterRecord, Finding, ProbeOf } from "../../protocol/probe.ts";
import { success } from "./finding.ts";
import { kafkaClient } from "./kafka.ts";

/** Records of one page of letter_read, and bytes of their bodies: with base64 an answer of some ten megabytes. */
const MAX_PAGE_RECORDS = 10_000;
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
/** A fetch at the end of a partition waits this long, and disconnecting waits for the fetch. */
const FETCH_WAIT_MS = 200;
/** Default and maximum of dlq_read. */
const DEFAULT_RECORDS = 1000;
const MAX_RECORDS = 100_000;

type Offsets = Map<number, number>;
const offsetsOf = (list: readonly PartitionOffset[]): Offsets =>
  new Map(list.map(({ partition, offset }) => [partition, offset]));
const listOf = (offsets: Offsets): PartitionOffset[] =>
  [...offsets].map(([partition, offset]) => ({ partition, offset }));

const headersOf = ({ headers }: KafkaMessage): Record<string, string> =>
  Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, String(value)]));

/** A batch of this topic that cannot be read is listed as one record, with the time of this read; the others follow. */
function listed(message: KafkaMessage | UnreadableBatch): KafkaMessage {
  if (!(message instanceof UnreadableBatch)) return message;
  const { offset, text } = message;
  const headers = { reason: UNREADABLE_REASON, detail: text, service: "dead-letters" };
  return { attributes: 0, key: null, value: null, offset, timestamp: String(Date.now()), headers };
}

/** Ends of the partitions, and the first offsets since `fromMs`: the end where no record is that young. */
async function rangeOf(kafka: Kafka, topic: string, fromMs: number): Promise<{ next: Offsets; ends: Offsets }> {
  return await withAdmin(kafka, async (admin) => {
    const found = await admin.fetchTopicOffsets(topic);
    const ends: Offsets = new Map(found.map(({ partition, high }) => [partition, Number(high)]));
    const starts =
      fromMs > 0
        ? await admin.fetchTopicOffsetsByTimestamp(topic, fromMs)
        : found.map(({ partition, low }) => ({ partition, offset: low }));
    const next = new Map(ends);
    for (const { partition, offset } of starts) {
      if (Number(offset) >= 0) next.set(partition, Math.min(Number(offset), ends.get(partition) ?? 0));
    }
    return { next, ends };
  });
}

/**
 * Reads records from `next` to `ends` and advances `next`, until `isFull`.
 * @throws Error when the ends are not reached within the limit
 */
async function readRecords(
  kafka: Kafka,
  topic: string,
  { next, ends, timeoutMs }: { next: Offsets; ends: Offsets; timeoutMs: number },
  isFull: () => boolean,
  take: (partition: number, message: KafkaMessage) => void,
): Promise<void> {
  const isDone = () => isFull() || [...ends].every(([partition, end]) => next.get(partition)! >= end);
  if (isDone()) return;
  const consumer = kafka.consumer({
    groupId: `${PROBE_GROUP_PREFIX}${crypto.randomUUID()}`,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: FETCH_WAIT_MS,
  });
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`the end was not reached in ${timeoutMs} ms`)), timeoutMs);
  try {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch, resolveOffset }) => {
        const { partition } = batch;
        const end = ends.get(partition) ?? 0;
        for (const message of batch.messages) {
          resolveOffset(message.offset);
          const offset = Number(message.offset);
          // Fetched before the seek, or not part of this read.
          if (offset < next.get(partition)! || offset >= end || isFull()) continue;
          next.set(partition, offset + 1);
          take(partition, listed(message));
        }
        if (isDone()) resolve();
      },
    });
    for (const [partition, offset] of next) consumer.seek({ topic, partition, offset: String(offset) });
    await done;
  } finally {
    clearTimeout(timer);
    await consumer.disconnect().catch(() => {});
  }
}

export async function readDeadLetterPage(
  probe: ProbeOf<"letter_read">,
  timeoutMs: number,
): Promise<Finding<DeadLetterPage>> {
  const kafka = await kafkaClient(probe);
  const topic = probe.topic ?? DLQ_TOPIC;
  const range = probe.from && probe.to ? undefined : await rangeOf(kafka, topic, probe.from_timestamp_ms ?? 0);
  const ends = probe.to ? offsetsOf(probe.to) : range!.ends;
  const next = probe.from ? new Map([...ends, ...offsetsOf(probe.from)]) : range!.next;
  const letters: DeadLetterRecord[] = [];
  let bytes = 0;
  const isFull = () => letters.length >= MAX_PAGE_RECORDS || bytes >= MAX_PAGE_BYTES;
  await readRecords(kafka, topic, { next, ends, timeoutMs }, isFull, (partition, message) => {
    letters.push({
      partition,
      offset: Number(message.offset),
      timestampMs: Number(message.timestamp),
      headers: headersOf(message),
      body: message.value?.toString("base64") ?? "",
    });
    bytes += message.value?.length ?? 0;
  });
  return success({ letters, next: listOf(next), to: listOf(ends) }, `${letters.length} dead letters`);
}

export async function readDeadLetterHeaders(
  probe: ProbeOf<"dlq_read">,
  timeoutMs: number,
): Promise<Finding<DeadLetterHeaders[]>> {
  const kafka = await kafkaClient(probe);
  const topic = probe.topic ?? DLQ_TOPIC;
  const fromMs = probe.from_timestamp_ms ?? 0;
  const max = Math.min(probe.max ?? DEFAULT_RECORDS, MAX_RECORDS);
  const range = await rangeOf(kafka, topic, fromMs);
  const records: DeadLetterHeaders[] = [];
  const isFull = () => records.length >= max;
  await readRecords(kafka, topic, { ...range, timeoutMs }, isFull, (partition, message) => {
    const timestamp = Number(message.timestamp);
    if (timestamp < fromMs) return;
    if (probe.run !== undefined && !message.value?.includes(`"${probe.run}"`)) return;
    records.push({ partition, offset: message.offset, timestamp, headers: headersOf(message) });
  });
  return success(records, `${records.length} records`);
}
