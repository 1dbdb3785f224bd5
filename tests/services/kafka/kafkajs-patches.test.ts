/**
 * Each defect is shown on the library as it comes, in a process of its own (CONVEYOR_UNMENDED), and gone with the mends.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import Broker from "kafkajs/src/broker/index.js";
import BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import errors from "kafkajs/src/errors.js";
import Connection from "kafkajs/src/network/connection.js";
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import groupMessagesPerPartition from "kafkajs/src/producer/groupMessagesPerPartition.js";
import createSendMessages from "kafkajs/src/producer/sendMessages.js";
import { installKafkajsPatches } from "../../../services/kafka/patches/kafkajs-patches.ts";
import type { Metadata } from "../../../services/kafka/patches/metadata-patches.ts";
import { eventually } from "../../eventually.ts";

// With it, this file runs against the library as it comes: `CONVEYOR_UNMENDED=1 bun test …` must fail.
const MENDED = process.env.CONVEYOR_UNMENDED !== "1";

/** What has not ended by then does not end: a busy machine is slow, not so slow. Shorter where hanging is what is shown. */
const HANGS_MS = MENDED ? 20_000 : 2000;

const silent = { debug() {}, info() {}, warn() {}, error() {}, namespace: () => silent };

beforeAll(() => {
  if (MENDED) installKafkajsPatches();
});

const queue = (options: Record<string, unknown> = {}) =>
  new RequestQueue({
    maxInFlightRequests: null,
    requestTimeout: 1000,
    enforceRequestTimeout: true,
    clientId: "test",
    broker: "test",
    logger: silent,
    ...options,
  });

describe("idle-timer", () => {
  test("a connection without waiting requests arms no timer", () => {
    const idle = queue();
    idle.checkPendingRequests();
    expect(idle.throttleCheckTimeoutId).toBeNull();
    idle.destroy();
  });

  test("a request that must wait is still sent when the broker's throttling ends", async () => {
    const throttled = queue();
    throttled.throttledUntil = Date.now() + 30;
    const { promise, resolve } = Promise.withResolvers<void>();
    (throttled as unknown as { push(request: unknown): void }).push({
      entry: { correlationId: 1, resolve, reject: () => {} },
      expectResponse: false,
      sendRequest: () => {},
    });
    expect(throttled.pending).toHaveLength(1);
    await promise;
    expect(throttled.pending).toHaveLength(0);
    throttled.destroy();
  });
});

describe("timeout-check", () => {
  test("requests that took too long still time out, with one look-up a second instead of ten", async () => {
    const intervals: number[] = [];
    const original = globalThis.setInterval;
    globalThis.setInterval = ((work: () => void, ms: number) => {
      intervals.push(ms);
      return original(work, ms);
    }) as typeof setInterval;
    try {
      const checked = queue({ requestTimeout: 5000 });
      checked.scheduleRequestTimeoutCheck();
      checked.destroy();
      expect(intervals).toEqual([1000]);
    } finally {
      globalThis.setInterval = original;
    }
    const quick = queue({ requestTimeout: 20 });
    let timedOut = 0;
    quick.inflight.set(1, { sentAt: Date.now() - 100, requestTimeout: 20, timeoutRequest: () => timedOut++ });
    quick.scheduleRequestTimeoutCheck();
    await eventually("the time-out", () => timedOut > 0);
    quick.destroy();
    expect(timedOut).toBeGreaterThan(0);
  });
});

