/** The whole flow between a real broker and a real InfluxDB: counts by identity, reasons, rights, an orderly end. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InfluxDB } from "@influxdata/influxdb-client";
import { readLogLines } from "../../scripts/audit/sources.ts";
import { eachPoint, type TelemetryStore } from "../../scripts/clients/influxdb.ts";
import {
  identityText,
  matchesFilter,
  replayStatusOf,
  type StoredDeadLetter,
  storedAmong,
  storedDeadLetterOf,
} from "../../scripts/dead-letters/topic.ts";
import { type Reason, serializeEvent, type TelemetryEvent } from "../../services/domain/event.ts";
import { Fleet } from "../../services/domain/fleet.ts";
import { PROCESSOR_GROUP } from "../../services/domain/kafka-layout.ts";
import { textLines } from "../../services/domain/ndjson.ts";
import type { DeadLetterPage } from "../../services/protocol/probe.ts";
import { freePort } from "../servers/free-ports.ts";
import { type Ledger, missingFrom, Pipeline, skipReason, until } from "./harness.ts";

type StoreArguments = Parameters<TelemetryStore["eachPoint"]>;

const skipped = await skipReason();
/** A service is up, a file is read, events are stored within seconds; a machine with ten others in front takes minutes. */
const STEP_LIMIT_MS = 150_000;
/** The longest test waits for three of those steps. */
const LIMIT_MS = 500_000;
const GOOD = 100_000;
const BAD_OF_EACH_KIND = 100;

function goodEvents(count: number, run: string): TelemetryEvent[] {
  const fleet = new Fleet({ ordinal: 0, count: 20, run, seed: 5 });
  const startMs = Date.now() - 3_600_000;
  return Array.from({ length: count }, (_, index) => fleet.next(startMs + Math.floor(index / 20)));
}

