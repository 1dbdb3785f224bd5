import { beforeEach, describe, expect, test } from "bun:test";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import OffsetManager from "kafkajs/src/consumer/offsetManager/index.js";
import Decoder from "kafkajs/src/protocol/decoder.js";
import Encoder from "kafkajs/src/protocol/encoder.js";
import { type LogGap, onLogGap } from "../../../../services/kafka/patches/lost-position.ts";
import { silent } from "./fixtures.ts";

const AT = { topic: "t", partition: 2 };
const NOT_LEADER = 6;

interface Call {
  request: { apiKey: number; apiVersion: number; encode(): Promise<Encoder> };
  response: { decode(payload: Buffer): Promise<unknown>; parse(data: unknown): Promise<unknown> };
}

/** The leader of partition 2 and the coordinator of its group, with records of one batch each. */
class Log {
  low = 0;
  /** Epoch → offset after its last record. */
  epochs: Record<number, number> = {};
  leaderEpoch = 0;
  committed = { offset: "-1", metadata: null as string | null };
  /** Error code of the next OffsetForLeaderEpoch. */
  error = 0;
  requests: { currentEpoch: number; epoch: number }[] = [];
  refreshes = 0;
  /** The member has partition 3 too, whose leader, node 9, cannot be reached. */
  hasUnreachable = false;

  get end(): number {
    return Math.max(0, ...Object.values(this.epochs));
  }

