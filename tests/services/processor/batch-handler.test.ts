import { beforeEach, describe, expect, test } from "bun:test";
import type { KafkaMessage } from "kafkajs";
import type { DeadLetter } from "../../../services/domain/dead-letter.ts";
import { exampleEvent, serializeEvent } from "../../../services/domain/event.ts";
import { BUCKET_RETENTION_MS, MAX_AHEAD_MS } from "../../../services/domain/event-window.ts";
import { Fleet } from "../../../services/domain/fleet.ts";
import { serializeGenericEvent } from "../../../services/domain/generic-event.ts";
import { UnreadableBatch } from "../../../services/kafka/fetch-decoder.ts";
import { BatchHandler, type BatchPayload, type LineWriter } from "../../../services/processor/batch-handler.ts";
import type { RefusedLine } from "../../../services/processor/influx-writer.ts";
import { Logger } from "../../../services/runtime/log.ts";
import { eventually } from "../../eventually.ts";

const TOPIC = "conveyor.events";
/** The clock of the handler, and the time of the first event. */
const NOW_MS = 1_795_000_000_000;

/** A consumer's side of one batch, with its history. */
class FakePayload {
  readonly history: string[] = [];
  running = true;
  stale = false;
  heartbeatError: Error | undefined;
  resolved: string | undefined;
  committed: string | undefined;

  constructor(readonly messages: KafkaMessage[]) {}

  get payload(): BatchPayload {
    return {
      batch: { topic: TOPIC, partition: 2, messages: this.messages } as BatchPayload["batch"],
      heartbeat: async () => {
        this.history.push("heartbeat");
        if (this.heartbeatError) throw this.heartbeatError;
      },
      isRunning: () => this.running,
      isStale: () => this.stale,
      resolveOffset: (offset) => {
        this.history.push(`resolve ${offset}`);
        this.resolved = offset;
      },
      uncommittedOffsets: () =>
        this.resolved === this.committed
          ? { topics: [] }
          : { topics: [{ topic: TOPIC, partitions: [{ partition: 2, offset: this.resolved! }] }] },
      commitOffsetsIfNecessary: async () => {
        this.history.push(`commit ${this.resolved}`);
        this.committed = this.resolved;
      },
      pause: () => {
        this.history.push("pause");
        return () => this.history.push("resume");
      },
    };
  }
}

class FakeWriter implements LineWriter {
  readonly written: string[] = [];
  /** Number of write() calls. */
  writes = 0;
  cancelled = 0;
  refuse: (line: string) => boolean = () => false;
  /** Until it resolves, no write is confirmed. */
  blocker: Promise<void> | undefined;

  write(lines: readonly string[]) {
    this.writes++;
    const work = async (): Promise<RefusedLine[]> => {
      await this.blocker;
      const refused: RefusedLine[] = [];
      lines.forEach((line, index) => {
        if (this.refuse(line)) refused.push({ index, detail: "refused" });
        else this.written.push(line);
      });
      return refused;
    };
    return { done: work(), cancel: () => void this.cancelled++ };
  }
}

function blockedWriter() {
  const writer = new FakeWriter();
  const { promise, resolve: confirm } = Promise.withResolvers<void>();
  writer.blocker = promise;
  return { writer, confirm };
}

let deadLetters: DeadLetter[];
let deadLetterBlocker: Promise<void> | undefined;
let stored: number;
let logged: Record<string, unknown>[];
let stoppedAt: (number | undefined)[];
let steppedOverTo: number;

beforeEach(() => {
  deadLetters = [];
  deadLetterBlocker = undefined;
  stored = 0;
  logged = [];
  stoppedAt = [];
  steppedOverTo = -1;
});

