/**
 * The floor of the processor's benchmark: kafkajs consuming with the processor's own settings, doing nothing with the
 * events but counting and committing. Prints a count twice a second; ends with SIGTERM.
 */
import { COMMIT_INTERVAL_MS } from "../services/runtime/batch-handler.ts";
import { ConfigReader, readKafka } from "../services/runtime/config.ts";
import { CONCURRENT_PARTITIONS, CONSUMER_OPTIONS } from "../services/runtime/consumer.ts";
import { createKafka } from "../services/runtime/kafka.ts";
import { Logger } from "../services/runtime/log.ts";

const REPORT_MS = 100;

const reader = new ConfigReader();
const kafkaConfig = readKafka(reader);
reader.done();
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
