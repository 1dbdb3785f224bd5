/**
 * The audit against known defects. Each variant of the real services has one defect that loses or duplicates events and
 * runs under the fault that exposes it, with real brokers and a real InfluxDB: the verdict must fail for the right reason.
 * The unchanged services must pass under the same faults; after a killed producer the last outcomes must be unknown.
 * The environments share only the servers, so the tests run concurrently; only the last one kills brokers.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { InvariantId, Location, Verdict } from "../../scripts/audit/verdict.ts";
import { serializeEvent } from "../../services/domain/event.ts";
import { Fleet } from "../../services/domain/fleet.ts";
import { newRunId } from "../../services/domain/run-id.ts";
import { createKafka, RETRY_BRIEFLY } from "../../services/kafka/client.ts";
import { readGroup } from "../../services/lag-exporter.ts";
import { Logger } from "../../services/runtime/log.ts";
import { freePort } from "../servers/free-ports.ts";
import { Environment } from "./environment.ts";
import { Pipeline, type ServiceProcess, skipReason, until } from "./harness.ts";
import {
  ACKNOWLEDGED_WHEN_BUFFERED,
  ANSWER_LOST,
  COMMIT_BEFORE_WRITE,
  MILLISECONDS,
  NOT_IDEMPOTENT,
  ONE_ACK,
  SWALLOWED_422,
  TRUNCATION_IGNORED,
  WRONG_VALUE,
} from "./seeded-patches.ts";
import { buildVariant } from "./variants.ts";

const skipped = await skipReason();
/** A step takes seconds with ten tests running concurrently, minutes on a busy machine. */
const LIMIT_MS = 180_000;
/** Several such steps. */
const TEST_LIMIT_MS = 600_000;
const DAY_SECONDS = 86_400;
/** Shorter than the window of event time, so that the database refuses events that the services accept. */
const DATABASE_DAYS = 10;
/** Several batches of every partition. */
const FLOW_EVENTS = 500;
/** Events that a stopped producer must still hold: more than one in-flight batch of each partition. */
const BUFFERED_EVENTS = 300;
const RATE = { SOURCE: "simulated", RATE_EVENTS_PER_SECOND: "1000" };

const failedIds = ({ laws }: Verdict): InvariantId[] =>
  laws.filter(({ status }) => status === "failed").map(({ law }) => law);
const invariant = ({ laws }: Verdict, id: InvariantId) => laws.find((result) => result.law === id)!;
/** Locations of events without a point. */
const locationsOf = ({ missing }: Verdict): Location[] =>
  (Object.keys(missing) as Location[]).filter((location) => missing[location].count > 0);

/** Expects all invariants that this recording can judge to hold. */
function expectPassed(verdict: Verdict, acknowledgedLeast: number): void {
  expect(failedIds(verdict)).toEqual([]);
  const passed = verdict.laws.filter(({ status }) => status === "passed").map(({ law }) => law);
  expect(passed).toEqual(["L1", "L2", "L3", "P1", "V1", "D1", "D2", "O1"]);
  expect(verdict.counts.acknowledged).toBeGreaterThanOrEqual(acknowledgedLeast);
  expect(verdict.counts).toMatchObject({ lost: 0, twice_in_kafka: 0, twice_in_influxdb: 0, uncertain: 0 });
}

