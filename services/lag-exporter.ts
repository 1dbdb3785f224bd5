/**
 * The lag exporter: the lag of a consumer group per partition, for Prometheus, alerts and autoscaling, and how near the
 * unread events are to Kafka's retention. While Kafka is unreachable the lag series are removed: an absent series raises
 * an alert, a stale one would hide the problem.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Admin, ConfigResourceTypes } from "kafkajs";
import { DLQ_TOPIC, EVENTS_TOPIC, PROCESSOR_GROUP } from "./domain/kafka-layout.ts";
import { type PartitionLag, partitionLag } from "./domain/lag.ts";
import { createPollingAdmin } from "./kafka/client.ts";
import { type ConfigReader, readCommon, readKafka, readOps, readTopic } from "./runtime/config.ts";
import { Health } from "./runtime/health.ts";
import type { Logger } from "./runtime/log.ts";
import { Metrics } from "./runtime/metrics.ts";
import { startOpsServer } from "./runtime/ops-server.ts";
import { servedExpirySeconds } from "./runtime/served-certificates.ts";
import { certificateExpirySeconds, runService, type ServiceFrame } from "./runtime/service.ts";
import { withTimeout } from "./runtime/with-timeout.ts";

/** Drills measure recoveries to the second with it, and autoscaling needs a fresh value; a poll is four small requests. */
const POLL_MS = 1000;
const POLL_LIMIT_MS = 15_000;
/** Without a successful poll for this long the lag series are removed. */
const STALE_MS = 30_000;
/**
 * A commit is beyond the end while a leader answers that does not know that it was replaced. Each poll refreshes the
 * metadata, so a new leader is found within some seconds. If it stays longer, the log lost its tail and nobody reads it again.
 */
const STALE_LEADER_LIMIT_MS = 15_000;
const PROGRESS_LIMIT_MS = 60_000;
/** Retention changes rarely, and an event's age slowly. */
const RETENTION_POLL_MS = 60_000;
/** Certificates last for months. */
const CERTIFICATE_POLL_MS = 10 * 60_000;
/** Unread events this near to their deletion by age are counted; the alert names the same time. */
const EXPIRY_HORIZON_MS = 2 * 3_600_000;

const read = (reader: ConfigReader) => {
  const kafka = readKafka(reader);
  return {
    common: readCommon(reader),
    kafka,
    ops: readOps(reader, kafka),
    topic: readTopic(reader, "TOPIC", EVENTS_TOPIC),
    dlqTopic: readTopic(reader, "DLQ_TOPIC", DLQ_TOPIC),
    groupId: reader.text("GROUP_ID", PROCESSOR_GROUP),
    /** Servers besides the brokers whose certificates are watched. */
    certificateEndpoints: reader.has("CERTIFICATE_ENDPOINTS") ? reader.brokers("CERTIFICATE_ENDPOINTS") : [],
  };
};

interface GroupState {
  partitions: PartitionLag[];
  members: number;
  /** Partitions whose commit is beyond the end. */
  beyondEnd: number[];
}

export async function readGroup(admin: Admin, topic: string, group: string): Promise<GroupState> {
  // The commits first: an offset beyond an end that is read later is beyond the log.
  const [committed, described] = await Promise.all([
    admin.fetchOffsets({ groupId: group, topics: [topic] }),
    admin.describeGroups([group]),
  ]);
  const ofTopic = committed.find((entry) => entry.topic === topic)?.partitions ?? [];
  const ends = await admin.fetchTopicOffsets(topic);
  const commitOf = (partition: number) => ofTopic.find((entry) => entry.partition === partition);
  return {
    partitions: ends.map((offsets) => partitionLag(offsets, commitOf(offsets.partition))),
    members: described.groups[0]?.members.length ?? 0,
    beyondEnd: ends
      .filter(({ partition, high }) => Number(commitOf(partition)?.offset ?? -1) > Number(high))
      .map(({ partition }) => partition),
  };
}

/** A commit is beyond the end that a leader has answered. */
export class CommitBeyondEnd extends Error {}

/**
 * Reads the group's state and refuses a commit beyond the end until it has stayed for STALE_LEADER_LIMIT_MS: a replaced
 * leader's old end would be a lag of all events, and the autoscaler would follow it.
 * @throws CommitBeyondEnd, which names the partitions
 */
