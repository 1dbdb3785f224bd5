import { describe, expect, test } from "bun:test";
import { TOPIC_TABLE } from "../../../services/domain/kafka-layout.ts";
import { topicProblems } from "../../../services/kafka/external-topics.ts";

const wanted = TOPIC_TABLE[0]!;
const judge = (config: Record<string, string> | undefined, partitions = [3, 3]) =>
  topicProblems({
    partitions,
    config: config && { ...wanted.config, "cleanup.policy": "delete", ...config },
    wanted,
    minInsyncReplicas: 2,
  });

describe("topicProblems", () => {
  test("a topic as setup creates it has none", () => {
    expect(judge({})).toEqual({ problems: [], fatal: [] });
  });

  test("names what weakens the promise of an acknowledgement", () => {
    expect(judge({ "min.insync.replicas": "1" }).problems).toEqual([
      "min.insync.replicas is 1, must be at least 2: an acknowledged event may have one copy",
    ]);
    expect(judge({}, [2, 3]).problems).toEqual([
      "2 replicas with min.insync.replicas 2: writes are refused while one broker is away",
    ]);
    expect(judge({ "unclean.leader.election.enable": "true" }).problems).toHaveLength(1);
    expect(judge({ "message.timestamp.type": "LogAppendTime" }).problems).toHaveLength(1);
    expect(judge({ "retention.ms": "3600000" }).problems).toHaveLength(1);
    expect(judge({ "retention.ms": "-1", "retention.bytes": "-1" }).problems).toEqual([]);
  });

  test("a setting with which Kafka deletes or refuses events in normal operation is fatal", () => {
    expect(judge({ "cleanup.policy": "compact,delete" }).fatal).toHaveLength(1);
    expect(judge({ "max.message.bytes": "1000012" }).fatal).toEqual([
      "max.message.bytes is 1000012, must be at least 1048576: batches are refused",
    ]);
  });

  test("a configuration that may not be read is a problem, not a pass", () => {
    expect(judge(undefined).problems).toEqual([
      "its configuration cannot be read (missing right DESCRIBE_CONFIGS): its promises are not checked",
    ]);
  });
});
