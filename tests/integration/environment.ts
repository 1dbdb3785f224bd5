/**
 * A pipeline on shared servers with its own topics, group and conveyors: real services, or variants of them, as processes,
 * and the audit of their events.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HistoryWriter, openHistory } from "../../scripts/audit/history.ts";
import { recordHistory } from "../../scripts/audit/record.ts";
import { type AuditSources, type LogEvent, type ProducerLedger, readLogLines } from "../../scripts/audit/sources.ts";
import { judge, type Verdict } from "../../scripts/audit/verdict.ts";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import { createKafka, RETRY_BRIEFLY } from "../../services/kafka/client.ts";
import { readCheckpoint } from "../../services/protocol/ledger-checkpoint.ts";
import type { OffsetRange } from "../../services/protocol/probe.ts";
import { Logger } from "../../services/runtime/log.ts";
import { freePort } from "../servers/free-ports.ts";
import { type Pipeline, type ServiceProcess, until } from "./harness.ts";

const PARTITIONS = 3;
/** A few thousand events are read within seconds after a dead member's session has expired (6 s); more on a busy machine. */
const COMMIT_LIMIT_MS = 120_000;
/** A change of leaders ends within seconds; an attempt takes longer. */
const AUDIT_ATTEMPTS = 3;
/** All brokers know a new topic within a second; more on a busy machine. */
const TOPICS_LIMIT_MS = 90_000;
/** Reading some dozen dead letters takes a second. */
const DEAD_LETTERS_LIMIT_MS = 60_000;

export interface TopicOptions {
  /** Brokers of every partition; by default all of them, chosen by Kafka. */
  replicas?: readonly number[];
  partitions?: number;
  config?: Record<string, string>;
  /** Group of its processors; a new one when absent. */
  group?: string;
}

export class Environment {
  readonly topic: string;
  readonly dlqTopic: string;
  readonly group: string;
  /** Start of the audited window. */
  readonly startedAtMs = Date.now();
  readonly #producers: ServiceProcess[] = [];
  readonly #processors: ServiceProcess[] = [];

  private constructor(
    readonly pipeline: Pipeline,
    readonly name: string,
    /** Part of the conveyors' names, since environments share a database. */
    private readonly ordinal: number,
    group: string | undefined,
  ) {
    this.topic = `events-${name}`;
    this.dlqTopic = `dead-letters-${name}`;
    this.group = group ?? `group-${name}`;
  }

  static async open(
    pipeline: Pipeline,
    name: string,
    ordinal: number,
    options: TopicOptions = {},
  ): Promise<Environment> {
    const created = new Environment(pipeline, name, ordinal, options.group);
    const { servers } = pipeline;
    const silent = new Logger("environment", "error", {}, () => {});
    const admin = createKafka(await pipeline.connection(), "environment", silent, { retry: RETRY_BRIEFLY }).admin();
    const { replicas, partitions = PARTITIONS, config = {} } = options;
    // Another test may freeze the brokers meanwhile; topics that exist already are no error.
    const create = async () => {
      await admin.connect();
      await admin.createTopics({
        waitForLeaders: false,
        topics: [
          {
            topic: created.topic,
            configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
            ...(replicas
              ? {
                  replicaAssignment: Array.from({ length: partitions }, (_, partition) => ({
                    partition,
                    replicas: [...replicas],
                  })),
                }
              : { numPartitions: partitions, replicationFactor: servers.brokers.length }),
          },
          { topic: created.dlqTopic, numPartitions: 1, replicationFactor: servers.brokers.length },
        ],
      });
      return true;
    };
    try {
      await until(`the creation of the topics of ${name}`, TOPICS_LIMIT_MS, create);
      // Each broker learns of a new topic separately.
      await until(`the topics of ${name}`, TOPICS_LIMIT_MS, async () => {
        const found = await admin
          .fetchTopicMetadata({ topics: [created.topic, created.dlqTopic] })
          .catch(() => undefined);
        const leaders = found?.topics.flatMap((topic) => topic.partitions.map(({ leader }) => leader)) ?? [];
        return leaders.length > 0 && leaders.every((leader) => leader >= 0) ? true : undefined;
      });
    } finally {
      await admin.disconnect();
    }
    return created;
  }

