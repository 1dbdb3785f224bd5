/**
 * The topics of a Kafka that this project does not run. A missing topic is created where that is allowed; an existing one is
 * never changed, because it has an owner. Every right that the pipeline uses is tried with a request that stores nothing.
 */
import { type Admin, ConfigResourceTypes } from "kafkajs";
import type { InternalBroker } from "kafkajs/src/cluster/index.js";
import { causesOf } from "../domain/causes.ts";
import { PROBE_GROUP_PREFIX, PROCESSOR_GROUP, STEP_OVER_GROUP, TOPIC_TABLE } from "../domain/kafka-layout.ts";
import type { KafkaConfig } from "../runtime/config.ts";
import type { Logger } from "../runtime/log.ts";
import { createCluster, createKafka, type KafkaCluster, RETRY_BRIEFLY, withAdmin } from "./client.ts";

/** No topic has a partition with this number: Kafka checks the right to write before it searches the partition. */
const NO_PARTITION = 1_000_000;

export interface ExternalTopicsOptions {
  kafka: KafkaConfig;
  clientId: string;
  log: Logger;
  events: string;
  deadLetters: string;
  replicationFactor: number;
  minInsyncReplicas: number;
  /** Called at once: a later step may fail and be tried again. */
  onCreated(topic: string): void;
}

export interface ExternalTopics {
  /** What does not stop the pipeline, and what it costs; a person must change it. */
  problems: string[];
}

/** A state in which no event can flow; trying again does not help. */
class ExternalKafkaError extends Error {
  readonly retriable = false;
}

/** Kafka's error code; kafkajs wraps the errors of created topics in an aggregate. */
function errorType(error: unknown): string | undefined {
  for (const cause of causesOf(error)) {
    const { type, errors } = cause as { type?: unknown; errors?: { type?: unknown }[] };
    const code = type ?? errors?.[0]?.type;
    if (typeof code === "string") return code;
  }
  return undefined;
}

const isDenied = (error: unknown): boolean => errorType(error)?.endsWith("AUTHORIZATION_FAILED") ?? false;

/** @throws ExternalKafkaError that names every missing topic and right without which no event flows */
export async function setUpExternalTopics(options: ExternalTopicsOptions): Promise<ExternalTopics> {
  const found: ExternalTopics = { problems: [] };
  const kafka = createKafka(options.kafka, options.clientId, options.log, { retry: RETRY_BRIEFLY });
  await withAdmin(kafka, async (admin) => {
    await createMissing(options, admin);
    await checkTopics(options, admin, found);
  });
  await checkRights(options, found);
  return found;
}

const namesOf = ({ events, deadLetters }: ExternalTopicsOptions) => [events, deadLetters];

/** A topic of which nothing may be seen is denied, whether it exists or not. */
async function stateOf(admin: Admin, topic: string): Promise<"visible" | "missing" | "denied"> {
  try {
    await admin.fetchTopicMetadata({ topics: [topic] });
    return "visible";
  } catch (error) {
    if (isDenied(error)) return "denied";
    if (errorType(error) === "UNKNOWN_TOPIC_OR_PARTITION") return "missing";
    throw error;
  }
}

async function createMissing(options: ExternalTopicsOptions, admin: Admin): Promise<void> {
  const refused: string[] = [];
  for (const [index, topic] of namesOf(options).entries()) {
    if ((await stateOf(admin, topic)) === "visible") continue;
    const { partitions, config } = TOPIC_TABLE[index]!;
    const { brokers } = await admin.describeCluster();
    const replicationFactor = Math.min(options.replicationFactor, brokers.length);
    const minInsync = Math.max(1, Math.min(options.minInsyncReplicas, replicationFactor - 1));
    const wanted = { ...config, "min.insync.replicas": String(minInsync) };
    const configEntries = Object.entries(wanted).map(([name, value]) => ({ name, value }));
    try {
      const isNew = await admin.createTopics({
        waitForLeaders: false,
        topics: [{ topic, numPartitions: partitions, replicationFactor, configEntries }],
      });
      if (isNew) options.onCreated(topic);
      else if ((await stateOf(admin, topic)) === "denied")
        refused.push(`topic ${topic}: missing right DESCRIBE on TOPIC ${topic}`);
    } catch (error) {
      const type = errorType(error);
      const isRefused = isDenied(error) || type === "POLICY_VIOLATION" || type === "INVALID_CONFIG";
      if (!isRefused) throw error;
      const settings = Object.entries(wanted).map(([name, value]) => `--config ${name}=${value}`);
      refused.push(
        `topic ${topic} is missing or hidden, and creating it is refused (${type}): grant the right CREATE, or create it: ` +
          `kafka-topics.sh --create --topic ${topic} --partitions ${partitions} --replication-factor ${replicationFactor} ${settings.join(" ")}`,
      );
    }
  }
  if (refused.length > 0) throw new ExternalKafkaError(refused.join("; "));
}

