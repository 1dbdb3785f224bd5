/** The parts of kafkajs 2.2.4 below its public interface that this project and its tests use. */

declare module "kafkajs/src/network/requestQueue/index.js" {
  export default class RequestQueue {
    pending: unknown[];
    /** `sentMs`: patch clock-request-timeout. */
    inflight: Map<number, { sentMs: number; requestTimeout: number; timeoutRequest(): void }>;
    throttledUntil: number;
    throttleCheckTimeoutId: ReturnType<typeof setTimeout> | null;
    requestTimeout: number;
    requestTimeoutIntervalId: ReturnType<typeof setInterval> | undefined;
    enforceRequestTimeout: boolean;
    isConnected: () => boolean;
    constructor(options: Record<string, unknown>);
    destroy(): void;
    checkPendingRequests(): void;
    maybeThrottle(throttleMs: number | null): void;
    scheduleCheckPendingRequests(): void;
    scheduleRequestTimeoutCheck(): void;
  }
}

declare module "kafkajs/src/network/requestQueue/socketRequest.js" {
  export default class SocketRequest {
    /** Patch clock-request-timeout: monotonic. */
    sentMs: number;
    constructor(options: Record<string, unknown>);
    send(): void;
  }
}

declare module "kafkajs/src/network/connection.js" {
  interface ProtocolCall {
    request: { apiKey: number; apiName: string };
    response: unknown;
    requestTimeout?: number | null;
    logResponseError?: boolean;
  }
  export default class Connection {
    host: string;
    port: number;
    socket: { connecting: boolean; destroy(): void; once(event: "close", listener: () => void): void } | undefined;
    connectionTimeout: number;
    connectionStatus: string;
    requestQueue: { inflight: Map<number, { sentMs: number }>; rejectAll(error: Error): void };
    isConnected(): boolean;
    connect(): Promise<boolean>;
    disconnect(): Promise<boolean>;
    send(call: ProtocolCall): Promise<unknown>;
  }
}

declare module "kafkajs/src/network/connectionStatus.js" {
  const status: { CONNECTION_STATUS: { DISCONNECTED: string } };
  export default status;
}

declare module "kafkajs/src/consumer/consumerGroup.js" {
  import type Batch from "kafkajs/src/consumer/batch.js";
  import type OffsetManager from "kafkajs/src/consumer/offsetManager/index.js";
  export default class ConsumerGroup {
    /** Time of the last heartbeat. */
    lastRequest: number;
    fetch(nodeId: number): Promise<Batch[]>;
    seek(at: { topic: string; partition: number; offset: string }): void;
    seekOffsets(ofNode: { topic: string; partitions: number[] }[]): Promise<void>;
    recoverFromOffsetOutOfRange(error: { topic: string; partition: number }): Promise<void>;
    heartbeat(options: { interval: number }): Promise<void>;
    commitOffsets(offsets?: unknown): Promise<void>;
    commitOffsetsIfNecessary(): Promise<void>;
    recoverFromFetch(error: Error): Promise<void>;
    groupId: string;
    cluster: { refreshMetadata(): Promise<void>; findGroupCoordinator(options: { groupId: string }): Promise<unknown> };
    coordinator: unknown;
    offsetManager: OffsetManager | null;
    memberId: string | null;
    joinAndSync(): Promise<void>;
    leave(): Promise<void>;
    getActiveTopicPartitions(): Record<string, Set<number>>;
  }
}

declare module "kafkajs/src/consumer/runner.js" {
  import type Batch from "kafkajs/src/consumer/batch.js";
  import type ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
  export default class Runner {
    consumerGroup: ConsumerGroup;
    running: boolean;
    fetchManager: { start(): Promise<void>; stop(): Promise<void> };
    onCrash: (error: Error) => unknown;
    constructor(options: Record<string, unknown>);
    start(): Promise<void>;
    stop(): Promise<void>;
    fetch(nodeId: number): Promise<Batch[]>;
    handleBatch(batch: Batch): Promise<void>;
  }
}

declare module "kafkajs/src/broker/index.js" {
  export default class Broker {
    connectionPool: { send(call: unknown): Promise<unknown> };
    constructor(options: Record<string, unknown>);
    lookupRequest(apiKey: number, definition: unknown): (options: Record<string, unknown>) => unknown;
    disconnect(): Promise<void>;
    joinGroup(options: Record<string, unknown>): Promise<unknown>;
  }
}

declare module "kafkajs/src/errors.js" {
  interface KafkaError extends Error {
    retriable?: boolean;
    type?: string;
  }
  const errors: {
    KafkaJSConnectionClosedError: new (message: string, options: { host: string; port: number }) => KafkaError;
    KafkaJSConnectionError: new (message: string, options: { broker: string; code?: string }) => KafkaError;
    KafkaJSNonRetriableError: new (message: string) => KafkaError;
  };
  export default errors;
}

