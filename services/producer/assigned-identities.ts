/**
 * Identities of events that have none: the producer's own run with a suffix, and a counter per source. The suffix keeps
 * them apart from the events of the producer's simulated fleet, whose sources a sender may name too.
 */
import { assignedRun } from "../domain/run-id.ts";

/** Sources that are counted: a sender with random names must not fill the memory. The ledger lists as many. */
const MAX_SOURCES = 10_000;

export class AssignedIdentities {
  readonly #next = new Map<string, number>();
  #number = 1;
  #run: string;

  constructor(
    private readonly producerRun: string,
    private readonly maxSources = MAX_SOURCES,
  ) {
    this.#run = assignedRun(producerRun, this.#number);
  }

  /** The identity of the next event of a source; the same one until `use` is called. */
  next(source: string): { run: string; seq: number } {
    const seq = this.#next.get(source);
    if (seq === undefined && this.#next.size >= this.maxSources) {
      // The counters start again, under another run: no identity occurs twice.
      this.#next.clear();
      this.#run = assignedRun(this.producerRun, ++this.#number);
    }
    return { run: this.#run, seq: seq ?? 0 };
  }

  /** Counts the identity that `next` returned: its event is in the buffer. */
  use(source: string): void {
    this.#next.set(source, (this.#next.get(source) ?? 0) + 1);
  }
}
