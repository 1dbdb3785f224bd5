/**
 * Upstream: none.
 * Symptom: a request that is queued while its connection closes stays in the queue. Its timeout check has ended, so it
 *   never settles, and the next disconnect() waits for it forever.
 * Change: a closed connection rejects the requests that remain in its queue.
 */
import Connection from "kafkajs/src/network/connection.js";
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import { closedError } from "./connections.ts";
import { method, type Patch } from "./patch.ts";

export const strandedRequest: Patch = {
  id: "stranded-request",
  members: [method(Connection, "disconnect"), method(Connection, "isConnected"), method(RequestQueue, "rejectAll")],
  install() {
    const { disconnect } = Connection.prototype;
    Connection.prototype.disconnect = async function (this: Connection) {
      const done = await disconnect.call(this);
      if (!this.isConnected()) {
        this.requestQueue.rejectAll(closedError("Closed while the request waited", this));
      }
      return done;
    };
  },
};
