/**
 * Sends events to Kafka so that none is lost, doubled or reordered within its partition, over kafkajs' cluster and
 * protocol code but with a send loop of its own.
 *
 * Why its own: kafkajs' send() groups messages by broker and remembers which broker has answered. If one broker fails
 * while another has answered, and leadership of the failed partitions moves to the one that answered, the retry skips
 * that broker and send() reports success for messages that were never sent (tests/services/kafka/kafkajs-send.test.ts
 * shows it). If one broker fails while another has not answered yet, the retry sends the slow one's messages a second time
 * under new sequence numbers.
 *
 * Here each partition is a lane: a queue and at most one batch in flight. A batch, once formed, is frozen (same events,
 * same sequence numbers) until Kafka has acknowledged it, so that a retry after a lost answer is recognised by the
 * broker as the same batch, whoever leads the partition by then. A lane whose sequence the broker no longer accepts
 * gets a new producer id and sends the frozen batch again. Nothing is dropped: what cannot be sent stays in the buffer,
 * the buffer is bounded, and `offer` says when it is full.
 */
import { Partitioners } from "kafkajs";
import type Cluster from "kafkajs/src/cluster/index.js";
import type { InternalBroker, ProduceAnswer } from "kafkajs/src/cluster/index.js";
import protocolErrors from "kafkajs/src/protocol/error.js";
import protocol from "kafkajs/src/protocol/requests/index.js";
import type { KafkaConfig } from "../runtime/config.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";
import { createCluster, REQUEST_TIMEOUT_MS } from "./client.ts";
import { refreshWhileWaiting } from "./refresh-while-waiting.ts";

/** Waits this long for company before a small batch is sent: unnoticeable, and 14 times fewer requests. */
export const LINGER_MS = 10;
/** Events of one partition per request: kafkajs encodes 1,000 as cheaply as more, and a retry stays small. */
export const BATCH_EVENTS = 1000;
/** Below the topic's max.message.bytes (1 MiB) with room for record overhead. */
export const BATCH_BYTES = 700 * 1024;
/** The broker answers "not replicated in time" before the client gives the connection up. */
const PRODUCE_TIMEOUT_MS = REQUEST_TIMEOUT_MS - 1000;
/** What a record costs beyond key and value; a generous round number for the buffer's accounts. */
const RECORD_OVERHEAD_BYTES = 64;
/**
 * Brokers that restart close their connections. A producer with nothing to send must notice by itself: whoever asks
 * whether it is ready may be what keeps events from it.
 */
const KEEP_CONNECTED_MS = 2000;
/** More than the largest event or dead letter, so that after whenRoom() an offer succeeds. */
const ROOM_BYTES = 32 * 1024;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 500;
/** Errors that only an operator can end (a missing right, a missing topic): ask again, but not eagerly. */
const OPERATOR_RETRY_MS = 2000;
/** Keys are conveyors: tens. An HTTP client that invents names must not fill the memory. */
const MAX_MEMOISED_KEYS = 10_000;
const LOG_INTERVAL_MS = 5000;
/** Sequence numbers are 31 bits and start again at 0 after the last. */
const SEQUENCE_MODULUS = 2 ** 31;
const PRODUCE_API_KEY = 0;
/**
 * kafkajs keeps two connections per broker and uses the second for fetches alone. A broker answers a connection's
 * requests in order: a batch that waits for a lost replica would hold up the metadata that says who leads now.
 */
const PRODUCE_CONNECTION = 1;
const NO_ERROR = 0;
const DUPLICATE_SEQUENCE = 46;
/** The broker no longer follows this producer id on this partition. */
const LOST_PRODUCER_CODES: ReadonlySet<number> = new Set([45, 47, 49, 59, 90]);
const TOO_LARGE_CODES: ReadonlySet<number> = new Set([10, 18]);
/** Newer than kafkajs' table of codes, and worth a retry all the same. */
const UNKNOWN_RETRIABLE_CODES: ReadonlySet<number> = new Set([89, 97, 100]);

