/**
 * Upstream: none.
 * Symptom: every connection searches for timed-out requests ten times a second.
 * Change: it searches once a second; request timeouts are seconds long.
 */
import RequestQueue from "kafkajs/src/network/requestQueue/index.js";
import { method, type Patch } from "./patch.ts";

const CHECK_INTERVAL_MS = 1000;

export const timeoutCheck: Patch = {
  id: "timeout-check",
  members: [method(RequestQueue, "scheduleRequestTimeoutCheck"), method(RequestQueue, "destroy")],
  install() {
    RequestQueue.prototype.scheduleRequestTimeoutCheck = function (this: RequestQueue) {
      if (!this.enforceRequestTimeout) return;
      this.destroy();
      this.requestTimeoutIntervalId = setInterval(
        () => {
          const nowMs = performance.now();
          for (const request of this.inflight.values()) {
            if (nowMs - request.sentMs > request.requestTimeout) request.timeoutRequest();
          }
          if (!this.isConnected()) this.destroy();
        },
        Math.min(this.requestTimeout, CHECK_INTERVAL_MS),
      );
    };
  },
};
