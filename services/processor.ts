/**
 * The processor: reads events from Kafka, writes them to InfluxDB, sends invalid ones to the dead-letter topic. An offset
 * is committed only after InfluxDB has confirmed the point or Kafka the dead letter: a crash repeats some work and loses
 * no event.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Consumer } from "kafkajs";
import { DLQ_TOPIC, EVENTS_TOPIC, PROCESSOR_GROUP, STEP_OVER_GROUP } from "./domain/kafka-layout.ts";
import { createKafka, RETRY_BRIEFLY, withAdmin } from "./kafka/client.ts";
import { CONCURRENT_PARTITIONS, CONSUMER_OPTIONS } from "./kafka/consumer.ts";
import { DeadLetterProducer } from "./kafka/dead-letter-producer.ts";
import { EventProducer } from "./kafka/event-producer.ts";
import { type LogGap, onLogGap } from "./kafka/patches/lost-position.ts";
import { BatchHandler, COMMIT_INTERVAL_MS } from "./processor/batch-handler.ts";
import { InfluxWriter } from "./processor/influx-writer.ts";
import { watchMembership } from "./processor/membership.ts";
import { type ConfigReader, readCommon, readInflux, readKafka, readOps, readTopic } from "./runtime/config.ts";
import { Health } from "./runtime/health.ts";
import { startLivenessServer } from "./runtime/liveness.ts";
import type { Logger } from "./runtime/log.ts";
import { Metrics } from "./runtime/metrics.ts";
import { startOpsServer } from "./runtime/ops-server.ts";
import { certificateExpirySeconds, runService, type ServiceFrame } from "./runtime/service.ts";

/** The liveness check fails after this time without a fetch, write or connection attempt; every step is far shorter. */
const PROGRESS_LIMIT_MS = 60_000;
/** A dead letter has at most 16 KiB, so the bytes are the tighter bound. */
const MAX_BUFFERED_DEAD_LETTERS = 5000;
const MAX_BUFFERED_DEAD_LETTER_BYTES = 8 * 1024 * 1024;
const CONNECT_RETRY_MS = 1000;
/** Clocks of nodes differ by less: an event that is further ahead has a wrong time. */
const AHEAD_TOLERANCE_MS = 5000;

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

type Config = ReturnType<typeof read>;

