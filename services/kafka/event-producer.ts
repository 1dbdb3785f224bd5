/**
 * Sends events to Kafka so that none is lost, duplicated or reordered within its partition. It uses kafkajs' cluster and
 * protocol code with its own send loop, because kafkajs' send() loses and duplicates messages when a broker fails
 * (tests/services/kafka/kafkajs-send.test.ts).
 *
 * Each partition has a queue and at most one batch in flight, which never changes (same events, same sequence numbers)
 * until Kafka has acknowledged it, so the broker recognises a retry after a lost answer as a duplicate. When the broker
 * no longer accepts a queue's sequence numbers, the queue gets a new producer id and sends the same batch.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Partitioners } from "kafkajs";
import type Cluster from "kafkajs/src/cluster/index.js";
import type { InternalBroker, ProduceAnswer } from "kafkajs/src/cluster/index.js";
import protocolErrors from "kafkajs/src/protocol/error.js";
import protocol from "kafkajs/src/protocol/requests/index.js";
import type { KafkaConfig } from "../runtime/config.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";
import { createCluster, REQUEST_TIMEOUT_MS } from "./client.ts";
import { refreshWhileWaiting } from "./refresh-while-waiting.ts";

/** Delay before a small batch is sent, so that more events share the request. */
const LINGER_MS = 10;
/** Events of one partition per request; a larger batch encodes no faster and makes retries larger. */
const BATCH_EVENTS = 1000;
/** Below the topic's max.message.bytes (1 MiB) with room for record overhead. */
const BATCH_BYTES = 700 * 1024;
/** The broker answers "not replicated in time" before the client closes the connection. */
const PRODUCE_TIMEOUT_MS = REQUEST_TIMEOUT_MS - 1000;
/** Upper bound of a record's memory beyond key and value, for the limit of the buffer. */
const RECORD_OVERHEAD_BYTES = 64;
/**
 * Restarting brokers close their connections. A producer with nothing to send checks for that itself: while it is not
 * ready, its pod receives no events that would make it reconnect.
 */
const KEEP_CONNECTED_MS = 2000;
/** More than the largest record (a line of 16 KiB with its series as key), so that an offer after whenRoom() succeeds. */
const ROOM_BYTES = 36 * 1024;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 500;
/** Pause after errors that an operator must resolve (a missing ACL, a missing topic). */
const OPERATOR_RETRY_MS = 2000;
/** A fleet has tens of keys; the bounds limit the memory when senders make up names, or series with many tags. */
const MAX_MEMOISED_KEYS = 10_000;
const MAX_MEMOISED_KEY_CHARS = 256;
const LOG_INTERVAL_MS = 5000;
/** Sequence numbers have 31 bits and restart at 0. */
const SEQUENCE_MODULUS = 2 ** 31;
export const sequenceAfter = (first: number, events: number): number => (first + events) % SEQUENCE_MODULUS;
const PRODUCE_API_KEY = 0;
/**
 * kafkajs keeps two connections per broker and uses the second for fetches only. A broker answers the requests of a
 * connection in order, so a batch that waits for a lost replica must not share one with metadata requests.
 */
const PRODUCE_CONNECTION = 1;
const NO_ERROR = 0;
const DUPLICATE_SEQUENCE = 46;
/** The broker no longer has the state of this producer id for this partition. */
const LOST_PRODUCER_CODES: ReadonlySet<number> = new Set([45, 47, 49, 59, 90]);
const TOO_LARGE_CODES: ReadonlySet<number> = new Set([10, 18]);
/** Retriable, but missing from kafkajs' table of codes. */
const UNKNOWN_RETRIABLE_CODES: ReadonlySet<number> = new Set([89, 97, 100]);

export interface Outgoing {
  topic: string;
  key: string | Uint8Array | null;
  value: string | Uint8Array;
  headers?: Record<string, string>;
  /** Called once: when all in-sync replicas have the event, or when the topic can never take it. */
  settled(outcome: "acknowledged" | "too_large"): void;
}

interface BatchReport {
  events: number;
  /** From the offer of the batch's oldest event to its acknowledgement. */
  latencyMs: number;
}

