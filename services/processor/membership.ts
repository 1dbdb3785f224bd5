/** Whether this processor is a member of its group, for its readiness. */
import type { Consumer } from "kafkajs";

/** Not a member when the group has confirmed nothing for this long: twice the longest rebalance, in which no heartbeat is sent. */
export const GROUP_SILENCE_MS = 30_000;

/** @returns true from a join on, while heartbeats or joins are confirmed; while the group cannot be reached it turns false */
export function watchMembership(
  consumer: Pick<Consumer, "events" | "on">,
  now: () => number = () => performance.now(),
): () => boolean {
  const { CRASH, GROUP_JOIN, HEARTBEAT } = consumer.events;
  let joined = false;
  let confirmedAt = 0;
  consumer.on(GROUP_JOIN, () => {
    joined = true;
    confirmedAt = now();
  });
  consumer.on(HEARTBEAT, () => {
    confirmedAt = now();
  });
  consumer.on(CRASH, () => {
    joined = false;
  });
  return () => joined && now() - confirmedAt < GROUP_SILENCE_MS;
}
