/** The runner's world on a real cluster. */

import { pause } from "../cli/wait.ts";
import { TelemetryStore } from "../clients/influxdb.ts";
import { readPodLogs } from "../clients/pod-logs.ts";
import type { ProbeSession } from "../clients/probe-session.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../cluster/cluster.ts";
import type { LiveFeed } from "../live/live-feed.ts";
import type { Observer } from "../recording/observer.ts";
import type { Mark, Recording, SeriesName } from "../recording/recording.ts";
import type { LogLine } from "../recording/result.ts";
import type { DrillContext } from "./drill.ts";
import type { FaultAgents } from "./fault-agents.ts";
import type { Sample } from "./recovery.ts";
import type { Environment } from "./runner.ts";
import { type StoredWatch, slowestAge } from "./stored-watch.ts";
import { isReady } from "./targets.ts";
import { CONVEYORS, startTraffic, type Traffic, type TrafficOutcomes } from "./traffic.ts";

/** From the last acknowledgement to the last point: the processor has caught up long before, or the drill has failed. */
const STORED_LIMIT_MS = 30_000;
const STORED_LOOK_MS = 500;
/** Events of a drill are younger than this. */
const RUN_WINDOW_MS = 60 * 60_000;
/** Lines that a page can show of one drill, and a person can read. */
const MAX_LOG_LINES = 60;
const MAX_TIMES = 2;
/** Behind it two lines differ in details. */
const MAX_KEY_CHARS = 300;
/** The cluster keeps an hour of events; the newest are the fault's. */
const EVENT_LINES = 12;
const MAX_OUTPUT_CHARS = 4000;
const LOOK_LIMIT_MS = 15_000;
/** The observer's rows come twice a second, and less often while pods do not answer it; older, and lag is not known. */
const ROW_AGE_LIMIT_MS = 5000;

type Workload = KubernetesObject & { spec: { replicas?: number; selector: { matchLabels?: Record<string, string> } } };

/** Each thing that a pod says once or twice: a broker that is away is complained about hundreds of times. */
export function distinct<Line extends { pod: string; line: string }>(lines: readonly Line[]): Line[] {
  const seen = new Map<string, number>();
  return lines.filter(({ pod, line }) => {
    // Without numbers (times, offsets, ids) two lines that say the same are the same.
    const key = `${pod} ${line.replaceAll(/\d+/g, "").slice(0, MAX_KEY_CHARS)}`;
    const times = (seen.get(key) ?? 0) + 1;
    seen.set(key, times);
    return times <= MAX_TIMES;
  });
}

/**
 * Looks until nothing is missing; what the last look found when that does not come. A look that fails saw nothing, and is
 * no word on what is stored.
 * @throws the last failure, when no look ever saw anything
 */
export async function leastMissing(look: () => Promise<number>, limitMs: number): Promise<number> {
  const untilMs = performance.now() + limitMs;
  let seen: number | undefined;
  for (;;) {
    let failure: unknown;
    try {
      seen = await look();
    } catch (error) {
      failure = error;
    }
    if (seen === 0) return seen;
    if (performance.now() > untilMs) {
      if (seen === undefined) throw failure;
      return seen;
    }
    await pause(STORED_LOOK_MS);
  }
}

/** Events that the database does not hold, of those that were acknowledged. */
export function missingFrom(account: TrafficOutcomes, stored: ReadonlyMap<string, ReadonlySet<number>>): number {
  let missing = 0;
  for (const { conveyor, seq, last_seq, outcome } of account.outcomes) {
    if (outcome !== "ok") continue;
    const there = stored.get(conveyor);
    for (let number = seq; number <= (last_seq ?? seq); number++) if (!there?.has(number)) missing++;
  }
  return missing;
}

/** The rows and marks of a recording between two moments. */
export function slice(recording: Recording, fromMs: number, toMs: number): Recording {
  const first = recording.timesMs.findIndex((timeMs) => timeMs >= fromMs);
  const behind = recording.timesMs.findIndex((timeMs) => timeMs > toMs);
  const from = first < 0 ? recording.timesMs.length : first;
  const to = behind < 0 ? recording.timesMs.length : behind;
  const series: Recording["series"] = {};
  for (const name of Object.keys(recording.series) as SeriesName[])
    series[name] = recording.series[name]!.slice(from, to);
  return {
    startedAtMs: fromMs,
    endedAtMs: toMs,
    timesMs: recording.timesMs.slice(from, to),
    series,
    marks: recording.marks.filter(({ timeMs }) => timeMs >= fromMs && timeMs <= toMs),
  };
}

/** Which of some workloads has fewer Ready pods than it wants, or undefined. */
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
  observer: Observer;
  agents: FaultAgents;
  checks: ProbeSession;
  stored: StoredWatch;
  /** Told what happens, for the live page. */
  feed: LiveFeed;
}

export class ClusterEnvironment implements Environment {
  readonly #options: ClusterEnvironmentOptions;
  readonly #samples: Sample[] = [];
  #traffic: Traffic | undefined;
  #row: { timeMs: number; lagEvents: number | null } = { timeMs: 0, lagEvents: null };
  #underReplicated: number | null = null;
  #ageSeconds: number | null = null;

