/**
 * Upstream: none.
 * Symptom: a fetch whose connection closes removes its broker from the pool, and the seed broker is then another one. A
 *   metadata refresh under way puts this one in the place of the removed broker: requests to that node go to another, and
 *   a member that joins again asks the wrong broker for ever. Without another broker there is no seed broker either: the
 *   refresh is a TypeError, which ends the consumer. Both follow a freeze of several brokers.
 * Change: the last broker that is removed stays the seed broker; connect() replaces it when it cannot be reached. After a
 *   refresh every broker of the pool has the address that the metadata list, and its own id; others are forgotten, and
 *   found again by the next refresh.
 */
import BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import { METADATA_PROPERTY, type Metadata } from "./metadata.ts";
import { method, type Patch } from "./patch.ts";

export const replacedSeedBroker: Patch = {
  id: "replaced-seed-broker",
  members: [method(BrokerPool, "removeBroker"), method(BrokerPool, "refreshMetadata"), METADATA_PROPERTY],
  install() {
    const { removeBroker, refreshMetadata } = BrokerPool.prototype;
    BrokerPool.prototype.removeBroker = function (this: BrokerPool, address) {
      const { seedBroker } = this;
      removeBroker.call(this, address);
      this.seedBroker ??= seedBroker;
    };
    BrokerPool.prototype.refreshMetadata = async function (this: BrokerPool, topics) {
      await refreshMetadata.call(this, topics);
      for (const { nodeId, host, port } of (this.metadata as Metadata | null)?.brokers ?? []) {
        const broker = this.brokers[nodeId];
        if (!broker) continue;
        const { connectionPool } = broker;
        if (connectionPool.host === host && connectionPool.port === port) broker.nodeId = nodeId;
        else delete this.brokers[nodeId];
      }
    };
  },
};
