/**
 * Upstream: none.
 * Symptom: with unlimited retries, heartbeats and commits go to a dead coordinator until it is back, or make the member
 *   stop and rejoin.
 * Change: the member keeps reading and searches for the new coordinator in the background, as the Java client does. A
 *   commit without an early answer triggers a metadata refresh, which detects a coordinator that is gone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import { refreshWhileWaiting } from "../refresh-while-waiting.ts";
import { isConnectionError } from "./connections.ts";
import { method, type Patch } from "./patch.ts";

/** Answers of a broker that is not, or not yet, the group's coordinator. */
const COORDINATOR_MOVED: ReadonlySet<string> = new Set([
  "NOT_COORDINATOR_FOR_GROUP",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "GROUP_LOAD_IN_PROGRESS",
]);
const SEARCH_PAUSE_MS = 100;
/** Far longer than the election of a coordinator; the next heartbeat starts a new search. */
const SEARCH_LIMIT_MS = 30_000;

const searching = new WeakSet<ConsumerGroup>();

export const lostCoordinator: Patch = {
  id: "lost-coordinator",
  members: [
    method(ConsumerGroup, "heartbeat"),
    method(ConsumerGroup, "commitOffsets"),
    method(ConsumerGroup, "commitOffsetsIfNecessary"),
  ],
  install() {
    const { heartbeat, commitOffsets, commitOffsetsIfNecessary } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.heartbeat = async function (this: ConsumerGroup, options) {
      await withCoordinator(this, () => heartbeat.call(this, options));
    };
    ConsumerGroup.prototype.commitOffsets = async function (this: ConsumerGroup, offsets) {
      await withCoordinator(this, () => commitOffsets.call(this, offsets));
    };
    ConsumerGroup.prototype.commitOffsetsIfNecessary = async function (this: ConsumerGroup) {
      await withCoordinator(this, () => commitOffsetsIfNecessary.call(this));
    };
  },
};

/**
 * Runs a request to the coordinator, or skips it while the coordinator is unknown. Skipping is safe: without a
 * coordinator no partition is reassigned, offsets stay resolved and are committed with the next commit, and the new
 * coordinator reads the member from the group's log.
 */
async function withCoordinator(group: ConsumerGroup, request: () => Promise<void>): Promise<void> {
  if (searching.has(group)) return;
  try {
    await refreshWhileWaiting(request(), () => group.cluster.refreshMetadata());
  } catch (error) {
    if (!isConnectionError(error) && !COORDINATOR_MOVED.has((error as { type?: string }).type ?? "")) throw error;
    searching.add(group);
    void findCoordinator(group).finally(() => searching.delete(group));
  }
}

async function findCoordinator(group: ConsumerGroup): Promise<void> {
  const limit = performance.now() + SEARCH_LIMIT_MS;
  do {
    await sleep(SEARCH_PAUSE_MS);
    try {
      const coordinator = await group.cluster.findGroupCoordinator({ groupId: group.groupId });
      group.coordinator = coordinator;
      if (group.offsetManager) group.offsetManager.coordinator = coordinator;
      return;
    } catch {
      // Not elected yet, or not reachable.
    }
  } while (performance.now() < limit);
}
