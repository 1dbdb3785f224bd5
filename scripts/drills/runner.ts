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
import type { Mark, MarkKind, Recording } from "../runs/recording.ts";
import type {
  Beat,
  BeatName,
  DrillRecovery,
  DrillResult,
  DrillVerdict,
  LogLine,
  OperatorCommand,
} from "../runs/result.ts";
import { recoveryTime } from "../runs/words.ts";
import { causeChain } from "../toolkit/errors.ts";
import { formatDuration } from "../toolkit/report.ts";
import type { Drill, DrillContext } from "./drill.ts";
import { type Normal, normalOf, oldestAge, type Recovery, recoveryOf, type Sample, worseThan } from "./recovery.ts";
import type { Traffic, TrafficAccount } from "./traffic.ts";

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
export interface Scene {
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
  missing(account: TrafficAccount): Promise<number>;
}

export interface RunOptions {
  repeat: number;
  /** Names the drill's own events. */
  run: string;
  /** The fault is left out: the drill has to come out inconclusive. */
  withoutFault: boolean;
  onBeat?: (beat: BeatName, detail: string) => void;
}

/** What a drill came to, and the account of its own events for the final judgement. */
export interface DrillOutcome {
  result: DrillResult;
  /** The same with its log lines and alerts, which are gathered while the next drill prepares. */
  whole: Promise<DrillResult>;
  account?: TrafficAccount;
}

