/** The writing half: batches, writes, their latency; and the database under them. */
import { type DashboardSpec, timeSeries } from "./panels.ts";

const quantiles = (metric: string, by = "") =>
  ["0.5", "0.95", "0.99"].map((q) => ({
    promql: `histogram_quantile(${q}, sum by (le${by}) (rate(${metric}_bucket[$__rate_interval])))`,
    legend: `p${Number(q) * 100}`,
  })) as [{ promql: string; legend: string }];

export const processorAndInfluxdb: DashboardSpec = {
  uid: "processor-influxdb",
  title: "Processor & InfluxDB",
  description: "Batches read and written, how long writes take, and how the database is doing.",
  rows: [
    {
      title: "Processor",
      panels: [
        timeSeries({
          title: "Events read and points written",
          description:
            "Events per second read from Kafka and points confirmed by InfluxDB. Read above written: events are being dead-lettered or wait for a write.",
          unit: "eps",
          min: 0,
          queries: [
            { promql: "sum(rate(conveyor_processor_events_consumed_total[$__rate_interval]))", legend: "read" },
            { promql: "sum(rate(conveyor_processor_points_written_total[$__rate_interval]))", legend: "written" },
          ],
        }),
        timeSeries({
          title: "Write requests by outcome",
          description:
            "Requests per second. More than one a second per partition means small batches; see the sizes beside it.",
          unit: "reqps",
          min: 0,
          queries: [
            {
              promql: "sum by (outcome) (rate(conveyor_processor_write_requests_total[$__rate_interval]))",
              legend: "{{outcome}}",
            },
          ],
        }),
        timeSeries({
          title: "Write latency",
          description:
            "Duration of one write request, whatever its outcome. Above a second InfluxDB is busy, short of memory or its disk is slow.",
          unit: "s",
          min: 0,
          queries: quantiles("conveyor_processor_write_latency_seconds"),
        }),
        timeSeries({
          title: "Points per write",
          description: "Average size of the confirmed writes, at most 5,000. Near 5,000 the processor is catching up.",
          unit: "short",
          min: 0,
          queries: [
            {
              promql:
                "sum(rate(conveyor_processor_write_batch_points_sum[$__rate_interval])) / sum(rate(conveyor_processor_write_batch_points_count[$__rate_interval]))",
              legend: "points",
            },
          ],
        }),
        timeSeries({
          title: "Events per batch from Kafka",
          description: "Average size of what one fetch brought from one partition.",
          unit: "short",
          min: 0,
          queries: [
            {
              promql:
                "sum(rate(conveyor_processor_fetch_batch_events_sum[$__rate_interval])) / sum(rate(conveyor_processor_fetch_batch_events_count[$__rate_interval]))",
              legend: "events",
            },
          ],
        }),
        timeSeries({
          title: "Rebalances, and blocked writes",
          description:
            "Times members had to join the group anew, in 5 minutes; and 1 where InfluxDB refuses every write for a reason that an operator must end (token, organization, bucket).",
          unit: "short",
          min: 0,
          queries: [
            {
              promql: "sum by (pod) (increase(conveyor_processor_rebalances_total[5m]))",
              legend: "rebalances {{pod}}",
            },
            { promql: "max by (pod) (conveyor_processor_write_blocked)", legend: "blocked {{pod}}" },
          ],
        }),
        timeSeries({
          title: "Partitions per processor",
          description: "Partitions assigned to each member; together 6. A member with 0 has nothing to do.",
          unit: "short",
          min: 0,
          stacked: true,
          queries: [{ promql: "sum by (pod) (conveyor_processor_assigned_partitions)", legend: "{{pod}}" }],
        }),
        timeSeries({
          title: "End-to-end latency by pod, p99",
          description:
            "From an event's timestamp to InfluxDB's confirmation, for each processor: one that stands out is slow itself.",
          unit: "s",
          min: 0,
          queries: [
            {
              promql:
                "histogram_quantile(0.99, sum by (le, pod) (rate(conveyor_e2e_latency_seconds_bucket[$__rate_interval])))",
              legend: "{{pod}}",
            },
          ],
        }),
        timeSeries({
          title: "Processor time of the services",
          description: "Cores used by each process of our own services.",
          unit: "cores",
          min: 0,
          queries: [
            {
              promql:
                'sum by (pod) (rate(process_cpu_seconds_total{job=~"producer|processor|lag-exporter"}[$__rate_interval]))',
              legend: "{{pod}}",
            },
          ],
        }),
      ],
    },
    {
      title: "InfluxDB",
      panels: [
        timeSeries({
          title: "Write requests by status",
          description: "Requests per second to /api/v2/write as InfluxDB counts them, by HTTP status.",
          unit: "reqps",
          min: 0,
          queries: [
            {
              promql:
                'sum by (response_code) (rate(http_api_requests_total{job="influxdb", path="/api/v2/write"}[$__rate_interval]))',
              legend: "{{response_code}}",
            },
          ],
        }),
        timeSeries({
          title: "Write duration in InfluxDB, p99",
          description:
            "The database's own view of a write. Lower than the processor's view by the way over the network and TLS.",
          unit: "s",
          min: 0,
          queries: [
            {
              promql:
                'histogram_quantile(0.99, sum by (le) (rate(http_api_request_duration_seconds_bucket{job="influxdb", path="/api/v2/write"}[$__rate_interval])))',
              legend: "p99",
            },
          ],
        }),
        timeSeries({
          title: "Series",
          description:
            "Series of the bucket. It is bounded by the number of conveyors: a steady climb means that something unbounded became a tag.",
          unit: "short",
          min: 0,
          queries: [{ promql: 'sum by (bucket) (storage_bucket_series_num{job="influxdb"})', legend: "{{bucket}}" }],
        }),
        timeSeries({
          title: "Size on disk",
          description: "Bytes in the shards' files. The volume holds 20 GiB; retention is 30 days.",
          unit: "bytes",
          min: 0,
          queries: [{ promql: 'sum(storage_shard_disk_size{job="influxdb"})', legend: "shards" }],
        }),
        timeSeries({
          title: "Write cache",
          description: "Points not yet in files. At 256 MiB writes are refused until it is smaller.",
          unit: "bytes",
          min: 0,
          queries: [{ promql: 'sum(storage_cache_inuse_bytes{job="influxdb"})', legend: "in use" }],
        }),
        timeSeries({
          title: "Memory",
          description: "Memory that the Go runtime of InfluxDB has from the system. The limit of its pod is 1.5 GiB.",
          unit: "bytes",
          min: 0,
          queries: [{ promql: 'sum(go_memstats_sys_bytes{job="influxdb"})', legend: "from the system" }],
        }),
      ],
    },
  ],
};
