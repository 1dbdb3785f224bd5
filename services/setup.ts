/**
 * Setup: creates topics, ACLs, organization, bucket and tokens, removes other ACLs of our principals, and changes nothing
 * that is already right. Runs as a Job with the administrator's certificate and token, which no other workload has.
 *
 * InfluxDB 2.9 stores only a token's hash, so the Secret is its only copy. It is kept as long as InfluxDB accepts it with
 * the right permissions; otherwise a new token replaces it and the stale authorization is deleted.
 *
 * A Kafka or InfluxDB of other people (KAFKA_STORE, INFLUX_STORE) is checked instead: topics are created where that is
 * allowed, and each right that the pipeline uses is tried and named when it is missing.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  type Admin,
  ConfigResourceTypes,
  ResourcePatternTypes,
} from "kafkajs";
import { BUCKET_RETENTION_MS } from "./domain/event-window.ts";
import { ACL_TABLE, aclKey, DLQ_TOPIC, EVENTS_TOPIC, TOPIC_TABLE } from "./domain/kafka-layout.ts";
import { createKafka, listAcls, RETRY_BRIEFLY, withAdmin } from "./kafka/client.ts";
import { setUpExternalTopics } from "./kafka/external-topics.ts";
import { finalLine } from "./protocol/final-document.ts";
import { type ConfigReader, caOption, readCommon, readInflux, readKafka, readTopic } from "./runtime/config.ts";
import { errorText, type Logger } from "./runtime/log.ts";
import { runService, type ServiceFrame } from "./runtime/service.ts";

/** Kafka and InfluxDB may still be starting when the Job begins. */
const SETUP_LIMIT_MS = 240_000;
const RETRY_MS = 2000;
const RETENTION_SECONDS = BUCKET_RETENTION_MS / 1000;
const HTTP_TIMEOUT_MS = 15_000;

const STORES = ["own", "external"] as const;

const read = (reader: ConfigReader) => {
  const kafkaStore = reader.choice("KAFKA_STORE", STORES, "own");
  const influxStore = reader.choice("INFLUX_STORE", STORES, "own");
  const isOwn = influxStore === "own";
  return {
    common: readCommon(reader),
    kafka: readKafka(reader),
    topics: {
      [EVENTS_TOPIC]: readTopic(reader, "TOPIC", EVENTS_TOPIC),
      [DLQ_TOPIC]: readTopic(reader, "DLQ_TOPIC", DLQ_TOPIC),
    } as Record<string, string>,
    replicationFactor: reader.integer("REPLICATION_FACTOR", { least: 1, most: 9, fallback: 3 }),
    minInsyncReplicas: reader.integer("MIN_INSYNC_REPLICAS", { least: 1, most: 9, fallback: 2 }),
    namespace: reader.text("POD_NAMESPACE", "conveyor"),
    kubernetes: {
      host: reader.text("KUBERNETES_SERVICE_HOST"),
      port: reader.integer("KUBERNETES_SERVICE_PORT", { least: 1, most: 65_535, fallback: 443 }),
      token: reader.secretFile("KUBE_TOKEN_FILE"),
      ca: reader.file("KUBE_CA_FILE"),
    },
    processorSecret: reader.text("PROCESSOR_TOKEN_SECRET", "influxdb-token-processor"),
    readerSecret: reader.text("READER_TOKEN_SECRET", "influxdb-token-reader"),
    kafkaStore,
    influxStore,
    influx: readInflux(reader, isOwn ? "INFLUX_ADMIN_TOKEN_FILE" : "INFLUX_TOKEN_FILE"),
    influxAdmin: isOwn
      ? {
          username: reader.secretFile("INFLUX_ADMIN_USERNAME_FILE"),
          password: reader.secretFile("INFLUX_ADMIN_PASSWORD_FILE"),
        }
      : undefined,
    influxReadToken: isOwn ? "" : reader.secretFile("INFLUX_READ_TOKEN_FILE"),
  };
};
type Config = ReturnType<typeof read>;