/** Runs one drill. Never throws: what goes wrong is in the result. */
export async function runDrill(
  drill: Drill,
  scene: Scene,
  options: RunOptions,
  signal: AbortSignal,
): Promise<DrillOutcome> {
  const startedAtMs = scene.now();
  const beats: Beat[] = [];
  const commands: OperatorCommand[] = [];
  const reasons: string[] = [];
  let verdict: DrillVerdict = "passed";
  let effect: { proof: string; timeMs: number; provenMs: number } | undefined;
  let recovery: DrillRecovery | undefined;
  let traffic: Traffic | undefined;
  let account: TrafficAccount | undefined;
  let target: unknown;
  let isPrepared = false;
  let isHealed = false;
  let beatStartedAtMs = startedAtMs;
  const fail = (reason: string) => {
    reasons.push(reason);
    if (verdict === "passed") verdict = "failed";
  };
  const endBeat = (name: BeatName, detail: string) => {
    const endedAtMs = scene.now();
    beats.push({ name, startedAtMs: beatStartedAtMs, endedAtMs, detail });
    beatStartedAtMs = endedAtMs;
    options.onBeat?.(name, detail);
  };
  const lookAround = () =>
    Promise.all(
      drill.look.map(async (args) => {
        commands.push(await scene.look(args));
      }),
    ).catch(() => undefined);

  const heal = async (limitMs: number) => {
    if (isHealed || !isPrepared) return;
    isHealed = true;
    const healing = AbortSignal.timeout(limitMs);
    await drill.heal(scene.context(healing), target);
    scene.mark("healed", drill.name, options.withoutFault ? "nothing to undo" : "the fault is undone");
    await until(scene, limitMs, healing, async () => await scene.unready(healing), "everything to be Ready again");
  };

  try {
    // ── before
    traffic = await scene.startTraffic(options.run, signal);
    target = await drill.prepare(scene.context(signal));
    isPrepared = true;
    const normal = await before(scene, traffic, signal);
    const acknowledgedBefore = traffic.counts().acknowledged;
    endBeat(
      "before",
      `whole; newest event of each conveyor ${rangeWords(normal.ageSeconds, 1)} s old, ${rangeWords(normal.lagEvents, 0)} events behind, ${acknowledgedBefore} of the drill's own acknowledged`,
    );

    // ── fault
    const faultFromMs = scene.now();
    scene.mark("fault", drill.name, options.withoutFault ? "left out, to see that the drill notices" : drill.fault);
    if (!options.withoutFault) await drill.inject(scene.context(signal), target);
    effect = await awaitEffect(
      drill,
      scene,
      target,
      options.withoutFault ? NO_FAULT_LIMIT_MS : EFFECT_LIMIT_MS,
      signal,
    );
    if (!effect) {
      verdict = "inconclusive";
      reasons.push("the fault had no effect that could be proven");
      endBeat("fault", "no effect seen");
    } else {
      scene.mark("effect", drill.name, effect.proof, effect.timeMs);
      const looking = lookAround();
      if (drill.recoversFrom === "effect") {
        recovery = await recover(drill, scene, effect, normal, signal, fail);
        endBeat("fault", effect.proof);
      } else {
        await hold(drill, scene, target, signal, fail);
        endBeat("fault", effect.proof);
      }
      await looking;
      const { freshnessLimitSeconds } = drill;
      const oldest = oldestAge(scene.samples(), faultFromMs, scene.now());
      if (freshnessLimitSeconds !== undefined && oldest > freshnessLimitSeconds) {
        fail(`the newest event of a conveyor was ${oldest.toFixed(1)} s old, the limit is ${freshnessLimitSeconds} s`);
      }
    }

    // ── healed
    const healedFromMs = scene.now();
    await heal(HEAL_LIMIT_MS);
    endBeat("healed", `every pod Ready ${formatDuration(scene.now() - healedFromMs)} after`);

    // ── proven
    if (effect) {
      if (drill.recoversFrom === "healed") {
        const undoneAtMs = lastMark(scene, startedAtMs, "healed") ?? healedFromMs;
        recovery = await recover(drill, scene, { timeMs: undoneAtMs, provenMs: undoneAtMs }, normal, signal, fail);
      }
      for (const reason of (await drill.proven?.(scene.context(signal), target)) ?? []) fail(reason);
    }
    const acknowledgedThen = traffic.counts().acknowledged;
    await scene.pause(AFTER_MS, signal);
    if (traffic.counts().acknowledged <= acknowledgedThen)
      fail("no event of the drill's own was acknowledged behind it");
    account = await traffic.stop();
    traffic = undefined;
    if (account.acknowledged === 0) fail("none of the drill's own events was acknowledged: nothing was proven");
    const missing = await scene.missing(account);
    if (missing > 0) fail(`${missing} acknowledged events do not stand in the database`);
    endBeat(
      "proven",
      `${account.acknowledged} of ${account.offered} acknowledged, ${missing} of them missing in the database`,
    );
  } catch (error) {
    if (signal.aborted) {
      verdict = "interrupted";
      reasons.push("interrupted");
    } else {
      fail(causeChain(error).join(": "));
      if (!effect) verdict = "inconclusive";
    }
  } finally {
    try {
      await heal(signal.aborted ? INTERRUPTED_HEAL_LIMIT_MS : HEAL_LIMIT_MS);
    } catch (error) {
      verdict = verdict === "interrupted" ? "interrupted" : "failed";
      reasons.push(`healing: ${causeChain(error).join(": ")}`);
    }
    if (traffic) account = await traffic.stop(signal.aborted).catch(() => undefined);
    try {
      if (isPrepared && drill.restore) await drill.restore(scene.context(AbortSignal.timeout(HEAL_LIMIT_MS)), target);
    } catch (error) {
      verdict = verdict === "interrupted" ? "interrupted" : "failed";
      reasons.push(`putting back: ${causeChain(error).join(": ")}`);
    }
  }
  const endedAtMs = scene.now();
  const result: DrillResult = {
    name: drill.name,
    title: drill.title,
    hypothesis: drill.hypothesis,
    fault: drill.fault,
    verdict,
    reasons,
    ...(effect ? { effect: { timeMs: effect.timeMs, proof: effect.proof } } : {}),
    beats,
    ...(recovery ? { recovery } : {}),
    recording: scene.recording(startedAtMs, endedAtMs),
    commands: commands.toSorted((a, b) => a.timeMs - b.timeMs),
    logLines: [],
    ...(drill.runbook ? { runbook: `docs/runbooks/${drill.runbook}.md` } : {}),
    repeat: options.repeat,
  };
  const whole = (async () => {
    if (signal.aborted) return result;
    const logLines = await scene.aftermath(startedAtMs, endedAtMs).catch(() => []);
    return { ...result, recording: scene.recording(startedAtMs, endedAtMs), logLines };
  })();
  return account ? { result, whole, account } : { result, whole };
}

