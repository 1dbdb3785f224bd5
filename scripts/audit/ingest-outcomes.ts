/** Reads the result of scripts/ingest.ts --json as a sender's outcomes: its pod, the only other holder of the ledger, is deleted. Pure. */
import { runStart } from "../../services/domain/run-id.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { OutcomeRecord } from "./history.ts";

export interface IngestOutcomes {
  /** Start of sending, ms since 1970; undefined for a run named by the user. */
  startedAtMs: number | undefined;
  outcomes: OutcomeRecord[];
  /** Repeated acknowledgements: the input held an identity more than once. */
  resent: number;
  /** Acknowledged events that `outcomes` does not list. */
  unlisted: number;
  /** False: the outcome of some lines is not known. */
  isComplete: boolean;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** @throws OperatorError (exit 2) that names the field, the rule and the value. */
export function readIngestOutcomes(text: string, source: string): IngestOutcomes {
  const wrong = (rule: string): never => {
    throw new OperatorError(`${source}: ${rule}`, {
      exitCode: EXIT.usage,
      hint: "bun scripts/ingest.ts FILE --json > account.json",
    });
  };
  let result: Record<string, unknown>;
  try {
    result = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return wrong("must be JSON, as scripts/ingest.ts --json prints it");
  }
  // The result of an earlier version has no `repeated`: what it does not list may be repeated or missing.
  const { run: sender, acknowledged, failed, repeated = 0, ledger } = result;
  if (typeof sender !== "string") return wrong(`run: must be the sender's run; got ${sender}`);
  if (!isCount(acknowledged)) return wrong(`acknowledged: must be an integer from 0; got ${acknowledged}`);
  if (!isCount(failed)) return wrong(`failed: must be an integer from 0; got ${failed}`);
  if (!isCount(repeated)) return wrong(`repeated: must be an integer from 0; got ${repeated}`);
  if (typeof ledger !== "object" || ledger === null) return wrong(`ledger: must be an object; got ${ledger}`);
  const outcomes: OutcomeRecord[] = [];
  let listed = 0;
  for (const [conveyor, entries] of Object.entries(ledger)) {
    for (const { run, ranges } of entries as { run?: unknown; ranges?: unknown }[]) {
      if (typeof run !== "string" || !Array.isArray(ranges))
        return wrong(`ledger.${conveyor}: must list run and ranges`);
      for (const range of ranges as unknown[]) {
        const [seq, last_seq] = Array.isArray(range) ? (range as unknown[]) : [];
        if (!isCount(seq) || !isCount(last_seq) || last_seq < seq) {
          return wrong(`ledger.${conveyor}: a range must be [first, last]; got ${JSON.stringify(range)}`);
        }
        outcomes.push({ run, conveyor, seq, last_seq, outcome: "ok" });
        listed += last_seq - seq + 1;
      }
    }
  }
  if (listed === 0) return wrong("ledger: lists no acknowledged event");
  const unlisted = acknowledged - repeated - listed;
  if (unlisted < 0) return wrong(`ledger: lists ${listed} events; ${acknowledged - repeated} were acknowledged`);
  return { startedAtMs: runStart(sender), outcomes, resent: repeated, unlisted, isComplete: failed === 0 };
}
