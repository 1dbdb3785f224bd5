import { afterEach, expect, setSystemTime, test } from "bun:test";
import { createPollingAdmin } from "../../../services/kafka/client.ts";
import { Logger } from "../../../services/runtime/log.ts";
import { metadataOf, partition } from "./patches/fixtures.ts";

afterEach(() => void setSystemTime());

test("a polling administrator's client sees an added partition after ten seconds, not after kafkajs' five minutes", async () => {
  const silent = new Logger("test", "error", {}, () => {});
  const { admin, cluster } = createPollingAdmin(
    { brokers: ["b:1"], tls: { ca: "", cert: "", key: "" } },
    "test",
    silent,
  );
  let partitions = [partition(0)];
  const broker = {
    isConnected: () => true,
    connectionPool: { host: "kafka-0", port: 9092, rack: null, pool: [] },
    metadata: async () => metadataOf([0], ...partitions),
    listOffsets: async ({ topics }: { topics: { topic: string; partitions: { partition: number }[] }[] }) => ({
      responses: topics.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.map((at) => ({ partition: at.partition, offset: "7" })),
      })),
    }),
  };
  Object.assign(cluster.brokerPool, { brokers: { 0: broker }, seedBroker: broker });
  const seen = async () => (await admin.fetchTopicOffsets("t")).map((offsets) => offsets.partition);

  expect(await seen()).toEqual([0]);
  partitions = [partition(0), partition(0, undefined, 1)];
  expect(await seen()).toEqual([0]);
  setSystemTime(Date.now() + 10_001);
  expect(await seen()).toEqual([0, 1]);
});
