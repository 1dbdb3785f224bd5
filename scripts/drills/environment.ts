/** A runner's environment on a real cluster. */
import { LOAD_SERIES, type LoadEvents } from "../../services/protocol/load-generator.ts";
import type { NewestEvents } from "../../services/protocol/observer.ts";
import { pause } from "../cli/wait.ts";
import { TelemetryStore } from "../clients/influxdb.ts";
import { readPodLogs } from "../clients/pod-logs.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import type { Observer } from "../recording/observer.ts";
import type { MarkKind } from "../recording/recording.ts";
import { RepeatedLines } from "../recording/repeated-lines.ts";
import type { LogLine, OperatorCommand } from "../recording/result.ts";
import type { RecordEntry, RunRecord, Sample } from "../recording/run-record.ts";
import type { DrillContext } from "./drill.ts";
import type { FaultAgents } from "./fault-agents.ts";
import type { Environment } from "./runner.ts";
import { isReady } from "./targets.ts";
import { CONVEYORS, type SenderLedger, startTraffic, type Traffic } from "./traffic.ts";

/** From the last acknowledgement to the last point: the processor has caught up long before, or the drill has failed. */
const STORED_LIMIT_MS = 30_000;
const STORED_INTERVAL_MS = 500;
/** Events of a drill are younger than this. */
const RUN_WINDOW_MS = 60 * 60_000;
/** Lines that a page can show of one drill. */
const MAX_LOG_LINES = 60;
/** The cluster keeps an hour of events; the newest belong to the fault. */
const EVENT_LINES = 12;
const MAX_OUTPUT_CHARS = 4000;
const COMMAND_LIMIT_MS = 15_000;
/** There are two rows a second, fewer while pods do not answer the observer; the lag of an older row is unknown. */
const ROW_AGE_LIMIT_MS = 5000;

type Workload = KubernetesObject & { spec: { replicas?: number; selector: { matchLabels?: Record<string, string> } } };

/**
 * Queries until nothing is missing or the limit passes. A failed query is no result.
 * @returns the last result. @throws the last error, when there was no result.
 */
export async function leastMissing(query: () => Promise<number>, limitMs: number): Promise<number> {
  const untilMs = performance.now() + limitMs;
  let missing: number | undefined;
  for (;;) {
    let failure: unknown;
    try {
      missing = await query();
    } catch (error) {
      failure = error;
    }
    if (missing === 0) return missing;
    if (performance.now() > untilMs) {
      if (missing === undefined) throw failure;
      return missing;
    }
    await pause(STORED_INTERVAL_MS);
  }
}

export function missingFrom(ledger: SenderLedger, stored: ReadonlyMap<string, ReadonlySet<number>>): number {
  let missing = 0;
  for (const { conveyor, seq, last_seq, outcome } of ledger.outcomes) {
    if (outcome !== "ok") continue;
    const found = stored.get(conveyor);
    for (let number = seq; number <= (last_seq ?? seq); number++) if (!found?.has(number)) missing++;
  }
  return missing;
}

/**
 * Age of the newest event of the conveyor that is furthest behind, in seconds. Null: there was no answer, or a conveyor has
 * no event since `sinceMs` (events of an earlier drill do not count).
 */
export function slowestAge(newest: NewestEvents, conveyors: readonly string[], sinceMs: number): number | null {
  if (!("newest" in newest)) return null;
  const times = conveyors.map((conveyor) => newest.newest[conveyor] ?? Number.NEGATIVE_INFINITY);
  const oldestMs = Math.min(...times);
  return oldestMs < sinceMs ? null : (newest.t - oldestMs) / 1000;
}

/** Which workloads lack Ready pods, of all or of `only`; undefined: none. */
export function unreadyAmong(objects: readonly KubernetesObject[], only?: readonly string[]): string | undefined {
  const pods = objects.filter(({ kind }) => kind === "Pod") as Pod[];
  const states = (objects.filter(({ kind }) => kind !== "Pod") as Workload[])
    .filter(({ metadata }) => !only || only.includes(metadata.name))
    .flatMap(({ metadata, spec }) => {
      const own = pods.filter((pod) =>
        Object.entries(spec.selector.matchLabels ?? {}).every(([key, value]) => pod.metadata.labels?.[key] === value),
      );
      const ready = own.filter((pod) => !pod.metadata.deletionTimestamp && isReady(pod)).length;
      const ending = own.filter((pod) => pod.metadata.deletionTimestamp).length;
      const wanted = spec.replicas ?? 1;
      return ready >= wanted && ending === 0 ? [] : [`${metadata.name}: ${ready} of ${wanted} Ready`];
    });
  return states.length > 0 ? states.join(", ") : undefined;
}

export interface ClusterEnvironmentOptions {
  cluster: Cluster;
  image: string;
  /** Id of the run's folder. */
  folder: string;
  events: LoadEvents;
  observer: Observer;
  agents: FaultAgents;
  checks: ProbeSession;
  record: Pick<RunRecord, "append">;
}

export class ClusterEnvironment implements Environment {
  /** Of the present drill. */
  #samples: Sample[] = [];
  #traffic: Traffic | undefined;
  /** Of the newest row. */
  #seen: { timeMs: number } & Pick<Sample, "lagEvents" | "eventsPerSecond"> = { timeMs: 0, lagEvents: null };
  #underReplicated: number | null = null;