export interface Outgoing {
  topic: string;
  key: string | Uint8Array | null;
  value: string | Uint8Array;
  headers?: Record<string, string>;
  /** Told once: when Kafka has it on enough replicas, or (only for what can never be sent) why not. */
  settled(outcome: "acknowledged" | "too_large"): void;
}

export interface BatchReport {
  topic: string;
  partition: number;
  events: number;
  bytes: number;
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
  /** Every attempt to connect or to send: a sign of life. */
  onAttempt?: () => void;
  onBatch?: (report: BatchReport) => void;
  onRetry?: (cause: string) => void;
  /** For tests: stands in for kafkajs' cluster. */
  createCluster?: () => Cluster;
}

export interface Queued {
  // Names as kafkajs' encoder reads them.
  key: string | Uint8Array | null;
  value: string | Uint8Array;
  headers: Record<string, string> | undefined;
  outgoing: Outgoing;
  bytes: number;
  offeredAt: number;
}

export interface PartitionQueue {
  topic: string;
  partition: number;
  queue: Queued[];
  queuedBytes: number;
  /** The batch that is being sent or sent again; untouched until acknowledged. */
  frozen: Queued[] | undefined;
  inFlight: boolean;
  producerId: string | undefined;
  producerEpoch: number;
  sequence: number;
  attempt: number;
  notBefore: number;
}

interface TopicState {
  /** Events offered before the partitions were known. */
  unrouted: Queued[];
  lanes: PartitionQueue[];
  partitionOf: Map<string, number>;
}

const byteLength = (value: string | Uint8Array | null): number =>
  value === null ? 0 : typeof value === "string" ? Buffer.byteLength(value) : value.byteLength;

