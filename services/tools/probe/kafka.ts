/** Probes of Kafka: rights, topics, ACLs, groups, offsets. */
import { AclPermissionTypes, type Admin, ConfigResourceTypes, type Kafka, ResourcePatternTypes } from "kafkajs";
import { causesOf } from "../../domain/causes.ts";
import { readCommitMetadata } from "../../domain/commit-metadata.ts";
import { EVENTS_TOPIC } from "../../domain/kafka-layout.ts";
import { partitionLag } from "../../domain/lag.ts";
import { createCluster, createKafka, listAcls, nameOf, RETRY_BRIEFLY, withAdmin } from "../../kafka/client.ts";
import { BY_ENVIRONMENT, type KafkaAccess } from "../../protocol/kafka.ts";
import type { Finding, OffsetRange, ProbeData, ProbeOf } from "../../protocol/probe.ts";
import { type KafkaConfig, kafkaOfEnvironment } from "../../runtime/config.ts";
import { errorText, Logger } from "../../runtime/log.ts";
import { codeOf, failure, pems, success } from "./finding.ts";

/** Above max.message.bytes of every topic (1 MiB), below the largest request of the brokers (100 MiB). */
const OVERSIZE_BYTES = 2 * 1024 * 1024;

export const silent = new Logger("probe", "error", {}, () => {});

export async function connectionOf({ brokers, tls = {} }: KafkaAccess): Promise<KafkaConfig> {
  return brokers === BY_ENVIRONMENT ? kafkaOfEnvironment() : { brokers, tls: await pems(tls) };
}

export async function kafkaClient(probe: KafkaAccess): Promise<Kafka> {
  return createKafka(await connectionOf(probe), "probe", silent, { retry: RETRY_BRIEFLY });
}

type KafkaProbe = ProbeOf<"kafka">;
type Operation<Data> = (kafka: Kafka, topic: string, probe: KafkaProbe) => Promise<Finding<Data>>;

const OPERATIONS: { [Op in KafkaProbe["op"]]: Operation<ProbeData<KafkaProbe & { op: Op }>> } = {
  metadata: (kafka) =>
    withAdmin(kafka, async (admin) => {
      const { brokers, controller } = await admin.describeCluster();
      return success({ brokers, controller }, `${brokers.length} brokers`);
    }),
  describe_topics: (kafka, topic, { topics }) =>
    withAdmin(kafka, async (admin) => success(await describeTopics(admin, topics ?? [topic]))),
  describe_acls: (kafka) => withAdmin(kafka, async (admin) => success(await describeAcls(admin))),
  describe_groups: (kafka) =>
    withAdmin(kafka, async (admin) => {
      const { groups } = await admin.listGroups();
      const described = await admin.describeGroups(groups.map(({ groupId }) => groupId));
      return success(
        described.groups.map(({ groupId, state, members }) => ({ groupId, state, members: members.length })),
      );
    }),
  list_offsets: (kafka, topic) => withAdmin(kafka, async (admin) => success(await admin.fetchTopicOffsets(topic))),
  create_topic: (kafka, topic) =>
    withAdmin(kafka, async (admin) => {
      await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], validateOnly: true });
      return success(undefined);
    }),
  async produce(kafka, topic) {
    // An empty batch is not possible, and the probe must not store an event. Kafka checks the right before the size, so
    // a record that is too large for any topic shows the right without being stored.
    const producer = kafka.producer({ allowAutoTopicCreation: false, retry: { retries: 0 } });
    await producer.connect();
    try {
      await producer.send({ topic, messages: [{ value: Buffer.alloc(OVERSIZE_BYTES) }] });
      return success(undefined, "stored");
    } catch (error) {
      return kafkaOutcome(error) === "MESSAGE_TOO_LARGE"
        ? success(undefined, "allowed, nothing stored")
        : kafkaFailure(error);
    } finally {
      await producer.disconnect();
    }
  },
  fetch: (_, topic, probe) => fetchOnce(probe, topic),
};

export async function probeKafka(probe: KafkaProbe): Promise<Finding> {
  return await OPERATIONS[probe.op](await kafkaClient(probe), probe.topic ?? EVENTS_TOPIC, probe);
}

