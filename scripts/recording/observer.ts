/**
 * Watches the pipeline while something happens to it: rows of numbers from the observer pod (services/tools/observer.ts), and
 * pods and replica counts from watches of the API server, together in one recording.
 */

import { waitFor } from "../cli/wait.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { type OneOffPod, podLog, type StartedPod, startPod } from "../cluster/one-off-pods.ts";
import { ClusterWatch, type ScaleChange, type Watched } from "./cluster-watch.ts";
import { PodUsage } from "./pod-usage.ts";
import { type Mark, type MarkKind, type Recording, SERIES, type SeriesName, type Value } from "./recording.ts";
import { SCALED_WORKLOADS, type ScaledWorkload } from "./result.ts";

/** The first row comes within two ticks; a busy machine and a slow first answer take some seconds more. */
const FIRST_ROW_LIMIT_MS = 20_000;
/** A run is an hour at the most; the pod ends itself a little later. */
const LIFETIME_SECONDS = 4000;
/** A recording of a longer run would fill the memory and the page. */
const MAX_ROWS = 50_000;

export type Row = Partial<Record<SeriesName, Value>>;

export interface ObserverOptions {
  /** Milliseconds between two rows; from 250. */
  tickMs: number;
  /** The services' image that is deployed. */
  image: string;
  /** Becomes a label of the pod. */
  run?: string;
  /** Series that this side knows, asked for at each row: what a load generator offers, for example. */
  extra?: () => Row;
}

export interface SinceStart {
  e2e_p50_ms: Value;
  e2e_p99_ms: Value;
}

export interface Observer {
  /** Grows while it runs. */
  readonly recording: Recording;
  readonly watch: ClusterWatch;
  /** Latencies of everything that was stored since the start. */
  readonly sinceStart: SinceStart;
  /** Pods that became Ready so far. */
  readonly ready: readonly { workload: Watched; timeMs: number }[];
  /** Replica counts that changed so far. */
  readonly scaling: readonly (ScaleChange & { ready_after_ms?: number })[];
  mark(kind: MarkKind, subject: string, text: string, timeMs?: number): void;
  /** @returns ends the listening. */
  onRow(listener: (timeMs: number, row: Row) => void): () => void;
  onMark(listener: (mark: Mark) => void): () => void;
  /** Stops the pod and takes it away; asking twice is harmless. */
  close(): Promise<Recording>;
}

/** The pod that runs services/tools/observer.ts. */
export function observerPod(options: Pick<ObserverOptions, "tickMs" | "image" | "run">): OneOffPod {
  return {
    prefix: "observer",
    image: options.image,
    labels: {
      "app.kubernetes.io/name": "observer",
      "app.kubernetes.io/instance": "observer",
      "app.kubernetes.io/component": "observer",
      "app.kubernetes.io/part-of": "conveyor",
      ...(options.run ? { "conveyor.dev/run": options.run } : {}),
    },
    command: ["bun", "/app/observer.js"],
    environment: {
      NAMESPACE,
      TICK_MS: String(options.tickMs),
      INFLUX_URL: `https://influxdb.${NAMESPACE}.svc.cluster.local:8086`,
      INFLUX_CA: "/certs/ca.crt",
      INFLUX_TOKEN_FILE: "/secrets/influxdb-token-reader/token",
    },
    // Of the certificate only what verifies others: it proves nothing of itself.
    secrets: {
      "influxdb-tls": { folder: "/certs", keys: ["ca.crt"] },
      "influxdb-token-reader": { folder: "/secrets/influxdb-token-reader", keys: ["token"] },
    },
    lifetimeSeconds: LIFETIME_SECONDS,
  };
}

/** Addresses of the pods that a row is about. */
type SeenPods = Readonly<Record<ScaledWorkload, readonly string[]>>;

/** A line of the observer pod, or undefined when it is something else (a log line, a cut one). */
export function parseRow(
  line: string,
): { timeMs: number; row: Row; sinceStart: SinceStart; seen: SeenPods } | undefined {
  if (!line.startsWith('{"t":')) return undefined;
  try {
    const { t, row, since_start, seen } = JSON.parse(line) as {
      t: number;
      row: Row;
      since_start: SinceStart;
      seen: SeenPods;
    };
    return { timeMs: t, row, sinceStart: since_start, seen };
  } catch {
    return undefined;
  }
}

/** Series that are sums over all pods of a workload; a quantile of what some of them saw is a sample, and stays. */
const SUMS: Readonly<Record<ScaledWorkload, readonly SeriesName[]>> = {
  producer: ["acknowledged_events_per_second", "producer_cpu_cores", "producer_memory_mebibytes"],
  processor: ["stored_events_per_second", "processor_cpu_cores", "processor_memory_mebibytes"],
};

/**
 * The row without what it cannot know: the observer pod learns of new pods from the name server, up to 5 s late, and a sum
 * over some of the pods is no sum.
 * @param ready addresses of the pods that the API server says are Ready
 */
export function withoutGuesses(row: Row, seen: SeenPods, ready: (workload: ScaledWorkload) => readonly string[]): Row {
  const known: Row = { ...row };
  for (const workload of SCALED_WORKLOADS) {
    const isWhole = ready(workload).every((address) => seen[workload].includes(address));
    if (!isWhole) for (const name of SUMS[workload]) known[name] = null;
  }
  return known;
}

