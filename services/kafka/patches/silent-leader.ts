/**
 * Upstream: https://github.com/tulios/kafkajs/pull/1783
 * Symptom: a request that timed out leaves its connection in use, so that requests go on to a frozen or unreachable
 *   broker although its partitions have a new leader.
 * Change: a timeout closes the connection, as in the Java client; kafkajs then refreshes its metadata.
 */
import Connection from "kafkajs/src/network/connection.js";
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import { abortConnection, closedError, DISCONNECTED_STATUS } from "./connections.ts";
import { method, type Patch } from "./patch.ts";

export const silentLeader: Patch = {
  id: "silent-leader",
  members: [method(Connection, "send"), method(RequestQueue, "rejectAll"), DISCONNECTED_STATUS],
  install() {
    const { send } = Connection.prototype;
    Connection.prototype.send = async function (this: Connection, call) {
      try {
        return await send.call(this, call);
      } catch (error) {
        if (!(error instanceof Error) || error.name !== "KafkaJSRequestTimeoutError") throw error;
        const closed = closedError(`Closed after a timeout: ${error.message}`, this);
        // The other requests on this connection wait for the same silent broker.
        abortConnection(this, closed);
        throw closed;
      }
    };
  },
};