/** Bad lines of twelve kinds, and the reason that each must be given. */
function badKinds(run: string): [Reason, (index: number) => string][] {
  const base = goodEvents(1, run)[0]!;
  const change = (fields: Record<string, unknown>) => (index: number) =>
    JSON.stringify({ ...base, seq: 1_000_000 + index, ...fields });
  return [
    ["malformed_json", (index) => `{"v":1,"seq":${index}`],
    ["not_an_object", (index) => `[${index}]`],
    ["wrong_version", change({ v: 2 })],
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
    "setup makes everything, and a second run changes nothing",
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

  test("each token does one thing: the processor's writes and cannot read, the reader's reads and cannot write", async () => {
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
    // The point is older than the bucket keeps: 422 says that the token was good.
    expect([204, 422]).toContain((await write(writer)).status);
    expect((await query(reader)).status).toBe(200);
    expect([401, 403, 404]).toContain((await write(reader)).status);
    expect([401, 403, 404]).toContain((await query(writer)).status);
  });

  test(
    "setup replaces a token that no longer works and removes ACLs that nobody agreed to",
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
    "100,000 events from a file are all in InfluxDB, counted by identity; bad lines of 12 kinds are dead letters with their reason",
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
      const done = await producer.said("input_done", STEP_LIMIT_MS);
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

      const probe = Bun.spawn([process.execPath, new URL("../../services/tools/probe.ts", import.meta.url).pathname], {
        stdin: new Blob([
          JSON.stringify([
            {
              id: "dlq",
              kind: "dlq_read",
              brokers: pipeline.servers.brokers,
              tls: pipeline.servers.tlsPaths("admin"),
              max: 100_000,
            },
          ]),
        ]),
        stdout: "pipe",
      });
      const [{ data }] = JSON.parse(await new Response(probe.stdout).text()) as [
        { data: { headers: Record<string, string> }[] },
      ];
      const counted: Record<string, number> = {};
      for (const { headers } of data) counted[headers.reason!] = (counted[headers.reason!] ?? 0) + 1;
      expect(counted).toEqual(refusedByReason);
    },
    LIMIT_MS,
  );

  test(
    "a fresh reader lists the log, each event once; one with another decoder sees the same",
    async () => {
      const kafka = { brokers: pipeline.servers.brokers, tls: pipeline.servers.tlsPaths("admin") };
      const probe = Bun.spawn([process.execPath, new URL("../../services/tools/probe.ts", import.meta.url).pathname], {
        stdin: new Blob([
          JSON.stringify([{ id: "it", kind: "kafka_offsets", ...kafka, topic: "conveyor.events", group: "processor" }]),
        ]),
        stdout: "pipe",
      });
      const [{ data: offsets }] = JSON.parse(await new Response(probe.stdout).text()) as [
        { data: { partition: number; end: number; committed: number }[] },
      ];
      expect(offsets).toHaveLength(6);
      for (const { end, committed } of offsets) expect(committed).toBe(end);

      const readAll = async (fields: Record<string, unknown>) => {
        const child = Bun.spawn(
          [process.execPath, new URL("../../services/tools/log-reader.ts", import.meta.url).pathname],
          {
            stdin: new Blob([JSON.stringify({ ...kafka, ...fields })]),
            stdout: "pipe",
          },
        );
        const found = new Map<string, string>();
        let listed = 0;
        const end = await readLogLines(textLines(child.stdout), (event) => {
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
    "what InfluxDB itself refuses becomes a dead letter, and what stands around it is stored",
    async () => {
      // Valid for the rules of an event, and older than the bucket keeps.
      const run = "conflict-run";
      const events = goodEvents(50, run);
      const old = { ...events[10]!, ts: 1_500_000_000_000, seq: 999 };
      const lines = [...events.slice(0, 10), old, ...events.slice(10)].map(serializeEvent);
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

      // The letters as dead-letters.ts reads them, page by page: none is missing, and this one would be refused again.
      const letters: StoredDeadLetter[] = [];
      let page: DeadLetterPage | undefined;
      do {
        const probe = Bun.spawn(
          [process.execPath, new URL("../../services/tools/probe.ts", import.meta.url).pathname],
          {
            stdin: new Blob([
              JSON.stringify([
                {
                  id: "letters",
                  kind: "letter_read",
                  brokers: pipeline.servers.brokers,
                  tls: pipeline.servers.tlsPaths("admin"),
                  ...(page ? { from: page.next, to: page.to } : {}),
                },
              ]),
            ]),
            stdout: "pipe",
          },
        );
        const [{ data }] = JSON.parse(await new Response(probe.stdout).text()) as [{ data: DeadLetterPage }];
        page = data;
        letters.push(...data.letters.map(storedDeadLetterOf));
      } while (!Bun.deepEquals(page.next, page.to));
      expect(letters.filter(({ reason }) => reason === "refused_by_database")).toHaveLength(1);
      const [refused] = letters.filter((letter) => matchesFilter(letter, { sinceMs: 0, reasons: [], run }));
      expect(refused).toMatchObject({ reason: "refused_by_database", service: "processor" });
      expect(Buffer.from(refused!.body).toString()).toBe(serializeEvent(old));
      expect(replayStatusOf(refused!)).toMatchObject({ kind: "refused", reason: "refused_by_database" });
      // Who asks what stands in the database already is told of the fifty, and not of this one.
      const influx = new InfluxDB({
        url: pipeline.servers.influxUrl,
        token: pipeline.servers.influxAdmin.token,
        transportOptions: { ca: await readFile(join(pipeline.servers.folder, "ca.crt"), "utf8") },
      });
      const store = { eachPoint: (...args: StoreArguments) => eachPoint(influx, ...args) };
      expect(await storedAmong(store, [...events, old])).toEqual(new Set(events.map(identityText)));
    },
    LIMIT_MS,
  );

  test(
    "the producer ends in order under load: what it acknowledged is in the database, and it exits 0",
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
    "a token file that holds no token ends the processor at its start",
    async () => {
      const wrong = await pipeline.processor({ INFLUX_TOKEN_FILE: pipeline.servers.tlsPaths("admin").ca });
      // A PEM file is not one word: the configuration is refused.
      expect(await wrong.process.exited).toBe(1);
      expect(wrong.find("configuration_invalid")).toBeDefined();
    },
    LIMIT_MS,
  );

  test(
    "a processor that is told to end at any moment of its start leaves nobody behind in the group",
    async () => {
      const admin = await pipeline.admin();
      try {
        // From its first line, before it is connected, to well after it has asked to join (an empty group waits for others).
        for (const afterMs of [0, 40, 80, 120, 160, 240, 320, 480, 640, 1000]) {
          const processor = await pipeline.processor();
          await processor.said("starting", STEP_LIMIT_MS);
          await Bun.sleep(afterMs);
          expect(await processor.stop()).toBe(0);
          const { groups } = await admin.describeGroups([PROCESSOR_GROUP]);
          // Who asks for a name and is given none yet is no member, but the group waits for it: "PreparingRebalance".
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
    "the lag exporter counts what was never committed, and follows the group",
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
      await until("the lag to be gone", STEP_LIMIT_MS, async () =>
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
