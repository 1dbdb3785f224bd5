import { describe, expect, test } from "bun:test";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import errors from "kafkajs/src/errors.js";
import "./fixtures.ts";

describe("dead-broker-stops-all", () => {
  test("a fetch from an unreachable broker ends without an error after one metadata refresh", async () => {
    let refreshed = 0;
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, {
      cluster: { refreshMetadata: async () => void refreshed++ },
    });
    await group.recoverFromFetch(new errors.KafkaJSConnectionError("refused", { broker: "b", code: "ECONNREFUSED" }));
    expect(refreshed).toBe(1);
  });

  test("other errors are rethrown", async () => {
    const group = Object.assign(Object.create(ConsumerGroup.prototype) as ConsumerGroup, { cluster: {} });
    const error = new Error("something else");
    expect(await group.recoverFromFetch(error).catch((failure: Error) => failure)).toBe(error);
  });
});
