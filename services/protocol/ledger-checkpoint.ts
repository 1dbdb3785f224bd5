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