export function createGroupReader(topic: string, group: string, nowMs = () => performance.now()) {
  let beyondSinceMs: number | undefined;
  return async (admin: Admin): Promise<GroupState> => {
    const state = await readGroup(admin, topic, group);
    if (state.beyondEnd.length === 0) {
      beyondSinceMs = undefined;
      return state;
    }
    beyondSinceMs ??= nowMs();
    if (nowMs() - beyondSinceMs >= STALE_LEADER_LIMIT_MS) return state;
    throw new CommitBeyondEnd(
      `the commit is beyond the end of ${topic} in partition ${state.beyondEnd.join(", ")}: a replaced leader answered, or the log lost its tail`,
    );
  };
}

interface Retention {
  topic: string;
  /** As Kafka has them: negative without a bound. */
  bytes: number;
  ms: number;
}

export async function readRetention(admin: Admin, topics: readonly string[]): Promise<Retention[]> {
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: topics.map((name) => ({
      type: ConfigResourceTypes.TOPIC,
      name,
      configNames: ["retention.bytes", "retention.ms"],
    })),
  });
  return resources.map(({ resourceName, configEntries }) => {
    const value = (name: string) => Number(configEntries.find(({ configName }) => configName === name)?.configValue);
    return { topic: resourceName, bytes: value("retention.bytes"), ms: value("retention.ms") };
  });
}

/** First offset per partition that is not deleted by age within the horizon; undefined without such a bound. */
export async function readExpiringEnds(
  admin: Admin,
  { topic, ms }: Retention,
  nowMs = Date.now(),
): Promise<ReadonlyMap<number, number> | undefined> {
  if (!(ms >= 0)) return undefined;
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, Math.max(0, nowMs - ms + EXPIRY_HORIZON_MS));
  return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
}

function createGauges(metrics: Metrics) {
  const lag = metrics.gauge("kafka_consumergroup_lag");
  const lagSum = metrics.gauge("kafka_consumergroup_lag_sum");
  const members = metrics.gauge("kafka_consumergroup_members");
  const deletedUnread = metrics.gauge("kafka_consumergroup_deleted_unread");
  const truncations = metrics.gauge("kafka_consumergroup_log_truncations");
  const expiringUnread = metrics.gauge("kafka_consumergroup_expiring_unread");
  const startOffset = metrics.gauge("kafka_topic_partition_start_offset");
  const endOffset = metrics.gauge("kafka_topic_partition_end_offset");
  const retentionBytes = metrics.gauge("kafka_topic_retention_bytes");
  const retentionSeconds = metrics.gauge("kafka_topic_retention_seconds");
  let expiringEnds: ReadonlyMap<number, number> | undefined;
  return {
    setGroup({ topic, group }: { topic: string; group: string }, { partitions, members: count }: GroupState): number {
      let sum = 0;
      for (const state of partitions) {
        const labels = { topic, partition: String(state.partition) };
        const oldestUnread = Math.max(state.start, state.end - state.lag);
        const expiringEnd = expiringEnds?.get(state.partition) ?? 0;
        lag.set({ group, ...labels }, state.lag);
        deletedUnread.set({ group, ...labels }, state.deletedUnread);
        truncations.set({ group, ...labels }, state.truncations);
        expiringUnread.set({ group, ...labels }, Math.max(0, expiringEnd - oldestUnread));
        startOffset.set(labels, state.start);
        endOffset.set(labels, state.end);
        sum += state.lag;
      }
      lagSum.set({ group, topic }, sum);
      members.set({ group }, count);
      return sum;
    },
    setRetention(bounds: readonly Retention[], ends: typeof expiringEnds): void {
      for (const { topic, bytes, ms } of bounds) {
        retentionBytes.set({ topic }, bytes);
        retentionSeconds.set({ topic }, ms / 1000);
      }
      expiringEnds = ends;
    },
    /** The retention stays: it is a setting. */
    reset(): void {
      const ofGroup = [lag, lagSum, members, deletedUnread, truncations, expiringUnread];
      for (const gauge of [...ofGroup, startOffset, endOffset]) gauge.reset();
    },
  };
}

