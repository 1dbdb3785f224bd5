import { describe, expect, test } from "bun:test";
import {
  decodeWithEpochs,
  LeaderEpochs,
  type Metadata,
  NEWER_EPOCH_HOLDS_MS,
} from "../../../services/kafka/patches/metadata-patches.ts";

const partition = (partitionId: number, leader: number, leaderEpoch?: number) => ({
  partitionErrorCode: 0,
  partitionId,
  leader,
  ...(leaderEpoch === undefined ? {} : { leaderEpoch }),
  replicas: [0, 1, 2],
  isr: [1, 2],
  offlineReplicas: [0],
});
const answer = (...partitionMetadata: ReturnType<typeof partition>[]): Metadata => ({
  brokers: [],
  topicMetadata: [{ topic: "t", topicErrorCode: 0, partitionMetadata }],
});
const leaders = ({ topicMetadata }: Metadata) => topicMetadata[0]!.partitionMetadata.map(({ leader }) => leader);

describe("LeaderEpochs", () => {
  test("each partition keeps its own newest leader", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(answer(partition(0, 1, 5), partition(1, 2, 3)), 0);
    expect(leaders(epochs.newest(answer(partition(0, 0, 4), partition(1, 0, 4)), 1))).toEqual([1, 0]);
  });

  test("the same epoch brings what is new in it: replicas come and go under one leader", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(answer(partition(0, 1, 5)), 0);
    const again = epochs.newest(answer({ ...partition(0, 1, 5), isr: [0, 1, 2] }), 1);
    expect(again.topicMetadata[0]!.partitionMetadata[0]!.isr).toEqual([0, 1, 2]);
  });

  test("a topic that is made anew begins at 0: believed once nobody says the newer epoch any more", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(answer(partition(0, 1, 5)), 0);
    expect(leaders(epochs.newest(answer(partition(0, 2, 0)), NEWER_EPOCH_HOLDS_MS - 1))).toEqual([1]);
    expect(leaders(epochs.newest(answer(partition(0, 2, 0)), NEWER_EPOCH_HOLDS_MS))).toEqual([2]);
    expect(leaders(epochs.newest(answer(partition(0, 0, 1)), NEWER_EPOCH_HOLDS_MS + 1))).toEqual([0]);
  });

  test("a broker that is cut off for long is never believed while the others are asked too", () => {
    const epochs = new LeaderEpochs();
    for (let nowMs = 0; nowMs < 10 * NEWER_EPOCH_HOLDS_MS; nowMs += NEWER_EPOCH_HOLDS_MS / 2) {
      expect(leaders(epochs.newest(answer(partition(0, 1, 5)), nowMs))).toEqual([1]);
      expect(leaders(epochs.newest(answer(partition(0, 0, 4)), nowMs + 1))).toEqual([1]);
    }
  });

  test("without epochs everything is believed as it is said", () => {
    const epochs = new LeaderEpochs();
    epochs.newest(answer(partition(0, 1)), 0);
    expect(leaders(epochs.newest(answer(partition(0, 0)), 1))).toEqual([0]);
  });
});

test("metadata of version 7 are read field by field", async () => {
  const parts: Buffer[] = [];
  const int16 = (value: number) => parts.push(Buffer.from([value >> 8, value & 255]));
  const int32 = (value: number) => {
    const part = Buffer.alloc(4);
    part.writeInt32BE(value);
    parts.push(part);
  };
  const text = (value: string) => {
    int16(value.length);
    parts.push(Buffer.from(value));
  };
  const int32s = (values: number[]) => {
    int32(values.length);
    for (const value of values) int32(value);
  };
  int32(7); // throttle_time_ms
  int32(1); // brokers
  int32(2);
  text("kafka-2");
  int32(9092);
  int16(-1); // no rack
  text("cluster");
  int32(2); // controller
  int32(1); // topics
  int16(0);
  text("events");
  parts.push(Buffer.from([0]));
  int32(1); // partitions
  int16(0);
  int32(3); // partition
  int32(2); // leader
  int32(41); // leader_epoch
  int32s([0, 1, 2]);
  int32s([1, 2]);
  int32s([0]);
  expect(await decodeWithEpochs(Buffer.concat(parts))).toEqual({
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
