import { describe, expect, test } from "bun:test";
import Broker from "kafkajs/src/broker/index.js";
import Runner from "kafkajs/src/consumer/runner.js";
import { eventually } from "../../../eventually.ts";
import { groupOf, HANGS_MS, memberIdRequired, silent } from "./fixtures.ts";

describe("stays-when-joining", () => {
  /** A consumer whose join waits until it leaves; `requests` are those that its coordinator received, in order. */
  function joiningConsumer(connect: () => Promise<void> = async () => {}) {
    const requests: string[] = [];
    const crashes: Error[] = [];
    const { promise: joins, resolve: joinWaits } = Promise.withResolvers<void>();
    const { promise: left, resolve: leave } = Promise.withResolvers<void>();
    const broker = new Broker({
      logger: silent,
      connectionPool: {
        send: async ({ memberId, protocolType }: { memberId: string; protocolType?: string }) => {
          requests.push(`${protocolType ? "join" : "leave"} ${memberId}`);
          if (!protocolType) return leave();
          if (memberId === "") throw memberIdRequired();
          joinWaits();
          await left;
          throw Object.assign(new Error("unknown"), { name: "KafkaJSProtocolError", type: "UNKNOWN_MEMBER_ID" });
        },
      },
    });
    broker.lookupRequest = () => (options) => options;
    const runner = new Runner({
      logger: silent,
      consumerGroup: Object.assign(groupOf(broker), { connect, getNodeIds: () => [] }),
      instrumentationEmitter: { emit() {} },
      onCrash: (error: Error) => void crashes.push(error),
      concurrency: 1,
    });
    return { runner, requests, joins, crashes };
  }

  test(
    "stop() during a waiting join leaves the group and sends no further join",
    async () => {
      const { runner, requests, joins, crashes } = joiningConsumer();
      const started = runner.start();
      await joins;
      await runner.stop();
      expect(requests).toEqual(["join ", "join assigned", "leave assigned"]);
      await started;
      expect(requests).toHaveLength(3);
      expect(crashes).toEqual([]);
    },
    HANGS_MS,
  );

  test(
    "stop() while the member id is requested leaves under that id and does not join",
    async () => {
      const { runner, requests, crashes } = joiningConsumer();
      const started = runner.start();
      await eventually("the first join", async () => requests.length > 0);
      await runner.stop();
      await started;
      expect(requests.filter((what) => what.startsWith("leave"))).toEqual(["leave assigned"]);
      expect(requests.at(-1)).toBe("leave assigned");
      expect(crashes).toEqual([]);
    },
    HANGS_MS,
  );

  test(
    "stop() before the join sends no request",
    async () => {
      const { promise: connected, resolve: connect } = Promise.withResolvers<void>();
      const { runner, requests, crashes } = joiningConsumer(() => connected);
      const started = runner.start();
      await runner.stop();
      connect();
      await started;
      expect(requests).toEqual([]);
      expect(crashes).toEqual([]);
    },
    HANGS_MS,
  );
});
