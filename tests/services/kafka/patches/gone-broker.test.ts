import { describe, expect, test } from "bun:test";
import {
  connectionTo,
  errorName,
  metadataOf,
  partition,
  poolWith,
  sendApiVersions,
  unlessHanging,
} from "./fixtures.ts";

describe("gone-broker", () => {
  test("a refresh does not wait for a broker that the metadata no longer list; its requests fail", async () => {
    const { connection, close } = await connectionTo({ requestTimeout: 60_000 });
    await connection.connect();
    const request = errorName(sendApiVersions(connection));
    const pool = poolWith(() => metadataOf([1, 2], partition(1, 5)));
    pool.brokers = {
      0: { connectionPool: { pool: [connection] }, disconnect: () => connection.disconnect() },
    } as unknown as typeof pool.brokers;
    const refreshed = pool.refreshMetadata(["t"]).then(() => "refreshed");
    expect(await unlessHanging(refreshed)).toBe("refreshed");
    expect(await request).toBe("KafkaJSConnectionClosedError");
    expect(Object.keys(pool.brokers)).toEqual(["1", "2"]);
    close();
  });
});
