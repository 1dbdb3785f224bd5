import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { BUCKET_RETENTION_MS, checkEventTime } from "../../../services/domain/event-window.ts";
import { Fleet } from "../../../services/domain/fleet.ts";
import type { EventProducer } from "../../../services/kafka/event-producer.ts";
import { readInput, runSimulation } from "../../../services/producer/sources.ts";
import { eventually } from "../../eventually.ts";
import { FakeCluster, producerOn, publisherOn } from "../fake-cluster.ts";

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
});
