/**
 * Alerts and log lines during a run, written into its record: Prometheus and the log store are polled. Drills may break both, so a
 * missing answer is retried and never ends a run.
 */
import { pause } from "../cli/wait.ts";
import { nsOfMs } from "../clients/log-backend.ts";
import { deployedLogBackend, openLogStore } from "../clients/log-store.ts";
import { followPodLogs } from "../clients/pod-logs.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { RepeatedLines } from "../recording/repeated-lines.ts";
import type { LogLine } from "../recording/result.ts";
import type { AlertStatus, RunRecord } from "../recording/run-record.ts";

/** Rules are evaluated every few seconds; polling more often only loads the machine. */
const POLL_INTERVAL_MS = 3000;
/** A broken part is back within this time or a little later. */
const RETRY_MS = 5000;
/** An answer takes milliseconds; a dead connection returns none. */
const ANSWER_LIMIT_MS = 4000;
/** A line is in the store up to twelve seconds after it was written; the overlap is queried again, known lines are skipped. */
const OVERLAP_MS = 20_000;
/** More lines in three seconds are a flood; the newest suffice. */
const MAX_LINES = 40;
/** Known lines of some minutes, also in a flood; older ones are not queried again. */
const MAX_KNOWN_LINES = 5000;

const POD_POLL_MS = 500;
/**
 * A follower is restarted when the pods have been the same for this long: a start costs a second of a core, which a
 * recovering pipeline needs itself. Lines of the meantime are read afterwards.
 */
const SETTLED_MS = 4000;
const FOLLOW_BACK_MS = 20_000;

/** A connection that can be queried, opened again after a failure. */
export interface Source<T> {
  query(signal: AbortSignal): Promise<T>;
  close(): Promise<void>;
}

/**
 * Polls a source until the signal, one query at a time.
 * @param open returns undefined when there is nothing to query; the polling then ends.
 */
export async function poll<T>(
  open: () => Promise<Source<T> | undefined>,
  onAnswer: (answer: T) => void,
  signal: AbortSignal,
  intervals = { pollMs: POLL_INTERVAL_MS, retryMs: RETRY_MS, limitMs: ANSWER_LIMIT_MS },
): Promise<void> {
  let source: Source<T> | undefined;
  try {
    while (!signal.aborted) {
      let nextMs = intervals.pollMs;
      try {
        source ??= await open();
        if (!source) return;
        const answer = await source.query(AbortSignal.any([signal, AbortSignal.timeout(intervals.limitMs)]));
        if (!signal.aborted) onAnswer(answer);
      } catch {
        // Expected during drills: a new connection, a little later.
        await source?.close().catch(() => {});
        source = undefined;
        nextMs = intervals.retryMs;
      }
      await pause(nextMs, signal).catch(() => {});
    }
  } finally {
    await source?.close().catch(() => {});
  }
}

/** Pending and firing alerts, each once, without the one that always fires. */
async function alertSource(cluster: Cluster): Promise<Source<AlertStatus[]> | undefined> {
  if (!(await PrometheusReader.isDeployed(cluster))) return undefined;
  const reader = await PrometheusReader.open(cluster);
  return {
    async query(signal) {
      const alerts = await reader.alerts(signal);
      return alerts
        .map(({ labels, state }) => ({ name: labels.alertname ?? "", severity: labels.severity ?? "", state }))
        .filter(({ name }) => name !== "Watchdog")
        .filter(
          (alert, index, all) =>
            all.findIndex(({ name, state }) => name === alert.name && state === alert.state) === index,
        );
    },
    close: () => reader.close(),
  };
}

async function lineSource(cluster: Cluster, sinceMs: number): Promise<Source<LogLine[]> | undefined> {
  if (!(await deployedLogBackend(cluster))) return undefined;
  const store = await openLogStore(cluster);
  const search = { services: [], levels: ["error", "warn"] } as const;
  let fromMs = sinceMs;
  return {
    async query(signal) {
      const nowMs = Date.now();
      const range = { startNs: nsOfMs(fromMs), endNs: nsOfMs(nowMs) };
      const entries = await store.newest(search, range, MAX_LINES, signal);
      fromMs = Math.max(sinceMs, nowMs - OVERLAP_MS);
      return entries.map(({ timeNs, pod, line }) => ({ timeMs: Number(timeNs.slice(0, -6)), pod, line }));
    },
    close: () => store.close(),
  };
}

