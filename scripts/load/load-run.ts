/**
 * One load test: observe, load, wait until the pipeline has settled, count by identity, check the thresholds. Pods are
 * always removed, and the recording is kept also after an error or interrupt.
 */
import { type LoadStage, totalSeconds } from "../../services/domain/load-stages.ts";
import { type ConveyorLedger, LOAD_SERIES, type LoadEvents } from "../../services/protocol/load-generator.ts";
import { auditRuns } from "../audit/audit-runs.ts";
import type { OutcomeRecord } from "../audit/history.ts";
import { planSlices } from "../audit/point-slices.ts";
import { INVARIANT_TITLES, type InvariantId } from "../audit/verdict.ts";
import { isAbort, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { pause } from "../cli/wait.ts";
import { TelemetryStore } from "../clients/influxdb.ts";
import { KAFKA, ProbeSession, readBy } from "../clients/probe-session.ts";
import { PrometheusReader } from "../clients/prometheus.ts";
import { type Cluster, NAMESPACE } from "../cluster/cluster.ts";
import { Observer } from "../recording/observer.ts";
import { largest, type Row, valuesWithin } from "../recording/recording.ts";
import {
  type Ledger,
  type LoadAudit,
  type LoadTestResult,
  type ProcessGrowth,
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
  firstReadyMs,
  memoryGrowth,
  rebalanceGap,
  rebalanceLatency,
  replicasEnd,
  timeToScale,
} from "./load-measures.ts";
import { type LoadOutcomes, LoadPod, noOutcomes } from "./load-pod.ts";
import { largestGrowth, MIN_LIFE_MS, readProcessGrowth } from "./process-growth.ts";
import { checkLimit, type Limit, METRICS, type Measured, type MetricName } from "./thresholds.ts";

const TICK_MS = 1000;
/** Rows before the load: the present baseline of this cluster. */
const BASELINE_MS = 5000;
/** Consecutive rows with a low lag that count as settled. */
const SETTLED_ROWS = 3;
/** A lower lag is no backlog: the events of one commit interval at a small load. */
const SETTLED_LAG_EVENTS = 500;
/** The largest backlog of a stage is processed within minutes. */
const LAG_LIMIT_MS = 180_000;
/** Halved each 30 s after a minute, from six replicas: 100 s and an interval of the autoscaler. */
const REPLICAS_LIMIT_MS = 300_000;
/** Rows after the last scaling, so that the last rebalance is recorded. */
const AFTER_MS = 3000;
/** The observer's pod ends this long after all phases: the start of the generator's pod, and its last answers. */
const OBSERVER_SLACK_SECONDS = 300;
/** For the last events to be stored after their acknowledgement. */
const STORED_LIMIT_MS = 30_000;
/** The same after an interrupt. */
const STORED_LIMIT_INTERRUPTED_MS = 5000;
/** A query takes tens of seconds, and is ended after three minutes. */
const POINTS_PER_QUERY = 1_000_000;
/** Rows of the mean that counts as a held rate. */
const HELD_ROWS = 10;
/** Enough to load all partitions and processors; a small number of series in the database. */
const CONVEYORS = 60;

export interface LoadRunOptions {
  cluster: Cluster;
  image: string;
  folder: RunFolder;
  profile: string;
  stages: readonly LoadStage[];
  events: LoadEvents;
  limits: readonly Limit[];
  /** Waits until the autoscalers are back at their minimum. */
  awaitMinimum: boolean;
  /** Audits every event from Kafka to the database: half a minute for a million. */
  audit: boolean;
  report: Report;
  signal: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /** Called after the last progress. */
  onPhaseEnd?: () => void;
}

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

/** Conveyors of a run's events begin with this. */
const conveyorPrefixOf = ({ id }: RunFolder) => `load-${id.replace("-load-test", "")}`;

/** Runs the test. @returns the result with its verdict; after an interrupt, of the recording so far. */
export async function runLoadTest(options: LoadRunOptions): Promise<LoadTestResult> {
  const { cluster, folder, report, signal, stages } = options;
  const startedAtMs = Date.now();
  const facts = await runFacts(cluster, { id: folder.id, kind: "load-test", startedAtMs, events: options.events });
  const autoscalers = await readAutoscalers(cluster);
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
      {
        ...{ tickMs: TICK_MS, image: options.image, run: folder.id, lifetimeSeconds: observerSeconds(stages) },
        extra: () => loadRow(seen.outcomes, seen.loadEndMs),
      },
      signal,
    );
    await loadAndSettle(options, observer, autoscalers, seen);
  } catch (error) {
    // The recording so far is kept.
    failure = error;
  } finally {
    await Promise.all([observer?.close(), table.close()]);
    options.onPhaseEnd?.();
  }
  if (!observer) throw failure;
  const ledger = await report.step("stored events, by identity", async (step) => {
    const counted = await countStored(options, seen.outcomes, startedAtMs, observer.recording);
    step.update(`${counted.acknowledged} acknowledged, ${counted.stored} stored, ${counted.lost} lost`);
    return counted;
  });
  const audit = options.audit && !signal.aborted ? await auditLoad(options, seen.outcomes, startedAtMs) : undefined;
  const processes = signal.aborted ? undefined : await processGrowth(options, seen);
  const measured = {
    ...measure(observer, autoscalers, seen, ledger),
    memory_growth_percent: largestGrowth(processes ?? [], "memory_mebibytes"),
    open_files_growth_percent: largestGrowth(processes ?? [], "open_files"),
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
    ...(processes ? { processes } : {}),
    ...(audit ? { audit } : {}),
    hpaTable: table.lines,
    passed: !interrupted && failure === undefined && thresholds.every(({ ok }) => ok),
  };
  await folder.writeJson("result.json", result);
  if (failure && !signal.aborted) throw failure;
  if (failure && !isAbort(failure) && !(failure instanceof OperatorError)) throw failure;
  return result;
}

