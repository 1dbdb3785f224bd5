/**
 * Upstream: none.
 * Symptom: when a partition's leader moves while a batch of it is in process, the fetcher of the new leader fetches the same
 *   records and discards them, without a pause, until the batch is done. While commits wait for a majority of the brokers,
 *   that is as long as the outage, and it takes the CPU time that the brokers need for their start.
 * Change: a partition whose batch is in process is not fetched.
 */
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import Runner from "kafkajs/src/consumer/runner.js";
import { method, type Patch } from "./patch.ts";

export const refetchInProcess: Patch = {
  id: "refetch-in-process",
  members: [method(Runner, "handleBatch"), method(ConsumerGroup, "getActiveTopicPartitions")],
  install() {
    /** Partitions by topic. A fetcher waits for its own batches, so these are batches of others. */
    const inProcess = new WeakMap<ConsumerGroup, Map<string, Set<number>>>();
    const { handleBatch } = Runner.prototype;
    Runner.prototype.handleBatch = async function (this: Runner, batch) {
      const topics = inProcess.get(this.consumerGroup) ?? new Map<string, Set<number>>();
      inProcess.set(this.consumerGroup, topics);
      const partitions = topics.get(batch.topic) ?? new Set<number>();
      topics.set(batch.topic, partitions.add(batch.partition));
      try {
        await handleBatch.call(this, batch);
      } finally {
        partitions.delete(batch.partition);
      }
    };
    const { getActiveTopicPartitions } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.getActiveTopicPartitions = function (this: ConsumerGroup) {
      const active = getActiveTopicPartitions.call(this);
      for (const [topic, partitions] of inProcess.get(this) ?? []) {
        for (const partition of partitions) active[topic]?.delete(partition);
      }
      return active;
    };
  },
};
