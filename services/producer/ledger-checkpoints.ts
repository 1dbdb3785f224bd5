/**
 * Writes the ledger of acknowledged events to the log, which outlives the pod, as /ledger does not. A Kafka topic would
 * not do, since an audit checks Kafka with it.
 *
 * Each checkpoint lists the conveyors with new acknowledgements and the ranges that contain them; the last one, after the
 * flush, is `final`. Numbers show a missing line. Events acknowledged after the last line of their conveyor and before a
 * kill -9 are unknown.
 */
import type { Ledger, LedgerEntry } from "../domain/sequence.ts";
import { checkpointFields, LEDGER_CHECKPOINT, type LedgerCheckpoint } from "../protocol/ledger-checkpoint.ts";
import type { Logger } from "../runtime/log.ts";

/** Interval; with 20 conveyors the log grows by 15 MB a day. */
const CHECKPOINT_MS = 5000;
/** Container runtimes cut lines at 16 KiB. */
const MAX_LINE_CHARS = 8 * 1024;
/**
 * Conveyors per checkpoint, so that a client with random names cannot flood the log; the next ones list the others in
 * turn. With more changing conveyors, each is listed every CHECKPOINT_MS per 2000 of them.
 */
const MAX_ENTRIES = 2000;
/** Conveyors of the final checkpoint, which has no next one. */
const MAX_FINAL_ENTRIES = 10_000;
/** Ranges of one conveyor per line; a source with many gaps needs several lines. */
const MAX_RANGES_PER_LINE = 300;

/** Without a prototype: a sender may name a run or a conveyor "constructor". */
const emptyRecord = () => Object.create(null) as Record<string, never>;

/** Divides the entries into portions that each fit into a line. */
function portions(entries: readonly LedgerEntry[]): LedgerCheckpoint["ledger"][] {
  const lines: LedgerCheckpoint["ledger"][] = [];
  let current: LedgerCheckpoint["ledger"] = emptyRecord();
  let chars = 0;
  for (const { run, conveyor, ranges } of entries) {
    for (let from = 0; from < ranges.length; from += MAX_RANGES_PER_LINE) {
      const part = ranges.slice(from, from + MAX_RANGES_PER_LINE);
      const size = run.length + conveyor.length + JSON.stringify(part).length + 12;
      if (chars > 0 && chars + size > MAX_LINE_CHARS) {
        lines.push(current);
        current = emptyRecord();
        chars = 0;
      }
      current[run] ??= emptyRecord();
      current[run][conveyor] = [...(current[run][conveyor] ?? []), ...part];
      chars += size;
    }
  }
  if (chars > 0) lines.push(current);
  return lines;
}

export class LedgerCheckpoints {
  #number = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly options: { run: string; ledger: Ledger; log: Logger }) {}

  start(): void {
    this.#timer = setInterval(() => this.write(false), CHECKPOINT_MS);
  }

  /** Writes the changes; without changes only the final line. */
  write(final: boolean, unsettled?: number): void {
    const { ledger, log, run } = this.options;
    const entries = ledger.takeChanges(final ? MAX_FINAL_ENTRIES : MAX_ENTRIES);
    if (entries.length === 0 && !final) return;
    const lines = portions(entries);
    if (lines.length === 0) lines.push({});
    for (const [index, part] of lines.entries()) {
      const checkpoint: LedgerCheckpoint = {
        run,
        number: ++this.#number,
        dropped: ledger.dropped,
        repeated: ledger.repeated,
        final: final && index === lines.length - 1,
        ...(unsettled === undefined ? {} : { unsettled }),
        ledger: part,
      };
      log.info(LEDGER_CHECKPOINT, checkpointFields(checkpoint));
    }
  }

  /** Writes the final line; no event may be acknowledged afterwards. */
  stop(unsettled: number): void {
    clearInterval(this.#timer);
    this.write(true, unsettled);
  }
}