export interface EventProducerOptions {
  kafka: KafkaConfig;
  clientId: string;
  log: Logger;
  topics: readonly string[];
  maxBufferedEvents: number;
  maxBufferedBytes: number;
  lingerMs?: number;
  keepConnectedMs?: number;
  /** Called for every attempt to connect or send, as progress for the liveness check. */
  onAttempt?: () => void;
  onBatch?: (report: BatchReport) => void;
  onRetry?: (cause: string) => void;
  /** For tests: replaces kafkajs' cluster. */
  createCluster?: () => Cluster;
}

interface QueuedEvent {
  // Named as kafkajs' encoder expects.
  key: string | Uint8Array | null;
  value: string | Uint8Array;
  headers: Record<string, string> | undefined;
  /** Of the offer, in milliseconds: unless the clock is set back, one order for the records of all partitions. */
  timestamp: number;
  outgoing: Outgoing;
  bytes: number;
  offeredAt: number;
}

interface PartitionQueue {
  topic: string;
  partition: number;
  waiting: QueuedEvent[];
  waitingBytes: number;
  /** The batch that is sent until it is acknowledged; never changed meanwhile. */
  inFlight: QueuedEvent[] | undefined;
  sending: boolean;
  producerId: string | undefined;
  producerEpoch: number;
  sequence: number;
  attempt: number;
  notBefore: number;
}

interface TopicState {
  unrouted: QueuedEvent[];
  queues: PartitionQueue[];
  partitionOf: Map<string, number>;
}

const byteLength = (value: string | Uint8Array | null): number =>
  value === null ? 0 : typeof value === "string" ? Buffer.byteLength(value) : value.byteLength;

/** kafkajs' encoder accepts strings and Buffers; it would write any other byte array as text. */
function asBuffer<T extends string | Uint8Array | null>(value: T): T | Buffer {
  if (value === null || typeof value === "string" || Buffer.isBuffer(value)) return value;
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}

export class EventProducer {
  readonly #options: EventProducerOptions;
  readonly #cluster: Cluster;
  readonly #partitioner = Partitioners.DefaultPartitioner();
  readonly #topics = new Map<string, TopicState>();
  readonly #busyLeaders = new Set<number>();
  readonly #throttle = new LogThrottle(LOG_INTERVAL_MS);
  readonly #lingerMs: number;
  #identity: { producerId: string; producerEpoch: number } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #pumping = false;
  #refreshing: Promise<void> | undefined;
  #keeper: ReturnType<typeof setInterval> | undefined;
  #stopped = false;
  #bufferedEvents = 0;
  #bufferedBytes = 0;
  #roomWaiters: (() => void)[] = [];
  #emptyWaiters: (() => void)[] = [];
  #lastAckAt = performance.now();
  #refusedBy: string | undefined;

  constructor(options: EventProducerOptions) {
    this.#options = options;
    this.#lingerMs = options.lingerMs ?? LINGER_MS;
    for (const topic of options.topics) {
      this.#topics.set(topic, { unrouted: [], queues: [], partitionOf: new Map() });
    }
    this.#cluster =
      options.createCluster?.() ?? createCluster(options.kafka, options.clientId, options.log, options.onAttempt);
  }

  get bufferedEvents(): number {
    return this.#bufferedEvents;
  }

  /** Filled share of the buffer, 0 to 1, by events or bytes, whichever is tighter. */
  get fill(): number {
    return Math.max(
      this.#bufferedEvents / this.#options.maxBufferedEvents,
      this.#bufferedBytes / this.#options.maxBufferedBytes,
    );
  }

  /** Connected, with a producer id, and not refused by a broker. */
  get ready(): boolean {
    return this.#identity !== undefined && this.#refusedBy === undefined && this.#cluster.isConnected();
  }

  /** Kafka's error that an operator must resolve ("TOPIC_AUTHORIZATION_FAILED"), otherwise undefined. */
  get refusedBy(): string | undefined {
    return this.#refusedBy;
  }

  /** Milliseconds since the last acknowledgement, or since the buffer was last empty. */
  get stalledMs(): number {
    return this.#bufferedEvents === 0 ? 0 : performance.now() - this.#lastAckAt;
  }

