/**
 * Upstream: none; kafkajs has no leader epochs in commits and fetches (KIP-320).
 * Symptom: after a power failure the log may end below the committed offset. Once new events have passed that offset, the
 *   member continues there and never reads the ones before. An offset that is out of range, since Kafka deleted unread
 *   events, is silently reset to the beginning or the end.
 * Change: the commit's metadata has the leader epoch of the last record read. When a partition is assigned, and when the
 *   epoch of fetched records changes, the leader is requested where that epoch ends: below the position, the log was
 *   truncated there, and the member reads from there on. What is missing is reported and counted in the metadata.
 */
import type { InternalBroker } from "kafkajs/src/cluster/index.js";
import type Batch from "kafkajs/src/consumer/batch.js";
import ConsumerGroup from "kafkajs/src/consumer/consumerGroup.js";
import OffsetManager from "kafkajs/src/consumer/offsetManager/index.js";
import Decoder from "kafkajs/src/protocol/decoder.js";
import Encoder from "kafkajs/src/protocol/encoder.js";
import errors from "kafkajs/src/protocol/error.js";
import { type CommitMetadata, readCommitMetadata, writeCommitMetadata } from "../../domain/commit-metadata.ts";
import { method, type Patch } from "./patch.ts";

/** What a member found when its position was not in the log. */
export interface LogGap {
  /** deleted: Kafka deleted unread events. truncated: the log lost records that were read; their offsets have new ones. */
  kind: "deleted" | "truncated";
  topic: string;
  partition: number;
  /** Where the group was. */
  position: number;
  /** Where it continues. */
  continuesAt: number;
}

let report: (gap: LogGap) => void = () => {};

/** Sets the function that is called for every gap, for all consumers of the process. */
export function onLogGap(listener: typeof report): void {
  report = listener;
}

/** What is known of a partition since it was assigned. */
interface PartitionState extends CommitMetadata {
  /** Where the records of an epoch begin, ascending. */
  epochs: { from: number; epoch: number }[];
}

/** A commit is at most some batches behind the fetched records, and an epoch lasts for many batches. */
const MAX_EPOCHS = 8;

/** A manager lives from one join of the group to the next. */
const statesOf = new WeakMap<OffsetManager, Map<string, PartitionState>>();
/** Partitions whose offsets a fetcher resolves: after a leader has moved another one would find the same gap. */
const resolving = new WeakMap<OffsetManager, Set<string>>();

const keyOf = (topic: string, partition: number) => `${topic} ${partition}`;

function stateOf(manager: OffsetManager, topic: string, partition: number): PartitionState {
  const states = statesOf.get(manager) ?? new Map<string, PartitionState>();
  statesOf.set(manager, states);
  const key = keyOf(topic, partition);
  const state = states.get(key) ?? { deletedUnread: 0, truncations: 0, epochs: [] };
  states.set(key, state);
  return state;
}

/** Epoch of the record before an offset. */
const epochBefore = (state: PartitionState, offset: number) =>
  state.epochs.findLast(({ from }) => from < offset)?.epoch;

function addEpoch(state: PartitionState, from: number, epoch: number): void {
  const last = state.epochs.at(-1);
  if (last?.epoch === epoch && last.from <= from) return;
  state.epochs = [...state.epochs.filter((entry) => entry.from < from), { from, epoch }].slice(-MAX_EPOCHS);
}

function found(state: PartitionState, gap: LogGap): number {
  if (gap.kind === "deleted") state.deletedUnread += gap.continuesAt - gap.position;
  else state.truncations++;
  state.foundAtMs = Date.now();
  report(gap);
  return gap.continuesAt;
}

interface TopicPartition {
  topic: string;
  partition: number;
}

const API_KEY = 23;
const API_VERSION = 3;
const CONSUMER = -1;

