/**
 * Upstream: none.
 * Symptom: connect() stays pending forever when the server closes during the TLS handshake (a broker that shuts down).
 *   Two requests that find a connection closed open two sockets and write to the one that is not ready. disconnect()
 *   keeps the last socket, which collects listeners while its broker is down. After disconnect() a handshake can still
 *   complete: the connection counts as connected, and the next request is a TypeError, which ends the consumer.
 * Change: one connection attempt at a time, which always settles; disconnect() ends the attempt and releases the socket.
 */
import errors from "kafkajs/src/errors.js";
import Connection from "kafkajs/src/network/connection.js";
import { method, type Patch } from "./patch.ts";

/** kafkajs' own connection timeout fires first; this limit covers the attempts that it does not end. */
const CONNECT_GRACE_MS = 500;

export const connectHangs: Patch = {
  id: "connect-hangs",
  members: [method(Connection, "connect"), method(Connection, "disconnect"), method(Connection, "isConnected")],
  install() {
    const attempts = new WeakMap<Connection, Promise<boolean>>();
    const { connect, disconnect } = Connection.prototype;
    Connection.prototype.connect = function (this: Connection) {
      if (this.isConnected()) return Promise.resolve(true);
      let attempt = attempts.get(this);
      if (attempt === undefined) {
        attempt = connectOnce(this, connect).finally(() => attempts.delete(this));
        attempts.set(this, attempt);
      }
      return attempt;
    };
    Connection.prototype.disconnect = async function (this: Connection) {
      const { socket } = this;
      // kafkajs' end() has no effect on a socket that is still connecting, and lets a handshake complete.
      if (attempts.has(this)) socket?.destroy();
      const done = await disconnect.call(this);
      if (this.socket === socket) this.socket = undefined;
      return done;
    };
  },
};

function connectOnce(connection: Connection, connect: () => Promise<boolean>): Promise<boolean> {
  return new Promise<boolean>((resolve, reject) => {
    const fail = (message: string) =>
      reject(new errors.KafkaJSConnectionError(message, { broker: `${connection.host}:${connection.port}` }));
    const timer = setTimeout(() => {
      connection.socket?.destroy();
      fail("Connection timeout");
    }, connection.connectionTimeout + CONNECT_GRACE_MS);
    connect
      .call(connection)
      .then(resolve, reject)
      .finally(() => clearTimeout(timer));
    // No effect once connect() has settled.
    connection.socket?.once("close", () => fail("Closed during the handshake"));
  });
}
