/**
 * Observes the pipeline during a run: measurements of the observer pod (services/tools/observer.ts), and pods and replica
 * counts from watches of the API server, combined into one recording.
 */
import type { LoadEvents } from "../../services/protocol/load-generator.ts";
import { type NewestEvents, type ObserverRow, parseObserverLine } from "../../services/protocol/observer.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { definedOnly, type ExternalStores, influxdbAccess, readExternalStores } from "../cluster/external-stores.ts";
import { type OneOffPod, podLog, type StartedPod, startPod } from "../cluster/one-off-pods.ts";
import { ClusterWatch, type PodState, WATCHED, type Watched } from "./cluster-watch.ts";
import { PodUsage } from "./pod-usage.ts";
import { type Mark, type MarkKind, type Recording, RecordingBuilder, type Row, type SeriesName } from "./recording.ts";
import { SCALED_WORKLOADS, type ScaledWorkload, type ScalingEvent } from "./result.ts";
import type { PodStatus, RunRecord } from "./run-record.ts";

/** The first row takes two ticks; a busy machine and a slow first answer take some seconds more. */
const FIRST_ROW_LIMIT_MS = 20_000;
/** Fine enough for an outage of a second; a query costs InfluxDB some milliseconds. */
const SAMPLE_INTERVAL_MS = 250;

export interface ObserverOptions {
  /** Milliseconds between two rows; from 250. */
  tickMs: number;
  /** The deployed services' image. */
  image: string;
  /** Label of the pod: the run's folder. */
  run?: string;
  /** The planned length of the run and some more: the kubelet ends the pod of a killed command then. */
  lifetimeSeconds: number;
  /** Conveyors whose newest stored event is sampled four times a second. */
  newestOf?: readonly string[];
  /** Version of their events; v1 when absent. */
  newestEvents?: LoadEvents;
  /** Series of the host, read at each row: for example the offered rate of a load generator. */
  extra?: () => Row;
}

/** The pod that runs services/tools/observer.ts. */
function observerPod(options: ObserverOptions, { influxdb }: ExternalStores): OneOffPod {
  const { newestOf = [], newestEvents = "v1" } = options;
  const access = influxdb && influxdbAccess(influxdb);
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
      INFLUX_URL: `https://influxdb.${NAMESPACE}.svc:8086`,
      INFLUX_CA: "/certs/ca.crt",
      ...(access ? definedOnly(access.environment) : {}),
      PODS_CA: "/certs/ca.crt",
      INFLUX_TOKEN_FILE: "/secrets/influxdb-token-reader/token",
      ...(newestOf.length > 0
        ? {
            NEWEST_OF: newestOf.join(","),
            NEWEST_EVENTS: newestEvents,
            NEWEST_EVERY_MS: String(SAMPLE_INTERVAL_MS),
          }
        : {}),
    },
    // Only the CA of the certificate: the pod needs no identity.
    secrets: {
      "processor-tls": { folder: "/certs", keys: ["ca.crt"] },
      ...access?.secrets,
      "influxdb-token-reader": { folder: "/secrets/influxdb-token-reader", keys: ["token"] },
    },
    lifetimeSeconds: options.lifetimeSeconds,
  };
}

/** Series that are sums over all pods of a workload; a quantile over some of them is a sample, and stays. */
const SUMS: Readonly<Record<ScaledWorkload, readonly SeriesName[]>> = {
  producer: ["acknowledged_events_per_second", "producer_cpu_cores", "producer_memory_mebibytes"],
  processor: ["stored_events_per_second", "processor_cpu_cores", "processor_memory_mebibytes"],
};

/**
 * The row without incomplete sums: the observer pod learns of new pods from the name server, up to 5 s late, and a sum
 * over some of the pods is no sum.
 * @param ready addresses of the pods that are Ready according to the API server
 */
export function withoutPartialSums(
  row: Row,
  seen: ObserverRow["seen"],
  ready: (workload: ScaledWorkload) => readonly string[],
): Row {
  const known: Row = { ...row };
  for (const workload of SCALED_WORKLOADS) {
    const isComplete = ready(workload).every((address) => seen[workload].includes(address));
    if (!isComplete) for (const name of SUMS[workload]) known[name] = null;
  }
  return known;
}

/** Listeners of one kind of event. */
class Listeners<Args extends unknown[]> {
  readonly #listeners = new Set<(...args: Args) => void>();