/** OffsetForLeaderEpoch, version 3, of one partition. */
function epochRequest({ topic, partition }: TopicPartition, currentEpoch: number, epoch: number) {
  const position = () => new Encoder().writeInt32(partition).writeInt32(currentEpoch).writeInt32(epoch);
  return {
    request: {
      apiKey: API_KEY,
      apiVersion: API_VERSION,
      apiName: "OffsetForLeaderEpoch",
      encode: async () =>
        new Encoder().writeInt32(CONSUMER).writeArray([new Encoder().writeString(topic).writeArray([position()])]),
    },
    response: {
      async decode(payload: unknown): Promise<{ errorCode: number; endOffset: number }> {
        const decoder = new Decoder(payload);
        decoder.readInt32(); // throttle time
        const topics = decoder.readArray((of) => {
          of.readString();
          return of.readArray((entry) => {
            const errorCode = entry.readInt16();
            entry.readInt32(); // partition
            entry.readInt32(); // leader epoch
            return { errorCode, endOffset: Number(entry.readInt64()) };
          });
        });
        return topics[0]![0]!;
      },
      async parse(answer: { errorCode: number }) {
        if (answer.errorCode !== 0) throw errors.createErrorFromCode(answer.errorCode);
        return answer;
      },
    },
  };
}

/**
 * Offset after the last record of an epoch in the leader's log, or of the newest epoch before it; 0 when the log has no
 * such epoch, since it was replaced. A broker that is no longer the leader answers with an error.
 */
async function endOfEpoch(manager: OffsetManager, at: TopicPartition, epoch: number): Promise<number> {
  const known = manager.cluster
    .findTopicPartitionMetadata(at.topic)
    .find(({ partitionId }) => partitionId === at.partition);
  const broker: InternalBroker = await manager.cluster.findBroker({ nodeId: known?.leader ?? -1 });
  const call = epochRequest(at, known?.leaderEpoch ?? -1, epoch);
  const { endOffset } = (await broker.connectionPool.send(call)) as { endOffset: number };
  return Math.max(0, endOffset);
}

/** Where the group continues in a partition that is assigned to this member. */
async function startOf(
  manager: OffsetManager,
  at: TopicPartition,
  { committed, metadata, low, high }: { committed: number; metadata: string | null; low: number; high: number },
): Promise<number> {
  const state = stateOf(manager, at.topic, at.partition);
  Object.assign(state, readCommitMetadata(metadata), { epochs: [] });
  const continueAt = (kind: LogGap["kind"], continuesAt: number) =>
    found(state, { kind, ...at, position: committed, continuesAt });
  if (committed < 0) return low;
  if (committed < low) return continueAt("deleted", low);
  const { epoch } = state;
  // Without an epoch (a commit of an older version) only a position beyond the end shows that records are missing.
  const end = epoch === undefined ? (committed > high ? low : committed) : await endOfEpoch(manager, at, epoch);
  if (end < committed) return continueAt("truncated", Math.max(low, end));
  if (epoch !== undefined) addEpoch(state, committed - 1, epoch);
  return committed;
}

/** Resolves the partitions of one node: a leader that cannot be reached must not keep the member from the others. */
async function resolveOffsets(
  manager: OffsetManager,
  ofNode: { topic: string; partitions: number[] }[],
): Promise<void> {
  const committedOffsets = manager.committedOffsets();
  const inWork = resolving.get(manager) ?? new Set<string>();
  resolving.set(manager, inWork);
  const isPending = (topic: string, partition: number) =>
    !(Number(committedOffsets[topic]?.[partition] ?? -1) >= 0) && !inWork.has(keyOf(topic, partition));
  const pending = ofNode
    .map(({ topic, partitions }) => ({
      topic,
      partitions: partitions.filter((partition) => isPending(topic, partition)).map((partition) => ({ partition })),
    }))
    .filter(({ partitions }) => partitions.length > 0);
  if (pending.length === 0) return;
  const keys = pending.flatMap(({ topic, partitions }) => partitions.map(({ partition }) => keyOf(topic, partition)));
  for (const key of keys) inWork.add(key);
  try {
    await resolvePending(manager, pending);
  } finally {
    for (const key of keys) inWork.delete(key);
  }
}

