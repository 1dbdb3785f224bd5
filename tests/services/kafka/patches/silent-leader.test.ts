import { describe, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { connectionTo, sendApiVersions } from "./fixtures.ts";

describe("silent-leader", () => {
  test("a request timeout closes the connection", async () => {
    const sockets = new Set<Socket>();
    // Accepts connections and never answers, like a frozen broker.
    const { connection, server } = await connectionTo((socket) => void sockets.add(socket), { requestTimeout: 300 });
    await connection.connect();
    const failure = await sendApiVersions(connection).then(
      () => undefined,
      (error: Error) => error,
    );
    expect(failure?.name).toBe("KafkaJSConnectionClosedError");
    expect(connection.isConnected()).toBe(false);
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});
