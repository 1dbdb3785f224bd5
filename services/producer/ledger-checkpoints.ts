/**
 * Says in the log what was acknowledged, so that it is known when the process is gone: /ledger dies with its pod, a log
 * line does not, and the log is no part of what an audit judges, as a topic of Kafka's would be.
 *
 * Every few seconds one `ledger_checkpoint` (in several lines where one would be too long) lists the conveyors with new
 * acknowledgements, each with the ranges that hold them; the last one, after the flush, is `final`. The lines of a life
 * put together give its ledger; they are numbered, so a line that was lost shows. What was acknowledged between the last
 * line and a kill -9 is not known to anybody, and an audit says so.
 */
import type { Ledger, LedgerEntry } from "../domain/sequence.ts";
import { LEDGER_CHECKPOINT, type LedgerCheckpoint } from "../protocol/ledger-checkpoint.ts";
import type { Logger } from "../runtime/log.ts";

/** What a kill -9 leaves unknown; 20 conveyors write some 15 MB a day at this pace. */
export const CHECKPOINT_MS = 5000;
/** Container runtimes cut lines at 16 KiB. */
const MAX_LINE_CHARS = 8 * 1024;
/** Conveyors per checkpoint: a client that invents names must not flood the log; the others come with the next one. */
const MAX_ENTRIES = 2000;
/** At the end there is no next one. */
const MAX_FINAL_ENTRIES = 10_000;
/** Ranges of one conveyor in one line; a source full of gaps takes several. */
const MAX_RANGES_PER_LINE = 300;

/** The entries in portions whose text is short enough for a line each. */
function portions(entries: readonly LedgerEntry[]): LedgerCheckpoint["ledger"][] {
  const lines: LedgerCheckpoint["ledger"][] = [];
  let current: LedgerCheckpoint["ledger"] = {};
  let chars = 0;
  for (const { run, conveyor, ranges } of entries) {
    for (let from = 0; from < ranges.length; from += MAX_RANGES_PER_LINE) {
      const part = ranges.slice(from, from + MAX_RANGES_PER_LINE);
      const size = run.length + conveyor.length + JSON.stringify(part).length + 12;
      if (chars > 0 && chars + size > MAX_LINE_CHARS) {
        lines.push(current);
        current = {};
        chars = 0;
      }
      current[run] ??= {};
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

  constructor(
    private readonly options: {
      /** The producer's own run. */
      run: string;
      ledger: Ledger;
      log: Logger;
      intervalMs?: number;
    },
  ) {}

  start(): void {
    this.#timer = setInterval(() => this.write(false), this.options.intervalMs ?? CHECKPOINT_MS);
  }

  /** Writes what is new; nothing when nothing is, unless it is the last word. */
  write(final: boolean, unsettled?: number): void {
    const { ledger, log, run } = this.options;
    const entries = ledger.takeChanges(final ? MAX_FINAL_ENTRIES : MAX_ENTRIES);
    if (entries.length === 0 && !final) return;
    const lines = portions(entries);
    if (lines.length === 0) lines.push({});
    for (const [index, part] of lines.entries()) {
      log.info(LEDGER_CHECKPOINT, {
        run,
        number: ++this.#number,
        dropped: ledger.dropped,
        repeated: ledger.repeated,
        final: final && index === lines.length - 1,
        ...(unsettled === undefined ? {} : { unsettled }),
        ledger: part,
      } satisfies LedgerCheckpoint);
    }
  }

  /** The last word: nothing may be acknowledged afterwards. */
  stop(unsettled: number): void {
    clearInterval(this.#timer);
    this.write(true, unsettled);
  }
}
