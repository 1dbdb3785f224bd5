import { describe, expect, test } from "bun:test";
import OffsetManager from "kafkajs/src/consumer/offsetManager/index.js";
import { eventually } from "../../../eventually.ts";
import { connectionClosed, groupOf, unlessHanging } from "./fixtures.ts";

describe("lost-coordinator", () => {
  const group = (coordinator: unknown, next: unknown = undefined) =>
    Object.assign(groupOf(next), { coordinator, memberId: "m", generationId: 1, lastRequest: 0 });
  const gone = () => {
    throw connectionClosed();
  };

  test("a member survives the loss of its coordinator and sends its next heartbeat to the new one", async () => {
    const { promise: received, resolve } = Promise.withResolvers<{ memberId: string; groupGenerationId: number }>();
    const found = { heartbeat: async (request: { memberId: string; groupGenerationId: number }) => resolve(request) };
    const member = group({ heartbeat: gone }, found);
    member.offsetManager = { coordinator: member.coordinator } as OffsetManager;
    const heartbeats = setInterval(() => void member.heartbeat({ interval: 0 }), 10);
    try {
      await member.heartbeat({ interval: 0 });
      // The same member of the same generation: it did not rejoin.
      expect(await received).toMatchObject({ memberId: "m", groupGenerationId: 1 });
      expect(member.offsetManager?.coordinator).toBe(found);
    } finally {
      clearInterval(heartbeats);
    }
  });

  test("an offset whose commit failed is committed with the new coordinator", async () => {
    const committed: unknown[] = [];
    const found = { isConnected: () => true, offsetCommit: async (request: unknown) => void committed.push(request) };
    const lost = { isConnected: () => true, offsetCommit: gone };
    const member = group(lost, found);
    const offsets = new OffsetManager({
      cluster: { committedOffsets: () => ({ t: { 0: "5" } }), refreshMetadata: async () => {} },
      coordinator: lost,
      memberAssignment: { t: [0] },
      topicConfigurations: {},
      instrumentationEmitter: { emit() {} },
      groupId: "g",
      generationId: 1,
      memberId: "m",
      autoCommitInterval: 0,
    });
    member.offsetManager = offsets as unknown as typeof member.offsetManager;
    offsets.committedOffsets().t = { 0: "5" };
    offsets.resolveOffset({ topic: "t", partition: 0, offset: "9" });
    await eventually("the commit", async () => {
      await member.commitOffsetsIfNecessary();
      return committed.length > 0;
    });
    expect(committed).toEqual([
      expect.objectContaining({
        topics: [{ topic: "t", partitions: [expect.objectContaining({ partition: "0", offset: "10" })] }],
      }),
    ]);
  });

  test("a silent coordinator is replaced once the metadata no longer list it", async () => {
    const { promise: unanswered, reject } = Promise.withResolvers<void>();
    const found = { heartbeat: async () => {} };
    const member = group({ heartbeat: () => unanswered }, found);
    const { cluster } = member as unknown as { cluster: { refreshMetadata(): Promise<void> } };
    // As gone-broker does when the metadata no longer list the broker.
    cluster.refreshMetadata = async () => {
      reject(connectionClosed());
    };
    const heartbeat = member.heartbeat({ interval: 0 }).then(() => "continues");
    expect(await unlessHanging(heartbeat)).toBe("continues");
    await eventually("the new coordinator", () => member.coordinator === found);
  });

  test("an error response of the coordinator is rethrown", async () => {
    const answer = Object.assign(new Error("unknown"), { type: "UNKNOWN_MEMBER_ID", name: "KafkaJSProtocolError" });
    const failure = await group({ heartbeat: () => Promise.reject(answer) })
      .heartbeat({ interval: 0 })
      .catch((error: Error) => error);
    expect(failure).toBe(answer);
  });
});