  /** Connects in the background and retries until it succeeds. */
  start(): void {
    void this.#connectLoop();
    this.#keeper = setInterval(() => {
      if (this.#identity !== undefined && !this.#cluster.isConnected()) void this.#refresh();
    }, this.#options.keepConnectedMs ?? KEEP_CONNECTED_MS);
  }

  async #connectLoop(): Promise<void> {
    for (let attempt = 0; !this.#stopped; attempt++) {
      this.#options.onAttempt?.();
      try {
        await this.#cluster.connect();
        await this.#cluster.addMultipleTargetTopics([...this.#topics.keys()]);
        this.#identity = await this.#newIdentity();
        this.#options.log.info("kafka_connected", { producer_id: this.#identity.producerId });
        this.#refusedBy = undefined;
        this.#route();
        this.#pump();
        return;
      } catch (error) {
        this.#note("kafka_unreachable", error);
        if (isOperatorError(error)) this.#refusedBy = (error as { type?: string }).type ?? "refused";
        await sleep(isOperatorError(error) ? OPERATOR_RETRY_MS : backoffMs(attempt));
      }
    }
  }

  async #newIdentity(): Promise<{ producerId: string; producerEpoch: number }> {
    const broker = await this.#cluster.findControllerBroker();
    const { producerId, producerEpoch } = await broker.initProducerId({ transactionTimeout: REQUEST_TIMEOUT_MS });
    return { producerId: String(producerId), producerEpoch };
  }

  hasRoom(events = 1, bytes = 0): boolean {
    return (
      this.#bufferedEvents + events <= this.#options.maxBufferedEvents &&
      this.#bufferedBytes + bytes <= this.#options.maxBufferedBytes
    );
  }

  /** Adds an event to the buffer; false when the buffer is full or the producer has stopped. */
  offer(outgoing: Outgoing): boolean {
    const bytes = byteLength(outgoing.key) + byteLength(outgoing.value) + RECORD_OVERHEAD_BYTES;
    if (this.#stopped || !this.hasRoom(1, bytes)) return false;
    const topic = this.#topics.get(outgoing.topic);
    if (!topic) throw new Error(`topic ${outgoing.topic} was not declared to this producer`);
    if (this.#bufferedEvents === 0) this.#lastAckAt = performance.now();
    const queued: QueuedEvent = {
      key: asBuffer(outgoing.key),
      value: asBuffer(outgoing.value),
      headers: outgoing.headers,
      timestamp: Date.now(),
      outgoing,
      bytes,
      offeredAt: performance.now(),
    };
    this.#bufferedEvents++;
    this.#bufferedBytes += bytes;
    if (topic.queues.length === 0) {
      topic.unrouted.push(queued);
    } else {
      const queue = this.#queueOf(outgoing.topic, topic, queued);
      queue.waiting.push(queued);
      queue.waitingBytes += bytes;
      const full = queue.waiting.length >= BATCH_EVENTS || queue.waitingBytes >= BATCH_BYTES;
      if (!queue.sending) this.#wake(full ? 0 : this.#lingerMs);
    }
    return true;
  }

  /** Waits for room for one more event of any valid size; false when the producer has stopped. */
  async whenRoom(): Promise<boolean> {
    while (!this.#stopped && !this.hasRoom(1, ROOM_BYTES)) {
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    }
    return !this.#stopped;
  }

  /** Resolves when everything offered is settled, or when the producer has stopped. */
  async flush(): Promise<void> {
    while (!this.#stopped && this.#bufferedEvents > 0) {
      this.#wake(0);
      await new Promise<void>((resolve) => this.#emptyWaiters.push(resolve));
    }
  }

  /** Stops without settling what is left in the buffer; call flush() first. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearInterval(this.#keeper);
    for (const wake of [...this.#roomWaiters.splice(0), ...this.#emptyWaiters.splice(0)]) wake();
    await this.#cluster.disconnect();
  }

  #queueOf(name: string, topic: TopicState, queued: QueuedEvent): PartitionQueue {
    const { key } = queued;
    const count = topic.queues.length;
    let partition = typeof key === "string" ? topic.partitionOf.get(key) : undefined;
    if (partition === undefined) {
      partition = this.#partitioner({
        topic: name,
        partitionMetadata: topic.queues.map((queue) => ({ partitionId: queue.partition, leader: 0 })) as never,
        message: { key: key as string | Buffer | null, value: null },
      });
      if (typeof key === "string" && key.length <= MAX_MEMOISED_KEY_CHARS) {
        if (topic.partitionOf.size >= MAX_MEMOISED_KEYS) topic.partitionOf.clear();
        topic.partitionOf.set(key, partition);
      }
    }
    return topic.queues[partition % count]!;
  }

  /** Creates the queues of newly known partitions and distributes the unrouted events. */
  #route(): void {
    for (const [name, topic] of this.#topics) {
      const partitions = this.#cluster.findTopicPartitionMetadata(name);
      if (partitions.length <= topic.queues.length) continue;
      for (let partition = topic.queues.length; partition < partitions.length; partition++) {
        topic.queues.push({
          topic: name,
          partition,
          waiting: [],
          waitingBytes: 0,
          inFlight: undefined,
          sending: false,
          producerId: undefined,
          producerEpoch: 0,
          sequence: 0,
          attempt: 0,
          notBefore: 0,
        });
      }
      topic.partitionOf.clear();
      for (const queued of topic.unrouted.splice(0)) {
        const queue = this.#queueOf(name, topic, queued);
        queue.waiting.push(queued);
        queue.waitingBytes += queued.bytes;
      }
    }
  }

  #wake(delayMs: number): void {
    const at = performance.now() + delayMs;
    if (this.#stopped || at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#pump();
    }, delayMs);
  }

  /** Sends every queue that is due: one request per leader, one batch per queue. */
  #pump(): void {
    if (this.#pumping || this.#stopped || this.#identity === undefined) return;
    this.#pumping = true;
    try {
      const now = performance.now();
      const byLeader = new Map<number, PartitionQueue[]>();
      let earliest = Number.POSITIVE_INFINITY;
      for (const [name, topic] of this.#topics) {
        if (topic.queues.length === 0) continue;
        const metadata = this.#cluster.findTopicPartitionMetadata(name);
        for (const queue of topic.queues) {
          if (queue.sending || (queue.inFlight === undefined && queue.waiting.length === 0)) continue;
          if (queue.notBefore > now) {
            earliest = Math.min(earliest, queue.notBefore);
            continue;
          }
          const leader = metadata.find(({ partitionId }) => partitionId === queue.partition)?.leader ?? -1;
          if (this.#busyLeaders.has(leader)) continue;
          const queues = byLeader.get(leader);
          // A request carries one producer id; a queue with another one goes into the next request.
          const producerId = queue.producerId ?? this.#identity.producerId;
          if (queues === undefined) byLeader.set(leader, [queue]);
          else if ((queues[0]!.producerId ?? this.#identity.producerId) === producerId) queues.push(queue);
        }
      }
      if (earliest < Number.POSITIVE_INFINITY) this.#wake(earliest - now);
      for (const [leader, queues] of byLeader) {
        this.#busyLeaders.add(leader);
        for (const queue of queues) {
          queue.sending = true;
          queue.inFlight ??= takeBatch(queue);
          if (queue.producerId === undefined) {
            queue.producerId = this.#identity.producerId;
            queue.producerEpoch = this.#identity.producerEpoch;
          }
        }
        void this.#send(leader, queues);
      }
    } catch (error) {
      // The metadata may be missing for a moment after a reconnect.
      this.#note("kafka_metadata_missing", error);
      void this.#refresh();
      this.#wake(MAX_RETRY_MS);
    } finally {
      this.#pumping = false;
    }
  }

  async #send(leader: number, queues: PartitionQueue[]): Promise<void> {
    let broker: InternalBroker | undefined;
    let stale = false;
    try {
      this.#options.onAttempt?.();
      await this.#cluster.refreshMetadataIfNecessary();
      broker = await this.#cluster.findBroker({ nodeId: leader });
      const answer = await refreshWhileWaiting(produce(broker, queues), () => this.#refresh());
      for (const queue of queues) {
        const code =
          answer.topics
            .find(({ topicName }) => topicName === queue.topic)
            ?.partitions.find(({ partition }) => partition === queue.partition)?.errorCode ?? UNANSWERED;
        stale = (await this.#settle(queue, code)) || stale;
      }
    } catch (error) {
      stale = true;
      this.#note("kafka_send_failed", error, { leader });
      if ((error as Error).name === "KafkaJSConnectionClosedError" && broker) {
        void broker.disconnect().catch(() => {});
        this.#cluster.removeBroker(broker.connectionPool);
      }
      // Whether the batch arrived is unknown: it stays in flight, and the broker recognises a duplicate.
      for (const queue of queues) if (queue.inFlight) this.#retryLater(queue, (error as Error).name);
    }
    if (stale) await this.#refresh();
    this.#busyLeaders.delete(leader);
    for (const queue of queues) queue.sending = false;
    const full = queues.some((queue) => queue.waiting.length >= BATCH_EVENTS || queue.waitingBytes >= BATCH_BYTES);
    if (full || queues.some((queue) => queue.inFlight)) this.#pump();
    // Other queues of the same leader may have waited for this request.
    this.#wake(this.#lingerMs);
  }

  /** Applies a partition's answer; true when the metadata may be stale. */
  async #settle(queue: PartitionQueue, code: number): Promise<boolean> {
    const batch = queue.inFlight!;
    if (code === NO_ERROR || code === DUPLICATE_SEQUENCE) {
      queue.sequence = sequenceAfter(queue.sequence, batch.length);
      queue.inFlight = undefined;
      queue.attempt = 0;
      this.#refusedBy = undefined;
      this.#release(batch, "acknowledged");
      return false;
    }
    if (TOO_LARGE_CODES.has(code)) {
      // The broker appended nothing, so a smaller batch can use the same sequence numbers.
      if (batch.length === 1) {
        queue.inFlight = undefined;
        this.#release(batch, "too_large");
      } else {
        const rest = batch.splice(Math.ceil(batch.length / 2));
        queue.waiting.unshift(...rest);
        for (const { bytes } of rest) queue.waitingBytes += bytes;
      }
      return false;
    }
    if (LOST_PRODUCER_CODES.has(code)) {
      this.#note("producer_id_lost", errorOf(code), { topic: queue.topic, partition: queue.partition });
      this.#options.onRetry?.("producer_id_lost");
      const fresh = await this.#newIdentity().catch((error) => this.#note("kafka_send_failed", error));
      if (fresh) {
        queue.producerId = fresh.producerId;
        queue.producerEpoch = fresh.producerEpoch;
        queue.sequence = 0;
      } else {
        this.#retryLater(queue, "producer_id_lost");
      }
      return true;
    }
    const error = errorOf(code);
    this.#retryLater(queue, error.type);
    if (error.retriable || UNKNOWN_RETRIABLE_CODES.has(code) || code === UNANSWERED) {
      this.#note("kafka_send_failed", error, { topic: queue.topic, partition: queue.partition });
    } else {
      queue.notBefore = performance.now() + OPERATOR_RETRY_MS;
      this.#refusedBy = error.type;
      this.#note("kafka_refuses", error, { topic: queue.topic, partition: queue.partition });
    }
    return true;
  }

  #retryLater(queue: PartitionQueue, cause: string): void {
    queue.notBefore = performance.now() + backoffMs(queue.attempt++);
    this.#options.onRetry?.(cause);
  }

  #release(batch: readonly QueuedEvent[], outcome: "acknowledged" | "too_large"): void {
    const now = performance.now();
    let bytes = 0;
    for (const queued of batch) bytes += queued.bytes;
    this.#bufferedEvents -= batch.length;
    this.#bufferedBytes -= bytes;
    this.#lastAckAt = now;
    if (outcome === "acknowledged") {
      this.#options.onBatch?.({ events: batch.length, latencyMs: now - batch[0]!.offeredAt });
    }
    for (const { outgoing } of batch) outgoing.settled(outcome);
    if (this.#roomWaiters.length > 0) for (const wake of this.#roomWaiters.splice(0)) wake();
    if (this.#bufferedEvents === 0) for (const wake of this.#emptyWaiters.splice(0)) wake();
  }

  /** Reconnects if needed and refreshes the metadata; concurrent calls share one refresh; never rejects. */
  #refresh(): Promise<void> {
    this.#refreshing ??= (async () => {
      try {
        if (this.#stopped) return;
        if (!this.#cluster.isConnected()) await this.#cluster.connect();
        await this.#cluster.refreshMetadata();
        this.#route();
      } catch (error) {
        this.#note("kafka_unreachable", error);
      } finally {
        this.#refreshing = undefined;
      }
    })();
    return this.#refreshing;
  }

  #note(event: string, error: unknown, fields: Record<string, unknown> = {}): void {
    const suppressed = this.#throttle.allow(event);
    if (suppressed === undefined) return;
    const level = event === "kafka_refuses" ? "error" : "warn";
    this.#options.log.log(level, event, {
      ...fields,
      error,
      buffered_events: this.#bufferedEvents,
      ...(suppressed > 0 ? { suppressed } : {}),
    });
  }
}

