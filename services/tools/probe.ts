/**
 * Probes: what can be reached from here, and what is refused? Run inside a pod by validate and by the drills:
 *
 *   bun probe.js '[{"id":"a","kind":"tcp","host":"10.0.0.1","port":9092}]'      (or the array on stdin)
 *
 * Prints one JSON array of { id, ok, outcome, detail, duration_ms, data? }. Each probe has a limit of its own, so a
 * dropped packet costs seconds and not the whole run. Exit 0 whenever the array was printed; what failed is in it. A
 * request that is not understood (domain/probe-request.ts) is exit 2, and nothing was tried.
 */
import { accessSync, constants } from "node:fs";
import { readFile } from "node:fs/promises";
import net from "node:net";
import tls from "node:tls";
import {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  type Admin,
  ConfigResourceTypes,
  type Kafka,
  type KafkaMessage,
  ResourcePatternTypes,
} from "kafkajs";
import { causesOf } from "../domain/causes.ts";
import { DLQ_TOPIC, EVENTS_TOPIC } from "../domain/kafka-layout.ts";
import { createCluster, createKafka, nameOf, RETRY_BRIEFLY } from "../kafka/client.ts";
import { type PartitionOffset, type Probe, parseProbes } from "../protocol/probe-request.ts";
import { errorText, Logger } from "../runtime/log.ts";

/** A denied packet is dropped, not answered: this is how long silence counts as denied. */
const DEFAULT_TIMEOUT_MS = 4000;
/** A Kafka client does several round trips and a TLS handshake. */
const KAFKA_TIMEOUT_MS = 15_000;
const MAX_TIMEOUT_MS = 60_000;
/** TLS 1.3: the server's refusal of a client certificate comes after the client thinks the handshake is done. */
const ALERT_WAIT_MS = 1500;
const MAX_BODY_CHARS = 2000;
/** Letters of one page of letter_read, and the bytes of their bodies: with base64 some ten megabytes of answer at the most. */
const MAX_PAGE_LETTERS = 10_000;
const MAX_PAGE_LETTER_BYTES = 4 * 1024 * 1024;
/** A fetch at the end of a partition waits this long, and a client that is done waits for its fetches. */
const PAGE_FETCH_WAIT_MS = 200;
/** Records that dlq_read returns at most. */
const MAX_DLQ_RECORDS = 100_000;

type ProbeOf<Kind extends Probe["kind"]> = Extract<Probe, { kind: Kind }>;
type TlsFiles = ProbeOf<"kafka">["tls"];

/** A dead letter as it stands in the topic. */
export interface DeadLetterRecord {
  partition: number;
  offset: number;
  /** When it was written, milliseconds since the epoch. */
  timestampMs: number;
  headers: Record<string, string>;
  /** Base64: a body need not be text. */
  body: string;
}

/** What letter_read answers. */
export interface DeadLetterPage {
  letters: DeadLetterRecord[];
  /** Where the next page begins; the reading is done when it is `to`. */
  next: PartitionOffset[];
  to: PartitionOffset[];
}

interface Finding {
  ok: boolean;
  outcome: string;
  detail?: string;
  data?: unknown;
}

const pem = async (value: string | undefined): Promise<string | undefined> =>
  value === undefined || value.includes("-----BEGIN") ? value : await readFile(value, "utf8");

async function pems(source: TlsFiles) {
  const [ca, cert, key] = await Promise.all([pem(source.ca), pem(source.cert), pem(source.key)]);
  return { ca, cert, key };
}

const codeOf = (error: unknown): string =>
  String((error as { code?: string }).code ?? (error as Error).name ?? "error").replace(/\s+/g, "_");

// ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Runs a socket probe; whatever happens, the socket is destroyed. */
function withSocket(
  open: () => net.Socket,
  timeoutMs: number,
  wire: (socket: net.Socket, finish: (finding: Finding) => void) => void,
): Promise<Finding> {
  return new Promise((resolve) => {
    const socket = open();
    let finished = false;
    const finish = (finding: Finding) => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      socket.destroy();
      resolve(finding);
    };
    const timer = setTimeout(() => finish({ ok: false, outcome: "timeout", detail: `${timeoutMs} ms` }), timeoutMs);
    socket.on("error", (error) => finish({ ok: false, outcome: `refused:${codeOf(error)}`, detail: errorText(error) }));
    socket.on("close", () => finish({ ok: false, outcome: "refused:closed", detail: "the server closed" }));
    socket.on("end", () => finish({ ok: false, outcome: "refused:closed", detail: "the server closed" }));
    wire(socket, finish);
  });
}