/** What setUpTopics() reads. */
type TopicConfig = Pick<Config, "topics" | "replicationFactor" | "minInsyncReplicas">;

type Change = "created" | "changed" | "unchanged" | "removed";

export class ChangeLog {
  readonly #changes: Record<Change, string[]> = { created: [], changed: [], unchanged: [], removed: [] };
  /** What setup cannot change, and a person must. */
  readonly problems: string[] = [];

  add(change: Change, subject: string): void {
    const list = this.#changes[change];
    if (!list.includes(subject)) list.push(subject);
  }

  toJSON() {
    return this.#changes;
  }
}

async function setUpKafka(config: Config, log: Logger, kubernetes: Client, changes: ChangeLog): Promise<void> {
  if (config.kafkaStore === "external") {
    const { problems } = await setUpExternalTopics({
      kafka: config.kafka,
      clientId: config.common.podName,
      log,
      events: config.topics[EVENTS_TOPIC]!,
      deadLetters: config.topics[DLQ_TOPIC]!,
      replicationFactor: config.replicationFactor,
      minInsyncReplicas: config.minInsyncReplicas,
      onCreated: (topic) => changes.add("created", `topic ${topic}`),
    });
    for (const topic of Object.values(config.topics)) {
      if (!changes.toJSON().created.includes(`topic ${topic}`)) changes.add("unchanged", `topic ${topic}`);
    }
    changes.problems.push(...problems);
    return;
  }
  const kafka = createKafka(config.kafka, config.common.podName, log, { retry: RETRY_BRIEFLY });
  await withAdmin(kafka, async (admin) => {
    await setUpTopics(config, admin, changes);
    await setUpAcls(admin, changes);
    await listFormattedNodes(config, admin, kubernetes, changes);
  });
}

/**
 * Adds the registered brokers to the list in the Secret of the cluster id: a node in it whose volume is empty does not
 * format it again (k8s/kafka/kafka-configmap.yaml).
 */
async function listFormattedNodes(config: Config, admin: Admin, kubernetes: Client, changes: ChangeLog): Promise<void> {
  const path = `/api/v1/namespaces/${config.namespace}/secrets/kafka-cluster-id`;
  const { json: live } = await kubernetes<{ data?: Record<string, string> }>(path);
  const listed = Buffer.from(live.data?.formatted ?? "", "base64").toString("utf8");
  const { brokers } = await admin.describeCluster();
  const nodes = new Set([...listed.split(",").filter(Boolean), ...brokers.map(({ nodeId }) => String(nodeId))]);
  const wanted = [...nodes].sort((a, b) => Number(a) - Number(b)).join(",");
  if (wanted !== listed) {
    await kubernetes(path, {
      method: "PATCH",
      headers: { "content-type": "application/merge-patch+json" },
      body: { data: { formatted: Buffer.from(wanted).toString("base64") } },
    });
  }
  changes.add(
    wanted === listed ? "unchanged" : listed === "" ? "created" : "changed",
    `formatted Kafka nodes ${wanted}`,
  );
}

