/** The topics and ACLs that Kafka must have. The setup job creates them, validate compares them. */

export const EVENTS_TOPIC = "conveyor.events";
export const DLQ_TOPIC = "conveyor.events.dlq";
export const PROCESSOR_GROUP = "processor";
/** Prefix of the groups of probes that read the dead-letter topic; they commit nothing. */
export const PROBE_GROUP_PREFIX = "probe-";
/** Has no member: its committed offsets say where the processor goes on after a batch that cannot be read. */
export const STEP_OVER_GROUP = "processor.step-over";

/** How a client proves its identity to Kafka, always over TLS: by its certificate, or by SASL. */
export const KAFKA_AUTHS = ["tls", "plain", "scram-sha-256", "scram-sha-512", "oauthbearer"] as const;
export type KafkaAuth = (typeof KAFKA_AUTHS)[number];

const DAY_MS = 86_400_000;
const GIB = 1024 ** 3;

interface TopicLayout {
  name: string;
  partitions: number;
  replicationFactor: number;
  /** Topic configuration as Kafka writes it: every value is text. */
  config: Readonly<Record<string, string>>;
}

/**
 * Three replicas, two of which must have a write: one broker may fail without a lost or rejected write. Kafka deletes a
 * partition's oldest events by the bound that is reached first, whether the group has read them or not.
 */
const topic = (name: string, partitions: number, retention: { days: number; bytes: number }): TopicLayout => ({
  name,
  partitions,
  replicationFactor: 3,
  config: {
    "min.insync.replicas": "2",
    "retention.ms": String(retention.days * DAY_MS),
    "retention.bytes": String(retention.bytes),
    "max.message.bytes": "1048576",
    "unclean.leader.election.enable": "false",
  },
});

/**
 * A partition has one processor, so at most six processors work in parallel. With the open segment of each partition the
 * bounds fill 10.2 GiB of the 16 GiB volume. An event takes some 250 bytes, so a partition holds about four million unread
 * events: 20 hours of the default rate, and 22 minutes of 20,000 events a second.
 */
export const TOPIC_TABLE: readonly TopicLayout[] = [
  topic(EVENTS_TOPIC, 6, { days: 7, bytes: GIB }),
  topic(DLQ_TOPIC, 3, { days: 30, bytes: GIB }),
];

export interface Acl {
  /** As Kafka writes it: `User:` and the certificate's common name. */
  principal: string;
  resourceType: "TOPIC" | "GROUP" | "CLUSTER";
  resourceName: string;
  operation: "READ" | "WRITE" | "DESCRIBE" | "DESCRIBE_CONFIGS";
}

const PRODUCER = "User:producer";
const PROCESSOR = "User:processor";
const LAG_EXPORTER = "User:lag-exporter";

/** The least that each principal needs; everything else is denied. Brokers and the administrator are super users. */
export const ACL_TABLE: readonly Acl[] = [
  { principal: PRODUCER, resourceType: "TOPIC", resourceName: EVENTS_TOPIC, operation: "WRITE" },
  { principal: PRODUCER, resourceType: "TOPIC", resourceName: EVENTS_TOPIC, operation: "DESCRIBE" },
  { principal: PRODUCER, resourceType: "TOPIC", resourceName: DLQ_TOPIC, operation: "WRITE" },
  { principal: PRODUCER, resourceType: "TOPIC", resourceName: DLQ_TOPIC, operation: "DESCRIBE" },
  { principal: PROCESSOR, resourceType: "TOPIC", resourceName: EVENTS_TOPIC, operation: "READ" },
  { principal: PROCESSOR, resourceType: "TOPIC", resourceName: EVENTS_TOPIC, operation: "DESCRIBE" },
  { principal: PROCESSOR, resourceType: "GROUP", resourceName: PROCESSOR_GROUP, operation: "READ" },
  { principal: PROCESSOR, resourceType: "GROUP", resourceName: STEP_OVER_GROUP, operation: "DESCRIBE" },
  { principal: PROCESSOR, resourceType: "TOPIC", resourceName: DLQ_TOPIC, operation: "WRITE" },
  { principal: PROCESSOR, resourceType: "TOPIC", resourceName: DLQ_TOPIC, operation: "DESCRIBE" },
  { principal: LAG_EXPORTER, resourceType: "TOPIC", resourceName: EVENTS_TOPIC, operation: "DESCRIBE" },
  { principal: LAG_EXPORTER, resourceType: "TOPIC", resourceName: EVENTS_TOPIC, operation: "DESCRIBE_CONFIGS" },
  { principal: LAG_EXPORTER, resourceType: "TOPIC", resourceName: DLQ_TOPIC, operation: "DESCRIBE_CONFIGS" },
  { principal: LAG_EXPORTER, resourceType: "GROUP", resourceName: PROCESSOR_GROUP, operation: "DESCRIBE" },
  { principal: LAG_EXPORTER, resourceType: "CLUSTER", resourceName: "kafka-cluster", operation: "DESCRIBE" },
];

/** One ACL as a line: equal lines are equal rights. */
export function aclKey(acl: Record<keyof Acl, string>): string {
  return `${acl.principal} ${acl.operation} ${acl.resourceType}:${acl.resourceName}`;
}
