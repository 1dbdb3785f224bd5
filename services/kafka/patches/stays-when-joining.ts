/**
 * Upstream: none.
 * Symptom: a consumer that is stopped while it joins ends without leaving the group. The group waits a session timeout,
 *   or the end of the join, for a member that no longer exists.
 * Change: the consumer leaves the group and sends no further join request.
 */
import { setTimeout as sleep } from "node:timers/promises";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import Runner from "kafkajs/src/consumer/runner.js";
import errors from "kafkajs/src/errors.js";
import { JOIN_METHOD, wrapJoin } from "./join-method.ts";
import { method, type Patch } from "./patch.ts";

/** A live coordinator answers within milliseconds; an orderly stop does not wait for a dead one. */
const LEAVE_LIMIT_MS = 2000;

const joining = new WeakSet<ConsumerGroup>();
const stopping = new WeakSet<ConsumerGroup>();
/** The request that obtains the member id. Settled, never rejected, once the id is known or the request has failed. */
const idRequests = new WeakMap<ConsumerGroup, Promise<unknown>>();

export const staysWhenJoining: Patch = {
  id: "stays-when-joining",
  members: [JOIN_METHOD, method(ConsumerGroup, "joinAndSync"), method(ConsumerGroup, "leave"), method(Runner, "stop")],
  install() {
    wrapJoin(
      (join) =>
        function () {
          if (stopping.has(this)) {
            return Promise.reject(new errors.KafkaJSNonRetriableError("The consumer is stopping and does not join"));
          }
          const request = join.call(this);
          // A member with an id may wait in this request for all other members; one without is answered at once.
          if (this.memberId === null) idRequests.set(this, Promise.allSettled([request]));
          return request;
        },
    );
    const { joinAndSync } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.joinAndSync = async function (this: ConsumerGroup) {
      joining.add(this);
      try {
        await joinAndSync.call(this);
      } finally {
        joining.delete(this);
      }
    };
    const { stop } = Runner.prototype;
    Runner.prototype.stop = async function (this: Runner) {
      const group = this.consumerGroup;
      stopping.add(group);
      // The join fails because of the stop; that is no crash.
      this.onCrash = () => {};
      if (joining.has(group)) {
        await Promise.race([leaveWhileJoining(group).catch(() => {}), sleep(LEAVE_LIMIT_MS)]);
      }
      await stop.call(this);
    };
  },
};

async function leaveWhileJoining(group: ConsumerGroup): Promise<void> {
  // forgotten-member-id awaits the request itself and has set the id by the time allSettled() resolves.
  await idRequests.get(group);
  await group.leave();
}
