import { describe, expect, test } from "bun:test";
import { metadataOf, partition, poolWith } from "./fixtures.ts";

describe("replaced-seed-broker", () => {
  /** A pool of these brokers, of which 0 is the seed broker and is removed while a refresh waits for its answer. */
  const poolOf = (...nodes: number[]) => {
    const pool = poolWith(() => metadataOf([0, 1], partition(0, 5)));
    const brokers = nodes.map((nodeId) => {
      const connectionPool = { host: `kafka-${nodeId}`, port: 9092, rack: null, pool: [] };
      return { nodeId, connectionPool, isConnected: () => true, disconnect: async () => {} };
    });
    Object.assign(pool, {
      brokers: Object.fromEntries(brokers.map((broker) => [broker.nodeId, broker])),
      seedBroker: brokers[0],
    });
    const remove = () => pool.removeBroker({ host: "kafka-0", port: 9092 });
    const addresses = () => Object.values(pool.brokers).map(({ connectionPool: { host } }) => host);
    return { pool, remove, addresses };
  };

  test("a refresh, during which the last broker is removed, ends without an error", async () => {
    const { pool, remove, addresses } = poolOf(0);
    const { findConnectedBroker } = pool;
    Object.assign(pool, {
      async findConnectedBroker() {
        const found = await findConnectedBroker();
        remove();
        return found;
      },
    });
    await pool.refreshMetadata(["t"]);
    expect(addresses()).toEqual(["kafka-0", "kafka-1"]);
  });

  test("a refresh, during which the seed broker is removed, sends no node's requests to another", async () => {
    const { pool, remove, addresses } = poolOf(0, 1);
    Object.assign(pool, {
      findConnectedBroker: async () => ({
        async metadata() {
          remove();
          return metadataOf([0, 1], partition(0, 5));
        },
      }),
    });
    await pool.refreshMetadata(["t"]);
    expect(pool.brokers[0]).toBeUndefined();
    expect([pool.brokers[1]!.connectionPool.host, pool.brokers[1]!.nodeId]).toEqual(["kafka-1", 1]);
    await pool.refreshMetadata(["t"]);
    expect(addresses()).toEqual(["kafka-0", "kafka-1"]);
  });
});
