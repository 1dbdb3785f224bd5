import { describe, expect, test } from "bun:test";
import Broker from "kafkajs/src/broker/index.js";
import { groupOf, memberIdRequired, silent } from "./fixtures.ts";

describe("forgotten-member-id", () => {
  test("the assigned member id is kept when the join fails", async () => {
    const joined: string[] = [];
    const broker = new Broker({
      logger: silent,
      connectionPool: {
        send: async ({ memberId }: { memberId: string }) => {
          joined.push(memberId);
          if (memberId === "") throw memberIdRequired();
          throw Object.assign(new Error("stop"), { name: "Stop", retriable: false });
        },
      },
    });
    // Passes the request on unencoded.
    broker.lookupRequest = () => (options) => options;
    const group = groupOf(broker);
    for (let attempt = 0; attempt < 2; attempt++) await group.joinAndSync().catch(() => {});
    expect(joined).toEqual(["", "assigned", "assigned"]);
  });
});