  readonly #endOfEpoch = async ({ request, response }: Call): Promise<unknown> => {
    expect(request).toMatchObject({ apiKey: 23, apiVersion: 3 });
    const decoder = new Decoder((await request.encode()).buffer);
    expect(decoder.readInt32()).toBe(-1);
    const [[position]] = decoder.readArray((of) => {
      expect(of.readString()).toBe("t");
      return of.readArray((entry) => {
        expect(entry.readInt32()).toBe(2);
        return { currentEpoch: entry.readInt32(), epoch: entry.readInt32() };
      });
    }) as [[{ currentEpoch: number; epoch: number }]];
    this.requests.push(position);
    const known = Object.keys(this.epochs).map(Number);
    const of =
      position.epoch > Math.max(...known) ? undefined : known.filter((epoch) => epoch <= position.epoch).at(-1);
    const entry = new Encoder()
      .writeInt16(this.error)
      .writeInt32(2)
      .writeInt32(of ?? -1)
      .writeInt64(of === undefined ? -1 : this.epochs[of]!);
    this.error = 0;
    const topic = new Encoder().writeString("t").writeArray([entry]);
    return await response.parse(await response.decode(new Encoder().writeInt32(0).writeArray([topic]).buffer));
  };

  /** A member to which the partition was just assigned. */
  member(): { group: ConsumerGroup; manager: OffsetManager; next(): Promise<number>; fetched: number[] } {
    const fetched: number[] = [];
    const assigned = this.hasUnreachable ? [2, 3] : [2];
    const committedOffsets = {};
    const broker = {
      connectionPool: { send: this.#endOfEpoch },
      fetch: async ({ topics }: { topics: { partitions: { fetchOffset: string }[] }[] }) => {
        const from = Number(topics[0]!.partitions[0]!.fetchOffset);
        fetched.push(from);
        if (from < this.low || from > this.end) {
          throw Object.assign(new Error("out of range"), { name: "KafkaJSOffsetOutOfRange", ...AT });
        }
        const [epoch, end] = Object.entries(this.epochs).find(([, end]) => end > from) ?? [];
        const batchContext = { partitionLeaderEpoch: Number(epoch) };
        const messages =
          end === undefined ? [] : [from, end - 1].map((offset) => ({ offset: String(offset), batchContext }));
        return {
          responses: [{ topicName: "t", partitions: [{ partition: 2, messages, highWatermark: String(this.end) }] }],
        };
      },
    };
    const cluster = {
      committedOffsets: () => committedOffsets,
      refreshMetadata: async () => void this.refreshes++,
      refreshMetadataIfNecessary: async () => {},
      findBroker: async () => broker,
      defaultOffset: () => -2,
      findTopicPartitionMetadata: () => [
        { partitionId: 2, leader: 1, leaderEpoch: this.leaderEpoch },
        { partitionId: 3, leader: 9, leaderEpoch: this.leaderEpoch },
      ],
      fetchTopicsOffset: async ([{ fromBeginning, partitions }]: [
        { fromBeginning: boolean; partitions: object[] },
      ]) => {
        if (Bun.deepEquals(partitions, [{ partition: 2 }])) {
          return [{ topic: "t", partitions: [{ partition: 2, offset: String(fromBeginning ? this.low : this.end) }] }];
        }
        throw Object.assign(new Error("connection refused"), { name: "KafkaJSConnectionError" });
      },
    };
    const coordinator = {
      isConnected: () => true,
      offsetFetch: async () => ({ responses: [{ topic: "t", partitions: [{ partition: 2, ...this.committed }] }] }),
      offsetCommit: async ({ topics }: { topics: { partitions: Log["committed"][] }[] }) => {
        const { offset, metadata } = topics[0]!.partitions[0]!;
        this.committed = { offset, metadata: metadata ?? null };
      },
    };
    const topicConfigurations = { t: { fromBeginning: true } };
    const instrumentationEmitter = { emit() {} };
    const group = new (ConsumerGroup as unknown as new (options: object) => ConsumerGroup)({
      logger: silent,
      cluster,
      groupId: "g",
      topics: ["t"],
      topicConfigurations,
      instrumentationEmitter,
      assigners: [],
      retry: {},
      maxWaitTimeInMs: 1,
    });
    const manager = new OffsetManager({
      cluster,
      coordinator,
      memberAssignment: { t: assigned },
      topicConfigurations,
      instrumentationEmitter,
      groupId: "g",
    });
    const { subscriptionState } = group as unknown as { subscriptionState: { assign(topics: object[]): void } };
    subscriptionState.assign([{ topic: "t", partitions: assigned }]);
    group.offsetManager = manager;
    /** Processes the next batch as the processor does. @returns its first offset, -1 without one */
    const next = async () => {
      const [batch] = await group.fetch(1);
      const last = batch?.messagesWithinOffset.at(-1);
      if (!last) return -1;
      manager.resolveOffset({ ...AT, offset: last.offset });
      await group.commitOffsets();
      return Number(batch!.messagesWithinOffset[0]!.offset);
    };
    return { group, manager, next, fetched };
  }
}

