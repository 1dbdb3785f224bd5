/**
 * The producer: sends events to Kafka and counts one as delivered only when Kafka has acknowledged it.
 *
 *   SOURCE=simulated,http   a fleet of simulated conveyors, and POST /events over HTTPS (as in the StatefulSet); only the
 *                           first pod runs the fleet, so that scaling out adds no events
 *   SOURCE=file             NDJSON from INPUT_FILE; ends when the file is delivered
 *   SOURCE=stdin            the same from standard input; with INPUT_END_TOKEN an input without its end line is a failure
 *
 * While Kafka is unreachable the sources wait; the buffer is bounded and nothing in it is dropped.
 */

import { NAME_PATTERN, NAME_RULE } from "./domain/event.ts";
import { Fleet } from "./domain/fleet.ts";
import { DLQ_TOPIC, EVENTS_TOPIC } from "./domain/kafka-layout.ts";
import { RATE_PROFILES } from "./domain/rate.ts";
import { newRunId, ordinalOf } from "./domain/run-id.ts";
import { EventProducer } from "./kafka/event-producer.ts";
import { EventPublisher, SOURCES } from "./producer/event-publisher.ts";
import { EventSchemas } from "./producer/event-schemas.ts";
import { startIntake } from "./producer/intake.ts";
import { IntakeSenders } from "./producer/intake-senders.ts";
import { LedgerCheckpoints } from "./producer/ledger-checkpoints.ts";
import { SenderUsage } from "./producer/sender-usage.ts";
import { readInput, runSimulation } from "./producer/sources.ts";
import { finalLine } from "./protocol/final-document.ts";
import { INPUT_END_TOKEN } from "./protocol/input-end.ts";
import { SENDERS_PATH } from "./protocol/senders.ts";
import { type ConfigReader, readCommon, readKafka, readOps, readTopic } from "./runtime/config.ts";
import { Health } from "./runtime/health.ts";
import { startLivenessServer } from "./runtime/liveness.ts";
import type { Logger } from "./runtime/log.ts";
import { Metrics } from "./runtime/metrics.ts";
import { startOpsServer } from "./runtime/ops-server.ts";
import { certificateExpirySeconds, runService, type ServiceFrame } from "./runtime/service.ts";

/** More than a minute of the fleet's default rate, and more than one intake request. */
const MAX_BUFFERED_EVENTS = 20_000;
const MAX_BUFFERED_BYTES = 32 * 1024 * 1024;
/** The liveness check fails when events wait and no batch was attempted for this long; an attempt is far shorter. */
const SEND_PROGRESS_LIMIT_MS = 60_000;
const TICK_LIMIT_MS = 30_000;
/** A file or stdin run fails after this time without an acknowledgement; a broker restart is shorter. */
const STALL_LIMIT_MS = 5 * 60_000;
const STALL_CHECK_MS = 1000;
const FLUSH_LIMIT_MS = 15_000;

const read = (reader: ConfigReader) => {
  const kafka = readKafka(reader);
  const common = readCommon(reader);
  const sources = reader.choices("SOURCE", SOURCES, "simulated");
  const input = sources.find((source) => source === "file" || source === "stdin");
  if (input && sources.length > 1)
    reader.problem("SOURCE", `${input} cannot be combined with other sources`, sources.join(","));
  const ordinal = ordinalOf(common.podName);
  const random16 = crypto.getRandomValues(new Uint16Array(1))[0]!;
  return {
    common,
    kafka,
    sources,
    input,
    ordinal,
    // A run over an input is short; it has probes only where OPS_PORT is set.
    ops: !input || reader.has("OPS_PORT") ? readOps(reader, kafka) : undefined,
    topic: readTopic(reader, "TOPIC", EVENTS_TOPIC),
    dlqTopic: readTopic(reader, "DLQ_TOPIC", DLQ_TOPIC),
    conveyors: reader.integer("FLEET_CONVEYORS", { least: 1, most: 10_000, fallback: 20 }),
    eventsPerSecond: reader.number("RATE_EVENTS_PER_SECOND", { least: 0, most: 1_000_000, fallback: 200 }),
    profile: reader.choice("RATE_PROFILE", RATE_PROFILES, "steady"),
    // A fleet in every pod would add load with each scaling step, which would trigger the next one.
    fleetPods: reader.integer("FLEET_PODS", { least: 0, most: 1000, fallback: 1 }),
    seed: reader.integer("SEED", { least: 0, most: 4_294_967_295, fallback: 1 }),
    inputFile: input === "file" ? reader.text("INPUT_FILE") : "",
    inputEndToken: input === "stdin" && reader.has(INPUT_END_TOKEN) ? reader.text(INPUT_END_TOKEN) : undefined,
    intakePort: reader.integer("INTAKE_PORT", { least: 1, most: 65_535, fallback: 8443 }),
    intakeTokenFile: sources.includes("http") ? reader.secretPath("INTAKE_TOKEN_FILE") : "",
    // A folder that does not exist has no schema.
    schemaFolder: reader.text("SCHEMA_FOLDER", "/schemas"),
    // The names that requests to the write API must give; any where they are not set.
    intakeOrg: reader.has("INTAKE_ORG") ? reader.text("INTAKE_ORG") : undefined,
    intakeBucket: reader.has("INTAKE_BUCKET") ? reader.text("INTAKE_BUCKET") : undefined,
    run: reader.pattern("RUN_ID", NAME_PATTERN, NAME_RULE, newRunId(Date.now(), ordinal, random16)),
    traceEverySeq: reader.integer("TRACE_EVERY_SEQ", { least: 0, most: 1_000_000_000, fallback: 1000 }),
  };
};
type Config = ReturnType<typeof read>;

