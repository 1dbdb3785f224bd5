/** Requests to services/tools/probe.ts and its results. */
import { NAME_PATTERN, NAME_RULE, shown } from "../domain/event.ts";
import type { Acl } from "../domain/kafka-layout.ts";
import { kafkaShape, offsets, type PartitionOffset, tlsShape } from "./kafka.ts";
import {
  anyText,
  count,
  fields,
  integer,
  listOf,
  mapOf,
  matching,
  moment,
  oneOf,
  optional,
  parseRequest,
  type Rule,
  type Shape,
  type Shaped,
  text,
} from "./request.ts";

const MAX_PORT = 65_535;
const hostShape = { host: text, port: integer(1, MAX_PORT) };

/** Fields of each kind of probe. */
const KINDS = {
  tcp: hostShape,
  tls: { ...hostShape, ...tlsShape, servername: optional(text) },
  plaintext_kafka: hostShape,
  http: {
    url: matching(/^https?:\/\/./, "must be an http:// or https:// address"),
    method: optional(text),
    headers: optional(mapOf(anyText)),
    body: optional(anyText),
    ca: optional(text),
  },
  self: {},
  kafka: {
    ...kafkaShape,
    op: oneOf([
      "metadata",
      "produce",
      "fetch",
      "list_offsets",
      "describe_topics",
      "describe_acls",
      "describe_groups",
      "create_topic",
    ]),
    topic: optional(text),
    topics: optional(listOf(text)),
  },
  /** With `group` also the offsets that the group has committed. */
  kafka_offsets: { ...kafkaShape, topic: text, group: optional(text) },
  /** A page of the dead-letter topic, records with their bodies. */
  letter_read: {
    ...kafkaShape,
    topic: optional(text),
    /** First and end offset per partition; without `from` the first page since from_timestamp_ms. */
    from: optional(offsets),
    to: optional(offsets),
    from_timestamp_ms: optional(moment),
  },
  /** Headers of dead letters, bodies left out. */
  dlq_read: {
    ...kafkaShape,
    topic: optional(text),
    from_timestamp_ms: optional(moment),
    /** Only records whose body names the run. */
    run: optional(matching(NAME_PATTERN, NAME_RULE)),
    max: optional(count),
  },
} as const satisfies Record<string, Shape>;
type Kind = keyof typeof KINDS;

/** A probe finds its result by its id; a longer limit than the probe's maximum is cut. */
const commonShape = { id: text, kind: oneOf(Object.keys(KINDS)), timeout_ms: optional(count) };

export type ProbeSpec = { [K in Kind]: { kind: K; timeout_ms?: number } & Shaped<(typeof KINDS)[K]> }[Kind];
export type Probe = ProbeSpec & { id: string };
export type ProbeOf<K extends Kind> = Extract<Probe, { kind: K }>;

interface TopicDescription {
  topic: string;
  partitions: { partition: number; leader: number; replicas: number[]; isr: number[] }[];
  config: Record<string, string>;
}

export interface OffsetRange {
  partition: number;
  begin: number;
  end: number;
  /** Of the group, when the request names one. */
  committed?: number;
}

export interface DeadLetterRecord {
  partition: number;
  offset: number;
  /** Kafka's time of the record, milliseconds since the epoch. */
  timestampMs: number;
  headers: Record<string, string>;
  /** Base64: a body need not be text. */
  body: string;
}

export interface DeadLetterPage {
  letters: DeadLetterRecord[];
  /** Start of the next page; the topic has been read when it equals `to`. */
  next: PartitionOffset[];
  to: PartitionOffset[];
}

export type DeadLetterHeaders = Pick<DeadLetterRecord, "partition" | "headers"> & { offset: string; timestamp: number };

interface HttpAnswer {
  status: number;
  body: string;
}

/** Data in the result of each operation on Kafka. */
interface KafkaData {
  metadata: { brokers: { nodeId: number; host: string; port: number }[]; controller: number | null };
  produce: undefined;
  fetch: undefined;
  list_offsets: { partition: number; offset: string; high: string; low: string }[];
  describe_topics: TopicDescription[];
  describe_acls: Record<keyof Acl, string>[];
  describe_groups: { groupId: string; state: string; members: number }[];
  create_topic: undefined;
}

/** Data in the result of each kind of probe. */
interface KindData {
  tcp: undefined;
  tls: undefined;
  plaintext_kafka: undefined;
  http: HttpAnswer;
  self: { uid: number | undefined; gid: number | undefined; rootWritable: boolean };
  kafka: KafkaData[keyof KafkaData];
  kafka_offsets: OffsetRange[];
  letter_read: DeadLetterPage;
  dlq_read: DeadLetterHeaders[];
}

export type ProbeData<P extends ProbeSpec> = P extends { kind: "kafka"; op: infer Op extends keyof KafkaData }
  ? KafkaData[Op]
  : KindData[P["kind"]];

/** Outcome: "ok", "handshake_ok", "refused:…", "timeout", an HTTP status, an error code of Kafka. */
export type Finding<Data = unknown> =
  | { ok: true; outcome: string; detail: string; data: Data }
  /** An HTTP answer that is not 2xx has its data too. */
  | { ok: false; outcome: string; detail: string; data?: Data };

export type ProbeResult<Data = unknown> = Finding<Data> & { id: string; duration_ms: number };

const probeRule: Rule<Probe> = (value, field) => {
  if (typeof value !== "object" || value === null) return `${field}: must be an object; got ${shown(value)}`;
  const { kind } = value as { kind?: unknown };
  return (
    commonShape.kind(kind, `${field}.kind`) ?? fields({ ...commonShape, ...KINDS[kind as Kind] } as Shape)(value, field)
  );
};

/**
 * The probes of a request.
 * @param request a JSON array of probes
 * @throws Error that names the field, the rule and the value: `probes[0].hots: is not a field (…); got "10.0.0.1"`
 */
export const parseProbes = (request: string): Probe[] => parseRequest(request, "probes", listOf(probeRule));
