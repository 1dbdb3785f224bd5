import { describe, expect, test } from "bun:test";
import OffsetManager from "kafkajs/src/consumer/offsetManager/index.js";
import { stepClockBack } from "../../../stepped-clock.ts";
import { metadataOf, partition, poolWith, requestQueue, unlessHanging } from "./fixtures.ts";

describe("clock-ages", () => {
  test("metadata are refreshed by age after the clock stepped back", async () => {
    let refreshes = 0;
    const pool = poolWith(() => {
      refreshes++;
      return metadataOf([0], partition(0));
    });
    pool.metadataMaxAge = 10;
    await pool.refreshMetadata(["t"]);
    using _ = stepClockBack();
    await pool.refreshMetadataIfNecessary(["t"]);
    expect(refreshes).toBe(2);
  });

  test("resolved offsets are committed by interval after the clock stepped back", async () => {
    const manager = Object.assign(Object.create(OffsetManager.prototype) as OffsetManager, {
      lastCommit: Date.now(),
      autoCommitInterval: 10,
      commits: 0,
      commitOffsets: async () => void manager.commits++,
    });
    using _ = stepClockBack();
    await manager.commitOffsetsIfNecessary();
    expect(manager.commits).toBe(1);
  });

  test("throttling ends after the clock stepped back", async () => {
    const queue = requestQueue();
    queue.maybeThrottle(30);
    using _ = stepClockBack();
    const { promise, resolve } = Promise.withResolvers<unknown>();
    (queue as unknown as { push(request: unknown): void }).push({
      entry: { correlationId: 1, resolve: () => resolve("sent"), reject: () => {} },
      expectResponse: false,
      sendRequest: () => {},
    });
    expect(queue.pending).toHaveLength(1);
    expect(await unlessHanging(promise)).toBe("sent");
    queue.destroy();
  });
});