/** Reads the certificate of each server at once and then regularly. An expiry that was read stays when a server is away. */
function watchCertificates(
  { kafka, certificateEndpoints }: ReturnType<typeof read>,
  metrics: Metrics,
  log: Logger,
): void {
  const expiry = metrics.gauge("conveyor_endpoint_certificate_expiry_timestamp_seconds");
  const readAll = () => {
    for (const endpoint of [...kafka.brokers, ...certificateEndpoints]) {
      servedExpirySeconds(endpoint, kafka.tls).then(
        (seconds) => expiry.set({ endpoint }, seconds),
        // Grafana and the logging stages may not be deployed.
        (error: unknown) => log.info("certificate_unknown", { endpoint, error }),
      );
    }
  };
  readAll();
  setInterval(readAll, CERTIFICATE_POLL_MS).unref();
}

async function start(config: ReturnType<typeof read>, { log, shutdown }: ServiceFrame): Promise<void> {
  const { topic, dlqTopic, groupId: group } = config;
  const metrics = new Metrics("lag-exporter");
  const health = new Health();
  health.watch({ name: "polling", limitMs: PROGRESS_LIMIT_MS });
  const gauges = createGauges(metrics);
  const polls = metrics.counter("conveyor_lag_exporter_polls_total");
  const lastSuccess = metrics.gauge("conveyor_lag_exporter_last_success_timestamp_seconds");
  const expiry = certificateExpirySeconds(config.ops.tls.cert, config.kafka.tls.cert);
  metrics.gauge("conveyor_certificate_expiry_timestamp_seconds").set(expiry);
  let succeededAt = Number.NEGATIVE_INFINITY;
  health.ready("lag_known", () => performance.now() - succeededAt < STALE_MS);

  const readState = createGroupReader(topic, group);
  let client: ReturnType<typeof createPollingAdmin> | undefined;
  let retentionAt = Number.NEGATIVE_INFINITY;
  const pollRetention = async (admin: Admin) => {
    if (performance.now() - retentionAt < RETENTION_POLL_MS) return;
    retentionAt = performance.now();
    const read = async () => {
      const bounds = await readRetention(admin, [topic, dlqTopic]);
      gauges.setRetention(bounds, await readExpiringEnds(admin, bounds.find((row) => row.topic === topic)!));
    };
    // The lag does not depend on it: an ACL that setup has not made yet must not hide the lag.
    await withTimeout(read(), POLL_LIMIT_MS).catch((error: unknown) => log.warn("retention_unknown", { error }));
  };
  const poll = async () => {
    if (!client) {
      const onConnect = () => health.progress("polling");
      const fresh = createPollingAdmin(config.kafka, config.common.podName, log, onConnect);
      await fresh.admin.connect();
      client = fresh;
    }
    const { admin } = client;
    const state = await withTimeout(readState(admin), POLL_LIMIT_MS);
    const lag = gauges.setGroup({ topic, group }, state);
    lastSuccess.set(Math.floor(Date.now() / 1000));
    succeededAt = performance.now();
    log.debug("lag_read", { lag, members: state.members });
    await pollRetention(admin);
  };
  const loop = async () => {
    while (!shutdown.begun) {
      health.progress("polling");
      try {
        await poll();
        polls.inc({ outcome: "ok" });
      } catch (error) {
        polls.inc({ outcome: "failed" });
        log.warn("lag_unknown", { error });
        if (error instanceof CommitBeyondEnd) {
          // From another broker, perhaps; this client keeps the newest leader of each partition that it has seen.
          void client?.cluster.refreshMetadata().catch(() => {});
        } else {
          // A new client, since the old one may keep connections to brokers that are gone.
          void client?.admin.disconnect().catch(() => {});
          client = undefined;
        }
        if (performance.now() - succeededAt > STALE_MS) gauges.reset();
      }
      await sleep(POLL_MS);
    }
  };

  const ops = startOpsServer(config.ops, health, metrics.registry);
  shutdown.step("kafka", 3000, () => client?.admin.disconnect());
  shutdown.step("ops_server", 1000, () => ops.stop());
  log.info("running", { topic, group });
  watchCertificates(config, metrics, log);
  void loop();
}

if (import.meta.main) await runService("lag-exporter", read, start);