describe("silent-leader", () => {
  test("a request that timed out closes its connection, so that the broker is looked for anew", async () => {
    const sockets = new Set<Socket>();
    // Accepts and never answers: a frozen broker.
    const { connection, server } = await connectionTo((socket) => void sockets.add(socket), { requestTimeout: 300 });
    await connection.connect();
    const { default: protocol } = await import("kafkajs/src/protocol/requests/index.js");
    const apiVersions = protocol.requests.ApiVersions as { protocol(options: { version: number }): () => unknown };
    const call = () => connection.send(apiVersions.protocol({ version: 0 })() as Parameters<typeof connection.send>[0]);
    const failure = await call().then(
      () => undefined,
      (error: Error) => error,
    );
    expect(failure?.name).toBe("KafkaJSConnectionClosedError");
    expect(connection.isConnected()).toBe(false);
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});

/** A connection to a server that treats it as `onSocket` says. */
async function connectionTo(onSocket: (socket: Socket) => void, options: Record<string, unknown> = {}) {
  const server = createServer(onSocket);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { default: socketFactory } = await import("kafkajs/src/network/socketFactory.js");
  const connection = new (Connection as unknown as new (options: Record<string, unknown>) => Connection)({
    host: "127.0.0.1",
    port: (server.address() as { port: number }).port,
    logger: silent,
    socketFactory: (socketFactory as unknown as () => unknown)(),
    requestTimeout: 1000,
    connectionTimeout: 20_000,
    ...options,
  });
  return { connection, server };
}

describe("connect-hangs", () => {
  test("requests that find a connection closed at the same time share one socket", async () => {
    let accepted = 0;
    const { connection, server } = await connectionTo((socket) => {
      accepted++;
      socket.on("error", () => {});
    });
    await Promise.all([connection.connect(), connection.connect(), connection.connect()]);
    await eventually("a connection", () => accepted > 0);
    await Bun.sleep(20);
    expect(accepted).toBe(1);
    connection.socket?.destroy();
    server.close();
  });

  test("a connection that was closed lets its socket go, however often it is closed", async () => {
    const { connection, server } = await connectionTo((socket) => void socket.on("error", () => {}));
    await connection.connect();
    for (let round = 0; round < 3; round++) await connection.disconnect();
    expect(connection.socket).toBeUndefined();
    await connection.connect();
    expect(connection.isConnected()).toBe(true);
    await connection.disconnect();
    server.close();
  });

  for (const [what, onSocket] of [
    ["closes during the TLS handshake", (socket: Socket) => void socket.end()],
    ["resets during the TLS handshake", (socket: Socket) => void socket.resetAndDestroy()],
    ["never answers the TLS handshake", (socket: Socket) => void socket.on("error", () => {})],
  ] as const) {
    test(`connecting to a server that ${what} ends with an error in time`, async () => {
      const { connection, server } = await connectionTo(onSocket, {
        ssl: { rejectUnauthorized: true },
        connectionTimeout: 300,
      });
      const outcome = await Promise.race([
        connection.connect().then(
          () => "connected",
          (error: Error) => error.name,
        ),
        Bun.sleep(HANGS_MS).then(() => "hangs"),
      ]);
      expect(outcome).toBe("KafkaJSConnectionError");
      connection.socket?.destroy();
      server.close();
    });
  }
});

describe("dead-broker-stops-all", () => {
  test("the fetch from a broker that cannot be reached comes back empty, after a look at the metadata", async () => {
    let refreshed = 0;
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, {
      cluster: { refreshMetadata: async () => void refreshed++ },
    });
    await group.recoverFromFetch(new errors.KafkaJSConnectionError("refused", { broker: "b", code: "ECONNREFUSED" }));
    expect(refreshed).toBe(1);
  });

  test("other errors still end the fetching, as kafkajs means it", async () => {
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, { cluster: {} });
    const error = new Error("something else");
    expect(await group.recoverFromFetch(error).catch((failure: Error) => failure)).toBe(error);
  });
});

/** A group of no topics, whose coordinator is found to be this one. */
const groupOf = (coordinator: unknown) =>
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

