/**
 * The judge of the judge, on the real wire: six defects that lose or double events, each made in the real services by
 * changing one place, each under the fault that brings it to light, with real brokers and a real InfluxDB. Recorded as the
 * audit records, judged by its judge: every one must turn the verdict red for the right reason; the unchanged services,
 * put through the same faults, must come out green. And a producer that is killed leaves what nobody can know: unknown.
 * The scenes share servers and nothing else, so they run side by side; only the last one takes brokers away.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { InvariantId, Location, Verdict } from "../../scripts/audit/verdict.ts";
import { serializeEvent } from "../../services/domain/event.ts";
import { Fleet } from "../../services/domain/fleet.ts";
import { createKafka, RETRY_BRIEFLY } from "../../services/kafka/client.ts";
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
} from "./seeded-patches.ts";
import { buildVariant } from "./variants.ts";

const skipped = await skipReason();
/** Each step takes seconds, ten scenes side by side; on a busy machine minutes. */
const LIMIT_MS = 180_000;
/** Some of those steps, one after the other. */
const TEST_LIMIT_MS = 600_000;
const DAY_SECONDS = 86_400;
/** Several batches of every partition; waited for by number, since a busy machine takes its time. */
const FLOW_EVENTS = 500;
/** What a producer has in hand when it is told to end: more than the one batch of each partition that may be on its way. */
const BUFFERED_EVENTS = 300;
const RATE = { SOURCE: "simulated", RATE_EVENTS_PER_SECOND: "1000" };

const failedLaws = ({ laws }: Verdict): InvariantId[] =>
  laws.filter(({ status }) => status === "failed").map(({ law }) => law);
const law = ({ laws }: Verdict, id: InvariantId) => laws.find((result) => result.law === id)!;
/** Where the events are that have no point. */
const placesOf = ({ missing }: Verdict): Location[] =>
  (Object.keys(missing) as Location[]).filter((place) => missing[place].count > 0);

/** The laws that this recording can judge, all of them passed. */
function expectGreen(verdict: Verdict, acknowledgedLeast: number): void {
  expect(failedLaws(verdict)).toEqual([]);
  const passed = verdict.laws.filter(({ status }) => status === "passed").map(({ law }) => law);
  expect(passed).toEqual(["L1", "L2", "L3", "P1", "D1", "D2", "O1"]);
  expect(verdict.counts.acknowledged).toBeGreaterThanOrEqual(acknowledgedLeast);
  expect(verdict.counts).toMatchObject({ lost: 0, twice_in_kafka: 0, twice_in_influxdb: 0, uncertain: 0 });
}