declare module "kafkajs/src/protocol/error.js" {
  const errors: { createErrorFromCode(code: number): Error & { type: string; code: number; retriable: boolean } };
  export default errors;
}

declare module "kafkajs/src/loggers/index.js" {
  const loggers: { createLogger(options: { level: number; logCreator: unknown }): unknown };
  export default loggers;
}

declare module "kafkajs/src/network/socketFactory.js" {
  export default function defaultSocketFactory(): unknown;
}

declare module "kafkajs/src/protocol/requests/index.js" {
  export interface ProtocolRequest {
    request: unknown;
    response: { decode(raw: unknown): Promise<unknown>; parse(data: unknown): Promise<unknown> };
  }
  const protocol: {
    requests: {
      Produce: unknown;
      ApiVersions: unknown;
      JoinGroup: unknown;
      Metadata: {
        versions: string[];
        protocol(options: { version: number }): (options: Record<string, unknown>) => ProtocolRequest;
      };
    };
    lookup: unknown;
  };
  export default protocol;
}

declare module "kafkajs/src/protocol/decoder.js" {
  export default class Decoder {
    constructor(payload: unknown);
    readInt16(): number;
    readInt32(): number;
    readInt64(): { toString(): string };
    readBoolean(): boolean;
    readString(): string;
    readArray<T>(read: (decoder: Decoder) => T): T[];
  }
}

declare module "kafkajs/src/protocol/encoder.js" {
  export default class Encoder {
    buffer: Buffer;
    writeInt16(value: number): this;
    writeInt32(value: number): this;
    writeInt64(value: number): this;
    writeBoolean(value: boolean): this;
    writeString(value: string | null): this;
    writeBytes(value: Buffer): this;
    writeArray(values: (number | Encoder)[]): this;
  }
}

declare module "kafkajs/src/cluster/brokerPool.js" {
  import type { CoordinatorMetadata, CoordinatorQuery } from "kafkajs/src/cluster/index.js";
  import type Connection from "kafkajs/src/network/connection.js";
  export interface PooledBroker {
    nodeId: number;
    connectionPool: { host: string; port: number; pool: Connection[] };
    isConnected(): boolean;
    metadata(topics: string[]): Promise<never>;
    findGroupCoordinator(options: CoordinatorQuery): Promise<CoordinatorMetadata>;
  }
  export default class BrokerPool {
    brokers: Record<string, PooledBroker>;
    seedBroker: PooledBroker | undefined;
    metadata: unknown;
    metadataExpireAt: number | null;
    metadataMaxAge: number;
    constructor(options: Record<string, unknown>);
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    refreshMetadata(topics: string[]): Promise<void>;
    refreshMetadataIfNecessary(topics: string[]): Promise<void>;
    findBroker(options: { nodeId: string }): Promise<PooledBroker>;
    findConnectedBroker(): Promise<PooledBroker>;
    removeBroker(address: { host: string; port: number }): void;
    withBroker<T>(request: (target: { nodeId: string; broker: PooledBroker }) => Promise<T>): Promise<T | null>;
  }
}

