/**
 * The lag exporter: the lag of a consumer group per partition, for Prometheus, alerts and autoscaling. While Kafka is
 * unreachable the lag series are removed: an absent series raises an alert, a stale one would hide the problem.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Admin } from "kafkajs";
import { EVENTS_TOPIC, PROCESSOR_GROUP } from "./domain/kafka-layout.ts";
import { lagOf, type PartitionLag } from "./domain/lag.ts";
import { createKafka, RETRY_BRIEFLY } from "./kafka/client.ts";
import { type ConfigReader, readCommon, readKafka, readOps, readTopic } from "./runtime/config.ts";
import { Health } from "./runtime/health.ts";
import { Metrics } from "./runtime/metrics.ts";
import { startOpsServer } from "./runtime/ops-server.ts";
import { certificateExpirySeconds, runService, type ServiceFrame } from "./runtime/service.ts";
import { withTimeout } from "./runtime/with-timeout.ts";

/** Drills measure recoveries to the second with it, and autoscaling needs a fresh value; a poll is four small requests. */
const POLL_MS = 1000;
const POLL_LIMIT_MS = 15_000;
/** Without a successful poll for this long the lag series are removed. */
const STALE_MS = 30_000;
const PROGRESS_LIMIT_MS = 60_000;

const read = (reader: ConfigReader) => {
  const kafka = readKafka(reader);
  return {
    common: readCommon(reader),
    kafka,
    ops: readOps(reader, kafka),
    topic: readTopic(reader, "TOPIC", EVENTS_TOPIC),
    groupId: reader.text("GROUP_ID", PROCESSOR_GROUP),
  };
};

interface GroupState {
  partitions: PartitionLag[];
  members: number;
}

async function readGroup(admin: Admin, topic: string, group: string): Promise<GroupState> {
  const [ends, committed, described] = await Promise.all([
    admin.fetchTopicOffsets(topic),
    admin.fetchOffsets({ groupId: group, topics: [topic] }),
    admin.describeGroups([group]),
  ]);
  const ofTopic = committed.find((entry) => entry.topic === topic)?.partitions ?? [];
  return {
    partitions: ends.map(({ partition, low, high }) => {
      const offset = ofTopic.find((entry) => entry.partition === partition)?.offset ?? "-1";
      return { partition, end: Number(high), lag: lagOf(low, high, offset) };
    }),
    members: described.groups[0]?.members.length ?? 0,
  };
}

async function start(config: ReturnType<typeof read>, { log, shutdown }: ServiceFrame): Promise<void> {
  const { topic, groupId: group } = config;
  const metrics = new Metrics("lag-exporter");
  const health = new Health();
  health.watch({ name: "polling", limitMs: PROGRESS_LIMIT_MS });
  const lag = metrics.gauge("kafka_consumergroup_lag");
  const lagSum = metrics.gauge("kafka_consumergroup_lag_sum");
  const members = metrics.gauge("kafka_consumergroup_members");
  const endOffset = metrics.gauge("kafka_topic_partition_end_offset");
  const polls = metrics.counter("conveyor_lag_exporter_polls_total");
  const lastSuccess = metrics.gauge("conveyor_lag_exporter_last_success_timestamp_seconds");
  metrics.gauge("conveyor_certificate_expiry_timestamp_seconds").set(certificateExpirySeconds(config.kafka.tls.cert));
  let succeededAt = Number.NEGATIVE_INFINITY;
  health.ready("lag_known", () => performance.now() - succeededAt < STALE_MS);

  const kafka = createKafka(config.kafka, config.common.podName, log, {
    retry: RETRY_BRIEFLY,
    onConnect: () => health.progress("polling"),
  });
  let admin: Admin | undefined;
  const poll = async () => {
    if (!admin) {
      const fresh = kafka.admin();
      await fresh.connect();
      admin = fresh;
    }
    const { partitions, members: count } = await withTimeout(readGroup(admin, topic, group), POLL_LIMIT_MS);
    let sum = 0;
    for (const { partition, end, lag: behind } of partitions) {
      lag.set({ group, topic, partition: String(partition) }, behind);
      endOffset.set({ topic, partition: String(partition) }, end);
      sum += behind;
    }
    lagSum.set({ group, topic }, sum);
    members.set({ group }, count);
    lastSuccess.set(Math.floor(Date.now() / 1000));
    succeededAt = performance.now();
    log.debug("lag_read", { lag: sum, members: count });
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
        // A new client, since the old one may keep connections to brokers that are gone.
        void admin?.disconnect().catch(() => {});
        admin = undefined;
        if (performance.now() - succeededAt > STALE_MS)
          for (const gauge of [lag, lagSum, members, endOffset]) gauge.reset();
      }
      await sleep(POLL_MS);
    }
  };

  const ops = startOpsServer(config.ops, health, metrics.registry);
  shutdown.step("kafka", 3000, () => admin?.disconnect());
  shutdown.step("ops_server", 1000, () => ops.stop());
  log.info("running", { topic, group });
  void loop();
}

if (import.meta.main) await runService("lag-exporter", read, start);
