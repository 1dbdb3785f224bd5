/** The ledger of a load by identity: acknowledged events against points in InfluxDB and dead letters. */
import { countOf } from "../../services/domain/ledger-ranges.ts";
import type { Range } from "../../services/domain/sequence.ts";
import type { ConveyorLedger } from "../../services/protocol/load-generator.ts";
import type { Ledger } from "../recording/result.ts";

/** Sequence numbers found in the database, per conveyor. */
export class FoundSequences {
  readonly #found = new Map<string, Uint8Array>();
  #stored = 0;
  #duplicated = 0;

  /** Number of distinct identities. */
  get stored(): number {
    return this.#stored;
  }

  /** Points beyond the first of an identity. */
  get duplicated(): number {
    return this.#duplicated;
  }

  add(conveyor: string, seq: number): void {
    let seen = this.#found.get(conveyor);
    if (!seen || seq >= seen.length) {
      const larger = new Uint8Array(Math.max(1024, 2 * (seq + 1)));
      if (seen) larger.set(seen);
      seen = larger;
      this.#found.set(conveyor, seen);
    }
    if (seen[seq]) this.#duplicated++;
    else this.#stored++;
    seen[seq] = 1;
  }

  /** Count of numbers in the ranges that were not found. */
  missing(conveyor: string, ranges: readonly Range[]): number {
    const seen = this.#found.get(conveyor);
    let missing = 0;
    for (const [first, last] of ranges) for (let seq = first; seq <= last; seq++) if (!seen?.[seq]) missing++;
    return missing;
  }
}

/**
 * @param offered events that were due, sent or not
 * @param deadLettered dead letters of the run
 */
export function loadLedger(
  offered: number,
  conveyors: readonly ConveyorLedger[],
  found: FoundSequences,
  deadLettered: number,
): Ledger {
  const acknowledged = conveyors.reduce((sum, { acknowledged: ranges }) => sum + countOf(ranges), 0);
  const unknown = conveyors.reduce((sum, { unknown: ranges }) => sum + countOf(ranges), 0);
  return {
    offered,
    acknowledged,
    failed: offered - acknowledged - unknown,
    unknown,
    stored: found.stored,
    dead_lettered: deadLettered,
    lost: Math.max(0, missingOf(conveyors, found) - deadLettered),
    duplicated: found.duplicated,
  };
}

export const missingOf = (conveyors: readonly ConveyorLedger[], found: FoundSequences): number =>
  conveyors.reduce((sum, { conveyor, acknowledged }) => sum + found.missing(conveyor, acknowledged), 0);
