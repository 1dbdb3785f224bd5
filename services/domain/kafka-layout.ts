/** The topics and ACLs that Kafka must have. The setup job creates them, validate compares them. */

export const EVENTS_TOPIC = "conveyor.events";
export const DLQ_TOPIC = "conveyor.events.dlq";
export const PROCESSOR_GROUP = "processor";

const DAY_MS = 86_400_000;

interface TopicLayout {
  name: string;
  partitions: number;
  replicationFactor: number;
  /** Topic configuration as Kafka writes it: every value is text. */
  config: Readonly<Record<string, string>>;
}

/** Three replicas, two of which must have a write: one broker may fail without a lost or rejected write. */
const topic = (name: string, partitions: number, retentionDays: number): TopicLayout => ({
  name,
  partitions,
  replicationFactor: 3,
  config: {
    "min.insync.replicas": "2",
    "retention.ms": String(retentionDays * DAY_MS),
    "max.message.bytes": "1048576",
    "unclean.leader.election.enable": "false",
  },
});

/** A partition has one processor, so at most six processors work in parallel. */
export const TOPIC_TABLE: readonly TopicLayout[] = [topic(EVENTS_TOPIC, 6, 7), topic(DLQ_TOPIC, 3, 30)];

export interface Acl {
  /** As Kafka writes it: `User:` and the certificate's common name. */
  principal: string;
  resourceType: "TOPIC" | "GROUP" | "CLUSTER";
  resourceName: string;
  operation: "READ" | "WRITE" | "DESCRIBE";
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
  { principal: PROCESSOR, resourceType: "TOPIC", resourceName: DLQ_TOPIC, operation: "WRITE" },
  { principal: PROCESSOR, resourceType: "TOPIC", resourceName: DLQ_TOPIC, operation: "DESCRIBE" },
  { principal: LAG_EXPORTER, resourceType: "TOPIC", resourceName: EVENTS_TOPIC, operation: "DESCRIBE" },
  { principal: LAG_EXPORTER, resourceType: "GROUP", resourceName: PROCESSOR_GROUP, operation: "DESCRIBE" },
  { principal: LAG_EXPORTER, resourceType: "CLUSTER", resourceName: "kafka-cluster", operation: "DESCRIBE" },
];

/** One ACL as a line: equal lines are equal rights. */
export function aclKey(acl: Record<keyof Acl, string>): string {
  return `${acl.principal} ${acl.operation} ${acl.resourceType}:${acl.resourceName}`;
}
