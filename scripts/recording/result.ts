/**
 * What a run leaves in outputs/runs/<id>/result.json: all that its page, its pictures and its video show comes from
 * here, so that each of them can be made again from the record. Times are milliseconds since the epoch.
 */
import type { LoadStage } from "../../services/domain/load-stages.ts";
import type { Recording } from "./recording.ts";

export const RUN_KINDS = ["load-test", "drills"] as const;
export type RunKind = (typeof RUN_KINDS)[number];

/** When, where and with what it ran. */
export interface RunFacts {
  /** Name of the run's folder. */
  readonly id: string;
  readonly kind: RunKind;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly endedAt: string;
  /** Stopped by a person: what is here is true, but not the whole run. */
  readonly interrupted: boolean;
  readonly versions: Readonly<Record<string, string>>;
  /** Digest per image. */
  readonly images: Readonly<Record<string, string>>;
  readonly cluster: {
    readonly context: string;
    readonly kubernetes: string;
    readonly nodes: readonly { readonly cpus: number; readonly memoryBytes: number }[];
  };
}

/** A limit that was set, and what was measured against it. */
export interface Threshold {
  /** As the person wrote it: "e2e_p99_ms<1000". */
  readonly text: string;
  readonly metric: string;
  readonly limit: number;
  /** Null where nothing was measured; never ok then. */
  readonly value: number | null;
  readonly ok: boolean;
  /** How much it misses, in words: "by 240 ms". */
  readonly by?: string;
}

/** Counts of events by identity (run, conveyor, seq), as the audit found them. */
export interface Ledger {
  readonly offered: number;
  readonly acknowledged: number;
  readonly failed: number;
  readonly unknown: number;
  readonly stored: number;
  readonly dead_lettered: number;
  readonly lost: number;
  readonly duplicated: number;
}

export const SCALED_WORKLOADS = ["producer", "processor"] as const;
export type ScaledWorkload = (typeof SCALED_WORKLOADS)[number];

/** An autoscaler wanted another number of replicas. */
export interface ScalingEvent {
  readonly timeMs: number;
  readonly workload: ScaledWorkload;
  readonly from: number;
  readonly to: number;
  /** From the wish to the last new pod Ready; absent when scaling down, or when it never came. */
  readonly ready_after_ms?: number;
}

/** What the audit of a load's events found, law by law. */
export interface LoadAudit {
  /** unknown: what was acknowledged could not be followed to where it must stand. */
  readonly status: "passed" | "failed" | "unknown";
  /** The verdict in one line. */
  readonly line: string;
  readonly laws: readonly {
    readonly law: string;
    readonly title: string;
    readonly status: "passed" | "failed" | "unknown";
    readonly detail: string;
    /** False: this way of sending does not promise it, so that it is told and does not count. */
    readonly promised: boolean;
  }[];
}

export interface LoadTestResult {
  readonly facts: RunFacts;
  readonly profile: string;
  readonly stages: readonly LoadStage[];
  readonly recording: Recording;
  readonly scaling: readonly ScalingEvent[];
  readonly thresholds: readonly Threshold[];
  readonly ledger: Ledger;
  /** Everything that a threshold could have named, limited or not; null: not measured. */
  readonly measured?: Readonly<Record<string, number | null>>;
  /** Absent where none was asked for. */
  readonly audit?: LoadAudit;
  /** Lines of `kubectl get hpa` over time. */
  readonly hpaTable: readonly string[];
  readonly passed: boolean;
}

export const DRILL_VERDICTS = ["passed", "failed", "inconclusive", "interrupted"] as const;
export type DrillVerdict = (typeof DRILL_VERDICTS)[number];

export const PHASES = ["before", "fault", "healed", "proven"] as const;
export type PhaseName = (typeof PHASES)[number];

export interface Phase {
  readonly name: PhaseName;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly detail: string;
}

/** What an operator would have typed; it was really run, and this is its real output. */
export interface OperatorCommand {
  readonly timeMs: number;
  readonly command: string;
  readonly output: string;
}

export interface LogLine {
  readonly timeMs: number;
  readonly pod: string;
  readonly line: string;
}

/** How long it took, against its budget. */
export interface DrillRecovery {
  readonly measured_ms: number;
  readonly budget_ms: number;
  /** No outage was seen: if there was one, it was shorter than `measured_ms`, the shortest that would have been seen. */
  readonly below?: boolean;
}

export interface DrillResult {
  readonly name: string;
  readonly title: string;
  readonly hypothesis: string;
  readonly fault: string;
  readonly verdict: DrillVerdict;
  /** Why the verdict is what it is; empty for a plain pass. */
  readonly reasons: readonly string[];
  /** Absent when the fault had no proven effect: such a drill is never passed. */
  readonly effect?: { readonly timeMs: number; readonly proof: string };
  readonly beats: readonly Phase[];
  readonly recovery?: DrillRecovery;
  readonly ledger?: Ledger;
  readonly recording: Recording;
  readonly commands: readonly OperatorCommand[];
  readonly logLines: readonly LogLine[];
  /** Path of the runbook inside the project: docs/runbooks/ConsumerLagHigh.md. */
  readonly runbook?: string;
  /** Which repeat of the drill it is, from 1. */
  readonly repeat: number;
}

export interface DrillsResult {
  readonly facts: RunFacts;
  readonly drills: readonly DrillResult[];
  readonly passed: boolean;
}

export type RunResult = LoadTestResult | DrillsResult;

/** Tells the two documents apart. */
export const isDrills = (result: RunResult): result is DrillsResult => result.facts.kind === "drills";
