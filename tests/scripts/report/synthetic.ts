/**
 * Small records of runs that never were, for tests of the pages: every name in them says "synthetic". Shapes are those
 * of real runs (ramps, gaps while a pod restarts, marks close to each other), numbers are made up.
 */
import type { Mark, Recording, Value } from "../../../scripts/recording/recording.ts";
import type { DrillResult, DrillsResult, Ledger, LoadTestResult, RunFacts } from "../../../scripts/recording/result.ts";

export const START_MS = Date.UTC(2026, 0, 5, 10, 0, 0);

export const facts = (kind: RunFacts["kind"], seconds: number): RunFacts => ({
  id: `20260105T100000Z-synthetic-${kind}`,
  kind,
  startedAt: new Date(START_MS).toISOString(),
  endedAt: new Date(START_MS + seconds * 1000).toISOString(),
  interrupted: false,
  versions: { conveyor: "synthetic", kafka: "4.1.1", influxdb: "2.7.12" },
  images: { "conveyor/services": "sha256:synthetic0123456789abcdef0123456789abcdef0123456789abcdef01234567" },
  cluster: { context: "synthetic", kubernetes: "v1.34.0", nodes: [{ cpus: 2, memoryBytes: 24 * 1024 ** 3 }] },
});

export const ledger = (more: Partial<Ledger> = {}): Ledger => ({
  offered: 12_500,
  acknowledged: 12_400,
  failed: 0,
  unknown: 100,
  stored: 12_431,
  dead_lettered: 0,
  lost: 0,
  duplicated: 0,
  ...more,
});

const mark = (second: number, kind: Mark["kind"], subject: string, text: string): Mark => ({
  timeMs: START_MS + second * 1000,
  kind,
  subject,
  text,
});

/** One row per second from a function of the second. */
function recordingOf(seconds: number, row: (second: number) => Record<string, Value>, marks: Mark[]): Recording {
  const rows = Array.from({ length: seconds }, (_, second) => row(second));
  const series: Record<string, Value[]> = {};
  for (const name of Object.keys(rows[0]!)) series[name] = rows.map((values) => values[name] ?? null);
  return {
    startedAtMs: START_MS,
    endedAtMs: START_MS + (seconds - 1) * 1000,
    timesMs: rows.map((_, second) => START_MS + second * 1000),
    series,
    marks,
  };
}

/** Up and down without a random number: the same on each run. */
const wobble = (second: number, size: number) => Math.sin(second * 1.7) * size + Math.sin(second * 0.61) * size * 0.6;

export function syntheticLoadTest(more: Partial<LoadTestResult> = {}): LoadTestResult {
  const offered = (second: number) => (second < 60 ? 500 : second < 180 ? 5000 : 0);
  const processors = (second: number) => (second < 82 ? 1 : second < 97 ? 2 : second < 225 ? 4 : second < 250 ? 2 : 1);
  const producers = (second: number) => (second < 95 ? 1 : second < 235 ? 3 : 1);
  let lag = 0;
  const recording = recordingOf(
    270,
    (second) => {
      const acknowledged = Math.max(0, offered(second) * 0.99 + wobble(second, offered(second) * 0.02));
      const stored = Math.min(processors(second) * 1900, acknowledged + lag);
      lag = Math.max(0, lag + acknowledged - stored);
      // The processor's pods were not scraped for some seconds.
      const isGap = second >= 120 && second < 131;
      return {
        offered_events_per_second: offered(second),
        acknowledged_events_per_second: acknowledged,
        stored_events_per_second: isGap ? null : stored,
        lag_events: Math.round(lag),
        freshness_seconds: 0.4 + lag / 4000,
        e2e_p50_ms: isGap ? null : 45 + lag / 6,
        e2e_p99_ms: isGap ? null : 180 + lag / 3 + Math.abs(wobble(second, 30)),
        producer_replicas_ready: producers(second),
        producer_replicas_desired: producers(second + 6),
        processor_replicas_ready: processors(second),
        processor_replicas_desired: processors(second + 9),
        producer_cpu_cores: 0.1 + acknowledged / 9000,
        processor_cpu_cores: 0.1 + stored / 7000,
        kafka_cpu_cores: 0.3 + acknowledged / 20_000,
        influxdb_cpu_cores: 0.2 + stored / 15_000,
      };
    },
    [
      mark(0, "stage", "load", "500 events/s for 60 s"),
      mark(60, "stage", "load", "5000 events/s for 120 s"),
      mark(180, "stage", "load", "0 events/s for 90 s"),
      mark(73, "scale", "processor", "from 1 to 2 replicas"),
      mark(82, "pod", "pod/processor-synthetic-b", "Ready"),
      mark(88, "scale", "processor", "from 2 to 4 replicas"),
      mark(89, "scale", "producer", "from 1 to 3 replicas"),
      mark(97, "pod", "pod/processor-synthetic-c", "Ready"),
      mark(100, "alert", "ConsumerLagHigh", "firing"),
      mark(216, "scale", "processor", "from 4 to 2 replicas"),
      mark(229, "scale", "producer", "from 3 to 1 replicas"),
      mark(241, "scale", "processor", "from 2 to 1 replicas"),
    ],
  );
  const at = (second: number) => START_MS + second * 1000;
  return {
    facts: facts("load-test", 270),
    profile: "synthetic",
    stages: [
      { seconds: 60, events_per_second: 500 },
      { seconds: 120, events_per_second: 5000 },
      { seconds: 90, events_per_second: 0 },
    ],
    recording,
    scaling: [
      { timeMs: at(73), workload: "processor", from: 1, to: 2, ready_after_ms: 9200 },
      { timeMs: at(88), workload: "processor", from: 2, to: 4, ready_after_ms: 9050 },
      { timeMs: at(89), workload: "producer", from: 1, to: 3, ready_after_ms: 6400 },
      { timeMs: at(216), workload: "processor", from: 4, to: 2 },
      { timeMs: at(229), workload: "producer", from: 3, to: 1 },
      { timeMs: at(241), workload: "processor", from: 2, to: 1 },
    ],
    thresholds: [
      { text: "lost=0", metric: "lost", limit: 0, value: 0, ok: true },
      { text: "e2e_p99_ms<30000", metric: "e2e_p99_ms", limit: 30_000, value: 17_240, ok: true },
      { text: "time_to_scale_ms<30000", metric: "time_to_scale_ms", limit: 30_000, value: 22_000, ok: true },
    ],
    ledger: ledger({ offered: 630_000, acknowledged: 624_113, unknown: 0, stored: 624_113 }),
    measured: {
      lost: 0,
      duplicated: 0,
      error_rate: 0,
      e2e_p50_ms: 3100,
      e2e_p99_ms: 17_240,
      time_to_scale_seconds: 22,
      lag_max_events: 84_437,
      lag_settle_seconds: null,
    },
    hpaTable: [
      "TIME      NAME        REFERENCE              TARGETS              MINPODS   MAXPODS   REPLICAS",
      "10:00:00  processor   Deployment/processor   12/1000, 11%/70%     1         6         1",
      "10:01:13  processor   Deployment/processor   9134/1000, 93%/70%   1         6         1",
      "10:01:28  processor   Deployment/processor   9421/1000, 95%/70%   1         6         2",
    ],
    passed: true,
    ...more,
  };
}