declare module "kafkajs/src/admin/index.js" {
  import type { Admin } from "kafkajs";
  export default function createAdmin(options: Record<string, unknown>): Admin;
}
declare module "kafkajs/src/instrumentation/emitter.js" {
  export default class InstrumentationEventEmitter {}
}
declare module "kafkajs/src/cluster/index.js" {
  import type BrokerPool from "kafkajs/src/cluster/brokerPool.js";
  import type { ProtocolRequest } from "kafkajs/src/protocol/requests/index.js";
  export interface ProduceAnswer {
    topics: { topicName: string; partitions: { partition: number; errorCode: number; baseOffset: string }[] }[];
  }
  export interface InternalBroker {
    nodeId: number;
    connectionPool: {
      getConnection(index: number): Promise<{ send(call: unknown): Promise<unknown> }>;
      send(call: unknown): Promise<unknown>;
      host: string;
      port: number;
    };
    lookupRequest(apiKey: number, definition: unknown): (options: Record<string, unknown>) => ProtocolRequest;
    initProducerId(options: { transactionTimeout: number }): Promise<{ producerId: string; producerEpoch: number }>;
    fetch(options: Record<string, unknown>): Promise<unknown>;
    disconnect(): Promise<void>;
  }
  export interface GroupCoordinator {
    offsetFetch(options: {
      groupId: string;
      topics: { topic: string; partitions: { partition: number }[] }[];
    }): Promise<{ responses: { topic: string; partitions: { partition: number; offset: string }[] }[] }>;
    offsetCommit(options: Record<string, unknown>): Promise<unknown>;
  }
  export interface CoordinatorQuery {
    groupId: string;
    coordinatorType: number;
  }
  export interface CoordinatorMetadata {
    coordinator: { nodeId: number; host: string; port: number };
  }
  export default class Cluster {
    findGroupCoordinatorMetadata(query: CoordinatorQuery): Promise<CoordinatorMetadata>;
    constructor(options: Record<string, unknown>);
    readonly rootLogger: unknown;
    readonly brokerPool: BrokerPool;
    isConnected(): boolean;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    refreshMetadata(): Promise<void>;
    refreshMetadataIfNecessary(): Promise<void>;
    addMultipleTargetTopics(topics: string[]): Promise<void>;
    removeBroker(address: { host: string; port: number }): void;
    findBroker(options: { nodeId: number | string }): Promise<InternalBroker>;
    findControllerBroker(): Promise<InternalBroker>;
    findGroupCoordinator(options: { groupId: string }): Promise<GroupCoordinator>;
    findTopicPartitionMetadata(
      topic: string,
    ): { partitionId: number; leader: number; leaderEpoch?: number; partitionErrorCode: number }[];
    fetchTopicsOffset(
      topics: { topic: string; partitions: { partition: number }[]; fromBeginning: boolean }[],
    ): Promise<{ topic: string; partitions: { partition: number; offset: string }[] }[]>;
  }
}

declare module "kafkajs/src/producer/groupMessagesPerPartition.js" {
  export default function groupMessagesPerPartition<M>(options: {
    topic: string;
    partitionMetadata: unknown[];
    messages: M[];
    partitioner: (options: { message: M }) => number;
  }): Record<number, M[]>;
}

declare module "kafkajs/src/producer/sendMessages.js" {
  export default function createSendMessages(
    options: Record<string, unknown>,
  ): (options: { acks: number; topicMessages: { topic: string; messages: unknown[] }[] }) => Promise<unknown>;
}

declare module "kafkajs/src/protocol/requests/fetch/v11/response.js" {
  const response: { decode(payload: Buffer): Promise<unknown>; parse(data: unknown): Promise<unknown> };
  export default response;
}

declare module "kafkajs/src/protocol/recordBatch/v0/index.js" {
  const recordBatch: { RecordBatch(options: Record<string, unknown>): Promise<{ buffer: Buffer }> };
  export default recordBatch;
}

declare module "kafkajs/src/protocol/recordBatch/v0/decoder.js" {
  import type Decoder from "kafkajs/src/protocol/decoder.js";
  export default function decodeBatch(decoder: Decoder): Promise<{ records: unknown[] }>;
}

declare module "kafkajs/src/protocol/recordBatch/record/v0/index.js" {
  export default function Record(options: Record<string, unknown>): unknown;
}

declare module "kafkajs/src/consumer/batch.js" {
  export default class Batch {
    topic: string;
    partition: number;
    fetchedOffset: string;
    messages: unknown[];
    messagesWithinOffset: { offset: string; batchContext: { partitionLeaderEpoch: number } | undefined }[];
    constructor(topic: string, fetchedOffset: string, partitionData: unknown);
    lastOffset(): string;
  }
}

declare module "kafkajs/src/consumer/offsetManager/index.js" {
  import type Cluster from "kafkajs/src/cluster/index.js";

  interface CommittedTopic {
    topic: string;
    partitions: { partition: number; offset: string; metadata: string | null }[];
  }
  interface Coordinator {
    offsetFetch(options: {
      groupId: string;
      topics: { topic: string; partitions: { partition: number }[] }[];
    }): Promise<{ responses: CommittedTopic[] }>;
  }
  interface UncommittedOffsets {
    topics: { topic: string; partitions: { partition: number; offset: string; metadata?: string }[] }[];
  }
  export default class OffsetManager {
    constructor(options: Record<string, unknown>);
    lastCommit: number;
    commitOffsetsIfNecessary(): Promise<void>;
    cluster: Cluster;
    groupId: string;
    topics: string[];
    memberAssignment: Record<string, number[]>;
    topicConfigurations: Record<string, { fromBeginning?: boolean }>;
    resolvedOffsets: Record<string, Record<number, string>>;
    coordinator: unknown;
    getCoordinator(): Promise<Coordinator>;
    clearOffsets(at: { topic: string; partition: number }): void;
    resolveOffsets(): Promise<void>;
    uncommittedOffsets(): UncommittedOffsets;
    committedOffsets(): Record<string, Record<number, string>>;
    resolveOffset(options: { topic: string; partition: number; offset: string }): void;
  }
}
