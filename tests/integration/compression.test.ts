/** Batches of Kafka's Java producer in every codec, and a batch that cannot be read, through the real services. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import zlib from "node:zlib";
import { CompressionCodecs, CompressionTypes, ConfigResourceTypes } from "kafkajs";
import { readLogLines } from "../../scripts/audit/sources.ts";
import { KAFKA_JARS } from "../../scripts/images/kafka.ts";
import { partDir } from "../../scripts/local-cluster/index.ts";
import { serializeEvent } from "../../services/domain/event.ts";
import { Fleet } from "../../services/domain/fleet.ts";
import { EVENTS_TOPIC, PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import { createKafka, RETRY_BRIEFLY } from "../../services/kafka/client.ts";
import { MAX_EXPANDED_BYTES } from "../../services/kafka/fetch-decoder.ts";
import { Logger } from "../../services/runtime/log.ts";
import { Pipeline, type ServiceProcess, skipReason, until } from "./harness.ts";

const skipped = await skipReason();
/** A start of a JVM or of a service, or stored events: seconds, minutes on a busy machine. */
const STEP_LIMIT_MS = 150_000;
const LIMIT_MS = 500_000;
const CODECS = ["gzip", "snappy", "lz4", "zstd"];
const EVENTS = 500;
const PARTITION = 3;

const eventsOf = (run: string, count: number, ordinal: number): string[] => {
  const fleet = new Fleet({ ordinal, count: 5, run, seed: 5 });
  const startMs = Date.now() - 60_000;
  return Array.from({ length: count }, (_, index) => serializeEvent(fleet.next(startMs + index)));
};

