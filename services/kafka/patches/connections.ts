/** What several patches need to know about kafkajs' connections and their errors. */
import errors from "kafkajs/src/errors.js";
import type Connection from "kafkajs/src/network/connection.js";
import connectionStatus from "kafkajs/src/network/connectionStatus.js";
import type { Member } from "./patch.ts";

/** Errors that report an unreachable broker and nothing about the request's content. */
const CONNECTION_ERRORS: ReadonlySet<string> = new Set([
  "KafkaJSConnectionError",
  "KafkaJSConnectionClosedError",
  "KafkaJSRequestTimeoutError",
  "KafkaJSBrokerNotFound",
  "KafkaJSLockTimeout",
]);

export const isConnectionError = (error: unknown): boolean =>
  error instanceof Error && CONNECTION_ERRORS.has(error.name);

export const closedError = (message: string, { host, port }: Connection): Error =>
  new errors.KafkaJSConnectionClosedError(message, { host, port });

/**
 * Closes a connection at once and rejects every request on it with `error`. kafkajs' own disconnect() first waits for
 * the answers of open requests.
 */
export function abortConnection(connection: Connection, error: Error): void {
  connection.connectionStatus = connectionStatus.CONNECTION_STATUS.DISCONNECTED;
  connection.requestQueue.rejectAll(error);
  connection.socket?.destroy();
}

export const DISCONNECTED_STATUS: Member = {
  name: "connectionStatus.CONNECTION_STATUS.DISCONNECTED",
  exists: () => typeof connectionStatus.CONNECTION_STATUS?.DISCONNECTED === "string",
};
