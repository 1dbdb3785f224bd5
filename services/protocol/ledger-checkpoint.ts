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

/** The checkpoint in a log line; undefined for any other line. */
export function readCheckpoint(text: string): LedgerCheckpoint | undefined {
  if (!text.includes(LEDGER_CHECKPOINT)) return undefined;
  try {
    const line = JSON.parse(text.slice(text.indexOf("{"))) as LedgerCheckpoint & { event?: string };
    return line.event === LEDGER_CHECKPOINT && typeof line.run === "string" && typeof line.ledger === "object"
      ? line
      : undefined;
  } catch {
    return undefined;
  }
}