describe("lost-coordinator", () => {
  const group = (coordinator: unknown, next: unknown = undefined) =>
    Object.assign(groupOf(next), { coordinator, memberId: "m", generationId: 1, lastRequest: 0 });
  const gone = () => {
    throw new errors.KafkaJSConnectionClosedError("gone", { host: "h", port: 1 });
  };

  test("while its coordinator is gone a member goes on, and its next heartbeat goes to the new one", async () => {
    const { promise: heard, resolve } = Promise.withResolvers<{ memberId: string; groupGenerationId: number }>();
    const found = { heartbeat: async (said: { memberId: string; groupGenerationId: number }) => resolve(said) };
    const member = group({ heartbeat: gone }, found);
    member.offsetManager = { coordinator: member.coordinator };
    const beating = setInterval(() => void member.heartbeat({ interval: 0 }), 10);
    try {
      await member.heartbeat({ interval: 0 });
      // The same member of the same generation: it did not join anew.
      expect(await heard).toMatchObject({ memberId: "m", groupGenerationId: 1 });
      expect(member.offsetManager.coordinator).toBe(found);
    } finally {
      clearInterval(beating);
    }
  });

  test("an offset that could not be committed is committed with the new coordinator", async () => {
    const committed: unknown[] = [];
    const found = { isConnected: () => true, offsetCommit: async (said: unknown) => void committed.push(said) };
    const lost = { isConnected: () => true, offsetCommit: gone };
    const member = group(lost, found);
    const { default: OffsetManager } = await import("kafkajs/src/consumer/offsetManager/index.js");
    const offsets = new OffsetManager({
      cluster: { committedOffsets: () => ({ t: { 0: "5" } }), refreshMetadata: async () => {} },
      coordinator: lost,
      memberAssignment: { t: [0] },
      topicConfigurations: {},
      instrumentationEmitter: { emit() {} },
      groupId: "g",
      generationId: 1,
      memberId: "m",
      autoCommitInterval: 0,
    });
    member.offsetManager = offsets as unknown as typeof member.offsetManager;
    offsets.committedOffsets().t = { 0: "5" };
    offsets.resolveOffset({ topic: "t", partition: 0, offset: "9" });
    await eventually("the commit", async () => {
      await member.commitOffsetsIfNecessary();
      return committed.length > 0;
    });
    expect(committed).toEqual([
      expect.objectContaining({ topics: [{ topic: "t", partitions: [{ partition: "0", offset: "10" }] }] }),
    ]);
  });

  test("a coordinator that does not answer, cut off from the others, is left once they name it no more", async () => {
    const { promise: unanswered, reject } = Promise.withResolvers<void>();
    const found = { heartbeat: async () => {} };
    const member = group({ heartbeat: () => unanswered }, found);
    const { cluster } = member as unknown as { cluster: { refreshMetadata(): Promise<void> } };
    // What gone-broker does when the metadata name the broker no more.
    cluster.refreshMetadata = async () => {
      reject(new errors.KafkaJSConnectionClosedError("gone", { host: "h", port: 1 }));
    };
    const beaten = member.heartbeat({ interval: 0 }).then(() => "goes on");
    expect(await Promise.race([beaten, Bun.sleep(HANGS_MS).then(() => "waits")])).toBe("goes on");
    await eventually("the new coordinator", () => member.coordinator === found);
  });

  test("an answer of the coordinator stays what it is", async () => {
    const answer = Object.assign(new Error("unknown"), { type: "UNKNOWN_MEMBER_ID", name: "KafkaJSProtocolError" });
    const failure = await group({ heartbeat: () => Promise.reject(answer) })
      .heartbeat({ interval: 0 })
      .catch((error: Error) => error);
    expect(failure).toBe(answer);
  });
});

describe("leader-moved-rejoins", () => {
  test("a partition that moved to another broker is fetched from there; the member keeps its place in the group", async () => {
    const done: string[] = [];
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, {
      logger: silent,
      cluster: { refreshMetadata: async () => void done.push("metadata") },
      joinAndSync: async () => void done.push("join"),
    });
    for (const type of ["NOT_LEADER_FOR_PARTITION", "FENCED_LEADER_EPOCH", "LEADER_NOT_AVAILABLE"]) {
      await group.recoverFromFetch(Object.assign(new Error(type), { type }));
    }
    expect(done).toEqual(["metadata", "metadata", "metadata"]);
  });

  test("a topic that is gone still makes the member join anew", async () => {
    const done: string[] = [];
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, {
      logger: silent,
      cluster: { refreshMetadata: async () => void done.push("metadata") },
      joinAndSync: async () => void done.push("join"),
    });
    await group.recoverFromFetch(Object.assign(new Error("gone"), { type: "UNKNOWN_TOPIC_OR_PARTITION" }));
    expect(done).toEqual(["metadata", "join"]);
  });
});

describe("forgotten-member-id", () => {
  test("the id that the coordinator gave is kept for the next join when this one fails", async () => {
    const joined: string[] = [];
    const broker = new Broker({
      logger: silent,
      connectionPool: {
        send: async ({ memberId }: { memberId: string }) => {
          joined.push(memberId);
          if (memberId === "") {
            throw Object.assign(new Error("id required"), { name: "KafkaJSMemberIdRequired", memberId: "given" });
          }
          throw Object.assign(new Error("stop"), { name: "Stop", retriable: false });
        },
      },
    });
    // What would be encoded, as it is.
    broker.lookupRequest = () => (options) => options;
    const group = groupOf(broker);
    for (let attempt = 0; attempt < 2; attempt++) await group.joinAndSync().catch(() => {});
    expect(joined).toEqual(["", "given", "given"]);
  });
});

