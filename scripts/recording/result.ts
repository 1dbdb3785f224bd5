/**
 * outputs/runs/<id>/result.json: the source of the page, the pictures and the video of a run. Times are milliseconds since
 * the epoch.
 */
import type { LoadStage } from "../../services/domain/load-stages.ts";
import type { LoadEvents } from "../../services/protocol/load-generator.ts";
import type { Recording } from "./recording.ts";

export const RUN_KINDS = ["load-test", "drills"] as const;
export type RunKind = (typeof RUN_KINDS)[number];

/** Time, cluster, images and versions of a run. */
export interface RunFacts {
  /** Name of the run's folder. */
  readonly id: string;
  readonly kind: RunKind;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly endedAt: string;
  /** Stopped before its end: the contents are valid, but incomplete. */
  readonly interrupted: boolean;
  /** Version of the run's events; v1 when absent. */
  readonly events?: LoadEvents;
  readonly versions: Readonly<Record<string, string>>;
  /** Digest per image. */
  readonly images: Readonly<Record<string, string>>;
  readonly cluster: {
    readonly context: string;
    readonly kubernetes: string;
    readonly nodes: readonly { readonly cpus: number; readonly memoryBytes: number }[];
  };
}

/** A limit and the measured value. */
export interface Threshold {
  /** As given: "e2e_p99_ms<1000". */
  readonly text: string;
  readonly metric: string;
  readonly limit: number;
  /** Null: not measured, which is never ok. */
  readonly value: number | null;
  readonly ok: boolean;
  /** The excess: "by 240 ms". */
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

/** A change of the desired replicas. */
export interface ScalingEvent {
  readonly timeMs: number;
  readonly workload: ScaledWorkload;
  readonly from: number;
  readonly to: number;
  /** Until the last new pod was Ready; absent when scaling down, or when it never was. */
  readonly ready_after_ms?: number;
}

/** Audit of a load's events, per invariant. */
export interface LoadAudit {
  /** unknown: the acknowledged events could not be traced. */
  readonly status: "passed" | "failed" | "unknown";
  /** The verdict in one line. */
  readonly line: string;
  readonly laws: readonly {
    readonly law: string;
    readonly title: string;
    readonly status: "passed" | "failed" | "unknown";
    readonly detail: string;
    /** False: the sender does not promise it; reported, but not counted. */
    readonly promised: boolean;
  }[];
}

/** Medians of the second and of the last quarter of a process's life within the load. */
export interface Growth {
  readonly before: number;
  readonly after: number;
  readonly percent: number;
}

/** Growth of one process; null: too few values. */
export interface ProcessGrowth {
  readonly pod: string;
  readonly container: string;
  /** Its life within the load. */
  readonly minutes: number;
  readonly memory_mebibytes: Growth | null;
  /** Sockets included. */
  readonly open_files: Growth | null;
}

export interface LoadTestResult {
  readonly facts: RunFacts;
  readonly profile: string;
  readonly stages: readonly LoadStage[];
  readonly recording: Recording;
  readonly scaling: readonly ScalingEvent[];
  readonly thresholds: readonly Threshold[];
  readonly ledger: Ledger;
  /** All metrics of thresholds; null: not measured. */
  readonly measured?: Readonly<Record<string, number | null>>;
  /** Processes that lived at least 20 minutes in the load; absent when Prometheus could not be read. */
  readonly processes?: readonly ProcessGrowth[];
  /** Only with --audit. */
  readonly audit?: LoadAudit;
  /** Lines of `kubectl get hpa` over time. */
  readonly hpaTable: readonly string[];
  readonly passed: boolean;
}

export type DrillVerdict = "passed" | "failed" | "inconclusive" | "interrupted";

export const PHASES = ["before", "fault", "healed", "proven"] as const;
export type PhaseName = (typeof PHASES)[number];

export interface Phase {
  readonly name: PhaseName;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly detail: string;
}

/** A command that an operator would type, and its real output. */
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

/** The measured recovery and its budget. */
export interface DrillRecovery {
  readonly measured_ms: number;
  readonly budget_ms: number;
  /** No outage was visible: any outage was shorter than `measured_ms`, the shortest visible one. */
  readonly below?: boolean;
}

export interface DrillResult {
  readonly name: string;
  readonly title: string;
  readonly hypothesis: string;
  readonly fault: string;
  readonly verdict: DrillVerdict;
  /** Reasons of the verdict; empty for passed. */
  readonly reasons: readonly string[];
  /** Absent without a proven effect; such a drill never passes. */
  readonly effect?: { readonly timeMs: number; readonly proof: string };
  readonly beats: readonly Phase[];
  readonly recovery?: DrillRecovery;
  readonly ledger?: Ledger;
  readonly recording: Recording;
  readonly commands: readonly OperatorCommand[];
  readonly logLines: readonly LogLine[];
  /** Path inside the project: docs/runbooks/ConsumerLagHigh.md. */
  readonly runbook?: string;
  /** Number of the repeat, from 1. */
  readonly repeat: number;
}

export interface DrillsResult {
  readonly facts: RunFacts;
  readonly drills: readonly DrillResult[];
  readonly passed: boolean;
}

export type RunResult = LoadTestResult | DrillsResult;

export const isDrills = (result: RunResult): result is DrillsResult => result.facts.kind === "drills";
