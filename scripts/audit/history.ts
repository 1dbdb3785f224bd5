/**
 * The recorded history of a run: attempts, outcomes, events in Kafka, points, dead letters. It is recorded first and
 * judged afterwards (verdict.ts), so that a verdict can be repeated from the files alone.
 *
 * A history is a folder: meta.json and one append-only JSONL file per kind of record. An empty file means that nothing
 * was found; a missing file means that the kind was not recorded, and nothing is concluded from it. Readers stream: a
 * file of any length takes one block of memory.
 */
import { existsSync } from "node:fs";
import { type FileHandle, mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { LineSplitter } from "../../services/domain/ndjson.ts";
import { writeAtomic } from "../cli/files.ts";

/** Identifies one event, permanently. */
export interface Identity {
  run: string;
  conveyor: string;
  seq: number;
}

/** One event, or all from `seq` to `last_seq`, as in a producer's ledger. */
export interface Identities extends Identity {
  last_seq?: number;
}

/** Written and synced before the event is passed to the producer. */
export interface AttemptRecord extends Identities {
  t_ms?: number;
}

export interface OutcomeRecord extends Identities {
  /** ok: acknowledged. fail: certainly not stored. unknown: neither, for example after a timeout. */
  outcome: "ok" | "fail" | "unknown";
  /** Where Kafka acknowledged it. */
  partition?: number;
  offset?: number;
  reason?: string;
  t_ms?: number;
}

/** One record of the topic, from a new reader; each reader writes its records in offset order per partition. */
export interface LogRecord extends Identity {
  /** 1 for the first reader, 2 for the second. */
  reader: number;
  partition: number;
  offset: number;
  /** Hash of the payload. */
  hash?: string;
  /** The event's own time. */
  ts_ms?: number;
  /** Checksum of what the event says: valuesChecksum() of services/domain/point.ts. */
  values?: number;
  /** What an event that is not of version 1 says: hashes of services/domain/point-content.ts. */
  point?: {
    key: string;
    /** Of the fields, one after the other. */
    fields: string;
    /** The producer assigned the identity. */
    assigned?: true;
    /** Not judged; it may have replaced values of an event that is. */
    foreign?: true;
  };
}

/** A batch of the topic whose records the first reader could not read. */
export interface UnreadableRecord {
  partition: number;
  first_offset: number;
  last_offset: number;
  reason: string;
}

/** One point of the database. */
export interface SinkRecord extends Identities {
  /** The point's timestamp in nanoseconds, decimal text: it exceeds 2^53. */
  t_ns?: string;
  /** Checksum of what the point says, as of an event. */
  values?: number;
}

/** One field of a point without identity, by the hashes of services/domain/point-content.ts. */
interface StoredFieldRecord {
  key: string;
  field: string;
}

/** A point of an event that is not judged, at the timestamp of a missing event of the same conveyor. */
interface HolderRecord extends Identity {
  t_ns: string;
}

/** One write of an event by the processor; a redelivered event has several. */
interface WriteRecord extends Identities {
  t_ms?: number;
}

/** A dead letter. One without identity (its body was no event) is counted, but explains no missing event. */
interface DeadLetterEntry extends Partial<Identity> {
  reason: string;
}

/** An event that the database refused, whatever the processor did then. */
interface RefusalRecord extends Identity {
  reason?: string;
}

/** A commit of the consumer group: `offset` is the next one it will read. */
interface CommitRecord {
  partition: number;
  offset: number;
  t_ms?: number;
}

export interface FaultRecord {
  kind: string;
  target: string;
  t0_ms: number;
  t1_ms: number;
  /** Evidence that the fault happened: a changed pod UID, a counter of dropped packets. */
  proof?: string;
  /** Most events that the processor may write repeatedly because of this fault. */
  redeliveries_max?: number;
}

export interface Records {
  attempts: AttemptRecord;
  outcomes: OutcomeRecord;
  log: LogRecord;
  unreadable: UnreadableRecord;
  sink: SinkRecord;
  stored_fields: StoredFieldRecord;
  holders: HolderRecord;
  writes: WriteRecord;
  dlq: DeadLetterEntry;
  refusals: RefusalRecord;
  commits: CommitRecord;
  faults: FaultRecord;
}

export type Kind = keyof Records;

export const KINDS: readonly Kind[] = [
  "attempts",
  "outcomes",
  "log",
  "unreadable",
  "sink",
  "stored_fields",
  "holders",
  "writes",
  "dlq",
  "refusals",
  "commits",
  "faults",
];

export interface HistoryMeta {
  /** False: the producer may repeat a record when it retries; absent or true: it may not. */
  idempotent_producer?: boolean;
  /** Retries of a producer that is not idempotent; they explain as many duplicates. */
  retries?: number;
  /** Most repeats that the senders may not have counted in `retries`, since a bound removed identities from their ledgers. */
  retries_uncounted?: number;
  /** Acknowledged events that the senders counted and `outcomes` does not list. */
  unlisted?: number;
  /** False: `attempts` is incomplete, so that an event outside it is not certainly a phantom. */
  attempts_complete?: boolean;
  /** The sources had stopped and the group had read to the end when `sink` was read: nothing was in flight. */
  quiescent?: boolean;
  /** Why a kind was not recorded, for the verdict's detail. */
  not_recorded?: Partial<Record<Kind, string>>;
  /** Events of any run that Kafka deleted in the window before the group read them. */
  deleted_unread?: number;
  /** Acknowledged events of the judged runs before the first one that Kafka has in the window. */
  acknowledged_before?: number;
  /** Bounds of invariant R1. */
  ack_gap_max_ms?: number;
  recovery_max_ms?: number;
}

/** Input of the verdict, which may read a kind more than once. */
export interface History {
  readonly meta: HistoryMeta;
  recorded(kind: Kind): boolean;
  /** Every record of a kind, in the order written. */
  each<K extends Kind>(kind: K, visit: (record: Records[K]) => void): Promise<void>;
}

// ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

const META_FILE = "meta.json";
/** Lines are buffered up to this size: a system call per event would be slower than Kafka. */
const WRITE_BLOCK_CHARS = 64 * 1024;
/** No record is nearly as long; a longer line is a foreign file and must not fill the memory. */
const MAX_LINE_BYTES = 64 * 1024;

const fileOf = (folder: string, kind: Kind) => join(folder, `${kind}.jsonl`);

/** Appends records to the files of a history. */
export class HistoryWriter implements AsyncDisposable {
  readonly folder: string;
  readonly #files = new Map<Kind, { handle: FileHandle; pending: string[]; pendingChars: number }>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async open(folder: string): Promise<HistoryWriter> {
    await mkdir(folder, { recursive: true });
    return new HistoryWriter(folder);
  }

  /** Marks a kind as recorded, also if no record follows. */
  async begin(kind: Kind): Promise<void> {
    if (this.#files.has(kind)) return;
    this.#files.set(kind, { handle: await open(fileOf(this.folder, kind), "a"), pending: [], pendingChars: 0 });
  }

  async append<K extends Kind>(kind: K, record: Records[K]): Promise<void> {
    await this.begin(kind);
    const file = this.#files.get(kind)!;
    const line = `${JSON.stringify(record)}\n`;
    file.pending.push(line);
    file.pendingChars += line.length;
    if (file.pendingChars >= WRITE_BLOCK_CHARS) await this.#write(kind);
  }

  /** Resolves when all records of a kind are on disk, before the action that they announce. */
  async sync(kind: Kind): Promise<void> {
    await this.#write(kind);
    await this.#files.get(kind)?.handle.datasync();
  }

  /** Reads back what was appended to a kind. */
  async each<K extends Kind>(kind: K, visit: (record: Records[K]) => void): Promise<void> {
    if (!this.#files.has(kind)) return;
    await this.#write(kind);
    await eachLine(fileOf(this.folder, kind), visit as (record: unknown) => void);
  }

  async #write(kind: Kind): Promise<void> {
    const file = this.#files.get(kind);
    if (!file || file.pending.length === 0) return;
    const text = file.pending.join("");
    file.pending = [];
    file.pendingChars = 0;
    await file.handle.appendFile(text);
  }

  /** Writes buffered records and meta.json; the history is complete afterwards. */
  async close(meta: HistoryMeta): Promise<void> {
    for (const kind of this.#files.keys()) await this.sync(kind);
    await this[Symbol.asyncDispose]();
    await writeAtomic(join(this.folder, META_FILE), `${JSON.stringify(meta, null, 2)}\n`);
  }

  /** Closes the files of an interrupted recording; without meta.json the folder is not taken for a complete one. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { handle } of this.#files.values()) await handle.close();
    this.#files.clear();
  }
}

/**
 * Opens a history folder.
 * @throws Error that names the file when meta.json is missing: an interrupted recording is not judged as a complete one.
 */
export async function openHistory(folder: string): Promise<History> {
  const meta = JSON.parse(await readFile(join(folder, META_FILE), "utf8")) as HistoryMeta;
  return {
    meta,
    recorded: (kind) => existsSync(fileOf(folder, kind)),
    async each<K extends Kind>(kind: K, visit: (record: Records[K]) => void) {
      const path = fileOf(folder, kind);
      if (existsSync(path)) await eachLine(path, visit as (record: unknown) => void);
    },
  };
}

/**
 * Visits every line of a JSONL file, parsed. A last line without line break was interrupted while it was written and is
 * skipped: the action that it announced had not begun.
 */
async function eachLine(path: string, visit: (record: unknown) => void): Promise<void> {
  const splitter = new LineSplitter(MAX_LINE_BYTES);
  const decoder = new TextDecoder();
  for await (const chunk of Bun.file(path).stream()) {
    for (const { bytes, length, number } of splitter.push(chunk)) {
      if (length > MAX_LINE_BYTES) throw new Error(`${path}:${number}: a line must be at most ${MAX_LINE_BYTES} bytes`);
      const line = decoder.decode(bytes);
      let record: unknown;
      try {
        record = JSON.parse(line);
      } catch (error) {
        throw new Error(`${path}:${number}: is not JSON: ${line.slice(0, 80)}`, { cause: error });
      }
      visit(record);
    }
  }
}