async function resolvePending(
  manager: OffsetManager,
  pending: { topic: string; partitions: { partition: number }[] }[],
): Promise<void> {
  const committedOffsets = manager.committedOffsets();
  const coordinator = await manager.getCoordinator();
  const { responses } = await coordinator.offsetFetch({ groupId: manager.groupId, topics: pending });
  const offsets = async (fromBeginning: boolean) => {
    const answer = await manager.cluster.fetchTopicsOffset(pending.map((topic) => ({ ...topic, fromBeginning })));
    return new Map<string, number>(
      answer.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition, offset }) => [keyOf(topic, partition), Number(offset)] as const),
      ),
    );
  };
  const [lows, highs] = await Promise.all([offsets(true), offsets(false)]);
  const commits = responses.flatMap(({ topic, partitions }) => partitions.map((entry) => ({ topic, ...entry })));
  for (const { topic, partition, offset, metadata } of commits) {
    const key = keyOf(topic, partition);
    const low = lows.get(key)!;
    const committed = Number(offset);
    const fromBeginning = manager.topicConfigurations[topic]?.fromBeginning;
    const start =
      committed < 0 && !fromBeginning
        ? highs.get(key)!
        : await startOf(manager, { topic, partition }, { committed, metadata, low, high: highs.get(key)! });
    // A seek() before has set it.
    manager.resolvedOffsets[topic]![partition] ??= String(start);
    // Last: with it the partition is no longer pending.
    committedOffsets[topic] = { ...committedOffsets[topic], [partition]: committed < 0 ? String(start) : offset };
  }
}

/** False when the batch does not continue the records before it: the next fetch reads what was skipped. */
async function isContinuous(group: ConsumerGroup, batch: Batch): Promise<boolean> {
  const manager = group.offsetManager;
  const messages = batch.messagesWithinOffset;
  const first = messages[0]?.batchContext?.partitionLeaderEpoch;
  const last = messages.at(-1)?.batchContext?.partitionLeaderEpoch;
  if (!manager || first === undefined) return true;
  const { topic, partition } = batch;
  const position = Number(batch.fetchedOffset);
  const state = stateOf(manager, topic, partition);
  const before = epochBefore(state, position);
  if (before !== undefined && before !== first) {
    const end = await endOfEpoch(manager, { topic, partition }, before);
    if (end < position) {
      const continuesAt = found(state, { kind: "truncated", topic, partition, position, continuesAt: end });
      state.epochs = state.epochs.filter(({ from }) => from < end);
      manager.resolvedOffsets[topic]![partition] = String(continuesAt);
      return false;
    }
  }
  if (first === last) addEpoch(state, position, first);
  else
    for (const { offset, batchContext } of messages)
      addEpoch(state, Number(offset), batchContext!.partitionLeaderEpoch);
  return true;
}

export const lostPosition: Patch = {
  id: "lost-position",
  members: [
    method(OffsetManager, "resolveOffsets"),
    method(ConsumerGroup, "seekOffsets"),
    method(OffsetManager, "uncommittedOffsets"),
    method(OffsetManager, "clearOffsets"),
    method(ConsumerGroup, "fetch"),
    method(ConsumerGroup, "recoverFromOffsetOutOfRange"),
  ],
  install() {
    // seekOffsets() calls it for the partitions of all nodes.
    OffsetManager.prototype.resolveOffsets = async () => {};
    const { seekOffsets } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.seekOffsets = async function (this: ConsumerGroup, ofNode) {
      await seekOffsets.call(this, ofNode);
      if (this.offsetManager) await resolveOffsets(this.offsetManager, ofNode);
    };

    const { uncommittedOffsets } = OffsetManager.prototype;
    OffsetManager.prototype.uncommittedOffsets = function (this: OffsetManager) {
      const { topics } = uncommittedOffsets.call(this);
      return {
        topics: topics.map(({ topic, partitions }) => ({
          topic,
          partitions: partitions.map(({ partition, offset }) => {
            const state = stateOf(this, topic, partition);
            return {
              partition,
              offset,
              metadata: writeCommitMetadata({ ...state, epoch: epochBefore(state, Number(offset)) }),
            };
          }),
        })),
      };
    };

    const { fetch } = ConsumerGroup.prototype;
    ConsumerGroup.prototype.fetch = async function (this: ConsumerGroup, nodeId) {
      const batches = await fetch.call(this, nodeId);
      try {
        const continuous = await Promise.all(batches.map((batch) => isContinuous(this, batch)));
        return batches.filter((_, index) => continuous[index]);
      } catch (error) {
        // Nothing was taken: the same records are fetched again.
        await this.recoverFromFetch(error as Error);
        return [];
      }
    };

    // What is stored is committed first, so that only the events after it count as unread. Then the position is resolved again.
    ConsumerGroup.prototype.recoverFromOffsetOutOfRange = async function (this: ConsumerGroup, { topic, partition }) {
      await this.commitOffsets().catch(() => {});
      this.offsetManager?.clearOffsets({ topic, partition });
    };
  },
};
