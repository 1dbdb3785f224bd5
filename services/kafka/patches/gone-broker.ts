/**
 * Upstream: none.
 * Symptom: a metadata refresh waits until a broker that left the cluster has answered its last requests, or until they
 *   time out. Everything that needs the new leaders waits with it.
 * Change: connections to a broker that the metadata no longer list are closed at once.
 */
import { abortConnection, closedError, DISCONNECTED_STATUS } from "./connections.ts";
import { interceptMetadata, METADATA_PROPERTY } from "./metadata.ts";
import type { Patch } from "./patch.ts";

export const goneBroker: Patch = {
  id: "gone-broker",
  members: [METADATA_PROPERTY, DISCONNECTED_STATUS],
  install() {
    interceptMetadata((pool, metadata) => {
      const listed = new Set(metadata.brokers.map(({ nodeId }) => String(nodeId)));
      for (const [nodeId, { connectionPool }] of Object.entries(pool.brokers)) {
        if (listed.has(nodeId)) continue;
        for (const connection of connectionPool.pool) {
          if (!connection.isConnected()) continue;
          abortConnection(connection, closedError(`Closed: broker ${nodeId} left the cluster`, connection));
        }
      }
      return metadata;
    });
  },
};
