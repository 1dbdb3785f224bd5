/**
 * senders.json of the Secret producer-intake: who may send, which sources, and how much. The intake reads it, and
 * scripts/senders.ts writes it. Each token is kept as its SHA-256 digest, from which it cannot be derived: the command
 * makes tokens of 32 random bytes.
 *
 *   { "plant-a": { "tokens": ["sha256:<64 hex digits>"], "sources": ["plant-a-*", "belt-7"], "requests_per_second": 20 } }
 */
import { createHash, randomBytes } from "node:crypto";
import { NAME_PATTERN, NAME_RULE, shown } from "../domain/event.ts";

export const SENDERS_SECRET = "producer-intake";
export const SENDERS_FILE = "senders.json";
/** Path of the ops server at which a producer reports what it has read. */
export const SENDERS_PATH = "/senders";
/** Names of the shared tokens in metrics and logs. */
export const SHARED_SENDERS = ["token", "token-previous"] as const;

/** Every request is compared with every token. */
const MAX_SENDERS = 100;
/** Two overlap during a rotation. */
export const MAX_TOKENS_PER_SENDER = 4;
const MAX_PATTERNS_PER_SENDER = 100;
/** Shorter tokens can be guessed. */
const MIN_TOKEN_CHARS = 16;
const TOKEN_BYTES = 32;

/** A shard of InfluxDB with more than 100,000 series raises an alert (InfluxDBTooManySeries): a tenth of it for one sender. */
export const DEFAULT_MOST_SOURCES = 10_000;
export const DEFAULT_MOST_SERIES = 10_000;

/** Least and greatest value of each limit. A producer takes some 10,000 requests or 100 MB a second, far below these. */
export const LIMIT_RANGES = {
  requests_per_second: [1, 100_000],
  bytes_per_second: [1024, 1_000_000_000],
  most_sources: [1, 100_000],
  most_series: [1, 100_000],
} as const;
type LimitName = keyof typeof LIMIT_RANGES;
const LIMIT_NAMES = Object.keys(LIMIT_RANGES) as LimitName[];

/** Limits of a sender in each producer; a rate that is absent is not limited. */
export interface SenderLimits {
  requestsPerSecond?: number | undefined;
  bytesPerSecond?: number | undefined;
  /** Names of sources in use at one time. */
  mostSources: number;
  /** Series (measurement and tags) in use at one time. */
  mostSeries: number;
}

export interface SenderEntry {
  name: string;
  /** SHA-256 of each token in hex, the newest last. */
  digests: readonly string[];
  /** A token of the file is written as it is, not as its digest. */
  isPlain: boolean;
  /** Names of sources, or prefixes that end with "*". */
  sources: readonly string[];
  limits: SenderLimits;
}

/** What the intake of one producer uses at present (SENDERS_PATH). */
export interface SendersInUse {
  /** revisionOf() the file that is in use. */
  revision: string;
  /** Names, the shared tokens included. */
  senders: string[];
  /** Why a later file is not in use. */
  problem?: string | undefined;
}

/** SHA-256 of a text in hex: how a token is kept, and how the version of the file is named. */
export const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/** Names the content of the file; an absent one is the same as an empty one. */
export const revisionOf = (text: string): string => sha256(text.trim());

export const newToken = (): string => randomBytes(TOKEN_BYTES).toString("hex");

const DIGEST_PREFIX = "sha256:";
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/**
 * The entries of the file.
 * @throws Error that names the invalid field, and no token
 */
export function readSenders(text: string): SenderEntry[] {
  if (text.trim() === "") return [];
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    // The message of the parser would repeat a part of the text, which may hold tokens.
    throw new Error(`${SENDERS_FILE}: must be JSON`);
  }
  if (!isRecord(list)) throw new Error(`${SENDERS_FILE}: must be an object of senders by name`);
  const named = Object.entries(list);
  if (named.length > MAX_SENDERS)
    throw new Error(`${SENDERS_FILE}: must have at most ${MAX_SENDERS}; got ${named.length}`);
  const entries = named.map(([name, rights]) => entryOf(name, rights));
  const known = new Set<string>();
  for (const { name, digests } of entries) {
    for (const digest of digests) {
      if (known.has(digest)) throw new Error(`${SENDERS_FILE}, ${name}: a token must differ from every other one`);
      known.add(digest);
    }
  }
  return entries;
}

