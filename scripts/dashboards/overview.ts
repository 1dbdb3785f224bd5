/** The first look: do events flow, how far behind is the processor, how fast are they stored, and is anything wrong? */
import { bigNumber, type DashboardSpec, timeSeries } from "./panels.ts";

export const overview: DashboardSpec = {
  uid: "pipeline-overview",
  title: "Pipeline overview",
  description: "Do events flow, how far does the processor lag, how fast does the database take writes?",
  rows: [
    {
      title: "The three questions",
      panels: [
        timeSeries({
          title: "Producer: events per second",
          description:
            "Events taken from the sources (emitted) and acknowledged by Kafka on all in-sync replicas. The two lines lie on " +
            "each other in a healthy pipeline; acknowledged below emitted means that the producer's buffer is filling.",
          unit: "eps",
          min: 0,
          queries: [
            { promql: "sum(rate(conveyor_producer_events_emitted_total[$__rate_interval]))", legend: "emitted" },
            {
              promql: "sum(rate(conveyor_producer_events_acknowledged_total[$__rate_interval]))",
              legend: "acknowledged",
            },
          ],
        }),
        timeSeries({
          title: "Kafka: consumer lag of the processor",
          description:
            "Events that Kafka has and the processor has not committed yet, per partition. Some hundreds at steady load are " +
            "the batches in flight; a line that rises for minutes means that the processor is too slow, stopped, or InfluxDB is away.",
          unit: "short",
          min: 0,
          stacked: true,
          queries: [
            {
              promql: 'sum by (partition) (kafka_consumergroup_lag{group="processor"})',
              legend: "partition {{partition}}",
            },
          ],
        }),
        timeSeries({
          title: "Database: inserts per second",
          description:
            "Points that InfluxDB has confirmed. It follows the acknowledged events within a second; above them while the " +
            "processor catches up; replays after a restart count again and are stored once.",
          unit: "wps",
          min: 0,
          queries: [
            { promql: "sum(rate(conveyor_processor_points_written_total[$__rate_interval]))", legend: "points" },
          ],
        }),
      ],
    },
    {
      title: "Now",
      panels: [
        bigNumber({
          title: "Acknowledged",
          description: "Events per second that Kafka has on all in-sync replicas. 0 means that nothing comes in.",
          unit: "eps",
          decimals: 0,
          queries: [
            { promql: "sum(rate(conveyor_producer_events_acknowledged_total[$__rate_interval]))", legend: "events" },
          ],
        }),
        bigNumber({
          title: "Lag",
          description: "Events of all partitions together that the processor has still to store.",
          unit: "short",
          decimals: 0,
          thresholds: [
            [5_000, "yellow"],
            [50_000, "red"],
          ],
          queries: [{ promql: 'sum(kafka_consumergroup_lag{group="processor"})', legend: "events" }],
        }),
        bigNumber({
          title: "Time to catch up",
          description:
            "Lag divided by the rate at which the processor stores: how old the oldest waiting event will be.",
          unit: "s",
          decimals: 1,
          thresholds: [
            [10, "yellow"],
            [60, "red"],
          ],
          queries: [
            {
              promql:
                'sum(kafka_consumergroup_lag{group="processor"}) / clamp_min(sum(rate(conveyor_processor_points_written_total[$__rate_interval])), 1)',
              legend: "seconds",
            },
          ],
        }),
        bigNumber({
          title: "Fresh within 5 s",
          description:
            "Share of the events of the last 5 minutes that were stored at most 5 seconds after their own timestamp: the freshness objective.",
          unit: "percentunit",
          decimals: 2,
          max: 1,
          queries: [
            {
              promql:
                'sum(rate(conveyor_e2e_latency_seconds_bucket{le=~"5|5[.]0"}[5m])) / sum(rate(conveyor_e2e_latency_seconds_count[5m]))',
              legend: "share",
            },
          ],
        }),
        bigNumber({
          title: "Dead letters, last hour",
          description:
            "Events refused at the source or by the processor, with the reason in their headers. See the errors below.",
          unit: "short",
          decimals: 0,
          thresholds: [[1, "yellow"]],
          queries: [
            {
              promql:
                "sum(increase(conveyor_producer_events_refused_total[1h]) or vector(0)) + sum(increase(conveyor_processor_dead_letters_total[1h]) or vector(0))",
              legend: "events",
            },
          ],
        }),
        bigNumber({
          title: "Alerts firing",
          description: "Alerts of Prometheus that fire now, the dead-man's switch left out. Each has a runbook.",
          unit: "short",
          decimals: 0,
          thresholds: [[1, "red"]],
          queries: [
            {
              promql: 'count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)',
              legend: "alerts",
            },
          ],
        }),
      ],
    },
    {
      title: "Freshness and latency",
      panels: [
        timeSeries({
          title: "Freshness: stored within 5 s",
          description:
            "Share of events that were stored at most 5 seconds after their own timestamp. The objective's error budget burns where it dips.",
          unit: "percentunit",
          min: 0,
          max: 1,
          queries: [
            {
              promql:
                'sum(rate(conveyor_e2e_latency_seconds_bucket{le=~"5|5[.]0"}[$__rate_interval])) / sum(rate(conveyor_e2e_latency_seconds_count[$__rate_interval]))',
              legend: "share within 5 s",
            },
          ],
        }),
        timeSeries({
          title: "End-to-end latency",
          description:
            "From an event's own timestamp to InfluxDB's confirmation. Milliseconds when all is well; it grows with the lag. " +
            "Files that are ingested carry old timestamps and show up here.",
          unit: "s",
          min: 0,
          queries: (["0.5", "0.95", "0.99"] as const).map((q) => ({
            promql: `histogram_quantile(${q}, sum by (le) (rate(conveyor_e2e_latency_seconds_bucket[$__rate_interval])))`,
            legend: `p${Number(q) * 100}`,
          })) as [{ promql: string; legend: string }],
        }),
        timeSeries({
          title: "Producer's buffer",
          description:
            "Filled share of each producer's buffer. At 1 the sources wait: Kafka is away or too slow. Nothing is dropped.",
          unit: "percentunit",
          min: 0,
          max: 1,
          thresholds: [[0.8, "red"]],
          queries: [{ promql: "max by (pod) (conveyor_producer_buffer_fill_ratio)", legend: "{{pod}}" }],
        }),
      ],
    },
    {
      title: "Errors",
      panels: [
        timeSeries({
          title: "Dead letters by reason",
          description:
            "Events per second that were refused, by reason. They stand in the topic conveyor.events.dlq with reason and origin in the headers.",
          unit: "eps",
          min: 0,
          queries: [
            {
              promql:
                'sum by (reason) (rate(conveyor_producer_events_refused_total[$__rate_interval])) or label_replace(vector(0), "reason", "none at the source", "", "")',
              legend: "source: {{reason}}",
            },
            {
              promql:
                'sum by (reason) (rate(conveyor_processor_dead_letters_total[$__rate_interval])) or label_replace(vector(0), "reason", "none at the processor", "", "")',
              legend: "processor: {{reason}}",
            },
          ],
        }),
        timeSeries({
          title: "Writes to InfluxDB by outcome",
          description:
            "Write requests per second by outcome. Anything but the successful one is tried again or dead-lettered, and explains a growing lag.",
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
          title: "Error lines in the logs",
          description:
            "Lines of level error per second by service, from Loki. Empty where the cluster has no Loki. The dashboard Logs shows the lines.",
          unit: "short",
          min: 0,
          queries: [
            {
              logql: 'sum by (service) (rate({namespace="conveyor", level="error"}[$__auto])) or vector(0)',
              legend: "{{service}}",
            },
          ],
        }),
      ],
    },
  ],
};
