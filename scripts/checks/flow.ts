/**
 * End-to-end checks: acknowledged events are stored exactly once, latency, invalid events reach the dead-letter topic
 * with their reason, the live fleet's events flow.
 */
import { randomBytes } from "node:crypto";
import { exampleEvent } from "../../services/domain/event.ts";
import { valuesChecksum } from "../../services/domain/point.ts";
import { pause, waitFor } from "../cli/wait.ts";
import type { StoredRun } from "../clients/influxdb.ts";
import {
  counterGain,
  histogramGain,
  type PodSamples,
  podsGoneSince,
  quantile,
  scrape,
} from "../clients/pod-metrics.ts";
import { KAFKA, type ProbeSession } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { ingest } from "../ingest/ingest.ts";
import { type Check, type CheckOutcome, failed, passed, skipped } from "./checklist.ts";
import { readRefusal } from "./influxdb.ts";
import { isDenied } from "./kafka.ts";

/** Enough to detect a loss of one in a thousand, few enough for a check of seconds. */
const CHECK_EVENTS = 2000;
/** Conveyors of the check: always the same, so that the number of series stays bounded. */
const CHECK_CONVEYORS = Array.from({ length: 4 }, (_, index) => `check-${index}`);
/** The pace of live traffic: a burst would measure another latency. */
const CHECK_EVENTS_PER_SECOND = 400;
/** Batches of events per second. */
const SLICES_PER_SECOND = 20;
/** Invalid events of the check, with the expected reasons. */
const CHECK_BAD_EVENTS = [
  { line: "{not json", reason: "malformed_json" },
  { line: '{"v":99,"conveyor":"check-0","run":"check","seq":0,"ts":1764038400000}', reason: "wrong_version" },
] as const;
/** Limit between the acknowledgement of an event and its storage. */
const STORE_LIMIT_MS = 30_000;
/** The processor counts a write when InfluxDB's response arrives; on a busy machine that is some polls later. */
const MEASURE_LIMIT_MS = 10_000;
const MEASURE_POLL_MS = 500;
/** A higher end-to-end p99 is a violation; a healthy pipeline stays well below a second. */
const E2E_P99_LIMIT_SECONDS = 5;

const E2E_HISTOGRAM = "conveyor_e2e_latency_seconds";

const END_TO_END_NEEDS = ["kafka-ready", "influxdb-ready", "processor-ready", "topics", "acls", "network-allowed"];

/** What every event of the check says. */
const CHECK_VALUES = valuesChecksum(exampleEvent({ conveyor: CHECK_CONVEYORS[0]!, run: "check", seq: 0, ts: 0 }));

/** The events of one check as NDJSON, at a steady pace and with the current time. */
async function* pacedEvents(run: string, count: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  const perSlice = CHECK_EVENTS_PER_SECOND / SLICES_PER_SECOND;
  const startedAt = performance.now();
  for (let sent = 0, slice = 1; sent < count; slice++) {
    const lines: string[] = [];
    const ts = Date.now();
    for (; lines.length < perSlice && sent < count; sent++) {
      lines.push(
        JSON.stringify(
          exampleEvent({
            conveyor: CHECK_CONVEYORS[sent % CHECK_CONVEYORS.length]!,
            run,
            seq: Math.floor(sent / CHECK_CONVEYORS.length),
            ts,
          }),
        ),
      );
    }
    yield encoder.encode(`${lines.join("\n")}\n`);
    const nextAt = startedAt + (slice * 1000) / SLICES_PER_SECOND;
    await pause(Math.max(0, nextAt - performance.now()), signal);
  }
  yield encoder.encode(CHECK_BAD_EVENTS.map(({ line }) => `${line}\n`).join(""));
}

/**
 * Latencies that the processors have measured since a sample: those of all events of the check, or fewer when the limit
 * passes or a processor has ended and its metrics are lost. A point can be read shortly before its processor counts it.
 */
async function measuredSince(before: PodSamples, cluster: Cluster, signal: AbortSignal) {
  const limit = performance.now() + MEASURE_LIMIT_MS;
  for (;;) {
    const after = await scrape(cluster, "processor", signal);
    const latency = histogramGain(before, after, E2E_HISTOGRAM);
    const gone = podsGoneSince(before, after);
    if (latency.count >= CHECK_EVENTS || gone.length > 0 || performance.now() > limit) return { latency, gone };
    await pause(MEASURE_POLL_MS, signal);
  }
}

/** Whether the database holds the acknowledged events of a check: each once, and with its values. */
export function judgeStored(run: string, { points, duplicates, sequences, values }: StoredRun): CheckOutcome {
  const missing: string[] = [];
  for (let index = 0; index < CHECK_EVENTS; index++) {
    const conveyor = CHECK_CONVEYORS[index % CHECK_CONVEYORS.length]!;
    const seq = Math.floor(index / CHECK_CONVEYORS.length);
    if (!sequences.get(conveyor)?.has(seq)) missing.push(`${conveyor}/${seq}`);
  }
  const data = { run, acknowledged: CHECK_EVENTS, stored: points, duplicates };
  if (missing.length > 0)
    return failed(`missing: ${missing.slice(0, 5).join(", ")} (${missing.length} in total)`, data);
  if (points !== CHECK_EVENTS) return failed(`${points} points for ${CHECK_EVENTS} events`, data);
  const areEqual = [...values].every((checksum) => checksum === CHECK_VALUES);
  return areEqual
    ? passed(`${CHECK_EVENTS} acknowledged = ${points} stored, 0 missing, 0 duplicates`, data)
    : failed("a stored point says something else than its event", data);
}

/** Results of the end-to-end check, for the checks that depend on it. */
interface FlowFigures {
  run: string;
  startMs: number;
  latency: { count: number; p50: number; p99: number; gone: readonly string[] };
}
const figures = new WeakMap<ProbeSession, FlowFigures>();

