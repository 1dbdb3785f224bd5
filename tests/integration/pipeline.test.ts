/** All services between a real broker and a real InfluxDB. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readLogLines } from "../../scripts/audit/sources.ts";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import {
  matchesFilter,
  replayOf,
  replayStatusOf,
  type StoredDeadLetter,
  storedAmong,
  storedDeadLetterOf,
} from "../../scripts/dead-letters/topic.ts";
import { type Reason, serializeEvent, type TelemetryEvent } from "../../services/domain/event.ts";
import { Fleet } from "../../services/domain/fleet.ts";
import { EVENTS_TOPIC, PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import { renderPoint } from "../../services/domain/point.ts";
import type { DeadLetterPage } from "../../services/protocol/probe.ts";
import { freePort } from "../servers/free-ports.ts";
import { type Ledger, missingFrom, Pipeline, skipReason, until } from "./harness.ts";

const skipped = await skipReason();
/** A start, a read file or stored events take seconds; minutes on a busy machine. */
const STEP_LIMIT_MS = 150_000;
/** The longest test waits for three of those steps. */
const LIMIT_MS = 500_000;
const DAY_MS = 86_400_000;
const GOOD = 100_000;
const BAD_OF_EACH_KIND = 100;

function goodEvents(count: number, run: string): TelemetryEvent[] {
  const fleet = new Fleet({ ordinal: 0, count: 20, run, seed: 5 });
  const startMs = Date.now() - 3_600_000;
  return Array.from({ length: count }, (_, index) => fleet.next(startMs + Math.floor(index / 20)));
}

/** Invalid lines of twelve kinds, with their dead-letter reasons. */
function badKinds(run: string): [Reason, (index: number) => string][] {
  const base = goodEvents(1, run)[0]!;
  const change = (fields: Record<string, unknown>) => (index: number) =>
    JSON.stringify({ ...base, seq: 1_000_000 + index, ...fields });
  return [
    ["malformed_json", (index) => `{"v":1,"seq":${index}`],
    ["not_an_object", (index) => `[${index}]`],
    ["wrong_version", change({ v: 3 })],
    ["missing_field", change({ ts: undefined })],
    ["unknown_field", change({ colour: "red" })],
    ["wrong_type", change({ load_kg: "heavy" })],
    ["out_of_range", change({ motor_temp_c: 1000 })],
    ["bad_conveyor", change({ conveyor: "belt 1" })],
    ["bad_run", change({ run: "a/b" })],
    ["bad_seq", change({ seq: -1 })],
    ["bad_timestamp", change({ ts: 5 })],
    ["bad_state", change({ state: "flying" })],
  ];
}