export async function setUpTopics(config: TopicConfig, admin: Admin, changes: ChangeLog): Promise<void> {
  const existing = new Set(await admin.listTopics());
  for (const row of TOPIC_TABLE) {
    const topic = config.topics[row.name] ?? row.name;
    const subject = `topic ${topic}`;
    const wanted = { ...row.config, "min.insync.replicas": String(config.minInsyncReplicas) };
    if (!existing.has(topic)) {
      const configEntries = Object.entries(wanted).map(([name, value]) => ({ name, value }));
      const { replicationFactor } = config;
      await admin.createTopics({
        waitForLeaders: true,
        topics: [{ topic, numPartitions: row.partitions, replicationFactor, configEntries }],
      });
      changes.add("created", subject);
      continue;
    }
    let changed = false;
    const metadata = await admin.fetchTopicMetadata({ topics: [topic] });
    const partitions = metadata.topics[0]!.partitions;
    for (const { partitionId, replicas } of partitions) {
      const problem = `${subject}: partition ${partitionId} has ${replicas.length} of ${config.replicationFactor} replicas`;
      // Kafka copies data only on request: kafka-reassign-partitions names the brokers.
      if (replicas.length < config.replicationFactor && !changes.problems.includes(problem))
        changes.problems.push(problem);
    }
    if (partitions.length < row.partitions) {
      await admin.createPartitions({ topicPartitions: [{ topic, count: row.partitions }] });
      changed = true;
    }
    const described = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
    });
    const live = new Map(described.resources[0]!.configEntries.map((entry) => [entry.configName, entry]));
    if (Object.entries(wanted).some(([name, value]) => live.get(name)?.configValue !== value)) {
      // kafkajs replaces all values of a topic, so the others must be resent with them.
      const DYNAMIC_TOPIC_CONFIG = 1;
      const own = [...live.values()].filter(({ configSource }) => (configSource as number) === DYNAMIC_TOPIC_CONFIG);
      const merged = new Map(own.map(({ configName, configValue }) => [configName, configValue]));
      for (const [name, value] of Object.entries(wanted)) merged.set(name, value);
      const configEntries = [...merged].map(([name, value]) => ({ name, value }));
      await admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
      });
      changed = true;
    }
    changes.add(changed ? "changed" : "unchanged", subject);
  }
}

async function setUpAcls(admin: Admin, changes: ChangeLog): Promise<void> {
  const principals = [...new Set(ACL_TABLE.map(({ principal }) => principal))];
  const wanted = new Map(ACL_TABLE.map((acl) => [aclKey(acl), acl]));
  const live = new Set<string>();
  for (const principal of principals) {
    for (const { names, isPlain, filter } of await listAcls(admin, principal)) {
      const key = aclKey(names);
      if (isPlain && wanted.has(key)) {
        live.add(key);
        continue;
      }
      await admin.deleteAcls({ filters: [filter] });
      changes.add("removed", `acl ${key}`);
    }
  }
  const missing = [...wanted.values()].filter((acl) => !live.has(aclKey(acl)));
  if (missing.length > 0) {
    await admin.createAcls({
      acl: missing.map((acl) => ({
        principal: acl.principal,
        host: "*",
        operation: AclOperationTypes[acl.operation],
        permissionType: AclPermissionTypes.ALLOW,
        resourceType: AclResourceTypes[acl.resourceType],
        resourceName: acl.resourceName,
        resourcePatternType: ResourcePatternTypes.LITERAL,
      })),
    });
  }
  for (const acl of missing) changes.add("created", `acl ${aclKey(acl)}`);
  if (live.size > 0) changes.add("unchanged", `${live.size} acls`);
}

class HttpError extends Error {
  constructor(
    readonly status: number,
    what: string,
    body: string,
  ) {
    super(`${what}: answered ${status}: ${body.slice(0, 300)}`);
  }
}

interface Call {
  method?: string;
  body?: unknown;
  /** Raw text instead of JSON. */
  text?: string;
  headers?: Record<string, string>;
  /** Statuses besides 2xx that are no errors. */
  allow?: readonly number[];
}

