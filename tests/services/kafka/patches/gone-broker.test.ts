import { describe, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { connectionTo, HANGS_MS, metadataOf, partition, poolWith, sendApiVersions } from "./fixtures.ts";

describe("gone-broker", () => {
  test("a refresh does not wait for a broker that the metadata no longer list; its requests fail", async () => {
    const sockets = new Set<Socket>();
    // Accepts connections and never answers.
    const { connection, server } = await connectionTo((socket) => void sockets.add(socket), { requestTimeout: 60_000 });
    await connection.connect();
    const request = sendApiVersions(connection).catch((error: Error) => error.name);
    const pool = poolWith(() => metadataOf([1, 2], partition(1, 5)));
    pool.brokers = {
      0: { connectionPool: { pool: [connection] }, disconnect: () => connection.disconnect() },
    } as unknown as typeof pool.brokers;
    const refreshed = pool.refreshMetadata(["t"]).then(() => "refreshed");
    expect(await Promise.race([refreshed, Bun.sleep(HANGS_MS).then(() => "hangs")])).toBe("refreshed");
    expect(await request).toBe("KafkaJSConnectionClosedError");
    expect(Object.keys(pool.brokers)).toEqual(["1", "2"]);
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});
