import { afterEach, describe, expect, setSystemTime, test } from "bun:test";
import {
  type EventProducer,
  type EventProducerOptions,
  sequenceAfter,
} from "../../../services/kafka/event-producer.ts";
import { eventually } from "../../eventually.ts";
import { FakeCluster, producerOn, TOPIC } from "../fake-cluster.ts";

const open = new Set<EventProducer>();

function startOn(cluster: FakeCluster, options: Partial<EventProducerOptions> = {}) {
  const producer = producerOn(cluster, options);
  open.add(producer);
  producer.start();
  return producer;
}

afterEach(async () => {
  for (const producer of open) await producer.stop();
  open.clear();
});

/** Offers `count` events over `keys` keys; each value is "key/number". */
function offerMany(producer: EventProducer, count: number, keys = 12, from = 0) {
  const settled: string[] = [];
  for (let index = from; index < from + count; index++) {
    const key = `belt-${index % keys}`;
    const value = `${key}/${Math.floor(index / keys)}`;
    const onSettled = (outcome: string) => settled.push(`${value} ${outcome}`);
    if (!producer.offer({ topic: TOPIC, key, value, settled: onSettled }))
      throw new Error(`the buffer is full at ${index}`);
  }
  return settled;
}

/** Every event once, and per key in order. */
function expectExactlyOnce(cluster: FakeCluster, count: number) {
  const values = cluster.records(TOPIC).map(({ value }) => value);
  expect(values).toHaveLength(count);
  expect(new Set(values).size).toBe(count);
  const next = new Map<string, number>();
  for (const value of values) {
    const [key, number] = value.split("/") as [string, string];
    expect(Number(number)).toBe(next.get(key) ?? 0);
    next.set(key, Number(number) + 1);
  }
}

