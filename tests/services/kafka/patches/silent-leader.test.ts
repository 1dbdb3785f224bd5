import { describe, expect, test } from "bun:test";
import { connectionTo, errorName, sendApiVersions } from "./fixtures.ts";

describe("silent-leader", () => {
  test("a request timeout closes the connection", async () => {
    const { connection, close } = await connectionTo({ requestTimeout: 300 });
    await connection.connect();
    expect(await errorName(sendApiVersions(connection))).toBe("KafkaJSConnectionClosedError");
    expect(connection.isConnected()).toBe(false);
    close();
  });
});
