/**
 * Upstream: none.
 * Symptom: when a partition's leader moves, the member rejoins its group: all members stop, once for each fetch that
 *   reports the move.
 * Change: the member refreshes the metadata and fetches from the new leader, as the Java client does.
 */
import { setTimeout as sleep } from "node:timers/promises";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import { method, type Patch } from "./patch.ts";

/** Errors that report a new leader; the assignment of partitions to members is unchanged. */
const LEADER_MOVED: ReadonlySet<string> = new Set([
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_FOR_PARTITION",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
]);
/** Pause before the next fetch of a partition without a leader; an election takes milliseconds. */
const LEADER_PAUSE_MS = 100;

export const leaderMovedRejoins: Patch = {
  id: "leader-moved-rejoins",
  members: [method(ConsumerGroup, "recoverFromFetch")],
  install() {
    const { recoverFromFetch } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.recoverFromFetch = async function (this: ConsumerGroup, error) {
      if (!LEADER_MOVED.has((error as { type?: string }).type ?? "")) return await recoverFromFetch.call(this, error);
      await this.cluster.refreshMetadata().catch(() => {});
      await sleep(LEADER_PAUSE_MS);
    };
  },
};
