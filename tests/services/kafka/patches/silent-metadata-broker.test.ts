import { describe, expect, test } from "bun:test";
import BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import type { Metadata } from "../../../../services/kafka/patches/metadata.ts";
import { leadersIn, metadataOf, partition, poolWith, unlessHanging } from "./fixtures.ts";

describe("silent-metadata-broker", () => {
  const never = new Promise<never>(() => {});
  /** A pool of brokers, each with the `sentMs` of its open request and its metadata response. */
  const poolOf = (
    brokers: {
      sentMs?: number;
      isUnconnected?: true;
      metadata: () => Promise<Metadata>;
      coordinator?: () => Promise<string>;
    }[],
  ) => {
    const pool = poolWith(() => metadataOf([]));
    pool.brokers = Object.fromEntries(
      brokers.map(({ sentMs, isUnconnected, ...broker }, nodeId) => {
        const host = `kafka-${nodeId}`;
        const inflight = new Map(sentMs === undefined ? [] : [[1, { sentMs }]]);
        const isConnected = () => isUnconnected !== true;
        const connectionPool = {
          host,
          port: 9092,
          rack: null,
          pool: [{ isConnected: () => false, requestQueue: { inflight } }],
        };
        return [nodeId, { ...broker, host, isConnected, disconnect: async () => {}, connectionPool }];
      }),
    ) as unknown as typeof pool.brokers;
    const { findConnectedBroker } = BrokerPool.prototype;
    return Object.assign(pool, { findConnectedBroker });
  };

  /** Each of several coordinator requests is answered by the right broker. */
  async function expectFound(pool: BrokerPool) {
    for (let round = 0; round < 20; round++) {
      const asked = pool.withBroker(async ({ broker }) =>
        (broker as unknown as { coordinator(): Promise<string> }).coordinator(),
      );
      expect(await unlessHanging(asked)).toBe("found");
    }
  }

  test("metadata are requested of a responsive broker before one with an old open request", async () => {
    // A random choice would pass one round; twenty make that unlikely.
    for (let round = 0; round < 20; round++) {
      const pool = poolOf([
        { sentMs: performance.now() - 600, metadata: () => Promise.reject(new Error("the frozen broker was asked")) },
        { sentMs: performance.now() - 50, metadata: async () => metadataOf([0, 1], partition(1, 1)) },
      ]);
      await pool.refreshMetadata(["t"]);
      expect(leadersIn(pool.metadata)).toEqual([1]);
    }
  });

  test("a second broker is queried when the first does not answer", async () => {
    const pool = poolOf([
      { metadata: () => never },
      { sentMs: performance.now() - 50, metadata: async () => metadataOf([0, 1], partition(1, 1)) },
    ]);
    const refreshed = pool.refreshMetadata(["t"]).then(() => "refreshed");
    expect(await unlessHanging(refreshed)).toBe("refreshed");
    expect(leadersIn(pool.metadata)).toEqual([1]);
  });

  test("the coordinator request skips unreachable and silent brokers", async () => {
    const pool = poolOf([
      { metadata: () => never, coordinator: async () => "unreachable" },
      { sentMs: performance.now() - 50, metadata: () => never, coordinator: async () => "found" },
      { sentMs: performance.now() - 600, metadata: () => never, coordinator: () => never },
    ]);
    const { findBroker } = BrokerPool.prototype;
    Object.assign(pool, {
      findBroker: async (options: { nodeId: string }) => {
        if (options.nodeId === "0") throw new Error("unreachable");
        return await findBroker.call(pool, options);
      },
    });
    await expectFound(pool);
  });

  test("connected brokers are queried before unconnected ones", async () => {
    const pool = poolOf([
      { isUnconnected: true, metadata: () => never },
      { sentMs: performance.now() - 50, metadata: () => never, coordinator: async () => "found" },
    ]);
    const { findBroker } = BrokerPool.prototype;
    Object.assign(pool, {
      findBroker: (options: { nodeId: string }) => (options.nodeId === "0" ? never : findBroker.call(pool, options)),
    });
    await expectFound(pool);
  });
});