/** The answer lacks a partition of the request; not a code of Kafka's. */
const UNANSWERED = -1000;

const backoffMs = (attempt: number): number => Math.min(FIRST_RETRY_MS * 1.5 ** Math.min(attempt, 10), MAX_RETRY_MS);

function errorOf(code: number): Error & { type: string; code: number; retriable: boolean } {
  const error = protocolErrors.createErrorFromCode(code);
  // kafkajs' table lacks newer codes: keep the number.
  if (error.type === "KAFKAJS_UNKNOWN_ERROR_CODE") error.type = `ERROR_${code}`;
  else error.message = `${error.type}: ${error.message}`;
  return error;
}

function isOperatorError(error: unknown): boolean {
  const type = (error as { type?: string }).type;
  return type !== undefined && (error as { retriable?: boolean }).retriable === false;
}

function takeBatch(queue: PartitionQueue): QueuedEvent[] {
  let count = 0;
  let bytes = 0;
  while (count < queue.waiting.length && count < BATCH_EVENTS) {
    bytes += queue.waiting[count]!.bytes;
    if (bytes > BATCH_BYTES && count > 0) {
      bytes -= queue.waiting[count]!.bytes;
      break;
    }
    count++;
  }
  queue.waitingBytes -= bytes;
  if (count === queue.waiting.length) {
    const batch = queue.waiting;
    queue.waiting = [];
    return batch;
  }
  return queue.waiting.splice(0, count);
}

