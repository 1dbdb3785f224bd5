import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { dirname } from "node:path";
import { BUCKET_RETENTION_MS, checkEventTime } from "../../../services/domain/event-window.ts";
import { Fleet } from "../../../services/domain/fleet.ts";
import { serializeGenericEvent } from "../../../services/domain/generic-event.ts";
import type { EventProducer } from "../../../services/kafka/event-producer.ts";
import { EventSchemas } from "../../../services/producer/event-schemas.ts";
import { readInput, runSimulation } from "../../../services/producer/sources.ts";
import { eventually } from "../../eventually.ts";
import { PUMP_FILE } from "../../schemas/pump.ts";
import { FakeCluster, producerOn, publisherOn, silent } from "../fake-cluster.ts";

const HOUR_MS = 3_600_000;
let cluster: FakeCluster;
let producer: EventProducer;

beforeEach(() => {
  cluster = new FakeCluster(1, 1);
  producer = producerOn(cluster, {});
  producer.start();
});
afterEach(() => producer.stop());

const storedTimes = () => cluster.records("conveyor.events").map(({ value }) => Number(/"ts":(\d+)/.exec(value)![1]));

describe("runSimulation", () => {
  test("follows a clock that steps back, so that its events stay inside the window of event time", async () => {
    const stop = new AbortController();
    const realNow = Date.now;
    const clock = spyOn(Date, "now").mockImplementation(() => realNow() + 48 * HOUR_MS);
    try {
      const running = runSimulation({
        fleet: new Fleet({ ordinal: 0, count: 2, run: "r", seed: 1 }),
        publisher: publisherOn(producer),
        producer,
        profile: "steady",
        eventsPerSecond: 100,
        signal: stop.signal,
      });
      await eventually("events before the step", () => storedTimes().length > 5);
      clock.mockRestore();
      const before = storedTimes().length;
      await eventually("events after the step", () => storedTimes().length > before + 50);
      stop.abort();
      await running;
      expect(checkEventTime(storedTimes().at(-1)!, Date.now())).toBeUndefined();
    } finally {
      clock.mockRestore();
      stop.abort();
    }
  });
});

describe("readInput", () => {
  test("refuses events of a file that are older than the retention, and takes the others", async () => {
    const fleet = new Fleet({ ordinal: 0, count: 1, run: "r", seed: 1 });
    const now = Date.now();
    const lines = [now, now - BUCKET_RETENTION_MS - 1000, now].map((ts) => `${JSON.stringify(fleet.next(ts))}\n`);
    const publisher = publisherOn(producer);
    const options = { publisher, producer, source: "file", signal: new AbortController().signal } as const;
    const read = await readInput(new Blob(lines).stream() as unknown as AsyncIterable<Uint8Array>, options);
    expect(read).toEqual({ lines: 3, announced: undefined, isComplete: true });
    await producer.flush();
    expect(publisher.counts).toMatchObject({ acknowledged: 2, refused: 1 });
    expect(publisher.refusedByReason).toEqual({ bad_timestamp: 1 });
  });

  test("takes events of version 2 and lines, each with its identity, beside those of version 1", async () => {
    const nowMs = Date.now();
    const generic = { measurement: "pump", source: "pump-7", time: nowMs, fields: { x: 1, ok: true } };
    const lines = [
      serializeGenericEvent({ ...generic, run: "r1", seq: 4 }),
      serializeGenericEvent(generic),
      serializeGenericEvent(generic),
      `pump,b=2,a=1 x=t ${nowMs}000001`,
      JSON.stringify(new Fleet({ ordinal: 0, count: 1, run: "r", seed: 1 }).next(nowMs)),
      "pump,a=1 x=word",
    ];
    const publisher = publisherOn(producer);
    const options = { publisher, producer, source: "stdin", signal: new AbortController().signal } as const;
    await readInput(new Blob([lines.join("\n")]).stream() as unknown as AsyncIterable<Uint8Array>, options);
    await producer.flush();
    const records = cluster.records("conveyor.events");
    const point = "pump,source=pump-7 ok=true,x=1";
    expect(records.slice(0, 4)).toEqual([
      { key: "pump-7", value: `${point} ${nowMs}000004`, headers: { event: "r1 pump-7 4" } },
      { key: "pump-7", value: `${point} ${nowMs}000000`, headers: { assigned: "pod-run-assigned-1 pump-7 0" } },
      { key: "pump-7", value: `${point} ${nowMs}000000`, headers: { assigned: "pod-run-assigned-1 pump-7 1" } },
      {
        key: "pump,a=1,b=2",
        value: `pump,a=1,b=2 x=true ${nowMs}000001`,
        headers: { assigned: "pod-run-assigned-1 stdin 0" },
      },
    ]);
    expect(records[4]).toMatchObject({ key: "belt-0-1", headers: undefined });
    expect(publisher.ledger.toJSON()).toEqual({
      r1: { "pump-7": [[4, 4]] },
      "pod-run-assigned-1": { "pump-7": [[0, 1]], stdin: [[0, 0]] },
      r: { "belt-0-1": [[0, 0]] },
    });
    expect(publisher.refusedByReason).toEqual({ bad_field: 1 });
  });

  test("checks events of version 2 and lines by the schema of their measurement, and no event of version 1", async () => {
    const nowMs = Date.now();
    const generic = { measurement: "pump", source: "pump-7", time: nowMs };
    const lines = [
      serializeGenericEvent({ ...generic, fields: { starts: 5, flow_l_min: 1 } }),
      serializeGenericEvent({ ...generic, fields: { starts: 5.5 } }),
      `pump,source=pump-7 starts=5 ${nowMs}000000`,
      `pump,source=pump-7 flow_l_min=401 ${nowMs}000000`,
      `pump,source=pump-7 starts=5i ${nowMs}000000`,
      `fan x=1 ${nowMs}000000`,
      JSON.stringify(new Fleet({ ordinal: 0, count: 1, run: "r", seed: 1 }).next(nowMs)),
    ];
    const schemas = new EventSchemas({ folder: dirname(PUMP_FILE), log: silent });
    const publisher = publisherOn(producer, silent, schemas);
    const options = { publisher, producer, source: "stdin", signal: new AbortController().signal } as const;
    await readInput(new Blob([lines.join("\n")]).stream() as unknown as AsyncIterable<Uint8Array>, options);
    await producer.flush();
    const stored = cluster.records("conveyor.events").map(({ value }) => value.replace(/ \d{19}$/, ""));
    expect(stored.slice(0, 3)).toEqual([
      "pump,source=pump-7 flow_l_min=1,starts=5i",
      "pump,source=pump-7 starts=5i",
      "fan x=1",
    ]);
    expect(stored).toHaveLength(4);
    expect(publisher.refusedByReason).toEqual({ wrong_type: 2, out_of_range: 1 });
    const [first] = cluster.records("conveyor.events.dlq");
    expect(first).toMatchObject({
      value: lines[1]!,
      headers: { reason: "wrong_type", detail: expect.stringContaining("fields.starts: must be a whole number") },
    });
  });
});
