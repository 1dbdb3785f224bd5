import { describe, expect, test } from "bun:test";
import type { Socket } from "node:net";
import { eventually } from "../../../eventually.ts";
import { testCertificate } from "../../certificate.ts";
import { connectionTo, errorName, sendApiVersions, unlessHanging } from "./fixtures.ts";

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

  // A broker that was frozen: the kernel has accepted the connection, and the handshake completes when the broker goes on.
  test("a connection that is closed during the handshake never counts as connected", async () => {
    const { ca, cert, key } = await testCertificate();
    const program = `const server = require("node:tls").createServer(${JSON.stringify({ cert, key })});
      server.on("tlsClientError", () => {}).listen(0, "127.0.0.1", () => console.log(server.address().port));`;
    await using server = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe" });
    const { value } = await server.stdout.getReader().read();
    const { connection, close } = await connectionTo({
      port: Number(Buffer.from(value!).toString()),
      ssl: { ca, servername: "localhost" },
    });
    server.kill("SIGSTOP");
    const sent = errorName(connection.connect().then(() => sendApiVersions(connection)));
    await eventually("the TCP connection", () => connection.socket?.connecting === false);
    server.kill("SIGCONT");
    void connection.disconnect();
    expect(await unlessHanging(sent)).toBe("KafkaJSConnectionError");
    close();
  });
});