  constructor(options: ClusterEnvironmentOptions) {
    this.#options = options;
    options.observer.onRow((timeMs, row) => {
      this.#row = { timeMs, lagEvents: row.lag_events ?? null };
      this.#underReplicated = row.under_replicated_partitions ?? this.#underReplicated;
      const counts = this.#traffic?.counts();
      if (counts) {
        const { offered, acknowledged, unknown } = counts;
        options.feed.counts({ offered, acknowledged, unknown });
      }
    });
    options.stored.onLook((look) => {
      const traffic = this.#traffic;
      this.#ageSeconds = traffic ? slowestAge(look, CONVEYORS, traffic.startedAtMs) : null;
      this.#samples.push({
        timeMs: look.timeMs,
        ageSeconds: this.#ageSeconds,
        lagEvents: look.timeMs - this.#row.timeMs > ROW_AGE_LIMIT_MS ? null : this.#row.lagEvents,
        underReplicated: this.#underReplicated,
        waitedMs: traffic?.waitedMs(Date.now()) ?? 0,
      });
    });
  }

  /** What the newest look says, for the recording's rows: age of the newest event of the slowest conveyor. */
  get ageSeconds(): number | null {
    return this.#ageSeconds;
  }

  now = (): number => Date.now();
  pause = pause;
  samples = (): readonly Sample[] => this.#samples;
  /** The traffic that flows now, for a live page. */
  get traffic(): Traffic | undefined {
    return this.#traffic;
  }

  context(signal: AbortSignal): DrillContext {
    const { cluster, image, agents, checks, observer } = this.#options;
    return {
      cluster,
      image,
      agents,
      signal,
      probe: (probes) => checks.probeFrom("admin", probes),
      acknowledged: () => this.#traffic?.counts().acknowledged ?? 0,
      note: (subject, text) => observer.mark("note", subject, text),
    };
  }

  async unready(signal: AbortSignal, workloads?: readonly string[]): Promise<string | undefined> {
    const { items } = await this.#options.cluster.json<{ items: KubernetesObject[] }>(
      ["get", "deployments,statefulsets,pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/part-of=conveyor"],
      { signal },
    );
    return unreadyAmong(items, workloads);
  }

  async startTraffic(run: string, signal: AbortSignal): Promise<Traffic> {
    this.#traffic = await startTraffic(this.#options.cluster, this.#options.image, run, signal);
    return this.#traffic;
  }

  mark(kind: Mark["kind"], subject: string, text: string, timeMs = Date.now()): Mark {
    this.#options.observer.mark(kind, subject, text, timeMs);
    return { kind, subject, text, timeMs };
  }

  async look(args: readonly string[]) {
    const timeMs = Date.now();
    const { stdout, stderr } = await this.#options.cluster.kubectl(args, {
      allowFailure: true,
      timeoutMs: LOOK_LIMIT_MS,
    });
    const isLong = args[1] === "events";
    const lines = (stdout || stderr).trimEnd().split("\n");
    const output = (isLong ? lines.slice(-EVENT_LINES) : lines).join("\n");
    const command = {
      timeMs,
      command: `kubectl ${args.join(" ")}${isLong ? ` | tail -n ${EVENT_LINES}` : ""}`,
      // The end is what happened last.
      output: output.length > MAX_OUTPUT_CHARS ? `…${output.slice(-MAX_OUTPUT_CHARS)}` : output,
    };
    this.#options.feed.command(command);
    return command;
  }

  recording(fromMs: number, toMs: number): Recording {
    return slice(this.#options.observer.recording, fromMs, toMs);
  }

  async aftermath(sinceMs: number, untilMs: number): Promise<LogLine[]> {
    const { cluster } = this.#options;
    const [lines] = await Promise.all([
      readPodLogs(cluster, Date.now() - sinceMs).catch(() => []),
      this.#markAlerts(sinceMs).catch(() => undefined),
    ]);
    const telling = lines.filter(({ level }) => level === "error" || level === "warn");
    return distinct(telling)
      .map(({ timeNs, pod, line }) => ({ timeMs: Number(timeNs.slice(0, -6)), pod, line }))
      .filter(({ timeMs }) => timeMs <= untilMs)
      .slice(0, MAX_LOG_LINES);
  }

  /** Alerts that were pending or firing meanwhile, as marks. */
  async #markAlerts(sinceMs: number): Promise<void> {
    const { cluster, observer } = this.#options;
    const seconds = Math.ceil((Date.now() - sinceMs) / 1000) + 1;
    const reader = await PrometheusReader.open(cluster);
    try {
      const of = "max by (alertname, alertstate, severity)";
      const samples = await reader.query(
        `${of} (min_over_time((timestamp(ALERTS{alertname!="Watchdog"}))[${seconds}s:1s]))`,
      );
      for (const { labels, value } of samples) {
        if (value * 1000 < sinceMs) continue;
        observer.mark("alert", labels.alertname ?? "", `${labels.alertname} is ${labels.alertstate}`, value * 1000);
      }
    } finally {
      await reader.close();
    }
  }

  async missing(account: TrafficOutcomes): Promise<number> {
    this.#traffic = undefined;
    const { cluster } = this.#options;
    return await leastMissing(async () => {
      // A connection of its own each time: one that was made while InfluxDB came back may break, and stays broken.
      const store = await TelemetryStore.open(cluster);
      try {
        const nowMs = Date.now();
        const { sequences } = await store.run(account.run, nowMs - RUN_WINDOW_MS, nowMs + 1000, CONVEYORS);
        return missingFrom(account, sequences);
      } finally {
        await store.close();
      }
    }, STORED_LIMIT_MS);
  }
}
