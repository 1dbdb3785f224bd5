/**
 * The processor: reads events from Kafka, writes them to InfluxDB, sends what is wrong to the dead-letter topic.
 *
 *   KAFKA_BROKERS=… KAFKA_TLS_CA=… INFLUX_URL=… INFLUX_TOKEN_FILE=… bun services/processor.ts
 *
 * Offsets are committed only after InfluxDB has confirmed the points (or the event stands in the dead-letter topic), so
 * a crash at any moment repeats some work and loses none.
 */
import type { Consumer } from "kafkajs";
import { DLQ_TOPIC, EVENTS_TOPIC, PROCESSOR_GROUP } from "./domain/kafka-layout.ts";
import { createKafka } from "./kafka/client.ts";
import { CONCURRENT_PARTITIONS, CONSUMER_OPTIONS } from "./kafka/consumer.ts";
import { DeadLetterProducer } from "./kafka/dead-letter-producer.ts";
import { EventProducer } from "./kafka/event-producer.ts";
import { BatchHandler, COMMIT_INTERVAL_MS } from "./processor/batch-handler.ts";
import { InfluxWriter } from "./processor/influx-writer.ts";
import { type ConfigReader, readCommon, readInflux, readKafka, readOps, readTopic } from "./runtime/config.ts";
import { Health } from "./runtime/health.ts";
import { startLivenessServer } from "./runtime/liveness.ts";
import { Metrics } from "./runtime/metrics.ts";
import { startOpsServer } from "./runtime/ops-server.ts";
import { certificateExpirySeconds, runService, type ServiceFrame } from "./runtime/service.ts";

/** No fetch, no write and no attempt to connect for this long: wedged. Several times what any single step may take. */
const PROGRESS_LIMIT_MS = 60_000;
/** Dead letters waiting for Kafka; each is at most 16 KiB, so the bytes are the tighter bound. */
const MAX_BUFFERED_LETTERS = 5000;
const MAX_BUFFERED_LETTER_BYTES = 8 * 1024 * 1024;

const read = (reader: ConfigReader) => {
  const kafka = readKafka(reader);
  return {
    common: readCommon(reader),
    kafka,
    ops: readOps(reader, kafka),
    influx: readInflux(reader),
    topic: readTopic(reader, "TOPIC", EVENTS_TOPIC),
    dlqTopic: readTopic(reader, "DLQ_TOPIC", DLQ_TOPIC),
    groupId: reader.text("GROUP_ID", PROCESSOR_GROUP),
    traceEverySeq: reader.integer("TRACE_EVERY_SEQ", { least: 0, most: 1_000_000_000, fallback: 1000 }),
  };
};