describe("stays-when-joining", () => {
  /** A coordinator that lets a member wait in its join until it leaves; `said` is what it was told, in order. */
  function waitingCoordinator(): { broker: Broker; said: string[]; joins: Promise<void> } {
    const said: string[] = [];
    const { promise: joins, resolve: joinWaits } = Promise.withResolvers<void>();
    const { promise: left, resolve: leave } = Promise.withResolvers<void>();
    const broker = new Broker({
      logger: silent,
      connectionPool: {
        send: async ({ memberId, protocolType }: { memberId: string; protocolType?: string }) => {
          said.push(`${protocolType ? "join" : "leave"} ${memberId}`);
          if (!protocolType) return leave();
          if (memberId === "") {
            throw Object.assign(new Error("id required"), { name: "KafkaJSMemberIdRequired", memberId: "given" });
          }
          joinWaits();
          await left;
          throw Object.assign(new Error("unknown"), { name: "KafkaJSProtocolError", type: "UNKNOWN_MEMBER_ID" });
        },
      },
    });
    broker.lookupRequest = () => (options) => options;
    return { broker, said, joins };
  }

  const runnerOf = async (broker: Broker, crashes: Error[], connect: () => Promise<void> = async () => {}) => {
    const { default: Runner } = await import("kafkajs/src/consumer/runner.js");
    return new Runner({
      logger: silent,
      consumerGroup: Object.assign(groupOf(broker), { connect, getNodeIds: () => [] }),
      instrumentationEmitter: { emit() {} },
      onCrash: (error: Error) => void crashes.push(error),
      concurrency: 1,
    });
  };

  test(
    "a member that is told to stop while its join waits for the others leaves, and does not ask again",
    async () => {
      const { broker, said, joins } = waitingCoordinator();
      const crashes: Error[] = [];
      const runner = await runnerOf(broker, crashes);
      const started = runner.start();
      await joins;
      await runner.stop();
      expect(said).toEqual(["join ", "join given", "leave given"]);
      await started;
      expect(said).toHaveLength(3);
      expect(crashes).toEqual([]);
    },
    HANGS_MS,
  );

  test(
    "told while the coordinator names it, it leaves under that name and does not join",
    async () => {
      const { broker, said } = waitingCoordinator();
      const crashes: Error[] = [];
      const runner = await runnerOf(broker, crashes);
      const started = runner.start();
      await eventually("the first join", async () => said.length > 0);
      await runner.stop();
      await started;
      expect(said.filter((what) => what.startsWith("leave"))).toEqual(["leave given"]);
      expect(said.at(-1)).toBe("leave given");
      expect(crashes).toEqual([]);
    },
    HANGS_MS,
  );

  test(
    "told before it has begun to join, it never does",
    async () => {
      const { broker, said } = waitingCoordinator();
      const crashes: Error[] = [];
      const { promise: connected, resolve: connect } = Promise.withResolvers<void>();
      const runner = await runnerOf(broker, crashes, async () => await connected);
      const started = runner.start();
      await runner.stop();
      connect();
      await started;
      expect(said).toEqual([]);
      expect(crashes).toEqual([]);
    },
    HANGS_MS,
  );
});

describe("stranded-request", () => {
  test("a request that is queued in the very moment in which its connection closes ends with an error", async () => {
    const { default: protocol } = await import("kafkajs/src/protocol/requests/index.js");
    const apiVersions = protocol.requests.ApiVersions as { protocol(options: { version: number }): () => unknown };
    const outcomes = new Set<string>();
    // The moment is one turn of the queue of promises long, so every turn of a request's way is tried.
    for (let turns = 0; turns < 40; turns++) {
      const { connection, server } = await connectionTo((socket) => void socket.on("error", () => {}), {
        requestTimeout: 60_000,
      });
      await connection.connect();
      const sent = connection.send(apiVersions.protocol({ version: 0 })() as Parameters<typeof connection.send>[0]);
      // What a broken connection does.
      for (let turn = 0; turn < turns; turn++) await null;
      connection.requestQueue.rejectAll(new Error("broken"));
      void connection.disconnect();
      outcomes.add(
        await Promise.race([
          sent.then(
            () => "answered",
            () => "error",
          ),
          Bun.sleep(HANGS_MS).then(() => `hangs (turn ${turns})`),
        ]),
      );
      connection.socket?.destroy();
      server.close();
    }
    expect([...outcomes]).toEqual(["error"]);
  });
});