async function checkTopics(options: ExternalTopicsOptions, admin: Admin, found: ExternalTopics): Promise<void> {
  const { topics } = await admin.fetchTopicMetadata({ topics: namesOf(options) });
  for (const [index, topic] of namesOf(options).entries()) {
    const subject = `topic ${topic}`;
    const { partitions = [] } = topics.find(({ name }) => name === topic) ?? {};
    const config = await readTopicConfig(admin, topic);
    const { problems, fatal } = topicProblems({
      partitions: partitions.map(({ replicas }) => replicas.length),
      config,
      wanted: TOPIC_TABLE[index]!,
      minInsyncReplicas: options.minInsyncReplicas,
    });
    if (fatal.length > 0) throw new ExternalKafkaError(fatal.map((problem) => `${subject}: ${problem}`).join("; "));
    found.problems.push(...problems.map((problem) => `${subject}: ${problem}`));
  }
}

/** The configuration of a topic; undefined where it may not be read. */
async function readTopicConfig(admin: Admin, name: string): Promise<Record<string, string> | undefined> {
  try {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name }];
    const described = await admin.describeConfigs({ includeSynonyms: false, resources });
    const { configEntries = [] } = described.resources[0] ?? {};
    return Object.fromEntries(configEntries.map(({ configName, configValue }) => [configName, configValue]));
  } catch (error) {
    if (isDenied(error)) return undefined;
    throw error;
  }
}

interface TopicState {
  /** Number of replicas of each partition. */
  partitions: readonly number[];
  config: Readonly<Record<string, string>> | undefined;
  wanted: (typeof TOPIC_TABLE)[number];
  minInsyncReplicas: number;
}

/**
 * How an existing topic differs from what the pipeline promises: that an acknowledged event survives the loss of a broker,
 * and stays until its retention.
 * @returns fatal: with it events are lost or refused in normal operation
 */
export function topicProblems({ partitions, config, wanted, minInsyncReplicas }: TopicState) {
  const problems: string[] = [];
  const fatal: string[] = [];
  const replicas = Math.min(...partitions);
  if (replicas < minInsyncReplicas)
    problems.push(`${replicas} replica per partition: the loss of a broker loses acknowledged events`);
  if (!config) {
    problems.push("its configuration cannot be read (missing right DESCRIBE_CONFIGS): its promises are not checked");
    return { problems, fatal };
  }
  const number = (name: string) => Number(config[name]);
  const minIsr = number("min.insync.replicas");
  if (minIsr < minInsyncReplicas)
    problems.push(
      `min.insync.replicas is ${minIsr}, must be at least ${minInsyncReplicas}: an acknowledged event may have one copy`,
    );
  else if (replicas <= minIsr)
    problems.push(
      `${replicas} replicas with min.insync.replicas ${minIsr}: writes are refused while one broker is away`,
    );
  if (config["unclean.leader.election.enable"] === "true")
    problems.push("unclean.leader.election.enable is true: an election may drop acknowledged events");
  if (config["message.timestamp.type"] === "LogAppendTime")
    problems.push(
      "message.timestamp.type is LogAppendTime: an audit may count lines at the beginning of its window as lost; recommended CreateTime",
    );
  // Events of a conveyor share a key: compaction would keep only its newest one.
  if (config["cleanup.policy"]?.includes("compact")) fatal.push("cleanup.policy is compact: Kafka would delete events");
  const largest = Number(wanted.config["max.message.bytes"]);
  if (number("max.message.bytes") < largest)
    fatal.push(`max.message.bytes is ${config["max.message.bytes"]}, must be at least ${largest}: batches are refused`);
  const [retentionMs, wantedMs] = [number("retention.ms"), Number(wanted.config["retention.ms"])];
  if (retentionMs >= 0 && retentionMs < wantedMs)
    problems.push(`retention.ms is ${retentionMs}, recommended ${wantedMs}: unread events are deleted after that`);
  return { problems, fatal };
}

interface Right {
  operation: string;
  resource: string;
  /** What does not work without it; absent: no event flows. */
  without?: string;
  attempt(cluster: KafkaCluster): Promise<unknown>;
}

