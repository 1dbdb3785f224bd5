/**
 * Leads one drill through its beats:
 *
 *   before   the pipeline is whole, events flow, and what is normal is measured
 *   fault    it is injected, and its effect is proven; without proof the drill is inconclusive, whatever else was seen
 *   healed   it is undone: always, also after an interrupt, an exception or a limit
 *   proven   events flow again as before, and every event that was acknowledged meanwhile stands in the database
 *
 * Everything that touches a cluster comes in through `Scene`, so that these rules are tested without one.
 */

import { causeChain } from "../cli/errors.ts";
import { formatDuration } from "../cli/report.ts";
import type { Mark, MarkKind, Recording } from "../recording/recording.ts";
import type {
  DrillRecovery,
  DrillResult,
  DrillVerdict,
  LogLine,
  OperatorCommand,
  Phase,
  PhaseName,
} from "../recording/result.ts";
import { recoveryTime } from "../report/format.ts";
import type { Drill, DrillContext } from "./drill.ts";
import { type Normal, normalOf, oldestAge, type Recovery, recoveryOf, type Sample, worseThan } from "./recovery.ts";
import type { Traffic, TrafficOutcomes } from "./traffic.ts";

/** Rows of this long say what is normal. */
const BEFORE_MS = 3000;
/** For the pipeline to be calm before a fault, for example behind an earlier drill. */
const CALM_LIMIT_MS = 90_000;
/** An effect shows within seconds; a broker that is the active controller takes half a minute to end in order. */
const EFFECT_LIMIT_MS = 60_000;
/** Without a fault nothing will come: long enough to be sure, short enough for a test. */
const NO_FAULT_LIMIT_MS = 6000;
const EFFECT_LOOK_MS = 100;
const LOOK_MS = 250;
/** Beyond its budget a recovery is still measured, so that one reads by how much it was missed. */
const RECOVERY_LIMIT_MS = 120_000;
/** Healing waits for pods, which may have to start. */
const HEAL_LIMIT_MS = 120_000;
/** After an interrupt a person waits: the fault is undone, the pods are given this long to be Ready. */
const INTERRUPTED_HEAL_LIMIT_MS = 20_000;
/** Traffic behind the recovery, so that "after" is seen too. */
const AFTER_MS = 1000;

/** The world as a runner needs it. */
export interface Environment {
  now(): number;
  pause(ms: number, signal?: AbortSignal): Promise<void>;
  /** Rows so far, ascending. */
  samples(): readonly Sample[];
  context(signal: AbortSignal): DrillContext;
  /** What is not whole among all workloads, or undefined. */
  unready(signal: AbortSignal, workloads?: readonly string[]): Promise<string | undefined>;
  startTraffic(run: string, signal: AbortSignal): Promise<Traffic>;
  mark(kind: MarkKind, subject: string, text: string, timeMs?: number): Mark;
  /** Runs kubectl as an operator would, and gives the command line and what it printed. */
  look(args: readonly string[]): Promise<OperatorCommand>;
  /** The part of the recording between two moments. */
  recording(fromMs: number, toMs: number): Recording;
  /** Alerts (as marks) and log lines between two moments. */
  aftermath(fromMs: number, toMs: number): Promise<LogLine[]>;
  /** Acknowledged events that the database does not hold after a fair wait. */
  missing(account: TrafficOutcomes): Promise<number>;
}

export interface RunOptions {
  repeat: number;
  /** Names the drill's own events. */
  run: string;
  /** The fault is left out: the drill has to come out inconclusive. */
  withoutFault: boolean;
  onBeat?: (beat: PhaseName, detail: string) => void;
}

/** What a drill came to, and the account of its own events for the final judgement. */
export interface DrillOutcome {
  result: DrillResult;
  /** The same with its log lines and alerts, which are gathered while the next drill prepares. */
  whole: Promise<DrillResult>;
  account?: TrafficOutcomes;
}

