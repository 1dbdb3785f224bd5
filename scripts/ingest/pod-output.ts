/**
 * What an ingest pod logs: its result, and its ledger in checkpoints. The log is followed while the pod runs, so that
 * neither its length nor its rotation on the node matters.
 */
import { addLedger, countOf, type RangesByRun } from "../../services/domain/ledger-ranges.ts";
import type { Range } from "../../services/domain/sequence.ts";
import { type IngestResult, readFinal } from "../../services/protocol/final-document.ts";
import { readCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";
import type { Cluster } from "../cluster/cluster.ts";

/** Lines for the error message of a pod without a result. */
const TAIL_LINES = 5;
/** Ranges of the ledger, some 100 MB; acknowledged events beyond them are counted and not listed. */
const MAX_RANGES = 1_000_000;

/** {conveyor: [{run, ranges}]}: an input may hold several runs of one conveyor. */
export type LedgerByConveyor = Record<string, { run: string; ranges: Range[] }[]>;

export class PodOutput implements Disposable {
  result: IngestResult | undefined;
  readonly tail: string[] = [];
  readonly #ranges: RangesByRun = new Map();
  #rangeCount = 0;
  readonly #stop = new AbortController();
  readonly #read: Promise<void>;

  constructor(cluster: Cluster, pod: string, signal: AbortSignal) {
    this.#read = this.#follow(cluster, pod, AbortSignal.any([signal, this.#stop.signal]));
    // Awaited in end(); an error before that belongs to the caller's own call.
    this.#read.catch(() => {});
  }

  async #follow(cluster: Cluster, pod: string, signal: AbortSignal): Promise<void> {
    for await (const line of cluster.follow(pod, (line) => line, signal)) this.#take(line);
  }

  #take(line: string): void {
    const checkpoint = readCheckpoint(line);
    if (checkpoint) {
      if (this.#rangeCount < MAX_RANGES) this.#rangeCount += addLedger(this.#ranges, checkpoint.ledger);
      return;
    }
    this.result ??= readFinal(line, "ingest");
    this.tail.push(line);
    if (this.tail.length > TAIL_LINES) this.tail.shift();
  }

  /** Waits until the log of the ended pod is read. After the limit, what was read so far is all. */
  async end(limitMs: number): Promise<void> {
    const limit = setTimeout(() => this.#stop.abort(), limitMs);
    await this.#read.finally(() => clearTimeout(limit));
  }

  /** The acknowledged sequence numbers, and how many acknowledged events they do not list. */
  ledgerOf({ acknowledged, repeated }: IngestResult): { dropped_from_ledger: number; ledger: LedgerByConveyor } {
    const ledger: LedgerByConveyor = Object.create(null);
    let listed = 0;
    for (const [run, conveyors] of this.#ranges) {
      for (const [conveyor, ranges] of conveyors) {
        ledger[conveyor] ??= [];
        ledger[conveyor].push({ run, ranges });
        listed += countOf(ranges);
      }
    }
    return { dropped_from_ledger: acknowledged - repeated - listed, ledger };
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }
}
