import { describe, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { eventually } from "../../../eventually.ts";
import { connectionTo, errorName, unlessHanging } from "./fixtures.ts";

describe("connect-hangs", () => {
  test("concurrent connect() calls share one socket", async () => {
    let accepted = 0;
    const { connection, close } = await connectionTo({}, () => accepted++);
    await Promise.all([connection.connect(), connection.connect(), connection.connect()]);
    await eventually("a connection", () => accepted > 0);
    await Bun.sleep(20);
    expect(accepted).toBe(1);
    close();
  });

  test("repeated disconnect() releases the socket and allows a new connect()", async () => {
    const { connection, close } = await connectionTo();
    await connection.connect();
    for (let round = 0; round < 3; round++) await connection.disconnect();
    expect(connection.socket).toBeUndefined();
    await connection.connect();
    expect(connection.isConnected()).toBe(true);
    await connection.disconnect();
    close();
  });

  for (const [what, onSocket] of [
    ["closes during the TLS handshake", (socket: Socket) => void socket.end()],
    ["resets during the TLS handshake", (socket: Socket) => void socket.resetAndDestroy()],
    ["never answers the TLS handshake", () => {}],
  ] as const) {
    test(`connect() to a server that ${what} fails within its timeout`, async () => {
      const options = { ssl: { rejectUnauthorized: true }, connectionTimeout: 300 };
      const { connection, close } = await connectionTo(options, onSocket);
      expect(await unlessHanging(errorName(connection.connect()))).toBe("KafkaJSConnectionError");
      close();
    });
  }
});
