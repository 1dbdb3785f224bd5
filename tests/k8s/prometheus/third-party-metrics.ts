/** Metrics of third-party programs that rules and dashboards use, with their source. Any other unknown name is a typing error. */
export const THIRD_PARTY_METRICS: Readonly<Record<string, string>> = {
  up: "Prometheus itself, for every target",
  ALERTS: "Prometheus, for every pending or firing alert",
  prometheus_rule_evaluation_failures_total: "Prometheus",
  prometheus_notifications_alertmanagers_discovered: "Prometheus",
  alertmanager_notifications_failed_total: "Alertmanager",

  kafka_controller_kafkacontroller_offlinepartitionscount:
    "Kafka's MBean, named by k8s/kafka/kafka-metrics-configmap.yaml",
  kafka_controller_kafkacontroller_activecontrollercount: "the same",
  kafka_server_replicamanager_underminisrpartitioncount: "the same",
  kafka_server_replicamanager_underreplicatedpartitions: "the same",
  kafka_log_logmanager_offlinelogdirectorycount: "the same",
  kafka_topic_messagesin_total: "the same",
  kafka_broker_bytesin_total: "the same",
  kafka_log_size_bytes: "the same",
  kafka_network_request_p99_milliseconds: "the same",

  storage_shard_series: "InfluxDB",

  kube_pod_container_status_waiting_reason: "kube-state-metrics",
  kube_pod_container_status_restarts_total: "kube-state-metrics",
  kube_pod_container_status_last_terminated_reason: "kube-state-metrics",
  kube_horizontalpodautoscaler_status_current_replicas: "kube-state-metrics",
  kube_horizontalpodautoscaler_spec_max_replicas: "kube-state-metrics",
  kube_horizontalpodautoscaler_spec_min_replicas: "kube-state-metrics",
  kube_horizontalpodautoscaler_spec_target_metric: "kube-state-metrics",
  kube_horizontalpodautoscaler_status_target_metric: "kube-state-metrics",
  kube_horizontalpodautoscaler_status_condition: "kube-state-metrics",

  container_oom_events_total: "cAdvisor in the kubelet",
  container_memory_working_set_bytes: "the same",
  kubelet_volume_stats_available_bytes: "kubelet",
  kubelet_volume_stats_capacity_bytes: "kubelet",

  promtail_sent_entries_total: "Promtail",
  promtail_dropped_entries_total: "Promtail",
  loki_discarded_samples_total: "Loki",
  vl_rows_ingested_total: "VictoriaLogs and vlagent",
  vl_rows_dropped_total: "VictoriaLogs and vlagent",
  vl_too_long_lines_skipped_total: "vlagent",
  vlagent_remotewrite_packets_dropped_total: "vlagent",
  vm_persistentqueue_blocks_dropped_total: "vlagent",
};