/** A fetch of partition 0 without a consumer group: only the right to read the topic decides. */
async function fetchOnce(probe: KafkaAccess, topic: string): Promise<Finding<undefined>> {
  const cluster = createCluster(await connectionOf(probe), "probe", silent);
  try {
    await cluster.connect();
    await cluster.addMultipleTargetTopics([topic]);
    const leader = cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === 0)?.leader ?? -1;
    const broker = await cluster.findBroker({ nodeId: leader });
    await broker.fetch({
      replicaId: -1,
      isolationLevel: 1,
      maxWaitTime: 100,
      minBytes: 1,
      maxBytes: 1,
      topics: [{ topic, partitions: [{ partition: 0, fetchOffset: "0", maxBytes: 1 }] }],
    });
    return success(undefined);
  } catch (error) {
    // Reading is allowed; the oldest events have been deleted.
    return kafkaOutcome(error) === "OFFSET_OUT_OF_RANGE" ? success(undefined) : kafkaFailure(error);
  } finally {
    await cluster.disconnect().catch(() => {});
  }
}

async function describeTopics(admin: Admin, topics: readonly string[]) {
  const existing = new Set(await admin.listTopics());
  const present = topics.filter((topic) => existing.has(topic));
  if (present.length === 0) return [];
  const [{ topics: found }, { resources }] = await Promise.all([
    admin.fetchTopicMetadata({ topics: present }),
    admin.describeConfigs({
      includeSynonyms: false,
      resources: present.map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
    }),
  ]);
  return found.map(({ name, partitions }) => {
    const entries = resources.find(({ resourceName }) => resourceName === name)?.configEntries ?? [];
    return {
      topic: name,
      partitions: partitions
        .map(({ partitionId, leader, replicas, isr }) => ({ partition: partitionId, leader, replicas, isr }))
        .sort((a, b) => a.partition - b.partition),
      config: Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue])),
    };
  });
}

async function describeAcls(admin: Admin) {
  return (await listAcls(admin)).map(({ names, isPlain, filter: { resourcePatternType, permissionType, host } }) => {
    if (isPlain) return names;
    const kind = `${nameOf(ResourcePatternTypes, resourcePatternType)} ${nameOf(AclPermissionTypes, permissionType)}`;
    return { ...names, resourceName: `${names.resourceName} (${kind} from ${host})` };
  });
}

export async function probeOffsets(probe: ProbeOf<"kafka_offsets">): Promise<Finding<OffsetRange[]>> {
  const kafka = await kafkaClient(probe);
  return await withAdmin(kafka, async (admin) => {
    // The group first: an offset that it has committed cannot be beyond an end that is read later.
    const [ofTopic] = probe.group ? await admin.fetchOffsets({ groupId: probe.group, topics: [probe.topic] }) : [];
    const ranges = (await admin.fetchTopicOffsets(probe.topic))
      .map((offsets): OffsetRange => {
        const { partition } = offsets;
        const commit = ofTopic?.partitions.find((entry) => entry.partition === partition);
        const { start, end, deletedUnread, truncations } = partitionLag(offsets, commit);
        if (!probe.group) return { partition, begin: start, end };
        // -1: the group has never committed here.
        const committed = Number(commit?.offset ?? -1);
        return {
          partition,
          begin: start,
          end,
          committed: Math.max(0, committed),
          deleted_unread: deletedUnread,
          truncations,
          gap_found_at_ms:
            committed >= 0 && committed < start ? Date.now() : readCommitMetadata(commit?.metadata).foundAtMs,
        };
      })
      .sort((a, b) => a.partition - b.partition);
    return success(ranges, `${ranges.reduce((sum, { begin, end }) => sum + end - begin, 0)} records`);
  });
}

/** Kafka's error code, for example "TOPIC_AUTHORIZATION_FAILED"; without one the code of the connection's error. */
export function kafkaOutcome(error: unknown): string {
  for (const cause of causesOf(error)) {
    const { type } = cause as { type?: string };
    if (typeof type === "string" && /^[A-Z_]+$/.test(type)) return type;
  }
  return `refused:${codeOf(error)}`;
}

const kafkaFailure = (error: unknown) => failure(kafkaOutcome(error), errorText(error));