async function start(config: ReturnType<typeof read>, { log, shutdown }: ServiceFrame): Promise<void> {
  const metrics = new Metrics("processor");
  const health = new Health();
  health.watch({ name: "progress", limitMs: PROGRESS_LIMIT_MS });
  const alive = () => health.beat("progress");

  const letterProducer = new EventProducer({
    kafka: config.kafka,
    clientId: `${config.common.podName}-dlq`,
    log,
    topics: [config.dlqTopic],
    maxBufferedEvents: MAX_BUFFERED_LETTERS,
    maxBufferedBytes: MAX_BUFFERED_LETTER_BYTES,
    onAttempt: alive,
  });

  const requests = metrics.counter("conveyor_processor_write_requests_total");
  const writeLatency = metrics.histogram("conveyor_processor_write_latency_seconds");
  const writeBatch = metrics.histogram("conveyor_processor_write_batch_points");
  const writer = new InfluxWriter(config.influx, log, {
    onAttempt: alive,
    onRequest: (outcome, durationMs, lines) => {
      requests.inc({ outcome });
      writeLatency.observe(durationMs / 1000);
      if (outcome === "written") writeBatch.observe(lines);
    },
    onBlocked: (blocked) => metrics.gauge("conveyor_processor_write_blocked").set(blocked ? 1 : 0),
  });

  metrics.onRead("conveyor_processor_write_pending_seconds", () => writer.pendingSeconds);

  const consumed = metrics.counter("conveyor_processor_events_consumed_total");
  const fetchBatch = metrics.histogram("conveyor_processor_fetch_batch_events");
  const written = metrics.counter("conveyor_processor_points_written_total");
  const deadLetters = metrics.counter("conveyor_processor_dead_letters_total");
  const endToEnd = metrics.bulkHistogram("conveyor_e2e_latency_seconds");
  const handler = new BatchHandler({
    writer,
    letters: new DeadLetterProducer(letterProducer, config.dlqTopic, log),
    log,
    service: "processor",
    traceEverySeq: config.traceEverySeq,
    hooks: {
      onConsumed: (events) => {
        consumed.inc(events);
        fetchBatch.observe(events);
      },
      onStored: (timestampsMs, refused) => {
        const now = Date.now();
        written.inc(timestampsMs.length - refused.length);
        const skip = refused.length > 0 ? new Set(refused.map(({ index }) => index)) : undefined;
        for (let index = 0; index < timestampsMs.length; index++) {
          if (skip?.has(index)) continue;
          endToEnd.observe((now - timestampsMs[index]!) / 1000);
        }
      },
      onDeadLetter: (reason) => deadLetters.inc({ reason }),
    },
  });

  const kafka = createKafka(config.kafka, config.common.podName, log, { onConnect: alive });
  const consumer = kafka.consumer({ ...CONSUMER_OPTIONS, groupId: config.groupId });
  let joined = false;
  watchConsumer(consumer, {
    alive,
    onJoin: (partitions) => {
      joined = true;
      metrics.gauge("conveyor_processor_assigned_partitions").set(partitions);
    },
    onRebalance: () => metrics.counter("conveyor_processor_rebalances_total").inc(),
    onCrash: (error, restart) => {
      joined = false;
      log.log(restart ? "warn" : "error", "consumer_crashed", { error, restart });
      // kafkajs would leave a process that looks alive and reads nothing for ever.
      if (!restart) void shutdown.begin("consumer crashed", 1);
    },
  });
  health.ready("group_joined", () => joined);
  health.ready("kafka_connected", () => letterProducer.ready);
  metrics.gauge("conveyor_certificate_expiry_timestamp_seconds").set(certificateExpirySeconds(config.kafka.tls.cert));

  const ops = startOpsServer(config.ops, health, metrics.registry);
  const liveness = startLivenessServer(config.ops, health, log);
  shutdown.step("commit", 2000, () => handler.commitPending());
  // Waits for the batches in work (each drains for 8 s at most), commits, leaves the group.
  shutdown.step("leave_group", 12_000, () => consumer.disconnect());
  shutdown.step("dead_letters", 3000, () => letterProducer.stop());
  shutdown.step("ops_server", 1000, () => ops.stop());
  if (liveness) shutdown.step("liveness", 1000, () => liveness.stop());

  letterProducer.start();
  await connectConsumer(consumer, config.topic, { log, shutdown });
  // Told to end meanwhile: a member that joins now would leave no more.
  if (shutdown.begun) return;
  await consumer.run({
    autoCommit: false,
    // Read by commitOffsetsIfNecessary(), which the handler calls after each stored batch.
    autoCommitInterval: COMMIT_INTERVAL_MS,
    eachBatchAutoResolve: false,
    partitionsConsumedConcurrently: CONCURRENT_PARTITIONS,
    eachBatch: handler.eachBatch,
  });
  log.info("running", { topic: config.topic, group: config.groupId });
}

/** Until Kafka is there and has the topic: deploy may start the processor first. */
async function connectConsumer(consumer: Consumer, topic: string, { log, shutdown }: ServiceFrame): Promise<void> {
  const RETRY_MS = 1000;
  while (!shutdown.begun) {
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [topic], fromBeginning: true });
      return;
    } catch (error) {
      log.warn("kafka_not_ready", { error });
      await Bun.sleep(RETRY_MS);
    }
  }
}

interface ConsumerHooks {
  alive: () => void;
  onJoin: (partitions: number) => void;
  onRebalance: () => void;
  onCrash: (error: Error, restart: boolean) => void;
}

function watchConsumer(consumer: Consumer, hooks: ConsumerHooks): void {
  const { FETCH, END_BATCH_PROCESS, GROUP_JOIN, REBALANCING, CRASH } = consumer.events;
  consumer.on(FETCH, hooks.alive);
  consumer.on(END_BATCH_PROCESS, hooks.alive);
  consumer.on(GROUP_JOIN, ({ payload }) => {
    hooks.alive();
    hooks.onJoin(Object.values(payload.memberAssignment).reduce((sum, partitions) => sum + partitions.length, 0));
  });
  consumer.on(REBALANCING, hooks.onRebalance);
  consumer.on(CRASH, ({ payload }) => hooks.onCrash(payload.error, payload.restart));
}

if (import.meta.main) await runService("processor", read, start);
