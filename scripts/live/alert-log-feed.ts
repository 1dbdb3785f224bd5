/**
 * Alerts and log lines while a run goes on, for its live page: Prometheus and Loki are asked every few seconds. Both may
 * be what a drill breaks, so that an answer that does not come is asked for again, and never ends a run.
 */

import { pause } from "../cli/wait.ts";
import { logQl } from "../clients/log-search.ts";
import { LogStore, nsOfMs } from "../clients/loki.ts";
import { followPodLogs } from "../clients/pod-logs.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { LogLine } from "../recording/result.ts";
import type { FeedSource, LiveFeed } from "./live-feed.ts";
import type { LiveAlert } from "./live-state.ts";

/** Rules are evaluated every few seconds; the machine has other work than to answer this. */
const ASK_INTERVAL_MS = 3000;
/** A part that is being broken is back within that time, or a little later. */
const AGAIN_MS = 5000;
/** An answer takes milliseconds; a connection that died gives none. */
const ANSWER_LIMIT_MS = 4000;
/** A line is in Loki about a second after it was said; so far back is asked again, and what is known is left out. */
const OVERLAP_MS = 10_000;
/** More lines in three seconds are a flood, of which the newest tell enough. */
const MAX_LINES = 40;

const POD_LOOK_MS = 500;
/**
 * A follower is started anew when the pods have been the same for this long: it costs a second of a core, which a
 * pipeline that recovers needs itself. What was said meanwhile is read behind it.
 */
const SETTLED_MS = 4000;
const FOLLOW_BACK_MS = 20_000;

/** Somewhere to ask, opened anew after a failure. */
export interface Source<T> {
  ask(signal: AbortSignal): Promise<T>;
  close(): Promise<void>;
}

/**
 * Asks again and again until the signal, one question at a time.
 * @param open gives nothing where there is nothing to ask: then it ends.
 */
export async function pollUntilAnswered<T>(
  open: () => Promise<Source<T> | undefined>,
  tell: (answer: T) => void,
  signal: AbortSignal,
  intervals = { askMs: ASK_INTERVAL_MS, againMs: AGAIN_MS, limitMs: ANSWER_LIMIT_MS },
): Promise<void> {
  let source: Source<T> | undefined;
  try {
    while (!signal.aborted) {
      let nextMs = intervals.askMs;
      try {
        source ??= await open();
        if (!source) return;
        const answer = await source.ask(AbortSignal.any([signal, AbortSignal.timeout(intervals.limitMs)]));
        if (!signal.aborted) tell(answer);
      } catch {
        // Away, as things are while drills run: a new connection, a little later.
        await source?.close().catch(() => {});
        source = undefined;
        nextMs = intervals.againMs;
      }
      await pause(nextMs, signal).catch(() => {});
    }
  } finally {
    await source?.close().catch(() => {});
  }
}

/** Alerts as a page shows them; the one that always fires, to show that alerting works, is none. */
async function alertSource(cluster: Cluster): Promise<Source<LiveAlert[]> | undefined> {
  if (!(await PrometheusReader.isThere(cluster))) return undefined;
  const reader = await PrometheusReader.open(cluster);
  return {
    async ask(signal) {
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
  if (!(await LogStore.isThere(cluster))) return undefined;
  const store = await LogStore.open(cluster);
  const query = logQl({ services: [], levels: ["error", "warn"] });
  let fromMs = sinceMs;
  return {
    async ask(signal) {
      const nowMs = Date.now();
      const range = { startNs: nsOfMs(fromMs), endNs: nsOfMs(nowMs) };
      const entries = await store.newest(query, range, MAX_LINES, signal);
      fromMs = Math.max(sinceMs, nowMs - OVERLAP_MS);
      return entries.map(({ timeNs, pod, line }) => ({ timeMs: Number(timeNs.slice(0, -6)), pod, line }));
    },
    close: () => store.close(),
  };
}

/**
 * Calls `follow` again and again, since what it follows is the pods that were there when it began: anew whenever those
 * are others, and when it ended by itself.
 * @param pods names of the pods that are there, as one text.
 */
export async function followAnew(
  follow: (signal: AbortSignal) => Promise<void>,
  pods: () => string,
  signal: AbortSignal,
  intervals = { lookMs: POD_LOOK_MS, settledMs: SETTLED_MS },
): Promise<void> {
  while (!signal.aborted) {
    const changed = new AbortController();
    const known = pods();
    const end = AbortSignal.any([signal, changed.signal]);
    const following = follow(end)
      .catch(() => {})
      .finally(() => changed.abort());
    while (!end.aborted && pods() === known) await pause(intervals.lookMs, end).catch(() => {});
    for (let last = "", sinceMs = performance.now(); !signal.aborted; ) {
      const now = pods();
      if (now !== last) sinceMs = performance.now();
      last = now;
      if (performance.now() - sinceMs >= intervals.settledMs) break;
      await pause(intervals.lookMs, signal).catch(() => {});
    }
    changed.abort();
    await following;
  }
}

/** Where there is no Loki: the pods themselves, followed. */
async function followPods(cluster: Cluster, feed: LiveFeed, source: FeedSource, signal: AbortSignal): Promise<void> {
  if (await LogStore.isThere(cluster)) return;
  const pods = () =>
    source
      .pods()
      .map(({ name, restarts }) => `${name} ${restarts}`)
      .sort()
      .join();
  await followAnew(
    async (until) => {
      for await (const { level, timeNs, pod, line } of followPodLogs(cluster, FOLLOW_BACK_MS, until)) {
        if (level === "error" || level === "warn") feed.lines([{ timeMs: Number(timeNs.slice(0, -6)), pod, line }]);
      }
    },
    pods,
    signal,
  );
}

/** Tells the feed until the signal. Never throws. */
export async function watchAlertsAndLogs(
  cluster: Cluster,
  feed: LiveFeed,
  source: FeedSource,
  signal: AbortSignal,
): Promise<void> {
  const sinceMs = Date.now();
  await Promise.allSettled([
    followPods(cluster, feed, source, signal),
    pollUntilAnswered(
      () => alertSource(cluster),
      (alerts) => feed.alerts(alerts),
      signal,
    ),
    pollUntilAnswered(
      () => lineSource(cluster, sinceMs),
      (lines) => feed.lines(lines),
      signal,
    ),
  ]);
}
