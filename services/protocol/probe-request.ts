/** What services/tools/probe.ts can be asked, and why it refuses to be asked anything else. */
import { NAME_PATTERN, NAME_RULE, shown } from "../domain/event.ts";
import {
  anyText,
  fields,
  integer,
  listOf,
  matching,
  moment,
  oneOf,
  optional,
  parseRequest,
  type Rule,
  type RulesOf,
  text,
  texts,
} from "./request.ts";

/** PEM texts or paths. */
interface TlsFiles {
  ca?: string;
  cert?: string;
  key?: string;
}

export interface PartitionOffset {
  partition: number;
  offset: number;
}

interface KafkaAccess {
  brokers: string[];
  tls: TlsFiles;
}

const OPERATIONS = [
  "metadata",
  "produce",
  "fetch",
  "list_offsets",
  "describe_topics",
  "describe_acls",
  "describe_groups",
  "create_topic",
] as const;

/** The fields of each kind of probe. */
interface ProbeFields {
  tcp: { host: string; port: number };
  tls: { host: string; port: number; servername?: string } & TlsFiles;
  plaintext_kafka: { host: string; port: number };
  http: { url: string; method?: string; headers?: Record<string, string>; body?: string; ca?: string };
  self: object;
  kafka: KafkaAccess & { op: (typeof OPERATIONS)[number]; topic?: string; topics?: string[] };
  /** With `group`, what that group has committed too. */
  kafka_offsets: KafkaAccess & { topic: string; group?: string };
  /** A page of the dead-letter topic, letters with their bodies. */
  letter_read: KafkaAccess & {
    topic?: string;
    /** Where to begin and end, per partition; without `from` the first page since from_timestamp_ms. */
    from?: PartitionOffset[];
    to?: PartitionOffset[];
    from_timestamp_ms?: number;
  };
  dlq_read: KafkaAccess & {
    topic?: string;
    from_timestamp_ms?: number;
    /** Only letters whose body names the run. */
    run?: string;
    max?: number;
  };
}

interface Common {
  id: string;
  timeout_ms?: number;
}

export type Probe = { [Kind in keyof ProbeFields]: Common & { kind: Kind } & ProbeFields[Kind] }[keyof ProbeFields];

const MAX_PORT = 65_535;
const count = integer(0, Number.MAX_SAFE_INTEGER);
const host = { host: text, port: integer(1, MAX_PORT) };
const tlsFiles = { ca: optional(text), cert: optional(text), key: optional(text) };
const kafka = {
  brokers: listOf(matching(/^[A-Za-z0-9.-]+:\d{1,5}$/, "must be host:port")),
  tls: fields<TlsFiles>(tlsFiles),
};
const offsets = listOf(fields<PartitionOffset>({ partition: count, offset: count }));

const RULES: { [Kind in keyof ProbeFields]: RulesOf<ProbeFields[Kind]> } = {
  tcp: host,
  tls: { ...host, ...tlsFiles, servername: optional(text) },
  plaintext_kafka: host,
  http: {
    url: matching(/^https?:\/\/./, "must be an http:// or https:// address"),
    method: optional(text),
    headers: optional(texts),
    body: optional(anyText),
    ca: optional(text),
  },
  self: {},
  kafka: { ...kafka, op: oneOf(OPERATIONS), topic: optional(text), topics: optional(listOf(text)) },
  kafka_offsets: { ...kafka, topic: text, group: optional(text) },
  letter_read: {
    ...kafka,
    topic: optional(text),
    from: optional(offsets),
    to: optional(offsets),
    from_timestamp_ms: optional(moment),
  },
  dlq_read: {
    ...kafka,
    topic: optional(text),
    from_timestamp_ms: optional(moment),
    run: optional(matching(NAME_PATTERN, NAME_RULE)),
    max: optional(count),
  },
};

/** A probe's answer is found by its id; the limit is cut to what a probe may take at most. */
const common = { id: text, kind: text, timeout_ms: optional(count) };

const isKind = (kind: unknown): kind is keyof ProbeFields => typeof kind === "string" && Object.hasOwn(RULES, kind);

const probeRule: Rule = (value, field) => {
  if (typeof value !== "object" || value === null) return `${field}: must be an object; got ${shown(value)}`;
  const { kind } = value as { kind?: unknown };
  if (!isKind(kind)) return `${field}.kind: must be one of ${Object.keys(RULES).join(", ")}; got ${shown(kind)}`;
  return fields<Record<string, unknown>>({ ...common, ...RULES[kind] })(value, field);
};

/**
 * The probes of a request.
 * @param request a JSON array of probes
 * @throws Error that names the field, the rule and the value: `probes[0].hots: is not a field (…); got "10.0.0.1"`
 */
export function parseProbes(request: string): Probe[] {
  return parseRequest(request, "probes", listOf(probeRule)) as Probe[];
}
