/**
 * One load test from beginning to end: watch, load, wait until the pipeline is calm again, count by identity, judge.
 * Whatever happens, what was started is taken away, and what was seen is kept.
 */
import { type LoadStage, totalSeconds } from "../../services/domain/load-stages.ts";
import type { ConveyorLedger } from "../../services/protocol/load-generator.ts";
import { auditRuns } from "../audit/audit-runs.ts";
import type { OutcomeRecord } from "../audit/history.ts";
import { INVARIANT_TITLES, type InvariantId } from "../audit/verdict.ts";
import { isAbort, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { pause } from "../cli/wait.ts";
import { TelemetryStore } from "../clients/influxdb.ts";
import { KAFKA, ProbeSession, readBy } from "../clients/probe-session.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { Observer } from "../recording/observer.ts";
import type { Row } from "../recording/recording.ts";
import {
  type Ledger,
  type LoadAudit,
  type LoadTestResult,
  type RunFacts,
  SCALED_WORKLOADS,
  type ScaledWorkload,
} from "../recording/result.ts";
import { runFacts } from "../recording/run-facts.ts";
import type { RunFolder } from "../recording/run-folder.ts";
import { type Autoscalers, readAutoscalers } from "../recording/scaling-limits.ts";
import { FoundSequences, loadLedger, missingOf } from "./load-ledger.ts";
import {
  bestMean,
  largest,
  memoryGrowth,
  type ReadyEvent,
  rebalanceGap,
  rebalanceLatency,
  replicasEnd,
  timeToScale,
} from "./load-measures.ts";
import { type LoadOutcomes, LoadPod, noOutcomes } from "./load-pod.ts";
import { checkLimit, type Limit, METRICS, type Measured, type MetricName } from "./thresholds.ts";

const TICK_MS = 1000;
/** Rows before the load: what "calm" looks like on this cluster now. */
const BASELINE_MS = 5000;
/** The lag is back when it was so for this many rows in a row. */
const CALM_ROWS = 3;
/** A lag that stays below so much is no backlog: a commit interval's worth of a small load. */
const CALM_LAG_EVENTS = 500;
/** A backlog as large as a stage can make is worked off within minutes; beyond that the test says that it was not. */
const LAG_LIMIT_MS = 180_000;
/** Down by half each 30 s after a minute, from six: 100 s and an autoscaler's own beat. */
const REPLICAS_LIMIT_MS = 300_000;
/** Rows after the replicas are back: the last rebalance is part of the story. */
const AFTER_MS = 3000;
/** Stored and committed may lie a moment apart. */
const STORED_LIMIT_MS = 30_000;
/** An interrupted run is counted once, quickly. */
const STORED_LIMIT_INTERRUPTED_MS = 5000;
/** A mean over so many rows is a rate that was held. */
const HELD_ROWS = 10;
/** Enough for all partitions and processors to have work, few enough for the database's series. */
const CONVEYORS = 60;

export interface LoadRunOptions {
  cluster: Cluster;
  image: string;
  folder: RunFolder;
  profile: string;
  stages: readonly LoadStage[];
  limits: readonly Limit[];
  /** Wait until the autoscalers are back at their minimum. */
  awaitMinimum: boolean;
  /** Audit every event from Kafka to the database too: half a minute for a million. */
  audit: boolean;
  report: Report;
  signal: AbortSignal;
  /** Told of each row, for a live display. */
  onProgress?: (progress: Progress) => void;
  /** Told when there is no more progress to show. */
  onPhaseEnd?: () => void;
}

/** Where a run is, for a person who watches. */
export interface Progress {
  phase: "baseline" | "load" | "lag" | "replicas";
  elapsedMs: number;
  totalMs: number;
  stage: { index: number; stage: LoadStage } | undefined;
  row: Row;
}

interface Seen {
  outcomes: LoadOutcomes;
  loadStartMs: number;
  /** When the last stage ended. */
  loadEndMs: number;
  baselineLag: number;
  sinceStart: Observer["sinceStart"];
  lagSettleSeconds: number | null;
  backToMinimumSeconds: number | null;
}

/** Runs the test. @returns the result, judged; also after an interrupt, with what there is. */
export async function runLoadTest(options: LoadRunOptions): Promise<LoadTestResult> {
  const { cluster, folder, report, signal, stages } = options;
  const startedAtMs = Date.now();
  const facts = await runFacts(cluster, { id: folder.id, kind: "load-test", startedAtMs });
  const autoscalers = await readAutoscalers(cluster);
  const conveyorPrefix = `load-${folder.id.replace("-load-test", "")}`;
  const run = folder.id;
  const seen: Seen = {
    outcomes: noOutcomes(),
    loadStartMs: Number.POSITIVE_INFINITY,
    loadEndMs: Number.POSITIVE_INFINITY,
    baselineLag: 0,
    sinceStart: { e2e_p50_ms: null, e2e_p99_ms: null },
    lagSettleSeconds: null,
    backToMinimumSeconds: null,
  };
  const table = followHpas(cluster);
  let failure: unknown;
  let observer: Observer | undefined;
  try {
    observer = await Observer.start(
      cluster,
      { tickMs: TICK_MS, image: options.image, run, extra: () => loadRow(seen.outcomes, seen.loadEndMs) },
      signal,
    );
    await loadAndSettle(options, observer, autoscalers, run, conveyorPrefix, seen);
  } catch (error) {
    // What was seen up to here is kept, whatever ended it.
    failure = error;
  } finally {
    await Promise.all([observer?.close(), table.close()]);
    options.onPhaseEnd?.();
  }
  if (!observer) throw failure;
  const ledger = await report.step("stored events, by identity", async (step) => {
    const counted = await countStored(options, conveyorPrefix, run, seen.outcomes, startedAtMs, observer.recording);
    step.update(`${counted.acknowledged} acknowledged, ${counted.stored} stored, ${counted.lost} lost`);
    return counted;
  });
  const audit =
    options.audit && !signal.aborted ? await auditLoad(options, run, seen.outcomes, startedAtMs) : undefined;
  const measured = {
    ...measure(observer, autoscalers, seen, ledger),
    audit_laws_broken: audit ? violatedInvariants(audit) : null,
  };
  const thresholds = options.limits.map((limit) => checkLimit(limit, measured));
  const interrupted = signal.aborted;
  const result: LoadTestResult = {
    facts: { ...(facts as RunFacts), endedAt: new Date().toISOString(), interrupted },
    profile: options.profile,
    stages: stages.map((stage) => ({ ...stage })),
    recording: observer.recording,
    scaling: observer.scaling,
    thresholds,
    ledger,
    measured,
    ...(audit ? { audit } : {}),
    hpaTable: table.lines,
    passed: !interrupted && failure === undefined && thresholds.every(({ ok }) => ok),
  };
  await folder.writeJson("result.json", result);
  if (failure && !signal.aborted) throw failure;
  if (failure && !isAbort(failure) && !(failure instanceof OperatorError)) throw failure;
  return result;
}

/** The table of kubectl get hpa, each line with the time at which it was printed. */
function followHpas(cluster: Cluster): { lines: string[]; close: () => Promise<void> } {
  const lines: string[] = [];
  const stop = new AbortController();
  const following = (async () => {
    for await (const line of cluster.lines(["get", "hpa", "-n", NAMESPACE, "-w"], stop.signal)) {
      if (line.startsWith("NAME") && lines.length > 0) continue;
      lines.push(`${line.startsWith("NAME") ? "TIME    " : new Date().toISOString().slice(11, 19)}   ${line}`);
    }
  })();
  return {
    lines,
    close: async () => {
      stop.abort();
      await following;
    },
  };
}

/** The generator speaks once a second; a word of it holds for so long. */
const SECOND_HOLDS_MS = 1500;

/** What the generator tells of its last second. */
function loadRow({ seconds, summary }: LoadOutcomes, loadEndMs: number): Row {
  const last = seconds.at(-1);
  if (last && Date.now() - last.t <= SECOND_HOLDS_MS) {
    return { offered_events_per_second: last.offered, failed_events_per_second: last.failed + last.unknown };
  }
  // Before its first word and after its last there is no load; silence in between is not known.
  const isSilent = last !== undefined && summary === undefined && Date.now() < loadEndMs;
  const value = isSilent ? null : 0;
  return { offered_events_per_second: value, failed_events_per_second: value };
}

async function loadAndSettle(
  options: LoadRunOptions,
  observer: Observer,
  autoscalers: Autoscalers,
  run: string,
  conveyorPrefix: string,
  seen: Seen,
): Promise<void> {
  const { cluster, stages, signal } = options;
  const startedAt = performance.now();
  const totalMs = totalSeconds(stages) * 1000;
  let phase: Progress["phase"] = "baseline";
  let phaseAt = startedAt;
  let stage: Progress["stage"];
  const enter = (next: Progress["phase"]) => {
    phase = next;
    phaseAt = performance.now();
  };
  observer.onRow((_, row) => {
    const limits = { baseline: BASELINE_MS, load: totalMs, lag: LAG_LIMIT_MS, replicas: REPLICAS_LIMIT_MS };
    options.onProgress?.({ phase, elapsedMs: performance.now() - phaseAt, totalMs: limits[phase], stage, row });
  });

  await pause(BASELINE_MS, signal);
  seen.baselineLag = largest(observer.recording, "lag_events") ?? 0;
  enter("load");
  const pod = await LoadPod.start(
    cluster,
    {
      image: options.image,
      stages,
      run,
      folder: run,
      schedule: { kind: "open", conveyorPrefix, conveyors: CONVEYORS },
    },
    signal,
    (line) => {
      if (!("stage" in line)) return;
      const { t, index, seconds, events_per_second } = line.stage;
      if (index === 0) {
        seen.loadStartMs = t;
        seen.loadEndMs = t + totalMs;
      }
      stage = { index, stage: { seconds, events_per_second } };
      observer.mark("stage", `stage ${index + 1}`, `${events_per_second} events/s for ${seconds} s`, t);
    },
  );
  seen.outcomes = pod.outcomes;
  try {
    await pod.finished(stages, signal);
  } finally {
    await pod.stop();
    // Before the account's last word the end is where the schedule put it; after it, where it was.
    const ended = pod.outcomes.summary?.ended_at_ms;
    if (ended !== undefined) seen.loadEndMs = Math.min(seen.loadEndMs, ended);
    seen.sinceStart = observer.sinceStart;
    await pod.remove();
  }
  stage = undefined;
  observer.mark("note", "load", "the last stage is over", seen.loadEndMs);

  enter("lag");
  const calm = Math.max(CALM_LAG_EVENTS, seen.baselineLag * 2);
  const lagBack = await awaitRows(observer, LAG_LIMIT_MS, signal, (rows) =>
    rows.slice(-CALM_ROWS).every(({ lag_events: lag }) => lag != null && lag <= calm),
  );
  if (lagBack !== undefined) {
    seen.lagSettleSeconds = Math.max(0, Math.round((lagBack - (CALM_ROWS - 1) * TICK_MS - seen.loadEndMs) / 100) / 10);
  }

  if (options.awaitMinimum) {
    enter("replicas");
    const back = await awaitRows(observer, REPLICAS_LIMIT_MS, signal, (rows) => {
      const row = rows.at(-1)!;
      return SCALED_WORKLOADS.every((workload) => {
        const min = autoscalers.bounds[workload]?.min;
        if (min === undefined) return true;
        return row[`${workload}_replicas_desired`] === min && row[`${workload}_replicas_ready`] === min;
      });
    });
    if (back !== undefined) seen.backToMinimumSeconds = Math.round((back - seen.loadEndMs) / 100) / 10;
    await pause(AFTER_MS, signal);
  }
}

/** Time of the row with which the newest rows satisfy a condition; undefined when the limit passes before. */
async function awaitRows(
  observer: Observer,
  limitMs: number,
  signal: AbortSignal,
  condition: (rows: readonly Row[]) => boolean,
): Promise<number | undefined> {
  const rows: Row[] = [];
  const { promise, resolve } = Promise.withResolvers<number>();
  const end = observer.onRow((timeMs, row) => {
    rows.push(row);
    if (rows.length >= CALM_ROWS && condition(rows)) resolve(timeMs);
  });
  const limit = new AbortController();
  try {
    const late = pause(limitMs, AbortSignal.any([signal, limit.signal])).then(() => undefined);
    // Ended by its own controller once the rows are there; that is no error.
    late.catch(() => {});
    return await Promise.race([promise, late]);
  } finally {
    limit.abort(new Error("no longer awaited"));
    end();
  }
}

/** Reads the database until every acknowledged event is found, or the limit passes. */
async function countStored(
  options: LoadRunOptions,
  conveyorPrefix: string,
  run: string,
  account: LoadOutcomes,
  startedAtMs: number,
  recording: Observer["recording"],
): Promise<Ledger> {
  const conveyors = [...account.ledger.values()];
  const offered = account.summary?.offered ?? account.seconds.reduce((sum, second) => sum + second.offered, 0);
  if (conveyors.length === 0) return loadLedger(offered, [], new FoundSequences(), 0);
  const limitMs = options.signal.aborted ? STORED_LIMIT_INTERRUPTED_MS : STORED_LIMIT_MS;
  const store = await TelemetryStore.open(options.cluster);
  let found = new FoundSequences();
  try {
    const startedAt = performance.now();
    for (;;) {
      found = new FoundSequences();
      await store.eachSequence(`${conveyorPrefix}-`, startedAtMs - 60_000, Date.now() + 60_000, (conveyor, seq) =>
        found.add(conveyor, seq),
      );
      if (missingOf(conveyors, found) === 0 || performance.now() - startedAt > limitMs) break;
      await pause(1000);
    }
  } finally {
    await store.close();
  }
  const letters = recording.series.dead_letters_per_second?.some((value) => (value ?? 0) > 0) ?? false;
  const deadLettered =
    (letters || missingOf(conveyors, found) > 0) && !options.signal.aborted
      ? await countLetters(options, run, startedAtMs)
      : 0;
  return loadLedger(offered, conveyors, found, deadLettered);
}

/** Every event that the generator was told about, as the audit wants it. */
export function* outcomesOf(run: string, conveyors: Iterable<ConveyorLedger>): Generator<OutcomeRecord> {
  for (const { conveyor, acknowledged, failed, unknown } of conveyors) {
    const kinds = [
      ["ok", acknowledged],
      ["fail", failed],
      ["unknown", unknown],
    ] as const;
    for (const [outcome, ranges] of kinds) {
      for (const [seq, last_seq] of ranges) yield { run, conveyor, seq, last_seq, outcome };
    }
  }
}

/** An open load sends a conveyor's events through several producers at once, and waits for none: it promises no order. */
const NOT_PROMISED: readonly InvariantId[] = ["O1"];

/** The laws over the load's own events. */
async function auditLoad(
  { cluster, folder, report, signal }: LoadRunOptions,
  run: string,
  account: LoadOutcomes,
  startedAtMs: number,
): Promise<LoadAudit> {
  return await report.step("audit, from Kafka to the database", async (step) => {
    const { verdict, status, line } = await auditRuns(cluster, {
      sinceMs: startedAtMs,
      runs: [run],
      outcomes: outcomesOf(run, account.ledger.values()),
      resent: account.summary?.resent,
      notPromised: NOT_PROMISED,
      folder: folder.path("history"),
      signal,
    });
    step.update(line);
    const laws = verdict.laws.map(({ law, status: found, detail }) => ({
      law,
      title: INVARIANT_TITLES[law],
      status: found,
      detail,
      promised: !NOT_PROMISED.includes(law),
    }));
    return { status, line, laws };
  });
}

/** Laws that the load's events break, of those that its sender promises; null when the audit could not tell. */
export function violatedInvariants({ status, laws }: LoadAudit): number | null {
  return status === "unknown" ? null : laws.filter((law) => law.status === "failed" && law.promised).length;
}

/** Letters in the dead-letter topic whose body names the run. */
async function countLetters({ cluster, image, signal }: LoadRunOptions, run: string, sinceMs: number): Promise<number> {
  const context = new ProbeSession(cluster, image, signal);
  try {
    const { result } = await context.probeFrom("admin", {
      result: { kind: "dlq_read", ...KAFKA, from_timestamp_ms: sinceMs, run },
    });
    return readBy(result, "the dead-letter topic").length;
  } finally {
    await context.close();
  }
}

function measure(
  observer: Observer,
  autoscalers: Autoscalers,
  seen: Seen,
  ledger: Ledger,
): Record<MetricName, number | null> {
  const { recording, scaling } = observer;
  const { summary } = seen.outcomes;
  const { loadStartMs } = seen;
  const hasLoad = Number.isFinite(loadStartMs) && summary !== undefined;
  const ready: readonly ReadyEvent[] = observer.ready;
  const max = (workload: ScaledWorkload) => largest(recording, `${workload}_replicas_ready`);
  const producerReadyMs = ready.find(
    ({ workload, timeMs }) => workload === "producer" && timeMs >= loadStartMs,
  )?.timeMs;
  const measured: Measured = hasLoad
    ? {
        lost: ledger.lost,
        duplicated: ledger.duplicated,
        error_rate: ledger.offered === 0 ? 0 : (ledger.failed + ledger.unknown) / ledger.offered,
        ...seen.sinceStart,
        ack_p99_ms: summary.latency_p99_ms,
        generator_behind_ms: Math.max(0, ...seen.outcomes.seconds.map(({ behind_ms }) => behind_ms)),
        generator_cpu_cores: Math.max(0, ...seen.outcomes.seconds.map(({ cpu_cores }) => cpu_cores)),
        time_to_scale_seconds: timeToScale(recording, ready, autoscalers.lagThreshold, loadStartMs),
        time_to_scale_producer_seconds:
          producerReadyMs === undefined ? null : Math.round((producerReadyMs - loadStartMs) / 100) / 10,
        rebalance_gap_seconds: rebalanceGap(recording, scaling),
        rebalance_e2e_p99_ms: rebalanceLatency(recording, scaling),
        producer_replicas_max: max("producer"),
        processor_replicas_max: max("processor"),
        producer_replicas_end: replicasEnd(recording, "producer"),
        processor_replicas_end: replicasEnd(recording, "processor"),
        lag_max_events: largest(recording, "lag_events", loadStartMs),
        lag_settle_seconds: seen.lagSettleSeconds,
        back_to_minimum_seconds: seen.backToMinimumSeconds,
        producer_memory_growth_percent: memoryGrowth(recording, "producer", loadStartMs, seen.loadEndMs),
        processor_memory_growth_percent: memoryGrowth(recording, "processor", loadStartMs, seen.loadEndMs),
        stored_events_per_second: bestMean(recording, "stored_events_per_second", HELD_ROWS),
      }
    : { lost: ledger.lost, duplicated: ledger.duplicated };
  return Object.fromEntries(Object.keys(METRICS).map((name) => [name, measured[name as MetricName] ?? null])) as Record<
    MetricName,
    number | null
  >;
}