/** Runs one drill. Never throws: what goes wrong is in the result. */
export async function runDrill(
  drill: Drill,
  scene: Environment,
  options: RunOptions,
  signal: AbortSignal,
): Promise<DrillOutcome> {
  const run = new DrillRun(drill, scene, options, signal);
  await run.lead();
  return run.outcome();
}

/** An effect that was proven. */
interface ProvenEffect {
  proof: string;
  /** When it took hold. */
  timeMs: number;
  /** When it was seen. */
  provenMs: number;
}

/** One drill on its way through the beats, and what is known of it so far. */
class DrillRun {
  readonly #startedAtMs: number;
  readonly #beats: Phase[] = [];
  readonly #commands: OperatorCommand[] = [];
  readonly #reasons: string[] = [];
  #beatStartedAtMs: number;
  #verdict: DrillVerdict = "passed";
  #effect: ProvenEffect | undefined;
  #recovery: DrillRecovery | undefined;
  /** While it runs. */
  #traffic: Traffic | undefined;
  #account: TrafficOutcomes | undefined;
  #target: unknown;
  #isPrepared = false;
  #isHealed = false;

  constructor(
    private readonly drill: Drill,
    private readonly scene: Environment,
    private readonly options: RunOptions,
    private readonly signal: AbortSignal,
  ) {
    this.#startedAtMs = scene.now();
    this.#beatStartedAtMs = this.#startedAtMs;
  }

  /** Through all beats. Never throws. */
  async lead(): Promise<void> {
    try {
      const { traffic, normal } = await this.#before();
      await this.#fault(normal);
      const healedFromMs = await this.#healed();
      await this.#proven(traffic, normal, healedFromMs);
    } catch (error) {
      this.#wentWrong(error);
    } finally {
      await this.#leaveWhole();
    }
  }

