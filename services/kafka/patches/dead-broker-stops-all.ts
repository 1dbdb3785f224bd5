/**
 * Upstream: none.
 * Symptom: one unreachable broker ends the fetching from all brokers, repeatedly, until it is back.
 * Change: the fetch from that broker returns nothing after a metadata refresh; the fetches from others continue.
 */
import { setTimeout as sleep } from "node:timers/promises";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import { isConnectionError } from "./connections.ts";
import { method, type Patch } from "./patch.ts";

/** Pause before the next fetch from an unreachable broker: short beside its restart, and no busy loop. */
const UNREACHABLE_PAUSE_MS = 250;

export const deadBrokerStopsAll: Patch = {
  id: "dead-broker-stops-all",
  members: [method(ConsumerGroup, "recoverFromFetch")],
  install() {
    const { recoverFromFetch } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.recoverFromFetch = async function (this: ConsumerGroup, error) {
      try {
        await recoverFromFetch.call(this, error);
      } catch (failure) {
        if (!isConnectionError(failure)) throw failure;
        await this.cluster.refreshMetadata().catch(() => {});
        await sleep(UNREACHABLE_PAUSE_MS);
      }
    };
  },
};