/** kafkajs' encoder knows text and Buffer; any other array of bytes it would write as text. */
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
      this.#topics.set(topic, { unrouted: [], lanes: [], partitionOf: new Map() });
    }
    this.#cluster =
      options.createCluster?.() ?? createCluster(options.kafka, options.clientId, options.log, options.onAttempt);
  }

  /** Events accepted and not yet settled. */
  get bufferedEvents(): number {
    return this.#bufferedEvents;
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
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

  /** Kafka's error while an operator is needed ("TOPIC_AUTHORIZATION_FAILED"), otherwise undefined. */
  get refusedBy(): string | undefined {
    return this.#refusedBy;
  }

  /** Milliseconds since the last acknowledgement, or since the buffer last was empty. */
  get stalledMs(): number {
    return this.#bufferedEvents === 0 ? 0 : performance.now() - this.#lastAckAt;
  }

  /** Connects in the background, for as long as it takes. */
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
        await pause(isOperatorError(error) ? OPERATOR_RETRY_MS : backoffMs(attempt));
      }
    }
  }

  async #newIdentity(): Promise<{ producerId: string; producerEpoch: number }> {
    const broker = await this.#cluster.findControllerBroker();
    const { producerId, producerEpoch } = await broker.initProducerId({ transactionTimeout: REQUEST_TIMEOUT_MS });
    return { producerId: String(producerId), producerEpoch };
  }

  /** Whether the buffer has room for that many more events of that many bytes. */
  hasRoom(events = 1, bytes = 0): boolean {
    return (
      this.#bufferedEvents + events <= this.#options.maxBufferedEvents &&
      this.#bufferedBytes + bytes <= this.#options.maxBufferedBytes
    );
  }

  /** Takes an event, or returns false when the buffer is full (nothing is kept then). */
  offer(outgoing: Outgoing): boolean {
    const bytes = byteLength(outgoing.key) + byteLength(outgoing.value) + RECORD_OVERHEAD_BYTES;
    if (this.#stopped || !this.hasRoom(1, bytes)) return false;
    const topic = this.#topics.get(outgoing.topic);
    if (!topic) throw new Error(`topic ${outgoing.topic} was not declared to this producer`);
    if (this.#bufferedEvents === 0) this.#lastAckAt = performance.now();
    const queued: Queued = {
      key: asBuffer(outgoing.key),
      value: asBuffer(outgoing.value),
      headers: outgoing.headers,
      outgoing,
      bytes,
      offeredAt: performance.now(),
    };
    this.#bufferedEvents++;
    this.#bufferedBytes += bytes;
    if (topic.lanes.length === 0) {
      topic.unrouted.push(queued);
    } else {
      const lane = this.#laneOf(outgoing.topic, topic, queued);
      lane.queue.push(queued);
      lane.queuedBytes += bytes;
      const full = lane.queue.length >= BATCH_EVENTS || lane.queuedBytes >= BATCH_BYTES;
      if (!lane.inFlight) this.#wake(full ? 0 : this.#lingerMs);
    }
    return true;
  }

  /** Waits for room for one more event of any valid size; false when the producer has stopped instead. */
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

  /** Ends it; what is still unsettled stays so. Flush first. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearInterval(this.#keeper);
    for (const wake of [...this.#roomWaiters.splice(0), ...this.#emptyWaiters.splice(0)]) wake();
    await this.#cluster.disconnect();
  }

  /** For tests: the lanes of a topic. */
  lanesForTest(topic: string): readonly PartitionQueue[] {
    return this.#topics.get(topic)?.lanes ?? [];
  }

  #laneOf(name: string, topic: TopicState, queued: Queued): PartitionQueue {
    const { key } = queued;
    const count = topic.lanes.length;
    let partition = typeof key === "string" ? topic.partitionOf.get(key) : undefined;
    if (partition === undefined) {
      partition = this.#partitioner({
        topic: name,
        partitionMetadata: topic.lanes.map((lane) => ({ partitionId: lane.partition, leader: 0 })) as never,
        message: { key: key as string | Buffer | null, value: null },
      });
      if (typeof key === "string") {
        if (topic.partitionOf.size >= MAX_MEMOISED_KEYS) topic.partitionOf.clear();
        topic.partitionOf.set(key, partition);
      }
    }
    return topic.lanes[partition % count]!;
  }

  /** Makes lanes for partitions that became known and deals out what waited for them. */
  #route(): void {
    for (const [name, topic] of this.#topics) {
      const partitions = this.#cluster.findTopicPartitionMetadata(name);
      if (partitions.length <= topic.lanes.length) continue;
      for (let partition = topic.lanes.length; partition < partitions.length; partition++) {
        topic.lanes.push({
          topic: name,
          partition,
          queue: [],
          queuedBytes: 0,
          frozen: undefined,
          inFlight: false,
          producerId: undefined,
          producerEpoch: 0,
          sequence: 0,
          attempt: 0,
          notBefore: 0,
        });
      }
      topic.partitionOf.clear();
      for (const queued of topic.unrouted.splice(0)) {
        const lane = this.#laneOf(name, topic, queued);
        lane.queue.push(queued);
        lane.queuedBytes += queued.bytes;
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

  /** Sends what may be sent: one request per leader, one batch per lane. */
  #pump(): void {
    if (this.#pumping || this.#stopped || this.#identity === undefined) return;
    this.#pumping = true;
    try {
      const now = performance.now();
      const byLeader = new Map<number, PartitionQueue[]>();
      let earliest = Number.POSITIVE_INFINITY;
      for (const [name, topic] of this.#topics) {
        if (topic.lanes.length === 0) continue;
        const metadata = this.#cluster.findTopicPartitionMetadata(name);
        for (const lane of topic.lanes) {
          if (lane.inFlight || (lane.frozen === undefined && lane.queue.length === 0)) continue;
          if (lane.notBefore > now) {
            earliest = Math.min(earliest, lane.notBefore);
            continue;
          }
          const leader = metadata.find(({ partitionId }) => partitionId === lane.partition)?.leader ?? -1;
          if (this.#busyLeaders.has(leader)) continue;
          const lanes = byLeader.get(leader);
          // One request carries one producer id; a lane with another one goes with the next request.
          const producerId = lane.producerId ?? this.#identity.producerId;
          if (lanes === undefined) byLeader.set(leader, [lane]);
          else if ((lanes[0]!.producerId ?? this.#identity.producerId) === producerId) lanes.push(lane);
        }
      }
      if (earliest < Number.POSITIVE_INFINITY) this.#wake(earliest - now);
      for (const [leader, lanes] of byLeader) {
        this.#busyLeaders.add(leader);
        for (const lane of lanes) {
          lane.inFlight = true;
          lane.frozen ??= takeBatch(lane);
          if (lane.producerId === undefined) {
            lane.producerId = this.#identity.producerId;
            lane.producerEpoch = this.#identity.producerEpoch;
          }
        }
        void this.#send(leader, lanes);
      }
    } catch (error) {
      // Metadata may be missing for a moment after a reconnect.
      this.#note("kafka_metadata_missing", error);
      void this.#refresh();
      this.#wake(MAX_RETRY_MS);
    } finally {
      this.#pumping = false;
    }
  }

  async #send(leader: number, lanes: PartitionQueue[]): Promise<void> {
    let broker: InternalBroker | undefined;
    let stale = false;
    try {
      this.#options.onAttempt?.();
      await this.#cluster.refreshMetadataIfNecessary();
      broker = await this.#cluster.findBroker({ nodeId: leader });
      const answer = await refreshWhileWaiting(produce(broker, lanes), () => this.#refresh());
      for (const lane of lanes) {
        const code =
          answer.topics
            .find(({ topicName }) => topicName === lane.topic)
            ?.partitions.find(({ partition }) => partition === lane.partition)?.errorCode ?? UNANSWERED;
        stale = (await this.#settle(lane, code)) || stale;
      }
    } catch (error) {
      stale = true;
      this.#note("kafka_send_failed", error, { leader });
      if ((error as Error).name === "KafkaJSConnectionClosedError" && broker) {
        void broker.disconnect().catch(() => {});
        this.#cluster.removeBroker(broker.connectionPool);
      }
      // Whether the batch arrived is unknown: it stays frozen, and the broker will know it again.
      for (const lane of lanes) if (lane.frozen) this.#retryLater(lane, (error as Error).name);
    }
    if (stale) await this.#refresh();
    this.#busyLeaders.delete(leader);
    for (const lane of lanes) lane.inFlight = false;
    const full = lanes.some((lane) => lane.queue.length >= BATCH_EVENTS || lane.queuedBytes >= BATCH_BYTES);
    if (full || lanes.some((lane) => lane.frozen)) this.#pump();
    // Lanes of the same leader may have waited for it.
    this.#wake(this.#lingerMs);
  }

  /** What a partition's answer means; true when the metadata may be stale. */
  async #settle(lane: PartitionQueue, code: number): Promise<boolean> {
    const batch = lane.frozen!;
    if (code === NO_ERROR || code === DUPLICATE_SEQUENCE) {
      lane.sequence = (lane.sequence + batch.length) % SEQUENCE_MODULUS;
      lane.frozen = undefined;
      lane.attempt = 0;
      this.#refusedBy = undefined;
      this.#release(lane, batch, "acknowledged");
      return false;
    }
    if (TOO_LARGE_CODES.has(code)) {
      // Refused as a whole and not appended, so its sequence numbers are free to be used by a smaller batch.
      if (batch.length === 1) {
        lane.frozen = undefined;
        this.#release(lane, batch, "too_large");
      } else {
        const rest = batch.splice(Math.ceil(batch.length / 2));
        lane.queue.unshift(...rest);
        for (const { bytes } of rest) lane.queuedBytes += bytes;
      }
      return false;
    }
    if (LOST_PRODUCER_CODES.has(code)) {
      this.#note("producer_id_lost", errorOf(code), { topic: lane.topic, partition: lane.partition });
      this.#options.onRetry?.("producer_id_lost");
      const fresh = await this.#newIdentity().catch((error) => this.#note("kafka_send_failed", error));
      if (fresh) {
        lane.producerId = fresh.producerId;
        lane.producerEpoch = fresh.producerEpoch;
        lane.sequence = 0;
      } else {
        this.#retryLater(lane, "producer_id_lost");
      }
      return true;
    }
    const error = errorOf(code);
    this.#retryLater(lane, error.type);
    if (error.retriable || UNKNOWN_RETRIABLE_CODES.has(code) || code === UNANSWERED) {
      this.#note("kafka_send_failed", error, { topic: lane.topic, partition: lane.partition });
    } else {
      lane.notBefore = performance.now() + OPERATOR_RETRY_MS;
      this.#refusedBy = error.type;
      this.#note("kafka_refuses", error, { topic: lane.topic, partition: lane.partition });
    }
    return true;
  }

  #retryLater(lane: PartitionQueue, cause: string): void {
    lane.notBefore = performance.now() + backoffMs(lane.attempt++);
    this.#options.onRetry?.(cause);
  }

  #release(lane: PartitionQueue, batch: readonly Queued[], outcome: "acknowledged" | "too_large"): void {
    const now = performance.now();
    let bytes = 0;
    for (const queued of batch) bytes += queued.bytes;
    this.#bufferedEvents -= batch.length;
    this.#bufferedBytes -= bytes;
    this.#lastAckAt = now;
    if (outcome === "acknowledged") {
      this.#options.onBatch?.({
        topic: lane.topic,
        partition: lane.partition,
        events: batch.length,
        bytes,
        latencyMs: now - batch[0]!.offeredAt,
      });
    }
    for (const { outgoing } of batch) outgoing.settled(outcome);
    if (this.#roomWaiters.length > 0) for (const wake of this.#roomWaiters.splice(0)) wake();
    if (this.#bufferedEvents === 0) for (const wake of this.#emptyWaiters.splice(0)) wake();
  }

  /** Reconnects if needed and reads the metadata anew; shared by all that ask at the same time; never rejects. */
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

/** No answer for a partition that was asked about; not a code of Kafka's. */
const UNANSWERED = -1000;

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

const backoffMs = (attempt: number): number => Math.min(FIRST_RETRY_MS * 1.5 ** Math.min(attempt, 10), MAX_RETRY_MS);

function errorOf(code: number): Error & { type: string; code: number; retriable: boolean } {
  const error = protocolErrors.createErrorFromCode(code);
  // kafkajs' table ends before Kafka's: keep the number.
  if (error.type === "KAFKAJS_UNKNOWN_ERROR_CODE") error.type = `ERROR_${code}`;
  else error.message = `${error.type}: ${error.message}`;
  return error;
}

function isOperatorError(error: unknown): boolean {
  const type = (error as { type?: string }).type;
  return type !== undefined && (error as { retriable?: boolean }).retriable === false;
}

function takeBatch(lane: PartitionQueue): Queued[] {
  let count = 0;
  let bytes = 0;
  while (count < lane.queue.length && count < BATCH_EVENTS) {
    bytes += lane.queue[count]!.bytes;
    if (bytes > BATCH_BYTES && count > 0) {
      bytes -= lane.queue[count]!.bytes;
      break;
    }
    count++;
  }
  lane.queuedBytes -= bytes;
  if (count === lane.queue.length) {
    const batch = lane.queue;
    lane.queue = [];
    return batch;
  }
  return lane.queue.splice(0, count);
}

/** One produce request for the frozen batches of these lanes, and every partition's own answer. */
async function produce(broker: InternalBroker, lanes: readonly PartitionQueue[]): Promise<ProduceAnswer> {
  const byTopic = new Map<string, { partition: number; firstSequence: number; messages: Queued[] }[]>();
  for (const { topic, partition, sequence, frozen } of lanes) {
    const entry = { partition, firstSequence: sequence, messages: frozen! };
    const entries = byTopic.get(topic);
    if (entries) entries.push(entry);
    else byTopic.set(topic, [entry]);
  }
  const create = broker.lookupRequest(PRODUCE_API_KEY, protocol.requests.Produce);
  const { request, response } = create({
    acks: -1,
    timeout: PRODUCE_TIMEOUT_MS,
    producerId: lanes[0]!.producerId,
    producerEpoch: lanes[0]!.producerEpoch,
    topicData: [...byTopic].map(([topic, partitions]) => ({ topic, partitions })),
  });
  // kafkajs' own parse throws the first partition's error and hides the others' success.
  const call = { request, response: { decode: response.decode, parse: async (data: unknown) => data } };
  const connection = await broker.connectionPool.getConnection(PRODUCE_CONNECTION);
  return (await connection.send(call)) as ProduceAnswer;
}
