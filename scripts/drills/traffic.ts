/** The drills' own traffic: an ordered load of the load generator, and the ledger of what its sender attempted. */
import type { GeneratorLine, LoadEvents } from "../../services/protocol/load-generator.ts";
import type { AttemptRecord, OutcomeRecord } from "../audit/history.ts";
import { OperatorError } from "../cli/errors.ts";
import { pause } from "../cli/wait.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { GeneratorPod } from "../load/generator-pod.ts";
import type { SenderCounts } from "../recording/run-record.ts";

/** Shows a gap of a tenth of a second, and leaves two cores to the pipeline. */
const EVENTS_PER_SECOND = 100;
/** One for each partition of the topic (Kafka's partitioner, 6 partitions), so that every partition is measured. */
export const CONVEYORS = ["drill-2", "drill-0", "drill-1", "drill-5", "drill-11", "drill-7"];
/** Longer than any drill. */
const MAX_SECONDS = 3600;
/** The sender drains for 20 s at most; its last line arrives within some seconds more. */
const END_LIMIT_MS = 60_000;

export interface SenderLedger extends SenderCounts {
  attempts: AttemptRecord[];
  outcomes: OutcomeRecord[];
}

export interface Traffic {
  readonly startedAtMs: number;
  counts(): SenderCounts;
  /**
   * Longest wait of a batch for its acknowledgement since the call before: of outstanding batches and of those that were
   * answered meanwhile, so that no wait falls between two samples. Until the sender's newest line, by its clock: its log
   * arrives up to seconds late on a busy machine, and that is no wait. While it prints nothing, no event is stored either.
   */
  waitedMs(): number;
  /** Ends the events, waits for outstanding batches (unless `atOnce`) and deletes the sender. */
  stop(atOnce?: boolean): Promise<SenderLedger>;
}

/** Counts and lists the batches of a sender from its lines, in their order. */
export class SenderTally {
  readonly ledger: SenderLedger;
  /** Conveyor → when its outstanding batch was first sent. */
  readonly #outstanding = new Map<string, number>();
  #longestAnsweredMs = 0;
  #newestLineMs = 0;
  #isComplete = false;

  constructor(run: string) {
    this.ledger = { run, offered: 0, acknowledged: 0, unknown: 0, again: 0, attempts: [], outcomes: [] };
  }

  /** The sender has printed its last line. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  add(line: GeneratorLine): void {
    const { ledger } = this;
    const { run } = ledger;
    if ("t" in line) this.#newestLineMs = Math.max(this.#newestLineMs, line.t);
    if ("attempt" in line) {
      const [conveyor, seq, last_seq] = line.attempt;
      ledger.offered += last_seq - seq + 1;
      ledger.attempts.push({ run, conveyor, seq, last_seq, t_ms: line.t });
      this.#outstanding.set(conveyor, line.t);
    } else if ("outcome" in line) {
      const [conveyor, seq, last_seq] = line.batch;
      ledger[line.outcome === "ok" ? "acknowledged" : "unknown"] += last_seq - seq + 1;
      ledger.outcomes.push({ run, conveyor, seq, last_seq, outcome: line.outcome, t_ms: line.t });
      const sinceMs = this.#outstanding.get(conveyor) ?? line.t;
      this.#outstanding.delete(conveyor);
      this.#longestAnsweredMs = Math.max(this.#longestAnsweredMs, line.t - sinceMs);
    } else if ("again" in line) ledger.again += line.again;
    else if ("done" in line) this.#isComplete = true;
  }

  waitedMs(): number {
    const waits = [...this.#outstanding.values()].map((sinceMs) => this.#newestLineMs - sinceMs);
    const longest = Math.max(this.#longestAnsweredMs, ...waits);
    this.#longestAnsweredMs = 0;
    return longest;
  }
}

export const countsOf = ({ attempts: _attempts, outcomes: _outcomes, ...counts }: SenderLedger): SenderCounts => counts;

/** Starts the sender of one drill. @throws OperatorError when it does not start. */
export async function startTraffic(
  cluster: Cluster,
  options: { image: string; run: string; folder: string; events: LoadEvents },
  signal: AbortSignal,
): Promise<Traffic> {
  const tally = new SenderTally(options.run);
  const pod = await GeneratorPod.start(
    cluster,
    {
      ...options,
      stages: [{ seconds: MAX_SECONDS, events_per_second: EVENTS_PER_SECOND }],
      schedule: { kind: "ordered", conveyors: CONVEYORS },
    },
    signal,
    (line) => tally.add(line),
  );
  return {
    startedAtMs: Date.now(),
    counts: () => countsOf(tally.ledger),
    waitedMs: () => tally.waitedMs(),
    async stop(atOnce = false) {
      const over = new AbortController();
      try {
        if (atOnce) return tally.ledger;
        pod.terminate();
        await Promise.race([pod.ended, pause(END_LIMIT_MS, over.signal)]);
        if (!tally.isComplete) throw new OperatorError(`pod ${pod.name} ended without its last line`);
        return tally.ledger;
      } finally {
        over.abort();
        await pod.remove();
      }
    },
  };
}