const partition = (leader: number, leaderEpoch?: number) => ({
  partitionErrorCode: 0,
  partitionId: 0,
  leader,
  ...(leaderEpoch === undefined ? {} : { leaderEpoch }),
  replicas: [0, 1, 2],
  isr: [0, 1, 2],
  offlineReplicas: [],
});
const answer = (brokers: number[], ...partitionMetadata: ReturnType<typeof partition>[]): Metadata => ({
  brokers: brokers.map((nodeId) => ({ nodeId, host: `kafka-${nodeId}`, port: 9092, rack: null })),
  topicMetadata: [{ topic: "t", topicErrorCode: 0, partitionMetadata }],
});
const leadersIn = (metadata: unknown) =>
  (metadata as Metadata).topicMetadata.flatMap((topic) => topic.partitionMetadata.map(({ leader }) => leader));
/** A pool of brokers whose metadata come from `metadata`, whoever is asked. */
const poolWith = (metadata: () => Metadata) => {
  const pool = new BrokerPool({ connectionPoolBuilder: {}, logger: silent, retry: {} });
  return Object.assign(pool, {
    seedBroker: { connectionPool: { host: "", port: 0 } },
    findConnectedBroker: async () => ({ metadata: async () => metadata() }),
    connectionPoolBuilder: { build: async (address: object) => ({ ...address, pool: [] }) },
    createBroker: (options: object) => ({ ...options, isConnected: () => true, disconnect: async () => {} }),
  });
};

describe("silent-adviser", () => {
  const never = new Promise<never>(() => {});
  /** Brokers as a pool has them: `sentAt` of what each has not answered yet, and what it says of the leaders. */
  const poolOf = (
    brokers: {
      sentAt?: number;
      isAway?: true;
      metadata: () => Promise<Metadata>;
      coordinator?: () => Promise<string>;
    }[],
  ) => {
    const pool = poolWith(() => answer([]));
    pool.brokers = Object.fromEntries(
      brokers.map(({ sentAt, isAway, ...broker }, nodeId) => [
        nodeId,
        {
          ...broker,
          host: `kafka-${nodeId}`,
          isConnected: () => isAway !== true,
          disconnect: async () => {},
          connectionPool: {
            host: `kafka-${nodeId}`,
            port: 9092,
            rack: null,
            pool: [
              {
                isConnected: () => false,
                requestQueue: { inflight: new Map(sentAt === undefined ? [] : [[1, { sentAt }]]) },
              },
            ],
          },
        },
      ]),
    ) as unknown as typeof pool.brokers;
    const { findConnectedBroker } = BrokerPool.prototype;
    return Object.assign(pool, { findConnectedBroker });
  };

  test("who lets others wait is not asked for the leaders while another answers", async () => {
    // By chance the frozen one is not chosen either: often enough makes that unlikely.
    for (let round = 0; round < 20; round++) {
      const pool = poolOf([
        { sentAt: Date.now() - 600, metadata: () => Promise.reject(new Error("the frozen one was asked")) },
        { sentAt: Date.now() - 50, metadata: async () => answer([0, 1], partition(1, 1)) },
      ]);
      await pool.refreshMetadata(["t"]);
      expect(leadersIn(pool.metadata)).toEqual([1]);
    }
  });

  test("a broker that freezes while it is asked is not waited for: another one is asked too", async () => {
    const pool = poolOf([
      { metadata: () => never },
      { sentAt: Date.now() - 50, metadata: async () => answer([0, 1], partition(1, 1)) },
    ]);
    const refreshed = pool.refreshMetadata(["t"]).then(() => "refreshed");
    expect(await Promise.race([refreshed, Bun.sleep(HANGS_MS).then(() => "hangs")])).toBe("refreshed");
    expect(leadersIn(pool.metadata)).toEqual([1]);
  });

  test("the coordinator is asked of those that answer, and one that cannot be reached hides it from nobody", async () => {
    const pool = poolOf([
      { metadata: () => never, coordinator: async () => "unreachable" },
      { sentAt: Date.now() - 50, metadata: () => never, coordinator: async () => "found" },
      { sentAt: Date.now() - 600, metadata: () => never, coordinator: () => never },
    ]);
    const { findBroker } = BrokerPool.prototype;
    Object.assign(pool, {
      findBroker: async (options: { nodeId: string }) => {
        if (options.nodeId === "0") throw new Error("cannot be reached");
        return await findBroker.call(pool, options);
      },
    });
    for (let round = 0; round < 20; round++) {
      const asked = pool.withBroker(async ({ broker }) =>
        (broker as unknown as { coordinator(): Promise<string> }).coordinator(),
      );
      expect(await Promise.race([asked, Bun.sleep(HANGS_MS).then(() => "hangs")])).toBe("found");
    }
  });

  test("a connection that stands goes before one that would have to be made: a frozen broker lets that wait", async () => {
    const pool = poolOf([
      { isAway: true, metadata: () => never },
      { sentAt: Date.now() - 50, metadata: () => never, coordinator: async () => "found" },
    ]);
    const { findBroker } = BrokerPool.prototype;
    Object.assign(pool, {
      findBroker: (options: { nodeId: string }) => (options.nodeId === "0" ? never : findBroker.call(pool, options)),
    });
    for (let round = 0; round < 20; round++) {
      const asked = pool.withBroker(async ({ broker }) =>
        (broker as unknown as { coordinator(): Promise<string> }).coordinator(),
      );
      expect(await Promise.race([asked, Bun.sleep(HANGS_MS).then(() => "hangs")])).toBe("found");
    }
  });
});