describe.skipIf(skipped !== undefined)(`compression${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;
  let processor: ServiceProcess;

  beforeAll(async () => {
    pipeline = await Pipeline.start(1);
    await pipeline.prepare();
    await pipeline.setup();
    processor = await pipeline.processor();
    await processor.ready(STEP_LIMIT_MS);
  }, LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  const storedOf = (run: string, count: number) =>
    until(`${count} events of ${run} in InfluxDB`, STEP_LIMIT_MS, async () => {
      const stored = await pipeline.stored(run);
      return [...stored.values()].reduce((sum, sequences) => sum + sequences.size, 0) === count ? true : undefined;
    });

  async function produceWithJava(codec: string, lines: readonly string[]): Promise<void> {
    const { folder, brokers } = pipeline.servers;
    const config = join(folder, "java-producer.properties");
    const store = join(folder, "producer.pem");
    await writeFile(
      config,
      `security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location=${store}\nssl.truststore.type=PEM\nssl.truststore.location=${join(folder, "ca.crt")}\nlinger.ms=500\n`,
    );
    const tool = ["-cp", join(partDir(KAFKA_JARS), "libs", "*"), "org.apache.kafka.tools.ConsoleProducer"];
    const topic = ["--bootstrap-server", brokers.join(","), "--topic", EVENTS_TOPIC];
    // The tool's own limit of 1.5 s would repeat or drop batches on a busy machine.
    const options = ["--command-config", config, "--compression-codec", codec, "--request-timeout-ms", "60000"];
    const child = Bun.spawn(["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", ...tool, ...topic, ...options], {
      stdin: new Blob([`${lines.join("\n")}\n`]),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [output, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    if ((await child.exited) !== 0) throw new Error(`the Java producer failed:\n${output}${errors}`);
  }

  const readLog = async (fields: Record<string, unknown>) => {
    const found = new Map<string, string>();
    const end = await readLogLines(
      pipeline.runTool("log-reader", { ...pipeline.kafka, ...fields }),
      ({ run, conveyor, seq, partition, offset, hash }) => {
        found.set(`${run} ${conveyor} ${seq}`, `${partition} ${offset} ${hash}`);
      },
    );
    return { found, end };
  };

  test(
    "events of the Java producer are stored in each codec, and both log readers list them",
    async () => {
      for (const [index, codec] of CODECS.entries()) {
        await produceWithJava(codec, eventsOf(`java-${codec}`, EVENTS, index));
      }
      for (const codec of CODECS) await storedOf(`java-${codec}`, EVENTS);
      const [own, kafkajs] = await Promise.all([readLog({ decoder: "own" }), readLog({ decoder: "kafkajs" })]);
      expect(own.end).toMatchObject({ unreadable: 0, unreadable_batches: [] });
      expect(own.found.size).toBe(CODECS.length * EVENTS);
      expect(Bun.deepEquals(own.found, kafkajs.found)).toBe(true);
    },
    LIMIT_MS,
  );

  test(
    "with compression.type=zstd on the topic, the producer's events are stored",
    async () => {
      const admin = await pipeline.admin();
      const configEntries = [{ name: "compression.type", value: "zstd" }];
      await admin.alterConfigs({
        validateOnly: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name: EVENTS_TOPIC, configEntries }],
      });
      await admin.disconnect();
      const lines = eventsOf("topic-zstd", EVENTS, 7);
      const producer = await pipeline.producer({ SOURCE: "stdin" }, new Blob([`${lines.join("\n")}\n`]));
      expect(await producer.process.exited).toBe(0);
      await storedOf("topic-zstd", EVENTS);
      expect(processor.process.exitCode).toBeNull();
    },
    LIMIT_MS,
  );

  test(
    "a batch that cannot be read stops its partition alone, and step_over moves it into the dead-letter topic",
    async () => {
      const log = new Logger("test", "error", {}, () => {});
      const connection = { brokers: pipeline.servers.brokers, tls: await pipeline.servers.tlsFiles("producer") };
      const client = createKafka(connection, "test", log, { retry: RETRY_BRIEFLY }).producer();
      // One record of 20 MiB in a batch of 20 KB, which a broker accepts; it recompresses it as the topic says.
      CompressionCodecs[CompressionTypes.GZIP] = () => ({
        compress: async ({ buffer }: { buffer: Buffer }) => zlib.gzipSync(buffer),
      });
      const [after, other] = [eventsOf("after-batch", 5, 8), eventsOf("other-partition", 5, 9)];
      const messagesOf = (values: readonly string[], partition: number) =>
        values.map((value) => ({ value, partition }));
      await client.connect();
      const [bomb] = await client.send({
        topic: EVENTS_TOPIC,
        compression: CompressionTypes.GZIP,
        messages: [{ value: Buffer.alloc(20 * 1024 * 1024), partition: PARTITION }],
      });
      const offset = Number(bomb!.baseOffset);
      await client.send({ topic: EVENTS_TOPIC, messages: messagesOf(after, PARTITION) });
      expect(await processor.logged("batch_unreadable", STEP_LIMIT_MS)).toMatchObject({
        topic: EVENTS_TOPIC,
        partition: PARTITION,
        offset,
        last_offset: offset,
        reason: `zstd: expands to more than ${MAX_EXPANDED_BYTES} bytes`,
      });
      await client.send({ topic: EVENTS_TOPIC, messages: messagesOf(other, PARTITION + 1) });
      await client.disconnect();
      await storedOf("other-partition", 5);
      expect((await pipeline.stored("after-batch")).size).toBe(0);
      expect((await processor.get("/metrics")).text).toContain(
        `conveyor_processor_stopped_at_offset{topic="${EVENTS_TOPIC}",partition="${PARTITION}"} ${offset}`,
      );

      const kafka = { ...pipeline.kafka, topic: EVENTS_TOPIC };
      const place = { partition: PARTITION, first_offset: offset, last_offset: offset };
      const unreadable = { kind: "unreadable_batches", ...kafka, group: PROCESSOR_GROUP } as const;
      expect(await pipeline.probe(unreadable)).toMatchObject([place]);
      for (const decoder of ["own", "kafkajs"]) {
        const { end, found } = await readLog({ decoder });
        expect(end.unreadable_batches).toMatchObject([place]);
        expect([...found.keys()].filter((identity) => identity.startsWith("after-batch"))).toHaveLength(5);
      }

      const stepOver = { kind: "step_over", ...kafka, partition: PARTITION, offset, timeout_ms: 50_000 } as const;
      expect(await pipeline.probe({ ...stepOver, dry_run: true })).toMatchObject({ ...place, dead_letters: [] });
      const done = await pipeline.probe(stepOver);
      expect(done).toMatchObject({ ...place, already: false });
      expect(done.dead_letters).toHaveLength(1);
      expect(await pipeline.probe(stepOver)).toMatchObject({ already: true, dead_letters: [] });
      await storedOf("after-batch", 5);
      expect(processor.find("batch_stepped_over")).toMatchObject({ partition: PARTITION, offset });
      expect((await processor.get("/metrics")).text).not.toContain("conveyor_processor_stopped_at_offset{");
      expect(await pipeline.probe(unreadable)).toEqual([]);

      const { letters } = await pipeline.probe({ kind: "letter_read", ...pipeline.kafka });
      const [letter] = letters.filter(({ headers }) => headers.reason === "unreadable_batch");
      expect(letter!.headers).toMatchObject({
        source_partition: String(PARTITION),
        source_offset: String(offset),
        part: "1/1",
      });
      // The batch as it is in the log, header included.
      const bytes = Buffer.from(letter!.body, "base64");
      expect(bytes.length).toBe(done.bytes);
      expect(bytes.readBigInt64BE(0)).toBe(BigInt(offset));
      expect(await processor.stop()).toBe(0);
    },
    LIMIT_MS,
  );
});
