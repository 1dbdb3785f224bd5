/**
 * Cases of each alert, on series with one sample a minute: when it must not fire yet, when it must fire with which
 * annotations, when it must clear; and a series just below its threshold, on which it never fires.
 */

/** Series by name and labels; a value per minute, undefined where there is no sample. */
export type Series = Readonly<Record<string, readonly (number | undefined)[]>>;

export interface Firing {
  labels: Readonly<Record<string, string>>;
  description: string;
}

export interface AlertCase {
  alert: string;
  /** Distinguishes cases of one alert. */
  name?: string;
  severity: string;
  summary: string;
  input: Series;
  /** Minutes within the alert's delay, at which it must not fire yet. */
  waits: readonly number[];
  /** Minute at which exactly these fire. */
  fires: readonly [minute: number, firing: readonly Firing[]];
  /** Minute at which it has cleared; `still`: what a slower window still fires then. */
  clears?: readonly [minute: number, still?: readonly Firing[]];
  /** Just below the threshold: never fires. */
  below?: Series;
}

/** A gauge: values held for some minutes each. */
const hold = (...parts: readonly (readonly [minutes: number, value: number | undefined])[]) =>
  parts.flatMap(([minutes, value]) => Array.from({ length: minutes }, () => value));

/** A counter or a rising gauge: stretches of minutes with an increase per minute. */
function ramp(...parts: readonly (readonly [minutes: number, perMinute: number])[]): number[] {
  const values: number[] = [];
  let value = 0;
  for (const [minutes, perMinute] of parts) {
    for (let minute = 0; minute < minutes; minute++) {
      values.push(value);
      value += perMinute;
    }
  }
  return values;
}

/** Rises by a step at each minute from a start value. */
const rising = (minutes: number, start: number, perMinute: number) =>
  Array.from({ length: minutes }, (_, minute) => start + minute * perMinute);

const DAY = 86_400;

/** A broken gauge for ten minutes, from minute 10 on. */
const brief = (broken: number, healthy = 0) => hold([10, healthy], [10, broken], [20, healthy]);

const ACKNOWLEDGED = 'conveyor_producer_events_acknowledged_total{pod="producer-0", source="simulated"}';
const STORED_IN_TIME = 'conveyor_e2e_latency_seconds_bucket{pod="processor-a", le="5.0"}';
const LAG_SUM = 'kafka_consumergroup_lag_sum{group="processor", topic="conveyor.events"}';
const STORED = 'conveyor_e2e_latency_seconds_count{pod="processor-a"}';
const AHEAD = 'conveyor_processor_events_ahead_total{pod="processor-a"}';
const WRITTEN = 'conveyor_processor_points_written_total{pod="processor-a"}';
const DEAD_LETTERS = 'conveyor_processor_dead_letters_total{pod="processor-a", reason="refused_by_database"}';
const REFUSED = 'conveyor_producer_events_refused_total{pod="producer-0", source="http", reason="wrong_type"}';

/** 1000 events a minute; `failing` of them are not stored in each stretch of minutes. */
const freshness = (...parts: readonly (readonly [minutes: number, failing: number])[]): Series => {
  const stored = ramp(...parts.map(([minutes, failing]) => [minutes, 1000 - failing] as const));
  return {
    [ACKNOWLEDGED]: ramp(...parts.map(([minutes]) => [minutes, 1000] as const)),
    [STORED_IN_TIME]: stored,
    [STORED]: stored,
  };
};
/** 1000 events a minute of the fleet, and 9000 fresh ones of an ingest pod, which is not scraped. */
const withIngest = (minutes: number, perMinute: Record<string, number>): Series =>
  Object.fromEntries(
    Object.entries({ [ACKNOWLEDGED]: 1000, ...perMinute }).map(([series, step]) => [
      series,
      ramp([minutes, step], [120, 0]),
    ]),
  );
/** 10,000 events a minute; half of the failing ones are refused by the database, half at the source. */
const completeness = (...parts: readonly (readonly [minutes: number, failing: number])[]): Series => ({
  [WRITTEN]: ramp(...parts.map(([minutes, failing]) => [minutes, 10_000 - failing] as const)),
  [DEAD_LETTERS]: ramp(...parts.map(([minutes, failing]) => [minutes, failing / 2] as const)),
  [REFUSED]: ramp(...parts.map(([minutes, failing]) => [minutes, failing / 2] as const)),
});
const burn = (window: string, severity: string, share: string, what: string, factor: string): Firing => ({
  labels: { window, severity },
  description: `${share} of the events of the last ${window} ${what}: ${factor} times what the objective allows.`,
});
const late = (window: string, severity: string, share: string, factor: string) =>
  burn(window, severity, share, "were not stored within 5 s", factor);
const dead = (window: string, severity: string, share: string, factor: string) =>
  burn(window, severity, share, "went to the dead-letter topic", factor);

/** What fires after an hour with 10 % errors. */
const LATER = [late("1d", "warning", "10%", "3"), late("3d", "warning", "10%", "1")];

const TOO_LATE = { alert: "FreshnessBudgetBurn", summary: "Events reach the database too late." } as const;
const TOO_MANY_DEAD = {
  alert: "CompletenessBudgetBurn",
  summary: "Too many events are dead-lettered instead of stored.",
} as const;

const AVAILABLE = 'kubelet_volume_stats_available_bytes{namespace="conveyor", persistentvolumeclaim="data-kafka-0"}';
const CAPACITY = 'kubelet_volume_stats_capacity_bytes{namespace="conveyor", persistentvolumeclaim="data-kafka-0"}';
const VOLUME = { namespace: "conveyor", persistentvolumeclaim: "data-kafka-0" };
const IN_USE = (pod: string, kind: string) =>
  `conveyor_intake_sender_in_use{pod="${pod}", sender="plant-a", kind="${kind}"}`;
const IN_USE_LIMIT = (pod: string, kind: string) =>
  `conveyor_intake_sender_in_use_limit{pod="${pod}", sender="plant-a", kind="${kind}"}`;
