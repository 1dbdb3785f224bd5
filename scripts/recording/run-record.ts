/**
 * The record of a run of drills: live.ndjson in the run's folder, append-only, one JSON document per line. The runner and
 * the observer write it; the live page, the judge (drills/judge.ts), the report and the video read it.
 */
import { appendFile, readFile } from "node:fs/promises";
import type { Mark, Row } from "./recording.ts";
import type {
  DrillRecovery,
  DrillVerdict,
  Ledger,
  LogLine,
  OperatorCommand,
  Phase,
  PhaseName,
  RunFacts,
} from "./result.ts";

export const RECORD_FILE = "live.ndjson";
/** Entries are written in groups; a crash of this machine loses the last group. */
const WRITE_INTERVAL_MS = 1000;

/** A drill that begins. */
export interface DrillStart {
  name: string;
  title: string;
  hypothesis: string;
  fault: string;
  /** Which repeat of it, from 1. */
  repeat: number;
  /** Position in the run, from 1. */
  number: number;
  /** Drills of the run. */
  count: number;
}

/** The rules that a drill is judged by. */
interface DrillRules {
  budgetMs: number;
  freshnessLimitSeconds?: number;
  /** Path inside the project. */
  runbook?: string;
}

export interface PodStatus {
  name: string;
  /** app.kubernetes.io/name */
  workload: string;
  state: "ready" | "not ready" | "ending";
  restarts: number;
}

export interface AlertStatus {
  name: string;
  state: "pending" | "firing";
  severity: string;
}

export interface FinishedDrill {
  name: string;
  title: string;
  repeat: number;
  verdict: DrillVerdict;
  recovery?: DrillRecovery | undefined;
}

/** One sample of the pipeline, four a second. Null: could not be read, which never counts as healthy. */
export interface Sample {
  timeMs: number;
  /**
   * Age of the newest stored event of the drill's conveyor that is furthest behind. There is one conveyor per partition, so
   * a single partition that stops is visible.
   */
  ageSeconds: number | null;
  /** Lag of all partitions. */
  lagEvents: number | null;
  /** Acknowledged by all producers, whoever sent the events. */
  eventsPerSecond?: number | null;
  /** Longest wait of a batch for its acknowledgement since the sample before. */
  waitedMs: number;
  /** Partitions without a replica, as last reported by the brokers. */
  underReplicated: number | null;
}

export interface SampleRange {
  least: number;
  worst: number;
}

/** Values before the fault. */
export interface Baseline {
  ageSeconds: SampleRange;
  lagEvents: SampleRange;
  /** Of all producers; absent when it could not be read. */
  eventsPerSecond?: number;
  waitedMs: SampleRange;
}

/** A proven effect of the fault. */
export interface ProvenEffect {
  proof: string;
  /** When it began. */
  timeMs: number;
  /** When it was seen. */
  provenMs: number;
}

/** An observation that decides against a drill. */
export interface DrillProblem {
  /**
   * violation: an expectation did not hold · no_effect: the fault had none that could be proven · error: a step failed ·
   * interrupted: by the user · not_restored: the pipeline could not be restored.
   */
  kind: "violation" | "no_effect" | "error" | "interrupted" | "not_restored";
  reason: string;
}

/** The runner no longer waits for the recovery. */
export interface RecoveryWait {
  /** The recovery is measured from this moment: the effect, or the end of the fault. */
  sinceMs: number;
  /** Recovery before this moment does not count: a deleted pod still works for a while. */
  provenMs: number;
  /** When the workloads that the drill names were Ready again; absent: not within the limit. */
  readyMs?: number;
  /** Last state seen, when the limit passed. */
  timedOut?: string;
}

/** The drill's own events, as counted by their sender. */
export interface SenderCounts {
  run: string;
  offered: number;
  acknowledged: number;
  unknown: number;
  /** Sent again without knowing the outcome of the first time; each may be in Kafka twice. */
  again: number;
}

/** New facts; complete lists replace, `…Added` lists are added. */
export interface RecordEntry {
  timeMs: number;
  row?: Row | undefined;
  marksAdded?: readonly Mark[] | undefined;
  /** A drill begins. */
  drill?: (DrillStart & Partial<DrillRules>) | undefined;
  /** The phase that begins. */
  beat?: PhaseName | undefined;
  pods?: readonly PodStatus[] | undefined;
  alerts?: readonly AlertStatus[] | undefined;
  linesAdded?: readonly LogLine[] | undefined;
  commandsAdded?: readonly OperatorCommand[] | undefined;
  /** Counts of the drill's own events so far. */
  ledger?: Partial<Ledger> | undefined;
  /** The verdict of a drill, for the live page. */
  finished?: FinishedDrill | undefined;

  /** The run begins. */
  facts?: RunFacts | undefined;
  sample?: Sample | undefined;
  baseline?: Baseline | undefined;
  /** A phase that has ended. */
  phase?: Phase | undefined;
  effect?: ProvenEffect | undefined;
  problem?: DrillProblem | undefined;
  recoveryWait?: RecoveryWait | undefined;
  /** The run waits for the interval of its next drill. */
  waiting?: { number: number; count: number; dueMs: number } | undefined;
  /** The drill has ended; absent `sender`: its events are unknown. */
  drillEnded?: { number: number; sender?: SenderCounts | undefined } | undefined;
  /** Warnings and errors of the pods during a drill, collected after it. */
  drillLogLines?: { number: number; lines: readonly LogLine[] } | undefined;
  /** The run has ended. */
  ended?: { interrupted: boolean } | undefined;
}

export type EntryListener = (entry: RecordEntry) => void;

/** A record that is being written. A write error is reported once and never fails the run. */
export class RunRecord {
  readonly #listeners = new Set<EntryListener>();
  readonly #timer: ReturnType<typeof setInterval>;
  #pending = "";
  #writing: Promise<void> = Promise.resolve();
  #hasFailed = false;

  /** @param path of the file; without it entries only reach the listeners. */
  constructor(
    private readonly path?: string,
    private readonly onError: (message: string) => void = () => {},
  ) {
    this.#timer = setInterval(() => void this.flush(), WRITE_INTERVAL_MS);
    this.#timer.unref();
  }

  append(entry: RecordEntry): void {
    if (this.path && !this.#hasFailed) this.#pending += `${JSON.stringify(entry)}\n`;
    for (const listener of this.#listeners) listener(entry);
  }

  /** @returns a function that removes the listener. */
  onEntry(listener: EntryListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves when everything appended so far is in the file. */
  async flush(): Promise<void> {
    const { path } = this;
    const text = this.#pending;
    this.#pending = "";
    if (path && text !== "") {
      this.#writing = this.#writing
        .then(() => appendFile(path, text))
        .catch((error: Error) => {
          if (!this.#hasFailed) this.onError(`the record cannot be written: ${error.message}`);
          this.#hasFailed = true;
        });
    }
    await this.#writing;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.flush();
  }
}

/** Entries of a record in the order in which they were written. A truncated last line is skipped. */
export async function readRecord(path: string): Promise<RecordEntry[]> {
  const lines = (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  const entries: RecordEntry[] = [];
  for (const [index, line] of lines.entries()) {
    try {
      entries.push(JSON.parse(line) as RecordEntry);
    } catch (error) {
      if (index < lines.length - 1) throw new Error(`${path}: line ${index + 1} is not JSON`, { cause: error });
    }
  }
  return entries;
}
