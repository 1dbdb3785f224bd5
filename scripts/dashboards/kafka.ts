/** The log in the middle: brokers, replicas, traffic, the consumer group, the dead letters. */
import { bigNumber, type DashboardSpec, timeSeries } from "./panels.ts";

export const kafka: DashboardSpec = {
  uid: "kafka",
  title: "Kafka",
  description: "Brokers, replicas, traffic, the processor's consumer group and the dead-letter topic.",
  rows: [
    {
      title: "Health",
      panels: [
        bigNumber({
          title: "Brokers",
          description:
            "Brokers that answered the last scrape. With two of three, writes still go on; with one they stop.",
          unit: "short",
          decimals: 0,
          queries: [{ promql: "count(kafka_server_replicamanager_leadercount)", legend: "brokers" }],
        }),
        bigNumber({
          title: "Controllers",
          description: "Active controllers; exactly 1. 0 means that nobody leads the cluster.",
          unit: "short",
          decimals: 0,
          queries: [{ promql: "sum(kafka_controller_kafkacontroller_activecontrollercount)", legend: "controllers" }],
        }),
        bigNumber({
          title: "Under-replicated partitions",
          description:
            "Partitions with fewer replicas in sync than they should have. Short after a broker restarts; longer: see the runbook.",
          unit: "short",
          decimals: 0,
          thresholds: [[1, "yellow"]],
          queries: [{ promql: "sum(kafka_server_replicamanager_underreplicatedpartitions)", legend: "partitions" }],
        }),
        bigNumber({
          title: "Below the minimum in sync",
          description: "Partitions that refuse writes with acks=all, since fewer than two replicas are in sync.",
          unit: "short",
          decimals: 0,
          thresholds: [[1, "red"]],
          queries: [{ promql: "sum(kafka_server_replicamanager_underminisrpartitioncount)", legend: "partitions" }],
        }),
        bigNumber({
          title: "Offline partitions",
          description: "Partitions without a leader: neither read nor written.",
          unit: "short",
          decimals: 0,
          thresholds: [[1, "red"]],
          queries: [{ promql: "max(kafka_controller_kafkacontroller_offlinepartitionscount)", legend: "partitions" }],
        }),
        bigNumber({
          title: "Members of the group",
          description: "Processors in the consumer group. 0 means that nobody stores events.",
          unit: "short",
          decimals: 0,
          queries: [{ promql: 'sum(kafka_consumergroup_members{group="processor"})', legend: "members" }],
        }),
      ],
    },
    {
      title: "Traffic",
      panels: [
        timeSeries({
          title: "Events in by topic",
          description: "Records per second that the leaders appended, by topic. Replicas do not count.",
          unit: "eps",
          min: 0,
          queries: [
            { promql: "sum by (topic) (rate(kafka_topic_messagesin_total[$__rate_interval]))", legend: "{{topic}}" },
          ],
        }),
        timeSeries({
          title: "Bytes in and out by broker",
          description: "Bytes per second from clients and to clients. They are even when the leaders are.",
          unit: "Bps",
          min: 0,
          queries: [
            { promql: "sum by (pod) (rate(kafka_broker_bytesin_total[$__rate_interval]))", legend: "in {{pod}}" },
            { promql: "sum by (pod) (rate(kafka_broker_bytesout_total[$__rate_interval]))", legend: "out {{pod}}" },
          ],
        }),
        timeSeries({
          title: "Failed requests",
          description: "Produce and fetch requests per second that a broker refused or failed.",
          unit: "reqps",
          min: 0,
          queries: [
            {
              promql: "sum by (pod) (rate(kafka_broker_failedproducerequests_total[$__rate_interval]))",
              legend: "produce {{pod}}",
            },
            {
              promql: "sum by (pod) (rate(kafka_broker_failedfetchrequests_total[$__rate_interval]))",
              legend: "fetch {{pod}}",
            },
          ],
        }),
      ],
    },
    {
      title: "Consumer group",
      panels: [
        timeSeries({
          title: "Lag by partition",
          description:
            "Events that the processor has not committed yet. One partition alone that grows: its processor is stuck.",
          unit: "short",
          min: 0,
          queries: [
            {
              promql: 'sum by (partition) (kafka_consumergroup_lag{group="processor"})',
              legend: "partition {{partition}}",
            },
          ],
        }),
        timeSeries({
          title: "Written and committed per second",
          description:
            "How fast the topic grows, and how fast the group moves on. The distance between the lines fills or drains the lag.",
          unit: "eps",
          min: 0,
          queries: [
            {
              promql: 'sum(rate(kafka_topic_partition_end_offset{topic="conveyor.events"}[$__rate_interval]))',
              legend: "written",
            },
            {
              promql:
                'sum(rate(kafka_topic_partition_end_offset{topic="conveyor.events"}[2m])) - sum(deriv(kafka_consumergroup_lag{group="processor", topic="conveyor.events"}[2m]))',
              legend: "committed",
            },
          ],
        }),
        timeSeries({
          title: "Dead letters in the topic",
          description:
            "Offset of the next record of each partition of conveyor.events.dlq: steps are new dead letters.",
          unit: "short",
          min: 0,
          queries: [
            {
              promql:
                'sum by (topic) (rate(kafka_topic_messagesin_total{topic="conveyor.events.dlq"}[$__rate_interval])) or vector(0)',
              legend: "records per second",
            },
          ],
        }),
      ],
    },
    {
      title: "Brokers",
      panels: [
        timeSeries({
          title: "Request time, p99",
          description:
            "99th percentile of the time that a produce or a consumer's fetch spent in the broker. A fetch waits for data, up to half a second, when there is little.",
          unit: "s",
          min: 0,
          queries: [
            { promql: "max by (request) (kafka_network_request_p99_milliseconds) / 1000", legend: "{{request}}" },
          ],
        }),
        timeSeries({
          title: "Idle share of the request handlers",
          description:
            "Share of time in which the threads that do a broker's work wait for some. Below 0.3 a broker is at its limit.",
          unit: "percentunit",
          min: 0,
          max: 1,
          queries: [{ promql: "min by (pod) (kafka_server_request_handler_idle_ratio)", legend: "{{pod}}" }],
        }),
        timeSeries({
          title: "Leaders by broker",
          description:
            "Partitions led by each broker. Uneven for long after a restart: the preferred leaders were not elected again.",
          unit: "short",
          min: 0,
          queries: [{ promql: "sum by (pod) (kafka_server_replicamanager_leadercount)", legend: "{{pod}}" }],
        }),
        timeSeries({
          title: "Replicas leaving the in-sync set",
          description:
            "Shrinks of the in-sync set per second. Now and then at a restart; steadily: a disk or the network is too slow.",
          unit: "ops",
          min: 0,
          queries: [
            {
              promql: "sum by (pod) (rate(kafka_server_replicamanager_isrshrinks_total[$__rate_interval]))",
              legend: "{{pod}}",
            },
          ],
        }),
        timeSeries({
          title: "Size of the topics",
          description: "Bytes of all replicas together by topic. Events stay 7 days, dead letters 30.",
          unit: "bytes",
          min: 0,
          queries: [{ promql: 'sum by (topic) (kafka_log_size_bytes{topic=~"conveyor.*"})', legend: "{{topic}}" }],
        }),
        timeSeries({
          title: "Heap",
          description: "Heap used by each broker's JVM. A saw-tooth is normal; a floor that rises is not.",
          unit: "bytes",
          min: 0,
          queries: [{ promql: 'sum by (pod) (jvm_memory_used_bytes{job="kafka", area="heap"})', legend: "{{pod}}" }],
        }),
      ],
    },
  ],
};