describe("lost-position", () => {
  let gaps: LogGap[];
  let log: Log;
  beforeEach(() => {
    gaps = [];
    onLogGap((gap) => gaps.push(gap));
    log = new Log();
  });
  const commit = (offset: number, metadata: object | null) => {
    log.committed = { offset: String(offset), metadata: metadata && JSON.stringify(metadata) };
  };
  const gap = (kind: LogGap["kind"], position: number, continuesAt: number) => ({ kind, ...AT, position, continuesAt });

  test("a log that was truncated below the commit and has grown beyond it is read from the truncation on", async () => {
    log.epochs = { 3: 950, 4: 1010 };
    log.leaderEpoch = 4;
    commit(1000, { epoch: 3 });
    expect(await log.member().next()).toBe(950);
    expect(gaps).toEqual([gap("truncated", 1000, 950)]);
    expect(log.requests).toEqual([{ currentEpoch: 4, epoch: 3 }]);
    expect(JSON.parse(log.committed.metadata!)).toMatchObject({ epoch: 4, truncations: 1 });
    // The next member finds nothing more.
    expect(await log.member().next()).toBe(-1);
    expect(gaps).toHaveLength(1);
  });

  test("a new leader without a truncation is no gap", async () => {
    log.epochs = { 3: 1000, 4: 1010 };
    commit(1000, { epoch: 3 });
    expect(await log.member().next()).toBe(1000);
    expect(gaps).toEqual([]);
    expect(log.committed).toEqual({ offset: "1010", metadata: '{"epoch":4}' });
  });

  test("a log that was replaced, and a commit beyond the end of an older version: everything is read", async () => {
    log.epochs = { 0: 1010 };
    commit(1000, { epoch: 3 });
    expect(await log.member().next()).toBe(0);
    commit(2000, null);
    expect(await log.member().next()).toBe(0);
    expect(gaps).toEqual([gap("truncated", 1000, 0), gap("truncated", 2000, 0)]);
  });

  test("deleted events are counted where they are found at the assignment, with earlier ones", async () => {
    log.low = 1200;
    log.epochs = { 3: 1500 };
    commit(1000, { epoch: 3, deleted_unread: 7, truncations: 2 });
    const { group, next } = log.member();
    // Each node's fetcher resolves the offsets.
    const [[batch]] = await Promise.all([group.fetch(1), group.fetch(0), group.fetch(2)]);
    expect(batch!.fetchedOffset).toBe("1200");
    expect(gaps).toEqual([gap("deleted", 1000, 1200)]);
    await next();
    expect(JSON.parse(log.committed.metadata!)).toEqual({
      epoch: 3,
      deleted_unread: 207,
      truncations: 2,
      found_at_ms: expect.any(Number),
    });
  });

  test("deleted events are counted from the last stored one where the running member finds them", async () => {
    log.epochs = { 3: 100 };
    const { group, manager, next, fetched } = log.member();
    const [batch] = await group.fetch(1);
    manager.resolveOffset({ ...AT, offset: batch!.messagesWithinOffset.at(-1)!.offset });
    // Not committed yet; meanwhile Kafka deletes.
    log.low = 130;
    log.epochs = { 3: 200 };
    expect(await group.fetch(1)).toEqual([]);
    expect(log.committed).toEqual({ offset: "100", metadata: '{"epoch":3}' });
    expect(await next()).toBe(130);
    expect(gaps).toEqual([gap("deleted", 100, 130)]);
    expect(fetched).toEqual([0, 100, 130]);
  });

  test("a running member notices the truncation by the epoch of the next records", async () => {
    log.epochs = { 3: 1000 };
    commit(900, { epoch: 3 });
    const { next, fetched } = log.member();
    expect(await next()).toBe(900);
    log.epochs = { 3: 950, 5: 1010 };
    // The batch that skips events is not taken.
    expect(await next()).toBe(-1);
    expect(await next()).toBe(950);
    expect(fetched).toEqual([900, 1000, 950]);
    expect(gaps).toEqual([gap("truncated", 1000, 950)]);
  });

  test("a partition whose leader cannot be reached does not keep the member from reading the others", async () => {
    log.epochs = { 3: 1000 };
    log.hasUnreachable = true;
    commit(900, { epoch: 3 });
    const { group, next } = log.member();
    const [, first] = await Promise.all([group.fetch(9), next()]);
    expect(first).toBe(900);
    expect(await group.fetch(9)).toEqual([]);
  });

  test("a member reads from the offset to which it was moved", async () => {
    log.epochs = { 3: 1000 };
    const { group, next, fetched } = log.member();
    group.seek({ ...AT, offset: "400" });
    expect(await next()).toBe(400);
    expect(fetched).toEqual([400]);
  });

  test("a former leader cannot confirm a position: the member refreshes the metadata and takes nothing", async () => {
    log.epochs = { 3: 1000 };
    commit(900, { epoch: 3 });
    const { next } = log.member();
    await next();
    log.epochs = { 3: 1000, 5: 1010 };
    log.error = NOT_LEADER;
    expect(await next()).toBe(-1);
    expect(log.refreshes).toBe(1);
    expect(await next()).toBe(1000);
    expect(gaps).toEqual([]);
  });
});
