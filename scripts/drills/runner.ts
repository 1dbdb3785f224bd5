/**
 * Runs one drill through its phases:
 *
 *   before   all pods are Ready, events flow, and the baseline is measured
 *   fault    the fault is injected and its effect proven; without proof the drill is inconclusive, whatever else happens
 *   healed   the fault is undone: always, also after an interrupt, an exception or a limit
 *   proven   events flow as before, and every acknowledged event is in the database
 *
 * The runner only records what happens; the verdict is the judge's (judge.ts), from the record. Everything that touches a
 * cluster is behind `Environment`, so that these rules are tested without one.
 */
import { causeChain } from "../cli/errors.ts";
import { formatDuration } from "../cli/report.ts";
import { type MarkKind, median } from "../recording/recording.ts";
import { type LogLine, type OperatorCommand, PHASES, type PhaseName } from "../recording/result.ts";
import type {
  Baseline,
  DrillProblem,
  ProvenEffect,
  RecordEntry,
  RecoveryWait,
  Sample,
  SampleRange,
} from "../recording/run-record.ts";
import type { Drill, DrillContext } from "./drill.ts";
import { baselineOf, lagSlack, measureRecovery, RECOVERY_LIMIT_MS, recoveryText, worseThan } from "./recovery.ts";
import { countsOf, type SenderLedger, type Traffic } from "./traffic.ts";

/** Longest drill: the limits of its phases below, of its sender and of its pods are less than this together. */
export const DRILL_LIMIT_MS = 15 * 60_000;

/** Samples of this duration are the baseline. */
const BASELINE_MS = 3000;
/** For the pipeline to become healthy before a fault, for example after an earlier drill. */
const HEALTHY_LIMIT_MS = 90_000;
/** An effect shows within seconds; an active controller takes half a minute to stop in order. */
const EFFECT_LIMIT_MS = 60_000;
/** Without a fault there is no effect: long enough to be sure, short enough for a test. */
const NO_FAULT_LIMIT_MS = 6000;
const EFFECT_INTERVAL_MS = 100;
const POLL_INTERVAL_MS = 250;
/** Healing waits for pods, which may have to start. */
const HEAL_LIMIT_MS = 120_000;
/** After an interrupt a user waits: the fault is undone, and the pods have this long to be Ready. */
const INTERRUPTED_HEAL_LIMIT_MS = 20_000;
/** Traffic after the recovery, so that it is recorded too. */
const AFTER_MS = 1000;

/** A drill does not start on a pipeline that is worse than twice this, at the present rate of events. */
const usualAt = (eventsPerSecond: number | null): Baseline => ({
  ageSeconds: { least: 0, worst: 1 },
  lagEvents: { least: 0, worst: lagSlack(eventsPerSecond ?? 0) },
  waitedMs: { least: 0, worst: 500 },
});

/** What a runner needs of the world. */
export interface Environment {
  now(): number;
  pause(ms: number, signal?: AbortSignal): Promise<void>;
  /** Samples so far, ascending. */
  samples(): readonly Sample[];
  context(signal: AbortSignal): DrillContext;
  /** Which workloads lack Ready pods, of these or of all; undefined: none. */
  unready(signal: AbortSignal, workloads?: readonly string[]): Promise<string | undefined>;
  startTraffic(run: string, signal: AbortSignal): Promise<Traffic>;
  /** Appends to the record of the run. */
  record(facts: Omit<RecordEntry, "timeMs">): void;
  mark(kind: MarkKind, subject: string, text: string, timeMs?: number): void;
  /** Runs kubectl as an operator would. */
  runCommand(args: readonly string[]): Promise<OperatorCommand>;
  /** Warnings and errors of the pods between two moments; alerts of that time become marks. */
  logLines(fromMs: number, toMs: number): Promise<LogLine[]>;
  /** Acknowledged events that are not in the database after a fair wait. */
  missing(ledger: SenderLedger): Promise<number>;
}

export interface DrillOptions {
  /** Position in the run, from 1, and the number of drills in it. */
  number: number;
  count: number;
  repeat: number;
  /** Names the drill's own events. */
  run: string;
  /** Skips the fault: the drill must be inconclusive. */
  withoutFault: boolean;
}

export interface FinishedRun {
  startedAtMs: number;
  endedAtMs: number;
  /** The drill's own events; absent when they are unknown. */
  ledger: SenderLedger | undefined;
  /** The fault is undone, and what the drill replaced is back. */
  isRestored: boolean;
}

