/**
 * The result of a program in a pod that ends by itself: one typed document on stdout, after its log lines and before those
 * of its shutdown.
 */

/** Result of a producer whose source is a file or stdin. */
export type IngestResult = {
  run: string;
  source: "file" | "stdin";
  /** Lines read, without blank ones. */
  read: number;
  /** False: the input was cut, or reading was interrupted. */
  input_complete: boolean;
  acknowledged: number;
  /** Acknowledgements of an identity that had been acknowledged before. */
  repeated: number;
  /** Acknowledged events that a bound removed from the ledger. */
  dropped_from_ledger: number;
  refused: number;
  refused_by_reason: Record<string, number>;
  failed: number;
  duration_ms: number;
};

/** Result of the setup job: names of topics, ACLs, buckets and tokens. */
type SetupResult = {
  created: string[];
  changed: string[];
  removed: string[];
  unchanged: string[];
  /** What setup cannot change, and a person must; an older image has none. */
  problems?: string[];
  duration_ms: number;
};

export interface FinalDocuments {
  ingest: IngestResult;
  setup: SetupResult;
}

export const finalLine = <Kind extends keyof FinalDocuments>(kind: Kind, document: FinalDocuments[Kind]): string =>
  `${JSON.stringify({ final: kind, document })}\n`;

/** The document in a pod's log; undefined when the program ended without it. */
export function readFinal<Kind extends keyof FinalDocuments>(
  log: string,
  kind: Kind,
): FinalDocuments[Kind] | undefined {
  for (const line of log.trimEnd().split("\n").reverse()) {
    try {
      const { final, document } = JSON.parse(line) as { final?: unknown; document: FinalDocuments[Kind] };
      if (final === kind) return document;
    } catch {
      // A line that was cut, or written by the runtime.
    }
  }
  return undefined;
}