const tcp = (host: string, port: number, timeoutMs: number) =>
  withSocket(
    () => net.connect({ host, port }),
    timeoutMs,
    (socket, finish) => socket.on("connect", () => finish({ ok: true, outcome: "connected" })),
  );

async function tlsProbe(probe: ProbeOf<"tls">, timeoutMs: number): Promise<Finding> {
  const { host, port, servername } = probe;
  const { ca, cert, key } = await pems(probe);
  const name = servername ?? (net.isIP(host) ? undefined : host);
  return await withSocket(
    () =>
      tls.connect({
        host,
        port,
        ...(name ? { servername: name } : {}),
        ...(ca ? { ca } : {}),
        ...(cert ? { cert } : {}),
        ...(key ? { key } : {}),
        minVersion: "TLSv1.2",
      }),
    timeoutMs,
    (socket, finish) =>
      socket.on("secureConnect", () => {
        const { authorized, authorizationError } = socket as tls.TLSSocket;
        if (!authorized) {
          return finish({ ok: false, outcome: "refused:untrusted_server", detail: String(authorizationError) });
        }
        const protocol = (socket as tls.TLSSocket).getProtocol();
        setTimeout(() => finish({ ok: true, outcome: "handshake_ok", detail: String(protocol) }), ALERT_WAIT_MS);
      }),
  );
}

/** An ApiVersions request (version 0) in plain text: any Kafka listener without TLS answers it. */
function plaintextKafka(host: string, port: number, timeoutMs: number): Promise<Finding> {
  const clientId = "probe";
  const request = Buffer.alloc(4 + 2 + 2 + 4 + 2 + clientId.length);
  request.writeInt32BE(request.length - 4, 0);
  request.writeInt16BE(18, 4);
  request.writeInt16BE(0, 6);
  request.writeInt32BE(1, 8);
  request.writeInt16BE(clientId.length, 12);
  request.write(clientId, 14);
  return withSocket(
    () => net.connect({ host, port }),
    timeoutMs,
    (socket, finish) => {
      socket.on("connect", () => socket.write(request));
      socket.on("data", (data: Buffer) => {
        // A Kafka answer begins with its length and our correlation id; a TLS alert begins with 0x15.
        const isKafka = data.length >= 8 && data.readInt32BE(4) === 1;
        if (isKafka) finish({ ok: true, outcome: "answered_plaintext" });
        else
          finish({
            ok: false,
            outcome: "refused:tls_alert",
            detail: `answered ${data.subarray(0, 8).toString("hex")}`,
          });
      });
    },
  );
}