const endToEnd: Check<ProbeSession> = {
  id: "end-to-end",
  title: "events acknowledged = events stored, by identity",
  needs: END_TO_END_NEEDS,
  limitMs: 120_000,
  async run(context, signal) {
    const { cluster, image } = context;
    const refusal = await readRefusal(context);
    if (refusal) return skipped(`what is stored cannot be compared: ${refusal}`);
    const run = `check-${randomBytes(6).toString("hex")}`;
    const startMs = Date.now() - 1000;
    const before = await scrape(cluster, "processor", signal);
    const outcomes = await ingest(cluster, pacedEvents(run, CHECK_EVENTS, signal), { image, signal, runId: run });
    if (outcomes.acknowledged !== CHECK_EVENTS) {
      return failed(`${outcomes.acknowledged} of ${CHECK_EVENTS} events were acknowledged`, { account: outcomes });
    }
    const store = await context.store();
    const stored = await waitFor(
      async () => {
        const found = await store.run(run, startMs, Date.now() + 1000, { conveyors: CHECK_CONVEYORS });
        return found.points >= CHECK_EVENTS
          ? { done: true, value: found }
          : { done: false, state: `${found.points} of ${CHECK_EVENTS} stored` };
      },
      { what: "every acknowledged event in InfluxDB", limitMs: STORE_LIMIT_MS, intervalMs: 500, signal },
    );
    const { latency, gone } = await measuredSince(before, cluster, signal);
    figures.set(context, {
      run,
      startMs,
      latency: { count: latency.count, p50: quantile(latency, 0.5), p99: quantile(latency, 0.99), gone },
    });
    return judgeStored(run, stored);
  },
};

const latency: Check<ProbeSession> = {
  id: "latency",
  title: "end-to-end latency (event time to stored)",
  needs: ["end-to-end"],
  limitMs: 5000,
  async run(context) {
    const found = figures.get(context)?.latency;
    if (!found) return skipped("end-to-end was skipped");
    const left = found.gone.length > 0 ? `; ${found.gone.join(", ")} ended meanwhile, its metrics are lost` : "";
    // Where a processor ended, part of the events is sufficient; none is not.
    if (found.count < (found.gone.length > 0 ? 1 : CHECK_EVENTS)) {
      return failed(`the processors measured ${found.count} events, fewer than the ${CHECK_EVENTS} they stored${left}`);
    }
    const ms = (seconds: number) => `${Math.round(seconds * 1000)} ms`;
    const detail = `p50 ${ms(found.p50)}, p99 ${ms(found.p99)} over ${found.count} events${left}`;
    const data = { p50_seconds: found.p50, p99_seconds: found.p99, events: found.count };
    return found.p99 <= E2E_P99_LIMIT_SECONDS
      ? passed(detail, data)
      : failed(`${detail}; at most ${E2E_P99_LIMIT_SECONDS} s`, data);
  },
};

const deadLetters: Check<ProbeSession> = {
  id: "dead-letters",
  title: "invalid events are dead-lettered with their reason",
  needs: ["end-to-end"],
  limitMs: 60_000,
  async run(context) {
    const flow = figures.get(context);
    if (!flow) return skipped("end-to-end was skipped");
    const { run, startMs } = flow;
    // Read from the topic by the administrator: the producer's own report is not evidence.
    const { result } = await context.probeFrom("admin", {
      result: { kind: "dlq_read", ...KAFKA, from_timestamp_ms: startMs },
    });
    if (!result.ok && (await context.stores()).kafka && isDenied(result.outcome)) {
      return skipped(`the user may not read the dead-letter topic (${result.outcome})`);
    }
    if (!result.ok) return failed(`the dead-letter topic cannot be read: ${result.outcome} ${result.detail}`);
    const reasons = result.data
      .filter(({ headers }) => headers.run === run)
      .map(({ headers }) => headers.reason ?? "none");
    const wanted = CHECK_BAD_EVENTS.map(({ reason }) => reason);
    return reasons.sort().join() === [...wanted].sort().join()
      ? passed(`${reasons.length} of ${wanted.length}: ${reasons.join(", ")}`)
      : failed(`expected ${wanted.join(", ")}; found ${reasons.join(", ") || "none"}`);
  },
};

/** Interval between two samples of the counters; the fleet sends many events per second. */
const FLEET_INTERVAL_MS = 2000;

const liveFleet: Check<ProbeSession> = {
  id: "live-flow",
  title: "events of the producer's fleet reach the database",
  needs: [...END_TO_END_NEEDS, "producer-ready"],
  limitMs: 30_000,
  async run({ cluster }, signal) {
    const sample = async () => {
      const [producers, processors] = await Promise.all([
        scrape(cluster, "producer", signal),
        scrape(cluster, "processor", signal),
      ]);
      return { producers, processors, at: performance.now() };
    };
    const first = await sample();
    await pause(FLEET_INTERVAL_MS, signal);
    const second = await sample();
    const perSecond = (workload: "producers" | "processors", counter: string) =>
      (counterGain(first[workload], second[workload], counter) * 1000) / (second.at - first.at);
    const acknowledged = perSecond("producers", "conveyor_producer_events_acknowledged_total");
    const written = perSecond("processors", "conveyor_processor_points_written_total");
    const detail = `${acknowledged.toFixed(0)} events/s acknowledged, ${written.toFixed(0)} points/s written`;
    const data = { acknowledged_per_second: acknowledged, written_per_second: written };
    return acknowledged > 0 && written > 0 ? passed(detail, data) : failed(detail, data);
  },
};

export const FLOW_CHECKS = [endToEnd, latency, deadLetters, liveFleet];
