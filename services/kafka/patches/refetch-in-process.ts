/**
 * Upstream: none.
 * Symptom: when a partition's leader moves while a batch of it is in process, the fetcher of the new leader fetches the same
 *   records and discards them, without a pause, until the batch is done. While commits wait for a majority of the brokers,
 *   that is as long as the outage, and it takes the CPU time that the brokers need for their start.
 * Change: a partition whose batch is in process is not fetched.
 */
import type Batch from "kafkajs/src/consumer/batch.js";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import Runner from "kafkajs/src/consumer/runner.js";
import { method, type Patch } from "./patch.ts";

export const refetchInProcess: Patch = {
  id: "refetch-in-process",
  members: [method(Runner, "handleBatch"), method(ConsumerGroup, "getActiveTopicPartitions")],
  install() {
    const inProcess = new WeakMap<ConsumerGroup, Set<Batch>>();
    const { handleBatch } = Runner.prototype;
    Runner.prototype.handleBatch = async function (this: Runner, batch) {
      const batches = inProcess.get(this.consumerGroup) ?? new Set();
      inProcess.set(this.consumerGroup, batches.add(batch));
      try {
        await handleBatch.call(this, batch);
      } finally {
        batches.delete(batch);
      }
    };
    // A fetcher fetches when its own batches are done: those in process are of other fetchers.
    const { getActiveTopicPartitions } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.getActiveTopicPartitions = function (this: ConsumerGroup) {
      const active = getActiveTopicPartitions.call(this);
      for (const { topic, partition } of inProcess.get(this) ?? []) active[topic]?.delete(partition);
      return active;
    };
  },
};