async function http(probe: ProbeOf<"http">, timeoutMs: number): Promise<Finding> {
  const ca = await pem(probe.ca);
  const response = await fetch(probe.url, {
    method: probe.method ?? "GET",
    headers: probe.headers ?? {},
    body: probe.body,
    redirect: "manual",
    ...(ca ? { tls: { ca } } : {}),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const body = (await response.text()).slice(0, MAX_BODY_CHARS);
  const data = { status: response.status, body };
  return { ok: response.ok, outcome: String(response.status), detail: body.slice(0, 200), data };
}

function self(): Finding {
  const writable = (path: string) => {
    try {
      accessSync(path, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  };
  const data = { uid: process.getuid?.(), gid: process.getgid?.(), rootWritable: ["/", "/app", "/usr"].some(writable) };
  return { ok: true, outcome: "ok", data };
}

// ── Kafka ────────────────────────────────────────────────────────────────────────────────────────────────────────

const silent = new Logger("probe", "error", {}, () => {});

async function kafkaClient(probe: { brokers: string[]; tls: TlsFiles }): Promise<Kafka> {
  const { ca, cert, key } = await pems(probe.tls);
  const tlsFiles = { ca: ca ?? "", cert: cert ?? "", key: key ?? "" };
  return createKafka({ brokers: probe.brokers, tls: tlsFiles }, "probe", silent, { retry: RETRY_BRIEFLY });
}

async function withAdmin<T>(kafka: Kafka, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

async function kafkaProbe(probe: ProbeOf<"kafka">): Promise<Finding> {
  const kafka = await kafkaClient(probe);
  const topic = probe.topic ?? EVENTS_TOPIC;
  switch (probe.op) {
    case "metadata":
      return await withAdmin(kafka, async (admin) => {
        const { brokers, controller } = await admin.describeCluster();
        return { ok: true, outcome: "ok", detail: `${brokers.length} brokers`, data: { brokers, controller } };
      });
    case "describe_topics":
      return await withAdmin(kafka, async (admin) => ({
        ok: true,
        outcome: "ok",
        data: await describeTopics(admin, probe.topics ?? [topic]),
      }));
    case "describe_acls":
      return await withAdmin(kafka, async (admin) => ({ ok: true, outcome: "ok", data: await describeAcls(admin) }));
    case "describe_groups":
      return await withAdmin(kafka, async (admin) => {
        const { groups } = await admin.listGroups();
        const described = await admin.describeGroups(groups.map(({ groupId }) => groupId));
        const data = described.groups.map(({ groupId, state, members }) => ({
          groupId,
          state,
          members: members.length,
        }));
        return { ok: true, outcome: "ok", data };
      });
    case "list_offsets":
      return await withAdmin(kafka, async (admin) => ({
        ok: true,
        outcome: "ok",
        data: await admin.fetchTopicOffsets(topic),
      }));
    case "create_topic":
      return await withAdmin(kafka, async (admin) => {
        await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], validateOnly: true });
        return { ok: true, outcome: "ok" };
      });
    case "produce": {
      // An empty batch is not possible, and a probe must not leave events behind: the dead-letter topic's own reader
      // would see this one too. Authorization is decided before the record is looked at, so a record that is too
      // large for any topic tells a right from a refusal without being stored.
      const producer = kafka.producer({ allowAutoTopicCreation: false, retry: { retries: 0 } });
      await producer.connect();
      try {
        await producer.send({ topic, messages: [{ value: Buffer.alloc(OVERSIZE_BYTES) }] });
        return { ok: true, outcome: "ok", detail: "stored" };
      } catch (error) {
        const outcome = kafkaOutcome(error);
        return outcome === "MESSAGE_TOO_LARGE"
          ? { ok: true, outcome: "ok", detail: "allowed, nothing stored" }
          : refused(error);
      } finally {
        await producer.disconnect();
      }
    }
    case "fetch":
      return await fetchProbe(probe, topic);
  }
}

/** Above every topic's max.message.bytes (1 MiB), below the brokers' largest request (100 MiB). */
const OVERSIZE_BYTES = 2 * 1024 * 1024;

/** A plain fetch of partition 0, without a consumer group: only the right to read the topic decides. */
async function fetchProbe(probe: { brokers: string[]; tls: TlsFiles }, topic: string): Promise<Finding> {
  const { ca, cert, key } = await pems(probe.tls);
  const tlsFiles = { ca: ca ?? "", cert: cert ?? "", key: key ?? "" };
  const cluster = createCluster({ brokers: probe.brokers, tls: tlsFiles }, "probe", silent);
  try {
    await cluster.connect();
    await cluster.addMultipleTargetTopics([topic]);
    const leader = cluster.findTopicPartitionMetadata(topic).find(({ partitionId }) => partitionId === 0)?.leader ?? -1;
    const broker = await cluster.findBroker({ nodeId: leader });
    await broker.fetch({
      replicaId: -1,
      isolationLevel: 1,
      maxWaitTime: 100,
      minBytes: 1,
      maxBytes: 1,
      topics: [{ topic, partitions: [{ partition: 0, fetchOffset: "0", maxBytes: 1 }] }],
    });
    return { ok: true, outcome: "ok" };
  } catch (error) {
    // Where reading is allowed, old events may have been deleted since.
    return kafkaOutcome(error) === "OFFSET_OUT_OF_RANGE" ? { ok: true, outcome: "ok" } : refused(error);
  } finally {
    await cluster.disconnect().catch(() => {});
  }
}

async function describeTopics(admin: Admin, topics: string[]) {
  const existing = new Set(await admin.listTopics());
  const present = topics.filter((topic) => existing.has(topic));
  if (present.length === 0) return [];
  const [{ topics: found }, { resources }] = await Promise.all([
    admin.fetchTopicMetadata({ topics: present }),
    admin.describeConfigs({
      includeSynonyms: false,
      resources: present.map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
    }),
  ]);
  return found.map(({ name, partitions }) => ({
    topic: name,
    partitions: partitions
      .map(({ partitionId, leader, replicas, isr }) => ({ partition: partitionId, leader, replicas, isr }))
      .sort((a, b) => a.partition - b.partition),
    config: Object.fromEntries(
      (resources.find(({ resourceName }) => resourceName === name)?.configEntries ?? []).map((entry) => [
        entry.configName,
        entry.configValue,
      ]),
    ),
  }));
}

async function describeAcls(admin: Admin) {
  const { resources } = await admin.describeAcls({
    resourceType: AclResourceTypes.ANY,
    resourcePatternType: ResourcePatternTypes.ANY,
    operation: AclOperationTypes.ANY,
    permissionType: AclPermissionTypes.ANY,
  } as Parameters<Admin["describeAcls"]>[0]);
  return resources.flatMap(({ resourceType, resourceName, resourcePatternType, acls }) =>
    acls.map(({ principal, host, operation, permissionType }) => {
      const isPlain =
        resourcePatternType === ResourcePatternTypes.LITERAL &&
        permissionType === AclPermissionTypes.ALLOW &&
        host === "*";
      const kind = isPlain
        ? ""
        : ` (${nameOf(ResourcePatternTypes, resourcePatternType)} ${nameOf(AclPermissionTypes, permissionType)} from ${host})`;
      return {
        principal,
        resourceType: nameOf(AclResourceTypes, resourceType),
        resourceName: `${resourceName}${kind}`,
        operation: nameOf(AclOperationTypes, operation),
      };
    }),
  );
}

async function offsets(probe: ProbeOf<"kafka_offsets">): Promise<Finding> {
  const kafka = await kafkaClient(probe);
  return await withAdmin(kafka, async (admin) => {
    // The group first: what it has committed cannot lie beyond an end that is read later.
    const committed = new Map<number, number>();
    if (probe.group) {
      const [ofTopic] = await admin.fetchOffsets({ groupId: probe.group, topics: [probe.topic] });
      for (const { partition, offset } of ofTopic?.partitions ?? []) committed.set(partition, Number(offset));
    }
    const found = await admin.fetchTopicOffsets(probe.topic);
    const data = found
      .map(({ partition, low, high }) => ({
        partition,
        begin: Number(low),
        end: Number(high),
        // -1: the group has never committed here.
        ...(probe.group ? { committed: Math.max(0, committed.get(partition) ?? 0) } : {}),
      }))
      .sort((a, b) => a.partition - b.partition);
    return {
      ok: true,
      outcome: "ok",
      detail: `${data.reduce((sum, { begin, end }) => sum + end - begin, 0)} records`,
      data,
    };
  });
}

const headersOf = ({ headers }: KafkaMessage): Record<string, string> =>
  Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, String(value)]));