  /** What it came to; once it was led through. */
  outcome(): DrillOutcome {
    const { drill, scene, signal } = this;
    const [startedAtMs, endedAtMs] = [this.#startedAtMs, scene.now()];
    const result: DrillResult = {
      name: drill.name,
      title: drill.title,
      hypothesis: drill.hypothesis,
      fault: drill.fault,
      verdict: this.#verdict,
      reasons: this.#reasons,
      ...(this.#effect ? { effect: { timeMs: this.#effect.timeMs, proof: this.#effect.proof } } : {}),
      beats: this.#beats,
      ...(this.#recovery ? { recovery: this.#recovery } : {}),
      recording: scene.recording(startedAtMs, endedAtMs),
      commands: this.#commands.toSorted((a, b) => a.timeMs - b.timeMs),
      logLines: [],
      ...(drill.runbook ? { runbook: `docs/runbooks/${drill.runbook}.md` } : {}),
      repeat: this.options.repeat,
    };
    const whole = (async () => {
      if (signal.aborted) return result;
      const logLines = await scene.aftermath(startedAtMs, endedAtMs).catch(() => []);
      return { ...result, recording: scene.recording(startedAtMs, endedAtMs), logLines };
    })();
    return this.#account ? { result, whole, account: this.#account } : { result, whole };
  }

  // ── the beats

  /** The drill's own events flow, its target is chosen, and what is normal is known. */
  async #before(): Promise<{ traffic: Traffic; normal: Normal }> {
    const { drill, scene, signal } = this;
    const traffic = await scene.startTraffic(this.options.run, signal);
    this.#traffic = traffic;
    this.#target = await drill.prepare(scene.context(signal));
    this.#isPrepared = true;
    const normal = await before(scene, traffic, signal);
    const { acknowledged } = traffic.counts();
    this.#endBeat(
      "before",
      `whole; newest event of each conveyor ${rangeWords(normal.ageSeconds, 1)} s old, ${rangeWords(normal.lagEvents, 0)} events behind, ${acknowledged} of the drill's own acknowledged`,
    );
    return { traffic, normal };
  }

  /** Injects the fault, waits for the proof of its effect, and stays with it for as long as it is to be seen. */
  async #fault(normal: Normal): Promise<void> {
    const { drill, scene, signal } = this;
    const { withoutFault } = this.options;
    const fromMs = scene.now();
    scene.mark("fault", drill.name, withoutFault ? "left out, to see that the drill notices" : drill.fault);
    if (!withoutFault) await drill.inject(scene.context(signal), this.#target);
    const limitMs = withoutFault ? NO_FAULT_LIMIT_MS : EFFECT_LIMIT_MS;
    const effect = await awaitEffect(drill, scene, this.#target, limitMs, signal);
    this.#effect = effect;
    if (!effect) {
      this.#verdict = "inconclusive";
      this.#reasons.push("the fault had no effect that could be proven");
      this.#endBeat("fault", "no effect seen");
      return;
    }
    scene.mark("effect", drill.name, effect.proof, effect.timeMs);
    const looking = this.#lookAround();
    if (drill.recoversFrom === "effect") await this.#recover(effect, normal);
    else await this.#hold();
    this.#endBeat("fault", effect.proof);
    await looking;
    this.#judgeFreshness(fromMs);
  }

  /** @returns when the healing began */
  async #healed(): Promise<number> {
    const fromMs = this.scene.now();
    await this.#heal(HEAL_LIMIT_MS);
    this.#endBeat("healed", `every pod Ready ${formatDuration(this.scene.now() - fromMs)} after`);
    return fromMs;
  }

  /** It recovers from the healing where it could not before, events flow again, and every acknowledged one is stored. */
  async #proven(traffic: Traffic, normal: Normal, healedFromMs: number): Promise<void> {
    const { drill, scene, signal } = this;
    if (this.#effect) {
      if (drill.recoversFrom === "healed") {
        const undoneAtMs = lastMark(scene, this.#startedAtMs, "healed") ?? healedFromMs;
        await this.#recover({ timeMs: undoneAtMs, provenMs: undoneAtMs }, normal);
      }
      for (const reason of (await drill.proven?.(scene.context(signal), this.#target)) ?? []) this.#fail(reason);
    }
    const acknowledgedThen = traffic.counts().acknowledged;
    await scene.pause(AFTER_MS, signal);
    if (traffic.counts().acknowledged <= acknowledgedThen)
      this.#fail("no event of the drill's own was acknowledged behind it");
    const account = await traffic.stop();
    this.#account = account;
    this.#traffic = undefined;
    if (account.acknowledged === 0) this.#fail("none of the drill's own events was acknowledged: nothing was proven");
    const missing = await scene.missing(account);
    if (missing > 0) this.#fail(`${missing} acknowledged events do not stand in the database`);
    this.#endBeat(
      "proven",
      `${account.acknowledged} of ${account.offered} acknowledged, ${missing} of them missing in the database`,
    );
  }

  // ── when it does not go its way

  #wentWrong(error: unknown): void {
    if (this.signal.aborted) {
      this.#verdict = "interrupted";
      this.#reasons.push("interrupted");
      return;
    }
    this.#fail(causeChain(error).join(": "));
    if (!this.#effect) this.#verdict = "inconclusive";
  }

  /** Whatever happened: the fault is undone, the traffic ends, and what was replaced for the drill is put back. */
  async #leaveWhole(): Promise<void> {
    const { drill, scene, signal } = this;
    await this.#orFail("healing", () => this.#heal(signal.aborted ? INTERRUPTED_HEAL_LIMIT_MS : HEAL_LIMIT_MS));
    if (this.#traffic) this.#account = await this.#traffic.stop(signal.aborted).catch(() => undefined);
    await this.#orFail("putting back", async () => {
      if (!this.#isPrepared) return;
      await drill.restore?.(scene.context(AbortSignal.timeout(HEAL_LIMIT_MS)), this.#target);
    });
  }

  /** A pipeline that is not left as it was fails its drill, whatever else was seen; an interrupted one stays so. */
  async #orFail(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#verdict !== "interrupted") this.#verdict = "failed";
      this.#reasons.push(`${what}: ${causeChain(error).join(": ")}`);
    }
  }

  // ── their parts

  /** The first failure decides; what was inconclusive or interrupted stays so. */
  #fail(reason: string): void {
    this.#reasons.push(reason);
    if (this.#verdict === "passed") this.#verdict = "failed";
  }

  #endBeat(name: PhaseName, detail: string): void {
    const endedAtMs = this.scene.now();
    this.#beats.push({ name, startedAtMs: this.#beatStartedAtMs, endedAtMs, detail });
    this.#beatStartedAtMs = endedAtMs;
    this.options.onBeat?.(name, detail);
  }

