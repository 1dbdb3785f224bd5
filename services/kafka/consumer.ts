/** The settings of the processor's consumer; the benchmark uses them too. */
import type { ConsumerConfig } from "kafkajs";
import { RETRY_FOREVER } from "./client.ts";

/** A crashed member is detected after this time: the brokers' minimum, so that others take over soon. */
const SESSION_TIMEOUT_MS = 6000;
/** A sixth of the session timeout: five heartbeats may be lost. */
export const HEARTBEAT_MS = 1000;
/** All members must have rejoined within this time; a batch in work is abandoned within a heartbeat. */
const REBALANCE_TIMEOUT_MS = 15_000;
/** A fetch without data returns after this time; only then does an idle member notice a rebalance. */
const MAX_WAIT_MS = 500;
/** Of one partition per fetch: about 500 events. Twice as much needs 50 % more memory and is no faster. */
const MAX_BYTES_PER_PARTITION = 128 * 1024;
/** Concurrent batches: enough to fill a write request while another one is under way. */
export const CONCURRENT_PARTITIONS = 6;

export const CONSUMER_OPTIONS: Omit<ConsumerConfig, "groupId"> = {
  sessionTimeout: SESSION_TIMEOUT_MS,
  rebalanceTimeout: REBALANCE_TIMEOUT_MS,
  heartbeatInterval: HEARTBEAT_MS,
  maxWaitTimeInMs: MAX_WAIT_MS,
  // A former leader that is cut off from the cluster answers fetches with no data; only the other brokers' metadata show
  // the new leader. One small request a second.
  metadataMaxAge: 1000,
  minBytes: 1,
  maxBytesPerPartition: MAX_BYTES_PER_PARTITION,
  allowAutoTopicCreation: false,
  retry: RETRY_FOREVER,
};