  constructor(private readonly options: ClusterEnvironmentOptions) {
    const { observer } = options;
    observer.onRow((timeMs, row) => {
      const { lag_events: lagEvents = null, acknowledged_events_per_second: eventsPerSecond = null } = row;
      this.#seen = { timeMs, lagEvents, eventsPerSecond };
      this.#underReplicated = row.under_replicated_partitions ?? this.#underReplicated;
      const counts = this.#traffic?.counts();
      if (!counts) return;
      const { offered, acknowledged, unknown } = counts;
      this.record({ ledger: { offered, acknowledged, unknown } });
    });
    observer.onNewest((newest) => this.#addSample(newest));
  }

  #addSample(newest: NewestEvents): void {
    const traffic = this.#traffic;
    // Between drills nothing is measured: a run waits for hours.
    if (!traffic) return;
    const { timeMs, ...values } = this.#seen;
    const known = newest.t - timeMs > ROW_AGE_LIMIT_MS ? { lagEvents: null } : values;
    const sample: Sample = {
      timeMs: newest.t,
      ageSeconds: slowestAge(newest, CONVEYORS, traffic.startedAtMs),
      ...known,
      underReplicated: this.#underReplicated,
      waitedMs: traffic.waitedMs(),
    };
    this.#samples.push(sample);
    this.record({ sample });
  }

  now = (): number => Date.now();
  pause = pause;
  samples = (): readonly Sample[] => this.#samples;

  record(facts: Omit<RecordEntry, "timeMs">): void {
    this.options.record.append({ timeMs: Date.now(), ...facts });
  }

  mark(kind: MarkKind, subject: string, text: string, timeMs = Date.now()): void {
    this.options.observer.mark(kind, subject, text, timeMs);
  }

  context(signal: AbortSignal): DrillContext {
    const { cluster, image, agents, checks } = this.options;
    return {
      cluster,
      image,
      agents,
      signal,
      probe: (probes) => checks.probeFrom("admin", probes),
      acknowledged: () => this.#traffic?.counts().acknowledged ?? 0,
      note: (subject, text) => this.mark("note", subject, text),
    };
  }

  async unready(signal: AbortSignal, workloads?: readonly string[]): Promise<string | undefined> {
    const { items } = await this.options.cluster.json<{ items: KubernetesObject[] }>(
      ["get", "deployments,statefulsets,pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/part-of=conveyor"],
      { signal },
    );
    return unreadyAmong(items, workloads);
  }

  async startTraffic(run: string, signal: AbortSignal): Promise<Traffic> {
    const { cluster, image, folder, events } = this.options;
    const traffic = await startTraffic(cluster, { image, run, folder, events }, signal);
    this.#samples = [];
    this.#traffic = traffic;
    const stop: Traffic["stop"] = async (atOnce) => {
      try {
        return await traffic.stop(atOnce);
      } finally {
        this.#traffic = undefined;
      }
    };
    return { ...traffic, stop };
  }

  async runCommand(args: readonly string[]): Promise<OperatorCommand> {
    const timeMs = Date.now();
    const { stdout, stderr } = await this.options.cluster.kubectl(args, {
      allowFailure: true,
      timeoutMs: COMMAND_LIMIT_MS,
    });
    const isLong = args[1] === "events";
    const lines = (stdout || stderr).trimEnd().split("\n");
    const output = (isLong ? lines.slice(-EVENT_LINES) : lines).join("\n");
    return {
      timeMs,
      command: `kubectl ${args.join(" ")}${isLong ? ` | tail -n ${EVENT_LINES}` : ""}`,
      // The end is the newest.
      output: output.length > MAX_OUTPUT_CHARS ? `…${output.slice(-MAX_OUTPUT_CHARS)}` : output,
    };
  }

  async logLines(fromMs: number, toMs: number): Promise<LogLine[]> {
    const { cluster } = this.options;
    const [entries] = await Promise.all([
      readPodLogs(cluster, Date.now() - fromMs).catch(() => []),
      this.#markAlerts(fromMs).catch(() => undefined),
    ]);
    const repeated = new RepeatedLines();
    return entries
      .filter(({ level }) => level === "error" || level === "warn")
      .filter((entry) => repeated.accepts(entry))
      .map(({ timeNs, pod, line }) => ({ timeMs: Number(timeNs.slice(0, -6)), pod, line }))
      .filter(({ timeMs }) => timeMs <= toMs)
      .slice(0, MAX_LOG_LINES);
  }

  /** Alerts that were pending or firing meanwhile, as marks. */
  async #markAlerts(sinceMs: number): Promise<void> {
    const seconds = Math.ceil((Date.now() - sinceMs) / 1000) + 1;
    const reader = await PrometheusReader.open(this.options.cluster);
    try {
      const by = "max by (alertname, alertstate, severity)";
      const samples = await reader.query(
        `${by} (min_over_time((timestamp(ALERTS{alertname!="Watchdog"}))[${seconds}s:1s]))`,
      );
      for (const { labels, value } of samples) {
        if (value * 1000 < sinceMs) continue;
        this.mark("alert", labels.alertname ?? "", `${labels.alertname} is ${labels.alertstate}`, value * 1000);
      }
    } finally {
      await reader.close();
    }
  }

  async missing(ledger: SenderLedger): Promise<number> {
    const { cluster, events } = this.options;
    const selected = { conveyors: CONVEYORS, series: LOAD_SERIES[events] };
    return await leastMissing(async () => {
      // A new connection each time: one that was opened while InfluxDB restarted may break, and stays broken.
      const store = await TelemetryStore.open(cluster);
      try {
        const nowMs = Date.now();
        const { sequences } = await store.run(ledger.run, nowMs - RUN_WINDOW_MS, nowMs + 1000, selected);
        return missingFrom(ledger, sequences);
      } finally {
        await store.close();
      }
    }, STORED_LIMIT_MS);
  }
}