/** The file for these entries: readSenders() reads it back. @throws Error as readSenders() */
export function renderSenders(entries: readonly SenderEntry[]): string {
  const list = Object.fromEntries(
    entries.map(({ name, digests, sources, limits }) => [
      name,
      {
        tokens: digests.map((digest) => DIGEST_PREFIX + digest),
        sources,
        requests_per_second: limits.requestsPerSecond,
        bytes_per_second: limits.bytesPerSecond,
        most_sources: limits.mostSources,
        most_series: limits.mostSeries,
      } satisfies Partial<Record<LimitName | "tokens" | "sources", unknown>>,
    ]),
  );
  const text = `${JSON.stringify(list, undefined, 2)}\n`;
  readSenders(text);
  return text;
}

/** `conveyors` is the name of `sources` in files of earlier versions. */
const FIELDS: readonly string[] = ["tokens", "sources", "conveyors", ...LIMIT_NAMES];

function entryOf(name: string, rights: unknown): SenderEntry {
  const where = `${SENDERS_FILE}, ${shown(name)}`;
  if (!NAME_PATTERN.test(name)) throw new Error(`${where}: a name ${NAME_RULE}`);
  const fields = isRecord(rights) ? rights : {};
  const { tokens } = fields;
  if (!isList(tokens, MAX_TOKENS_PER_SENDER, isToken)) {
    const rule = `${DIGEST_PREFIX} and 64 hex digits, or at least ${MIN_TOKEN_CHARS} characters without whitespace`;
    throw new Error(`${where}: tokens must be a list of 1 to ${MAX_TOKENS_PER_SENDER}, each ${rule}`);
  }
  const unknown = Object.keys(fields).find((field) => !FIELDS.includes(field));
  if (unknown !== undefined) throw new Error(`${where}: ${shown(unknown)} is not a field (${FIELDS.join(", ")})`);
  if (fields.sources !== undefined && fields.conveyors !== undefined) {
    throw new Error(`${where}: must have sources or conveyors, which mean the same, not both`);
  }
  const key = fields.conveyors === undefined ? "sources" : "conveyors";
  const sources = fields[key];
  if (!isList(sources, MAX_PATTERNS_PER_SENDER, isPattern)) {
    const rule = `names of sources, or prefixes with * at the end; got ${shown(sources)}`;
    throw new Error(`${where}: ${key} must be a list of 1 to ${MAX_PATTERNS_PER_SENDER} ${rule}`);
  }
  const limit = (field: LimitName) => limitOf(fields[field], field, where);
  return {
    name,
    digests: tokens.map((token) => (DIGEST.test(token) ? token.slice(DIGEST_PREFIX.length) : sha256(token))),
    isPlain: !tokens.every((token) => DIGEST.test(token)),
    sources,
    limits: {
      requestsPerSecond: limit("requests_per_second"),
      bytesPerSecond: limit("bytes_per_second"),
      mostSources: limit("most_sources") ?? DEFAULT_MOST_SOURCES,
      mostSeries: limit("most_series") ?? DEFAULT_MOST_SERIES,
    },
  };
}

function limitOf(value: unknown, field: LimitName, where: string): number | undefined {
  if (value === undefined) return undefined;
  const [least, most] = LIMIT_RANGES[field];
  if (!Number.isInteger(value) || Number(value) < least || Number(value) > most) {
    throw new Error(`${where}: ${field} must be a whole number from ${least} to ${most}; got ${shown(value)}`);
  }
  return Number(value);
}

const isToken = (text: string) =>
  text.startsWith(DIGEST_PREFIX) ? DIGEST.test(text) : /^\S+$/.test(text) && text.length >= MIN_TOKEN_CHARS;

/** A name of a source, or a prefix with "*" at its end. */
export const isPattern = (text: string): boolean => text === "*" || NAME_PATTERN.test(text.replace(/\*$/, ""));

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isList = (value: unknown, most: number, isValid: (text: string) => boolean): value is string[] =>
  Array.isArray(value) &&
  value.length >= 1 &&
  value.length <= most &&
  value.every((one) => typeof one === "string" && isValid(one));
