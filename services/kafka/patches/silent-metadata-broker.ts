/**
 * Upstream: none.
 * Symptom: metadata and coordinator are requested of a random broker. When that broker is frozen, the request waits for
 *   its timeout, and all other callers share the same request.
 * Change: brokers with a connection and without old open requests are preferred, and a second broker gets the request
 *   when the first does not answer soon.
 */
import { setTimeout as sleep } from "node:timers/promises";
import BrokerPool, { type PooledBroker } from "kafkajs/src/cluster/brokerPool.js";
import type { Metadata } from "./metadata.ts";
import { method, type Patch } from "./patch.ts";

/** The next broker gets the request too when those before have not answered it by then. */
export const NEXT_BROKER_MS = 1000;

type Request<T> = (target: { nodeId: string; broker: PooledBroker }) => Promise<T>;

export const silentMetadataBroker: Patch = {
  id: "silent-metadata-broker",
  members: [
    method(BrokerPool, "findConnectedBroker"),
    method(BrokerPool, "withBroker"),
    method(BrokerPool, "findBroker"),
  ],
  install() {
    const { findConnectedBroker, withBroker } = BrokerPool.prototype;
    BrokerPool.prototype.findConnectedBroker = async function (this: BrokerPool) {
      const connected = byResponsiveness(this).filter((nodeId) => this.brokers[nodeId]!.isConnected());
      if (connected.length === 0) return await findConnectedBroker.call(this);
      const [first, ...others] = await Promise.all(connected.map((nodeId) => this.findBroker({ nodeId })));
      return Object.create(first!, {
        metadata: { value: (topics: string[]) => firstResponse([first!, ...others], topics) },
      }) as PooledBroker;
    };
    BrokerPool.prototype.withBroker = async function <T>(this: BrokerPool, request: Request<T>): Promise<T | null> {
      const nodeIds = byResponsiveness(this);
      // Without a known broker kafkajs throws its own error.
      if (nodeIds.length === 0) return (await withBroker.call(this, request)) as T | null;
      for (const nodeId of nodeIds) {
        try {
          return await request({ nodeId, broker: await this.findBroker({ nodeId }) });
        } catch {
          // Another broker may answer.
        }
      }
      return null;
    };
  },
};

function silentMs({ connectionPool }: PooledBroker, nowMs: number): number {
  let oldest = nowMs;
  for (const { requestQueue } of connectionPool.pool) {
    for (const { sentMs } of requestQueue.inflight.values()) oldest = Math.min(oldest, sentMs);
  }
  return nowMs - oldest;
}

/**
 * The brokers of a pool, those most likely to answer first: connected ones before others, since a frozen broker delays
 * new connections; then by the age of the oldest open request, which only grows on a frozen broker; else at random.
 */
export function byResponsiveness(pool: BrokerPool): string[] {
  const nowMs = performance.now();
  return Object.entries(pool.brokers)
    .map(([nodeId, broker]) => ({
      nodeId,
      unconnected: broker.isConnected() ? 0 : 1,
      silent: silentMs(broker, nowMs),
      random: Math.random(),
    }))
    .sort((a, b) => a.unconnected - b.unconnected || a.silent - b.silent || a.random - b.random)
    .map(({ nodeId }) => nodeId);
}

/** The metadata of the first broker to answer; the next broker gets the request when those before fail or are slow. */
async function firstResponse(brokers: readonly PooledBroker[], topics: string[]): Promise<Metadata> {
  const requests: Promise<Metadata>[] = [];
  let failure: unknown;
  for (const broker of brokers) {
    requests.push(broker.metadata(topics));
    const answered = Promise.any(requests).catch((error: AggregateError) => {
      failure = error.errors[0];
      return undefined;
    });
    const isLast = requests.length === brokers.length;
    const next = new AbortController();
    const slow = isLast ? [] : [sleep(NEXT_BROKER_MS, undefined, { signal: next.signal }).catch(() => undefined)];
    const metadata = await Promise.race([answered, ...slow]);
    next.abort();
    if (metadata) return metadata;
  }
  throw failure;
}
