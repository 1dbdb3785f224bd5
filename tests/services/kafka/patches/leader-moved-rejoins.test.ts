import { describe, expect, test } from "bun:test";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import { silent } from "./fixtures.ts";

describe("leader-moved-rejoins", () => {
  test("a moved leader triggers a metadata refresh and no rejoin", async () => {
    const done: string[] = [];
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, {
      logger: silent,
      cluster: { refreshMetadata: async () => void done.push("metadata") },
      joinAndSync: async () => void done.push("join"),
    });
    for (const type of ["NOT_LEADER_FOR_PARTITION", "FENCED_LEADER_EPOCH", "LEADER_NOT_AVAILABLE"]) {
      await group.recoverFromFetch(Object.assign(new Error(type), { type }));
    }
    expect(done).toEqual(["metadata", "metadata", "metadata"]);
  });

  test("a deleted topic still triggers a rejoin", async () => {
    const done: string[] = [];
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, {
      logger: silent,
      cluster: { refreshMetadata: async () => void done.push("metadata") },
      joinAndSync: async () => void done.push("join"),
    });
    await group.recoverFromFetch(Object.assign(new Error("gone"), { type: "UNKNOWN_TOPIC_OR_PARTITION" }));
    expect(done).toEqual(["metadata", "join"]);
  });
});
