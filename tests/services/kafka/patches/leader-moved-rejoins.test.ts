import { describe, expect, test } from "bun:test";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import { silent } from "./fixtures.ts";

describe("leader-moved-rejoins", () => {
  /** What a group does after fetches that failed with errors of these types. */
  async function recoverFrom(...types: string[]): Promise<string[]> {
    const done: string[] = [];
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, {
      logger: silent,
      cluster: { refreshMetadata: async () => void done.push("metadata") },
      joinAndSync: async () => void done.push("join"),
    });
    for (const type of types) await group.recoverFromFetch(Object.assign(new Error(type), { type }));
    return done;
  }

  test("a moved leader triggers a metadata refresh and no rejoin", async () => {
    const moved = ["NOT_LEADER_FOR_PARTITION", "FENCED_LEADER_EPOCH", "LEADER_NOT_AVAILABLE"];
    expect(await recoverFrom(...moved)).toEqual(["metadata", "metadata", "metadata"]);
  });

  test("a deleted topic still triggers a rejoin", async () => {
    expect(await recoverFrom("UNKNOWN_TOPIC_OR_PARTITION")).toEqual(["metadata", "join"]);
  });
});
