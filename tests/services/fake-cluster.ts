/**
 * Replaces kafkajs' cluster below the event producer, for answers that real brokers cannot be made to send at a given
 * moment. It keeps a log per partition and checks sequence numbers like a broker.
 */
import type { KafkaCluster } from "../../services/kafka/client.ts";
import { EventProducer, type EventProducerOptions } from "../../services/kafka/event-producer.ts";
import { EventPublisher } from "../../services/producer/event-publisher.ts";
import type { EventSchemas } from "../../services/producer/event-schemas.ts";
import { Logger } from "../../services/runtime/log.ts";
import { Metrics } from "../../services/runtime/metrics.ts";

export const TOPIC = "conveyor.events";
export const DLQ = "conveyor.events.dlq";
export const silent = new Logger("test", "error", {}, () => {});

/** A producer on a fake cluster, not started. */
export const producerOn = (cluster: FakeCluster, options: Partial<EventProducerOptions> = {}) =>
  new EventProducer({
    kafka: { brokers: [], tls: { ca: "", cert: "", key: "" } },
    clientId: "test",
    log: silent,
    topics: [TOPIC, DLQ],
    maxBufferedEvents: 20_000,
    maxBufferedBytes: 32 * 1024 * 1024,
    lingerMs: 1,
    createCluster: () => cluster as unknown as KafkaCluster,
    ...options,
  });

export const publisherOn = (producer: EventProducer, log = silent, schemas?: EventSchemas) =>
  new EventPublisher({
    run: "pod-run",
    producer,
    topic: TOPIC,
    dlqTopic: DLQ,
    ...(schemas ? { schemas } : {}),
    metrics: new Metrics("producer"),
    log,
    traceEverySeq: 0,
  });

interface FakeRecord {
  key: string | null;
  value: string;
  headers: Record<string, string> | undefined;
}

type Message = { key: unknown; value: unknown; timestamp: number; headers?: Record<string, string> };

interface ProduceOptions {
  producerId: string;
  topicData: {
    topic: string;
    partitions: {
      partition: number;
      firstSequence: number;
      messages: Message[];
    }[];
  }[];
}

interface ProduceCall {
  leader: number;
  producerId: string;
  partitions: { topic: string; partition: number; firstSequence: number; count: number }[];
}

const OUT_OF_ORDER = 45;
const NOT_LEADER = 6;

export class FakeCluster {
  readonly log = new Map<string, FakeRecord[]>();
  /** Times of the records by value. */
  readonly timestampsMs = new Map<string, number>();
  readonly calls: ProduceCall[] = [];
  leaders: number[];
  connected = false;
  /**
   * Answers instead of the usual ones; "lost": appended, but the answer never arrives; "cut off": no answer until the
   * metadata name another leader (patches/gone-broker.ts).
   */
  script:
    | ((call: ProduceCall, index: number) => Record<string, number> | "lost" | "unreachable" | "cut off" | undefined)
    | undefined;
  connectError: Error | undefined;
  delayMs = 0;
  #ids = 0;
  readonly #cutOff = new Map<number, () => void>();
  readonly #sequences = new Map<string, { first: number; last: number }>();

  constructor(partitions: number, brokers = 1) {
    this.leaders = Array.from({ length: partitions }, (_, partition) => partition % brokers);
  }

  records(topic: string): FakeRecord[] {
    return [...this.log].filter(([key]) => key.startsWith(`${topic}/`)).flatMap(([, records]) => records);
  }

  isConnected() {
    return this.connected;
  }
  async connect() {
    if (this.connectError) throw this.connectError;
    this.connected = true;
  }
  async disconnect() {
    this.connected = false;
  }
  async refreshMetadata() {
    if (this.connectError) throw this.connectError;
    for (const [leader, abort] of this.#cutOff) if (!this.leaders.includes(leader)) abort();
  }
  async refreshMetadataIfNecessary() {}
  async addMultipleTargetTopics() {}
  removeBroker() {}
  findTopicPartitionMetadata() {
    return this.leaders.map((leader, partitionId) => ({ partitionId, leader, partitionErrorCode: 0 }));
  }
  async findControllerBroker() {
    return { initProducerId: async () => ({ producerId: String(++this.#ids), producerEpoch: 0 }) };
  }
  async findBroker({ nodeId }: { nodeId: number | string }) {
    const leader = Number(nodeId);
    return {
      nodeId: leader,
      connectionPool: {
        host: "fake",
        port: leader,
        getConnection: async () => ({
          send: async (call: { request: ProduceOptions }) => this.#produce(leader, call.request),
        }),
      },
      disconnect: async () => {},
      lookupRequest: () => (options: unknown) => ({
        request: options,
        response: { decode: async (raw: unknown) => raw, parse: async (data: unknown) => data },
      }),
    };
  }

  async #produce(leader: number, { producerId, topicData }: ProduceOptions) {
    const call: ProduceCall = {
      leader,
      producerId,
      partitions: topicData.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition, firstSequence, messages }) => ({
          topic,
          partition,
          firstSequence,
          count: messages.length,
        })),
      ),
    };
    const index = this.calls.push(call) - 1;
    if (this.delayMs > 0) await Bun.sleep(this.delayMs);
    const scripted = this.script?.(call, index);
    if (scripted === "unreachable") throw connectionClosed();
    if (scripted === "cut off") {
      await new Promise<void>((resolve) => this.#cutOff.set(leader, resolve));
      throw connectionClosed();
    }
    const topics = topicData.map(({ topic, partitions }) => ({
      topicName: topic,
      partitions: partitions.map(({ partition, firstSequence, messages }) => {
        const key = `${topic}/${partition}`;
        const forced = scripted === "lost" ? undefined : scripted?.[key];
        const errorCode = forced ?? this.#append(leader, key, partition, producerId, firstSequence, messages);
        return { partition, errorCode, baseOffset: "0" };
      }),
    }));
    if (scripted === "lost") throw connectionClosed();
    return { topics };
  }

  #append(
    leader: number,
    key: string,
    partition: number,
    producerId: string,
    firstSequence: number,
    messages: Message[],
  ): number {
    if (this.leaders[partition] !== leader) return NOT_LEADER;
    const identity = `${key} ${producerId}`;
    const before = this.#sequences.get(identity);
    const last = firstSequence + messages.length - 1;
    // A duplicate batch is acknowledged without being appended.
    if (before && before.first === firstSequence && before.last === last) return 0;
    if (firstSequence !== (before ? before.last + 1 : 0)) return OUT_OF_ORDER;
    this.#sequences.set(identity, { first: firstSequence, last });
    const records = this.log.get(key) ?? [];
    for (const { key, value, timestamp, headers } of messages) {
      records.push({ key: key === null ? null : String(key), value: String(value), headers });
      this.timestampsMs.set(String(value), timestamp);
    }
    this.log.set(key, records);
    return 0;
  }

  /** Loses the state of all producer ids, as a broker may. */
  forget(): void {
    for (const [identity, { last }] of this.#sequences) this.#sequences.set(identity, { first: -5, last: last + 1000 });
  }
}

function connectionClosed(): Error {
  return Object.assign(new Error("Closed connection"), { name: "KafkaJSConnectionClosedError", retriable: true });
}