/** The sources of this pod: all configured ones, but the fleet only in the first FLEET_PODS pods. */
export function sourcesOf<Source extends string>(
  config: { sources: readonly Source[] } & Pick<Config, "ordinal" | "fleetPods">,
): Source[] {
  return config.sources.filter((source) => source !== "simulated" || config.ordinal < config.fleetPods);
}

async function start(config: Config, frame: ServiceFrame): Promise<void> {
  const { log, shutdown } = frame;
  const metrics = new Metrics("producer");
  const health = new Health();
  const producer = createProducer(config, log, metrics, health);
  const schemaErrors = metrics.counter("conveyor_producer_schema_errors_total");
  const publisher = new EventPublisher({
    run: config.run,
    producer,
    topic: config.topic,
    dlqTopic: config.dlqTopic,
    schemas: new EventSchemas({ folder: config.schemaFolder, log, onFaulty: () => schemaErrors.inc() }),
    metrics,
    log,
    traceEverySeq: config.traceEverySeq,
  });
  producer.start();
  const checkpoints = new LedgerCheckpoints({ run: config.run, ledger: publisher.ledger, log });
  checkpoints.start();

  const senders = config.sources.includes("http") ? new IntakeSenders(config.intakeTokenFile, log) : undefined;
  const startedAt = new Date().toISOString();
  const ops =
    config.ops &&
    startOpsServer(config.ops, health, metrics.registry, {
      "/ledger": () => ({ pod: config.common.podName, run: config.run, started_at: startedAt, ...publisher.report() }),
      ...(senders ? { [SENDERS_PATH]: () => senders.inUse() } : {}),
    });
  const liveness = config.ops && startLivenessServer(config.ops, health, log);

  const pod: Pod = { config, frame, metrics, health, producer, publisher };
  if (senders) openIntake(pod, senders);
  shutdown.step("flush", FLUSH_LIMIT_MS, () => producer.flush());
  shutdown.step("producer", 2000, () => {
    if (producer.bufferedEvents > 0) log.warn("events_unacknowledged", { events: producer.bufferedEvents });
    return producer.stop();
  });
  shutdown.step("ledger", 1000, () => checkpoints.stop(producer.bufferedEvents));
  if (ops) shutdown.step("ops_server", 1000, () => ops.stop());
  if (liveness) shutdown.step("liveness", 1000, () => liveness.stop());

  const sources = sourcesOf(config);
  if (sources.includes("simulated")) startSimulation(pod);
  log.info("running", { sources, run: config.run, topic: config.topic });
  if (config.input) await runInput(pod, config.input);
}

interface Pod {
  config: Config;
  frame: ServiceFrame;
  metrics: Metrics;
  health: Health;
  producer: EventProducer;
  publisher: EventPublisher;
}

function createProducer(config: Config, log: Logger, metrics: Metrics, health: Health): EventProducer {
  const ackLatency = metrics.histogram("conveyor_producer_ack_latency_seconds");
  const batchEvents = metrics.histogram("conveyor_producer_batch_events");
  const retries = metrics.counter("conveyor_producer_send_retries_total");
  const producer = new EventProducer({
    kafka: config.kafka,
    clientId: config.common.podName,
    log,
    topics: [config.topic, config.dlqTopic],
    maxBufferedEvents: MAX_BUFFERED_EVENTS,
    maxBufferedBytes: MAX_BUFFERED_BYTES,
    onAttempt: () => health.progress("send"),
    onRetry: () => retries.inc(),
    onBatch: ({ events, latencyMs }) => {
      health.progress("send");
      ackLatency.observe(latencyMs / 1000);
      batchEvents.observe(events);
    },
  });
  health.watch({ name: "send", limitMs: SEND_PROGRESS_LIMIT_MS, busy: () => producer.bufferedEvents > 0 });
  health.ready("kafka_connected", () => producer.ready);
  metrics.onRead("conveyor_producer_buffered_events", () => producer.bufferedEvents);
  metrics.onRead("conveyor_producer_buffer_fill_ratio", () => producer.fill);
  metrics.onRead("conveyor_producer_kafka_connected", () => (producer.ready ? 1 : 0));
  const expiry = certificateExpirySeconds(config.ops?.tls.cert, config.kafka.tls.cert);
  metrics.gauge("conveyor_certificate_expiry_timestamp_seconds").set(expiry);
  return producer;
}