/** A recording that rows are added to, column by column. */
export class Recorder {
  readonly recording: Recording;

  constructor(startedAtMs: number) {
    this.recording = { startedAtMs, endedAtMs: startedAtMs, timesMs: [], series: {}, marks: [] };
  }

  /** Adds a row; a row that is not newer than the last, or beyond the bound, is left out. */
  add(timeMs: number, row: Row): boolean {
    const { timesMs, series } = this.recording;
    if (timeMs <= (timesMs.at(-1) ?? Number.NEGATIVE_INFINITY) || timesMs.length >= MAX_ROWS) return false;
    for (const name of SERIES) {
      const value = row[name];
      if (value === undefined && series[name] === undefined) continue;
      // A series that appears late has a gap before.
      series[name] ??= new Array<Value>(timesMs.length).fill(null);
      series[name].push(value ?? null);
    }
    timesMs.push(timeMs);
    this.recording.endedAtMs = timeMs;
    return true;
  }

  mark(mark: Mark): void {
    this.recording.marks.push(mark);
    // Marks come from several watches; charts want them in order.
    this.recording.marks.sort((a, b) => a.timeMs - b.timeMs);
  }
}

/**
 * Starts the pod and the watches; rows arrive from then on. The caller closes it; an interrupt closes it too.
 * @throws OperatorError when the pod does not start or gives no row.
 */
export async function startObserver(
  cluster: Cluster,
  options: ObserverOptions,
  signal: AbortSignal,
): Promise<Observer> {
  const recorder = new Recorder(Date.now());
  const rowListeners = new Set<(timeMs: number, row: Row) => void>();
  const markListeners = new Set<(mark: Mark) => void>();
  const scaling: (ScaleChange & { ready_after_ms?: number })[] = [];
  const ready: { workload: Watched; timeMs: number }[] = [];
  let sinceStart: SinceStart = { e2e_p50_ms: null, e2e_p99_ms: null };
  const stopped = new AbortController();
  const ended = AbortSignal.any([signal, stopped.signal]);

  const mark: Observer["mark"] = (kind, subject, text, timeMs = Date.now()) => {
    const made: Mark = { timeMs, kind, subject, text };
    recorder.mark(made);
    for (const listener of markListeners) listener(made);
  };
  const watch = await ClusterWatch.start(
    cluster,
    {
      onMark: mark,
      onScale: (change) => scaling.push(change),
      onReady: ({ workload }, timeMs) => {
        ready.push({ workload, timeMs });
        const count = watch.pods.ready(workload);
        for (const change of scaling) {
          const isUp = change.workload === workload && change.to > change.from;
          if (isUp && change.to <= count) change.ready_after_ms ??= timeMs - change.timeMs;
        }
      },
      onLost: (error) => mark("note", "API server", `is not watched any more: ${(error as Error).message}`),
    },
    ended,
  );

  const usage = new PodUsage(cluster, "influxdb", ended);

  let pod: StartedPod | undefined;
  let following: Promise<void> | undefined;
  const follow = async (name: string) => {
    for await (const parsed of cluster.follow(name, parseRow, ended)) {
      const row: Row = {
        ...withoutGuesses(parsed.row, parsed.seen, (workload) => watch.pods.readyAddresses(workload)),
        producer_replicas_ready: watch.pods.ready("producer"),
        processor_replicas_ready: watch.pods.ready("processor"),
        producer_replicas_desired: watch.desired("producer"),
        processor_replicas_desired: watch.desired("processor"),
        influxdb_cpu_cores: usage.cores(),
        ...options.extra?.(),
      };
      if (!recorder.add(parsed.timeMs, row)) continue;
      sinceStart = parsed.sinceStart;
      for (const listener of rowListeners) listener(parsed.timeMs, row);
    }
  };

  let closing: Promise<Recording> | undefined;
  const close = () => {
    closing ??= (async () => {
      signal.removeEventListener("abort", onAbort);
      stopped.abort();
      await Promise.all([pod?.remove(), watch.close(), following]);
      recorder.recording.endedAtMs = Math.max(recorder.recording.endedAtMs, recorder.recording.timesMs.at(-1) ?? 0);
      return recorder.recording;
    })();
    return closing;
  };
  const onAbort = () => void close();
  signal.addEventListener("abort", onAbort, { once: true });

  try {
    const started = await startPod(cluster, observerPod(options), signal);
    pod = started;
    following = follow(started.name);
    await waitFor(
      async () =>
        recorder.recording.timesMs.length > 0
          ? { done: true, value: true }
          : { done: false, state: (await podLog(cluster, started.name, { lines: 3 })) || "no output yet" },
      { what: `the first row of pod ${started.name}`, limitMs: FIRST_ROW_LIMIT_MS, signal },
    );
  } catch (error) {
    await close();
    throw error;
  }
  const listen = <T>(set: Set<T>, listener: T) => {
    set.add(listener);
    return () => void set.delete(listener);
  };
  return {
    recording: recorder.recording,
    watch,
    get sinceStart() {
      return sinceStart;
    },
    ready,
    scaling,
    mark,
    onRow: (listener) => listen(rowListeners, listener),
    onMark: (listener) => listen(markListeners, listener),
    close,
  };
}