/** Runs one drill. Never throws: errors are in the record. */
export async function runDrill(
  drill: Drill,
  environment: Environment,
  options: DrillOptions,
  signal: AbortSignal,
): Promise<FinishedRun> {
  return await new DrillRun(drill, environment, options, signal).run();
}

class DrillRun {
  readonly #startedAtMs: number;
  #phaseStartedAtMs: number;
  #hasEffect = false;
  /** While it runs. */
  #traffic: Traffic | undefined;
  #ledger: SenderLedger | undefined;
  #target: unknown;
  #isPrepared = false;
  #healedAtMs: number | undefined;
  #isHealing = false;
  #isRestored = true;

  constructor(
    private readonly drill: Drill,
    private readonly environment: Environment,
    private readonly options: DrillOptions,
    private readonly signal: AbortSignal,
  ) {
    this.#startedAtMs = environment.now();
    this.#phaseStartedAtMs = this.#startedAtMs;
  }

  async run(): Promise<FinishedRun> {
    const { drill, environment, options } = this;
    const { name, title, hypothesis, fault, budgetMs, freshnessLimitSeconds, runbook } = drill;
    environment.record({
      drill: {
        ...{ name, title, hypothesis, fault, repeat: options.repeat, number: options.number, count: options.count },
        budgetMs,
        ...(freshnessLimitSeconds === undefined ? {} : { freshnessLimitSeconds }),
        ...(runbook ? { runbook: `docs/runbooks/${runbook}.md` } : {}),
      },
    });
    try {
      const { traffic, baseline } = await this.#before();
      await this.#fault(baseline);
      await this.#healed();
      await this.#proven(traffic, baseline);
    } catch (error) {
      if (this.signal.aborted) this.#problem("interrupted", "interrupted");
      else this.#problem("error", causeChain(error).join(": "));
    } finally {
      await this.#cleanUp();
    }
    const endedAtMs = environment.now();
    const ledger = this.#ledger;
    environment.record({ drillEnded: { number: options.number, sender: ledger && countsOf(ledger) } });
    return { startedAtMs: this.#startedAtMs, endedAtMs, ledger, isRestored: this.#isRestored };
  }

  // ── phases

  /** The drill's own events flow, its target is chosen, and the baseline is measured. */
  async #before(): Promise<{ traffic: Traffic; baseline: Baseline }> {
    const { drill, environment, signal } = this;
    const traffic = await environment.startTraffic(this.options.run, signal);
    this.#traffic = traffic;
    this.#target = await drill.prepare(environment.context(signal));
    this.#isPrepared = true;
    const baseline = await measureBaseline(environment, traffic, signal);
    environment.record({ baseline });
    this.#endPhase(
      "before",
      `all pods Ready; newest event of each conveyor ${rangeText(baseline.ageSeconds, 1)} s old, lag ${rangeText(baseline.lagEvents, 0)} events, ${traffic.counts().acknowledged} of the drill's own acknowledged`,
    );
    return { traffic, baseline };
  }

  /** Injects the fault, waits for the proof of its effect, and holds it for its time. */
  async #fault(baseline: Baseline): Promise<void> {
    const { drill, environment, signal } = this;
    const { withoutFault } = this.options;
    environment.mark("fault", drill.name, withoutFault ? "skipped, to show that the drill notices" : drill.fault);
    if (!withoutFault) await drill.inject(environment.context(signal), this.#target);
    const effect = await this.#awaitEffect(withoutFault ? NO_FAULT_LIMIT_MS : EFFECT_LIMIT_MS);
    if (!effect) {
      this.#problem("no_effect", "the fault had no effect that could be proven");
      this.#endPhase("fault", "no effect seen");
      return;
    }
    this.#hasEffect = true;
    environment.record({ effect });
    environment.mark("effect", drill.name, effect.proof, effect.timeMs);
    const commands = this.#runCommands();
    if (drill.recoversFrom === "effect") await this.#awaitRecovery(effect, baseline);
    else await this.#hold();
    this.#endPhase("fault", effect.proof);
    await commands;
  }

  async #healed(): Promise<void> {
    const fromMs = this.environment.now();
    await this.#heal(HEAL_LIMIT_MS);
    this.#endPhase("healed", `every pod Ready ${formatDuration(this.environment.now() - fromMs)} after`);
  }

  /** The pipeline recovers from the healing where it could not before, events flow, and every acknowledged one is stored. */
  async #proven(traffic: Traffic, baseline: Baseline): Promise<void> {
    const { drill, environment, signal } = this;
    if (this.#hasEffect) {
      const healedAtMs = this.#healedAtMs ?? this.#phaseStartedAtMs;
      if (drill.recoversFrom === "healed") {
        await this.#awaitRecovery({ timeMs: healedAtMs, provenMs: healedAtMs }, baseline);
      }
      const violations = (await drill.verify?.(environment.context(signal), this.#target)) ?? [];
      for (const reason of violations) this.#problem("violation", reason);
    }
    const before = traffic.counts().acknowledged;
    // A second may pass without one on a busy machine; a longer gap than the recovery's own is not recovered.
    const untilMs = environment.now() + drill.budgetMs;
    do await environment.pause(AFTER_MS, signal);
    while (traffic.counts().acknowledged <= before && environment.now() < untilMs);
    if (traffic.counts().acknowledged <= before) {
      const gap = formatDuration(drill.budgetMs);
      this.#problem("violation", `no event of the drill's own was acknowledged within ${gap} after the recovery`);
    }
    const ledger = await traffic.stop();
    this.#ledger = ledger;
    this.#traffic = undefined;
    if (ledger.acknowledged === 0) {
      this.#problem("violation", "none of the drill's own events was acknowledged: nothing was proven");
    }
    const missing = await environment.missing(ledger);
    if (missing > 0) this.#problem("violation", `${missing} acknowledged events are missing in the database`);
    this.#endPhase(
      "proven",
      `${ledger.acknowledged} of ${ledger.offered} acknowledged, ${missing} missing in the database`,
    );
  }

  /** Whatever happened: the fault is undone, the traffic ends, and what was replaced for the drill is restored. */
  async #cleanUp(): Promise<void> {
    const { drill, environment, signal } = this;
    await this.#restore("healing", () => this.#heal(signal.aborted ? INTERRUPTED_HEAL_LIMIT_MS : HEAL_LIMIT_MS));
    if (this.#traffic) this.#ledger = await this.#traffic.stop(signal.aborted).catch(() => undefined);
    await this.#restore("restoring", async () => {
      if (!this.#isPrepared) return;
      await drill.restore?.(environment.context(AbortSignal.timeout(HEAL_LIMIT_MS)), this.#target);
    });
  }

  async #restore(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#isRestored = false;
      this.#problem("not_restored", `${what}: ${causeChain(error).join(": ")}`);
    }
  }

  // ── their parts

  #problem(kind: DrillProblem["kind"], reason: string): void {
    this.environment.record({ problem: { kind, reason } });
  }

  #endPhase(name: PhaseName, detail: string): void {
    const endedAtMs = this.environment.now();
    const next = PHASES[PHASES.indexOf(name) + 1];
    const phase = { name, startedAtMs: this.#phaseStartedAtMs, endedAtMs, detail };
    this.#phaseStartedAtMs = endedAtMs;
    this.environment.record({ phase, ...(next ? { beat: next } : {}) });
  }

  /** Commands of an operator and their output; a command that fails during a fault shows nothing. */
  async #runCommands(): Promise<void> {
    const { environment, drill } = this;
    await Promise.all(
      drill.commands.map(async (args) => {
        environment.record({ commandsAdded: [await environment.runCommand(args)] });
      }),
    ).catch(() => undefined);
  }

  async #awaitEffect(limitMs: number): Promise<ProvenEffect | undefined> {
    const { drill, environment, signal } = this;
    const untilMs = environment.now() + limitMs;
    while (environment.now() < untilMs) {
      signal.throwIfAborted();
      try {
        const effect = await drill.proveEffect(environment.context(signal), this.#target);
        const nowMs = environment.now();
        if (effect) return { proof: effect.proof, timeMs: effect.timeMs ?? nowMs, provenMs: nowMs };
      } catch (error) {
        // A query that fails during a fault proves nothing.
        if (signal.aborted) throw error;
      }
      await environment.pause(EFFECT_INTERVAL_MS, signal);
    }
    return undefined;
  }

  /** Undoes the fault, once. @throws when it cannot be undone, or the pods are not Ready within the limit */
  async #heal(limitMs: number): Promise<void> {
    const { drill, environment } = this;
    if (this.#isHealing || !this.#isPrepared) return;
    this.#isHealing = true;
    const untilMs = environment.now() + limitMs;
    const undoing = AbortSignal.timeout(limitMs);
    await drill.heal(environment.context(undoing), this.#target).catch((error: unknown) => {
      throw undoing.aborted
        ? new Error(`the fault was not undone within ${formatDuration(limitMs)}`, { cause: error })
        : error;
    });
    this.#healedAtMs = environment.now();
    environment.mark("healed", drill.name, this.options.withoutFault ? "nothing to undo" : "the fault is undone");
    // Without a signal: at the limit the error names the pods that are not Ready. kubectl has its own limit.
    const unlimited = new AbortController().signal;
    const leftMs = Math.max(0, untilMs - environment.now());
    await until(environment, leftMs, unlimited, () => environment.unready(unlimited), "all pods to be Ready");
  }

  /** Waits until the pipeline has recovered and the workloads that the drill names are Ready, or the limit. */
  async #awaitRecovery(from: Omit<ProvenEffect, "proof">, baseline: Baseline): Promise<void> {
    const { drill, environment, signal } = this;
    const wait: RecoveryWait = { sinceMs: from.timeMs, provenMs: from.provenMs };
    if (!drill.awaitReady) wait.readyMs = wait.sinceMs;
    for (;;) {
      signal.throwIfAborted();
      let state: string | undefined;
      if (wait.readyMs === undefined) {
        state = await environment.unready(signal, drill.awaitReady).catch((error) => String(error));
        if (state === undefined) wait.readyMs = environment.now();
      }
      const recovery = measureRecovery(environment.samples(), baseline, wait, drill.budgetMs);
      if (recovery) {
        environment.record({ recoveryWait: wait });
        environment.mark(
          "recovered",
          drill.name,
          recovery.below
            ? `no outage was visible (${recoveryText(recovery)})`
            : `recovered ${recoveryText(recovery)} after`,
          recovery.below ? wait.sinceMs : wait.sinceMs + recovery.measured_ms,
        );
        return;
      }
      const newest = environment.samples().at(-1);
      state ??= (newest && worseThan(baseline, newest)) ?? "healthy, but not for long enough";
      if (environment.now() > wait.sinceMs + RECOVERY_LIMIT_MS) {
        environment.record({ recoveryWait: { ...wait, timedOut: state } });
        return;
      }
      await environment.pause(POLL_INTERVAL_MS, signal);
    }
  }

  /** Leaves the fault in place for its time, and records violations. */
  async #hold(): Promise<void> {
    const { drill, environment, signal } = this;
    const untilMs = environment.now() + drill.holdMs;
    const seen = new Set<string>();
    while (environment.now() < untilMs) {
      for (const violation of (await drill.violations?.(environment.context(signal), this.#target)) ?? []) {
        if (!seen.has(violation)) this.#problem("violation", violation);
        seen.add(violation);
      }
      await environment.pause(Math.max(1, Math.min(POLL_INTERVAL_MS, untilMs - environment.now())), signal);
    }
  }
}