function make(writer: LineWriter, options: { traceEverySeq?: number; drainLimitMs?: number } = {}) {
  return new BatchHandler({
    writer,
    deadLetters: {
      deliver: async (list) => {
        await deadLetterBlocker;
        deadLetters.push(...list);
      },
    },
    hooks: {
      onConsumed: () => {},
      onStored: (timestamps, refused) => {
        stored += timestamps.length - refused.length;
      },
      onDeadLetter: () => {},
      onStopped: (topic, partition, offset) => {
        expect([topic, partition]).toEqual([TOPIC, 2]);
        stoppedAt.push(offset);
      },
    },
    steppedOverTo: async () => steppedOverTo,
    unreadableRetryMs: 10,
    log: new Logger("test", "info", {}, (line) => logged.push(JSON.parse(line))),
    traceEverySeq: options.traceEverySeq ?? 0,
    heartbeatMs: 10,
    drainLimitMs: options.drainLimitMs ?? 1000,
    now: () => NOW_MS,
  });
}

function messagesOf(values: (string | null)[]): KafkaMessage[] {
  const key = Buffer.from("belt-0-1");
  return values.map((text, index) => {
    const value = text === null ? null : Buffer.from(text);
    return { offset: String(100 + index), key, value } as KafkaMessage;
  });
}

function goodValues(count: number): string[] {
  const fleet = new Fleet({ ordinal: 0, count: 3, run: "r", seed: 1 });
  return Array.from({ length: count }, (_, index) => serializeEvent(fleet.next(NOW_MS + index)));
}