describe.skipIf(skipped !== undefined)(`seeded defects${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;
  let ordinal = 0;
  let freezers = 0;
  const folder = (name: string) => join(pipeline.servers.folder, `variant-${name}`);
  const environment = (name: string, options?: Parameters<typeof Environment.open>[3]) =>
    Environment.open(pipeline, name, ++ordinal, options);

  beforeAll(async () => {
    pipeline = await Pipeline.start(3);
    await Promise.all([
      pipeline.prepare(),
      // Points older than this are refused with 422.
      pipeline.servers.onboardInflux(DATABASE_DAYS * DAY_SECONDS),
      buildVariant(folder("commit-first"), "processor", [COMMIT_BEFORE_WRITE]),
      buildVariant(folder("milliseconds"), "processor", [MILLISECONDS]),
      buildVariant(folder("wrong-value"), "processor", [WRONG_VALUE]),
      buildVariant(folder("swallowed"), "processor", [SWALLOWED_422]),
      buildVariant(folder("dropped-tail"), "producer", ACKNOWLEDGED_WHEN_BUFFERED),
      buildVariant(folder("one-ack"), "producer", [ONE_ACK]),
      buildVariant(folder("answer-lost"), "producer", [ANSWER_LOST]),
      buildVariant(folder("truncation-ignored"), "processor", [TRUNCATION_IGNORED]),
      buildVariant(folder("not-idempotent"), "producer", [ANSWER_LOST, NOT_IDEMPOTENT]),
    ]);
  }, TEST_LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  /** Freezes all brokers during `work`; the last of several concurrent callers resumes them. */
  const whileFrozen = async (work: () => Promise<void>): Promise<void> => {
    const signal = (name: NodeJS.Signals) => {
      for (let node = 0; node < 3; node++) process.kill(pipeline.servers.pid(`kafka-${node}`), name);
    };
    if (++freezers === 1) signal("SIGSTOP");
    try {
      await work();
    } finally {
      if (--freezers === 0) signal("SIGCONT");
    }
  };
  const untilBuffered = async (producer: ServiceProcess): Promise<void> => {
    await until(`${BUFFERED_EVENTS} buffered events`, LIMIT_MS, async () =>
      (await producer.metric("conveyor_producer_buffered_events")) >= BUFFERED_EVENTS ? true : undefined,
    );
  };

  const runOf = async (producer: ServiceProcess): Promise<string> => {
    const { run } = await producer.logged("running", LIMIT_MS);
    return String(run);
  };

  const acknowledgedBy = async (producer: ServiceProcess): Promise<number> =>
    (JSON.parse((await producer.get("/ledger")).text) as { acknowledged: number }).acknowledged;
  const untilAcknowledged = async (producer: ServiceProcess, least: number): Promise<void> => {
    await until(`${least} acknowledgements`, LIMIT_MS, async () =>
      (await acknowledgedBy(producer)) >= least ? true : undefined,
    );
  };

  /** Starts a producer and waits until some batches are acknowledged. */
  const flowing = async (where: Environment, variant?: string, settings: Record<string, string> = RATE) => {
    const producer = await where.producer(settings, variant ? { folder: folder(variant) } : {});
    await producer.ready(LIMIT_MS);
    await untilAcknowledged(producer, FLOW_EVENTS);
    return producer;
  };

  /** Events, one of them older than the retention of the database. */
  const withOneTooOld = (run: string, belts: number) => {
    const fleet = new Fleet({ ordinal: belts, count: 5, run, seed: 1 });
    const events = Array.from({ length: 200 }, () => fleet.next(Date.now()));
    events[100] = { ...events[100]!, ts: Date.now() - 2 * DATABASE_DAYS * DAY_SECONDS * 1000 };
    return new Blob([`${events.map(serializeEvent).join("\n")}\n`]);
  };

  /** Starts a processor whose database does not answer and kills it after it has read. */
  const killedWithoutDatabase = async (where: Environment, variant?: string): Promise<void> => {
    const unusedPort = await freePort();
    const blind = await where.processor(
      { INFLUX_URL: `https://localhost:${unusedPort}` },
      variant ? folder(variant) : undefined,
    );
    // It has read a batch by then; a variant that commits before writing has committed it.
    await blind.logged("influxdb_retry", LIMIT_MS);
    await blind.stop("SIGKILL");
  };

  test("buildVariant fails when the text to replace is not in the source", async () => {
    const patch = { file: "processor/influx-writer.ts", was: "no such text", becomes: "" };
    await expect(buildVariant(folder("none"), "processor", [patch])).rejects.toThrow(
      "services/processor/influx-writer.ts must hold the changed place once; it does 0 times",
    );
  });

  test.concurrent(
    "unchanged services under every fault of the following tests → passed",
    async () => {
      const where = await environment("unchanged");
      const producer = await flowing(where, "answer-lost");
      await producer.logged("answer_lost", LIMIT_MS);
      await killedWithoutDatabase(where);
      const processor = await where.processor();
      const file = await where.producer({ SOURCE: "stdin" }, { input: withOneTooOld("unchanged-file", 90) });
      expect(await file.process.exited).toBe(0);
      let ended: Promise<number> | undefined;
      await whileFrozen(async () => {
        await untilBuffered(producer);
        ended = producer.stop();
        await producer.logged("stopping", LIMIT_MS);
      });
      expect(await ended).toBe(0);
      const verdict = await where.audit([await runOf(producer), "unchanged-file"]);
      expectPassed(verdict, FLOW_EVENTS);
      expect(verdict.missing.dead_lettered.count + verdict.missing.refused_by_database.count).toBe(1);
      expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "commit before write → L2, lost in the processor",
    async () => {
      const where = await environment("commit-first");
      const producer = await flowing(where);
      await killedWithoutDatabase(where, "commit-first");
      const processor = await where.processor();
      expect(await producer.stop()).toBe(0);
      const verdict = await where.audit([await runOf(producer)]);
      expect(verdict.causes).toEqual(["L2"]);
      expect(failedIds(verdict)).toEqual(["L2", "L3"]);
      expect(invariant(verdict, "L3").follows).toEqual(["L2"]);
      expect(locationsOf(verdict)).toEqual(["lost_in_processor"]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "timestamps cut to milliseconds → D2, overwritten by later events of their conveyor",
    async () => {
      const where = await environment("milliseconds");
      const processor = await where.processor({}, folder("milliseconds"));
      const producer = await flowing(where);
      expect(await producer.stop()).toBe(0);
      const verdict = await where.audit([await runOf(producer)]);
      expect(verdict.causes).toEqual(["D2"]);
      expect(failedIds(verdict)).toEqual(["L3", "D2"]);
      expect(locationsOf(verdict)).toEqual(["overwritten"]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "a wrong value stored → V1 alone: every event has its point, and points say something else",
    async () => {
      const where = await environment("wrong-value");
      const processor = await where.processor({}, folder("wrong-value"));
      const producer = await flowing(where);
      expect(await producer.stop()).toBe(0);
      const verdict = await where.audit([await runOf(producer)]);
      expect(verdict.causes).toEqual(["V1"]);
      expect(failedIds(verdict)).toEqual(["V1"]);
      expect(invariant(verdict, "V1").examples).toHaveLength(5);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "a file sent again as another run → D2, overwritten, also when only the first run is judged",
    async () => {
      const where = await environment("loaded-twice");
      const processor = await where.processor();
      const fleet = new Fleet({ ordinal: 80, count: 5, run: "first-load", seed: 1 });
      const events = Array.from({ length: 200 }, () => fleet.next(Date.now()));
      for (const run of ["first-load", "second-load"]) {
        const lines = events.map((event) => `${serializeEvent({ ...event, run })}\n`);
        const producer = await where.producer({ SOURCE: "stdin" }, { input: new Blob(lines) });
        expect(await producer.process.exited).toBe(0);
      }
      const verdict = await where.audit(["first-load"]);
      expect(verdict.causes).toEqual(["D2"]);
      expect(verdict.missing.overwritten.count).toBe(200);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "an ignored 422 → L2: refused by the database, committed, not dead-lettered",
    async () => {
      const where = await environment("swallowed");
      const processor = await where.processor({}, folder("swallowed"));
      const producer = await where.producer({ SOURCE: "stdin" }, { input: withOneTooOld("swallowed-file", 91) });
      expect(await producer.process.exited).toBe(0);
      const verdict = await where.audit(["swallowed-file"]);
      expect(verdict.causes).toEqual(["L2"]);
      expect(verdict.missing.lost_in_processor.count).toBe(1);
      expect(invariant(verdict, "L2").examples).toEqual([
        { run: "swallowed-file", conveyor: expect.any(String), seq: 20 },
      ]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "acknowledged when buffered, and no flush on SIGTERM → L1, lost before Kafka",
    async () => {
      const where = await environment("dropped-tail");
      const processor = await where.processor();
      const producer = await flowing(where, "dropped-tail");
      // It does not flush, so it ends while the brokers are frozen.
      await whileFrozen(async () => {
        await untilBuffered(producer);
        await producer.stop();
      });
      const verdict = await where.audit([await runOf(producer)]);
      expect(verdict.causes).toEqual(["L1"]);
      expect(invariant(verdict, "L3").follows).toEqual(["L1"]);
      expect(locationsOf(verdict)).toEqual(["lost_in_kafka"]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "a retry without idempotence → D1 only: a batch twice in Kafka, its events once in the database",
    async () => {
      const where = await environment("not-idempotent");
      const processor = await where.processor();
      const producer = await flowing(where, "not-idempotent");
      await producer.logged("answer_lost", LIMIT_MS);
      expect(await producer.stop()).toBe(0);
      const verdict = await where.audit([await runOf(producer)]);
      expect(failedIds(verdict)).toEqual(["D1"]);
      expect(verdict.counts.twice_in_kafka).toBeGreaterThan(0);
      expect(verdict.counts).toMatchObject({ lost: 0, twice_in_influxdb: 0 });
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "a producer killed with SIGKILL → logged acknowledgements are judged, later ones are unknown",
    async () => {
      const where = await environment("killed");
      const processor = await where.processor();
      const producer = await flowing(where);
      await producer.logged("ledger_checkpoint", LIMIT_MS);
      await untilAcknowledged(producer, (await acknowledgedBy(producer)) + FLOW_EVENTS);
      const run = await runOf(producer);
      await producer.stop("SIGKILL");
      const verdict = await where.audit([run]);
      expect(failedIds(verdict)).toEqual([]);
      for (const id of ["L1", "L2", "L3"] as const) expect(invariant(verdict, id).status).toBe("passed");
      expect(invariant(verdict, "P1")).toMatchObject({ status: "unknown" });
      expect(verdict.counts.acknowledged).toBeGreaterThan(0);
      expect(verdict.counts.uncertain).toBeGreaterThan(0);
      expect(verdict.counts.acknowledged + verdict.counts.uncertain).toBe(verdict.counts.in_kafka);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  /** Sends events of a run from a file, and returns when all are acknowledged. */
  const sendFile = async (where: Environment, run: string, belts: number, count: number) => {
    const fleet = new Fleet({ ordinal: belts, count: 5, run, seed: 1 });
    const lines = Array.from({ length: count }, () => `${serializeEvent(fleet.next(Date.now()))}\n`);
    const producer = await where.producer({ SOURCE: "stdin" }, { input: new Blob(lines) });
    expect(await producer.process.exited).toBe(0);
  };
  const untilCommitted = async (where: Environment) =>
    await until("all events to be committed", LIMIT_MS, async () => {
      const ranges = await where.offsets();
      return ranges.every(({ end, committed }) => end === committed) ? ranges : undefined;
    });

  test(
    "unread events deleted by Kafka → L1, lost in Kafka, with their number in the log and in the commits",
    async () => {
      const where = await environment("deleted-unread");
      const first = await where.processor();
      await sendFile(where, "deleted-before", 92, 200);
      const before = await untilCommitted(where);
      expect(await first.stop()).toBe(0);
      const run = newRunId(Date.now(), 92, 0);
      await sendFile(where, run, 92, 300);
      // What a bound of the topic does, without the minute until Kafka checks it.
      const admin = await pipeline.admin();
      const ranges = await where.offsets();
      const doomed = ranges.map(({ partition, end }, index) => ({
        partition,
        events: Math.floor((end - before[index]!.end) / 2),
        offset: String(before[index]!.end + Math.floor((end - before[index]!.end) / 2)),
      }));
      // kafkajs finds the leaders only in metadata that this client has read before.
      await admin.fetchTopicOffsets(where.topic);
      await admin.deleteTopicRecords({ topic: where.topic, partitions: doomed });
      const deleted = doomed.reduce((sum, { events }) => sum + events, 0);
      expect(deleted).toBeGreaterThan(100);
      const counted = async () =>
        (await readGroup(admin, where.topic, where.group)).partitions.toSorted((a, b) => a.partition - b.partition);
      const lagBefore = ranges.reduce((sum, { end, committed }) => sum + end - committed!, 0);
      expect((await counted()).reduce((sum, { lag }) => sum + lag, 0)).toBe(lagBefore);
      expect((await counted()).reduce((sum, { deletedUnread }) => sum + deletedUnread, 0)).toBe(deleted);

      const second = await where.processor();
      const verdict = await where.audit([run]);
      expect(verdict.causes).toEqual(["L1"]);
      expect(verdict.missing.lost_in_kafka.count).toBe(deleted);
      expect(invariant(verdict, "L1").detail).toContain(`Kafka deleted ${deleted} events of all runs`);
      // The group has moved on, and the number stays.
      expect((await counted()).map(({ lag, deletedUnread }) => [lag, deletedUnread])).toEqual(
        doomed.map(({ events }) => [0, events]),
      );
      const logged = second.lines.filter(({ event }) => event === "events_deleted_unread");
      expect(logged.reduce((sum, { events }) => sum + Number(events), 0)).toBe(deleted);
      await admin.disconnect();
      expect(await second.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test(
    "acks=1 and an unclean election → L1; acks=all with two in-sync replicas under the same outage → passed",
    async () => {
      const { servers } = pipeline;
      // The third broker has no replica; it keeps the controllers' majority while one of the others is down.
      const on = { replicas: [0, 1], partitions: 1 };
      const [unsafe, safe] = await Promise.all([
        environment("one-ack", {
          ...on,
          config: { "min.insync.replicas": "1", "unclean.leader.election.enable": "true" },
        }),
        environment("all-acks", {
          ...on,
          config: { "min.insync.replicas": "2", "unclean.leader.election.enable": "false" },
        }),
      ]);
      const rate = { ...RATE, RATE_EVENTS_PER_SECOND: "200" };
      const [bad, good] = await Promise.all([flowing(unsafe, "one-ack", rate), flowing(safe, undefined, rate)]);
      const kafka = { brokers: servers.brokers, tls: await servers.tlsFiles("admin") };
      const silent = new Logger("test", "error", {}, () => {});
      /** Undefined while the queried broker does not know the partition. */
      const partition = async (topic: string) => {
        const admin = createKafka(kafka, "test", silent, { retry: RETRY_BRIEFLY }).admin();
        try {
          await admin.connect();
          return (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]?.partitions[0];
        } catch {
          return undefined;
        } finally {
          await admin.disconnect().catch(() => {});
        }
      };

      // Without the follower, only the producer with acks=1 gets acknowledgements.
      await servers.kill("kafka-1");
      await until("the follower to leave the ISR", LIMIT_MS, async () =>
        Bun.deepEquals((await partition(unsafe.topic))?.isr, [0]) ? true : undefined,
      );
      await untilAcknowledged(bad, (await acknowledgedBy(bad)) + 300);
      // The leader is killed too, and the stale follower restarts.
      await servers.kill("kafka-0");
      await servers.startBroker(1);
      await until("the stale follower to lead", LIMIT_MS, async () =>
        (await partition(unsafe.topic))?.leader === 1 ? true : undefined,
      );
      await servers.startBroker(0);
      await until("both replicas to be in sync", LIMIT_MS, async () =>
        (await partition(safe.topic))?.isr.length === 2 ? true : undefined,
      );
      expect(await Promise.all([bad.stop(), good.stop()])).toEqual([0, 0]);
      await Promise.all([unsafe.processor(), safe.processor()]);
      const [failed, passed] = await Promise.all([unsafe.audit([await runOf(bad)]), safe.audit([await runOf(good)])]);
      expect(failed.causes).toEqual(["L1"]);
      expect(failedIds(failed)).toEqual(["L1", "L3", "O1"]);
      expect(failed.missing.lost_in_kafka.count).toBeGreaterThan(100);
      expect(locationsOf(failed)).toEqual(["lost_in_kafka"]);
      expectPassed(passed, FLOW_EVENTS);
    },
    TEST_LIMIT_MS,
  );

  test(
    "a log that lost its tail and grew again: ignored epoch → L2, lost in the processor; unchanged → read again",
    async () => {
      const { servers } = pipeline;
      const NODE = 2;
      const on = { replicas: [NODE], partitions: 1, config: { "min.insync.replicas": "1" } };
      const [blind, seeing] = await Promise.all([
        environment("truncation-ignored", on),
        environment("truncation-noticed", on),
      ]);
      const environments = [blind, seeing];
      const committed = await Promise.all(
        environments.map(async (where, index) => {
          const processor = await where.processor();
          for (let part = 0; part < 5; part++) await sendFile(where, "before-the-failure", 93 + index, 100);
          const [range] = await untilCommitted(where);
          expect(await processor.stop()).toBe(0);
          return range!.committed!;
        }),
      );
      // A power failure: the last records were acknowledged and never written to the disk.
      await servers.kill(`kafka-${NODE}`);
      for (const { topic } of environments) {
        const data = join(servers.folder, `kafka-${NODE}-data`, `${topic}-0`);
        for (const name of await readdir(data)) {
          if (name.endsWith(".log"))
            await truncate(join(data, name), Math.floor((await stat(join(data, name))).size / 2));
          else if (name.endsWith("index")) await rm(join(data, name));
        }
      }
      await servers.startBroker(NODE);
      const ends = await until("the shorter logs", LIMIT_MS, async () =>
        (await Promise.all(environments.map((where) => where.offsets()))).map(([range]) => range!.end),
      );
      for (const [index, end] of ends.entries()) expect(end).toBeLessThan(committed[index]!);
      await Promise.all(environments.map((where, index) => sendFile(where, "after-the-failure", 95 + index, 1000)));
      const processors = await Promise.all([blind.processor({}, folder("truncation-ignored")), seeing.processor()]);
      const [failed, passed] = await Promise.all(environments.map((where) => where.audit(["after-the-failure"])));
      expect(failed!.causes).toEqual(["L2"]);
      expect(failed!.missing.lost_in_processor.count).toBe(committed[0]! - ends[0]!);
      expectPassed(passed!, 1000);
      expect(await processors[1]!.logged("log_truncated", LIMIT_MS)).toMatchObject({
        position: committed[1],
        continues_at: ends[1],
      });
      for (const processor of processors) expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );
});