const HPA = { namespace: "conveyor", horizontalpodautoscaler: "producer" };
const hpa = (current: readonly (number | undefined)[]): Series => ({
  'kube_horizontalpodautoscaler_status_current_replicas{namespace="conveyor", horizontalpodautoscaler="producer"}':
    current,
  'kube_horizontalpodautoscaler_spec_max_replicas{namespace="conveyor", horizontalpodautoscaler="producer"}': hold([
    60, 5,
  ]),
  'kube_horizontalpodautoscaler_spec_min_replicas{namespace="conveyor", horizontalpodautoscaler="producer"}': hold([
    60, 1,
  ]),
});
const METRICS_HPA = "keda-hpa-processor";
/** An autoscaler with two metrics: its ScalingActive condition, and the current value of the second metric. */
const blind = (
  active: readonly (number | undefined)[],
  second: readonly (number | undefined)[] = active.map(() => 20),
): Series => {
  const labels = `namespace="conveyor", horizontalpodautoscaler="${METRICS_HPA}"`;
  const metric = (name: string) => `${labels}, metric_name="${name}", metric_target_type="average"`;
  return {
    [`kube_horizontalpodautoscaler_status_condition{${labels}, condition="ScalingActive", status="true"}`]: active,
    [`kube_horizontalpodautoscaler_status_condition{${labels}, condition="ScalingActive", status="false"}`]: active.map(
      (value) => (value === undefined ? undefined : 1 - value),
    ),
    [`kube_horizontalpodautoscaler_spec_target_metric{${metric("s0-prometheus")}}`]: active.map(() => 1000),
    [`kube_horizontalpodautoscaler_spec_target_metric{${metric("s1-prometheus")}}`]: active.map(() => 80),
    [`kube_horizontalpodautoscaler_status_target_metric{${metric("s0-prometheus")}}`]: active.map(() => 40),
    [`kube_horizontalpodautoscaler_status_target_metric{${metric("s1-prometheus")}}`]: second,
  };
};
const BLIND: readonly Firing[] = [
  {
    labels: { namespace: "conveyor", horizontalpodautoscaler: METRICS_HPA },
    description:
      "keda-hpa-processor has lacked a metric for five minutes: it removes no pod and may add none, whatever the load.",
  },
];
const retentionOf = (topic: string): Series => ({
  [`kafka_topic_retention_bytes{topic="${topic}"}`]: hold([80, 1000]),
});
/** A partition of 1,000 events and 1,000 bytes at minute 0; the group's position is constant from minute `stopped` to `resumed`. */
const backlog = (perMinute: number, stopped: number, resumed: number): Series => {
  const partition = 'topic="conveyor.events", partition="2"';
  const end = rising(80, 1000, perMinute);
  const lag = end.map((_, minute) => (minute < stopped || minute >= resumed ? 0 : (minute - stopped) * perMinute));
  return {
    ...retentionOf("conveyor.events"),
    [`kafka_consumergroup_lag{group="processor", ${partition}}`]: lag,
    [`kafka_consumergroup_expiring_unread{group="processor", ${partition}}`]: hold([80, 0]),
    [`kafka_topic_partition_end_offset{${partition}}`]: end,
    [`kafka_topic_partition_start_offset{${partition}}`]: hold([80, 0]),
    [`kafka_log_size_bytes{pod="kafka-0", ${partition}}`]: end,
    [`kafka_log_size_bytes{pod="kafka-1", ${partition}}`]: end,
  };
};
const UNREAD_EXPIRING = {
  alert: "UnreadEventsExpiring",
  severity: "warning",
  summary: "Unread events will be deleted soon.",
} as const;
const expiring = (time: string): readonly Firing[] => [
  {
    labels: { topic: "conveyor.events" },
    description: `Kafka deletes events of conveyor.events that the processor has not read in ${time} or less: its retention is nearly reached.`,
  },
];
const DELETED_UNREAD = (pod: string) =>
  `kafka_consumergroup_deleted_unread{group="processor", topic="conveyor.events", partition="2", pod="${pod}"}`;
const TRUNCATIONS = (partition: number, pod: string) =>
  `kafka_consumergroup_log_truncations{group="processor", topic="conveyor.events", partition="${partition}", pod="${pod}"}`;
const EXPIRING_UNREAD =
  'kafka_consumergroup_expiring_unread{group="processor", topic="conveyor.events", partition="2"}';
const REQUESTS = 'conveyor_processor_write_requests_total{pod="processor-a", outcome="written"}';
const FAILED_REQUESTS = 'conveyor_processor_write_requests_total{pod="processor-a", outcome="unreachable"}';
const writeLatency = (slow: (minutes: number) => number): Series => {
  const minutes = 60;
  const perMinute = 100;
  return {
    'conveyor_processor_write_latency_seconds_bucket{pod="processor-a", le="1.0"}': ramp(
      ...Array.from({ length: minutes }, (_, minute) => [1, perMinute - slow(minute)] as const),
    ),
    'conveyor_processor_write_latency_seconds_bucket{pod="processor-a", le="2.5"}': ramp([minutes, perMinute]),
    'conveyor_processor_write_latency_seconds_bucket{pod="processor-a", le="+Inf"}': ramp([minutes, perMinute]),
  };
};
const END_OFFSET = 'kafka_topic_partition_end_offset{topic="conveyor.events", partition="0"}';
const MEMBERS = 'kafka_consumergroup_members{group="processor"}';
/** All required jobs, up. */
const JOBS = [
  ...["producer", "processor", "lag-exporter", "kafka", "influxdb", "kube-state-metrics", "alertmanager"],
  ...["prometheus", "kubelet"],
];
const targets = (different: Series = {}): Series => ({
  ...Object.fromEntries(JOBS.map((job) => [`up{job="${job}", instance="10.0.0.1:9464"}`, hold([40, 1])])),
  ...different,
});
const IN_BROKER = 'namespace="conveyor", pod="kafka-0", container="kafka"';
const RESTARTS = `kube_pod_container_status_restarts_total{${IN_BROKER}, uid="1"}`;
const OOM_KILLED = `kube_pod_container_status_last_terminated_reason{${IN_BROKER}, reason="OOMKilled"}`;
const OOM_EVENTS = `container_oom_events_total{${IN_BROKER}, id="/kubepods/1"}`;
const OUT_OF_MEMORY: readonly Firing[] = [
  {
    labels: { namespace: "conveyor", pod: "kafka-0", container: "kafka" },
    description:
      "The kernel killed a process of kafka in kafka-0 within the last 15 minutes, because it exceeded its memory limit.",
  },
];
const SERIES = 'storage_shard_series{bucket="0a", engine="tsm1", id="7"}';
const CRASHING =
  'kube_pod_container_status_waiting_reason{namespace="conveyor", pod="processor-a", container="processor", reason="CrashLoopBackOff"}';

