/** The metadata of a cluster as kafkajs' BrokerPool keeps them; two patches intercept new ones. */
import BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import type { Member } from "./patch.ts";

export interface PartitionMetadata {
  partitionErrorCode: number;
  partitionId: number;
  leader: number;
  /** Counts the partition's leaders; absent where the broker supports no version that has it. */
  leaderEpoch?: number;
  replicas: number[];
  isr: number[];
  offlineReplicas: number[];
}

export interface Metadata {
  brokers: { nodeId: number; host: string; port: number; rack: string | null }[];
  topicMetadata: { topic: string; topicErrorCode: number; partitionMetadata: PartitionMetadata[] }[];
}

export const METADATA_PROPERTY: Member = {
  name: "BrokerPool.metadata",
  exists: () =>
    "metadata" in new BrokerPool({ connectionPoolBuilder: {}, logger: { namespace: () => ({}) }, retry: {} }),
};

/** Gets every new metadata response of a pool and returns what the pool keeps. */
type MetadataInterceptor = (pool: BrokerPool, metadata: Metadata) => Metadata;

const interceptors: MetadataInterceptor[] = [];

/**
 * Adds an interceptor. It works on the property and not on refreshMetadata(), because others already read the property
 * before that method has ended.
 */
export function interceptMetadata(interceptor: MetadataInterceptor): void {
  if (interceptors.push(interceptor) > 1) return;
  const values = new WeakMap<BrokerPool, Metadata | null>();
  Object.defineProperty(BrokerPool.prototype, "metadata", {
    configurable: true,
    get(this: BrokerPool) {
      return values.get(this) ?? null;
    },
    set(this: BrokerPool, response: Metadata | null) {
      values.set(this, response && interceptors.reduce((metadata, intercept) => intercept(this, metadata), response));
    },
  });
}
