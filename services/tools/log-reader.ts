/**
 * Reads a topic independently of the services: a new client without a consumer group, from each partition's leader, from a
 * time up to given ends. Prints one line per event, so that a topic of any length fits.
 *
 *   bun log-reader.js '{"brokers":["kafka:9092"],"tls":{"ca":"…","cert":"…","key":"…"},"runs":["r1"]}'   (or on stdin)
 *
 * Request and lines: services/protocol/log-reader.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isJson, timeMsOf } from "../domain/any-event.ts";
import { BloomFilter } from "../domain/bloom-filter.ts";
import type { TelemetryEvent } from "../domain/event.ts";
import { checkGenericEvent, GENERIC_EVENT_VERSION } from "../domain/generic-event.ts";
import { EVENTS_TOPIC } from "../domain/kafka-layout.ts";
import { type Point, parseLine } from "../domain/line-protocol.ts";
import { valuesChecksum } from "../domain/point.ts";
import { contentOf } from "../domain/point-content.ts";
import { identityOf, type RecordIdentity } from "../domain/record-identity.ts";
import { runStart } from "../domain/run-id.ts";
import { createCluster, createKafka, type KafkaCluster, RETRY_BRIEFLY, withAdmin } from "../kafka/client.ts";
import { UnreadableBatch } from "../kafka/fetch-decoder.ts";
import { installKafkajsPatches, PATCHES_WITHOUT_DECODER } from "../kafka/patches/index.ts";
import { type LogEnd, type LogLine, type LogRequest, parseLogRequest } from "../protocol/log-reader.ts";
import { errorText, Logger } from "../runtime/log.ts";
import { connectionOf } from "./probe/kafka.ts";

/** Per partition and fetch: some 4,000 events, so a reader of any topic stays within its pod's memory. */
const MAX_BYTES_PER_PARTITION = 1024 * 1024;
const MAX_WAIT_MS = 500;
/** No progress for this long ends the read: a new leader is elected within seconds. */
const STALL_LIMIT_MS = 20_000;
const RETRY_MS = 200;
/** Hexadecimal digits of a payload's SHA-256: enough to tell two payloads of one event apart. */
const HASH_CHARS = 16;
/** Lines are written in blocks: a system call per event would cost more than reading it. */
const WRITE_CHARS = 64 * 1024;
/** Runs that were not requested are counted by name, up to this many names. */
const MAX_OTHER_RUNS = 1000;

interface LogMessage {
  offset: string;
  timestamp: string;
  value: Buffer | null;
  headers?: Readonly<Record<string, unknown>>;
}

interface FetchedPartition {
  partition: number;
  messages: (LogMessage | UnreadableBatch)[];
}

/** Numbers of names; each name is announced once. */
class Names {
  readonly #numbers = new Map<string, number>();

  constructor(private readonly announce: (number: number, name: string) => void) {}

  of(name: string): number {
    let number = this.#numbers.get(name);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(name, number);
      this.announce(number, name);
    }
    return number;
  }
}

interface LoggedEvent extends Pick<TelemetryEvent, "run" | "conveyor" | "seq" | "ts"> {
  /** Its checksum by domain/point.ts. */
  values: number;
  /** Of any other event than those of version 1. */
  point?: { isAssigned: boolean; measurement: string; key: string; fields: string };
}

/** Identities of records that have none: another writer's, which no producer of ours acknowledged. */
const OTHER_WRITERS = "other-writers";

/** Identity, time and content of a record's event; undefined when the record is not an event. */
function eventOf({ value, headers, offset }: LogMessage, partition: number): LoggedEvent | undefined {
  const text = value?.toString("utf8") ?? "";
  if (!isJson(text)) return pointOf(parseLine(text, "ns", 0).point, identityOf(headers), partition, offset);
  try {
    const event = JSON.parse(text) as Partial<Omit<TelemetryEvent, "v">> & { v?: number };
    const { v, run, conveyor, seq, ts } = event;
    if (v === GENERIC_EVENT_VERSION) {
      const { event: generic } = checkGenericEvent(event);
      const given = generic?.given && { ...generic.given, conveyor: generic.source, isAssigned: false };
      return pointOf(generic?.point, identityOf(headers) ?? given, partition, offset);
    }
    return typeof run === "string" &&
      typeof conveyor === "string" &&
      Number.isSafeInteger(seq) &&
      Number.isSafeInteger(ts)
      ? { run, conveyor, seq: seq!, ts: ts!, values: valuesChecksum(event) }
      : undefined;
  } catch {
    return undefined;
  }
}

