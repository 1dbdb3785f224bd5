/**
 * A consumer on a real broker whose log loses its tail, as in a power failure, and later its head, by deletion: nothing
 * that is in the log is skipped, and what is missing is counted. One broker, so it is much cheaper than the variants of
 * seeded-defects.test.ts.
 */
import { expect, test } from "bun:test";
import { readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Kafka } from "kafkajs";
import { createKafka } from "../../services/kafka/client.ts";
import { CONSUMER_OPTIONS } from "../../services/kafka/consumer.ts";
import { type LogGap, onLogGap } from "../../services/kafka/patches/lost-position.ts";
import { readGroup, readRetention } from "../../services/lag-exporter.ts";
import { Logger } from "../../services/runtime/log.ts";
import { RealServers } from "../servers/real-servers.ts";
import { skipReason, until } from "./harness.ts";

const skipped = await skipReason();
/** Seconds; minutes on a busy machine. */
const STEP_LIMIT_MS = 180_000;
const LIMIT_MS = 900_000;
const TOPIC = "t";
const GROUP = "g";

/** Sends events in batches of ten, so that a log can lose some and keep others. */
async function send(kafka: Kafka, first: number, count: number): Promise<void> {
  const producer = kafka.producer();
  await producer.connect();
  for (let from = first; from < first + count; from += 10) {
    const messages = Array.from({ length: 10 }, (_, index) => ({ value: `${from + index} ${"x".repeat(200)}` }));
    await producer.send({ topic: TOPIC, messages });
  }
  await producer.disconnect();
}

/** Reads as a new member of the group until it has committed `end`. Returns the events' numbers. */
async function readTo(kafka: Kafka, end: number): Promise<number[]> {
  const seen: number[] = [];
  const consumer = kafka.consumer({ ...CONSUMER_OPTIONS, groupId: GROUP });
  await consumer.connect();
  await consumer.subscribe({ topics: [TOPIC], fromBeginning: true });
  const { promise: committed, resolve } = Promise.withResolvers<void>();
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, commitOffsetsIfNecessary, uncommittedOffsets }) => {
      for (const { offset, value } of batch.messages) {
        seen.push(Number.parseInt(value!.toString(), 10));
        resolveOffset(offset);
      }
      await commitOffsetsIfNecessary(uncommittedOffsets());
      if (Number(batch.lastOffset()) + 1 >= end) resolve();
    },
  });
  await committed;
  await consumer.disconnect();
  return seen;
}

/** Ends the broker at once and halves the log, as if its last records had never reached the disk. */
async function losePower(servers: RealServers): Promise<void> {
  await servers.kill("kafka-0");
  const data = join(servers.folder, "kafka-0-data", `${TOPIC}-0`);
  for (const name of await readdir(data)) {
    const path = join(data, name);
    if (name.endsWith(".log")) await truncate(path, Math.floor((await stat(path)).size / 2));
    else if (name.endsWith("index")) await rm(path);
  }
  await servers.startBroker(0);
}

test.skipIf(skipped !== undefined)(
  `a truncated log is read again, deleted events are counted${skipped ? ` (skipped: ${skipped})` : ""}`,
  async () => {
    const servers = await RealServers.start({ brokers: 1, influx: false });
    try {
      const silent = new Logger("test", "error", {}, () => {});
      const kafka = createKafka({ brokers: servers.brokers, tls: await servers.tlsFiles("admin") }, "test", silent);
      const gaps: LogGap[] = [];
      onLogGap((gap) => gaps.push(gap));
      const admin = kafka.admin();
      await admin.connect();
      const topic = { topic: TOPIC, numPartitions: 1, replicationFactor: 1 };
      await admin.createTopics({ topics: [topic] });
      expect(await readRetention(admin, [TOPIC])).toEqual([{ topic: TOPIC, bytes: 1_073_741_824, ms: 604_800_000 }]);

      await send(kafka, 0, 200);
      expect(await readTo(kafka, 200)).toHaveLength(200);
      await losePower(servers);
      const end = await until("the shorter log", STEP_LIMIT_MS, async () => {
        const [offsets] = await admin.fetchTopicOffsets(TOPIC);
        return Number(offsets!.high);
      });
      expect(end).toBeWithin(1, 200);
      await send(kafka, 1000, 300);
      // 200 is committed, and the log has passed it: without the epoch the first of the new events would be skipped.
      const again = await readTo(kafka, end + 300);
      expect([again.length, again[0]]).toEqual([300, 1000]);
      const at = { topic: TOPIC, partition: 0 };
      expect(gaps).toEqual([{ kind: "truncated", ...at, position: 200, continuesAt: end }]);

      await send(kafka, 2000, 100);
      await admin.deleteTopicRecords({ topic: TOPIC, partitions: [{ partition: 0, offset: String(end + 340) }] });
      const group = async () => (await readGroup(admin, TOPIC, GROUP)).partitions;
      const range = { partition: 0, start: end + 340, end: end + 400, truncations: 1, deletedUnread: 40 };
      expect(await group()).toEqual([{ ...range, lag: 100 }]);
      expect(await readTo(kafka, end + 400)).toHaveLength(60);
      expect(gaps[1]).toEqual({ kind: "deleted", ...at, position: end + 300, continuesAt: end + 340 });
      expect(await group()).toEqual([{ ...range, lag: 0 }]);
      await admin.disconnect();
    } finally {
      await servers.stop();
    }
  },
  LIMIT_MS,
);