describe("stale-leader", () => {
  test("a broker that names a leader of an earlier epoch is not believed", async () => {
    let said = answer([0, 1, 2], partition(0, 4));
    const pool = poolWith(() => said);
    await pool.refreshMetadata(["t"]);
    said = answer([1, 2], partition(1, 5));
    await pool.refreshMetadata(["t"]);
    // The one that is cut off.
    said = answer([0, 1, 2], partition(0, 4));
    await pool.refreshMetadata(["t"]);
    expect(leadersIn(pool.metadata)).toEqual([1]);
  });

  test("brokers are asked for the epoch", async () => {
    const { default: protocol } = await import("kafkajs/src/protocol/requests/index.js");
    const lookup = protocol.lookup as (
      versions: object,
    ) => (apiKey: number, definition: unknown) => (o: object) => unknown;
    const METADATA_API_KEY = 3;
    const ask = (maxVersion: number) =>
      lookup({ [METADATA_API_KEY]: { minVersion: 0, maxVersion } })(METADATA_API_KEY, protocol.requests.Metadata)({
        topics: ["t"],
        allowAutoTopicCreation: false,
      }) as { request: { apiVersion: number }; response: unknown };
    expect(ask(13).request.apiVersion).toBe(7);
    expect(ask(6).request.apiVersion).toBe(6);
  });
});