/** A JSON client for one server: verified TLS, a time limit, errors that name the request. */
function jsonClient(base: string, ca: string | undefined, authorization: string) {
  return async <T>(path: string, call: Call = {}): Promise<{ status: number; json: T; text: string }> => {
    const { method = "GET", body } = call;
    const type: Record<string, string> = body === undefined ? {} : { "content-type": "application/json" };
    const response = await fetch(`${base}${path}`, {
      method,
      headers: { authorization, accept: "application/json", ...type, ...call.headers },
      body: call.text ?? (body === undefined ? undefined : JSON.stringify(body)),
      tls: caOption(ca),
      redirect: "error",
      signal: AbortSignal.timeout(HTTP_TIMEOUT_MS),
    });
    const text = await response.text();
    if (!response.ok && !call.allow?.includes(response.status)) {
      throw new HttpError(response.status, `${method} ${path}`, text);
    }
    let json: unknown;
    try {
      json = text === "" ? undefined : JSON.parse(text);
    } catch {
      json = undefined;
    }
    return { status: response.status, json: json as T, text };
  };
}
type Client = ReturnType<typeof jsonClient>;

interface Permission {
  action: "read" | "write";
  resource: { type: string; id?: string; orgID?: string };
}
interface Authorization {
  id: string;
  description: string;
  status: string;
  permissions: Permission[];
}

interface BucketList {
  buckets?: { id: string; name: string; retentionRules?: { everySeconds: number }[] }[];
}

/** Checks the tokens of an InfluxDB of other people. @throws HttpError when events cannot be written */
async function checkInflux({ influx, influxReadToken }: Config, changes: ChangeLog): Promise<void> {
  const { url, ca, token, org, bucket } = influx;
  const written = await tryToken({ ...influx, action: "write" });
  if (!written.works) {
    throw new HttpError(written.status, `the token cannot write bucket ${bucket} of ${org}`, written.text);
  }
  const found = await tryToken({ ...influx, token: influxReadToken, action: "read" });
  const query = `org=${encodeURIComponent(org)}&name=${encodeURIComponent(bucket)}`;
  const client = jsonClient(url, ca, `Token ${token}`);
  const { json } = await client<BucketList>(`/api/v2/buckets?${query}`, { allow: REFUSALS });
  const seconds = json?.buckets?.find(({ name }) => name === bucket)?.retentionRules?.[0]?.everySeconds;
  changes.add("unchanged", `bucket ${bucket}: ${found.works ? "writable, readable" : "writable"}`);
  if (!found.works) {
    changes.problems.push(
      `bucket ${bucket} of ${org} cannot be queried in Flux with the token (answered ${found.status}): dashboards of stored events are empty, and no check or audit can read what is stored`,
    );
  }
  // 0 or absent: without a limit, or the token may not read it.
  if (seconds && seconds < RETENTION_SECONDS) {
    changes.problems.push(
      `bucket ${bucket} keeps points for ${seconds} s, and events may be ${RETENTION_SECONDS} s old: InfluxDB refuses the older ones, they become dead letters`,
    );
  }
}

async function setUpInflux(config: Config, kubernetes: Client, changes: ChangeLog): Promise<void> {
  if (config.influxStore === "external") return await checkInflux(config, changes);
  const { url, ca, token, org, bucket } = config.influx;
  const influx = jsonClient(url, ca, `Token ${token}`);
  const { json: setup } = await influx<{ allowed: boolean }>("/api/v2/setup");
  if (setup.allowed) {
    const body = { ...config.influxAdmin, org, bucket, token, retentionPeriodSeconds: RETENTION_SECONDS };
    await influx("/api/v2/setup", { method: "POST", body });
    for (const what of ["influxdb admin", `organization ${org}`, `bucket ${bucket}`]) changes.add("created", what);
  }
  const orgId = await findOrganization(influx, org, changes);
  const bucketId = await setUpBucket(influx, { orgId, bucket }, changes);
  const target = { influx, kubernetes, config, orgId, bucketId, changes };
  await setUpToken({ ...target, action: "write", secret: config.processorSecret });
  await setUpToken({ ...target, action: "read", secret: config.readerSecret });
}