/**
 * Calls `follow` repeatedly, since a follower only reads pods that exist when it starts: when the pods have changed, and
 * when it ended by itself.
 * @param pods names of the present pods, as one text.
 */
export async function followPresentPods(
  follow: (signal: AbortSignal) => Promise<void>,
  pods: () => string,
  signal: AbortSignal,
  intervals = { pollMs: POD_POLL_MS, settledMs: SETTLED_MS },
): Promise<void> {
  while (!signal.aborted) {
    const changed = new AbortController();
    const known = pods();
    const end = AbortSignal.any([signal, changed.signal]);
    const following = follow(end)
      .catch(() => {})
      .finally(() => changed.abort());
    while (!end.aborted && pods() === known) await pause(intervals.pollMs, end).catch(() => {});
    for (let last = "", sinceMs = performance.now(); !signal.aborted; ) {
      const now = pods();
      if (now !== last) sinceMs = performance.now();
      last = now;
      if (performance.now() - sinceMs >= intervals.settledMs) break;
      await pause(intervals.pollMs, signal).catch(() => {});
    }
    changed.abort();
    await following;
  }
}

type Recorder = Pick<RunRecord, "append" | "onEntry">;

/** Appends alerts to a record when they have changed. */
export function alertAppender(record: Recorder): (alerts: readonly AlertStatus[]) => void {
  let known = "";
  return (alerts) => {
    const text = JSON.stringify(alerts);
    if (text === known) return;
    known = text;
    record.append({ timeMs: Date.now(), alerts });
  };
}

/** Appends log lines to a record, each once, and at most two that differ only in their numbers per pod and drill. */
export function lineAppender(record: Recorder): (lines: readonly LogLine[]) => void {
  const keyOf = ({ timeMs, pod, line }: LogLine) => `${timeMs} ${pod} ${line}`;
  const known = new Set<string>();
  const repeated = new RepeatedLines();
  record.onEntry(({ drill }) => drill && repeated.clear());
  return (lines) => {
    const linesAdded = lines.filter((line) => !known.has(keyOf(line)) && repeated.accepts(line));
    for (const line of linesAdded) known.add(keyOf(line));
    for (const key of known) {
      if (known.size <= MAX_KNOWN_LINES) break;
      known.delete(key);
    }
    if (linesAdded.length > 0) record.append({ timeMs: Date.now(), linesAdded });
  };
}

/** On a cluster without a log store: the logs of the pods that the record names. */
async function followPods(
  cluster: Cluster,
  record: Recorder,
  append: (lines: readonly LogLine[]) => void,
  signal: AbortSignal,
): Promise<void> {
  let pods = "";
  const end = record.onEntry((entry) => {
    pods = entry.pods?.map(({ name, restarts }) => `${name} ${restarts}`).join() ?? pods;
  });
  if (await deployedLogBackend(cluster)) return end();
  await followPresentPods(
    async (until) => {
      for await (const { level, timeNs, pod, line } of followPodLogs(cluster, FOLLOW_BACK_MS, until)) {
        if (level === "error" || level === "warn") append([{ timeMs: Number(timeNs.slice(0, -6)), pod, line }]);
      }
    },
    () => pods,
    signal,
  ).finally(end);
}

/** Writes alerts and log lines into the record until the signal. Never throws. */
export async function watchAlertsAndLogs(cluster: Cluster, record: Recorder, signal: AbortSignal): Promise<void> {
  const sinceMs = Date.now();
  const appendLines = lineAppender(record);
  await Promise.allSettled([
    followPods(cluster, record, appendLines, signal),
    poll(() => alertSource(cluster), alertAppender(record), signal),
    poll(() => lineSource(cluster, sinceMs), appendLines, signal),
  ]);
}
