/**
 * Upstream: none.
 * Symptom: heartbeats are due by the time of day. When the clock steps back, the member sends none for the length of the
 *   step: the group puts it out after a session timeout, and again after each join.
 * Change: they are due by the monotonic clock.
 */
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import { method, type Patch } from "./patch.ts";

export const clockHeartbeat: Patch = {
  id: "clock-heartbeat",
  members: [method(ConsumerGroup, "heartbeat")],
  install() {
    const { heartbeat } = ConsumerGroup.prototype;
    const sentMs = new WeakMap<ConsumerGroup, number>();
    ConsumerGroup.prototype.heartbeat = async function (this: ConsumerGroup, options) {
      if (performance.now() < (sentMs.get(this) ?? Number.NEGATIVE_INFINITY) + options.interval) return;
      // Due for kafkajs too, whatever the time of day; its callers still share one request.
      this.lastRequest = 0;
      await heartbeat.call(this, options);
      if (this.memberId) sentMs.set(this, performance.now());
    };
  },
};
