/**
 * Events of version 2 and lines, with a real broker and a real InfluxDB: stored equal with their types, the same input
 * twice is no point more, what is invalid is a dead letter, and the audit fails for a processor that changes points.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { InvariantId, Verdict } from "../../scripts/audit/verdict.ts";
import { TelemetryStore } from "../../scripts/clients/influxdb.ts";
import { parseAnyEventAt } from "../../services/domain/any-event.ts";
import { type GenericEventJson, serializeGenericEvent } from "../../services/domain/generic-event.ts";
import { parseLine, renderLine } from "../../services/domain/line-protocol.ts";
import { contentOf } from "../../services/domain/point-content.ts";
import { Environment } from "./environment.ts";
import { Pipeline, skipReason, until } from "./harness.ts";
import { FIELD_CHANGED, FIELD_DROPPED, LINES_SKIPPED, TYPE_CHANGED } from "./seeded-patches.ts";
import { buildVariant } from "./variants.ts";

const skipped = await skipReason();
/** A file is read and stored within seconds; minutes on a busy machine. */
const STEP_LIMIT_MS = 150_000;
const TEST_LIMIT_MS = 500_000;
const EVENTS = 300;
/** Windows of an audit that begin while one file is sent. */
const WINDOWS = 4;

const failedIds = ({ laws }: Verdict): InvariantId[] =>
  laws.filter(({ status }) => status === "failed").map(({ law }) => law);
const passedIds = ({ laws }: Verdict): InvariantId[] =>
  laws.filter(({ status }) => status === "passed").map(({ law }) => law);
const ALL_PASSED: InvariantId[] = ["L1", "L2", "L3", "P1", "V1", "D1", "D2", "O1"];

/** Names and values with every character that is escaped, integers at the edges of 64 bits, and text beyond ASCII. */
const FIELDS: GenericEventJson["fields"] = {
  flow_l_min: 121.5,
  tiny: 5e-324,
  huge: 1.7976931348623157e308,
  negative: -0.1,
  ok: true,
  off: false,
  note: 'a "quoted" \\ text,with=all and\ttab',
  text: "Pumpe läuft 😀",
  empty: "",
  "key with, all=signs": 1,
  schlüssel: 2,
  big: { integer: "9007199254740993" },
  least: { integer: "-9223372036854775808" },
  most: { integer: "9223372036854775807" },
  unsigned: { unsigned: "18446744073709551615" },
  gap: null,
};
const TAGS = { site: "Köln, Süd=1", path: "C:\\Windows\\x" };

/** One event of each precision and kind of identity, per index. */
function eventsOf(measurement: string, run: string, nowMs: number): string[] {
  return Array.from({ length: EVENTS }, (_, index) => {
    const at = nowMs - 60_000 + Math.floor(index / 10) * 100;
    const source = `pump-${index % 7}`;
    const base = { measurement, source, tags: TAGS, fields: { ...FIELDS, index } };
    const given = { run, seq: Math.floor(index / 7) };
    switch (index % 4) {
      case 0:
        return serializeGenericEvent({ ...base, ...given, time: at });
      case 1:
        return serializeGenericEvent({ ...base, ...given, time: at * 1000 + 7, precision: "us" });
      case 2:
        return serializeGenericEvent({ ...base, ...given, time: `${at}00${1000 + index}`, precision: "ns" });
      default:
        return serializeGenericEvent({ ...base, time: `${at}99${1000 + index}`, precision: "ns" });
    }
  });
}

const linesOf = (measurement: string, nowMs: number): string[] =>
  Array.from(
    { length: EVENTS },
    (_, index) =>
      `${measurement},host=h${index % 5},path=C:\\Windows\\x,text=a\\ b\\,c ` +
      `big=90071992547409${10 + (index % 80)}i,x=${index}.25,ok=t,note="a \\"b\\" \\\\",last=${index}u ${nowMs - 50_000}00${1000 + index}`,
  );

