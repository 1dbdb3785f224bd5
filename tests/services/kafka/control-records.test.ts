/** What the processor relies on for the marker that ends a transaction, which eachBatch never gets. */
import { expect, test } from "bun:test";
import Batch from "kafkajs/src/consumer/batch.js";
import Runner from "kafkajs/src/consumer/runner.js";

const silent = { namespace: () => silent, debug() {} };

test("kafkajs resolves a batch of control records and emits the end of a batch, without eachBatch", async () => {
  const calls: string[] = [];
  const runner = new Runner({
    logger: silent,
    consumerGroup: {
      resolveOffset: ({ offset }: { offset: string }) => calls.push(`resolve ${offset}`),
      heartbeat: async () => {},
    },
    instrumentationEmitter: { emit: (event: string) => calls.push(event) },
    eachBatch: async () => calls.push("eachBatch"),
    autoCommit: false,
  }) as Runner & { running: boolean; handleBatch(batch: Batch): Promise<void> };
  runner.running = true;
  const marker = { offset: "101", isControlRecord: true, batchContext: {} };
  await runner.handleBatch(
    new Batch("events", "101", {
      partition: 2,
      highWatermark: "102",
      messages: [marker],
      abortedTransactions: [],
    } as never),
  );
  expect(calls).not.toContain("eachBatch");
  expect(calls).toContain("resolve 101");
  expect(calls.at(-1)).toBe("consumer.end_batch_process");
});