async function findOrganization(influx: Client, org: string, changes: ChangeLog): Promise<string> {
  const path = `/api/v2/orgs?org=${encodeURIComponent(org)}`;
  const { json } = await influx<{ orgs?: { id: string; name: string }[] }>(path, { allow: [404] });
  const found = json?.orgs?.find(({ name }) => name === org);
  if (found) {
    changes.add("unchanged", `organization ${org}`);
    return found.id;
  }
  const created = await influx<{ id: string }>("/api/v2/orgs", { method: "POST", body: { name: org } });
  changes.add("created", `organization ${org}`);
  return created.json.id;
}

async function setUpBucket(
  influx: Client,
  { orgId, bucket }: { orgId: string; bucket: string },
  changes: ChangeLog,
): Promise<string> {
  const rules = [{ type: "expire", everySeconds: RETENTION_SECONDS }];
  const { json } = await influx<{
    buckets?: { id: string; name: string; retentionRules: { everySeconds: number }[] }[];
  }>(`/api/v2/buckets?orgID=${orgId}&name=${encodeURIComponent(bucket)}`, { allow: [404] });
  const found = json?.buckets?.find(({ name }) => name === bucket);
  if (!found) {
    const created = await influx<{ id: string }>("/api/v2/buckets", {
      method: "POST",
      body: { orgID: orgId, name: bucket, retentionRules: rules },
    });
    changes.add("created", `bucket ${bucket}`);
    return created.json.id;
  }
  if (found.retentionRules[0]?.everySeconds === RETENTION_SECONDS) {
    changes.add("unchanged", `bucket ${bucket}`);
  } else {
    await influx(`/api/v2/buckets/${found.id}`, { method: "PATCH", body: { retentionRules: rules } });
    changes.add("changed", `bucket ${bucket}`);
  }
  return found.id;
}

interface TokenTarget {
  influx: Client;
  kubernetes: Client;
  config: Config;
  orgId: string;
  bucketId: string;
  changes: ChangeLog;
  action: "read" | "write";
  secret: string;
}

async function setUpToken(target: TokenTarget): Promise<void> {
  const { influx, kubernetes, config, orgId, bucketId, changes, action, secret } = target;
  const path = `/api/v1/namespaces/${config.namespace}/secrets/${secret}`;
  const description = `conveyor: ${action} ${config.influx.bucket} (Secret ${secret})`;
  const { json: live } = await kubernetes<{ data?: Record<string, string> }>(path);
  const value = (key: string) => Buffer.from(live.data?.[key] ?? "", "base64").toString("utf8");
  const { json: list } = await influx<{ authorizations?: Authorization[] }>(`/api/v2/authorizations?orgID=${orgId}`);
  const ours = (list.authorizations ?? []).filter((authorization) => authorization.description === description);
  const kept = ours.find(({ id }) => id === value("authorization_id"));
  const [first, ...others] = kept?.permissions ?? [];
  const fits =
    kept?.status === "active" &&
    others.length === 0 &&
    first?.action === action &&
    first.resource.type === "buckets" &&
    first.resource.id === bucketId;
  const keep = fits && (await tokenWorks(target, value("token"))) ? kept.id : undefined;
  if (keep !== undefined) {
    changes.add("unchanged", `token ${secret}`);
  } else {
    const permission: Permission = { action, resource: { type: "buckets", id: bucketId, orgID: orgId } };
    const { json: created } = await influx<Authorization & { token: string }>("/api/v2/authorizations", {
      method: "POST",
      body: { orgID: orgId, description, permissions: [permission] },
    });
    const base64 = (text: string) => Buffer.from(text).toString("base64");
    await kubernetes(path, {
      method: "PATCH",
      headers: { "content-type": "application/merge-patch+json" },
      body: { data: { token: base64(created.token), authorization_id: base64(created.id) } },
    });
    changes.add(value("token") === "" ? "created" : "changed", `token ${secret}`);
  }
  // After the Secret has the new token, so that readers of the Secret always get a valid one.
  for (const { id } of ours) {
    if (id === keep) continue;
    await influx(`/api/v2/authorizations/${id}`, { method: "DELETE", allow: [404] });
    changes.add("removed", `stale authorization of ${secret}`);
  }
}

