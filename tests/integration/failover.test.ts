/** Brokers, InfluxDB and processor killed while events flow: no acknowledged event is lost, none is duplicated in Kafka. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { serializeEvent } from "../../services/domain/event.ts";
import { Fleet } from "../../services/domain/fleet.ts";
import { EVENTS_TOPIC, PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import { createKafka } from "../../services/kafka/client.ts";
import { Logger } from "../../services/runtime/log.ts";
import { Environment } from "./environment.ts";
import { type Ledger, missingFrom, Pipeline, skipReason, until } from "./harness.ts";

const skipped = await skipReason();
const RATE = 500;
/** A broker start, a leader election or a backlog takes ten seconds; minutes on a busy machine. */
const STEP_LIMIT_MS = 150_000;
/** Thirty such steps, few of them long. */
const LIMIT_MS = 900_000;
/** Events acknowledged while InfluxDB is down: several batches that the processor cannot store. */
const OUTAGE_EVENTS = RATE * 5;
/** Longer than a request's timeout and than a member's session: connections close while their brokers come back. */
const FROZEN_MS = 8000;
/** Each of them meets its own order of ends of connections and answers. */
const FROZEN_GROUPS = 5;
const FREEZES = 2;

describe.skipIf(skipped !== undefined)(`failover${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;

  beforeAll(async () => {
    pipeline = await Pipeline.start(3);
    await pipeline.prepare();
    await pipeline.setup();
  }, LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  test(
    "the last event is committed when the coordinator is killed before its commit, and no event follows",
    async () => {
      const { servers } = pipeline;
      const processor = await pipeline.processor();
      await processor.ready(STEP_LIMIT_MS);
      // The event is read, and cannot be stored yet.
      process.kill(servers.pid("influxdb"), "SIGSTOP");
      const fleet = new Fleet({ ordinal: 90, count: 1, run: "last-event", seed: 1 });
      const line = `${serializeEvent(fleet.next(Date.now()))}\n`;
      const file = await pipeline.producer({ SOURCE: "stdin" }, new Blob([line]));
      expect(await file.process.exited).toBe(0);
      await until("the event to be read", STEP_LIMIT_MS, async () =>
        (await processor.metric("conveyor_processor_events_consumed_total")) === 1 ? true : undefined,
      );
      const coordinator = await pipeline.coordinatorOf(PROCESSOR_GROUP);
      await servers.kill(`kafka-${coordinator}`);
      process.kill(servers.pid("influxdb"), "SIGCONT");

      const offsets = {
        kind: "kafka_offsets",
        ...pipeline.kafka,
        topic: EVENTS_TOPIC,
        group: PROCESSOR_GROUP,
      } as const;
      try {
        await until("the commit of the event", STEP_LIMIT_MS, async () =>
          (await pipeline.probe(offsets)).every(({ end, committed }) => end === (committed ?? 0)) ? true : undefined,
        );
        expect(await processor.stop()).toBe(0);
      } finally {
        // The next tests need all brokers.
        await servers.startBroker(coordinator);
        await pipeline.inSync(STEP_LIMIT_MS);
      }
    },
    LIMIT_MS,
  );

  test(
    "a freeze of all brokers ends no processor, and every event is committed after it",
    async () => {
      const { servers } = pipeline;
      const fleet = new Fleet({ ordinal: 91, count: 10, run: "frozen", seed: 1 });
      const groups = await Promise.all(
        Array.from({ length: FROZEN_GROUPS }, async (_, index) => {
          const where = await Environment.open(pipeline, `frozen-${index}`, 200 + index);
          return { where, processor: await where.processor() };
        }),
      );
      for (const { processor } of groups) await processor.ready(STEP_LIMIT_MS);
      const signal = (name: NodeJS.Signals) => {
        for (const node of [0, 1, 2]) process.kill(servers.pid(`kafka-${node}`), name);
      };
      for (let freeze = 0; freeze < FREEZES; freeze++) {
        for (const { where } of groups) {
          await where.write(Array.from({ length: 60 }, () => serializeEvent(fleet.next(Date.now()))));
        }
        signal("SIGSTOP");
        await Bun.sleep(FROZEN_MS);
        signal("SIGCONT");
        await pipeline.inSync(STEP_LIMIT_MS);
        for (const { where } of groups) await where.untilRead();
        const ended = groups.filter(({ processor }) => processor.process.exitCode !== null);
        expect(ended.map(({ processor }) => processor.tail())).toEqual([]);
      }
      for (const { processor } of groups) expect(await processor.stop()).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "no acknowledged event is missing, and none is twice in Kafka, after kills of brokers, InfluxDB and processor",
    async () => {
      const { servers } = pipeline;
      const producer = await pipeline.producer({ SOURCE: "simulated", RATE_EVENTS_PER_SECOND: String(RATE) });
      let processor = await pipeline.processor();
      await producer.ready(STEP_LIMIT_MS);
      await processor.ready(STEP_LIMIT_MS);
      const acknowledged = () => producer.metric("conveyor_producer_events_acknowledged_total");
      const progress = async (what: string) => {
        const before = await acknowledged();
        const startedAt = performance.now();
        await until(`acknowledgements after ${what}`, STEP_LIMIT_MS, async () =>
          (await acknowledged()) > before + RATE / 10 ? true : undefined,
        );
        return Math.round(performance.now() - startedAt);
      };
      await progress("the start");
      for (const node of [0, 1, 2]) {
        const pid = servers.pid(`kafka-${node}`);
        await servers.kill(`kafka-${node}`);
        const resumedMs = await progress(`the kill of kafka-${node}`);
        await pipeline.removedFromIsr(node, STEP_LIMIT_MS);
        const consumed = await processor.metric("conveyor_processor_points_written_total");
        await until("points written with a broker down", STEP_LIMIT_MS, async () =>
          (await processor.metric("conveyor_processor_points_written_total")) > consumed ? true : undefined,
        );
        await servers.startBroker(node);
        expect(servers.pid(`kafka-${node}`)).not.toBe(pid);
        console.log(`kafka-${node}: killed, acknowledgements resumed after ${resumedMs} ms`);
        await pipeline.inSync(STEP_LIMIT_MS);
        // Also connections without traffic (dead letters): by the end every broker has closed its connections.
        await processor.ready(STEP_LIMIT_MS);
        await producer.ready(STEP_LIMIT_MS);
      }
      await servers.kill("influxdb");
      const before = await acknowledged();
      await until("events that cannot be stored", STEP_LIMIT_MS, async () =>
        (await acknowledged()) > before + OUTAGE_EVENTS ? true : undefined,
      );
      expect(processor.process.exitCode).toBeNull();
      expect((await processor.get("/healthz")).status).toBe(200);
      await servers.startInflux();
      await processor.stop("SIGKILL");
      processor = await pipeline.processor();
      await processor.ready(STEP_LIMIT_MS);
      await progress("all kills");

      const ledgerWhileRunning = JSON.parse((await producer.get("/ledger")).text) as Ledger;
      // The ledger of a frozen producer does not change: all of it must reach the database.
      producer.process.kill("SIGSTOP");
      const { run } = ledgerWhileRunning;
      const conveyors = ledgerWhileRunning.runs[run]!;
      await until("every acknowledged event in InfluxDB", STEP_LIMIT_MS, async () =>
        missingFrom(await pipeline.stored(run), conveyors).length === 0 ? true : undefined,
      );
      producer.process.kill("SIGCONT");
      expect(await producer.stop()).toBe(0);
      expect(await processor.stop()).toBe(0);

      expect(ledgerWhileRunning.acknowledged).toBeGreaterThan(RATE * 30);
      for (const ranges of Object.values(conveyors)) expect(ranges).toHaveLength(1);
      const log = await readLog(pipeline);
      const seen = new Map<string, number>();
      let duplicates = 0;
      let gaps = 0;
      for (const { conveyor, seq } of log) {
        const last = seen.get(conveyor) ?? -1;
        if (seq <= last) duplicates++;
        else if (seq !== last + 1) gaps++;
        seen.set(conveyor, Math.max(last, seq));
      }
      expect({ duplicates, gaps }).toEqual({ duplicates: 0, gaps: 0 });
    },
    LIMIT_MS,
  );
});

/** All records of the topic, in order per partition, read by an independent client. */
async function readLog(pipeline: Pipeline): Promise<{ conveyor: string; seq: number }[]> {
  const { servers } = pipeline;
  const kafka = createKafka(
    { brokers: servers.brokers, tls: await servers.tlsFiles("admin") },
    "verifier",
    new Logger("verifier", "error", {}, () => {}),
  );
  const admin = kafka.admin();
  await admin.connect();
  const ends = new Map(
    (await admin.fetchTopicOffsets("conveyor.events")).map(({ partition, high }) => [partition, Number(high)]),
  );
  await admin.disconnect();
  const open = new Set([...ends].filter(([, end]) => end > 0).map(([partition]) => partition));
  const log: { conveyor: string; seq: number }[] = [];
  const consumer = kafka.consumer({ groupId: "verifier", sessionTimeout: 6000, maxWaitTimeInMs: 200 });
  await consumer.connect();
  await consumer.subscribe({ topics: ["conveyor.events"], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      for (const { value } of batch.messages)
        log.push(JSON.parse(value!.toString()) as { conveyor: string; seq: number });
      if (Number(batch.lastOffset()) + 1 >= ends.get(batch.partition)!) open.delete(batch.partition);
    },
  });
  await until("the log to be read to its end", STEP_LIMIT_MS, () => (open.size === 0 ? true : undefined));
  await consumer.disconnect();
  return log;
}
