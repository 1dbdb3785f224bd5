/** The log line in which a producer records its acknowledgements; scripts/audit reads it after the producer has ended. */
import type { Range } from "../domain/sequence.ts";

export const LEDGER_CHECKPOINT = "ledger_checkpoint";

export interface LedgerCheckpoint {
  /** The producer's own run, which identifies its process. */
  run: string;
  /** Numbers the lines of a process from 1. */
  number: number;
  /** Acknowledged but no longer listed, because a bound was reached. */
  dropped: number;
  repeated: number;
  final: boolean;
  /** In the last line: accepted events whose outcome is not known. */
  unsettled?: number;
  ledger: Record<string, Record<string, Range[]>>;
}

/** A ledger in a log line. A log store that splits objects into fields keeps a list as one text. */
type LedgerList = [run: string, conveyor: string, ranges: Range[]][];

/** The fields of the log line of a checkpoint. */
export function checkpointFields({ ledger, ...checkpoint }: LedgerCheckpoint): Record<string, unknown> {
  const list: LedgerList = Object.entries(ledger).flatMap(([run, conveyors]) =>
    Object.entries(conveyors).map(([conveyor, ranges]): LedgerList[number] => [run, conveyor, ranges]),
  );
  return { ...checkpoint, ledger: list };
}

/** The ledger of a line: a list, its text from a log store, or the object that earlier producers wrote. */
function readLedger(value: unknown): LedgerCheckpoint["ledger"] | undefined {
  const held: unknown = typeof value === "string" ? JSON.parse(value) : value;
  if (!Array.isArray(held))
    return typeof held === "object" && held !== null ? (held as LedgerCheckpoint["ledger"]) : undefined;
  const ledger: LedgerCheckpoint["ledger"] = Object.create(null);
  for (const [run, conveyor, ranges] of held as LedgerList) {
    ledger[run] ??= Object.create(null) as Record<string, Range[]>;
    ledger[run][conveyor] = ranges;
  }
  return ledger;
}

/** The checkpoint in a log line, also in one of a log store that keeps all values as text; undefined for any other line. */
export function readCheckpoint(text: string): LedgerCheckpoint | undefined {
  if (!text.includes(LEDGER_CHECKPOINT)) return undefined;
  try {
    const line = JSON.parse(text.slice(text.indexOf("{"))) as Record<string, unknown>;
    const ledger = readLedger(line.ledger);
    if (line.event !== LEDGER_CHECKPOINT || typeof line.run !== "string" || !ledger) return undefined;
    return {
      run: line.run,
      number: Number(line.number),
      dropped: Number(line.dropped),
      repeated: Number(line.repeated),
      final: String(line.final) === "true",
      ...(line.unsettled === undefined ? {} : { unsettled: Number(line.unsettled) }),
      ledger,
    };
  } catch {
    return undefined;
  }
}