async function tokenWorks({ config, action }: TokenTarget, token: string): Promise<boolean> {
  return token !== "" && (await tryToken({ ...config.influx, action, token })).works;
}

const REFUSALS = [400, 401, 403, 404, 405];

interface TokenTrial {
  url: string;
  ca?: string | undefined;
  org: string;
  bucket: string;
  action: "read" | "write";
  token: string;
}

/** Tries a token with an empty write or an empty query. */
async function tryToken({ url, ca, org, bucket, action, token }: TokenTrial) {
  const client = jsonClient(url, ca, `Token ${token}`);
  const query = `org=${encodeURIComponent(org)}`;
  const { status, text } =
    action === "write"
      ? await client(`/api/v2/write?${query}&bucket=${encodeURIComponent(bucket)}`, {
          method: "POST",
          text: "\n",
          headers: { "content-type": "text/plain" },
          allow: REFUSALS,
        })
      : await client(`/api/v2/query?${query}`, {
          method: "POST",
          text: `from(bucket: ${JSON.stringify(bucket)}) |> range(start: -1s) |> limit(n: 1)`,
          headers: { "content-type": "application/vnd.flux", accept: "application/csv" },
          allow: REFUSALS,
        });
  // InfluxDB checks permissions first: 400 for the empty body means that the token may write.
  return { works: status < 300 || (action === "write" && status === 400), status, text };
}

async function start(config: Config, { log, shutdown }: ServiceFrame): Promise<void> {
  const changes = new ChangeLog();
  const startedAt = performance.now();
  const { host, port, ca, token } = config.kubernetes;
  const kubernetes = jsonClient(`https://${host.includes(":") ? `[${host}]` : host}:${port}`, ca, `Bearer ${token}`);
  const parts: [string, () => Promise<void>][] = [
    ["kafka", () => setUpKafka(config, log, kubernetes, changes)],
    ["influxdb", () => setUpInflux(config, kubernetes, changes)],
  ];
  const settle = async ([name, run]: (typeof parts)[number]) => {
    for (;;) {
      try {
        return await run();
      } catch (error) {
        const late = performance.now() - startedAt > SETUP_LIMIT_MS;
        if (late || shutdown.begun || !worthRetrying(error)) {
          throw new Error(`${name}: ${errorText(error)}`, { cause: error });
        }
        log.info("setup_waits", { for: name, error });
        await sleep(RETRY_MS);
      }
    }
  };
  try {
    await Promise.all(parts.map(settle));
  } catch (error) {
    log.error("setup_failed", { error, so_far: changes });
    await shutdown.begin("setup failed", 1);
  }
  const { created, changed, unchanged, removed } = changes.toJSON();
  const { problems } = changes;
  for (const problem of problems) log.error("setup_incomplete", { problem });
  const result = {
    created,
    changed,
    removed,
    unchanged,
    problems,
    duration_ms: Math.round(performance.now() - startedAt),
  };
  log.info("setup_done", result);
  process.stdout.write(finalLine("setup", result));
  await shutdown.begin("setup done", 0);
}

/** True while a server may still be starting; false for a refusal. */
function worthRetrying(error: unknown): boolean {
  if (error instanceof HttpError) return error.status >= 500 || error.status === 429;
  const { retriable, name, type } = error as { retriable?: boolean; name?: string; type?: string };
  if (type === "TOPIC_AUTHORIZATION_FAILED" || type === "CLUSTER_AUTHORIZATION_FAILED") return false;
  if (type === "SECURITY_DISABLED") return false;
  // A topic with three replicas needs three registered brokers.
  if (type === "INVALID_REPLICATION_FACTOR" || name === "KafkaJSAggregateError") return true;
  return retriable !== false || name === "KafkaJSNumberOfRetriesExceeded";
}

if (import.meta.main) await runService("setup", read, start);