/** Sends one produce request with the in-flight batches of these queues; returns the answer of each partition. */
async function produce(broker: InternalBroker, queues: readonly PartitionQueue[]): Promise<ProduceAnswer> {
  const byTopic = new Map<string, { partition: number; firstSequence: number; messages: QueuedEvent[] }[]>();
  const nowMs = Date.now();
  for (const { topic, partition, sequence, inFlight } of queues) {
    // Only after the clock was set back. A broker refuses records that are an hour ahead.
    for (const queued of inFlight!) if (queued.timestamp > nowMs) queued.timestamp = nowMs;
    const entry = { partition, firstSequence: sequence, messages: inFlight! };
    const entries = byTopic.get(topic);
    if (entries) entries.push(entry);
    else byTopic.set(topic, [entry]);
  }
  const create = broker.lookupRequest(PRODUCE_API_KEY, protocol.requests.Produce);
  const { request, response } = create({
    acks: -1,
    timeout: PRODUCE_TIMEOUT_MS,
    producerId: queues[0]!.producerId,
    producerEpoch: queues[0]!.producerEpoch,
    topicData: [...byTopic].map(([topic, partitions]) => ({ topic, partitions })),
  });
  // kafkajs' parse() throws the first partition's error and hides the success of the others.
  const call = { request, response: { decode: response.decode, parse: async (data: unknown) => data } };
  const connection = await broker.connectionPool.getConnection(PRODUCE_CONNECTION);
  return (await connection.send(call)) as ProduceAnswer;
}