async function start(config: Config, frame: ServiceFrame): Promise<void> {
  const { log, shutdown } = frame;
  const metrics = new Metrics("processor");
  const health = new Health();
  health.watch({ name: "progress", limitMs: PROGRESS_LIMIT_MS });
  const onProgress = () => health.progress("progress");

  const dlqProducer = new EventProducer({
    kafka: config.kafka,
    clientId: `${config.common.podName}-dlq`,
    log,
    topics: [config.dlqTopic],
    maxBufferedEvents: MAX_BUFFERED_DEAD_LETTERS,
    maxBufferedBytes: MAX_BUFFERED_DEAD_LETTER_BYTES,
    onAttempt: onProgress,
  });
  const handler = createHandler(config, log, metrics, {
    writer: createWriter(config, log, metrics, onProgress),
    deadLetters: new DeadLetterProducer(dlqProducer, config.dlqTopic, log),
  });
  const consumer = createConsumer(config, frame, metrics, { onProgress, onBatchEnd: () => handler.commitSoon() });
  health.ready("group_joined", watchMembership(consumer));
  health.ready("kafka_connected", () => dlqProducer.ready);
  const expiry = certificateExpirySeconds(config.ops.tls.cert, config.kafka.tls.cert);
  metrics.gauge("conveyor_certificate_expiry_timestamp_seconds").set(expiry);

  const ops = startOpsServer(config.ops, health, metrics.registry);
  const liveness = startLivenessServer(config.ops, health, log);
  shutdown.step("commit", 2000, () => handler.commitPending());
  // Waits for the batches in work (each drains for at most 8 s), commits, leaves the group.
  shutdown.step("leave_group", 12_000, () => consumer.disconnect());
  shutdown.step("dead_letters", 3000, () => dlqProducer.stop());
  shutdown.step("ops_server", 1000, () => ops.stop());
  if (liveness) shutdown.step("liveness", 1000, () => liveness.stop());

  onLogGap((gap) => logGap(log, gap));
  dlqProducer.start();
  await connectConsumer(consumer, config.topic, frame);
  // The shutdown began meanwhile: a consumer that joins now would never leave.
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

function logGap(log: Logger, { kind, topic, partition, position, continuesAt }: LogGap): void {
  if (kind === "truncated") {
    log.error("log_truncated", { topic, partition, position, continues_at: continuesAt });
    return;
  }
  const events = continuesAt - position;
  log.error("events_deleted_unread", { topic, partition, events, from: position, to: continuesAt - 1 });
}

function createWriter(config: Config, log: Logger, metrics: Metrics, onAttempt: () => void): InfluxWriter {
  const requests = metrics.counter("conveyor_processor_write_requests_total");
  const latency = metrics.histogram("conveyor_processor_write_latency_seconds");
  const batchPoints = metrics.histogram("conveyor_processor_write_batch_points");
  const blockedGauge = metrics.gauge("conveyor_processor_write_blocked");
  const writer = new InfluxWriter(config.influx, log, {
    onAttempt,
    onRequest: (outcome, durationMs, lines) => {
      requests.inc({ outcome });
      latency.observe(durationMs / 1000);
      if (outcome === "written") batchPoints.observe(lines);
    },
    onBlocked: (blocked) => blockedGauge.set(blocked ? 1 : 0),
  });
  metrics.onRead("conveyor_processor_write_pending_seconds", () => writer.pendingSeconds);
  return writer;
}

function createHandler(
  config: Config,
  log: Logger,
  metrics: Metrics,
  outputs: { writer: InfluxWriter; deadLetters: DeadLetterProducer },
): BatchHandler {
  const consumed = metrics.counter("conveyor_processor_events_consumed_total");
  const fetchBatch = metrics.histogram("conveyor_processor_fetch_batch_events");
  const written = metrics.counter("conveyor_processor_points_written_total");
  const deadLetters = metrics.counter("conveyor_processor_dead_letters_total");
  const ahead = metrics.counter("conveyor_processor_events_ahead_total");
  const endToEnd = metrics.bulkHistogram("conveyor_e2e_latency_seconds");
  const stopped = metrics.gauge("conveyor_processor_stopped_at_offset");
  const kafka = createKafka(config.kafka, `${config.common.podName}-step-over`, log, { retry: RETRY_BRIEFLY });
  return new BatchHandler({
    ...outputs,
    log,
    traceEverySeq: config.traceEverySeq,
    async steppedOverTo(topic, partition) {
      const request = { groupId: STEP_OVER_GROUP, topics: [topic] };
      const [found] = await withAdmin(kafka, (admin) => admin.fetchOffsets(request));
      return Number(found?.partitions.find((entry) => entry.partition === partition)?.offset ?? -1);
    },
    hooks: {
      onConsumed: (events) => {
        consumed.inc(events);
        fetchBatch.observe(events);
      },
      onStored: (timestampsMs, refused) => {
        const now = Date.now();
        written.inc(timestampsMs.length - refused.length);
        let aheadEvents = 0;
        const skip = refused.length > 0 ? new Set(refused.map(({ index }) => index)) : undefined;
        for (let index = 0; index < timestampsMs.length; index++) {
          if (skip?.has(index)) continue;
          const latencyMs = now - timestampsMs[index]!;
          if (latencyMs < -AHEAD_TOLERANCE_MS) aheadEvents++;
          endToEnd.observe(latencyMs / 1000);
        }
        if (aheadEvents > 0) ahead.inc(aheadEvents);
      },
      onDeadLetter: (reason) => deadLetters.inc({ reason }),
      onStopped(topic, partition, offset) {
        if (offset === undefined) stopped.remove({ topic, partition });
        else stopped.set({ topic, partition }, offset);
      },
    },
  });
}

/** Creates the consumer and reports its events to metrics and log. */
function createConsumer(
  config: Config,
  { log, shutdown }: ServiceFrame,
  metrics: Metrics,
  { onProgress, onBatchEnd }: { onProgress: () => void; onBatchEnd: () => void },
): Consumer {
  const kafka = createKafka(config.kafka, config.common.podName, log, { onConnect: onProgress });
  const consumer = kafka.consumer({ ...CONSUMER_OPTIONS, groupId: config.groupId });
  const assigned = metrics.gauge("conveyor_processor_assigned_partitions");
  const rebalances = metrics.counter("conveyor_processor_rebalances_total");
  const stopped = metrics.gauge("conveyor_processor_stopped_at_offset");
  const { FETCH, END_BATCH_PROCESS, GROUP_JOIN, REBALANCING, CRASH } = consumer.events;
  consumer.on(FETCH, onProgress);
  consumer.on(END_BATCH_PROCESS, () => {
    onProgress();
    onBatchEnd();
  });
  consumer.on(GROUP_JOIN, ({ payload }) => {
    onProgress();
    // A partition that is still stopped is counted again within seconds, by its owner.
    stopped.reset();
    assigned.set(Object.values(payload.memberAssignment).reduce((sum, partitions) => sum + partitions.length, 0));
  });
  consumer.on(REBALANCING, () => rebalances.inc());
  consumer.on(CRASH, ({ payload: { error, restart } }) => {
    log.log(restart ? "warn" : "error", "consumer_crashed", { error, restart });
    // Without a restart kafkajs would leave a live process that reads nothing.
    if (!restart) void shutdown.begin("consumer crashed", 1);
  });
  return consumer;
}

/** Connects and subscribes; retries until Kafka has the topic, since deploy may start the processor first. */
async function connectConsumer(consumer: Consumer, topic: string, { log, shutdown }: ServiceFrame): Promise<void> {
  while (!shutdown.begun) {
    try {
      await consumer.connect();
      await consumer.subscribe({ topics: [topic], fromBeginning: true });
      return;
    } catch (error) {
      log.warn("kafka_not_ready", { error });
      await sleep(CONNECT_RETRY_MS);
    }
  }
}

if (import.meta.main) await runService("processor", read, start);
