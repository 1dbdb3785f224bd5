/** Requests to services/tools/probe.ts and its results. */
import { shown } from "../domain/event.ts";
import type { Acl } from "../domain/kafka-layout.ts";
import { kafkaShape, type PartitionOffset, tlsShape } from "./kafka.ts";
import { checkFields, oneOf, optional, parseJson, required, type Shape, type Shaped } from "./request.ts";

const hostShape = { host: required<string>(), port: required<number>() };
const topic = optional<string>();
const from_timestamp_ms = optional<number>();

/** Fields of each kind of probe. */
const KINDS = {
  tcp: hostShape,
  tls: { ...hostShape, ...tlsShape, servername: optional<string>() },
  plaintext_kafka: hostShape,
  http: {
    url: required<string>(),
    method: optional<string>(),
    headers: optional<Record<string, string>>(),
    body: optional<string>(),
    ca: optional<string>(),
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
    topic,
    topics: optional<string[]>(),
  },
  /** With `group` also the offsets that the group has committed. */
  kafka_offsets: { ...kafkaShape, topic: required<string>(), group: optional<string>() },
  /**
   * A page of the dead-letter topic, records with their bodies: from the first to before the end offset per partition;
   * without `from` the first page since from_timestamp_ms.
   */
  letter_read: {
    ...kafkaShape,
    topic,
    from: optional<PartitionOffset[]>(),
    to: optional<PartitionOffset[]>(),
    from_timestamp_ms,
  },
  /** Batches that cannot be read, at the offsets that a group has committed. */
  unreadable_batches: { ...kafkaShape, topic: required<string>(), group: required<string>() },
  /** Moves the batch at an offset into the dead-letter topic, and lets the processor go on after it. */
  step_over: {
    ...kafkaShape,
    topic: required<string>(),
    partition: required<number>(),
    offset: required<number>(),
    dry_run: optional<boolean>(),
    dlq_topic: optional<string>(),
  },
  /** Headers of dead letters; with `run` only of records whose body names it. */
  dlq_read: { ...kafkaShape, topic, from_timestamp_ms, run: optional<string>(), max: optional<number>() },
} as const satisfies Record<string, Shape>;
type Kind = keyof typeof KINDS;

/** A probe finds its result by its id; a longer limit than the probe's maximum is cut. */
const commonShape = { id: required<string>(), kind: required<string>(), timeout_ms: optional<number>() };

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
  committed?: number;
  /** Events that Kafka deleted before the group read them, since its first commit; absent from an older image. */
  deleted_unread?: number;
  /** How often the group found that the log had lost records that it had read. */
  truncations?: number;
  /** When one of the two was last found (ms since 1970). */
  gap_found_at_ms?: number | undefined;
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

export interface UnreadablePlace {
  partition: number;
  first_offset: number;
  last_offset: number;
  reason: string;
  /** Length of the batch. */
  bytes: number;
}

export interface SteppedOver extends UnreadablePlace {
  dead_letters: PartitionOffset[];
  /** It had been stepped over before. */
  already: boolean;
}

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

interface KindData {
  tcp: undefined;
  tls: undefined;
  plaintext_kafka: undefined;
  http: { status: number; body: string };
  self: { uid: number | undefined; gid: number | undefined; rootWritable: boolean };
  kafka: KafkaData[keyof KafkaData];
  kafka_offsets: OffsetRange[];
  letter_read: DeadLetterPage;
  dlq_read: DeadLetterHeaders[];
  unreadable_batches: UnreadablePlace[];
  step_over: SteppedOver;
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

/**
 * The probes of a request, a JSON array.
 * @throws Error that names the field, the rule and the value: `probes[0].hots: is not a field (…); got "10.0.0.1"`
 */
export function parseProbes(request: string): Probe[] {
  const probes = parseJson(request, "probes");
  if (!Array.isArray(probes)) throw new Error(`probes: must be a list; got ${shown(probes)}`);
  for (const [index, probe] of probes.entries()) {
    const kind: unknown = probe?.kind;
    if (typeof kind !== "string" || !Object.hasOwn(KINDS, kind)) {
      const kinds = Object.keys(KINDS).join(", ");
      throw new Error(`probes[${index}].kind: must be one of ${kinds}; got ${shown(kind)}`);
    }
    checkFields(probe, { ...commonShape, ...KINDS[kind as Kind] }, `probes[${index}].`);
  }
  return probes;
}
