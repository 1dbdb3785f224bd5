/**
 * The account that scripts/ingest.ts gives of an input (--json), as what a sender was told: its pod is gone by then, and
 * its ledger stands only there. Pure.
 */
import { runStart } from "../../services/domain/run-id.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { OutcomeRecord } from "./history.ts";

export interface IngestOutcomes {
  /** When the sending began, ms since 1970; undefined where its run was named by a person. */
  startedAtMs: number | undefined;
  outcomes: OutcomeRecord[];
  /** Acknowledgements beyond the first of an identity: the input held it more than once. */
  resent: number;
  /** False: of some lines it is not known what became of them. */
  isComplete: boolean;
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** @throws OperatorError (exit 2) that names the field, the rule and the value. */
export function readIngestOutcomes(text: string, source: string): IngestOutcomes {
  const wrong = (rule: string): never => {
    throw new OperatorError(`${source}: ${rule}`, {
      exitCode: EXIT.usage,
      hint: "bun scripts/ingest.ts FILE --json > account.json",
    });
  };
  let account: Record<string, unknown>;
  try {
    account = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return wrong("must be JSON, as scripts/ingest.ts --json prints it");
  }
  const { run: sender, acknowledged, failed, ledger } = account;
  if (typeof sender !== "string") return wrong(`run: must be the sender's run; got ${sender}`);
  if (!isWhole(acknowledged)) return wrong(`acknowledged: must be a whole number; got ${acknowledged}`);
  if (!isWhole(failed)) return wrong(`failed: must be a whole number; got ${failed}`);
  if (typeof ledger !== "object" || ledger === null) return wrong(`ledger: must be an object; got ${ledger}`);
  const outcomes: OutcomeRecord[] = [];
  let listed = 0;
  for (const [conveyor, entries] of Object.entries(ledger)) {
    for (const { run, ranges } of entries as { run?: unknown; ranges?: unknown }[]) {
      if (typeof run !== "string" || !Array.isArray(ranges))
        return wrong(`ledger.${conveyor}: must list run and ranges`);
      for (const range of ranges as unknown[]) {
        const [seq, last_seq] = Array.isArray(range) ? (range as unknown[]) : [];
        if (!isWhole(seq) || !isWhole(last_seq) || last_seq < seq) {
          return wrong(`ledger.${conveyor}: a range must be [first, last]; got ${JSON.stringify(range)}`);
        }
        outcomes.push({ run, conveyor, seq, last_seq, outcome: "ok" });
        listed += last_seq - seq + 1;
      }
    }
  }
  if (listed === 0) return wrong("ledger: lists no acknowledged event");
  return { startedAtMs: runStart(sender), outcomes, resent: acknowledged - listed, isComplete: failed === 0 };
}
