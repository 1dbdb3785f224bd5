/**
 * Upstream: none.
 * Symptom: the ages of metadata and of the last commit, and the end of throttling, are measured by the time of day. When
 *   the clock steps back, nothing is refreshed, committed or sent for the length of the step.
 * Change: a stored time that the clock cannot have reached yet counts as past; a timer ends the throttling.
 */
import BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import OffsetManager from "kafkajs/src/consumer/offsetManager/index.js";
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import { method, type Patch } from "./patch.ts";

export const clockAges: Patch = {
  id: "clock-ages",
  members: [
    method(BrokerPool, "refreshMetadataIfNecessary"),
    method(OffsetManager, "commitOffsetsIfNecessary"),
    method(RequestQueue, "maybeThrottle"),
    method(RequestQueue, "checkPendingRequests"),
  ],
  install() {
    const { refreshMetadataIfNecessary } = BrokerPool.prototype;
    BrokerPool.prototype.refreshMetadataIfNecessary = async function (this: BrokerPool, topics) {
      const { metadataExpireAt, metadataMaxAge } = this;
      if (metadataExpireAt !== null && metadataExpireAt > Date.now() + metadataMaxAge) this.metadataExpireAt = null;
      await refreshMetadataIfNecessary.call(this, topics);
    };
    const { commitOffsetsIfNecessary } = OffsetManager.prototype;
    OffsetManager.prototype.commitOffsetsIfNecessary = async function (this: OffsetManager) {
      if (this.lastCommit > Date.now()) this.lastCommit = 0;
      await commitOffsetsIfNecessary.call(this);
    };
    const { maybeThrottle } = RequestQueue.prototype;
    RequestQueue.prototype.maybeThrottle = function (this: RequestQueue, throttleMs) {
      maybeThrottle.call(this, throttleMs);
      if (throttleMs === null || throttleMs <= 0) return;
      const until = this.throttledUntil;
      setTimeout(() => {
        // A later throttling has its own timer.
        if (this.throttledUntil !== until) return;
        this.throttledUntil = -1;
        clearTimeout(this.throttleCheckTimeoutId ?? undefined);
        this.throttleCheckTimeoutId = null;
        this.checkPendingRequests();
      }, throttleMs).unref();
    };
  },
};
