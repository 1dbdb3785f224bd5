/**
 * Upstream: https://github.com/tulios/kafkajs/issues/1556, https://github.com/tulios/kafkajs/issues/1704
 * Symptom: every connection rearms a 1 ms timer forever; idle, that costs 3.7 % of a CPU core.
 * Change: the timer is armed only while requests wait for a free slot or for the end of throttling.
 */
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import { method, type Patch } from "./patch.ts";

const PENDING_CHECK_MS = 10;

export const idleTimer: Patch = {
  id: "idle-timer",
  members: [method(RequestQueue, "scheduleCheckPendingRequests"), method(RequestQueue, "checkPendingRequests")],
  install() {
    RequestQueue.prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
      // With nothing pending, the next push arms the timer if its request has to wait.
      if (this.throttleCheckTimeoutId || this.pending.length === 0) return;
      const throttledMs = this.throttledUntil - Date.now();
      this.throttleCheckTimeoutId = setTimeout(
        () => {
          this.throttleCheckTimeoutId = null;
          this.checkPendingRequests();
        },
        throttledMs > 0 ? throttledMs : PENDING_CHECK_MS,
      );
    };
  },
};
