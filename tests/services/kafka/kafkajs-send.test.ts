/** Why event-producer.ts does not use kafkajs' send(): defects that it avoids instead of patching them. */
import { describe, expect, test } from "bun:test";
import errors from "kafkajs/src/errors.js";
import groupMessagesPerPartition from "kafkajs/src/producer/groupMessagesPerPartition.js";
import createSendMessages from "kafkajs/src/producer/sendMessages.js";

describe("kafkajs send()", () => {
  test("reports success for messages that it never sent when leadership moves between its retries", async () => {
    const sent: string[] = [];
    let leaders = [0, 1];
    let failFirst = true;
    const broker = (nodeId: number) => ({
      nodeId,
      produce: async ({ topicData }: { topicData: { partitions: { partition: number; messages: unknown[] }[] }[] }) => {
        if (nodeId === 0 && failFirst) {
          failFirst = false;
          // After broker 1 has answered, broker 0 fails, and broker 1 leads its partition.
          await Bun.sleep(5);
          leaders = [1, 1];
          throw new errors.KafkaJSConnectionClosedError("gone", { host: "h", port: 0 });
        }
        for (const { partition, messages } of topicData[0]!.partitions) sent.push(`${partition}:${messages.length}`);
        return { topics: [] };
      },
    });
    const brokers = [broker(0), broker(1)];
    const send = createSendMessages({
      logger: { debug() {}, info() {}, warn() {}, error() {} },
      cluster: {
        addMultipleTargetTopics: async () => {},
        refreshMetadataIfNecessary: async () => {},
        refreshMetadata: async () => {},
        removeBroker: () => {},
        isConnected: () => true,
        findTopicPartitionMetadata: () => leaders.map((leader, partitionId) => ({ partitionId, leader })),
        findLeaderForPartitions: (_: string, partitions: string[]) => {
          const result: Record<number, number[]> = {};
          for (const partition of partitions.map(Number)) {
            const leader = leaders[partition]!;
            result[leader] = [...(result[leader] ?? []), partition];
          }
          return result;
        },
        findBroker: async ({ nodeId }: { nodeId: number }) => brokers[nodeId],
      },
      partitioner: ({ message }: { message: { partition: number } }) => message.partition,
      eosManager: {
        isTransactional: () => false,
        acquireBrokerLock: async () => {},
        releaseBrokerLock: async () => {},
        getSequence: () => 0,
        updateSequence: () => {},
        getProducerId: () => 1,
        getProducerEpoch: () => 0,
      },
      retrier: async (work: (bail: (error: Error) => void, count: number, ms: number) => Promise<unknown>) => {
        for (let attempt = 0; ; attempt++) {
          try {
            return await work(
              (error) => {
                throw error;
              },
              attempt,
              0,
            );
          } catch (error) {
            if (attempt >= 3) throw error;
          }
        }
      },
    });
    await send({
      acks: -1,
      topicMessages: [{ topic: "t", messages: [0, 1].map((partition) => ({ partition, value: "a" })) }],
    });
    // send() resolved, and partition 0's message was never sent.
    expect(sent).toEqual(["1:1"]);
  });

  test("groups messages by partition in O(n²): each message copies those before it", () => {
    const COUNT = 2000;
    let copied = 0;
    const messages = Array.from({ length: COUNT }, (_, index) => ({ index }));
    const iterate = Array.prototype[Symbol.iterator];
    Array.prototype[Symbol.iterator] = function* (this: unknown[]) {
      for (let index = 0; index < this.length; index++) {
        copied++;
        yield this[index];
      }
    } as typeof iterate;
    try {
      groupMessagesPerPartition({ topic: "t", partitionMetadata: [{}], messages, partitioner: () => 0 });
    } finally {
      Array.prototype[Symbol.iterator] = iterate;
    }
    expect(copied).toBeGreaterThan((COUNT * COUNT) / 4);
  });
});
