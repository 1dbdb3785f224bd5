/**
 * A drill: one fault, the hypothesis about the pipeline while it lasts, and how it is undone.
 *
 * Files that explain the verdict of a drill, for example of delete-processor:
 *
 *   drills/delete-pod.ts               the fault and the proof of its effect
 *   drills/drill.ts                    the parts of a drill
 *   drills/run.ts                      one run: record, then judge
 *   drills/runner.ts                   the phases of a drill
 *   drills/environment.ts              what the runner reads from the cluster; the samples
 *   drills/traffic.ts                  the drill's own events and the ledger of their sender
 *   services/tools/ordered-load.ts     the sender, in a pod
 *   services/tools/observer.ts         the measurements, in a pod
 *   recording/run-record.ts            the record of a run
 *   drills/recovery.ts                 how a recovery is measured
 *   drills/judge.ts                    the verdict, from the record
 *   audit/verdict.ts                   the invariants of the ledger
 */
import type { RunProbes } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { FaultAgents } from "./fault-agents.ts";

/** What a drill may use. */
export interface DrillContext {
  readonly cluster: Cluster;
  /** The deployed services' image. */
  readonly image: string;
  readonly agents: FaultAgents;
  /** Aborted when the drill must end; heal and restore get another one, since they run after that. */
  readonly signal: AbortSignal;
  /** Runs probes in a pod with the administrator's certificate. */
  readonly probe: RunProbes;
  /** Acknowledged events of the drill's own sender so far. */
  acknowledged(): number;
  /** Adds a mark to charts and record. */
  note(subject: string, text: string): void;
}

interface Effect {
  /** What was observed, with values. */
  proof: string;
  /** When the effect began, if known better than by the query that found it. */
  timeMs?: number;
}

export interface Drill<Target = unknown> {
  /** Value of --only. */
  readonly name: string;
  readonly title: string;
  /** The expectation, which can turn out false. */
  readonly hypothesis: string;
  /** The fault in an operator's terms. */
  readonly fault: string;
  /** Limit of the time until freshness and lag are back at their baseline. */
  readonly budgetMs: number;
  readonly budgetReason: string;
  /** effect: the pipeline must recover while the fault exists. healed: it can only recover after the fault is undone. */
  readonly recoversFrom: "effect" | "healed";
  /** How long the fault is held after its effect is proven; 0 for a fault that passes by itself. */
  readonly holdMs: number;
  /** Workloads that the drill needs (app.kubernetes.io/name). */
  readonly workloads: readonly string[];
  /** Name of a file in docs/runbooks, without extension. */
  readonly runbook?: string;
  /** kubectl arguments that an operator would type during the fault. */
  readonly commands: readonly (readonly string[])[];
  /** Limit of the age of the newest stored event of any conveyor during the fault. */
  readonly freshnessLimitSeconds?: number;
  /** Workloads that must be Ready again before the drill counts as recovered, for parts that events do not pass. */
  readonly awaitReady?: readonly string[];
  /** Why the drill is not possible on this cluster; undefined: it is. */
  obstacle?(context: DrillContext): Promise<string | undefined>;
  /** Chooses the target and reads its state; breaks nothing. */
  prepare(context: DrillContext): Promise<Target>;
  inject(context: DrillContext, target: Target): Promise<void>;
  /** Polled after the injection until it returns the proof. */
  proveEffect(context: DrillContext, target: Target): Promise<Effect | undefined>;
  /** Polled while the fault is held. @returns expectations that do not hold, a sentence each. */
  violations?(context: DrillContext, target: Target): Promise<string[]>;
  /** Undoes the fault; always called, also when nothing was injected. */
  heal(context: DrillContext, target: Target): Promise<void>;
  /** Restores what prepare replaced; always called, at the very end. */
  restore?(context: DrillContext, target: Target): Promise<void>;
  /** Called after the recovery. @returns expectations that do not hold, a sentence each. */
  verify?(context: DrillContext, target: Target): Promise<string[]>;
}

/** Checks the drill with its type of target, and returns it without. */
export function defineDrill<Target>(drill: Drill<Target>): Drill {
  return drill as Drill;
}

/** The service goals of the project's plan. */
export const BUDGET = {
  processor: { budgetMs: 10_000, budgetReason: "goal for the processor" },
  broker: { budgetMs: 10_000, budgetReason: "goal for one broker" },
  influxdb: { budgetMs: 20_000, budgetReason: "goal for InfluxDB" },
  producer: { budgetMs: 8000, budgetReason: "goal for the producer" },
} as const;
