import { describe, expect, test } from "bun:test";
import type { PooledBroker } from "kafkajs/src/cluster/brokerPool.js";
import Cluster from "kafkajs/src/cluster/index.js";
import { metadataOf, poolWith, silent, unlessHanging } from "./fixtures.ts";

describe("stale-coordinator", () => {
  const never = new Promise<never>(() => {});
  const naming = (nodeId: number) => async () => ({ coordinator: { nodeId, host: `kafka-${nodeId}`, port: 9092 } });
  const failing = () => Promise.reject(new Error("gone"));

  /** The coordinator that a cluster finds whose brokers give these answers; several rounds, since the order is random. */
  async function found(answers: (() => Promise<unknown>)[], rounds = 20) {
    const brokers = answers.map((findGroupCoordinator) => ({
      findGroupCoordinator,
      isConnected: () => true,
      connectionPool: { pool: [] },
    }));
    const pool = Object.assign(
      poolWith(() => metadataOf([])),
      {
        brokers: Object.fromEntries(brokers.entries()),
        findBroker: async ({ nodeId }: { nodeId: string }) => brokers[Number(nodeId)] as unknown as PooledBroker,
      },
    );
    const cluster: Cluster = Object.assign(Object.create(Cluster.prototype), {
      brokerPool: pool,
      logger: silent,
      retrier: (work: (bail: (error: Error) => void, count: number, ms: number) => unknown) =>
        work(
          (error) => {
            throw error;
          },
          0,
          0,
        ),
    });
    const nodes = new Set<number | "hangs">();
    for (let round = 0; round < rounds; round++) {
      const result = await unlessHanging(cluster.findGroupCoordinatorMetadata({ groupId: "g", coordinatorType: 0 }));
      nodes.add(result === "hangs" ? result : result.coordinator.nodeId);
      if (result === "hangs") break;
    }
    return [...nodes];
  }

  test("a broker that is cut off and names itself is outvoted", async () => {
    expect(await found([naming(0), naming(2), naming(2)])).toEqual([2]);
  });

  test("a broker that fails does not count", async () => {
    expect(await found([naming(1), failing, naming(1)])).toEqual([1]);
  });

  test("the only broker that answers counts", async () => {
    expect(await found([naming(0)])).toEqual([0]);
    expect(await found([failing, failing, naming(1)])).toEqual([1]);
  });

  test("a silent broker is not waited for", async () => {
    expect(await found([() => never, naming(1), naming(1)], 1)).toEqual([1]);
  });
});