describe("BatchHandler", () => {
  test("resolves and commits offsets only after InfluxDB has confirmed", async () => {
    const { writer, confirm } = blockedWriter();
    const fake = new FakePayload(messagesOf(goodValues(10)));
    const done = make(writer).eachBatch(fake.payload);
    await eventually("heartbeats", () => fake.history.filter((entry) => entry === "heartbeat").length > 1);
    expect(fake.history).not.toContain("resolve 109");
    confirm();
    await done;
    expect(fake.history.slice(-2)).toEqual(["resolve 109", "commit 109"]);
    expect(writer.written).toHaveLength(10);
    expect(stored).toBe(10);
  });

  test("sends invalid events to the dead letters with offset and reason, and stores the others", async () => {
    const writer = new FakeWriter();
    const [first, second] = goodValues(2);
    const fake = new FakePayload(messagesOf([first!, "{bad", second!, null, '{"v":2}']));
    await make(writer).eachBatch(fake.payload);
    expect(writer.written).toHaveLength(2);
    expect(deadLetters.map(({ headers }) => [headers.reason, headers.source_offset])).toEqual([
      ["malformed_json", "101"],
      ["malformed_json", "103"],
      ["missing_field", "104"],
    ]);
    expect(deadLetters[0]).toMatchObject({
      headers: { source: "kafka", source_topic: TOPIC, source_partition: "2", service: "processor" },
    });
    expect(Buffer.from(deadLetters[0]!.value).toString()).toBe("{bad");
    expect(fake.committed).toBe("104");
  });

  test("sends events outside the window of event time to the dead letters and never to the database", async () => {
    const writer = new FakeWriter();
    const at = (ts: number, seq: number) => ({ ...exampleEvent({ conveyor: "belt-0-1", run: "r", seq, ts }) });
    const times = [NOW_MS - BUCKET_RETENTION_MS - 1, NOW_MS - BUCKET_RETENTION_MS, NOW_MS + MAX_AHEAD_MS].concat(
      NOW_MS + MAX_AHEAD_MS + 1,
    );
    // Each in canonical form, and in a form that takes the slow path.
    const values = times.flatMap((ts, seq) => [serializeEvent(at(ts, seq)), JSON.stringify(at(ts, seq + 10), null, 1)]);
    const fake = new FakePayload(messagesOf(values));
    await make(writer).eachBatch(fake.payload);
    expect(writer.written.map((line) => Number(/seq=(\d+)i/.exec(line)![1]))).toEqual([1, 11, 2, 12]);
    expect(deadLetters.map(({ headers }) => [headers.reason, headers.source_offset])).toEqual(
      ["100", "101", "106", "107"].map((offset) => ["bad_timestamp", offset]),
    );
    expect(deadLetters[0]!.headers.detail).toContain(
      `ts: must be at least ${NOW_MS - BUCKET_RETENTION_MS} (30 days ago`,
    );
    expect(deadLetters[3]!.headers.detail).toContain(`ts: must be at most ${NOW_MS + MAX_AHEAD_MS} (1 day ahead`);
    expect(fake.committed).toBe("107");
  });

  test("resolves the offset only after the dead letter is acknowledged", async () => {
    const { promise, resolve: acknowledge } = Promise.withResolvers<void>();
    deadLetterBlocker = promise;
    const fake = new FakePayload(messagesOf(["{bad"]));
    const done = make(new FakeWriter()).eachBatch(fake.payload);
    await Bun.sleep(30);
    expect(fake.resolved).toBeUndefined();
    acknowledge();
    await done;
    expect(fake.committed).toBe("100");
  });

  test("sends a line that InfluxDB refuses to the dead letters before it resolves the offset", async () => {
    const writer = new FakeWriter();
    writer.refuse = (line) => line.includes("seq=1i");
    const fake = new FakePayload(messagesOf(goodValues(6)));
    await make(writer).eachBatch(fake.payload);
    expect(deadLetters).toHaveLength(3);
    expect(deadLetters[0]!.headers).toMatchObject({ reason: "refused_by_database", detail: "refused" });
    expect(stored).toBe(3);
    expect(fake.committed).toBe("105");
  });

  test("a rebalance during a write abandons the batch: no offset resolved, error rethrown to kafkajs", async () => {
    const { writer } = blockedWriter();
    const fake = new FakePayload(messagesOf(goodValues(5)));
    fake.heartbeatError = Object.assign(new Error("rebalance"), { type: "REBALANCE_IN_PROGRESS" });
    const failure = await make(writer)
      .eachBatch(fake.payload)
      .catch((error: Error) => error);
    expect(failure).toBe(fake.heartbeatError);
    expect(writer.cancelled).toBe(1);
    expect(fake.resolved).toBeUndefined();
  });

  test("during shutdown a running write is finished, resolved and committed", async () => {
    const { writer, confirm } = blockedWriter();
    const fake = new FakePayload(messagesOf(goodValues(5)));
    const done = make(writer).eachBatch(fake.payload);
    await eventually("the write to begin", () => writer.writes > 0);
    fake.running = false;
    setTimeout(confirm, 30);
    await done;
    expect(fake.committed).toBe("104");
  });

  test("during shutdown a silent database is awaited until the drain limit only", async () => {
    const { writer } = blockedWriter();
    const fake = new FakePayload(messagesOf(goodValues(5)));
    const done = make(writer, { drainLimitMs: 50 }).eachBatch(fake.payload);
    await eventually("the write to begin", () => writer.writes > 0);
    fake.running = false;
    // The write is never confirmed: that this ends is the limit's doing.
    await done;
    expect(writer.cancelled).toBe(1);
    expect(fake.resolved).toBeUndefined();
    expect(logged.map(({ event }) => event)).toContain("batch_unfinished");
  });

  test("a batch beyond 5,000 events is stored and committed in parts", async () => {
    const writer = new FakeWriter();
    const fake = new FakePayload(messagesOf(goodValues(12_000)));
    await make(writer).eachBatch(fake.payload);
    const resolved = fake.history.filter((entry) => entry.startsWith("resolve"));
    expect(resolved).toEqual(["resolve 5099", "resolve 10099", "resolve 12099"]);
    expect(writer.written).toHaveLength(12_000);
  });

  test("commitPending() commits resolved offsets and does not reject when the group refuses", async () => {
    const fake = new FakePayload(messagesOf(goodValues(1)));
    const payload = fake.payload;
    payload.commitOffsetsIfNecessary = async () => {
      if (fake.history.includes("resolve 100")) throw new Error("rebalancing");
    };
    const handler = make(new FakeWriter());
    await handler.eachBatch(payload).catch(() => {});
    await handler.commitPending();
    expect(fake.committed).toBeUndefined();
  });

  test("a commit that fails or is skipped is repeated, also when no event follows: no lag stays", async () => {
    const fake = new FakePayload(messagesOf(goodValues(1)));
    const { payload } = fake;
    const { commitOffsetsIfNecessary } = payload;
    const attempts = ["of the batch", "of the timer"];
    payload.commitOffsetsIfNecessary = async (offsets) => {
      const attempt = attempts.shift();
      if (attempt === "of the batch") throw new Error("the coordinator does not answer");
      // As lost-coordinator.ts skips it while the coordinator is unknown.
      if (attempt === undefined) await commitOffsetsIfNecessary(offsets);
    };
    await expect(make(new FakeWriter()).eachBatch(payload)).rejects.toThrow("does not answer");
    expect(fake.committed).toBeUndefined();
    await eventually("the commit of the event", () => fake.committed === "100");
  });

  test("commitSoon() commits what kafkajs resolved without a batch of events: no lag stays", async () => {
    const fake = new FakePayload(messagesOf(goodValues(1)));
    const handler = make(new FakeWriter());
    await handler.eachBatch(fake.payload);
    await eventually("the commit of the event", async () => fake.committed === "100");
    // The marker that ends a transaction: tests/services/kafka/control-records.test.ts.
    fake.payload.resolveOffset("101");
    handler.commitSoon();
    await eventually("the commit of the marker", async () => fake.committed === "101");
  });

  test("logs the identity of every n-th event", async () => {
    const fake = new FakePayload(messagesOf(goodValues(30)));
    await make(new FakeWriter(), { traceEverySeq: 5 }).eachBatch(fake.payload);
    const traced = logged.filter(({ event }) => event === "event_stored");
    expect(traced).toHaveLength(6);
    expect(traced[0]).toMatchObject({ run: "r", conveyor: "belt-0-1", seq: 0, level: "info", service: "test" });
  });

  describe("points of any measurement", () => {
    const time = `${NOW_MS}000001`;
    const generic = { measurement: "pump", source: "p", run: "r", seq: 3, time: NOW_MS, fields: { x: 1 } };
    const lineOfGeneric = `pump,source=p x=1 ${NOW_MS}000003`;

    test("a line is stored as it is, one in another form and JSON in the canonical form", async () => {
      const writer = new FakeWriter();
      const lines = [`m,a=1 x=1,y=2i ${time}`, `m,b=1,a=1 y=t,x=1 ${time}`, serializeGenericEvent(generic)];
      await make(writer).eachBatch(new FakePayload(messagesOf([...lines, ...goodValues(1)])).payload);
      expect(writer.written.slice(0, 3)).toEqual([lines[0]!, `m,a=1,b=1 x=1,y=true ${time}`, lineOfGeneric]);
      expect(writer.written[3]).toStartWith("conveyor_telemetry,");
      expect([stored, deadLetters]).toEqual([4, []]);
    });

    test("what breaks a rule is a dead letter with reason, field and identity, and no other", async () => {
      const writer = new FakeWriter();
      const invalid = [
        [`conveyor_telemetry,conveyor=a x=1 ${time}`, "bad_measurement"],
        [`m x=word ${time}`, "bad_field"],
        [`m,a=1,a=1 x=1 ${time}`, "bad_tag"],
        [`m x=1 ${NOW_MS}`, "bad_timestamp"],
        [`m x=1 3${time.slice(1)}`, "bad_timestamp"],
        ["no event", "malformed_line"],
        [JSON.stringify({ v: 2, ...generic, source: "a b" }), "bad_source"],
      ] as const;
      const values = invalid.map(([text]) => text).flatMap((text) => [text, `m x=1 ${time}`]);
      const messages = messagesOf(values).map((message) => ({ ...message, headers: { assigned: "r s 7" } }));
      await make(writer).eachBatch(new FakePayload(messages as KafkaMessage[]).payload);
      expect(deadLetters.map(({ headers }) => headers.reason)).toEqual(invalid.map(([, reason]) => reason));
      expect(deadLetters[0]!.headers.event).toBe("r s 7");
      expect(writer.written).toHaveLength(invalid.length);
    });

    test("a point that the database refuses is a dead letter with the line", async () => {
      const writer = new FakeWriter();
      writer.refuse = () => true;
      await make(writer).eachBatch(new FakePayload(messagesOf([`m x=1 ${time}`])).payload);
      expect(deadLetters[0]).toMatchObject({ headers: { reason: "refused_by_database" } });
      expect(String(deadLetters[0]!.value)).toBe(`m x=1 ${time}`);
    });

    test("every n-th is logged by the identity in its header, or in its JSON", async () => {
      const messages = [0, 1, 2, 3, 4].map((seq) => ({
        ...messagesOf([`m x=1 ${time}`])[0]!,
        headers: { [seq === 0 ? "event" : "assigned"]: Buffer.from(`r source ${seq}`) },
      }));
      const json = messagesOf([serializeGenericEvent({ ...generic, seq: 8 }), `m x=1 ${time}`]);
      const fake = new FakePayload([...messages, ...json] as KafkaMessage[]);
      await make(new FakeWriter(), { traceEverySeq: 4 }).eachBatch(fake.payload);
      const traced = logged.filter(({ event }) => event === "event_stored");
      expect(traced.map(({ conveyor, seq }) => [conveyor, seq])).toEqual([
        ["source", 0],
        ["source", 4],
        ["p", 8],
      ]);
    });
  });

  describe("a batch that cannot be read", () => {
    const unreadable = new UnreadableBatch(105, 119, "zstd: corrupt", Buffer.from("bytes"));
    const withBatch = (values: string[]) =>
      new FakePayload([...messagesOf(values), unreadable as unknown as KafkaMessage]);

    test("stops its partition after the records before it, and is read again", async () => {
      const fake = withBatch(goodValues(5));
      await make(new FakeWriter()).eachBatch(fake.payload);
      expect(stored).toBe(5);
      expect(stoppedAt).toEqual([105]);
      expect(fake.resolved).toBe("104");
      expect(fake.history.at(-1)).toBe("pause");
      expect(logged.find(({ event }) => event === "batch_unreadable")).toMatchObject({
        level: "error",
        topic: TOPIC,
        partition: 2,
        offset: 105,
        last_offset: 119,
        reason: "zstd: corrupt",
      });
      await eventually("the next try", () => fake.history.at(-1) === "resume");
    });

    test("is stepped over when an operator has said so, and the partition goes on", async () => {
      const fake = withBatch([]);
      const handler = make(new FakeWriter());
      await handler.eachBatch(fake.payload);
      expect(fake.resolved).toBeUndefined();
      // For another batch.
      steppedOverTo = 105;
      await handler.eachBatch(fake.payload);
      expect(fake.resolved).toBeUndefined();
      steppedOverTo = 120;
      await handler.eachBatch(fake.payload);
      expect([fake.resolved, fake.committed]).toEqual(["119", "119"]);
      expect(stoppedAt).toEqual([105, 105, undefined]);
      expect(logged.at(-1)).toMatchObject({ event: "batch_stepped_over", offset: 105, last_offset: 119 });
    });

    test("is not stepped over while its end is unknown", async () => {
      const endless = new UnreadableBatch(105, 105, "CRC", Buffer.from("bytes"), 0, 900);
      const fake = new FakePayload([endless as unknown as KafkaMessage]);
      steppedOverTo = 106;
      await make(new FakeWriter()).eachBatch(fake.payload);
      expect(fake.resolved).toBeUndefined();
      expect(stoppedAt).toEqual([105]);
    });

    test("that can be read later ends the stop", async () => {
      const handler = make(new FakeWriter());
      await handler.eachBatch(withBatch([]).payload);
      await handler.eachBatch(new FakePayload(messagesOf(goodValues(2))).payload);
      expect(stoppedAt).toEqual([105, undefined]);
    });
  });
});