export const ALERT_CASES: readonly AlertCase[] = [
  {
    ...TOO_LATE,
    name: "nothing is stored any more",
    severity: "critical",
    input: freshness([120, 0], [30, 1000], [60, 0]),
    waits: [124, 128],
    fires: [135, [late("1h", "critical", "25.42%", "14.4"), late("6h", "critical", "11.11%", "6")]],
    clears: [182, [late("1d", "warning", "16.48%", "3"), late("3d", "warning", "16.48%", "1")]],
    below: freshness([60, 9]),
  },
  {
    ...TOO_LATE,
    name: "8 % late",
    severity: "critical",
    input: freshness([60, 80], [120, 0]),
    waits: [4],
    fires: [9, [late("6h", "critical", "8%", "6")]],
    clears: [80, [late("1d", "warning", "6%", "3"), late("3d", "warning", "6%", "1")]],
    below: freshness([60, 9]),
  },
  {
    ...TOO_LATE,
    name: "5 % late",
    severity: "warning",
    input: freshness([60, 50], [120, 0]),
    waits: [10, 14],
    fires: [18, [late("1d", "warning", "5%", "3")]],
    clears: [110, [late("3d", "warning", "2.727%", "1")]],
    below: freshness([60, 9]),
  },
  {
    ...TOO_LATE,
    name: "2 % late",
    severity: "warning",
    input: freshness([60, 20], [120, 0]),
    waits: [20, 29],
    fires: [34, [late("3d", "warning", "2%", "1")]],
    clears: [130],
    below: freshness([60, 9]),
  },
  {
    ...TOO_LATE,
    name: "all of the fleet are late, beside fresh events of an ingest pod",
    severity: "critical",
    input: withIngest(60, { [STORED]: 10_000, [STORED_IN_TIME]: 9000 }),
    waits: [4],
    fires: [9, [late("6h", "critical", "10%", "6")]],
    clears: [100, LATER],
    below: withIngest(60, { [STORED]: 10_000, [STORED_IN_TIME]: 9910 }),
  },
  {
    ...TOO_LATE,
    name: "none of the fleet is stored, beside fresh events of an ingest pod",
    severity: "critical",
    input: withIngest(60, { [STORED]: 9000, [STORED_IN_TIME]: 9000, [LAG_SUM]: 1000 }),
    // The rate of a gauge is extrapolated to the complete window.
    waits: [4],
    fires: [9, [late("6h", "critical", "10.5%", "6")]],
    clears: [100, [late("1d", "warning", "10.04%", "3"), late("3d", "warning", "10.04%", "1")]],
    below: withIngest(60, { [STORED]: 10_000, [STORED_IN_TIME]: 10_000, [LAG_SUM]: 0 }),
  },
  {
    ...TOO_LATE,
    name: "the time of 10 % is ahead",
    severity: "critical",
    input: withIngest(60, { [STORED]: 1000, [STORED_IN_TIME]: 1000, [AHEAD]: 100 }),
    waits: [4],
    fires: [9, [late("6h", "critical", "10%", "6")]],
    clears: [100, LATER],
    below: withIngest(60, { [STORED]: 1000, [STORED_IN_TIME]: 1000, [AHEAD]: 9 }),
  },
  {
    ...TOO_MANY_DEAD,
    name: "all are refused",
    severity: "critical",
    input: completeness([120, 0], [30, 10_000], [60, 0]),
    waits: [121],
    fires: [135, [dead("1h", "critical", "25.11%", "14.4"), dead("6h", "critical", "11.11%", "6")]],
    clears: [186, [dead("1d", "warning", "16.13%", "3"), dead("3d", "warning", "16.13%", "1")]],
    below: completeness([60, 9]),
  },
  {
    ...TOO_MANY_DEAD,
    name: "0.8 % are refused",
    severity: "critical",
    input: completeness([60, 80], [120, 0]),
    waits: [4],
    fires: [9, [dead("6h", "critical", "0.8%", "6")]],
    clears: [95, [dead("1d", "warning", "0.5053%", "3"), dead("3d", "warning", "0.5053%", "1")]],
    below: completeness([60, 9]),
  },
  {
    ...TOO_MANY_DEAD,
    name: "0.5 % are refused",
    severity: "warning",
    input: completeness([60, 50], [180, 0]),
    waits: [10, 14],
    fires: [18, [dead("1d", "warning", "0.5%", "3")]],
    clears: [110, [dead("3d", "warning", "0.2727%", "1")]],
    below: completeness([60, 9]),
  },
  {
    ...TOO_MANY_DEAD,
    name: "0.2 % are refused",
    severity: "warning",
    input: completeness([60, 20], [120, 0]),
    waits: [20, 29],
    fires: [34, [dead("3d", "warning", "0.2%", "1")]],
    clears: [130],
    below: completeness([60, 9]),
  },

  {
    alert: "KafkaOfflinePartitions",
    severity: "critical",
    summary: "Partitions of Kafka have no leader.",
    input: { 'kafka_controller_kafkacontroller_offlinepartitionscount{pod="kafka-0"}': brief(3) },
    waits: [10],
    fires: [
      12,
      [
        {
          labels: {},
          description: "3 partitions have no leader: their events can neither be written nor read.",
        },
      ],
    ],
    clears: [21],
    below: { 'kafka_controller_kafkacontroller_offlinepartitionscount{pod="kafka-0"}': hold([40, 0]) },
  },
  {
    alert: "KafkaUnderMinIsrPartitions",
    severity: "critical",
    summary: "Kafka refuses writes to some partitions.",
    input: {
      'kafka_server_replicamanager_underminisrpartitioncount{pod="kafka-0"}': brief(2),
      'kafka_server_replicamanager_underminisrpartitioncount{pod="kafka-1"}': brief(1),
    },
    waits: [10],
    fires: [
      12,
      [
        {
          labels: {},
          description:
            "3 partitions have fewer than two in-sync replicas: writes to them are refused until a broker is back.",
        },
      ],
    ],
    clears: [21],
    below: { 'kafka_server_replicamanager_underminisrpartitioncount{pod="kafka-0"}': hold([40, 0]) },
  },
  {
    alert: "KafkaUnderReplicatedPartitions",
    severity: "warning",
    summary: "Partitions of Kafka lack a replica.",
    input: {
      'kafka_server_replicamanager_underreplicatedpartitions{pod="kafka-0"}': brief(4),
      'kafka_server_replicamanager_underreplicatedpartitions{pod="kafka-1"}': hold([40, 0]),
    },
    waits: [11, 14],
    fires: [
      17,
      [
        {
          labels: { pod: "kafka-0" },
          description:
            "4 partitions led by kafka-0 have lacked a replica for five minutes: losing one more broker stops writes.",
        },
      ],
    ],
    clears: [21],
    // A rolling restart: over before the delay ends.
    below: { 'kafka_server_replicamanager_underreplicatedpartitions{pod="kafka-0"}': hold([10, 0], [4, 4], [26, 0]) },
  },
  {
    alert: "KafkaNoActiveController",
    severity: "critical",
    summary: "Kafka does not have exactly one active controller.",
    input: {
      'kafka_controller_kafkacontroller_activecontrollercount{pod="kafka-0"}': brief(0, 1),
      'kafka_controller_kafkacontroller_activecontrollercount{pod="kafka-1"}': hold([40, 0]),
    },
    waits: [11],
    fires: [
      13,
      [
        {
          labels: {},
          description: "0 active controllers instead of 1: no leader can be elected, no topic changed.",
        },
      ],
    ],
    clears: [21],
    below: {
      'kafka_controller_kafkacontroller_activecontrollercount{pod="kafka-0"}': hold([10, 1], [1, 0], [29, 1]),
    },
  },
  {
    alert: "KafkaLogDirectoryOffline",
    severity: "critical",
    summary: "A broker cannot use its volume.",
    input: { 'kafka_log_logmanager_offlinelogdirectorycount{pod="kafka-2"}': brief(1) },
    waits: [10],
    fires: [
      12,
      [
        {
          labels: { pod: "kafka-2" },
          description: "kafka-2 has 1 log directories offline: the volume failed or is full.",
        },
      ],
    ],
    clears: [21],
    below: { 'kafka_log_logmanager_offlinelogdirectorycount{pod="kafka-2"}': hold([40, 0]) },
  },

  {
    alert: "ConsumerGroupDead",
    name: "no member",
    severity: "critical",
    summary: "Nothing consumes the events.",
    input: { [MEMBERS]: brief(0, 2) },
    waits: [10, 11],
    fires: [
      13,
      [
        {
          labels: { group: "processor" },
          description:
            "The consumer group processor has no member, or its state is unknown (the lag exporter exports no data): events accumulate in Kafka.",
        },
      ],
    ],
    clears: [21],
    // A restart of the only member.
    below: { [MEMBERS]: hold([10, 1], [1, 0], [29, 1]) },
  },
  {
    alert: "ConsumerGroupDead",
    name: "the series vanishes",
    severity: "critical",
    summary: "Nothing consumes the events.",
    input: { [MEMBERS]: hold([10, 1], [20, undefined], [20, 1]) },
    // A sample counts for five minutes unless its series is marked as ended.
    waits: [11, 15],
    fires: [
      18,
      [
        {
          labels: { group: "processor" },
          description:
            "The consumer group processor has no member, or its state is unknown (the lag exporter exports no data): events accumulate in Kafka.",
        },
      ],
    ],
    clears: [31],
    below: { [MEMBERS]: hold([40, 1]) },
  },
  {
    alert: "PartitionStopped",
    severity: "critical",
    summary: "A partition is stopped by records that cannot be read.",
    input: {
      'conveyor_processor_stopped_at_offset{pod="processor-a", topic="conveyor.events", partition="3"}': hold(
        [10, undefined],
        [10, 1_234_567_890],
        // A rebalance: the new owner counts it.
        [10, undefined],
      ),
      'conveyor_processor_stopped_at_offset{pod="processor-b", topic="conveyor.events", partition="3"}': hold(
        [21, undefined],
        [9, 1_234_567_890],
        [20, undefined],
      ),
      'conveyor_processor_stopped_at_offset{pod="processor-b", topic="conveyor.events", partition="0"}': hold(
        [15, undefined],
        [15, 0],
        [20, undefined],
      ),
    },
    waits: [9, 10],
    fires: [
      20,
      [
        {
          labels: { topic: "conveyor.events", partition: "3" },
          description:
            "Partition 3 of conveyor.events is stopped at offset 1234567890: its records cannot be decoded. The other partitions go on.",
        },
        {
          labels: { topic: "conveyor.events", partition: "0" },
          description:
            "Partition 0 of conveyor.events is stopped at offset 0: its records cannot be decoded. The other partitions go on.",
        },
      ],
    ],
    clears: [33],
    // Offsets begin with 0; a partition that is read has no series.
    below: {
      'conveyor_processor_stopped_at_offset{pod="processor-a", topic="conveyor.events", partition="3"}': hold([40, -1]),
    },
  },
  {
    alert: "ConsumerLagHigh",
    severity: "warning",
    summary: "The processor is more than a minute behind.",
    // 100 events a second arrive; 12,000 are two minutes of them.
    input: { [LAG_SUM]: hold([15, 10], [15, 12_000], [20, 10]), [END_OFFSET]: ramp([50, 6000]) },
    waits: [15, 16],
    fires: [
      18,
      [
        {
          labels: {},
          description: "The processor is 2m 0s of traffic behind what Kafka has.",
        },
      ],
    ],
    clears: [31],
    below: { [LAG_SUM]: hold([50, 5900]), [END_OFFSET]: ramp([50, 6000]) },
  },
  {
    alert: "ConsumerLagGrowing",
    severity: "warning",
    summary: "The processor does not keep up.",
    input: { [LAG_SUM]: [...hold([20, 0]), ...rising(30, 0, 600), ...hold([30, 0])] },
    waits: [25, 30],
    fires: [
      40,
      [
        {
          labels: {},
          description: "The lag has grown for ten minutes, by 10 events a second: more events arrive than are stored.",
        },
      ],
    ],
    clears: [65],
    // It grows, but slower than one event a second.
    below: { [LAG_SUM]: rising(80, 2000, 50) },
  },
  {
    ...UNREAD_EXPIRING,
    name: "by size",
    input: backlog(60, 10, 40),
    waits: [9, 11],
    // 1000 bytes of retention, 600 unread, 60 more a minute.
    fires: [20, expiring("6m 40s")],
    clears: [50],
    // 1000 bytes at 8 a minute: more than two hours.
    below: backlog(8, 10, 12),
  },
  {
    ...UNREAD_EXPIRING,
    name: "by age",
    input: { [EXPIRING_UNREAD]: hold([10, 0], [20, 500], [20, 0]) },
    waits: [9, 10],
    fires: [15, expiring("2h 0m 0s")],
    clears: [35],
    below: { [EXPIRING_UNREAD]: hold([60, 0]) },
  },
  {
    alert: "UnreadEventsDeleted",
    severity: "critical",
    summary: "Acknowledged events were deleted unread.",
    // It had lost events before; another pod of the exporter finds the last ones.
    input: {
      [DELETED_UNREAD("a")]: hold([10, 70], [5, 500]),
      [DELETED_UNREAD("b")]: hold([18, undefined], [412, 1070]),
    },
    waits: [9],
    fires: [
      20,
      [
        {
          labels: { topic: "conveyor.events" },
          description:
            "1000 events of conveyor.events were deleted within six hours before the processor read them: they are lost unless their senders still have them.",
        },
      ],
    ],
    clears: [400],
    // Events deleted long ago; then the offsets are reset, and with them the count.
    below: { [DELETED_UNREAD("a")]: hold([40, 70], [40, 0]) },
  },
  {
    alert: "EventTimeAhead",
    severity: "warning",
    summary: "Events carry times of the future.",
    input: { [AHEAD]: ramp([10, 0], [20, 30], [30, 0]) },
    waits: [12, 14],
    fires: [
      25,
      [
        {
          labels: {},
          description:
            "300 events of the last ten minutes were more than 5 s ahead of the processor's clock: their age is not known.",
        },
      ],
    ],
    clears: [45],
    below: { [AHEAD]: hold([60, 7]) },
  },
  {
    alert: "KafkaLogTruncated",
    severity: "critical",
    summary: "Kafka lost acknowledged events.",
    // The exporter fails too, and its next pod starts after a member has found the truncation.
    input: {
      [TRUNCATIONS(1, "a")]: hold([10, 1]),
      [TRUNCATIONS(2, "a")]: hold([10, 0]),
      [TRUNCATIONS(1, "b")]: hold([15, undefined], [400, 2]),
      [TRUNCATIONS(2, "b")]: hold([15, undefined], [400, 1]),
    },
    waits: [9],
    fires: [
      20,
      [
        {
          labels: { topic: "conveyor.events" },
          description:
            "The log of 2 partitions of conveyor.events ended before events that the processor had read: all copies lost their last records, as in a power failure. Events that were not read yet may be lost.",
        },
      ],
    ],
    clears: [400],
    below: { [TRUNCATIONS(1, "a")]: hold([40, 1], [40, 0]) },
  },
  {
    alert: "ProcessorRebalancing",
    severity: "warning",
    summary: "The consumer group rebalances repeatedly.",
    input: { 'conveyor_processor_rebalances_total{pod="processor-a"}': ramp([20, 0], [20, 1], [40, 0]) },
    waits: [25, 33],
    fires: [
      40,
      [{ labels: {}, description: "15 rebalances in 15 minutes: each pauses the complete group for a moment." }],
    ],
    clears: [60],
    below: { 'conveyor_processor_rebalances_total{pod="processor-a"}': ramp([80, 0.6]) },
  },

  {
    alert: "ProducerBlocked",
    severity: "critical",
    summary: "A producer's buffer is nearly full.",
    input: { 'conveyor_producer_buffer_fill_ratio{pod="producer-0"}': brief(0.9) },
    waits: [10],
    fires: [
      12,
      [
        {
          labels: { pod: "producer-0" },
          description:
            "The buffer of producer-0 is 90% full: events arrive faster than Kafka acknowledges them; the sources will be paused.",
        },
      ],
    ],
    clears: [21],
    below: { 'conveyor_producer_buffer_fill_ratio{pod="producer-0"}': hold([40, 0.79]) },
  },
  {
    alert: "ProducerDisconnected",
    severity: "critical",
    summary: "A producer is not connected to Kafka.",
    input: { 'conveyor_producer_kafka_connected{pod="producer-0"}': brief(0, 1) },
    waits: [10, 11],
    fires: [
      13,
      [
        {
          labels: { pod: "producer-0" },
          description: "producer-0 has no connection to Kafka, or Kafka refuses it.",
        },
      ],
    ],
    clears: [21],
    below: { 'conveyor_producer_kafka_connected{pod="producer-0"}': hold([10, 1], [1, 0], [29, 1]) },
  },
  {
    alert: "ProducerSilent",
    severity: "warning",
    summary: "No events arrive.",
    input: {
      'conveyor_producer_events_emitted_total{pod="producer-0", source="simulated"}': ramp(
        [10, 100],
        [20, 0],
        [20, 100],
      ),
    },
    waits: [12, 18],
    fires: [22, [{ labels: {}, description: "The producers have taken no event from any source for five minutes." }]],
    clears: [32],
    below: { 'conveyor_producer_events_emitted_total{pod="producer-0", source="simulated"}': ramp([50, 1]) },
  },
  {
    alert: "SenderNearItsLimit",
    severity: "warning",
    summary: "A sender has nearly as many sources or series as it may.",
    // Of two producers, one has more of the sender; the sources have room.
    input: {
      [IN_USE("producer-0", "series")]: brief(100),
      [IN_USE("producer-1", "series")]: brief(900),
      [IN_USE("producer-1", "sources")]: brief(100),
      [IN_USE_LIMIT("producer-0", "series")]: hold([40, 1000]),
      [IN_USE_LIMIT("producer-1", "series")]: hold([40, 1000]),
      [IN_USE_LIMIT("producer-1", "sources")]: hold([40, 1000]),
    },
    waits: [12, 14],
    fires: [
      16,
      [
        {
          labels: { sender: "plant-a", kind: "series" },
          description: "Sender plant-a uses 90% of its series: beyond the limit, events of new ones are refused.",
        },
      ],
    ],
    clears: [22],
    below: {
      [IN_USE("producer-0", "series")]: hold([40, 800]),
      [IN_USE_LIMIT("producer-0", "series")]: hold([40, 1000]),
    },
  },
  {
    alert: "DeadLettersFilling",
    severity: "warning",
    summary: "Events are being dead-lettered.",
    input: {
      'kafka_topic_messagesin_total{pod="kafka-1", topic="conveyor.events.dlq"}': ramp([20, 0], [20, 20], [40, 0]),
    },
    waits: [24, 28],
    fires: [40, [{ labels: {}, description: "300 events went to the dead-letter topic within 15 minutes." }]],
    clears: [60],
    below: { 'kafka_topic_messagesin_total{pod="kafka-1", topic="conveyor.events.dlq"}': ramp([80, 6]) },
  },

  {
    alert: "DeadLettersExpiring",
    name: "a partition is nearly full",
    severity: "warning",
    summary: "The oldest dead letters will be deleted soon.",
    input: {
      ...retentionOf("conveyor.events.dlq"),
      'kafka_log_size_bytes{pod="kafka-0", topic="conveyor.events.dlq", partition="1"}': hold(
        [10, 100],
        [20, 900],
        [60, 10],
      ),
      'kafka_log_size_bytes{pod="kafka-1", topic="conveyor.events.dlq", partition="1"}': hold(
        [10, 100],
        [20, 850],
        [60, 10],
      ),
    },
    waits: [9],
    fires: [
      28,
      [
        {
          labels: { topic: "conveyor.events.dlq" },
          description:
            "A partition of conveyor.events.dlq is 90% full, or will be within an hour: its oldest dead letters are then deleted before their 30 days.",
        },
      ],
    ],
    clears: [60],
    below: {
      ...retentionOf("conveyor.events.dlq"),
      'kafka_log_size_bytes{pod="kafka-0", topic="conveyor.events.dlq", partition="1"}': hold([60, 790]),
      // Another topic's size is not compared.
      'kafka_log_size_bytes{pod="kafka-0", topic="conveyor.events", partition="1"}': hold([60, 990]),
    },
  },
  {
    alert: "DeadLettersExpiring",
    name: "a flood fills it within an hour",
    severity: "warning",
    summary: "The oldest dead letters will be deleted soon.",
    input: {
      ...retentionOf("conveyor.events.dlq"),
      'kafka_log_size_bytes{pod="kafka-0", topic="conveyor.events.dlq", partition="1"}': [
        ...hold([20, 0]),
        ...rising(20, 0, 20),
        ...hold([40, 400]),
      ],
    },
    waits: [20],
    fires: [
      38,
      [
        {
          labels: { topic: "conveyor.events.dlq" },
          description:
            "A partition of conveyor.events.dlq is 156% full, or will be within an hour: its oldest dead letters are then deleted before their 30 days.",
        },
      ],
    ],
    clears: [60],
    below: {
      ...retentionOf("conveyor.events.dlq"),
      'kafka_log_size_bytes{pod="kafka-0", topic="conveyor.events.dlq", partition="1"}': rising(60, 0, 6),
    },
  },

  {
    alert: "InfluxDBRefusingWrites",
    severity: "critical",
    summary: "InfluxDB fails to accept writes.",
    input: { [REQUESTS]: ramp([20, 90], [10, 90], [20, 90]), [FAILED_REQUESTS]: ramp([20, 0], [10, 10], [20, 0]) },
    waits: [20, 24],
    fires: [
      27,
      [
        {
          labels: {},
          description: "10% of the write requests fail. Events wait in Kafka until its retention is reached.",
        },
      ],
    ],
    clears: [40],
    below: { [REQUESTS]: ramp([50, 96]), [FAILED_REQUESTS]: ramp([50, 4]) },
  },
  {
    alert: "InfluxDBWritesBlocked",
    severity: "critical",
    summary: "InfluxDB refuses every write until its configuration is corrected.",
    input: { 'conveyor_processor_write_blocked{pod="processor-a"}': brief(1) },
    waits: [10],
    fires: [
      12,
      [
        {
          labels: {},
          description: "InfluxDB answers that token, organization or bucket are wrong: retries do not help.",
        },
      ],
    ],
    clears: [21],
    below: { 'conveyor_processor_write_blocked{pod="processor-a"}': hold([40, 0]) },
  },
  {
    alert: "InfluxDBTooManySeries",
    severity: "warning",
    summary: "InfluxDB has more series than machines explain.",
    input: { [SERIES]: hold([10, 20], [30, 150_000], [20, 20]) },
    waits: [10, 19],
    fires: [
      21,
      [
        {
          labels: {},
          description:
            "A shard has 150000 series, one for each measurement and combination of tags: a sender makes up names or tag values. Memory and start time grow with them.",
        },
      ],
    ],
    clears: [41],
    below: { [SERIES]: hold([40, 100_000]) },
  },
  {
    alert: "InfluxDBSlowWrites",
    severity: "warning",
    summary: "InfluxDB is slow to write.",
    input: writeLatency((minute) => (minute >= 20 && minute < 35 ? 10 : 0)),
    waits: [22, 25],
    fires: [31, [{ labels: {}, description: "The 99th percentile of a write request is 2.35s." }]],
    clears: [45],
    below: writeLatency(() => 0.9),
  },

  {
    alert: "PodCrashLooping",
    severity: "critical",
    summary: "A container crashes repeatedly.",
    // Between two crashes it runs for a moment and the series is absent.
    input: {
      [CRASHING]: hold([10, undefined], [3, 1], [1, undefined], [3, 1], [1, undefined], [3, 1], [20, undefined]),
    },
    waits: [11, 14],
    fires: [
      17,
      [
        {
          labels: { namespace: "conveyor", pod: "processor-a", container: "processor" },
          description: "processor in processor-a has been in a restart loop for five minutes.",
        },
      ],
    ],
    clears: [31],
    // One crash: one wait.
    below: { [CRASHING]: hold([10, undefined], [1, 1], [29, undefined]) },
  },
  {
    alert: "VolumeFilling",
    name: "nearly full",
    severity: "warning",
    summary: "A volume is nearly full.",
    input: { [AVAILABLE]: hold([10, 800], [10, 120], [20, 800]), [CAPACITY]: hold([40, 1000]) },
    waits: [11, 14],
    fires: [16, [{ labels: VOLUME, description: "The volume of data-kafka-0 has 12% left." }]],
    clears: [21],
    below: { [AVAILABLE]: hold([40, 160]), [CAPACITY]: hold([40, 1000]) },
  },
  {
    alert: "VolumeFilling",
    name: "full",
    severity: "critical",
    summary: "A volume is full.",
    input: { [AVAILABLE]: hold([10, 800], [4, 40], [20, 800]), [CAPACITY]: hold([34, 1000]) },
    waits: [10],
    fires: [12, [{ labels: VOLUME, description: "The volume of data-kafka-0 has 4% left." }]],
    clears: [15],
    below: { [AVAILABLE]: hold([4, 60], [36, 800]), [CAPACITY]: hold([40, 1000]) },
  },
  {
    alert: "VolumeFullWithinADay",
    severity: "warning",
    summary: "A volume will be full within a day.",
    // 0.5 MB a minute of 1 GB: full within 15 hours.
    input: { [AVAILABLE]: [...rising(300, 450e6, -0.5e6), ...hold([300, 900e6])], [CAPACITY]: hold([600, 1e9]) },
    waits: [100, 179, 239],
    fires: [
      245,
      [
        {
          labels: VOLUME,
          description: "At the rate of the last six hours the volume of data-kafka-0 is full within a day.",
        },
      ],
    ],
    clears: [310],
    // Falling, but not within a day.
    below: { [AVAILABLE]: rising(300, 450e6, -0.2e6), [CAPACITY]: hold([300, 1e9]) },
  },
  {
    alert: "ContainerOutOfMemory",
    name: "the container was restarted",
    severity: "warning",
    summary: "A container exceeded its memory limit.",
    input: {
      [RESTARTS]: hold([10, 0], [40, 1]),
      [OOM_KILLED]: hold([10, undefined], [40, 1]),
    },
    waits: [10],
    fires: [12, OUT_OF_MEMORY],
    clears: [27],
    // Restarted for another cause, and killed long ago.
    below: { [RESTARTS]: hold([10, 0], [20, 1]), [OOM_KILLED]: hold([30, 0]) },
  },
  {
    alert: "ContainerOutOfMemory",
    name: "one of its processes was killed, and the container runs on",
    severity: "warning",
    summary: "A container exceeded its memory limit.",
    input: { [OOM_EVENTS]: hold([10, 0], [40, 1]) },
    waits: [10],
    fires: [12, OUT_OF_MEMORY],
    clears: [27],
    below: { [OOM_EVENTS]: hold([40, 3]) },
  },
  {
    alert: "HpaAtMaximum",
    severity: "warning",
    summary: "An autoscaler is at its maximum.",
    input: hpa(hold([10, 2], [25, 5], [25, 2])),
    waits: [12, 24],
    fires: [
      26,
      [
        {
          labels: HPA,
          description: "producer has run at its maximum of 5 replicas for 15 minutes: higher load adds no pods.",
        },
      ],
    ],
    clears: [36],
    below: hpa(hold([60, 4])),
  },
  {
    alert: "AutoscalerBlind",
    name: "by all metrics",
    severity: "warning",
    summary: "An autoscaler lacks a metric.",
    input: blind(hold([10, 1], [15, 0], [15, 1])),
    waits: [11, 14],
    fires: [16, BLIND],
    clears: [26],
    // A new pod's first minutes.
    below: blind(hold([10, 1], [4, 0], [20, 1])),
  },
  {
    alert: "AutoscalerBlind",
    name: "by one of them",
    severity: "warning",
    summary: "An autoscaler lacks a metric.",
    // promtool repeats the last value for five minutes unless the series is marked as ended.
    input: blind(hold([40, 1]), hold([10, 20], [15, undefined], [15, 20])),
    waits: [11, 18],
    fires: [22, BLIND],
    clears: [26],
    below: blind(hold([40, 1])),
  },
  {
    alert: "CertificateExpiring",
    name: "two weeks",
    severity: "warning",
    summary: "A certificate expires soon.",
    input: { 'conveyor_certificate_expiry_timestamp_seconds{job="producer"}': hold([100, 10 * DAY], [30, 365 * DAY]) },
    waits: [5, 59],
    fires: [
      61,
      [
        {
          labels: { job: "producer" },
          description: "The certificate that producer uses expires in 9d 22h 59m 0s.",
        },
      ],
    ],
    clears: [101],
    below: { 'conveyor_certificate_expiry_timestamp_seconds{job="producer"}': hold([120, 15 * DAY]) },
  },
  {
    alert: "CertificateExpiring",
    name: "two weeks, of a server that is no service",
    severity: "warning",
    summary: "A certificate expires soon.",
    input: {
      'conveyor_endpoint_certificate_expiry_timestamp_seconds{job="lag-exporter", endpoint="influxdb.conveyor.svc:8086"}':
        hold([100, 10 * DAY], [30, 365 * DAY]),
    },
    waits: [5, 59],
    fires: [
      61,
      [
        {
          labels: { endpoint: "influxdb.conveyor.svc:8086" },
          description: "The certificate that influxdb.conveyor.svc:8086 uses expires in 9d 22h 59m 0s.",
        },
      ],
    ],
    clears: [101],
    below: {
      'conveyor_endpoint_certificate_expiry_timestamp_seconds{job="lag-exporter", endpoint="influxdb.conveyor.svc:8086"}':
        hold([120, 15 * DAY]),
    },
  },
  {
    alert: "CertificateExpiring",
    name: "three days",
    severity: "critical",
    summary: "A certificate is about to expire.",
    input: { 'conveyor_certificate_expiry_timestamp_seconds{job="processor"}': hold([20, 2 * DAY], [30, 365 * DAY]) },
    waits: [1, 4],
    fires: [
      6,
      [
        {
          labels: { job: "processor" },
          description: "The certificate that processor uses expires in 1d 23h 54m 0s.",
        },
      ],
    ],
    clears: [21],
    below: { 'conveyor_certificate_expiry_timestamp_seconds{job="processor"}': hold([40, 4 * DAY]) },
  },

  {
    alert: "Watchdog",
    severity: "none",
    summary: "Alerting works.",
    input: {},
    waits: [],
    fires: [
      1,
      [
        {
          labels: {},
          description:
            "This alert always fires. If an external receiver stops getting it, no notifications are delivered.",
        },
      ],
    ],
  },
  {
    alert: "ScrapeMissing",
    severity: "warning",
    summary: "A target does not answer Prometheus.",
    input: { 'up{job="influxdb", instance="10.0.0.9:8086"}': brief(0, 1) },
    waits: [10, 12],
    fires: [
      14,
      [
        {
          labels: { job: "influxdb", instance: "10.0.0.9:8086" },
          description:
            "influxdb (10.0.0.9:8086) has not answered for three minutes: alerts on its metrics cannot fire.",
        },
      ],
    ],
    clears: [21],
    below: { 'up{job="influxdb", instance="10.0.0.9:8086"}': hold([10, 1], [2, 0], [28, 1]) },
  },
  {
    alert: "ScrapeTargetAbsent",
    severity: "critical",
    summary: "Prometheus finds no target of a component.",
    input: targets({ 'up{job="kafka", instance="10.0.0.1:9464"}': hold([10, 1], [20, undefined], [10, 1]) }),
    waits: [12, 18],
    fires: [
      21,
      [
        {
          labels: { job: "kafka" },
          description:
            "No target of kafka has been found for five minutes: the workload is missing, or discovery is broken.",
        },
      ],
    ],
    clears: [31],
    below: targets(),
  },
  {
    alert: "ScrapeMissing",
    name: "a kubelet",
    severity: "warning",
    summary: "A target does not answer Prometheus.",
    input: { 'up{job="kubelet", instance="10.0.0.9:10250"}': brief(0, 1) },
    waits: [10, 12],
    fires: [
      14,
      [
        {
          labels: { job: "kubelet", instance: "10.0.0.9:10250" },
          description:
            "kubelet (10.0.0.9:10250) has not answered for three minutes: alerts on its metrics cannot fire.",
        },
      ],
    ],
    clears: [21],
    below: { 'up{job="kubelet", instance="10.0.0.9:10250"}': hold([10, 1], [2, 0], [28, 1]) },
  },
  {
    alert: "ScrapeTargetAbsent",
    name: "no kubelet",
    severity: "critical",
    summary: "Prometheus finds no target of a component.",
    input: targets({ 'up{job="kubelet", instance="10.0.0.1:9464"}': hold([10, 1], [20, undefined], [10, 1]) }),
    waits: [12, 18],
    fires: [
      21,
      [
        {
          labels: { job: "kubelet" },
          description:
            "No target of kubelet has been found for five minutes: the workload is missing, or discovery is broken.",
        },
      ],
    ],
    clears: [31],
    below: targets(),
  },
  {
    alert: "LagExporterStale",
    severity: "warning",
    summary: "The exported lag is stale.",
    input: {
      conveyor_lag_exporter_last_success_timestamp_seconds: [
        ...rising(10, 0, 60),
        ...hold([10, 540]),
        ...rising(20, 1200, 60),
      ],
    },
    waits: [11, 12],
    fires: [
      14,
      [
        {
          labels: {},
          description: "The lag exporter last reached Kafka 5m 0s ago: lag and members have not been updated since.",
        },
      ],
    ],
    clears: [21],
    below: { conveyor_lag_exporter_last_success_timestamp_seconds: rising(40, -110, 60) },
  },
  {
    alert: "RuleEvaluationFailing",
    severity: "warning",
    summary: "Alert rules cannot be evaluated.",
    input: { 'prometheus_rule_evaluation_failures_total{rule_group="kafka"}': ramp([10, 0], [15, 4], [20, 0]) },
    waits: [12, 15],
    fires: [
      20,
      [{ labels: { rule_group: "kafka" }, description: "20 evaluations of kafka failed within five minutes." }],
    ],
    clears: [35],
    below: { 'prometheus_rule_evaluation_failures_total{rule_group="kafka"}': hold([45, 7]) },
  },
  {
    alert: "AlertmanagerMissing",
    severity: "critical",
    summary: "Alerts are not sent to Alertmanager.",
    input: { prometheus_notifications_alertmanagers_discovered: brief(0, 1) },
    waits: [11, 14],
    fires: [16, [{ labels: {}, description: "Prometheus finds no Alertmanager to send alerts to." }]],
    clears: [21],
    below: { prometheus_notifications_alertmanagers_discovered: hold([40, 1]) },
  },
  {
    alert: "AlertDeliveryFailing",
    severity: "warning",
    summary: "Alerts are not delivered.",
    input: { 'alertmanager_notifications_failed_total{integration="webhook"}': ramp([10, 0], [15, 1], [20, 0]) },
    waits: [12, 15],
    fires: [
      20,
      [
        {
          labels: { integration: "webhook" },
          description: "Alertmanager fails to send notifications through webhook.",
        },
      ],
    ],
    clears: [35],
    below: { 'alertmanager_notifications_failed_total{integration="webhook"}': hold([45, 7]) },
  },

  {
    alert: "LogDeliveryMissing",
    name: "nothing is sent",
    severity: "critical",
    summary: "No logs are delivered to the log store.",
    input: { 'promtail_sent_entries_total{pod="promtail-x"}': ramp([10, 100], [20, 0], [20, 100]) },
    waits: [14, 18],
    fires: [
      22,
      [
        {
          labels: {},
          description:
            "The collector has delivered no line to the log store for five minutes: recent lines cannot be found.",
        },
      ],
    ],
    clears: [32],
    below: { 'promtail_sent_entries_total{pod="promtail-x"}': ramp([50, 1]) },
  },
  {
    alert: "LogDeliveryMissing",
    name: "VictoriaLogs receives nothing",
    severity: "critical",
    summary: "No logs are delivered to the log store.",
    input: { 'vl_rows_ingested_total{job="victorialogs",type="native"}': ramp([10, 100], [20, 0], [20, 100]) },
    waits: [14, 18],
    fires: [
      22,
      [
        {
          labels: {},
          description:
            "The collector has delivered no line to the log store for five minutes: recent lines cannot be found.",
        },
      ],
    ],
    clears: [32],
    // What the collector has read is not yet delivered.
    below: {
      'vl_rows_ingested_total{job="victorialogs",type="native"}': ramp([50, 1]),
      'vl_rows_ingested_total{job="vlagent",type="kubernetes_logs"}': hold([50, 0]),
    },
  },
  {
    alert: "LogLinesDropped",
    severity: "warning",
    summary: "Log lines are lost.",
    input: {
      'promtail_dropped_entries_total{reason="rate_limited"}': ramp([20, 0], [10, 3], [30, 0]),
      'loki_discarded_samples_total{reason="per_stream_rate_limit"}': ramp([20, 0], [10, 2], [30, 0]),
    },
    waits: [20, 21],
    fires: [
      30,
      [
        {
          labels: {},
          description:
            "50 lines (with vlagent: lines or blocks of lines) were dropped by the collector or refused by the store within ten minutes.",
        },
      ],
    ],
    clears: [45],
    below: {
      'promtail_dropped_entries_total{reason="rate_limited"}': hold([60, 4]),
      'loki_discarded_samples_total{reason="per_stream_rate_limit"}': hold([60, 4]),
    },
  },
  {
    alert: "LogLinesDropped",
    name: "by VictoriaLogs or vlagent",
    severity: "warning",
    summary: "Log lines are lost.",
    input: {
      'vl_rows_dropped_total{job="victorialogs",reason="too_many_fields"}': ramp([20, 0], [10, 1], [30, 0]),
      'vl_too_long_lines_skipped_total{job="vlagent"}': ramp([20, 0], [10, 1], [30, 0]),
      'vlagent_remotewrite_packets_dropped_total{job="vlagent"}': ramp([20, 0], [10, 1], [30, 0]),
      'vm_persistentqueue_blocks_dropped_total{job="vlagent"}': ramp([20, 0], [10, 2], [30, 0]),
    },
    waits: [20, 21],
    fires: [
      30,
      [
        {
          labels: {},
          description:
            "50 lines (with vlagent: lines or blocks of lines) were dropped by the collector or refused by the store within ten minutes.",
        },
      ],
    ],
    clears: [45],
    below: {
      'vl_rows_dropped_total{job="victorialogs",reason="debug"}': ramp([60, 4]),
      'vm_persistentqueue_blocks_dropped_total{job="vlagent"}': hold([60, 4]),
    },
  },
];
