/**
 * What a drill is: one fault, what is expected of the pipeline while it lasts, and how it is undone. The runner
 * (runner.ts) leads every drill through the same four beats: healthy before, effect proven, healed, proven by traffic.
 */
import type { RunProbes } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { FaultAgents } from "./fault-agents.ts";

/** What a drill may use. */
export interface DrillContext {
  readonly cluster: Cluster;
  /** The services' image, as it is deployed. */
  readonly image: string;
  readonly agents: FaultAgents;
  /** Aborted when the drill is to end; the one that heal gets is another, since healing goes on then. */
  readonly signal: AbortSignal;
  /** Runs probes in a pod with the administrator's certificate. */
  readonly probe: RunProbes;
  /** Events that the drill's own sender has had acknowledged so far. */
  acknowledged(): number;
  /** A moment that the charts and the log show. */
  note(subject: string, text: string): void;
}

export interface Effect {
  /** What was seen, with values: it is the proof that the fault happened. */
  proof: string;
  /** When it took hold, where that is known better than by the look that found it. */
  timeMs?: number;
}

export interface Drill<Target = unknown> {
  /** As typed behind --only. */
  readonly name: string;
  /** A few words for a person. */
  readonly title: string;
  /** What is expected, so that it can turn out false. */
  readonly hypothesis: string;
  /** What is done, as an operator would say it. */
  readonly fault: string;
  /** From there to freshness and lag back where they were before. */
  readonly budgetMs: number;
  readonly budgetReason: string;
  /**
   * effect: the pipeline must recover from the fault by itself. healed: it cannot, before the fault has been taken away.
   */
  readonly recoversFrom: "effect" | "healed";
  /** How long the fault stays when it has shown its effect, before it is taken away; 0 where it passes by itself. */
  readonly holdMs: number;
  /** Workloads that must be there for the drill (app.kubernetes.io/name). */
  readonly workloads: readonly string[];
  /** Below docs/runbooks, without ending: what somebody would open. */
  readonly runbook?: string;
  /** kubectl arguments that an operator would type while it lasts. */
  readonly look: readonly (readonly string[])[];
  /** For a fault that takes its time: how old the newest stored event of any conveyor may ever be, from its beginning to its end. */
  readonly freshnessLimitSeconds?: number;
  /** Parts whose absence the drill must see mended too before it counts as recovered, for what is not on the events' way. */
  readonly readyAgain?: readonly string[];
  /** Why it cannot be done on this cluster, if so. */
  possible?(context: DrillContext): Promise<string | undefined>;
  /** Chooses the target and looks at it before; nothing is broken yet. */
  prepare(context: DrillContext): Promise<Target>;
  inject(context: DrillContext, target: Target): Promise<void>;
  /** Asked again and again after the injection, until it gives the proof or the limit has passed. */
  effectSeen(context: DrillContext, target: Target): Promise<Effect | undefined>;
  /** While the fault is held: what must not be. Each sentence is a violation. */
  watch?(context: DrillContext, target: Target): Promise<string[]>;
  /** Undoes the fault; called always, also when nothing was injected. */
  heal(context: DrillContext, target: Target): Promise<void>;
  /** Puts back what prepare had replaced so that the fault could be made; called always, at the very end. */
  restore?(context: DrillContext, target: Target): Promise<void>;
  /** Behind the recovery, for what a drill has to prove itself. Each sentence is a violation. */
  proven?(context: DrillContext, target: Target): Promise<string[]>;
}

/** Keeps a drill's target type inside and forgets it outside. */
export function defineDrill<Target>(drill: Drill<Target>): Drill {
  return drill as Drill;
}

/** The service goals, from the project's plan. */
export const BUDGET = {
  processor: { budgetMs: 10_000, budgetReason: "goal for the processor" },
  broker: { budgetMs: 10_000, budgetReason: "goal for one broker" },
  influxdb: { budgetMs: 20_000, budgetReason: "goal for InfluxDB" },
  producer: { budgetMs: 8000, budgetReason: "goal for the producer" },
} as const;
