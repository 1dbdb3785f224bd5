/** How the processor consumes; the benchmark's floor consumes the same way. */
import type { ConsumerConfig } from "kafkajs";
import { HEARTBEAT_MS } from "../processor/batch-handler.ts";
import { RETRY_FOREVER } from "./client.ts";

/** A member that is gone without a word is noticed after this time: the brokers' least, so that others take over soon. */
export const SESSION_TIMEOUT_MS = 6000;
/** All members must have joined anew within this time; a batch in work is let go within a heartbeat. */
const REBALANCE_TIMEOUT_MS = 15_000;
/** A fetch without data returns after this time; only then can an idle member notice a rebalance. */
const MAX_WAIT_MS = 500;
/** Of one partition per fetch: about 500 events. Twice as much took 178 MB under load instead of 121 and gained nothing. */
const MAX_BYTES_PER_PARTITION = 128 * 1024;
/** Batches in work at the same time: enough to fill a write request while another is under way. */
export const CONCURRENT_PARTITIONS = 6;

export const CONSUMER_OPTIONS: Omit<ConsumerConfig, "groupId"> = {
  sessionTimeout: SESSION_TIMEOUT_MS,
  rebalanceTimeout: REBALANCE_TIMEOUT_MS,
  heartbeatInterval: HEARTBEAT_MS,
  maxWaitTimeInMs: MAX_WAIT_MS,
  // A leader that was cut off from the others does not know that it leads no more, and answers fetches with nothing: only
  // the other brokers can tell. One small request a second.
  metadataMaxAge: 1000,
  minBytes: 1,
  maxBytesPerPartition: MAX_BYTES_PER_PARTITION,
  allowAutoTopicCreation: false,
  retry: RETRY_FOREVER,
};