describe.skipIf(skipped !== undefined)(`seeded defects${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;
  let ordinal = 0;
  let freezers = 0;
  const folder = (name: string) => join(pipeline.servers.folder, `variant-${name}`);
  const scene = (name: string, options?: Parameters<typeof Environment.open>[3]) =>
    Environment.open(pipeline, name, ++ordinal, options);

  beforeAll(async () => {
    pipeline = await Pipeline.start(3);
    await Promise.all([
      pipeline.prepare(),
      // Points older than this are refused with 422.
      pipeline.servers.onboardInflux(30 * DAY_SECONDS),
      buildVariant(folder("commit-first"), "processor", [COMMIT_BEFORE_WRITE]),
      buildVariant(folder("milliseconds"), "processor", [MILLISECONDS]),
      buildVariant(folder("swallowed"), "processor", [SWALLOWED_422]),
      buildVariant(folder("dropped-tail"), "producer", ACKNOWLEDGED_WHEN_BUFFERED),
      buildVariant(folder("one-ack"), "producer", [ONE_ACK]),
      buildVariant(folder("answer-lost"), "producer", [ANSWER_LOST]),
      buildVariant(folder("not-idempotent"), "producer", [ANSWER_LOST, NOT_IDEMPOTENT]),
    ]);
  }, TEST_LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  /** All brokers stand still while `work` goes on; of several scenes that want it at once the last one ends it. */
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
    await until(`${BUFFERED_EVENTS} events in hand`, LIMIT_MS, async () =>
      (await producer.metric("conveyor_producer_buffered_events")) >= BUFFERED_EVENTS ? true : undefined,
    );
  };

  const runOf = async (producer: ServiceProcess): Promise<string> => {
    const { run } = await producer.said("running", LIMIT_MS);
    return String(run);
  };

  const acknowledgedBy = async (producer: ServiceProcess): Promise<number> =>
    (JSON.parse((await producer.get("/ledger")).text) as { acknowledged: number }).acknowledged;
  const untilAcknowledged = async (producer: ServiceProcess, least: number): Promise<void> => {
    await until(`${least} acknowledgements`, LIMIT_MS, async () =>
      (await acknowledgedBy(producer)) >= least ? true : undefined,
    );
  };

  /** A producer that has had some batches acknowledged. */
  const flowing = async (where: Environment, variant?: string, environment: Record<string, string> = RATE) => {
    const producer = await where.producer(environment, variant ? { folder: folder(variant) } : {});
    await producer.ready(LIMIT_MS);
    await untilAcknowledged(producer, FLOW_EVENTS);
    return producer;
  };

  /** Events of which one is older than the database keeps. */
  const withOneTooOld = (run: string, belts: number) => {
    const fleet = new Fleet({ ordinal: belts, count: 5, run, seed: 1 });
    const events = Array.from({ length: 200 }, () => fleet.next(Date.now()));
    events[100] = { ...events[100]!, ts: 1_500_000_000_000 };
    return new Blob([`${events.map(serializeEvent).join("\n")}\n`]);
  };

  /** The processor reads while its database does not answer, and is killed; another one goes on. */
  const killedWithoutDatabase = async (where: Environment, variant?: string): Promise<void> => {
    const nowhere = await freePort();
    const blind = await where.processor(
      { INFLUX_URL: `https://localhost:${nowhere}` },
      variant ? folder(variant) : undefined,
    );
    // It has read a batch by then; who commits before writing has committed it.
    await blind.said("influxdb_retry", LIMIT_MS);
    await blind.stop("SIGKILL");
  };

  test("a defect that is not there is an error: the changed place must be in the source", async () => {
    const patch = { file: "runtime/influx.ts", was: "no such place", becomes: "" };
    await expect(buildVariant(folder("none"), "processor", [patch])).rejects.toThrow(
      "services/processor/influx-writer.ts must hold the changed place once; it does 0 times",
    );
  });

  test.concurrent(
    "the unchanged services, put through every fault of the following tests: green",
    async () => {
      const where = await scene("unchanged");
      const producer = await flowing(where, "answer-lost");
      expect(await producer.said("kafka_send_failed", LIMIT_MS)).toMatchObject({
        error: expect.stringContaining("the answer was lost"),
      });
      await killedWithoutDatabase(where);
      const processor = await where.processor();
      const file = await where.producer({ SOURCE: "stdin" }, { input: withOneTooOld("unchanged-file", 90) });
      expect(await file.process.exited).toBe(0);
      let ended: Promise<number> | undefined;
      await whileFrozen(async () => {
        await untilBuffered(producer);
        ended = producer.stop();
        await producer.said("stopping", LIMIT_MS);
      });
      expect(await ended).toBe(0);
      const verdict = await where.audit([await runOf(producer), "unchanged-file"]);
      expectGreen(verdict, FLOW_EVENTS);
      expect(verdict.missing.dead_lettered.count + verdict.missing.refused_by_database.count).toBe(1);
      expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "commit before write → L2, lost in the processor",
    async () => {
      const where = await scene("commit-first");
      const producer = await flowing(where);
      await killedWithoutDatabase(where, "commit-first");
      const processor = await where.processor();
      expect(await producer.stop()).toBe(0);
      const verdict = await where.audit([await runOf(producer)]);
      expect(verdict.causes).toEqual(["L2"]);
      expect(failedLaws(verdict)).toEqual(["L2", "L3"]);
      expect(law(verdict, "L3").follows).toEqual(["L2"]);
      expect(placesOf(verdict)).toEqual(["lost_in_processor"]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "timestamps cut to milliseconds → D2, overwritten by later events of their conveyor",
    async () => {
      const where = await scene("milliseconds");
      const processor = await where.processor({}, folder("milliseconds"));
      const producer = await flowing(where);
      expect(await producer.stop()).toBe(0);
      const verdict = await where.audit([await runOf(producer)]);
      expect(verdict.causes).toEqual(["D2"]);
      expect(failedLaws(verdict)).toEqual(["L3", "D2"]);
      expect(placesOf(verdict)).toEqual(["overwritten"]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "a file loaded again under the name of another run → D2, overwritten, also when only the first run is judged",
    async () => {
      const where = await scene("loaded-twice");
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
    "a swallowed 422 → L2: the database refused it, the offset is committed, and no dead letter tells",
    async () => {
      const where = await scene("swallowed");
      const processor = await where.processor({}, folder("swallowed"));
      const producer = await where.producer({ SOURCE: "stdin" }, { input: withOneTooOld("swallowed-file", 91) });
      expect(await producer.process.exited).toBe(0);
      const verdict = await where.audit(["swallowed-file"]);
      expect(verdict.causes).toEqual(["L2"]);
      expect(verdict.missing.lost_in_processor.count).toBe(1);
      expect(law(verdict, "L2").examples).toEqual([{ run: "swallowed-file", conveyor: expect.any(String), seq: 20 }]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "acknowledged when buffered, and no flush on SIGTERM → L1, lost before Kafka",
    async () => {
      const where = await scene("dropped-tail");
      const processor = await where.processor();
      const producer = await flowing(where, "dropped-tail");
      // It waits for nobody, so its end comes while the brokers stand still.
      await whileFrozen(async () => {
        await untilBuffered(producer);
        await producer.stop();
      });
      const verdict = await where.audit([await runOf(producer)]);
      expect(verdict.causes).toEqual(["L1"]);
      expect(law(verdict, "L3").follows).toEqual(["L1"]);
      expect(placesOf(verdict)).toEqual(["lost_in_kafka"]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "a retry without idempotence → D1 alone: a batch stands in Kafka twice, its events in the database once",
    async () => {
      const where = await scene("not-idempotent");
      const processor = await where.processor();
      const producer = await flowing(where, "not-idempotent");
      expect(await producer.stop()).toBe(0);
      const verdict = await where.audit([await runOf(producer)]);
      expect(failedLaws(verdict)).toEqual(["D1"]);
      expect(verdict.counts.twice_in_kafka).toBeGreaterThan(0);
      expect(verdict.counts).toMatchObject({ lost: 0, twice_in_influxdb: 0 });
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test.concurrent(
    "a producer killed -9: what it said is judged, what it could not say any more is unknown",
    async () => {
      const where = await scene("killed");
      const processor = await where.processor();
      const producer = await flowing(where);
      await producer.said("ledger_checkpoint", LIMIT_MS);
      await untilAcknowledged(producer, (await acknowledgedBy(producer)) + FLOW_EVENTS);
      const run = await runOf(producer);
      await producer.stop("SIGKILL");
      const verdict = await where.audit([run]);
      expect(failedLaws(verdict)).toEqual([]);
      for (const id of ["L1", "L2", "L3"] as const) expect(law(verdict, id).status).toBe("passed");
      expect(law(verdict, "P1")).toMatchObject({ status: "unknown" });
      expect(verdict.counts.acknowledged).toBeGreaterThan(0);
      expect(verdict.counts.uncertain).toBeGreaterThan(0);
      expect(verdict.counts.acknowledged + verdict.counts.uncertain).toBe(verdict.counts.in_kafka);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );

  test(
    "acks=1 and an unclean election → L1; acks=all on enough replicas, through the same outage: green",
    async () => {
      const { servers } = pipeline;
      // The third broker holds no replica: with it the controllers stay a majority while one of the two is away.
      const on = { replicas: [0, 1], partitions: 1 };
      const [unsafe, safe] = await Promise.all([
        scene("one-ack", { ...on, config: { "min.insync.replicas": "1", "unclean.leader.election.enable": "true" } }),
        scene("all-acks", { ...on, config: { "min.insync.replicas": "2", "unclean.leader.election.enable": "false" } }),
      ]);
      const rate = { ...RATE, RATE_EVENTS_PER_SECOND: "200" };
      const [bad, good] = await Promise.all([flowing(unsafe, "one-ack", rate), flowing(safe, undefined, rate)]);
      const kafka = { brokers: servers.brokers, tls: await servers.tlsFiles("admin") };
      const silent = new Logger("test", "error", {}, () => {});
      /** Undefined while the broker that is asked cannot say. */
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

      // The follower is lost; the leader alone takes what only one producer is content with.
      await servers.kill("kafka-1");
      await until("the follower to be out", LIMIT_MS, async () =>
        Bun.deepEquals((await partition(unsafe.topic))?.isr, [0]) ? true : undefined,
      );
      await untilAcknowledged(bad, (await acknowledgedBy(bad)) + 300);
      // The leader is lost too, and the stale follower comes back.
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
      const [red, green] = await Promise.all([unsafe.audit([await runOf(bad)]), safe.audit([await runOf(good)])]);
      expect(red.causes).toEqual(["L1"]);
      expect(failedLaws(red)).toEqual(["L1", "L3", "O1"]);
      expect(red.missing.lost_in_kafka.count).toBeGreaterThan(100);
      expect(placesOf(red)).toEqual(["lost_in_kafka"]);
      expectGreen(green, FLOW_EVENTS);
    },
    TEST_LIMIT_MS,
  );
});
