/**
 * Whom kafkajs asks about the cluster, and what it believes (silent-adviser, stale-leader, gone-broker in kafkajs-mends.ts).
 *
 * A broker that is cut off from the others goes on naming itself the leader of what it led, and clients ask any broker.
 * Kafka counts a partition's leaders (the leader epoch), and the Java client believes the highest number it has heard
 * (KIP-320); kafkajs does not ask for it. Version 7 of the metadata protocol has it: this adds that version.
 */
import BrokerPool, { type PooledBroker } from "kafkajs/src/cluster/brokerPool.js";
import type Connection from "kafkajs/src/network/connection.js";
import connectionStatus from "kafkajs/src/network/connectionStatus.js";
import Decoder from "kafkajs/src/protocol/decoder.js";
import protocol from "kafkajs/src/protocol/requests/index.js";

/**
 * A topic that is deleted and made anew begins at epoch 0 again. An older epoch is believed once no broker has said the
 * newer one for this time: cut-off brokers are asked by chance among those that are not, several times in it.
 */
export const NEWER_EPOCH_HOLDS_MS = 10_000;
/**
 * What is not answered by then may have been asked of a broker that leads no more and cannot know it. Far longer than an
 * answer takes, far shorter than its time-out; a look is one small request.
 */
const LOOK_MS = 500;
/** A second broker is asked when the first has not answered the question for the leaders by then. */
const NEXT_ADVISER_MS = 1000;
const EPOCH_VERSION = 7;

export interface PartitionMetadata {
  partitionErrorCode: number;
  partitionId: number;
  leader: number;
  /** How many leaders the partition has had; absent where the broker speaks no version that has it. */
  leaderEpoch?: number;
  replicas: number[];
  isr: number[];
  offlineReplicas: number[];
}

export interface Metadata {
  brokers: { nodeId: number; host: string; port: number; rack: string | null }[];
  topicMetadata: { topic: string; topicErrorCode: number; partitionMetadata: PartitionMetadata[] }[];
}

/** The newest that was heard of each partition's leader. */
export class LeaderEpochs {
  readonly #newest = new Map<string, { partition: PartitionMetadata; epoch: number; heardAtMs: number }>();

  /**
   * An answer with what is older in it replaced by what is known.
   * @param nowMs of any clock that does not step back
   */
  newest(answer: Metadata, nowMs: number): Metadata {
    const topicMetadata = answer.topicMetadata.map((topic) => ({
      ...topic,
      partitionMetadata: topic.partitionMetadata.map((partition) => this.#newer(topic.topic, partition, nowMs)),
    }));
    return { ...answer, topicMetadata };
  }

  #newer(topic: string, partition: PartitionMetadata, nowMs: number): PartitionMetadata {
    const { leaderEpoch: epoch } = partition;
    if (epoch === undefined) return partition;
    const key = `${topic}/${partition.partitionId}`;
    const known = this.#newest.get(key);
    if (known && epoch < known.epoch && nowMs - known.heardAtMs < NEWER_EPOCH_HOLDS_MS) return known.partition;
    this.#newest.set(key, { partition, epoch, heardAtMs: nowMs });
    return partition;
  }
}

/** Ends a connection at once, and everything that waits on it with `error`: in order it would wait for its broker. */
export function breakOff(connection: Connection, error: Error): void {
  connection.connectionStatus = connectionStatus.CONNECTION_STATUS.DISCONNECTED;
  connection.requestQueue.rejectAll(error);
  connection.socket?.destroy();
}

/**
 * The answer to a request, for which a broker that is cut off from the others would let wait until the time-out. While it
 * is not there the metadata are read anew: where they name the broker no more, its connections end (gone-broker), the
 * request fails, and whoever made it can ask the new leader.
 * @param refresh reads the metadata; what it throws is not of interest, the next look comes anyway
 */
export async function refreshWhileWaiting<T>(answer: Promise<T>, refresh: () => Promise<void>): Promise<T> {
  const looking = setInterval(() => void refresh().catch(() => {}), LOOK_MS);
  try {
    return await answer;
  } finally {
    clearInterval(looking);
  }
}

/**
 * Applies the three mends: brokers that let others wait are asked last, and not alone; metadata come with leader epochs, of
 * which the newest count; connections to brokers that are named no more end at once.
 * @param closed makes the error for what waits on such a connection
 */
export function installMetadataPatches(closed: (message: string, connection: Connection) => Error): void {
  askForEpochs();
  askWhoAnswers();
  const metadata = new WeakMap<BrokerPool, Metadata | null>();
  const epochs = new WeakMap<BrokerPool, LeaderEpochs>();
  // kafkajs puts each answer into this property; between that and the end of its refresh others read it already.
  Object.defineProperty(BrokerPool.prototype, "metadata", {
    configurable: true,
    get(this: BrokerPool) {
      return metadata.get(this) ?? null;
    },
    set(this: BrokerPool, answer: Metadata | null) {
      if (answer === null) {
        metadata.set(this, null);
        return;
      }
      let known = epochs.get(this);
      if (!known) {
        known = new LeaderEpochs();
        epochs.set(this, known);
      }
      metadata.set(this, known.newest(answer, performance.now()));
      const named = new Set(answer.brokers.map(({ nodeId }) => String(nodeId)));
      for (const [nodeId, { connectionPool }] of Object.entries(this.brokers)) {
        if (named.has(nodeId)) continue;
        for (const connection of connectionPool.pool) {
          if (!connection.isConnected()) continue;
          breakOff(connection, closed(`Closed: broker ${nodeId} is not part of the cluster now`, connection));
        }
      }
    },
  });
}