function lastMark(scene: Scene, sinceMs: number, kind: MarkKind): number | undefined {
  return scene.recording(sinceMs, scene.now()).marks.findLast((mark) => mark.kind === kind)?.timeMs;
}

/** Waits for calm and measures it. */
async function before(scene: Scene, traffic: Traffic, signal: AbortSignal): Promise<Normal> {
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

async function awaitEffect(drill: Drill, scene: Scene, target: unknown, limitMs: number, signal: AbortSignal) {
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

async function recover(
  drill: Drill,
  scene: Scene,
  { timeMs: sinceMs, provenMs }: { timeMs: number; provenMs: number },
  normal: Normal,
  signal: AbortSignal,
  fail: (reason: string) => void,
): Promise<DrillRecovery | undefined> {
  let found: Recovery | undefined;
  let readyMs: number | undefined = drill.readyAgain ? undefined : sinceMs;
  let state = "nothing";
  const untilMs = sinceMs + RECOVERY_LIMIT_MS;
  while (found === undefined || readyMs === undefined) {
    signal.throwIfAborted();
    found ??= recoveryOf(scene.samples(), sinceMs, normal, provenMs);
    if (readyMs === undefined) {
      const unready = await scene.unready(signal, drill.readyAgain).catch((error) => String(error));
      if (unready === undefined) readyMs = scene.now();
      else state = unready;
    }
    const newest = scene.samples().at(-1);
    if (found === undefined && newest) state = worseThan(normal, newest) ?? "calm, not yet for long";
    if (scene.now() > untilMs) {
      fail(`not recovered within ${formatDuration(RECOVERY_LIMIT_MS)}: ${state}`);
      return undefined;
    }
    if (found === undefined || readyMs === undefined) await scene.pause(LOOK_MS, signal);
  }
  const readyAfterMs = readyMs - sinceMs;
  const below = found.below && found.ms >= readyAfterMs;
  const measured_ms = Math.round(Math.max(found.ms, readyAfterMs));
  const recovery = { measured_ms, budget_ms: drill.budgetMs, ...(below ? { below } : {}) };
  scene.mark(
    "recovered",
    drill.name,
    below
      ? `no outage was seen: below what can be (${recoveryTime(recovery)})`
      : `as before ${recoveryTime(recovery)} after`,
    below ? sinceMs : sinceMs + measured_ms,
  );
  if (measured_ms > drill.budgetMs) {
    fail(`recovery took ${formatDuration(measured_ms)}, the budget is ${formatDuration(drill.budgetMs)}`);
  }
  return recovery;
}

/** Leaves the fault where it is for its time, and listens for what must not be. */
async function hold(
  drill: Drill,
  scene: Scene,
  target: unknown,
  signal: AbortSignal,
  fail: (reason: string) => void,
): Promise<void> {
  const untilMs = scene.now() + drill.holdMs;
  const seen = new Set<string>();
  while (scene.now() < untilMs) {
    for (const violation of (await drill.watch?.(scene.context(signal), target)) ?? []) {
      if (seen.has(violation)) continue;
      seen.add(violation);
      fail(violation);
    }
    await scene.pause(Math.max(1, Math.min(LOOK_MS, untilMs - scene.now())), signal);
  }
}

/** Looks until nothing is wrong. @throws Error with what was wrong last. */
async function until(
  scene: Scene,
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
