/**
 * Upstream: none.
 * Symptom: the member id that the coordinator assigns before a join (KIP-394) is lost when that join fails. The next
 *   join requests another id, and the group waits a session timeout for the member with the first one.
 * Change: the id is kept, as in the Java client.
 */
import Broker from "kafkajs/src/broker/index.js";
import protocol from "kafkajs/src/protocol/requests/index.js";
import { JOIN_METHOD, wrapJoin } from "./join-method.ts";
import { method, type Patch } from "./patch.ts";

const JOIN_GROUP_API_KEY = 11;

export const forgottenMemberId: Patch = {
  id: "forgotten-member-id",
  members: [method(Broker, "joinGroup"), JOIN_METHOD],
  install() {
    // kafkajs' own method repeats the request internally, where the group cannot see the id.
    Broker.prototype.joinGroup = async function (this: Broker, options) {
      const joinGroup = this.lookupRequest(JOIN_GROUP_API_KEY, protocol.requests.JoinGroup);
      try {
        return await this.connectionPool.send(joinGroup({ protocolType: "consumer", ...options }));
      } catch (error) {
        if (error instanceof Error && error.name === "KafkaJSConnectionClosedError") await this.disconnect();
        throw error;
      }
    };
    wrapJoin(
      (join) =>
        async function () {
          try {
            return await join.call(this);
          } catch (error) {
            if (!(error instanceof Error) || error.name !== "KafkaJSMemberIdRequired") throw error;
            this.memberId = (error as Error & { memberId: string }).memberId;
          }
          await join.call(this);
        },
    );
  },
};
