import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { DeadLetterProducer } from "../../../services/kafka/dead-letter-producer.ts";
import type { EventProducer } from "../../../services/kafka/event-producer.ts";
import { Logger } from "../../../services/runtime/log.ts";
import { DLQ, FakeCluster, producerOn, publisherOn } from "../fake-cluster.ts";

const MESSAGE_TOO_LARGE = 10;
const BODY = new TextEncoder().encode("x".repeat(1000));
const deadLetter = { key: null, value: BODY, headers: { reason: "bad_seq", source_line: "7" } };

let cluster: FakeCluster;
let producer: EventProducer;
let logged: { event: string }[];
let log: Logger;

beforeEach(() => {
  logged = [];
  log = new Logger("test", "error", {}, (line) => void logged.push(JSON.parse(line) as { event: string }));
  cluster = new FakeCluster(1);
  producer = producerOn(cluster, { log });
  producer.start();
});
afterEach(() => producer.stop());

/** The topic rejects the first `count` batches as too large. */
function rejectFirst(count: number): void {
  cluster.script = (_, index) => (index < count ? { [`${DLQ}/0`]: MESSAGE_TOO_LARGE } : undefined);
}

describe("DeadLetterProducer", () => {
  test("deliver() resolves once every dead letter is acknowledged", async () => {
    await new DeadLetterProducer(producer, DLQ, log).deliver([deadLetter, deadLetter]);
    expect(cluster.records(DLQ).map(({ value }) => value.length)).toEqual([1000, 1000]);
  });

  test("a dead letter too large for the topic is resent without its body", async () => {
    rejectFirst(1);
    await new DeadLetterProducer(producer, DLQ, log).deliver([deadLetter]);
    expect(cluster.records(DLQ)).toEqual([{ key: null, value: "", headers: deadLetter.headers }]);
    expect(logged.map(({ event }) => event)).toEqual(["dead_letter_too_large"]);
  });

  test("deliver() rejects when the topic takes no dead letter even without its body", async () => {
    rejectFirst(2);
    const delivery = new DeadLetterProducer(producer, DLQ, log).deliver([deadLetter]);
    expect(await delivery.catch((error: Error) => error.message)).toBe("the dead-letter topic rejects a dead letter");
  });
});

describe("EventPublisher.refuse", () => {
  const refuse = async () => {
    const publisher = publisherOn(producer, log);
    const { promise, resolve } = Promise.withResolvers<string>();
    publisher.refuse({ reason: "bad_seq", detail: "seq" }, { source: "file", line: 7 }, { value: BODY }, resolve);
    return { outcome: await promise, counts: publisher.counts };
  };

  test("a dead letter too large for the topic is resent without its body and counts as refused", async () => {
    rejectFirst(1);
    const { outcome, counts } = await refuse();
    expect(outcome).toBe("acknowledged");
    expect(counts).toMatchObject({ refused: 1, failed: 0 });
    expect(cluster.records(DLQ)[0]).toMatchObject({ value: "", headers: { reason: "bad_seq", source_line: "7" } });
  });

  test("a dead letter that the topic rejects counts as failed, not as refused", async () => {
    rejectFirst(2);
    const { outcome, counts } = await refuse();
    expect(outcome).toBe("rejected");
    expect(counts).toMatchObject({ refused: 0, failed: 1 });
    expect(cluster.records(DLQ)).toEqual([]);
  });
});
