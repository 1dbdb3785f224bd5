/**
 * Judges a run of drills from its folder: the record (live.ndjson) and, once it exists, the audit's history. Nothing is
 * read from a cluster, so that a run can be judged again.
 */
import { existsSync } from "node:fs";
import { closing, ledgerOf } from "../audit/audit-runs.ts";
import { type History, type HistoryMeta, openHistory } from "../audit/history.ts";
import { judge as judgeHistory } from "../audit/verdict.ts";
import { EXIT } from "../cli/errors.ts";
import { formatDuration } from "../cli/report.ts";
import { type Recording, RecordingBuilder, sliceRecording } from "../recording/recording.ts";
import type { DrillResult, DrillsResult, DrillVerdict, OperatorCommand, Phase } from "../recording/result.ts";
import type { RunFolder } from "../recording/run-folder.ts";
import {
  type Baseline,
  type DrillProblem,
  type ProvenEffect,
  RECORD_FILE,
  type RecordEntry,
  type RecoveryWait,
  readRecord,
  type Sample,
  type SenderCounts,
} from "../recording/run-record.ts";
import { measureRecovery, oldestAge, RECOVERY_LIMIT_MS } from "./recovery.ts";

export const HISTORY_FOLDER = "history";

interface Judged {
  result: DrillResult;
  sender: SenderCounts | undefined;
}

/** The result of a run, also of one that has not ended. @throws Error for a folder without a record of drills. */
export async function judgeRun(folder: RunFolder): Promise<DrillsResult> {
  const entries = await readRecord(folder.path(RECORD_FILE));
  const history = folder.path(HISTORY_FOLDER);
  const judged = judgeRecord(entries);
  const drills = existsSync(`${history}/meta.json`)
    ? await judgeLedgers(judged, await openHistory(history))
    : judged.map(({ result }) => result);
  const facts = entries.find((entry) => entry.facts)?.facts;
  if (!facts) throw new Error(`${folder.path(RECORD_FILE)}: is no record of a run of drills`);
  const end = entries.findLast((entry) => entry.ended);
  // Without its end the run was stopped, or still runs: what is here is true, but not the complete run.
  const interrupted = end?.ended?.interrupted ?? true;
  const endedAtMs = end?.timeMs ?? entries.at(-1)!.timeMs;
  return {
    facts: { ...facts, endedAt: new Date(endedAtMs).toISOString(), interrupted },
    drills,
    passed: !interrupted && drills.length > 0 && drills.every(({ verdict }) => verdict === "passed"),
  };
}

/** The results of the drills that have ended, without their ledgers. */
export function judgeRecord(entries: readonly RecordEntry[]): Judged[] {
  const builder = new RecordingBuilder(entries[0]?.timeMs ?? 0);
  const logLines = new Map(entries.flatMap(({ drillLogLines: d }) => (d ? [[d.number, d.lines] as const] : [])));
  const drills: JudgedDrill[] = [];
  for (const entry of entries) {
    if (entry.row) builder.add(entry.timeMs, entry.row);
    for (const mark of entry.marksAdded ?? []) builder.mark(mark);
    if (entry.drill) drills.push(new JudgedDrill(entry.drill, entry.timeMs));
    drills.at(-1)?.add(entry);
  }
  return drills
    .filter(({ hasEnded }) => hasEnded)
    .map((drill) => drill.judge(builder.recording, logLines.get(drill.start.number) ?? []));
}

/** The entries of one drill, folded in their order. */
class JudgedDrill {
  readonly #phases: Phase[] = [];
  readonly #commands: OperatorCommand[] = [];
  readonly #samples: Sample[] = [];
  readonly #reasons: string[] = [];
  #verdict: DrillVerdict = "passed";
  #baseline: Baseline | undefined;
  #effect: ProvenEffect | undefined;
  #recovery: DrillResult["recovery"];
  #sender: SenderCounts | undefined;
  #endedAtMs: number | undefined;

  constructor(
    readonly start: NonNullable<RecordEntry["drill"]>,
    private readonly startedAtMs: number,
  ) {}

  get hasEnded(): boolean {
    return this.#endedAtMs !== undefined;
  }

