/** Pods, their resources, and how many of them there are and why. */
import { bigNumber, type DashboardSpec, tableOf, timeSeries } from "./panels.ts";

const POD_CPU = 'container_cpu_usage_seconds_total{namespace="conveyor", container!="", container!="POD"}';
const POD_MEMORY = 'container_memory_working_set_bytes{namespace="conveyor", container!="", container!="POD"}';

export const kubernetes: DashboardSpec = {
  uid: "kubernetes",
  title: "Kubernetes & autoscaling",
  description: "Are the pods there, what do they use, and how many should there be?",
  rows: [
    {
      title: "Now",
      panels: [
        bigNumber({
          title: "Pods running",
          description: "Pods of the pipeline's namespace in phase Running.",
          unit: "short",
          decimals: 0,
          queries: [{ promql: 'sum(kube_pod_status_phase{namespace="conveyor", phase="Running"})', legend: "pods" }],
        }),
        bigNumber({
          title: "Pods not ready",
          description: "Running pods that take no traffic. More than 0 for minutes: kubectl -n conveyor describe pod.",
          unit: "short",
          decimals: 0,
          thresholds: [[1, "red"]],
          queries: [
            {
              promql:
                'count(kube_pod_status_ready{namespace="conveyor", condition="false"} == 1 and on (namespace, pod) kube_pod_status_phase{phase="Running"} == 1) or vector(0)',
              legend: "pods",
            },
          ],
        }),
        bigNumber({
          title: "Restarts, last hour",
          description: "Restarts of containers in the last hour. The runbook of PodCrashLooping says where to look.",
          unit: "short",
          decimals: 0,
          thresholds: [[1, "yellow"]],
          queries: [
            {
              promql: 'sum(increase(kube_pod_container_status_restarts_total{namespace="conveyor"}[1h]))',
              legend: "restarts",
            },
          ],
        }),
        bigNumber({
          title: "Targets up",
          description:
            "Share of the targets of Prometheus that answered the last scrape. Below 1 something is not watched.",
          unit: "percentunit",
          decimals: 1,
          max: 1,
          queries: [{ promql: "avg(up)", legend: "share" }],
        }),
        bigNumber({
          title: "Processor time",
          description: "Cores used by all pods of the namespace together.",
          unit: "cores",
          decimals: 2,
          queries: [{ promql: `sum(rate(${POD_CPU}[2m]))`, legend: "cores" }],
        }),
        bigNumber({
          title: "Memory",
          description: "Working set of all pods of the namespace together.",
          unit: "bytes",
          decimals: 1,
          queries: [{ promql: `sum(${POD_MEMORY})`, legend: "bytes" }],
        }),
      ],
    },
    {
      title: "Autoscaling",
      panels: [
        timeSeries({
          title: "Replicas",
          description:
            "Replicas that are there, by workload. The producer runs 1 to 5, the processor at most one per partition (6).",
          unit: "short",
          min: 0,
          queries: [
            {
              promql: 'sum by (statefulset) (kube_statefulset_status_replicas_ready{namespace="conveyor"})',
              legend: "{{statefulset}}",
            },
            {
              promql: 'sum by (deployment) (kube_deployment_status_replicas_ready{namespace="conveyor"})',
              legend: "{{deployment}}",
            },
          ],
        }),
        timeSeries({
          title: "Autoscalers: wanted and bounds",
          description:
            "Replicas that each HorizontalPodAutoscaler wants, with its least and most. At its most for long it cannot follow the load. One line at 0 where the cluster has no autoscaler.",
          unit: "short",
          min: 0,
          queries: [
            {
              promql:
                'sum by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_status_desired_replicas{namespace="conveyor"}) or label_replace(vector(0), "horizontalpodautoscaler", "none", "", "")',
              legend: "wanted: {{horizontalpodautoscaler}}",
            },
            {
              promql:
                'sum by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_spec_max_replicas{namespace="conveyor"}) or label_replace(vector(0), "horizontalpodautoscaler", "none", "", "")',
              legend: "most: {{horizontalpodautoscaler}}",
            },
          ],
        }),
        timeSeries({
          title: "What drives the scaling",
          description:
            "What each autoscaler was told, as a share of what it aims at: above 100 % it adds pods. Of the processor s0 is the lag and s1 the CPU. Empty where it was told nothing: then it holds.",
          unit: "percentunit",
          min: 0,
          queries: [
            {
              // With the kind of the value on both sides: of CPU there are a share and a number of cores.
              promql:
                'sum by (horizontalpodautoscaler, metric_name) (kube_horizontalpodautoscaler_status_target_metric{namespace="conveyor"} / on (horizontalpodautoscaler, metric_name, metric_target_type) kube_horizontalpodautoscaler_spec_target_metric{namespace="conveyor"}) or label_replace(label_replace(vector(0), "horizontalpodautoscaler", "none", "", ""), "metric_name", "none", "", "")',
              legend: "{{horizontalpodautoscaler}} {{metric_name}}",
            },
          ],
        }),
      ],
    },
    {
      title: "Resources",
      panels: [
        timeSeries({
          title: "Processor time by pod",
          description: "Cores used by each pod, all its containers together.",
          unit: "cores",
          min: 0,
          width: 12,
          queries: [{ promql: `sum by (pod) (rate(${POD_CPU}[$__rate_interval]))`, legend: "{{pod}}" }],
        }),
        timeSeries({
          title: "Memory by pod",
          description: "Working set of each pod: what counts against its limit.",
          unit: "bytes",
          min: 0,
          width: 12,
          queries: [{ promql: `sum by (pod) (${POD_MEMORY})`, legend: "{{pod}}" }],
        }),
        timeSeries({
          title: "Memory as a share of the limit",
          description: "At 1 the container is killed and starts again.",
          unit: "percentunit",
          min: 0,
          max: 1,
          thresholds: [[0.9, "red"]],
          width: 12,
          queries: [
            {
              promql: `sum by (pod, container) (${POD_MEMORY}) / sum by (pod, container) (kube_pod_container_resource_limits{namespace="conveyor", resource="memory"})`,
              legend: "{{pod}} {{container}}",
            },
          ],
        }),
        timeSeries({
          title: "Volumes: used share",
          description: "Filled share of each volume. Kafka and InfluxDB stop taking writes when theirs is full.",
          unit: "percentunit",
          min: 0,
          max: 1,
          thresholds: [[0.85, "red"]],
          width: 12,
          queries: [
            {
              promql:
                'max by (persistentvolumeclaim) (kubelet_volume_stats_used_bytes{namespace="conveyor"} / kubelet_volume_stats_capacity_bytes{namespace="conveyor"})',
              legend: "{{persistentvolumeclaim}}",
            },
          ],
        }),
      ],
    },
    {
      title: "Pods",
      panels: [
        timeSeries({
          title: "Restarts",
          description: "Restarts of each container in 15 minutes.",
          unit: "short",
          min: 0,
          width: 12,
          queries: [
            {
              promql:
                'sum by (pod, container) (increase(kube_pod_container_status_restarts_total{namespace="conveyor"}[15m]))',
              legend: "{{pod}} {{container}}",
            },
          ],
        }),
        tableOf({
          title: "Certificates: days left",
          description: "Days until each service's own certificate ends. Deploy renews those with less than 30 days.",
          unit: "d",
          decimals: 0,
          width: 12,
          queries: [
            {
              instant: "min by (job) ((conveyor_certificate_expiry_timestamp_seconds - time()) / 86400)",
              legend: "{{job}}",
            },
          ],
        }),
      ],
    },
  ],
};