/** One page of the dead-letter topic, bodies and all, read by a client of its own that commits nothing. */
async function readLetters(probe: ProbeOf<"letter_read">, timeoutMs: number): Promise<Finding> {
  const kafka = await kafkaClient(probe);
  const topic = probe.topic ?? DLQ_TOPIC;
  const [from, to] = await withAdmin(kafka, async (admin) => {
    const ends =
      probe.to ??
      (await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => ({ partition, offset: Number(high) }));
    if (probe.from) return [probe.from, ends];
    const young = await admin.fetchTopicOffsetsByTimestamp(topic, probe.from_timestamp_ms ?? 0);
    return [young.map(({ partition, offset }) => ({ partition, offset: Number(offset) })), ends];
  });
  const ends = new Map(to.map(({ partition, offset }) => [partition, offset]));
  const next = new Map(ends);
  // -1: nothing that young in this partition, so there is nothing to read before its end.
  for (const { partition, offset } of from) {
    if (offset >= 0) next.set(partition, Math.min(offset, ends.get(partition) ?? 0));
  }
  const letters: DeadLetterRecord[] = [];
  let bytes = 0;
  const isFull = () => letters.length >= MAX_PAGE_LETTERS || bytes >= MAX_PAGE_LETTER_BYTES;
  const isDone = () => isFull() || [...ends].every(([partition, end]) => next.get(partition)! >= end);
  const page = (): Finding => ({
    ok: true,
    outcome: "ok",
    detail: `${letters.length} letters`,
    data: {
      letters,
      next: [...next].map(([partition, offset]) => ({ partition, offset })),
      to,
    } satisfies DeadLetterPage,
  });
  if (isDone()) return page();
  const consumer = kafka.consumer({
    groupId: `probe-${crypto.randomUUID()}`,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: PAGE_FETCH_WAIT_MS,
  });
  const { promise: read, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`read ${letters.length} letters in ${timeoutMs} ms`)), timeoutMs);
  try {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch, resolveOffset }) => {
        const { partition } = batch;
        const end = ends.get(partition) ?? 0;
        for (const message of batch.messages) {
          resolveOffset(message.offset);
          const offset = Number(message.offset);
          // Before the seek took hold, or behind what this page reads.
          if (offset < next.get(partition)! || offset >= end || isFull()) continue;
          next.set(partition, offset + 1);
          letters.push({
            partition,
            offset,
            timestampMs: Number(message.timestamp),
            headers: headersOf(message),
            body: message.value?.toString("base64") ?? "",
          });
          bytes += message.value?.length ?? 0;
        }
        if (isDone()) resolve();
      },
    });
    for (const [partition, offset] of next) consumer.seek({ topic, partition, offset: String(offset) });
    await read;
    return page();
  } finally {
    clearTimeout(timer);
    await consumer.disconnect().catch(() => {});
  }
}