  /** What an operator would see now; a command that fails in the middle of a fault shows nothing. */
  async #lookAround(): Promise<void> {
    await Promise.all(
      this.drill.look.map(async (args) => {
        this.#commands.push(await this.scene.look(args));
      }),
    ).catch(() => undefined);
  }

  /** Undoes the fault, once. @throws when it cannot be undone, or the pods are not Ready within the limit */
  async #heal(limitMs: number): Promise<void> {
    const { drill, scene } = this;
    if (this.#isHealed || !this.#isPrepared) return;
    this.#isHealed = true;
    const healing = AbortSignal.timeout(limitMs);
    await drill.heal(scene.context(healing), this.#target);
    scene.mark("healed", drill.name, this.options.withoutFault ? "nothing to undo" : "the fault is undone");
    await until(scene, limitMs, healing, async () => await scene.unready(healing), "everything to be Ready again");
  }

  #judgeFreshness(sinceMs: number): void {
    const { freshnessLimitSeconds } = this.drill;
    const oldest = oldestAge(this.scene.samples(), sinceMs, this.scene.now());
    if (freshnessLimitSeconds === undefined || oldest <= freshnessLimitSeconds) return;
    this.#fail(
      `the newest event of a conveyor was ${oldest.toFixed(1)} s old, the limit is ${freshnessLimitSeconds} s`,
    );
  }

  /** Waits until it is as before, and measures how long that took from a moment on. */
  async #recover({ timeMs: sinceMs, provenMs }: Omit<ProvenEffect, "proof">, normal: Normal): Promise<void> {
    const { drill, scene } = this;
    const found = await this.#awaitRecovery(sinceMs, provenMs, normal);
    if (!found) return;
    const { recovery, readyMs } = found;
    const readyAfterMs = readyMs - sinceMs;
    const below = recovery.below && recovery.ms >= readyAfterMs;
    const measured_ms = Math.round(Math.max(recovery.ms, readyAfterMs));
    this.#recovery = { measured_ms, budget_ms: drill.budgetMs, ...(below ? { below } : {}) };
    const took = recoveryTime(this.#recovery);
    scene.mark(
      "recovered",
      drill.name,
      below ? `no outage was seen: below what can be (${took})` : `as before ${took} after`,
      below ? sinceMs : sinceMs + measured_ms,
    );
    if (measured_ms > drill.budgetMs) {
      this.#fail(`recovery took ${formatDuration(measured_ms)}, the budget is ${formatDuration(drill.budgetMs)}`);
    }
  }

  /** Until events flow as before and all parts that the drill names are Ready; undefined: not within the limit. */
  async #awaitRecovery(
    sinceMs: number,
    provenMs: number,
    normal: Normal,
  ): Promise<{ recovery: Recovery; readyMs: number } | undefined> {
    const { drill, scene, signal } = this;
    let recovery: Recovery | undefined;
    let readyMs: number | undefined = drill.readyAgain ? undefined : sinceMs;
    let state = "nothing";
    const untilMs = sinceMs + RECOVERY_LIMIT_MS;
    for (;;) {
      signal.throwIfAborted();
      recovery ??= recoveryOf(scene.samples(), sinceMs, normal, provenMs);
      if (readyMs === undefined) {
        const unready = await scene.unready(signal, drill.readyAgain).catch((error) => String(error));
        if (unready === undefined) readyMs = scene.now();
        else state = unready;
      }
      const newest = scene.samples().at(-1);
      if (recovery === undefined && newest) state = worseThan(normal, newest) ?? "calm, not yet for long";
      if (scene.now() > untilMs) {
        this.#fail(`not recovered within ${formatDuration(RECOVERY_LIMIT_MS)}: ${state}`);
        return undefined;
      }
      if (recovery !== undefined && readyMs !== undefined) return { recovery, readyMs };
      await scene.pause(LOOK_MS, signal);
    }
  }

  /** Leaves the fault where it is for its time, and listens for what must not be. */
  async #hold(): Promise<void> {
    const { drill, scene, signal } = this;
    const untilMs = scene.now() + drill.holdMs;
    const seen = new Set<string>();
    while (scene.now() < untilMs) {
      for (const violation of (await drill.watch?.(scene.context(signal), this.#target)) ?? []) {
        if (seen.has(violation)) continue;
        seen.add(violation);
        this.#fail(violation);
      }
      await scene.pause(Math.max(1, Math.min(LOOK_MS, untilMs - scene.now())), signal);
    }
  }
}

