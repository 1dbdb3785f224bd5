/**
 * The floor of the processor's benchmark: a consumer with the processor's settings that only counts and commits. Prints
 * its count ten times a second; ends with SIGTERM.
 * DECODER=kafkajs: with kafkajs' decoder instead of ours.
 */

import { createKafka } from "../services/kafka/client.ts";
import { CONCURRENT_PARTITIONS, CONSUMER_OPTIONS } from "../services/kafka/consumer.ts";
import { installKafkajsPatches, PATCHES_WITHOUT_DECODER } from "../services/kafka/patches/index.ts";
import { COMMIT_INTERVAL_MS } from "../services/processor/batch-handler.ts";
import { ConfigReader, readKafka } from "../services/runtime/config.ts";
import { Logger } from "../services/runtime/log.ts";

const REPORT_MS = 100;

const reader = new ConfigReader();
const kafkaConfig = readKafka(reader);
reader.done();
if (process.env.DECODER === "kafkajs") installKafkajsPatches(PATCHES_WITHOUT_DECODER);
const consumer = createKafka(kafkaConfig, "floor", new Logger("floor", "error")).consumer({
  ...CONSUMER_OPTIONS,
  groupId: "processor",
});
let count = 0;
setInterval(() => process.stdout.write(`${count}\n`), REPORT_MS);
process.on("SIGTERM", () => process.exit(0));
await consumer.connect();
await consumer.subscribe({ topics: [process.env.TOPIC ?? "conveyor.events"], fromBeginning: true });
await consumer.run({
  autoCommit: false,
  autoCommitInterval: COMMIT_INTERVAL_MS,
  eachBatchAutoResolve: false,
  partitionsConsumedConcurrently: CONCURRENT_PARTITIONS,
  eachBatch: async ({ batch, resolveOffset, commitOffsetsIfNecessary }) => {
    count += batch.messages.length;
    resolveOffset(batch.lastOffset());
    await commitOffsetsIfNecessary();
  },
});