/** The dead letters that are in the topic now, from a moment on: their headers, and which run their body names. */
async function readDeadLetters(probe: ProbeOf<"dlq_read">, timeoutMs: number): Promise<Finding> {
  const kafka = await kafkaClient(probe);
  const topic = probe.topic ?? DLQ_TOPIC;
  const fromMs = probe.from_timestamp_ms ?? 0;
  const max = Math.min(probe.max ?? 1000, MAX_DLQ_RECORDS);
  const ends = new Map<number, number>();
  const starts: { partition: number; offset: string }[] = await withAdmin(kafka, async (admin) => {
    for (const { partition, high } of await admin.fetchTopicOffsets(topic)) ends.set(partition, Number(high));
    if (fromMs > 0) return await admin.fetchTopicOffsetsByTimestamp(topic, fromMs);
    const whole = await admin.fetchTopicOffsets(topic);
    return whole.map(({ partition, low }) => ({ partition, offset: low }));
  });
  const open = new Set<number>();
  for (const start of starts) {
    const end = ends.get(start.partition) ?? 0;
    // -1: nothing that young in this partition.
    const from = Number(start.offset) < 0 ? end : Number(start.offset);
    if (from < end) open.add(start.partition);
  }
  const records: { partition: number; offset: string; timestamp: number; headers: Record<string, string> }[] = [];
  if (open.size === 0) return { ok: true, outcome: "ok", detail: "0 records", data: records };
  // A group of its own for this one reading; it commits nothing and is gone afterwards.
  const consumer = kafka.consumer({ groupId: `probe-${crypto.randomUUID()}`, allowAutoTopicCreation: false });
  const { promise: read, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`read ${records.length} records in ${timeoutMs} ms`)), timeoutMs);
  try {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch, resolveOffset }) => {
        for (const message of batch.messages) {
          resolveOffset(message.offset);
          if (Number(message.offset) >= (ends.get(batch.partition) ?? 0)) continue;
          if (Number(message.timestamp) < fromMs || records.length >= max) continue;
          if (probe.run !== undefined && !message.value?.includes(`"${probe.run}"`)) continue;
          records.push({
            partition: batch.partition,
            offset: message.offset,
            timestamp: Number(message.timestamp),
            headers: headersOf(message),
          });
        }
        if (Number(batch.lastOffset()) + 1 >= (ends.get(batch.partition) ?? 0)) open.delete(batch.partition);
        if (open.size === 0 || records.length >= max) resolve();
      },
    });
    for (const { partition, offset } of starts) {
      if (Number(offset) >= 0) consumer.seek({ topic, partition, offset });
    }
    await read;
    return { ok: true, outcome: "ok", detail: `${records.length} records`, data: records };
  } finally {
    clearTimeout(timer);
    await consumer.disconnect().catch(() => {});
  }
}