  add(entry: RecordEntry): void {
    if (this.#endedAtMs !== undefined) return;
    if (entry.sample) this.#samples.push(entry.sample);
    this.#commands.push(...(entry.commandsAdded ?? []));
    this.#baseline = entry.baseline ?? this.#baseline;
    this.#effect = entry.effect ?? this.#effect;
    if (entry.problem) this.#judgeProblem(entry.problem);
    if (entry.recoveryWait) this.#judgeRecovery(entry.recoveryWait);
    if (entry.phase) {
      this.#phases.push(entry.phase);
      if (entry.phase.name === "fault" && this.#effect) this.#judgeFreshness(entry.phase);
    }
    if (entry.drillEnded) {
      this.#sender = entry.drillEnded.sender;
      this.#endedAtMs = entry.timeMs;
    }
  }

  judge(recording: Recording, logLines: DrillResult["logLines"]): Judged {
    const { name, title, hypothesis, fault, runbook, repeat } = this.start;
    const result: DrillResult = {
      ...{ name, title, hypothesis, fault },
      verdict: this.#verdict,
      reasons: this.#reasons,
      ...(this.#effect ? { effect: { timeMs: this.#effect.timeMs, proof: this.#effect.proof } } : {}),
      beats: this.#phases,
      ...(this.#recovery ? { recovery: this.#recovery } : {}),
      recording: sliceRecording(recording, this.startedAtMs, this.#endedAtMs!),
      commands: this.#commands.toSorted((a, b) => a.timeMs - b.timeMs),
      logLines,
      ...(runbook ? { runbook } : {}),
      repeat,
    };
    return { result, sender: this.#sender };
  }

  /** The first failure decides; an inconclusive or interrupted drill stays so. */
  #fail(reason: string): void {
    this.#reasons.push(reason);
    if (this.#verdict === "passed") this.#verdict = "failed";
  }

  #judgeProblem({ kind, reason }: DrillProblem): void {
    if (kind === "violation") {
      this.#fail(reason);
      return;
    }
    this.#reasons.push(reason);
    if (kind === "no_effect") this.#verdict = "inconclusive";
    else if (kind === "interrupted") this.#verdict = "interrupted";
    else if (kind === "error") {
      // An error before the effect is proven shows nothing about the pipeline.
      if (!this.#effect) this.#verdict = "inconclusive";
      else if (this.#verdict === "passed") this.#verdict = "failed";
    }
    // A pipeline that is not restored fails its drill, unless it was interrupted.
    else if (this.#verdict !== "interrupted") this.#verdict = "failed";
  }

  #judgeRecovery(wait: RecoveryWait): void {
    const { budgetMs = 0 } = this.start;
    this.#recovery = this.#baseline && measureRecovery(this.#samples, this.#baseline, wait, budgetMs);
    if (!this.#recovery) {
      this.#fail(`not recovered within ${formatDuration(RECOVERY_LIMIT_MS)}: ${wait.timedOut ?? "unknown"}`);
    } else if (this.#recovery.measured_ms > budgetMs) {
      const measured = formatDuration(this.#recovery.measured_ms);
      this.#fail(`recovery took ${measured}, the budget is ${formatDuration(budgetMs)}`);
    }
  }

  #judgeFreshness({ startedAtMs, endedAtMs }: Phase): void {
    const limit = this.start.freshnessLimitSeconds;
    const oldest = oldestAge(this.#samples, startedAtMs, endedAtMs);
    if (limit === undefined || oldest <= limit) return;
    this.#fail(`the newest event of a conveyor was ${oldest.toFixed(1)} s old, the limit is ${limit} s`);
  }
}

/** Records of a history that belong to one run, and those of no run (commits, faults). */
export function historyOfRun(history: History, run: string, meta: Partial<HistoryMeta>): History {
  return {
    meta: { ...history.meta, ...meta },
    recorded: (kind) => history.recorded(kind),
    each: (kind, visit) =>
      history.each(kind, (record) => {
        const owner = (record as { run?: string }).run;
        if (owner === undefined || owner === run) visit(record);
      }),
  };
}

/** The results with their ledgers: a violated invariant fails its drill, and so does a ledger that could not be judged. */
async function judgeLedgers(judged: readonly Judged[], history: History): Promise<DrillResult[]> {
  const results: DrillResult[] = [];
  for (const { result, sender } of judged) {
    if (!sender) {
      results.push(result);
      continue;
    }
    const { run, again } = sender;
    const verdict = await judgeHistory(
      historyOfRun(history, run, { retries: again, idempotent_producer: again === 0 }),
    );
    const end = closing(verdict);
    const violated = verdict.laws
      .filter(({ status }) => status === "failed")
      .map(({ law, detail }) => `${law} is violated: ${detail}`);
    if (end.exitCode !== EXIT.ok && violated.length === 0) violated.push(`the ledger could not be judged: ${end.line}`);
    results.push({
      ...result,
      ledger: ledgerOf(verdict),
      verdict: violated.length > 0 && result.verdict === "passed" ? "failed" : result.verdict,
      reasons: [...result.reasons, ...violated],
    });
  }
  return results;
}