async function measureBaseline(environment: Environment, traffic: Traffic, signal: AbortSignal): Promise<Baseline> {
  await until(environment, HEALTHY_LIMIT_MS, signal, () => environment.unready(signal), "all pods to be Ready");
  let baseline: Baseline | undefined;
  await until(
    environment,
    HEALTHY_LIMIT_MS,
    signal,
    async () => {
      const sinceMs = environment.now() - BASELINE_MS;
      const recent = environment.samples().filter(({ timeMs }) => timeMs >= sinceMs);
      if (traffic.startedAtMs > sinceMs || recent.length === 0) return "measuring";
      if (traffic.counts().acknowledged === 0) return "none of the drill's own events is acknowledged";
      // The backlog of an earlier drill must not count as normal.
      const usual = usualAt(median(recent.flatMap(({ eventsPerSecond }) => eventsPerSecond ?? [])));
      const worse = recent.map((sample) => worseThan(usual, sample)).find(Boolean);
      if (worse) return worse;
      const underReplicated = recent.at(-1)?.underReplicated;
      if (underReplicated) return `${underReplicated} partitions are under-replicated`;
      baseline = baselineOf(recent);
      return undefined;
    },
    "a healthy flow of events",
  );
  return baseline!;
}

const rangeText = ({ least, worst }: SampleRange, digits: number) =>
  `${least.toFixed(digits)} to ${worst.toFixed(digits)}`;

/** Polls until there is no problem. @throws Error with the last problem. */
async function until(
  environment: Environment,
  limitMs: number,
  signal: AbortSignal,
  problemOf: () => Promise<string | undefined>,
  what: string,
): Promise<void> {
  const untilMs = environment.now() + limitMs;
  let last = "nothing";
  while (environment.now() < untilMs) {
    signal.throwIfAborted();
    try {
      const found = await problemOf();
      if (found === undefined) return;
      last = found;
    } catch (error) {
      if (signal.aborted) throw error;
      last = error instanceof Error ? error.message : String(error);
    }
    await environment.pause(POLL_INTERVAL_MS, signal);
  }
  throw new Error(`waited ${formatDuration(limitMs)} for ${what}; last seen: ${last}`);
}