/** "TOPIC_AUTHORIZATION_FAILED" and its like where Kafka said so, otherwise the error's code. */
function kafkaOutcome(error: unknown): string {
  for (const cause of causesOf(error)) {
    const { type } = cause as { type?: string };
    if (typeof type === "string" && /^[A-Z_]+$/.test(type)) return type;
  }
  return `refused:${codeOf(error)}`;
}

const refused = (error: unknown): Finding => ({ ok: false, outcome: kafkaOutcome(error), detail: errorText(error) });

// ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────

const isKafkaKind = (kind: string) => ["kafka", "kafka_offsets", "letter_read", "dlq_read"].includes(kind);

async function runProbe(probe: Probe): Promise<Finding> {
  const timeoutMs = Math.min(
    probe.timeout_ms ?? (isKafkaKind(probe.kind) ? KAFKA_TIMEOUT_MS : DEFAULT_TIMEOUT_MS),
    MAX_TIMEOUT_MS,
  );
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<Finding>((resolve) => {
    timer = setTimeout(() => resolve({ ok: false, outcome: "timeout", detail: `${timeoutMs} ms` }), timeoutMs + 500);
  });
  try {
    return await Promise.race([dispatch(probe, timeoutMs), late]);
  } catch (error) {
    const outcome = (error as Error).name === "TimeoutError" ? "timeout" : kafkaOutcome(error);
    return { ok: false, outcome, detail: errorText(error) };
  } finally {
    clearTimeout(timer);
  }
}

async function dispatch(probe: Probe, timeoutMs: number): Promise<Finding> {
  switch (probe.kind) {
    case "tcp":
      return await tcp(probe.host, probe.port, timeoutMs);
    case "tls":
      return await tlsProbe(probe, timeoutMs);
    case "plaintext_kafka":
      return await plaintextKafka(probe.host, probe.port, timeoutMs);
    case "http":
      return await http(probe, timeoutMs);
    case "self":
      return self();
    case "kafka":
      return await kafkaProbe(probe);
    case "kafka_offsets":
      return await offsets(probe);
    case "letter_read":
      return await readLetters(probe, timeoutMs);
    case "dlq_read":
      return await readDeadLetters(probe, timeoutMs);
  }
}

/** Results of all probes, in their order; they run at the same time. */
export async function runProbes(probes: readonly Probe[]) {
  return await Promise.all(
    probes.map(async (probe) => {
      const startedAt = performance.now();
      const { ok, outcome, detail, data } = await runProbe(probe);
      return {
        id: probe.id,
        ok,
        outcome,
        detail: detail ?? "",
        duration_ms: Math.round(performance.now() - startedAt),
        ...(data === undefined ? {} : { data }),
      };
    }),
  );
}

if (import.meta.main) {
  const text = process.argv[2] ?? (await Bun.stdin.text());
  let probes: Probe[];
  try {
    probes = parseProbes(text);
  } catch (error) {
    console.error(`probe: ${errorText(error)}`);
    process.exit(2);
  }
  const results = await runProbes(probes);
  await new Promise<void>((resolve) => process.stdout.write(`${JSON.stringify(results)}\n`, () => resolve()));
  // Sockets of clients that were given up would keep the process alive.
  process.exit(0);
}