function pointOf(
  point: Point | undefined,
  identity: RecordIdentity | undefined,
  partition: number,
  offset: string,
): LoggedEvent | undefined {
  if (point === undefined) return undefined;
  const otherWriter = { run: OTHER_WRITERS, conveyor: `partition-${partition}`, seq: Number(offset), isAssigned: true };
  const { run, conveyor, seq, isAssigned } = identity ?? otherWriter;
  const { key, fields } = contentOf(point);
  const content = { isAssigned, measurement: point.measurement, key, fields: fields.join("") };
  return { run, conveyor, seq, ts: timeMsOf(point), values: 0, point: content };
}

/**
 * The offsets that a batch hides from a read that has come to `next` and goes to `end`; undefined when the batch is beyond.
 * Where its header does not say where it ends, that is everything from here on: nothing after it can be found.
 */
export function hiddenOffsets({ firstOffset, lastOffset, hasKnownEnd }: UnreadableBatch, next: number, end: number) {
  if (!hasKnownEnd) return { first_offset: firstOffset < end ? firstOffset : next, last_offset: end - 1 };
  return firstOffset < end ? { first_offset: firstOffset, last_offset: Math.min(lastOffset, end - 1) } : undefined;
}

const silent = new Logger("log-reader", "error", {}, () => {});

/**
 * Reads the topic and writes its lines; a promise of `write` is awaited.
 * @throws Error when Kafka cannot be read up to the ends
 */
export async function readLog(request: LogRequest, write: (line: LogLine) => Promise<void> | void): Promise<LogEnd> {
  if (request.decoder === "kafkajs") installKafkajsPatches(PATCHES_WITHOUT_DECODER);
  const kafka = await connectionOf(request);
  const topic = request.topic ?? EVENTS_TOPIC;
  const { from, to } = await range(kafka, topic, request);
  const ends = new Map(to.map(({ partition, offset }) => [partition, offset]));
  const next = new Map(from.map(({ partition, offset }) => [partition, offset]));
  const wanted = request.runs && new Set(request.runs);
  const isWanted = (run: string): boolean => {
    if (!wanted || wanted.has(run)) return true;
    if (!request.fleets || runStart(run) === undefined) return false;
    wanted.add(run);
    return true;
  };
  const prefix = request.conveyors_prefix ?? "";
  const end: LogEnd = {
    records: 0,
    listed: 0,
    unreadable: 0,
    unreadable_batches: [],
    other_runs: Object.create(null),
    from,
    to,
  };
  let otherRuns = 0;

  let announced: LogLine[] = [];
  const names = {
    runs: new Names((number, name) => announced.push(["run", number, name])),
    conveyors: new Names((number, name) => announced.push(["conveyor", number, name])),
    measurements: new Names((number, name) => announced.push(["measurement", number, name])),
  };
  /** Points of requested events. */
  const wantedPoints = new BloomFilter();
  const take = async ({ partition, messages }: FetchedPartition): Promise<void> => {
    const last = ends.get(partition)!;
    for (const message of messages) {
      const offset = Number(message.offset);
      // A batch can start before the requested offset and end after the last one.
      if (offset < next.get(partition)!) continue;
      const hidden =
        message instanceof UnreadableBatch ? hiddenOffsets(message, next.get(partition)!, last) : undefined;
      if (message instanceof UnreadableBatch && hidden) {
        end.unreadable_batches.push({ partition, ...hidden, reason: message.reason });
        next.set(partition, hidden.last_offset + 1);
        progressAt = performance.now();
        continue;
      }
      if (offset >= last) {
        next.set(partition, last);
        return;
      }
      next.set(partition, offset + 1);
      end.records++;
      const event = eventOf(message as LogMessage, partition);
      if (!event) {
        end.unreadable++;
        continue;
      }
      const { run, conveyor, seq, ts, values, point } = event;
      const isForeign = !isWanted(run) || !conveyor.startsWith(prefix);
      if (isForeign) {
        const known = end.other_runs[run];
        if (known !== undefined) end.other_runs[run] = known + 1;
        else if (otherRuns++ < MAX_OTHER_RUNS) end.other_runs[run] = 1;
        if (point === undefined || !wantedPoints.mayHave(point.key)) continue;
      } else if (point) wantedPoints.add(point.key);
      const hash = new Bun.CryptoHasher("sha256").update(message.value!).digest("hex").slice(0, HASH_CHARS);
      const row: LogLine = [partition, offset, names.runs.of(run), names.conveyors.of(conveyor), seq, ts, hash, values];
      if (point) {
        const identity = isForeign ? "foreign" : point.isAssigned ? "assigned" : "given";
        const recordMs = Number((message as LogMessage).timestamp);
        row.push([identity, names.measurements.of(point.measurement), point.key, point.fields, recordMs]);
      }
      if (announced.length > 0) {
        for (const line of announced) await write(line);
        announced = [];
      }
      end.listed++;
      await write(row);
    }
  };

  const cluster = createCluster(kafka, "log-reader", silent);
  const open = () =>
    [...ends].filter(([partition, last]) => next.get(partition)! < last).map(([partition]) => partition);
  let progressAt = performance.now();
  let trouble = "the brokers returned nothing";
  try {
    await cluster.connect();
    await cluster.addMultipleTargetTopics([topic]);
    for (let left = open(); left.length > 0; left = open()) {
      if (performance.now() - progressAt > STALL_LIMIT_MS) {
        const where = left.map((partition) => `${partition} at ${next.get(partition)} of ${ends.get(partition)}`);
        throw new Error(`${topic} partition ${where.join(", ")}: no progress in ${STALL_LIMIT_MS} ms: ${trouble}`);
      }
      const before = end.records;
      const answers = await Promise.allSettled(
        [...byLeader(cluster, topic, left)].map(([leader, partitions]) =>
          fetchFrom(cluster, leader, topic, partitions, next),
        ),
      );
      for (const answer of answers) {
        if (answer.status === "rejected") trouble = errorText(answer.reason);
        else for (const partition of answer.value) await take(partition);
      }
      if (end.records > before) progressAt = performance.now();
      if (answers.some(({ status }) => status === "rejected")) {
        await sleep(RETRY_MS);
        await cluster.refreshMetadata().catch(() => {});
      }
    }
  } finally {
    await cluster.disconnect().catch(() => {});
  }
  return end;
}

