import { describe, expect, test } from "bun:test";
import Runner from "kafkajs/src/consumer/runner.js";
import { eventually } from "../../../eventually.ts";
import { groupOf, silent } from "./fixtures.ts";

describe("refetch-in-process", () => {
  const TOPIC = "t";
  /** Leader of the partition; both brokers have its record. */
  let leader: number;

  /** A consumer of one partition whose `eachBatch` is given; `fetches` counts the requests to each broker. */
  function consumer(eachBatch: () => Promise<void>) {
    const fetches = [0, 0];
    let heartbeats = 0;
    const broker = (nodeId: number) => ({
      fetch: async () => {
        fetches[nodeId]!++;
        await Bun.sleep(1);
        const messages = [{ offset: "7", batchContext: {} }];
        const partition = { partition: 0, highWatermark: "8", messages, abortedTransactions: [] };
        return { responses: [{ topicName: TOPIC, partitions: [partition] }] };
      },
    });
    const group = Object.assign(groupOf(undefined), {
      cluster: {
        refreshMetadataIfNecessary: async () => {},
        findBroker: async ({ nodeId }: { nodeId: number }) => broker(nodeId),
      },
      topics: [TOPIC],
      maxWaitTime: 5,
      offsetManager: { committedOffsets: () => ({ [TOPIC]: { 0: "7" } }), nextOffset: () => 7, resolveOffset() {} },
      checkForStaleAssignment() {},
      seekOffsets: async () => {},
      findReadReplicaForPartitions: (_: string, partitions: number[]) => ({ [leader]: partitions }),
      getNodeIds: () => [0, 1],
      heartbeat: async () => void heartbeats++,
    });
    const { subscriptionState } = group as unknown as { subscriptionState: { assign(to: unknown): void } };
    subscriptionState.assign([{ topic: TOPIC, partitions: [0] }]);
    const runner = Object.assign(
      new Runner({
        logger: silent,
        consumerGroup: group,
        instrumentationEmitter: { emit() {} },
        eachBatch,
        concurrency: 6,
        autoCommit: false,
      }),
      { running: true },
    );
    return { runner, fetches, heartbeats: () => heartbeats };
  }

  test("a partition whose batch is in process is not fetched from its new leader until the batch is done", async () => {
    leader = 0;
    const { promise: starts, resolve: started } = Promise.withResolvers<void>();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const { runner, fetches, heartbeats } = consumer(async () => {
      started();
      await released;
    });
    const ended = runner.fetchManager.start();
    try {
      await starts;
      leader = 1;
      // A fetcher without a partition to fetch pauses and then sends a heartbeat; one with records does not.
      const before = heartbeats();
      await eventually("the other fetcher", async () => heartbeats() >= before + 3 || fetches[1]! >= 3);
      expect(fetches).toEqual([1, 0]);
      release();
      await eventually("a fetch from the new leader", async () => fetches[1]! > 0);
    } finally {
      release();
      runner.running = false;
      await runner.fetchManager.stop();
      await ended;
    }
  });
});
