/** Probes of batches that cannot be read: where they stop a group, and stepping over one. */
import { createBatchDeadLetters } from "../../domain/dead-letter.ts";
import { DLQ_TOPIC, STEP_OVER_GROUP } from "../../domain/kafka-layout.ts";
import { createCluster, type KafkaCluster } from "../../kafka/client.ts";
import { type FetchedMessage, UnreadableBatch } from "../../kafka/fetch-decoder.ts";
import type { Finding, ProbeOf, SteppedOver, UnreadablePlace } from "../../protocol/probe.ts";
import { failure, success } from "./finding.ts";
import { connectionOf, kafkaClient, probeOffsets, silent } from "./kafka.ts";

/** A batch has at most 1 MiB; a fetch returns the first one in any case. */
const FETCH_BYTES = 1024 * 1024;
const FETCH_WAIT_MS = 100;

async function withCluster<T>(
  probe: ProbeOf<"unreadable_batches" | "step_over">,
  work: (cluster: KafkaCluster) => Promise<T>,
): Promise<T> {
  const cluster = createCluster(await connectionOf(probe), "probe", silent);
  try {
    await cluster.connect();
    await cluster.addMultipleTargetTopics([probe.topic]);
    return await work(cluster);
  } finally {
    await cluster.disconnect().catch(() => {});
  }
}

/** The batch that a consumer at this offset cannot read; undefined when it reads a record, or nothing yet. */
async function unreadableAt(
  cluster: KafkaCluster,
  topic: string,
  partition: number,
  offset: number,
): Promise<UnreadableBatch | undefined> {
  const leader = cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === partition)?.leader;
  if (leader === undefined) throw new Error(`partition: ${topic} has no partition ${partition}`);
  const broker = await cluster.findBroker({ nodeId: leader });
  const answer = (await broker.fetch({
    replicaId: -1,
    isolationLevel: 1,
    maxWaitTime: FETCH_WAIT_MS,
    minBytes: 1,
    maxBytes: FETCH_BYTES,
    topics: [{ topic, partitions: [{ partition, fetchOffset: String(offset), maxBytes: FETCH_BYTES }] }],
  })) as { responses: { partitions: { messages: (FetchedMessage | UnreadableBatch)[] }[] }[] };
  const messages = answer.responses.flatMap(({ partitions }) => partitions.flatMap((found) => [...found.messages]));
  const first = messages.find((message) => Number(message.offset) >= offset);
  return first instanceof UnreadableBatch ? first : undefined;
}

const placeOf = (partition: number, { firstOffset, lastOffset, reason, bytes }: UnreadableBatch): UnreadablePlace => ({
  partition,
  first_offset: firstOffset,
  last_offset: lastOffset,
  reason,
  bytes: bytes.length,
});

/** The batches at which a group's partitions stand. */
export async function probeUnreadable(probe: ProbeOf<"unreadable_batches">): Promise<Finding<UnreadablePlace[]>> {
  const offsets = await probeOffsets({ ...probe, kind: "kafka_offsets" });
  if (!offsets.ok) return failure(offsets.outcome, offsets.detail);
  const places = await withCluster(probe, async (cluster) => {
    const found: UnreadablePlace[] = [];
    for (const { partition, begin, end, committed = 0 } of offsets.data) {
      const offset = Math.max(begin, committed);
      const batch = offset < end ? await unreadableAt(cluster, probe.topic, partition, offset) : undefined;
      if (batch) found.push(placeOf(partition, batch));
    }
    return found;
  });
  return success(places, `${places.length} partitions are stopped`);
}

/** The offset in a response of OffsetFetch; -1 where the group has none. */
async function steppedOverTo(cluster: KafkaCluster, topic: string, partition: number): Promise<number> {
  const coordinator = await cluster.findGroupCoordinator({ groupId: STEP_OVER_GROUP });
  const { responses } = await coordinator.offsetFetch({
    groupId: STEP_OVER_GROUP,
    topics: [{ topic, partitions: [{ partition }] }],
  });
  return Number(responses[0]?.partitions[0]?.offset ?? -1);
}

/** Writes the batch into the dead-letter topic, then lets the processor go on after it. */
export async function stepOver(probe: ProbeOf<"step_over">): Promise<Finding<SteppedOver>> {
  const { topic, partition, offset } = probe;
  return await withCluster(probe, async (cluster) => {
    const batch = await unreadableAt(cluster, topic, partition, offset);
    if (!batch)
      return failure("readable", `${topic} partition ${partition}: a consumer at offset ${offset} can read on`);
    if (!batch.hasKnownEnd)
      return failure(
        "unknown_end",
        `${topic} partition ${partition}: ${batch.text}; its header does not say where it ends`,
      );
    const next = batch.lastOffset + 1;
    const place = placeOf(partition, batch);
    if ((await steppedOverTo(cluster, topic, partition)) === next) {
      return success({ ...place, dead_letters: [], already: true }, "stepped over before");
    }
    if (probe.dry_run) return success({ ...place, dead_letters: [], already: false }, "nothing changed");
    const producer = (await kafkaClient(probe)).producer({ allowAutoTopicCreation: false });
    const deadLetters: SteppedOver["dead_letters"] = [];
    await producer.connect();
    try {
      // One request each: together they can exceed the size of a batch.
      for (const { key, value, headers } of createBatchDeadLetters({ topic, partition, ...batch, text: batch.text })) {
        const message = { key: key as null, value: Buffer.from(value), headers };
        const [sent] = await producer.send({ topic: probe.dlq_topic ?? DLQ_TOPIC, acks: -1, messages: [message] });
        deadLetters.push({ partition: sent!.partition, offset: Number(sent!.baseOffset) });
      }
    } finally {
      await producer.disconnect();
    }
    const coordinator = await cluster.findGroupCoordinator({ groupId: STEP_OVER_GROUP });
    await coordinator.offsetCommit({
      groupId: STEP_OVER_GROUP,
      // No member: the group has none.
      groupGenerationId: -1,
      memberId: "",
      topics: [{ topic, partitions: [{ partition, offset: String(next) }] }],
    });
    return success({ ...place, dead_letters: deadLetters, already: false }, `the processor goes on at offset ${next}`);
  });
}