describe.skipIf(skipped !== undefined)(`generic events${skipped ? ` (skipped: ${skipped})` : ""}`, () => {
  let pipeline: Pipeline;
  let store: TelemetryStore;
  let ordinal = 0;
  const folder = (name: string) => join(pipeline.servers.folder, `variant-${name}`);

  beforeAll(async () => {
    pipeline = await Pipeline.start(1);
    await Promise.all([
      pipeline.prepare(),
      pipeline.servers.onboardInflux(),
      buildVariant(folder("dropped"), "processor", [FIELD_DROPPED]),
      buildVariant(folder("changed"), "processor", [FIELD_CHANGED]),
      buildVariant(folder("type"), "processor", [TYPE_CHANGED]),
      buildVariant(folder("skipped"), "processor", [LINES_SKIPPED]),
    ]);
    const { ca } = await pipeline.servers.tlsFiles("admin");
    store = TelemetryStore.at({ url: pipeline.servers.influxUrl, token: pipeline.servers.influxAdmin.token, ca });
  }, TEST_LIMIT_MS);
  afterAll(async () => await pipeline?.stop());

  const open = (name: string) => Environment.open(pipeline, name, ++ordinal);

  /** Sends lines through a producer as a file, and returns its result. */
  const send = async (where: Environment, run: string, lines: readonly string[]) => {
    const input = new Blob([`${lines.join("\n")}\n`]);
    const producer = await where.producer({ SOURCE: "stdin", RUN_ID: run }, { input });
    expect(await producer.process.exited).toBe(0);
    return producer.find("input_done")!;
  };

  /** Every field of a measurement in the database, by the keys of the points. */
  const storedIn = async (measurement: string, nowMs: number) => {
    const stored = new Map<string, Set<string>>();
    await store.eachFieldValue(measurement, nowMs - 3_600_000, nowMs + 1, ({ key, field }) => {
      const fields = stored.get(key) ?? new Set<string>();
      stored.set(key, fields.add(field));
    });
    return stored;
  };
  const untilStored = async (measurement: string, nowMs: number, points: number) =>
    await until(`${points} points of ${measurement}`, STEP_LIMIT_MS, async () => {
      const stored = await storedIn(measurement, nowMs);
      return stored.size >= points ? stored : undefined;
    });
  const deadLettersOf = (where: Environment) =>
    pipeline.probe({ kind: "dlq_read", ...pipeline.kafka, topic: where.dlqTopic, from_timestamp_ms: 0, max: 1000 });

  test(
    "all types and precisions, as JSON and as lines, are stored equal; the same input twice is no point more",
    async () => {
      const where = await open("equal");
      const processor = await where.processor();
      const nowMs = Date.now();
      const texts = [...eventsOf("pump", "given", nowMs), ...linesOf("host", nowMs)];
      const expected = { pump: new Map<string, Set<string>>(), host: new Map<string, Set<string>>() };
      for (const text of texts) {
        const { generic, refusal } = parseAnyEventAt(nowMs, Buffer.from(text));
        if (!generic) throw new Error(`${refusal?.detail}: ${text}`);
        const { key, fields } = contentOf(generic.point);
        expected[generic.point.measurement as "pump" | "host"].set(key, new Set(fields));
      }
      expect([expected.pump.size, expected.host.size]).toEqual([EVENTS, EVENTS]);
      for (const run of ["first", "second"]) {
        expect(await send(where, run, texts)).toMatchObject({ acknowledged: 2 * EVENTS, refused: 0 });
        for (const measurement of ["pump", "host"] as const) {
          expect(await untilStored(measurement, nowMs, EVENTS)).toEqual(expected[measurement]);
        }
      }
      // As the database itself writes them, without our reader.
      const csv = await pipeline.servers.query(
        'from(bucket: "telemetry") |> range(start: -1h) |> filter(fn: (r) => r._measurement == "pump" and (r._field == "big" or r._field == "unsigned")) |> limit(n: 1)',
      );
      expect(csv).toContain(",9007199254740993,big,pump,");
      expect(csv).toContain(",18446744073709551615,unsigned,pump,");

      const verdict = await where.audit(["given", "first", "second"]);
      // The second file repeats the identities that its events have, and both producers have acknowledged them.
      expect(failedIds(verdict)).toEqual([]);
      expect(verdict.counts.twice_in_kafka).toBe(EVENTS * 0.75);
      expect(verdict.counts).toMatchObject({ lost: 0, dead_lettered: 0, acknowledged: 3.25 * EVENTS });
      expect(await deadLettersOf(where)).toEqual([]);
      expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test(
    "invalid events and those that InfluxDB refuses are dead letters with their reasons; the audit passes",
    async () => {
      const where = await open("invalid");
      const processor = await where.processor();
      const nowMs = Date.now();
      const valid = linesOf("valid_points", nowMs);
      const invalid: [reason: string, text: string][] = [
        ["malformed_line", "no event"],
        ["bad_field", `m x=word ${nowMs}000000`],
        ["bad_tag", `m,a=1,a=2 x=1 ${nowMs}000000`],
        ["bad_measurement", `conveyor_telemetry,conveyor=a x=1 ${nowMs}000000`],
        ["bad_timestamp", `m x=1 ${nowMs}`],
        ["bad_source", JSON.stringify({ v: 2, measurement: "m", source: "a b", time: nowMs, fields: { x: 1 } })],
        // The type of a field is that of its first value.
        ["refused_by_database", `valid_points,host=h0 x="text" ${nowMs - 40_000}000001`],
      ];
      await send(where, "valid", valid);
      await untilStored("valid_points", nowMs, EVENTS);
      const result = await send(where, "invalid", [...valid, ...invalid.map(([, text]) => text)]);
      expect(result).toMatchObject({ acknowledged: EVENTS + 1, refused: invalid.length - 1 });
      const deadLetters = await until("the dead letters", STEP_LIMIT_MS, async () => {
        const found = await deadLettersOf(where);
        return found.length >= invalid.length ? found : undefined;
      });
      expect(deadLetters.map(({ headers }) => headers.reason).sort()).toEqual(invalid.map(([reason]) => reason).sort());
      const refused = deadLetters.find(({ headers }) => headers.reason === "refused_by_database");
      expect(refused!.headers).toMatchObject({ event: `invalid-assigned-1 stdin ${EVENTS}` });
      const verdict = await where.audit(["valid", "invalid"]);
      expect(failedIds(verdict)).toEqual([]);
      expect(passedIds(verdict)).toEqual(ALL_PASSED);
      expect(verdict.missing.refused_by_database.count).toBe(1);
      expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test(
    "names with a meaning in JavaScript, in Flux or in InfluxDB's messages are stored and audited like others",
    async () => {
      const where = await open("names");
      const processor = await where.processor();
      const nowMs = Date.now();
      // Flux would expand it in a string.
      const measurement = "a$".concat("{b}");
      const base = { measurement, tags: { at: "x" }, fields: { dropped: 2 } };
      const events: GenericEventJson[] = ["constructor", "toString", "valueOf"].flatMap((source, index) => [
        { ...base, source, run: "constructor", seq: index, time: nowMs - 50_000 + index },
        { ...base, source, time: nowMs - 40_000 + index },
      ]);
      // InfluxDB joins this line with the one behind it, and quotes both in its answer 400.
      const joining = { ...base, source: "joining", tags: { a: String.raw`x\ y\="z` }, time: nowMs - 30_000 };
      events.splice(3, 0, joining);
      const result = await send(where, "toString", events.map(serializeGenericEvent));
      expect(result).toMatchObject({ acknowledged: events.length, refused: 0 });
      expect((await untilStored(measurement, nowMs, events.length)).size).toBe(events.length);
      expect(await deadLettersOf(where)).toEqual([]);
      const verdict = await where.audit(["constructor", "toString"]);
      expect(failedIds(verdict)).toEqual([]);
      expect(verdict.counts).toMatchObject({ lost: 0, acknowledged: events.length });
      expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test(
    "lines that Kafka received before the window of an audit are not judged, wherever the window begins",
    async () => {
      const where = await open("window");
      const processor = await where.processor();
      const nowMs = Date.now();
      const count = 20_000;
      // Of many series, in all partitions; their numbers are those of one source.
      const lines = Array.from(
        { length: count },
        (_, index) => `window,host=h${index % 50} x=${index}i ${nowMs}${String(index).padStart(6, "0")}`,
      );
      await send(where, "window", lines);
      await where.untilRead();
      const times = (await where.log()).map(({ seq, point }) => ({ seq, recordMs: point!.recordMs! }));
      times.sort((a, b) => a.seq - b.seq);
      const inOrder = times.map(({ recordMs }) => recordMs);
      expect(inOrder).toEqual([...inOrder].sort());
      expect(new Set(inOrder).size).toBeGreaterThan(WINDOWS);
      for (let window = 1; window <= WINDOWS; window++) {
        const sinceMs = inOrder[Math.floor((count * window) / (WINDOWS + 1))]!;
        const verdict = await where.audit(["window"], sinceMs);
        expect(failedIds(verdict)).toEqual([]);
        expect(verdict.counts.acknowledged).toBe(inOrder.filter((recordMs) => recordMs >= sinceMs).length);
      }
      expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test(
    "records of another writer in Kafka, as JSON and as lines in another form, are stored too",
    async () => {
      const where = await open("foreign");
      const processor = await where.processor();
      const nowMs = Date.now();
      const line = `other,b=1,a=2 y=t,x=1 ${nowMs}000001`;
      const json = { measurement: "other", source: "s", run: "r", seq: 7, time: nowMs, fields: { x: 2 } };
      await where.write([line, serializeGenericEvent(json)]);
      const texts = [line, `other,source=s x=2 ${nowMs}000007`];
      const stored = await untilStored("other", nowMs, 2);
      const points = texts.map((text) => contentOf(parseLine(text, "ns", 0).point!));
      expect(stored).toEqual(new Map(points.map(({ key, fields }) => [key, new Set(fields)])));
      expect(renderLine(parseLine(line, "ns", 0).point!)).toBe(`other,a=2,b=1 x=1,y=true ${nowMs}000001`);
      expect(await processor.stop()).toBe(0);
    },
    TEST_LIMIT_MS,
  );

  test.each([
    ["dropped", ["V1"]],
    ["changed", ["V1"]],
    ["type", ["V1"]],
    ["skipped", ["L2", "L3"]],
  ] as const)(
    "a processor with the defect %s → %j",
    async (name, expected) => {
      const where = await open(name);
      const nowMs = Date.now();
      const processor = await where.processor({}, folder(name));
      // In canonical form, which the processor forwards byte for byte.
      const lines = linesOf(`of_${name}`, nowMs).map((line) => renderLine(parseLine(line, "ns", 0).point!));
      await send(where, `run-${name}`, lines);
      const verdict = await where.audit([`run-${name}`]);
      expect(failedIds(verdict)).toEqual([...expected]);
      expect(verdict.causes).toEqual([expected[0]]);
      await processor.stop();
    },
    TEST_LIMIT_MS,
  );
});
