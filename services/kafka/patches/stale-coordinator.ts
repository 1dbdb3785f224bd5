/**
 * Upstream: none.
 * Symptom: kafkajs asks any broker for the coordinator of a group. A broker that is cut off from the cluster names itself:
 *   commits wait for a majority that it does not reach, and the commits read from it are old ones, so that the lag of a
 *   healthy group grows.
 * Change: brokers are asked until most of them name the same coordinator.
 */
import type BrokerPool from "kafkajs/src/cluster/brokerPool.js";
import Cluster, { type CoordinatorMetadata } from "kafkajs/src/cluster/index.js";
import { method, type Patch } from "./patch.ts";
import { byResponsiveness, NEXT_BROKER_MS } from "./silent-metadata-broker.ts";

export const staleCoordinator: Patch = {
  id: "stale-coordinator",
  members: [method(Cluster, "findGroupCoordinatorMetadata")],
  install() {
    const { findGroupCoordinatorMetadata } = Cluster.prototype;
    Cluster.prototype.findGroupCoordinatorMetadata = async function (this: Cluster, options) {
      const found = await askMost(this.brokerPool, async (nodeId) => {
        const broker = await this.brokerPool.findBroker({ nodeId });
        return await broker.findGroupCoordinator(options);
      });
      // Without an answer kafkajs tries again and throws its own error.
      return found ?? (await findGroupCoordinatorMetadata.call(this, options));
    };
  },
};

/**
 * The answer that most brokers of the pool give. As many as a majority are asked at once, the next one when an answer
 * differs, fails or is late; when none is left to ask, the most frequent answer counts.
 */
async function askMost(
  pool: BrokerPool,
  ask: (nodeId: string) => Promise<CoordinatorMetadata>,
): Promise<CoordinatorMetadata | undefined> {
  const left = byResponsiveness(pool);
  const majority = Math.floor(left.length / 2) + 1;
  const answers: CoordinatorMetadata[] = [];
  let open = 0;
  const { promise, resolve } = Promise.withResolvers<CoordinatorMetadata | undefined>();
  const askNext = (nodeId: string) => {
    open++;
    void ask(nodeId)
      .then((answer) => answers.push(answer))
      // Another broker may answer.
      .catch(() => {})
      .finally(() => {
        open--;
        advance(false);
      });
  };
  const advance = (isLate: boolean) => {
    const [most = []] = [...Map.groupBy(answers, ({ coordinator }) => coordinator.nodeId).values()].toSorted(
      (a, b) => b.length - a.length,
    );
    const isShort = answers.length + open < majority;
    if (most.length >= majority) resolve(most[0]);
    else if (left.length > 0 && (isLate || isShort || open === 0)) askNext(left.shift()!);
    else if (left.length === 0 && (open === 0 || (isLate && most.length > 0))) resolve(most[0]);
  };
  const late = setInterval(() => advance(true), NEXT_BROKER_MS);
  for (const nodeId of left.splice(0, majority)) askNext(nodeId);
  if (open === 0) resolve(undefined);
  try {
    return await promise;
  } finally {
    clearInterval(late);
  }
}