function lastMark(scene: Environment, sinceMs: number, kind: MarkKind): number | undefined {
  return scene.recording(sinceMs, scene.now()).marks.findLast((mark) => mark.kind === kind)?.timeMs;
}

/** Waits for calm and measures it. */
async function before(scene: Environment, traffic: Traffic, signal: AbortSignal): Promise<Normal> {
  await until(scene, CALM_LIMIT_MS, signal, async () => await scene.unready(signal), "the pipeline to be whole");
  let normal: Normal | undefined;
  await until(
    scene,
    CALM_LIMIT_MS,
    signal,
    async () => {
      const sinceMs = scene.now() - BEFORE_MS;
      const recent = scene.samples().filter(({ timeMs }) => timeMs >= sinceMs);
      if (traffic.startedAtMs > sinceMs || recent.length === 0) return "measuring";
      if (traffic.counts().acknowledged === 0) return "none of the drill's own events is acknowledged";
      // What an earlier drill left behind must have been worked off, or it would count as normal.
      const unrest = recent.map((sample) => worseThan(USUAL, sample)).find(Boolean);
      if (unrest) return unrest;
      const lacking = recent.at(-1)?.underReplicated;
      if (lacking) return `${lacking} partitions lack a replica`;
      normal = normalOf(recent);
      return undefined;
    },
    "events to flow calmly",
  );
  return normal!;
}

/** Nobody starts a drill on a pipeline that is worse than twice this. */
const USUAL: Normal = {
  ageSeconds: { least: 0, worst: 1 },
  lagEvents: { least: 0, worst: 300 },
  waitedMs: { least: 0, worst: 500 },
};

const rangeWords = ({ least, worst }: { least: number; worst: number }, digits: number) =>
  `${least.toFixed(digits)} to ${worst.toFixed(digits)}`;

async function awaitEffect(
  drill: Drill,
  scene: Environment,
  target: unknown,
  limitMs: number,
  signal: AbortSignal,
): Promise<ProvenEffect | undefined> {
  const untilMs = scene.now() + limitMs;
  while (scene.now() < untilMs) {
    signal.throwIfAborted();
    try {
      const seen = await drill.effectSeen(scene.context(signal), target);
      if (seen) return { proof: seen.proof, timeMs: seen.timeMs ?? scene.now(), provenMs: scene.now() };
    } catch (error) {
      // A look that fails in the middle of a fault is no proof of anything.
      if (signal.aborted) throw error;
    }
    await scene.pause(EFFECT_LOOK_MS, signal);
  }
  return undefined;
}

/** Looks until nothing is wrong. @throws Error with what was wrong last. */
async function until(
  scene: Environment,
  limitMs: number,
  signal: AbortSignal,
  wrong: () => Promise<string | undefined>,
  what: string,
): Promise<void> {
  const untilMs = scene.now() + limitMs;
  let last = "nothing";
  while (scene.now() < untilMs) {
    signal.throwIfAborted();
    try {
      const found = await wrong();
      if (found === undefined) return;
      last = found;
    } catch (error) {
      if (signal.aborted) throw error;
      last = error instanceof Error ? error.message : String(error);
    }
    await scene.pause(LOOK_MS, signal);
  }
  throw new Error(`waited ${formatDuration(limitMs)} for ${what}; last seen: ${last}`);
}
