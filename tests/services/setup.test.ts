/** What setup does with topics that exist. Kafka is replaced by answers of the test. */
import { expect, test } from "bun:test";
import type { Admin } from "kafkajs";
import { DLQ_TOPIC, EVENTS_TOPIC, TOPIC_TABLE } from "../../services/domain/kafka-layout.ts";
import { ChangeLog, setUpTopics } from "../../services/setup.ts";

const CONFIG = { topics: {}, replicationFactor: 3, minInsyncReplicas: 2 };

/** A cluster with all topics as the table defines them, except for the brokers of these partitions. */
function clusterWith(replicasOf: (topic: string, partition: number) => number[]) {
  const calls: string[] = [];
  const admin = {
    listTopics: async () => TOPIC_TABLE.map(({ name }) => name),
    fetchTopicMetadata: async ({ topics: [name] }: { topics: string[] }) => ({
      topics: [
        {
          name,
          partitions: Array.from({ length: rowOf(name!).partitions }, (_, partitionId) => ({
            partitionId,
            replicas: replicasOf(name!, partitionId),
          })),
        },
      ],
    }),
    describeConfigs: async ({ resources: [resource] }: { resources: { name: string }[] }) => ({
      resources: [
        {
          configEntries: Object.entries({ ...rowOf(resource!.name).config, "min.insync.replicas": "2" }).map(
            ([configName, configValue]) => ({ configName, configValue }),
          ),
        },
      ],
    }),
    createTopics: async () => void calls.push("createTopics"),
    createPartitions: async () => void calls.push("createPartitions"),
    alterConfigs: async () => void calls.push("alterConfigs"),
  } as unknown as Admin;
  return { admin, calls };
}

const rowOf = (topic: string) => TOPIC_TABLE.find(({ name }) => name === topic)!;

test("topics that are as the table defines them are unchanged, without a problem", async () => {
  const { admin, calls } = clusterWith(() => [0, 1, 2]);
  const changes = new ChangeLog();
  await setUpTopics(CONFIG, admin, changes);
  expect(calls).toEqual([]);
  expect(changes.problems).toEqual([]);
  expect(changes.toJSON().unchanged).toEqual([`topic ${EVENTS_TOPIC}`, `topic ${DLQ_TOPIC}`]);
});

test("a partition with fewer replicas than asked for is a problem of the result, once per partition", async () => {
  const { admin } = clusterWith((topic, partition) => (topic === EVENTS_TOPIC && partition === 4 ? [1] : [0, 1, 2]));
  const changes = new ChangeLog();
  await setUpTopics(CONFIG, admin, changes);
  // setup repeats its work until everything is there.
  await setUpTopics(CONFIG, admin, changes);
  expect(changes.problems).toEqual([`topic ${EVENTS_TOPIC}: partition 4 has 1 of 3 replicas`]);
});