describe.skipIf(skipped !== undefined)(`pipeline${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;

  beforeAll(async () => {
    pipeline = await Pipeline.start(1);
    await pipeline.prepare();
  }, LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  test(
    "setup creates topics, ACLs and tokens; a second run changes nothing",
    async () => {
      const first = await pipeline.setup();
      expect(first.created).toContain("topic conveyor.events");
      expect(first.created).toContain("token influxdb-token-processor");
      expect((first.created as string[]).filter((what) => what.startsWith("acl ")).length).toBeGreaterThan(10);
      const tokens = [pipeline.secret("influxdb-token-processor"), pipeline.secret("influxdb-token-reader")];
      const second = await pipeline.setup();
      expect([second.created, second.changed, second.removed]).toEqual([[], [], []]);
      expect([pipeline.secret("influxdb-token-processor"), pipeline.secret("influxdb-token-reader")]).toEqual(tokens);
    },
    LIMIT_MS,
  );

  test("the processor's token only writes, the reader's only reads", async () => {
    const { servers } = pipeline;
    const write = (token: string) =>
      servers.influx("/api/v2/write?org=conveyor&bucket=telemetry", { method: "POST", body: "probe f=1i 1" }, token);
    const query = (token: string) =>
      servers.influx(
        "/api/v2/query?org=conveyor",
        {
          method: "POST",
          headers: { "content-type": "application/vnd.flux" },
          body: 'from(bucket: "telemetry") |> range(start: -1m)',
        },
        token,
      );
    const [writer, reader] = [pipeline.secret("influxdb-token-processor"), pipeline.secret("influxdb-token-reader")];
    // The point is older than the bucket's retention: 422 means that the token was accepted.
    expect([204, 422]).toContain((await write(writer)).status);
    expect((await query(reader)).status).toBe(200);
    expect([401, 403, 404]).toContain((await write(reader)).status);
    expect([401, 403, 404]).toContain((await query(writer)).status);
  });

  test(
    "setup replaces an invalid token and removes unknown ACLs",
    async () => {
      pipeline.setSecret("influxdb-token-reader", "token", "stale");
      const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = await import("kafkajs");
      const admin = await pipeline.admin();
      await admin.createAcls({
        acl: [
          {
            principal: "User:producer",
            host: "*",
            operation: AclOperationTypes.READ,
            permissionType: AclPermissionTypes.ALLOW,
            resourceType: AclResourceTypes.TOPIC,
            resourceName: "conveyor.events",
            resourcePatternType: ResourcePatternTypes.LITERAL,
          },
        ],
      });
      await admin.disconnect();
      const done = await pipeline.setup();
      expect(done.changed).toEqual(["token influxdb-token-reader"]);
      expect(done.removed).toEqual(
        expect.arrayContaining([
          "acl User:producer READ TOPIC:conveyor.events",
          "stale authorization of influxdb-token-reader",
        ]),
      );
      expect((await pipeline.setup()).removed).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "stores 100,000 events of a file, each identity once, and dead-letters invalid lines of 12 kinds with their reason",
    async () => {
      const run = "file-run";
      const lines = goodEvents(GOOD, run).map(serializeEvent);
      const kinds = badKinds(run);
      for (let index = 0; index < BAD_OF_EACH_KIND; index++) {
        for (const [place, [, make]] of kinds.entries()) lines.splice(index * 900 + place * 7, 0, make(index));
      }
      const processor = await pipeline.processor();
      await processor.ready(STEP_LIMIT_MS);
      const producer = await pipeline.producer({ SOURCE: "stdin" }, new Blob([`${lines.join("\n")}\n`]));
      const done = await producer.logged("input_done", STEP_LIMIT_MS);
      expect(await producer.process.exited).toBe(0);
      const refusedByReason = Object.fromEntries(kinds.map(([reason]) => [reason, BAD_OF_EACH_KIND]));
      expect(done).toMatchObject({
        read: GOOD + kinds.length * BAD_OF_EACH_KIND,
        acknowledged: GOOD,
        refused: kinds.length * BAD_OF_EACH_KIND,
        refused_by_reason: refusedByReason,
        failed: 0,
      });
      const stored = await until("every event in InfluxDB", STEP_LIMIT_MS, async () => {
        const found = await pipeline.stored(run);
        const count = [...found.values()].reduce((sum, sequences) => sum + sequences.size, 0);
        return count >= GOOD ? found : undefined;
      });
      const expected = Object.fromEntries(
        Array.from({ length: 20 }, (_, index) => [`belt-0-${index + 1}`, [[0, GOOD / 20 - 1] as [number, number]]]),
      );
      expect(missingFrom(stored, expected)).toEqual([]);
      expect([...stored.values()].reduce((sum, sequences) => sum + sequences.size, 0)).toBe(GOOD);
      expect(await processor.metric("conveyor_processor_points_written_total")).toBeGreaterThanOrEqual(GOOD);
      expect(await processor.stop()).toBe(0);

      const data = await pipeline.probe({ kind: "dlq_read", ...pipeline.kafka, max: 100_000 });
      const counted: Record<string, number> = {};
      for (const { headers } of data) counted[headers.reason!] = (counted[headers.reason!] ?? 0) + 1;
      expect(counted).toEqual(refusedByReason);
    },
    LIMIT_MS,
  );

  test(
    "the log reader lists each event once, with both decoders alike",
    async () => {
      const offsets = await pipeline.probe({
        kind: "kafka_offsets",
        ...pipeline.kafka,
        topic: EVENTS_TOPIC,
        group: PROCESSOR_GROUP,
      });
      expect(offsets).toHaveLength(6);
      for (const { end, committed } of offsets) expect(committed).toBe(end);

      const readAll = async (fields: Record<string, unknown>) => {
        const found = new Map<string, string>();
        let listed = 0;
        const end = await readLogLines(pipeline.runTool("log-reader", { ...pipeline.kafka, ...fields }), (event) => {
          listed++;
          const { run, conveyor, seq, partition, offset, hash } = event;
          found.set(`${run} ${conveyor} ${seq}`, `${partition} ${offset} ${hash}`);
        });
        return { found, listed, end };
      };
      const to = offsets.map(({ partition, end }) => ({ partition, offset: end }));
      const first = await readAll({ runs: ["file-run"], to });
      expect(first.listed).toBe(GOOD);
      expect(first.found.size).toBe(GOOD);
      expect(first.end).toMatchObject({ listed: GOOD, unreadable: 0, to });
      const second = await readAll({ runs: ["file-run"], to, decoder: "kafkajs" });
      expect(Bun.deepEquals(second.found, first.found)).toBe(true);
      const others = await readAll({ runs: ["other-run"], to });
      expect(others.end).toMatchObject({ records: GOOD, listed: 0, other_runs: { "file-run": GOOD } });
      const none = await readAll({ from_timestamp_ms: Date.now(), to });
      expect(none.end).toMatchObject({ records: 0, listed: 0 });
    },
    LIMIT_MS,
  );

  test(
    "an event that InfluxDB refuses is dead-lettered, the others of its batch are stored",
    async () => {
      // A valid event of another day, in whose shard another writer stored a field as an integer.
      const run = "conflict-run";
      const events = goodEvents(50, run);
      const conflict = { ...events[10]!, ts: Date.now() - 10 * DAY_MS, seq: 999 };
      const line = `conveyor_telemetry,conveyor=other load_kg=1i ${conflict.ts}000000`;
      const write = { method: "POST", body: line };
      expect((await pipeline.servers.influx("/api/v2/write?org=conveyor&bucket=telemetry", write)).status).toBe(204);
      const lines = [...events.slice(0, 10), conflict, ...events.slice(10)].map(serializeEvent);
      const producer = await pipeline.producer({ SOURCE: "stdin" }, new Blob([`${lines.join("\n")}\n`]));
      expect(await producer.process.exited).toBe(0);
      const processor = await pipeline.processor();
      await until("the refusal", STEP_LIMIT_MS, async () =>
        (await processor.metric("conveyor_processor_dead_letters_total").catch(() => 0)) > 0 ? true : undefined,
      );
      await until("the others in InfluxDB", STEP_LIMIT_MS, async () => {
        const found = await pipeline.stored(run);
        return [...found.values()].reduce((sum, sequences) => sum + sequences.size, 0) === 50 ? true : undefined;
      });
      expect(processor.find("event_refused")).toMatchObject({ reason: "refused_by_database" });
      expect(await processor.stop()).toBe(0);

      // Read page by page, as scripts/dead-letters.ts does: none is missing.
      const letters: StoredDeadLetter[] = [];
      let page: DeadLetterPage | undefined;
      do {
        page = await pipeline.probe({
          kind: "letter_read",
          ...pipeline.kafka,
          ...(page ? { from: page.next, to: page.to } : {}),
        });
        letters.push(...page.letters.map(storedDeadLetterOf));
      } while (!Bun.deepEquals(page.next, page.to));
      expect(letters.filter(({ reason }) => reason === "refused_by_database")).toHaveLength(1);
      const [refused] = letters.filter((letter) => matchesFilter(letter, { sinceMs: 0, reasons: [], run }));
      expect(refused).toMatchObject({ reason: "refused_by_database", service: "processor" });
      expect(Buffer.from(refused!.body).toString()).toBe(serializeEvent(conflict));
      // A replay would be refused again: the event's time selects the same shard.
      const why = expect.stringContaining("have another type; InfluxDB answered 422");
      expect(replayStatusOf(refused!)).toMatchObject({ kind: "refused", detail: why });
      expect(replayStatusOf(refused!, Date.now(), { typesFixed: true })).toMatchObject({ kind: "valid" });
      // The query for stored events returns the fifty, and not this one.
      const store = TelemetryStore.at({
        url: pipeline.servers.influxUrl,
        token: pipeline.servers.influxAdmin.token,
        ca: await readFile(join(pipeline.servers.folder, "ca.crt"), "utf8"),
      });
      const replays = [...events, conflict].map(replayOf);
      expect(await storedAmong(store, replays)).toEqual(new Set(replays.slice(0, -1).map(({ identity }) => identity)));

      // As in docs/operations.md: without the points of the other writer, and after a restart, the event can be stored.
      const { servers } = pipeline;
      const range = {
        start: new Date(conflict.ts - DAY_MS).toISOString(),
        stop: new Date(conflict.ts + 1).toISOString(),
      };
      const removal = { method: "POST", body: JSON.stringify({ ...range, predicate: 'conveyor="other"' }) };
      expect((await servers.influx("/api/v2/delete?org=conveyor&bucket=telemetry", removal)).status).toBe(204);
      await servers.kill("influxdb", "SIGTERM");
      await servers.startInflux();
      const point = { method: "POST", body: renderPoint(conflict) };
      expect((await servers.influx("/api/v2/write?org=conveyor&bucket=telemetry", point)).status).toBe(204);
    },
    LIMIT_MS,
  );

  test(
    "a producer stopped under load exits 0, and all its acknowledged events are stored",
    async () => {
      const producer = await pipeline.producer({
        SOURCE: "simulated",
        RATE_EVENTS_PER_SECOND: "2000",
        FLEET_CONVEYORS: "30",
      });
      const processor = await pipeline.processor();
      await producer.ready(STEP_LIMIT_MS);
      await until("some thousand acknowledgements", STEP_LIMIT_MS, async () =>
        (await producer.metric("conveyor_producer_events_acknowledged_total")) > 4000 ? true : undefined,
      );
      const ledger = JSON.parse((await producer.get("/ledger")).text) as Ledger;
      expect(await producer.stop()).toBe(0);
      expect(producer.find("stopped")).toMatchObject({ exit_code: 0 });
      expect(ledger.acknowledged).toBeGreaterThan(4000);
      await until("every acknowledged event in InfluxDB", STEP_LIMIT_MS, async () =>
        missingFrom(await pipeline.stored(ledger.run), ledger.runs[ledger.run]!).length === 0 ? true : undefined,
      );
      expect(await processor.stop()).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "the processor exits 1 at start when the token file holds no token",
    async () => {
      const wrong = await pipeline.processor({ INFLUX_TOKEN_FILE: pipeline.servers.tlsPaths("admin").ca });
      // A PEM file is not a single token: the configuration is invalid.
      expect(await wrong.process.exited).toBe(1);
      expect(wrong.find("configuration_invalid")).toBeDefined();
    },
    LIMIT_MS,
  );

  test(
    "a processor stopped at any moment of its start leaves no member in the group",
    async () => {
      const admin = await pipeline.admin();
      try {
        // From its first log line, before it is connected, to well after its join request.
        for (const afterMs of [0, 40, 80, 120, 160, 240, 320, 480, 640, 1000]) {
          const processor = await pipeline.processor();
          await processor.logged("starting", STEP_LIMIT_MS);
          await Bun.sleep(afterMs);
          expect(await processor.stop()).toBe(0);
          const { groups } = await admin.describeGroups([PROCESSOR_GROUP]);
          // A consumer without a member id yet is no member, but the group waits for it: "PreparingRebalance".
          const { state, members } = groups[0]!;
          expect({ afterMs, members: members.length, waits: !["Empty", "Dead"].includes(state) }).toEqual({
            afterMs,
            members: 0,
            waits: false,
          });
        }
      } finally {
        await admin.disconnect();
      }
    },
    LIMIT_MS,
  );

  test(
    "the lag exporter counts uncommitted events and follows the group",
    async () => {
      const producer = await pipeline.producer(
        { SOURCE: "stdin" },
        new Blob([goodEvents(500, "lag-run").map(serializeEvent).join("\n")]),
      );
      expect(await producer.process.exited).toBe(0);
      const port = await freePort();
      const exporter = pipeline.spawn("lag-exporter", "lag-exporter", {}, port);
      await exporter.ready(STEP_LIMIT_MS);
      expect(await exporter.metric("kafka_consumergroup_lag_sum")).toBe(500);
      expect(await exporter.metric("kafka_consumergroup_lag")).toBe(500);
      expect(await exporter.metric("kafka_consumergroup_members")).toBe(0);
      const processor = await pipeline.processor();
      await until("a lag of 0", STEP_LIMIT_MS, async () =>
        (await exporter.metric("kafka_consumergroup_lag_sum")) === 0 &&
        (await exporter.metric("kafka_consumergroup_members")) === 1
          ? true
          : undefined,
      );
      expect(await processor.stop()).toBe(0);
      expect(await exporter.stop()).toBe(0);
    },
    LIMIT_MS,
  );
});
