/**
 * Upstream: none.
 * Symptom: kafkajs uses the leaders of the latest metadata response, from whichever broker. A broker that is cut off
 *   from the cluster names itself the leader and receives batches that it can never acknowledge.
 * Change: the metadata are requested in version 7 of the protocol, which has leader epochs, and for each partition the
 *   leader with the highest epoch is kept, as in the Java client (KIP-320).
 */
import type BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import Decoder from "kafkajs/src/protocol/decoder.js";
import protocol from "kafkajs/src/protocol/requests/index.js";
import { interceptMetadata, METADATA_PROPERTY, type Metadata, type PartitionMetadata } from "./metadata.ts";
import type { Patch } from "./patch.ts";

/**
 * A topic that is deleted and recreated starts at epoch 0. A lower epoch is accepted once no broker has reported the
 * higher one for this time. Requests go to random brokers, several times within it, so a cut-off broker alone cannot
 * lower an epoch.
 */
export const EPOCH_HOLD_MS = 10_000;
const EPOCH_VERSION = 7;

export const staleLeader: Patch = {
  id: "stale-leader",
  members: [
    METADATA_PROPERTY,
    {
      name: "protocol.requests.Metadata version 6",
      exists: () =>
        protocol.requests.Metadata.versions.at(-1) === String(EPOCH_VERSION - 1) ||
        protocol.requests.Metadata.versions.at(-1) === String(EPOCH_VERSION),
    },
  ],
  install() {
    requestEpochs();
    const epochsOf = new WeakMap<BrokerPool, LeaderEpochs>();
    interceptMetadata((pool, metadata) => {
      let epochs = epochsOf.get(pool);
      if (!epochs) {
        epochs = new LeaderEpochs();
        epochsOf.set(pool, epochs);
      }
      return epochs.newest(metadata, performance.now());
    });
  },
};

export class LeaderEpochs {
  readonly #newest = new Map<string, { partition: PartitionMetadata; epoch: number; reportedAtMs: number }>();

  /**
   * The response, with older partitions in it replaced by the known ones.
   * @param nowMs of a monotonic clock
   */
  newest(response: Metadata, nowMs: number): Metadata {
    const topicMetadata = response.topicMetadata.map((topic) => ({
      ...topic,
      partitionMetadata: topic.partitionMetadata.map((partition) => this.#newer(topic.topic, partition, nowMs)),
    }));
    return { ...response, topicMetadata };
  }

  #newer(topic: string, partition: PartitionMetadata, nowMs: number): PartitionMetadata {
    const { leaderEpoch: epoch } = partition;
    if (epoch === undefined) return partition;
    const key = `${topic}/${partition.partitionId}`;
    const known = this.#newest.get(key);
    if (known && epoch < known.epoch && nowMs - known.reportedAtMs < EPOCH_HOLD_MS) return known.partition;
    this.#newest.set(key, { partition, epoch, reportedAtMs: nowMs });
    return partition;
  }
}

function requestEpochs(): void {
  const definition = protocol.requests.Metadata;
  const original = definition.protocol;
  definition.versions = [...definition.versions, String(EPOCH_VERSION)];
  definition.protocol = ({ version }) =>
    version === EPOCH_VERSION
      ? (options) => {
          // The request of version 7 equals that of version 6 but for its number.
          const { request, response } = original({ version: EPOCH_VERSION - 1 })(options);
          return {
            request: { ...(request as object), apiVersion: EPOCH_VERSION },
            response: { decode: decodeWithEpochs, parse: response.parse },
          };
        }
      : original({ version });
}

/** A metadata response in version 7 (kafka.apache.org/protocol, Metadata API): version 6 plus leader epochs. */
export async function decodeWithEpochs(payload: unknown): Promise<Metadata & Record<string, unknown>> {
  const decoder = new Decoder(payload);
  const int32s = (from: Decoder) => from.readArray((item) => item.readInt32());
  return {
    // From version 6 on the client waits by itself (KIP-219); kafkajs acts on the other field in older versions.
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
