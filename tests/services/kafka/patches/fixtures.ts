/** What the tests of the patches share. Each test fails on kafkajs as it is released; index.test.ts checks that. */
import { createServer, type Socket } from "node:net";
import BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import errors from "kafkajs/src/errors.js";
import Connection from "kafkajs/src/network/connection.js";
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import defaultSocketFactory from "kafkajs/src/network/socketFactory.js";
import protocol from "kafkajs/src/protocol/requests/index.js";
import { installKafkajsPatches } from "../../../../services/kafka/patches/index.ts";
import type { Metadata } from "../../../../services/kafka/patches/metadata.ts";

/** With CONVEYOR_UNPATCHED=1 the tests of this folder run against kafkajs as it is released, and must fail. */
export const PATCHED = process.env.CONVEYOR_UNPATCHED !== "1";
if (PATCHED) installKafkajsPatches();

/** A promise that is still pending by then counts as hanging. Short where hanging is the expected result. */
export const HANGS_MS = PATCHED ? 20_000 : 2000;

export const silent = { debug() {}, info() {}, warn() {}, error() {}, namespace: () => silent };

export const requestQueue = (options: Record<string, unknown> = {}) =>
  new RequestQueue({
    maxInFlightRequests: null,
    requestTimeout: 1000,
    enforceRequestTimeout: true,
    clientId: "test",
    broker: "test",
    logger: silent,
    ...options,
  });

/** The result of `work`, or "hangs". */
export const unlessHanging = <T>(work: Promise<T>): Promise<T | "hangs"> =>
  Promise.race([work, Bun.sleep(HANGS_MS).then(() => "hangs" as const)]);

/** The name of the error with which `work` fails. */
export const errorName = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "no error",
    (error: Error) => error.name,
  );

/** A connection to a server that handles its sockets with `onSocket` and never answers. */
export async function connectionTo(
  options: Record<string, unknown> = {},
  onSocket: (socket: Socket) => void = () => {},
) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on("error", () => {}));
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const connection = new (Connection as unknown as new (options: Record<string, unknown>) => Connection)({
    host: "127.0.0.1",
    port: (server.address() as { port: number }).port,
    logger: silent,
    socketFactory: (defaultSocketFactory as unknown as () => unknown)(),
    requestTimeout: 1000,
    connectionTimeout: 20_000,
    ...options,
  });
  const close = () => {
    connection.socket?.destroy();
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { connection, close };
}

/** Sends a request that the servers of these tests never answer. */
export function sendApiVersions(connection: Connection): Promise<unknown> {
  const apiVersions = protocol.requests.ApiVersions as { protocol(options: { version: number }): () => unknown };
  return connection.send(apiVersions.protocol({ version: 0 })() as Parameters<typeof connection.send>[0]);
}

export const connectionClosed = () => new errors.KafkaJSConnectionClosedError("gone", { host: "h", port: 1 });

export const memberIdRequired = () =>
  Object.assign(new Error("id required"), { name: "KafkaJSMemberIdRequired", memberId: "assigned" });

/** A consumer group without topics, for which `coordinator` is found. */
export const groupOf = (coordinator: unknown) =>
  new (ConsumerGroup as unknown as new (options: Record<string, unknown>) => ConsumerGroup)({
    logger: silent,
    cluster: { findGroupCoordinator: async () => coordinator },
    groupId: "g",
    topics: [],
    topicConfigurations: {},
    instrumentationEmitter: { emit() {} },
    assigners: [],
    retry: {},
  });

export const partition = (leader: number, leaderEpoch?: number, partitionId = 0) => ({
  partitionErrorCode: 0,
  partitionId,
  leader,
  ...(leaderEpoch === undefined ? {} : { leaderEpoch }),
  replicas: [0, 1, 2],
  isr: [0, 1, 2],
  offlineReplicas: [],
});

export const metadataOf = (brokers: number[], ...partitionMetadata: ReturnType<typeof partition>[]): Metadata => ({
  brokers: brokers.map((nodeId) => ({ nodeId, host: `kafka-${nodeId}`, port: 9092, rack: null })),
  topicMetadata: [{ topic: "t", topicErrorCode: 0, partitionMetadata }],
});

export const leadersIn = (metadata: unknown) =>
  (metadata as Metadata).topicMetadata.flatMap((topic) => topic.partitionMetadata.map(({ leader }) => leader));

/** A pool of brokers whose metadata response is `metadata`, from every broker. */
export const poolWith = (metadata: () => Metadata) => {
  const pool = new BrokerPool({ connectionPoolBuilder: {}, logger: silent, retry: {} });
  return Object.assign(pool, {
    seedBroker: { connectionPool: { host: "", port: 0 } },
    findConnectedBroker: async () => ({ metadata: async () => metadata() }),
    connectionPoolBuilder: { build: async (address: object) => ({ ...address, pool: [] }) },
    createBroker: (options: object) => ({ ...options, isConnected: () => true, disconnect: async () => {} }),
  });
};