describe("EventProducer", () => {
  test("delivers every event once and in order, with many events per request", async () => {
    const cluster = new FakeCluster(6, 3);
    const producer = startOn(cluster);
    const settled = offerMany(producer, 5000);
    await producer.flush();
    expect(settled).toHaveLength(5000);
    expectExactlyOnce(cluster, 5000);
    expect(cluster.calls.length).toBeLessThan(20);
  });

  test("a retry after a lost answer duplicates no event", async () => {
    const cluster = new FakeCluster(6, 3);
    cluster.script = (_, index) => (index % 2 === 0 ? "lost" : undefined);
    const producer = startOn(cluster);
    offerMany(producer, 1000);
    await producer.flush();
    expectExactlyOnce(cluster, 1000);
  });

  test("a record has the time of its offer, also when its partition is sent later than others", async () => {
    const cluster = new FakeCluster(6, 3);
    const [refused, answered] = [{ "conveyor.events/0": 7, "conveyor.events/3": 7 }, undefined];
    let isDown = true;
    cluster.script = ({ leader }) => (leader === 0 && isDown ? refused : answered);
    const producer = startOn(cluster);
    const offeredMs: number[] = [];
    for (let index = 0; index < 40; index++) {
      offeredMs.push(Date.now());
      offerMany(producer, 12, 12, index * 12);
      if (index === 20) isDown = false;
      await Bun.sleep(1);
    }
    offeredMs.push(Date.now());
    await producer.flush();
    expectExactlyOnce(cluster, 480);
    const inOrder = Array.from({ length: 480 }, (_, index) =>
      cluster.timestampsMs.get(`belt-${index % 12}/${Math.floor(index / 12)}`),
    );
    expect(inOrder).toEqual([...inOrder].sort());
    for (const [index, time] of inOrder.entries()) {
      const round = Math.floor(index / 12);
      expect(time).toBeWithin(offeredMs[round]!, offeredMs[round + 1]! + 1);
    }
  });

  test("a record is not ahead of a clock that was set back: Kafka would refuse it", async () => {
    const cluster = new FakeCluster(1);
    try {
      setSystemTime(new Date("2030-01-01T00:00:00Z"));
      const producer = producerOn(cluster);
      open.add(producer);
      offerMany(producer, 5);
      const nowMs = Date.parse("2029-12-31T00:00:00Z");
      setSystemTime(nowMs);
      producer.start();
      await producer.flush();
      expect([...cluster.timestampsMs.values()]).toEqual(Array(5).fill(nowMs));
    } finally {
      setSystemTime();
    }
  });

  test("leadership that moves between attempts loses no event", async () => {
    const cluster = new FakeCluster(6, 3);
    let failed = false;
    cluster.script = ({ leader }) => {
      if (leader !== 0 || failed) return undefined;
      failed = true;
      // Broker 0 failed; brokers that have already acknowledged their own partitions lead its partitions now.
      cluster.leaders = cluster.leaders.map((current) => (current === 0 ? 1 : current));
      return "unreachable";
    };
    const producer = startOn(cluster);
    const settled = offerMany(producer, 600);
    await producer.flush();
    expect(failed).toBe(true);
    expect(settled).toHaveLength(600);
    expectExactlyOnce(cluster, 600);
  });

  test("a request to a former leader that is cut off ends with a metadata refresh, not with its timeout", async () => {
    const cluster = new FakeCluster(6, 3);
    cluster.script = ({ leader }) => {
      if (leader !== 0) return undefined;
      cluster.leaders = cluster.leaders.map((current) => (current === 0 ? 1 : current));
      return "cut off";
    };
    const producer = startOn(cluster);
    const settled = offerMany(producer, 600);
    await producer.flush();
    expect(settled).toHaveLength(600);
    expectExactlyOnce(cluster, 600);
  });

  test("one partition's error does not resend the others", async () => {
    const cluster = new FakeCluster(6, 1);
    const NOT_ENOUGH_REPLICAS = 19;
    let refusals = 0;
    cluster.script = () => (refusals++ < 3 ? { [`${TOPIC}/2`]: NOT_ENOUGH_REPLICAS } : undefined);
    const producer = startOn(cluster);
    offerMany(producer, 600);
    await producer.flush();
    expectExactlyOnce(cluster, 600);
    // The other partitions were not resent.
    const perPartition = new Map<number, number>();
    for (const call of cluster.calls) {
      for (const { partition } of call.partitions) perPartition.set(partition, (perPartition.get(partition) ?? 0) + 1);
    }
    expect(perPartition.get(2)).toBe(4);
    expect(perPartition.get(0)).toBe(1);
  });

  test("a producer id unknown to the broker is replaced and the batch resent", async () => {
    const cluster = new FakeCluster(2, 1);
    const producer = startOn(cluster);
    offerMany(producer, 20, 4);
    await producer.flush();
    cluster.forget();
    offerMany(producer, 20, 4, 20);
    await producer.flush();
    expectExactlyOnce(cluster, 40);
    expect(new Set(cluster.calls.map(({ producerId }) => producerId)).size).toBeGreaterThan(1);
  });

  test("a batch that is too large for the topic is halved until it fits", async () => {
    const cluster = new FakeCluster(1);
    const MESSAGE_TOO_LARGE = 10;
    cluster.script = ({ partitions }) =>
      partitions[0]!.count > 10 ? { [`${TOPIC}/0`]: MESSAGE_TOO_LARGE } : undefined;
    const producer = startOn(cluster);
    const settled = offerMany(producer, 100, 3);
    await producer.flush();
    expectExactlyOnce(cluster, 100);
    expect(settled.every((line) => line.endsWith("acknowledged"))).toBe(true);
  });

  test("an event too large for the topic is settled as too_large, not retried", async () => {
    const cluster = new FakeCluster(1);
    cluster.script = () => ({ [`${TOPIC}/0`]: 10 });
    const producer = startOn(cluster);
    const settled = offerMany(producer, 1);
    await producer.flush();
    expect(settled).toEqual(["belt-0/0 too_large"]);
  });

  test("while Kafka is unreachable the buffer keeps every event and rejects more when full", async () => {
    const cluster = new FakeCluster(6, 3);
    cluster.connectError = new Error("unreachable");
    const producer = startOn(cluster, { maxBufferedEvents: 100 });
    offerMany(producer, 100);
    expect(producer.offer({ topic: TOPIC, key: "k", value: "v", settled: () => {} })).toBe(false);
    expect(producer.fill).toBe(1);
    expect(producer.ready).toBe(false);
    let roomAt: number | undefined;
    const waiting = producer.whenRoom().then(() => {
      roomAt = performance.now();
    });
    await Bun.sleep(50);
    expect(roomAt).toBeUndefined();
    cluster.connectError = undefined;
    await waiting;
    await producer.flush();
    expectExactlyOnce(cluster, 100);
    expect(producer.ready).toBe(true);
  });

  test("an authorization error keeps the events, sets refusedBy, and ends when the right is granted", async () => {
    const cluster = new FakeCluster(1);
    const TOPIC_AUTHORIZATION_FAILED = 29;
    let allowed = false;
    cluster.script = () => (allowed ? undefined : { [`${TOPIC}/0`]: TOPIC_AUTHORIZATION_FAILED });
    const producer = startOn(cluster);
    offerMany(producer, 10);
    await eventually("the refusal", () => producer.refusedBy !== undefined);
    expect(producer.refusedBy).toBe("TOPIC_AUTHORIZATION_FAILED");
    expect(producer.ready).toBe(false);
    expect(producer.bufferedEvents).toBe(10);
    allowed = true;
    await producer.flush();
    expectExactlyOnce(cluster, 10);
    expect(producer.ready).toBe(true);
  });

  test("reconnects without events to send", async () => {
    const cluster = new FakeCluster(1);
    const producer = startOn(cluster, { keepConnectedMs: 10 });
    await eventually("a connection", () => producer.ready);
    cluster.connected = false;
    expect(producer.ready).toBe(false);
    await eventually("another connection", () => producer.ready);
  });

  test("each partition has at most one batch in flight", async () => {
    const cluster = new FakeCluster(6, 3);
    cluster.delayMs = 5;
    const producer = startOn(cluster);
    for (let round = 0; round < 20; round++) {
      offerMany(producer, 120, 12, round * 120);
      await Bun.sleep(2);
    }
    await producer.flush();
    expectExactlyOnce(cluster, 2400);
  });

  test("sequenceAfter restarts at 0 after 2³¹ - 1", () => {
    expect(sequenceAfter(0, 5)).toBe(5);
    expect(sequenceAfter(2 ** 31 - 5, 5)).toBe(0);
    expect(sequenceAfter(2 ** 31 - 2, 5)).toBe(3);
  });
});