/** How long a broker has let the oldest of its open requests wait, in milliseconds. */
function silentMs({ connectionPool }: PooledBroker, nowMs: number): number {
  let oldest = nowMs;
  for (const { requestQueue } of connectionPool.pool) {
    for (const { sentAt } of requestQueue.inflight.values()) oldest = Math.min(oldest, sentAt);
  }
  return nowMs - oldest;
}

/**
 * The brokers of a pool in the order in which they are asked, by chance where nothing speaks for one: first those that are
 * connected, since a frozen one lets whoever connects wait; then those that let nobody wait: a frozen or cut-off one only
 * gets older.
 */
function advisers(pool: BrokerPool): string[] {
  const nowMs = Date.now();
  return Object.entries(pool.brokers)
    .map(([nodeId, broker]) => ({
      nodeId,
      away: broker.isConnected() ? 0 : 1,
      silent: silentMs(broker, nowMs),
      chance: Math.random(),
    }))
    .sort((a, b) => a.away - b.away || a.silent - b.silent || a.chance - b.chance)
    .map(({ nodeId }) => nodeId);
}

type AskOf<T> = (asked: { nodeId: string; broker: PooledBroker }) => Promise<T>;

function askWhoAnswers(): void {
  const { findConnectedBroker, withBroker } = BrokerPool.prototype;
  BrokerPool.prototype.findConnectedBroker = async function (this: BrokerPool) {
    const connected = advisers(this).filter((nodeId) => this.brokers[nodeId]!.isConnected());
    if (connected.length === 0) return await findConnectedBroker.call(this);
    const [first, ...others] = await Promise.all(connected.map((nodeId) => this.findBroker({ nodeId })));
    return Object.create(first!, {
      metadata: { value: (topics: string[]) => firstAnswer([first!, ...others], topics) },
    }) as PooledBroker;
  };
  BrokerPool.prototype.withBroker = async function <T>(this: BrokerPool, ask: AskOf<T>): Promise<T | null> {
    const nodeIds = advisers(this);
    // Where nobody is known, the library says so.
    if (nodeIds.length === 0) return (await withBroker.call(this, ask)) as T | null;
    for (const nodeId of nodeIds) {
      try {
        return await ask({ nodeId, broker: await this.findBroker({ nodeId }) });
      } catch {
        // Another one may know; the library gives up where one cannot be reached.
      }
    }
    return null;
  };
}

/** The metadata as the first of these brokers answers; the next one is asked when those before fail or are slow. */
async function firstAnswer(brokers: readonly PooledBroker[], topics: string[]): Promise<Metadata> {
  const asked: Promise<Metadata>[] = [];
  let failure: unknown;
  for (const broker of brokers) {
    asked.push(broker.metadata(topics));
    const answered = Promise.any(asked).catch((error: AggregateError) => {
      failure = error.errors[0];
      return undefined;
    });
    if (asked.length === brokers.length) {
      const last = await answered;
      if (last) return last;
      break;
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const slow = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), NEXT_ADVISER_MS);
    });
    const answer = await Promise.race([answered, slow]);
    clearTimeout(timer);
    if (answer) return answer;
  }
  throw failure;
}

function askForEpochs(): void {
  const definition = protocol.requests.Metadata;
  const original = definition.protocol;
  definition.versions = [...definition.versions, String(EPOCH_VERSION)];
  definition.protocol = ({ version }) =>
    version === EPOCH_VERSION
      ? (options) => {
          // The request of version 7 is that of version 6 under another number.
          const { request, response } = original({ version: EPOCH_VERSION - 1 })(options);
          return {
            request: { ...(request as object), apiVersion: EPOCH_VERSION },
            response: { decode: decodeWithEpochs, parse: response.parse },
          };
        }
      : original({ version });
}

/** Metadata's answer in version 7 (kafka.apache.org/protocol, Metadata API): that of version 6 with each leader's epoch. */
export async function decodeWithEpochs(payload: unknown): Promise<Metadata & Record<string, unknown>> {
  const decoder = new Decoder(payload);
  const int32s = (from: Decoder) => from.readArray((item) => item.readInt32());
  return {
    // The client waits by itself (KIP-219), so that the field which kafkajs acts on in older versions is 0.
    clientSideThrottleTime: decoder.readInt32(),
    throttleTime: 0,
    brokers: decoder.readArray((from) => ({
      nodeId: from.readInt32(),
      host: from.readString(),
      port: from.readInt32(),
      rack: from.readString() as string | null,
    })),
    clusterId: decoder.readString(),
    controllerId: decoder.readInt32(),
    topicMetadata: decoder.readArray((from) => ({
      topicErrorCode: from.readInt16(),
      topic: from.readString(),
      isInternal: from.readBoolean(),
      partitionMetadata: from.readArray((partition) => ({
        partitionErrorCode: partition.readInt16(),
        partitionId: partition.readInt32(),
        leader: partition.readInt32(),
        leaderEpoch: partition.readInt32(),
        replicas: int32s(partition),
        isr: int32s(partition),
        offlineReplicas: int32s(partition),
      })),
    })),
  };
}
