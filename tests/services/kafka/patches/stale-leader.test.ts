import { describe, expect, test } from "bun:test";
import Encoder from "kafkajs/src/protocol/encoder.js";
import protocol from "kafkajs/src/protocol/requests/index.js";
import { decodeWithEpochs, EPOCH_HOLD_MS, LeaderEpochs } from "../../../../services/kafka/patches/stale-leader.ts";
import { leadersIn, metadataOf, partition, poolWith } from "./fixtures.ts";

describe("stale-leader", () => {
  test("a leader of an earlier epoch is ignored", async () => {
    let response = metadataOf([0, 1, 2], partition(0, 4));
    const pool = poolWith(() => response);
    await pool.refreshMetadata(["t"]);
    response = metadataOf([1, 2], partition(1, 5));
    await pool.refreshMetadata(["t"]);
    // From the broker that is cut off.
    response = metadataOf([0, 1, 2], partition(0, 4));
    await pool.refreshMetadata(["t"]);
    expect(leadersIn(pool.metadata)).toEqual([1]);
  });

  test("metadata are requested with leader epochs where the broker supports them", async () => {
    const lookup = protocol.lookup as (
      versions: object,
    ) => (apiKey: number, definition: unknown) => (o: object) => unknown;
    const METADATA_API_KEY = 3;
    const requestFor = (maxVersion: number) =>
      lookup({ [METADATA_API_KEY]: { minVersion: 0, maxVersion } })(METADATA_API_KEY, protocol.requests.Metadata)({
        topics: ["t"],
        allowAutoTopicCreation: false,
      }) as { request: { apiVersion: number }; response: unknown };
    expect(requestFor(13).request.apiVersion).toBe(7);
    expect(requestFor(6).request.apiVersion).toBe(6);
  });
});

describe("LeaderEpochs", () => {
  test("each partition keeps its newest leader", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(metadataOf([], partition(1, 5), partition(2, 3, 1)), 0);
    expect(leadersIn(epochs.newest(metadataOf([], partition(0, 4), partition(0, 4, 1)), 1))).toEqual([1, 0]);
  });

  test("a response of the same epoch updates the replicas", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(metadataOf([], partition(1, 5)), 0);
    const updated = epochs.newest(metadataOf([], { ...partition(1, 5), isr: [0, 1, 2] }), 1);
    expect(updated.topicMetadata[0]!.partitionMetadata[0]!.isr).toEqual([0, 1, 2]);
  });

  test("a recreated topic's epoch 0 is accepted once the higher one is older than EPOCH_HOLD_MS", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(metadataOf([], partition(1, 5)), 0);
    expect(leadersIn(epochs.newest(metadataOf([], partition(2, 0)), EPOCH_HOLD_MS - 1))).toEqual([1]);
    expect(leadersIn(epochs.newest(metadataOf([], partition(2, 0)), EPOCH_HOLD_MS))).toEqual([2]);
    expect(leadersIn(epochs.newest(metadataOf([], partition(0, 1)), EPOCH_HOLD_MS + 1))).toEqual([0]);
  });

  test("a cut-off broker's epoch is ignored as long as other brokers report the higher one", () => {
    const epochs = new LeaderEpochs();
    for (let nowMs = 0; nowMs < 10 * EPOCH_HOLD_MS; nowMs += EPOCH_HOLD_MS / 2) {
      expect(leadersIn(epochs.newest(metadataOf([], partition(1, 5)), nowMs))).toEqual([1]);
      expect(leadersIn(epochs.newest(metadataOf([], partition(0, 4)), nowMs + 1))).toEqual([1]);
    }
  });

  test("partitions without epochs are kept as reported", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(metadataOf([], partition(1)), 0);
    expect(leadersIn(epochs.newest(metadataOf([], partition(0)), 1))).toEqual([0]);
  });
});

test("decodeWithEpochs reads every field of metadata version 7", async () => {
  const partition = new Encoder()
    .writeInt16(0)
    .writeInt32(3) // partition
    .writeInt32(2) // leader
    .writeInt32(41) // leader_epoch
    .writeArray([0, 1, 2])
    .writeArray([1, 2])
    .writeArray([0]);
  const topic = new Encoder().writeInt16(0).writeString("events").writeBoolean(false).writeArray([partition]);
  const broker = new Encoder().writeInt32(2).writeString("kafka-2").writeInt32(9092).writeString(null);
  const { buffer } = new Encoder()
    .writeInt32(7) // throttle_time_ms
    .writeArray([broker])
    .writeString("cluster")
    .writeInt32(2) // controller
    .writeArray([topic]);
  expect(await decodeWithEpochs(buffer)).toEqual({
    clientSideThrottleTime: 7,
    throttleTime: 0,
    brokers: [{ nodeId: 2, host: "kafka-2", port: 9092, rack: null }],
    clusterId: "cluster",
    controllerId: 2,
    topicMetadata: [
      {
        topicErrorCode: 0,
        topic: "events",
        isInternal: false,
        partitionMetadata: [
          {
            partitionErrorCode: 0,
            partitionId: 3,
            leader: 2,
            leaderEpoch: 41,
            replicas: [0, 1, 2],
            isr: [1, 2],
            offlineReplicas: [0],
          },
        ],
      },
    ],
  } as never);
});