/** Growth of each process during the load; undefined when Prometheus cannot be read. */
async function processGrowth(
  { cluster, report, signal }: LoadRunOptions,
  { loadStartMs: startMs, loadEndMs: endMs }: Seen,
): Promise<readonly ProcessGrowth[] | undefined> {
  // In a shorter load no process lives long enough to be compared.
  if (!Number.isFinite(startMs) || endMs - startMs < MIN_LIFE_MS) return undefined;
  try {
    return await report.step("memory and open files of each process", async (step) => {
      await using reader = await PrometheusReader.open(cluster);
      const processes = await readProcessGrowth(reader, { startMs, endMs }, signal);
      step.update(`${processes.length} processes lived 20 minutes in the load`);
      return processes;
    });
  } catch (error) {
    report.warn(`the growth of processes is not measured: ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
}

/** Lifetime of the observer's pod: all phases of the run. */
export const observerSeconds = (stages: readonly LoadStage[]): number =>
  Math.ceil(totalSeconds(stages) + (BASELINE_MS + LAG_LIMIT_MS + REPLICAS_LIMIT_MS) / 1000) + OBSERVER_SLACK_SECONDS;

/** The output of `kubectl get hpa --watch`, each line with its time. */
function followHpas(cluster: Cluster): { lines: string[]; close: () => Promise<void> } {
  const lines: string[] = [];
  const stop = new AbortController();
  const following = (async () => {
    // The API server ends a watch within an hour.
    while (!stop.signal.aborted) {
      for await (const line of cluster.lines(["get", "hpa", "-n", NAMESPACE, "-w"], stop.signal)) {
        if (line.startsWith("NAME") && lines.length > 0) continue;
        lines.push(`${line.startsWith("NAME") ? "TIME    " : new Date().toISOString().slice(11, 19)}   ${line}`);
      }
      await pause(HPA_RETRY_MS, stop.signal).catch(() => {});
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

/** After the watch of the autoscalers ended. */
const HPA_RETRY_MS = 5000;
/** The generator reports once a second; a report is valid this long. */
const SECOND_VALID_MS = 1500;

/** Rates of the generator's last second. */
function loadRow({ seconds, summary }: LoadOutcomes, loadEndMs: number): Row {
  const last = seconds.at(-1);
  if (last && Date.now() - last.t <= SECOND_VALID_MS) {
    return { offered_events_per_second: last.offered, failed_events_per_second: last.failed + last.unknown };
  }
  // Before the first report and after the last one there is no load; in between a missing report is unknown.
  const isMissing = last !== undefined && summary === undefined && Date.now() < loadEndMs;
  const value = isMissing ? null : 0;
  return { offered_events_per_second: value, failed_events_per_second: value };
}

/** The phase of a run, reported with each row. */
class ProgressReporter {
  #phase: Progress["phase"] = "baseline";
  #phaseStartedAt = performance.now();
  stage: Progress["stage"];

  constructor({ stages, onProgress }: LoadRunOptions, observer: Observer) {
    const loadMs = totalSeconds(stages) * 1000;
    const totals = { baseline: BASELINE_MS, load: loadMs, lag: LAG_LIMIT_MS, replicas: REPLICAS_LIMIT_MS };
    observer.onRow((_, row) => {
      const elapsedMs = performance.now() - this.#phaseStartedAt;
      onProgress?.({ phase: this.#phase, elapsedMs, totalMs: totals[this.#phase], stage: this.stage, row });
    });
  }

  enter(phase: Progress["phase"]): void {
    this.#phase = phase;
    this.#phaseStartedAt = performance.now();
  }
}

/** Records the baseline, runs the load, and waits until the pipeline has settled. */
async function loadAndSettle(
  options: LoadRunOptions,
  observer: Observer,
  autoscalers: Autoscalers,
  seen: Seen,
): Promise<void> {
  const progress = new ProgressReporter(options, observer);
  await pause(BASELINE_MS, options.signal);
  seen.baselineLag = largest(valuesWithin(observer.recording, "lag_events")) ?? 0;
  progress.enter("load");
  await runLoad(options, observer, progress, seen);
  observer.mark("note", "load", "the last stage has ended", seen.loadEndMs);
  progress.enter("lag");
  await settleLag(options, observer, seen);
  if (!options.awaitMinimum) return;
  progress.enter("replicas");
  await settleReplicas(options, observer, autoscalers, seen);
}

/** Runs the stages in a generator pod, and removes it. */
async function runLoad(
  { cluster, folder, image, stages, events, signal }: LoadRunOptions,
  observer: Observer,
  progress: ProgressReporter,
  seen: Seen,
): Promise<void> {
  const schedule = { kind: "open", conveyorPrefix: conveyorPrefixOf(folder), conveyors: CONVEYORS } as const;
  const load = { image, stages, events, run: folder.id, folder: folder.id, schedule };
  const pod = await LoadPod.start(cluster, load, signal, (line) => {
    if (!("stage" in line)) return;
    const { t, index, seconds, events_per_second } = line.stage;
    if (index === 0) {
      seen.loadStartMs = t;
      seen.loadEndMs = t + totalSeconds(stages) * 1000;
    }
    progress.stage = { index, stage: { seconds, events_per_second } };
    observer.mark("stage", `stage ${index + 1}`, `${events_per_second} events/s for ${seconds} s`, t);
  });
  seen.outcomes = pod.outcomes;
  try {
    await pod.finished(stages, signal);
  } finally {
    await pod.stop();
    // Without a summary the scheduled end counts.
    const ended = pod.outcomes.summary?.ended_at_ms;
    if (ended !== undefined) seen.loadEndMs = Math.min(seen.loadEndMs, ended);
    seen.sinceStart = observer.sinceStart;
    await pod.remove();
    progress.stage = undefined;
  }
}

async function settleLag({ signal }: LoadRunOptions, observer: Observer, seen: Seen): Promise<void> {
  const settled = Math.max(SETTLED_LAG_EVENTS, seen.baselineLag * 2);
  const lagBack = await awaitRows(observer, LAG_LIMIT_MS, signal, (rows) =>
    rows.slice(-SETTLED_ROWS).every(({ lag_events: lag }) => lag != null && lag <= settled),
  );
  if (lagBack === undefined) return;
  const settledAtMs = lagBack - (SETTLED_ROWS - 1) * TICK_MS;
  seen.lagSettleSeconds = Math.max(0, Math.round((settledAtMs - seen.loadEndMs) / 100) / 10);
}

async function settleReplicas(
  { signal }: LoadRunOptions,
  observer: Observer,
  { bounds }: Autoscalers,
  seen: Seen,
): Promise<void> {
  const back = await awaitRows(observer, REPLICAS_LIMIT_MS, signal, (rows) => {
    const row = rows.at(-1)!;
    return SCALED_WORKLOADS.every((workload) => {
      const min = bounds[workload]?.min;
      if (min === undefined) return true;
      return row[`${workload}_replicas_desired`] === min && row[`${workload}_replicas_ready`] === min;
    });
  });
  if (back !== undefined) seen.backToMinimumSeconds = Math.round((back - seen.loadEndMs) / 100) / 10;
  await pause(AFTER_MS, signal);
}

/** Time of the first row with which the newest rows satisfy a condition; undefined at the limit. */
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
    if (rows.length >= SETTLED_ROWS && condition(rows)) resolve(timeMs);
  });
  const limit = new AbortController();
  try {
    const late = pause(limitMs, AbortSignal.any([signal, limit.signal])).then(() => undefined);
    // Aborted by its own controller after the race.
    late.catch(() => {});
    return await Promise.race([promise, late]);
  } finally {
    limit.abort(new Error("settled"));
    end();
  }
}

/** Reads the database until every acknowledged event is found, or the limit passes. */
async function countStored(
  options: LoadRunOptions,
  outcomes: LoadOutcomes,
  startedAtMs: number,
  recording: Observer["recording"],
): Promise<Ledger> {
  const conveyors = [...outcomes.ledger.values()];
  const offered = outcomes.summary?.offered ?? outcomes.seconds.reduce((sum, second) => sum + second.offered, 0);
  if (conveyors.length === 0) return loadLedger(offered, [], new FoundSequences(), 0);
  const limitMs = options.signal.aborted ? STORED_LIMIT_INTERRUPTED_MS : STORED_LIMIT_MS;
  const filter = { conveyorsPrefix: `${conveyorPrefixOf(options.folder)}-`, series: LOAD_SERIES[options.events] };
  const store = await TelemetryStore.open(options.cluster);
  let found: FoundSequences;
  try {
    const startedAt = performance.now();
    for (;;) {
      found = new FoundSequences();
      const slices = await planSlices(
        (range) => store.countPoints(filter, range),
        startedAtMs - 60_000,
        Date.now() + 60_000,
        POINTS_PER_QUERY,
      );
      for (const [fromMs, toMs] of slices) {
        await store.eachSequence(filter, fromMs, toMs, (conveyor, seq) => found.add(conveyor, seq));
      }
      if (missingOf(conveyors, found) === 0 || performance.now() - startedAt > limitMs) break;
      await pause(1000);
    }
  } finally {
    await store.close();
  }
  const hasDeadLetters = recording.series.dead_letters_per_second?.some((value) => (value ?? 0) > 0) ?? false;
  const deadLettered =
    (hasDeadLetters || missingOf(conveyors, found) > 0) && !options.signal.aborted
      ? await countDeadLetters(options, startedAtMs)
      : 0;
  return loadLedger(offered, conveyors, found, deadLettered);
}

/** Outcomes of all events of the generator, for the audit. */
function* outcomesOf(run: string, conveyors: Iterable<ConveyorLedger>): Generator<OutcomeRecord> {
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

/** An open load sends a conveyor's events through several producers concurrently: order is not promised. */
const NOT_PROMISED: readonly InvariantId[] = ["O1"];

async function auditLoad(
  { cluster, folder, report, signal }: LoadRunOptions,
  outcomes: LoadOutcomes,
  startedAtMs: number,
): Promise<LoadAudit> {
  return await report.step("audit, from Kafka to the database", async (step) => {
    const { verdict, status, line } = await auditRuns(cluster, {
      sinceMs: startedAtMs,
      runs: [folder.id],
      outcomes: outcomesOf(folder.id, outcomes.ledger.values()),
      resent: outcomes.summary?.resent,
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

/** Number of violated invariants that the sender promises; null for an unknown audit. */
export function violatedInvariants({ status, laws }: LoadAudit): number | null {
  return status === "unknown" ? null : laws.filter((law) => law.status === "failed" && law.promised).length;
}

/** Dead letters whose body has the run. */
async function countDeadLetters({ cluster, folder, image, signal }: LoadRunOptions, sinceMs: number): Promise<number> {
  const context = new ProbeSession(cluster, image, signal);
  try {
    const { result } = await context.probeFrom("admin", {
      result: { kind: "dlq_read", ...KAFKA, from_timestamp_ms: sinceMs, run: folder.id },
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
  const { ready, recording, scaling } = observer;
  const { summary } = seen.outcomes;
  const { loadStartMs } = seen;
  const hasLoad = Number.isFinite(loadStartMs) && summary !== undefined;
  const max = (workload: ScaledWorkload) => largest(valuesWithin(recording, `${workload}_replicas_ready`));
  const producerReadyMs = firstReadyMs(ready, "producer", loadStartMs);
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
        lag_max_events: largest(valuesWithin(recording, "lag_events", loadStartMs)),
        lag_settle_seconds: seen.lagSettleSeconds,
        back_to_minimum_seconds: seen.backToMinimumSeconds,
        producer_memory_growth_percent: memoryGrowth(recording, "producer", loadStartMs, seen.loadEndMs),
        processor_memory_growth_percent: memoryGrowth(recording, "processor", loadStartMs, seen.loadEndMs),
        stored_events_per_second: bestMean(recording, "stored_events_per_second", HELD_ROWS),
      }
    : { lost: ledger.lost, duplicated: ledger.duplicated };
  const all = Object.keys(METRICS).map((name) => [name, measured[name as MetricName] ?? null]);
  return Object.fromEntries(all) as Record<MetricName, number | null>;
}