describe("gone-broker", () => {
  test("a broker that is named no more is not waited for: what it was asked ends, and the new leaders are known", async () => {
    const sockets = new Set<Socket>();
    // Accepts and never answers.
    const { connection, server } = await connectionTo((socket) => void sockets.add(socket), { requestTimeout: 60_000 });
    await connection.connect();
    const { default: protocol } = await import("kafkajs/src/protocol/requests/index.js");
    const apiVersions = protocol.requests.ApiVersions as { protocol(options: { version: number }): () => unknown };
    const asked = connection
      .send(apiVersions.protocol({ version: 0 })() as Parameters<typeof connection.send>[0])
      .catch((error: Error) => error.name);
    const pool = poolWith(() => answer([1, 2], partition(1, 5)));
    pool.brokers = {
      0: { connectionPool: { pool: [connection] }, disconnect: () => connection.disconnect() },
    } as unknown as typeof pool.brokers;
    const refreshed = pool.refreshMetadata(["t"]).then(() => "refreshed");
    expect(await Promise.race([refreshed, Bun.sleep(HANGS_MS).then(() => "hangs")])).toBe("refreshed");
    expect(await asked).toBe("KafkaJSConnectionClosedError");
    expect(Object.keys(pool.brokers)).toEqual(["1", "2"]);
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});

/** Defects that are avoided, not mended: what kafkajs does, as the reason for event-producer.ts. */
describe("why the event producer sends on its own", () => {
  test("kafkajs' send reports success for messages it never sent when leadership moves between its retries", async () => {
    const sent: string[] = [];
    let leaders = [0, 1];
    let failFirst = true;
    const broker = (nodeId: number) => ({
      nodeId,
      produce: async ({ topicData }: { topicData: { partitions: { partition: number; messages: unknown[] }[] }[] }) => {
        if (nodeId === 0 && failFirst) {
          failFirst = false;
          // After broker 1 has answered, broker 0 fails, and broker 1 leads its partition.
          await Bun.sleep(5);
          leaders = [1, 1];
          throw new errors.KafkaJSConnectionClosedError("gone", { host: "h", port: 0 });
        }
        for (const { partition, messages } of topicData[0]!.partitions) sent.push(`${partition}:${messages.length}`);
        return { topics: [] };
      },
    });
    const brokers = [broker(0), broker(1)];
    const send = createSendMessages({
      logger: silent,
      cluster: {
        addMultipleTargetTopics: async () => {},
        refreshMetadataIfNecessary: async () => {},
        refreshMetadata: async () => {},
        removeBroker: () => {},
        isConnected: () => true,
        findTopicPartitionMetadata: () => leaders.map((leader, partitionId) => ({ partitionId, leader })),
        findLeaderForPartitions: (_: string, partitions: string[]) => {
          const result: Record<number, number[]> = {};
          for (const partition of partitions.map(Number)) {
            const leader = leaders[partition]!;
            result[leader] = [...(result[leader] ?? []), partition];
          }
          return result;
        },
        findBroker: async ({ nodeId }: { nodeId: number }) => brokers[nodeId],
      },
      partitioner: ({ message }: { message: { partition: number } }) => message.partition,
      eosManager: {
        isTransactional: () => false,
        acquireBrokerLock: async () => {},
        releaseBrokerLock: async () => {},
        getSequence: () => 0,
        updateSequence: () => {},
        getProducerId: () => 1,
        getProducerEpoch: () => 0,
      },
      retrier: async (work: (bail: (error: Error) => void, count: number, ms: number) => Promise<unknown>) => {
        for (let attempt = 0; ; attempt++) {
          try {
            return await work(
              (error) => {
                throw error;
              },
              attempt,
              0,
            );
          } catch (error) {
            if (attempt >= 3) throw error;
          }
        }
      },
    });
    await send({
      acks: -1,
      topicMessages: [
        {
          topic: "t",
          messages: [
            { partition: 0, value: "a" },
            { partition: 1, value: "b" },
          ],
        },
      ],
    });
    // send() resolved, and partition 0's message is nowhere.
    expect(sent).toEqual(["1:1"]);
  });

  test("kafkajs' sorting by partition copies the partition's messages for each one more", () => {
    const COUNT = 2000;
    let copied = 0;
    const messages = Array.from({ length: COUNT }, (_, index) => ({ index }));
    const iterate = Array.prototype[Symbol.iterator];
    Array.prototype[Symbol.iterator] = function* (this: unknown[]) {
      for (let index = 0; index < this.length; index++) {
        copied++;
        yield this[index];
      }
    } as typeof iterate;
    try {
      groupMessagesPerPartition({ topic: "t", partitionMetadata: [{}], messages, partitioner: () => 0 });
    } finally {
      Array.prototype[Symbol.iterator] = iterate;
    }
    expect(copied).toBeGreaterThan((COUNT * COUNT) / 4);
  });
});

describe("this file", () => {
  test.skipIf(!MENDED)("fails where the mends are not applied", async () => {
    const child = Bun.spawn([process.execPath, "test", import.meta.path], {
      env: { ...process.env, CONVEYOR_UNMENDED: "1" },
      stdout: "pipe",
      stderr: "pipe",
    });
    const output = await new Response(child.stderr).text();
    expect(await child.exited).not.toBe(0);
    const failed = [...output.matchAll(/^\(fail\) ([\w-]+) > /gm)].map(([, name]) => name);
    expect([...new Set(failed)].sort()).toEqual([
      "connect-hangs",
      "dead-broker-stops-all",
      "forgotten-member-id",
      "gone-broker",
      "idle-timer",
      "leader-moved-rejoins",
      "lost-coordinator",
      "silent-adviser",
      "silent-leader",
      "stale-leader",
      "stays-when-joining",
      "stranded-request",
      "timeout-check",
    ]);
  });
});