  get #environment(): Record<string, string> {
    return { TOPIC: this.topic, DLQ_TOPIC: this.dlqTopic, POD_NAME: `producer-${this.ordinal}` };
  }

  /** Starts a producer; `folder` contains a variant of it. */
  async producer(environment: Record<string, string>, options: { folder?: string; input?: Blob } = {}) {
    const port = await freePort();
    const all = {
      ...this.#environment,
      // Every environment has its own pod ordinal and fleet.
      FLEET_PODS: "1000",
      FLEET_CONVEYORS: "10",
      TRACE_EVERY_SEQ: "0",
      ...environment,
    };
    const producer = this.pipeline.spawn("producer", "admin", all, port, options.input, options.folder);
    this.#producers.push(producer);
    return producer;
  }

  async processor(environment: Record<string, string> = {}, folder?: string): Promise<ServiceProcess> {
    const { servers } = this.pipeline;
    const port = await freePort();
    const tokenFile = join(servers.folder, `token-${this.name}`);
    await writeFile(tokenFile, servers.influxAdmin.token);
    const all = { ...this.#environment, GROUP_ID: this.group, INFLUX_TOKEN_FILE: tokenFile, ...environment };
    const processor = this.pipeline.spawn("processor", "admin", all, port, undefined, folder);
    this.#processors.push(processor);
    return processor;
  }

  /** Writes records as another program would: without our producer and its headers. */
  async write(values: readonly string[]): Promise<void> {
    const silent = new Logger("environment", "error", {}, () => {});
    const writer = createKafka(await this.pipeline.connection(), "environment", silent, {
      retry: RETRY_BRIEFLY,
    }).producer();
    await writer.connect();
    try {
      await writer.send({ topic: this.topic, messages: values.map((value) => ({ value })) });
    } finally {
      await writer.disconnect();
    }
  }

  /** Repeated while a partition changes its leader: other tests freeze the brokers. */
  async offsets(): Promise<OffsetRange[]> {
    const { pipeline } = this;
    const spec = { kind: "kafka_offsets", ...pipeline.kafka, topic: this.topic, group: this.group } as const;
    return await until(`the offsets of ${this.name}`, TOPICS_LIMIT_MS, () => pipeline.probe(spec));
  }

  /** @throws Error with the processors' last lines when their group does not read to the present end of the log */
  async untilRead(): Promise<void> {
    const ends = new Map((await this.offsets()).map(({ partition, end }) => [partition, end]));
    let behind = 0;
    await until(`group ${this.group} to read to the end of ${this.topic}`, COMMIT_LIMIT_MS, async () => {
      const unread = (await this.offsets()).map(({ partition, committed = 0 }) => ends.get(partition)! - committed);
      behind = unread.reduce((sum, events) => sum + Math.max(0, events), 0);
      return behind === 0 ? true : undefined;
    }).catch((error: Error) => {
      const tails = this.#processors.map((processor, index) => `processor ${index + 1}:\n${processor.tail()}`);
      throw new Error(`${error.message}: ${behind} events behind\n${tails.join("\n")}`, { cause: error });
    });
  }

  /** The log's events, as the audit reads them; times of their records only where they are not of version 1. */
  async log(): Promise<LogEvent[]> {
    const events: LogEvent[] = [];
    const request = { ...this.pipeline.kafka, topic: this.topic };
    await readLogLines(this.pipeline.runTool("log-reader", request), (event) => void events.push(event));
    return events;
  }

  /** The audit's sources: these processes and servers. */
  #sources(ca: string): AuditSources {
    const { servers } = this.pipeline;
    const store = TelemetryStore.at({ url: servers.influxUrl, token: servers.influxAdmin.token, ca });
    return {
      ledgers: async () => {
        const running = this.#producers.filter(
          ({ process: { exitCode, signalCode } }) => exitCode === null && signalCode === null,
        );
        const texts = await Promise.all(running.map((producer) => producer.get("/ledger")));
        return { ledgers: texts.map(({ text }) => JSON.parse(text) as ProducerLedger), unresponsive: [] };
      },
      checkpoints: async () => ({
        lines: this.#producers.flatMap(({ raw }) => raw.map(readCheckpoint).filter((line) => line !== undefined)),
      }),
      offsets: () => this.offsets(),
      deadLetters: (sinceMs) =>
        this.pipeline.probe({
          kind: "dlq_read",
          ...this.pipeline.kafka,
          topic: this.dlqTopic,
          from_timestamp_ms: sinceMs,
          max: 100_000,
          timeout_ms: DEAD_LETTERS_LIMIT_MS,
        }),
      log: async (range, visit) =>
        await readLogLines(
          this.pipeline.runTool("log-reader", { ...this.pipeline.kafka, topic: this.topic, ...range }),
          visit,
        ),
      pointCounts: (filter, range) => store.countPoints(filter, range),
      points: (filter, startMs, endMs, visit) => store.eachPoint(filter, startMs, endMs, visit),
      fieldCounts: (measurement, range) => store.countFieldValues(measurement, range),
      fieldValues: (measurement, startMs, endMs, visit) => store.eachFieldValue(measurement, startMs, endMs, visit),
    };
  }

  /**
   * Records and judges the events of some runs, as an audit of a cluster does. Repeated while Kafka's log cannot be read,
   * since other tests freeze the brokers.
   */
  async audit(runs: readonly string[], sinceMs: number = this.startedAtMs): Promise<Verdict> {
    await this.untilRead();
    for (let attempt = 1; ; attempt++) {
      const folder = join(this.pipeline.servers.folder, `history-${this.name}-${sinceMs}-${attempt}`);
      try {
        await this.#record(runs, sinceMs, folder);
        return await judge(await openHistory(folder));
      } catch (error) {
        if (attempt === AUDIT_ATTEMPTS || !String(error).includes("log cannot be read")) throw error;
      }
    }
  }

  async #record(runs: readonly string[], sinceMs: number, folder: string): Promise<void> {
    await using writer = await HistoryWriter.open(folder);
    const { ca } = await this.pipeline.servers.tlsFiles("admin");
    const { meta } = await recordHistory({
      sources: this.#sources(ca),
      writer,
      report: { step: (_title, work) => work({ update: () => {} }) },
      signal: new AbortController().signal,
      sinceMs,
      runs,
    });
    await writer.close(meta);
  }
}
