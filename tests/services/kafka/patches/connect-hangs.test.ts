import { describe, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { eventually } from "../../../eventually.ts";
import { connectionTo, HANGS_MS } from "./fixtures.ts";

describe("connect-hangs", () => {
  test("concurrent connect() calls share one socket", async () => {
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

  test("repeated disconnect() releases the socket and allows a new connect()", async () => {
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
    test(`connect() to a server that ${what} fails within its timeout`, async () => {
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