async function range(kafka: Parameters<typeof createKafka>[0], topic: string, request: LogRequest) {
  const client = createKafka(kafka, "log-reader", silent, { retry: RETRY_BRIEFLY });
  return await withAdmin(client, async (admin) => {
    const offsets = await admin.fetchTopicOffsets(topic);
    const to = request.to ?? offsets.map(({ partition, high }) => ({ partition, offset: Number(high) }));
    const ends = new Map(to.map(({ partition, offset }) => [partition, offset]));
    const begins =
      request.from_timestamp_ms === undefined
        ? offsets.map(({ partition, low }) => ({ partition, offset: low }))
        : await admin.fetchTopicOffsetsByTimestamp(topic, request.from_timestamp_ms);
    const from = begins.map(({ partition, offset }) => {
      const end = ends.get(partition) ?? 0;
      // -1: nothing that young in this partition.
      return { partition, offset: Number(offset) < 0 ? end : Math.min(Number(offset), end) };
    });
    return { from, to: to.filter(({ partition }) => from.some((begin) => begin.partition === partition)) };
  });
}

function byLeader(cluster: KafkaCluster, topic: string, partitions: readonly number[]): Map<number, number[]> {
  const leaders = new Map<number, number[]>();
  for (const { partitionId, leader } of cluster.findTopicPartitionMetadata(topic)) {
    if (!partitions.includes(partitionId)) continue;
    leaders.set(leader, [...(leaders.get(leader) ?? []), partitionId]);
  }
  return leaders;
}

async function fetchFrom(
  cluster: KafkaCluster,
  leader: number,
  topic: string,
  partitions: readonly number[],
  next: ReadonlyMap<number, number>,
): Promise<FetchedPartition[]> {
  const broker = await cluster.findBroker({ nodeId: leader });
  const positions = partitions.map((partition) => ({
    partition,
    fetchOffset: String(next.get(partition)),
    maxBytes: MAX_BYTES_PER_PARTITION,
  }));
  const answer = (await broker.fetch({
    replicaId: -1,
    isolationLevel: 1,
    maxWaitTime: MAX_WAIT_MS,
    minBytes: 1,
    maxBytes: MAX_BYTES_PER_PARTITION * partitions.length,
    topics: [{ topic, partitions: positions }],
  })) as { responses: { partitions: FetchedPartition[] }[] };
  return answer.responses.flatMap(({ partitions }) => partitions);
}

if (import.meta.main) {
  let pending: string[] = [];
  let chars = 0;
  const flush = async () => {
    const text = pending.join("");
    pending = [];
    chars = 0;
    // Resolves when the pipe has taken it: backpressure bounds the memory.
    if (text) await new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));
  };
  const write = (line: LogLine): Promise<void> | void => {
    const text = JSON.stringify(line);
    pending.push(`${text}\n`);
    chars += text.length;
    if (chars >= WRITE_CHARS) return flush();
  };
  let exitCode = 0;
  try {
    const request = parseLogRequest(process.argv[2] ?? (await Bun.stdin.text()));
    await write(["end", await readLog(request, write)]);
  } catch (error) {
    exitCode = 1;
    await write(["error", errorText(error)]);
  }
  await flush();
  // Sockets of abandoned clients would keep the process alive.
  process.exit(exitCode);
}