function openIntake(
  { config, frame: { log, shutdown }, metrics, producer, publisher }: Pod,
  senders: IntakeSenders,
): void {
  const requests = metrics.counter("conveyor_intake_requests_total");
  const senderRequests = metrics.counter("conveyor_intake_sender_requests_total");
  const senderRefusals = metrics.counter("conveyor_intake_sender_refusals_total");
  const usage = new SenderUsage();
  const report = (value: "names" | "most") => () =>
    usage
      .report(senders.listed())
      .map((used) => ({ labels: { sender: used.sender, kind: used.kind }, value: used[value] }));
  metrics.onReadEach("conveyor_intake_sender_in_use", report("names"));
  metrics.onReadEach("conveyor_intake_sender_in_use_limit", report("most"));
  const intake = startIntake({
    port: config.intakePort,
    tls: config.ops!.tls,
    senders,
    usage,
    publisher,
    producer,
    org: config.intakeOrg,
    bucket: config.intakeBucket,
    onAnswer: (status, sender) => {
      requests.inc({ code: String(status) });
      if (sender === undefined) return;
      senderRequests.inc({ sender });
      if (status >= 400) senderRefusals.inc({ sender, code: String(status) });
    },
  });
  shutdown.step("intake", 5000, () => intake.stop());
  log.info("intake_open", { port: intake.port });
}

function startSimulation({ config, frame: { log, shutdown }, metrics, health, producer, publisher }: Pod): void {
  let paused = false;
  health.watch({ name: "simulation", limitMs: TICK_LIMIT_MS, busy: () => producer.hasRoom() && !shutdown.begun });
  const pausedSeconds = metrics.counter("conveyor_producer_paused_seconds_total");
  void runSimulation({
    fleet: new Fleet({ ordinal: config.ordinal, count: config.conveyors, run: config.run, seed: config.seed }),
    publisher,
    producer,
    profile: config.profile,
    eventsPerSecond: config.eventsPerSecond,
    signal: shutdown.signal,
    onTick: () => {
      health.progress("simulation");
      if (paused) log.info("simulation_resumed");
      paused = false;
    },
    onPaused: (seconds) => {
      paused = true;
      pausedSeconds.inc({ source: "simulated" }, seconds);
      log.warn("simulation_paused", { seconds, buffered_events: producer.bufferedEvents });
    },
  });
}

/** Delivers a file or stdin, logs the outcome in one line, and ends the process. */
async function runInput(
  { config, frame: { log, shutdown }, producer, publisher }: Pod,
  source: "file" | "stdin",
): Promise<void> {
  const startedAt = performance.now();
  const stalled = new AbortController();
  const watch = setInterval(() => {
    if (producer.stalledMs > STALL_LIMIT_MS) {
      log.error("kafka_stalled", { stalled_seconds: Math.round(producer.stalledMs / 1000), cause: producer.refusedBy });
      stalled.abort();
      void producer.stop();
    }
  }, STALL_CHECK_MS);
  const signal = AbortSignal.any([shutdown.signal, stalled.signal]);
  const input = source === "file" ? Bun.file(config.inputFile).stream() : Bun.stdin.stream();
  let inputRead: Awaited<ReturnType<typeof readInput>>;
  try {
    const chunks = input as unknown as AsyncIterable<Uint8Array>;
    inputRead = await readInput(chunks, { publisher, producer, source, signal, endToken: config.inputEndToken });
    await producer.flush();
  } finally {
    clearInterval(watch);
  }
  const { lines, announced, isComplete } = inputRead;
  if (!isComplete) log.error("input_cut", { read: lines, sent: announced });
  const { acknowledged, refused } = publisher.counts;
  const failed = lines - acknowledged - refused;
  const result = {
    run: config.run,
    source,
    read: lines,
    input_complete: isComplete,
    acknowledged,
    repeated: publisher.ledger.repeated,
    dropped_from_ledger: publisher.ledger.dropped,
    refused,
    refused_by_reason: publisher.refusedByReason,
    failed,
    duration_ms: Math.round(performance.now() - startedAt),
  };
  log.info("input_done", result);
  process.stdout.write(finalLine("ingest", result));
  await shutdown.begin("input done", failed > 0 || !isComplete ? 1 : 0);
}

if (import.meta.main) await runService("producer", read, start);