export function syntheticDrill(more: Partial<DrillResult> = {}): DrillResult {
  const at = (second: number) => START_MS + second * 1000;
  let lag = 0;
  const recording = recordingOf(
    75,
    (second) => {
      const isDown = second >= 20 && second < 28;
      const stored = isDown ? 0 : Math.min(900, 200 + lag);
      lag = Math.max(0, lag + 200 - stored);
      return {
        offered_events_per_second: 200,
        acknowledged_events_per_second: 200 + wobble(second, 4),
        stored_events_per_second: second >= 21 && second < 27 ? null : Math.max(0, stored + wobble(second, 5)),
        lag_events: lag,
        freshness_seconds: isDown ? second - 19 : 0.6 + lag / 900,
        producer_replicas_ready: 1,
        processor_replicas_ready: isDown ? 0 : 1,
        failed_events_per_second: 0,
        under_replicated_partitions: 0,
      };
    },
    [
      mark(20, "fault", "pod/processor-synthetic-a", "deleted"),
      mark(20.4, "effect", "pod/processor-synthetic-a", "gone: another uid"),
      mark(21, "pod", "pod/processor-synthetic-b", "Scheduled"),
      mark(25, "alert", "ConsumerLagGrowing", "pending"),
      mark(28, "healed", "pod/processor-synthetic-b", "Ready"),
      mark(30, "recovered", "processor", "freshness and lag back to normal"),
    ],
  );
  return {
    name: "delete-processor",
    title: "Synthetic: a processor's pod is deleted",
    hypothesis: "Another pod takes over its partitions within 10 s and nothing is lost.",
    fault: "kubectl delete pod processor-synthetic-a",
    verdict: "passed",
    reasons: [],
    effect: { timeMs: at(20.4), proof: "pod processor-synthetic-a (uid 1) is gone, uid 2 has its place" },
    beats: [
      { name: "before", startedAtMs: at(0), endedAtMs: at(20), detail: "200 events/s stored, lag 0" },
      { name: "fault", startedAtMs: at(20), endedAtMs: at(22), detail: "the pod is gone" },
      { name: "healed", startedAtMs: at(22), endedAtMs: at(30), detail: "the new pod is Ready and reads" },
      { name: "proven", startedAtMs: at(30), endedAtMs: at(74), detail: "4,000 new events stored" },
    ],
    recovery: { measured_ms: 9600, budget_ms: 10_000 },
    ledger: ledger(),
    recording,
    commands: [
      {
        timeMs: at(21),
        command: "kubectl get pods -n conveyor -l app.kubernetes.io/name=processor",
        output:
          "NAME                    READY   STATUS              RESTARTS   AGE\nprocessor-synthetic-b   0/1     ContainerCreating   0          1s\n",
      },
      { timeMs: at(31), command: "bun scripts/audit.ts --since 2m", output: "0 of 12,400 acknowledged events lost\n" },
    ],
    logLines: [
      { timeMs: at(20.2), pod: "processor-synthetic-a", line: '{"level":"info","msg":"SIGTERM: draining"}' },
      { timeMs: at(26.5), pod: "processor-synthetic-b", line: '{"level":"info","msg":"joined the group"}' },
    ],
    runbook: "docs/runbooks/ConsumerLagGrowing.md",
    repeat: 1,
    ...more,
  };
}

export function syntheticDrills(more: Partial<DrillsResult> = {}): DrillsResult {
  const influx = (repeat: number, measured_ms: number) =>
    syntheticDrill({
      name: "influxdb-disk-full",
      title: "Synthetic: InfluxDB's disk is full",
      repeat,
      recovery: { measured_ms, budget_ms: 20_000 },
    });
  const drills = [
    syntheticDrill(),
    syntheticDrill({ repeat: 2, recovery: { measured_ms: 7100, budget_ms: 10_000 } }),
    influx(1, 14_200),
    influx(2, 15_900),
  ];
  return { facts: facts("drills", 300), drills, passed: true, ...more };
}