  /** @returns a function that removes the listener. */
  readonly add = (listener: (...args: Args) => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  notify(...args: Args): void {
    for (const listener of this.#listeners) listener(...args);
  }
}

export class Observer {
  readonly watch: ClusterWatch;
  /** Pods that became Ready so far. */
  readonly ready: { workload: Watched; timeMs: number }[] = [];
  /** Replica counts that changed so far, and when the new pods were Ready. */
  readonly scaling: (ScalingEvent & { ready_after_ms?: number })[] = [];
  /** Latencies of all events stored since the start. */
  sinceStart: ObserverRow["since_start"] = { e2e_p50_ms: null, e2e_p99_ms: null };

  readonly #builder = new RecordingBuilder(Date.now());
  readonly #rows = new Listeners<[timeMs: number, row: Row]>();
  readonly #marks = new Listeners<[mark: Mark]>();
  readonly #newest = new Listeners<[newest: NewestEvents]>();
  readonly #closed = new AbortController();
  readonly #usage: PodUsage;
  #pod: StartedPod | undefined;
  #following: Promise<void> | undefined;
  #closing: Promise<Recording> | undefined;

  private constructor(
    private readonly cluster: Cluster,
    private readonly options: ObserverOptions,
    signal: AbortSignal,
  ) {
    const ended = AbortSignal.any([signal, this.#closed.signal]);
    this.#usage = new PodUsage(cluster, "influxdb", ended);
    this.watch = new ClusterWatch(
      cluster,
      {
        onMark: (...mark) => this.mark(...mark),
        onScale: (change) => this.scaling.push(change),
        onReady: ({ workload }, timeMs) => this.#podReady(workload, timeMs),
        onLost: (error) => this.mark("note", "API server", `the watch ended: ${(error as Error).message}`),
      },
      ended,
    );
    signal.addEventListener("abort", () => void this.close(), { once: true });
  }

  /**
   * Starts the pod and the watches. The caller closes the observer; an interrupt closes it too.
   * @throws OperatorError when the pod does not start or prints no row
   */
  static async start(cluster: Cluster, options: ObserverOptions, signal: AbortSignal): Promise<Observer> {
    const observer = new Observer(cluster, options, signal);
    try {
      await observer.watch.synced;
      await observer.#startPod(signal);
      return observer;
    } catch (error) {
      await observer.close();
      throw error;
    }
  }

  /** Grows while the observer runs. */
  get recording(): Recording {
    return this.#builder.recording;
  }

  mark(kind: MarkKind, subject: string, text: string, timeMs = Date.now()): void {
    const mark: Mark = { timeMs, kind, subject, text };
    this.#builder.mark(mark);
    this.#marks.notify(mark);
  }

  readonly onRow = this.#rows.add;
  readonly onMark = this.#marks.add;
  readonly onNewest = this.#newest.add;

  /** Deletes the pod and ends the watches; idempotent. */
  close(): Promise<Recording> {
    this.#closing ??= (async () => {
      this.#closed.abort();
      await Promise.all([this.#pod?.remove(), this.watch.close(), this.#following]);
      return this.recording;
    })();
    return this.#closing;
  }

  async #startPod(signal: AbortSignal): Promise<void> {
    const stores = await readExternalStores(this.cluster);
    const pod = await startPod(this.cluster, observerPod(this.options, stores), signal);
    this.#pod = pod;
    this.#following = this.#follow(pod.name);
    const { newestOf = [] } = this.options;
    let hasNewest = newestOf.length === 0;
    const end = this.onNewest(() => {
      hasNewest = true;
    });
    await waitFor(
      async () =>
        this.recording.timesMs.length > 0 && hasNewest
          ? { done: true, value: true }
          : { done: false, state: (await podLog(this.cluster, pod.name, { lines: 3 })) || "no output yet" },
      { what: `the first row of pod ${pod.name}`, limitMs: FIRST_ROW_LIMIT_MS, signal },
    ).finally(end);
  }

  async #follow(pod: string): Promise<void> {
    for await (const line of this.cluster.follow(pod, parseObserverLine, this.#closed.signal)) {
      if ("row" in line) this.#addRow(line);
      else this.#newest.notify(line);
    }
  }

  #addRow({ t, row: measured, since_start, seen }: ObserverRow): void {
    const { pods } = this.watch;
    const row: Row = {
      ...withoutPartialSums(measured, seen, (workload) => pods.readyAddresses(workload)),
      producer_replicas_ready: pods.ready("producer"),
      processor_replicas_ready: pods.ready("processor"),
      producer_replicas_desired: this.watch.desired("producer"),
      processor_replicas_desired: this.watch.desired("processor"),
      influxdb_cpu_cores: this.#usage.cores(),
      ...this.options.extra?.(),
    };
    if (!this.#builder.add(t, row)) return;
    this.sinceStart = since_start;
    this.#rows.notify(t, row);
  }

  #podReady(workload: Watched, timeMs: number): void {
    this.ready.push({ workload, timeMs });
    const count = this.watch.pods.ready(workload);
    for (const change of this.scaling) {
      const isUp = change.workload === workload && change.to > change.from;
      if (isUp && change.to <= count) change.ready_after_ms ??= timeMs - change.timeMs;
    }
  }
}

const statusOf = ({ name, workload, ready, ending, restarts }: PodState): PodStatus => ({
  name,
  workload,
  state: ending ? "ending" : ready ? "ready" : "not ready",
  restarts,
});

const order = (pod: PodStatus) => `${String(WATCHED.indexOf(pod.workload as never)).padStart(2, "0")} ${pod.name}`;

/** An observer as the record needs it. */
export interface ObservationSource {
  onRow: Observer["onRow"];
  onMark: Observer["onMark"];
  pods(): readonly PodState[];
}

/**
 * Writes an observer's rows and marks, and the pods when they have changed, into a record.
 * @returns a function that ends it.
 */
export function recordObservations(source: ObservationSource, record: Pick<RunRecord, "append">): () => void {
  let known = "";
  const recordPods = (timeMs: number) => {
    const pods = source
      .pods()
      .map(statusOf)
      .toSorted((a, b) => order(a).localeCompare(order(b)));
    const text = JSON.stringify(pods);
    if (text === known) return;
    known = text;
    record.append({ timeMs, pods });
  };
  const ends = [
    source.onRow((timeMs, row) => {
      recordPods(timeMs);
      record.append({ timeMs, row });
    }),
    source.onMark((mark) => {
      record.append({ timeMs: Date.now(), marksAdded: [mark] });
      // The next row would report a changed pod up to a tick late.
      recordPods(Date.now());
    }),
  ];
  return () => {
    for (const end of ends) end();
  };
}