/** Answers that only a request with the right gets: the request itself is one that Kafka cannot fulfil. */
const GRANTED: ReadonlySet<string> = new Set([
  "UNKNOWN_TOPIC_OR_PARTITION",
  "OFFSET_OUT_OF_RANGE",
  "UNKNOWN_MEMBER_ID",
  "ILLEGAL_GENERATION",
  "REBALANCE_IN_PROGRESS",
]);

type Request = (options: Record<string, unknown>) => Promise<unknown>;
type Broker = InternalBroker &
  Record<"produce" | "heartbeat" | "initProducerId", Request> & {
    findGroupCoordinator(options: Record<string, unknown>): Promise<{ coordinator: { nodeId: number } }>;
  };

/** Any broker answers these requests. */
const anyBroker = async (cluster: KafkaCluster) => (await cluster.findControllerBroker()) as Broker;

const write = (topic: string) => async (cluster: KafkaCluster) => {
  const broker = await anyBroker(cluster);
  const messages = [{ key: null, value: "right", headers: {} }];
  await broker.produce({
    topicData: [{ topic, partitions: [{ partition: NO_PARTITION, firstSequence: 0, messages }] }],
  });
};

const read = (topic: string) => async (cluster: KafkaCluster) => {
  await cluster.addMultipleTargetTopics([topic]);
  const { leader, partitionId } = cluster.findTopicPartitionMetadata(topic)[0]!;
  const broker = await cluster.findBroker({ nodeId: leader });
  const partitions = [{ partition: partitionId, fetchOffset: "0", maxBytes: 1 }];
  const bounds = { maxWaitTime: 100, minBytes: 1, maxBytes: 1 };
  await broker.fetch({ replicaId: -1, isolationLevel: 1, ...bounds, topics: [{ topic, partitions }] });
};

const initProducer = async (cluster: KafkaCluster) =>
  await (await anyBroker(cluster)).initProducerId({ transactionTimeout: 30_000 });

/** A heartbeat of a member that does not exist needs the right of a member. */
const join = (groupId: string) => async (cluster: KafkaCluster) => {
  // The cluster's own method replaces a refusal by another error.
  const { coordinator } = await (await anyBroker(cluster)).findGroupCoordinator({ groupId, coordinatorType: 0 });
  const broker = (await cluster.findBroker({ nodeId: coordinator.nodeId })) as Broker;
  await broker.heartbeat({ groupId, groupGenerationId: 0, memberId: "right" });
};

const rightsOf = ({ events, deadLetters }: ExternalTopicsOptions): Right[] => {
  const dead = "dead letters cannot be listed, checked or replayed";
  const step = "a batch that cannot be read stops its partition, and cannot be stepped over";
  return [
    { operation: "WRITE", resource: `TOPIC ${events}`, attempt: write(events) },
    { operation: "READ", resource: `TOPIC ${events}`, attempt: read(events) },
    { operation: "WRITE", resource: `TOPIC ${deadLetters}`, attempt: write(deadLetters) },
    // Since Kafka 2.8 the right to write any topic includes it.
    { operation: "IDEMPOTENT_WRITE", resource: "CLUSTER", attempt: initProducer },
    { operation: "READ", resource: `GROUP ${PROCESSOR_GROUP}`, attempt: join(PROCESSOR_GROUP) },
    { operation: "READ", resource: `TOPIC ${deadLetters}`, without: dead, attempt: read(deadLetters) },
    {
      operation: "READ",
      resource: `GROUP ${PROBE_GROUP_PREFIX}* (prefixed)`,
      without: dead,
      attempt: join(`${PROBE_GROUP_PREFIX}right`),
    },
    { operation: "READ", resource: `GROUP ${STEP_OVER_GROUP}`, without: step, attempt: join(STEP_OVER_GROUP) },
  ];
};

async function checkRights(options: ExternalTopicsOptions, found: ExternalTopics): Promise<void> {
  const cluster = createCluster(options.kafka, options.clientId, options.log);
  const fatal: string[] = [];
  try {
    await cluster.connect();
    await cluster.refreshMetadata();
    for (const { operation, resource, without, attempt } of rightsOf(options)) {
      try {
        await attempt(cluster);
      } catch (error) {
        if (GRANTED.has(errorType(error) ?? "")) continue;
        if (!isDenied(error)) throw error;
        const missing = `missing right ${operation} on ${resource}`;
        if (without) found.problems.push(`${missing}: ${without}`);
        else fatal.push(missing);
      }
    }
  } finally {
    await cluster.disconnect().catch(() => {});
  }
  if (fatal.length > 0) throw new ExternalKafkaError(`no event can flow: ${fatal.join("; ")}`);
}
