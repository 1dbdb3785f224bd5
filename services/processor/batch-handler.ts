/**
 * Processes one batch from Kafka: every event becomes a confirmed point in InfluxDB or an acknowledged dead letter; only
 * then its offset is resolved. Heartbeats keep the member in its group meanwhile. When the group reassigns the
 * partition, the batch is abandoned and its new owner processes it. A batch that cannot be read stops its partition.
 */
import type { EachBatchPayload, KafkaMessage } from "kafkajs";
import { type PointEvent, parseAnyEventAt, timeMsOf } from "../domain/any-event.ts";
import { createDeadLetter, type DeadLetter } from "../domain/dead-letter.ts";
import type { Reason, Refusal } from "../domain/event.ts";
import { checkEventTime } from "../domain/event-window.ts";
import { canonicalTimeMs, renderLine } from "../domain/line-protocol.ts";
import { renderCanonical, renderPoint } from "../domain/point.ts";
import { identityOf, identityText } from "../domain/record-identity.ts";
import { HEARTBEAT_MS } from "../kafka/consumer.ts";
import type { DeadLetterProducer } from "../kafka/dead-letter-producer.ts";
import { FetchedMessage, UnreadableBatch } from "../kafka/fetch-decoder.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";
import { TimeLimitError, withTimeout } from "../runtime/with-timeout.ts";
import { MAX_BODY_LINES, type PendingWrite, type RefusedLine } from "./influx-writer.ts";

/** Offsets are committed at most this often: a commit is a replicated write, and a crash only repeats the events after it. */
export const COMMIT_INTERVAL_MS = 200;
/** During shutdown InfluxDB has this time to confirm the lines that were already sent. */
const DRAIN_LIMIT_MS = 8000;
/** Log interval per reason; metric and dead-letter topic have every refused event. */
const REFUSAL_LOG_INTERVAL_MS = 1000;
/** A stopped partition is read again after this time: another replica may have an intact copy, or the batch is stepped over. */
const UNREADABLE_RETRY_MS = 15_000;

export type BatchPayload = Pick<
  EachBatchPayload,
  | "batch"
  | "heartbeat"
  | "isRunning"
  | "isStale"
  | "resolveOffset"
  | "commitOffsetsIfNecessary"
  | "uncommittedOffsets"
  | "pause"
>;

export interface LineWriter {
  write(lines: readonly string[]): PendingWrite;
}

type DeadLetterSink = Pick<DeadLetterProducer, "deliver">;

interface BatchHooks {
  onConsumed(events: number): void;
  /** Points confirmed, with the time of each event (ms). */
  onStored(timestampsMs: readonly number[], refused: readonly RefusedLine[]): void;
  onDeadLetter(reason: Reason): void;
  /** A partition is stopped at this offset; undefined: it goes on. */
  onStopped(topic: string, partition: number, offset: number | undefined): void;
}

interface BatchHandlerOptions {
  writer: LineWriter;
  deadLetters: DeadLetterSink;
  hooks: BatchHooks;
  log: Logger;
  /** Stored events whose seq is a multiple of it are logged; 0: none. */
  traceEverySeq: number;
  /** The offset at which an operator has let the partition go on; -1 where none. */
  steppedOverTo: (topic: string, partition: number) => Promise<number>;
  unreadableRetryMs?: number;
  heartbeatMs?: number;
  drainLimitMs?: number;
  /** Milliseconds since 1970; another clock in tests. */
  now?: () => number;
}

interface Slice {
  lines: string[];
  messages: KafkaMessage[];
  timestampsMs: number[];
  refusals: { deadLetter: DeadLetter; reason: Reason }[];
  traced: { run: string; conveyor: string; seq: number }[];
}

/** The value as text; a FetchedMessage decodes it without an intermediate slice. */
const textOf = (message: KafkaMessage | FetchedMessage): string =>
  message instanceof FetchedMessage ? message.text() : (message.value?.toString() ?? "");

/** Thrown to abandon a batch; its offsets stay uncommitted. */
class BatchAbandoned extends Error {
  /** kafkajs refetches the same events instead of ending the consumer. */
  readonly retriable = true;
  constructor(reason: string) {
    super(`batch abandoned: ${reason}`);
    this.name = "BatchAbandoned";
  }
}

export class BatchHandler {
  readonly #throttle = new LogThrottle(REFUSAL_LOG_INTERVAL_MS);
  readonly #heartbeatMs: number;
  readonly #drainLimitMs: number;
  readonly #stopped = new Set<string>();
  #latest: BatchPayload | undefined;
  #commitTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: BatchHandlerOptions) {
    this.#heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    this.#drainLimitMs = options.drainLimitMs ?? DRAIN_LIMIT_MS;
  }

  readonly eachBatch = async (payload: BatchPayload): Promise<void> => {
    const { batch } = payload;
    this.#latest = payload;
    const { messages } = batch;
    const last: unknown = messages.at(-1);
    const unreadable = last instanceof UnreadableBatch ? last : undefined;
    const count = unreadable ? messages.length - 1 : messages.length;
    for (let from = 0; from < count; from += MAX_BODY_LINES) {
      if (!payload.isRunning() || payload.isStale()) return;
      const to = Math.min(from + MAX_BODY_LINES, count);
      const slice = this.#read(batch.topic, batch.partition, messages, from, to);
      this.options.hooks.onConsumed(to - from);
      if (!(await this.#store(payload, slice))) return;
      payload.resolveOffset(messages[to - 1]!.offset);
      await this.#commit(payload);
    }
    if (unreadable) await this.#stopAt(payload, unreadable);
    else this.#goOn(batch.topic, batch.partition);
  };

  /** Stops the partition at a batch that cannot be read, unless an operator has it stepped over; the others go on. */
  async #stopAt(payload: BatchPayload, unreadable: UnreadableBatch): Promise<void> {
    if (!payload.isRunning() || payload.isStale()) return;
    const { topic, partition } = payload.batch;
    const { firstOffset, lastOffset, reason } = unreadable;
    const { log, hooks, steppedOverTo, unreadableRetryMs = UNREADABLE_RETRY_MS } = this.options;
    const place = { topic, partition, offset: firstOffset, last_offset: lastOffset, reason };
    const instruction = steppedOverTo(topic, partition).catch((error: unknown) => {
      log.warn("step_over_not_read", { topic, partition, error });
      return -1;
    });
    const next = await this.#waitWithHeartbeats(payload, instruction, undefined);
    if (next === undefined) return;
    if (next === lastOffset + 1 && unreadable.hasKnownEnd) {
      log.warn("batch_stepped_over", place);
      payload.resolveOffset(unreadable.offset);
      await this.#commit(payload);
      return this.#goOn(topic, partition);
    }
    log.error("batch_unreadable", place);
    this.#stopped.add(`${topic}/${partition}`);
    hooks.onStopped(topic, partition, firstOffset);
    setTimeout(payload.pause(), unreadableRetryMs).unref();
  }

  #goOn(topic: string, partition: number): void {
    if (this.#stopped.delete(`${topic}/${partition}`)) this.options.hooks.onStopped(topic, partition, undefined);
  }

  /** Commits the resolved offsets, also during shutdown. Never rejects; repeated until they are committed. */
  async commitPending(): Promise<void> {
    clearTimeout(this.#commitTimer);
    this.#commitTimer = undefined;
    const payload = this.#latest;
    if (!payload) return;
    try {
      const offsets = payload.uncommittedOffsets();
      if (offsets.topics.length === 0) return;
      await payload.commitOffsetsIfNecessary(offsets);
    } catch (error) {
      // The group is rebalancing or the coordinator is unreachable. The events are stored, and storing them again is harmless.
      this.options.log.debug("commit_postponed", { error });
    }
    // While the coordinator is unknown, a commit is skipped without an error. When no event follows, no batch would commit
    // the last ones: they would count as lag until the next event.
    if (payload.isRunning()) this.commitSoon();
  }

  /**
   * For the end of every batch, also of one without events: kafkajs resolves the marker that ends a transaction itself,
   * and until it is committed it counts as lag 1 (https://github.com/kedacore/keda/issues/5675).
   */
  commitSoon(): void {
    this.#commitTimer ??= setTimeout(() => void this.commitPending(), COMMIT_INTERVAL_MS);
  }

  async #commit(payload: BatchPayload): Promise<void> {
    if (!payload.isRunning()) return await this.commitPending();
    // Commits the resolved offsets if COMMIT_INTERVAL_MS (autoCommitInterval) has passed, otherwise does nothing.
    try {
      await payload.commitOffsetsIfNecessary();
    } finally {
      this.commitSoon();
    }
  }

  /** Validates and renders the messages; synchronous. */
  #read(topic: string, partition: number, messages: readonly KafkaMessage[], from: number, to: number): Slice {
    const { traceEverySeq } = this.options;
    const slice: Slice = { lines: [], messages: [], timestampsMs: [], refusals: [], traced: [] };
    const nowMs = (this.options.now ?? Date.now)();
    for (let index = from; index < to; index++) {
      const message = messages[index]!;
      const text = textOf(message);
      const canonical = renderCanonical(text);
      if (canonical !== undefined && checkEventTime(canonical.ts, nowMs) === undefined) {
        slice.lines.push(canonical.line);
        slice.timestampsMs.push(canonical.ts);
        slice.messages.push(message);
        if (traceEverySeq > 0) {
          const seq = Number(canonical.seq);
          if (seq % traceEverySeq === 0) slice.traced.push({ run: canonical.run, conveyor: canonical.conveyor, seq });
        }
        continue;
      }
      const timeMs = canonicalTimeMs(text);
      if (timeMs !== undefined && checkEventTime(timeMs, nowMs) === undefined) {
        slice.lines.push(text);
        slice.timestampsMs.push(timeMs);
        slice.messages.push(message);
        if (traceEverySeq > 0) this.#trace(slice, message, undefined);
        continue;
      }
      const { event, generic, refusal } = parseAnyEventAt(nowMs, message.value ?? new Uint8Array());
      if (event !== undefined) {
        slice.lines.push(renderPoint(event));
        slice.timestampsMs.push(event.ts);
        slice.messages.push(message);
        if (traceEverySeq > 0 && event.seq % traceEverySeq === 0) {
          slice.traced.push({ run: event.run, conveyor: event.conveyor, seq: event.seq });
        }
      } else if (generic !== undefined) {
        slice.lines.push(renderLine(generic.point));
        slice.timestampsMs.push(timeMsOf(generic.point));
        slice.messages.push(message);
        if (traceEverySeq > 0) this.#trace(slice, message, generic);
      } else {
        slice.refusals.push(this.#refuse(refusal, topic, partition, message));
      }
    }
    return slice;
  }

  /** Notes a point for the log of stored events, by the identity in its record's header or in its own JSON. */
  #trace(slice: Slice, { headers }: KafkaMessage, generic: PointEvent | undefined): void {
    const given = generic?.given && { ...generic.given, conveyor: generic.source! };
    const identity = identityOf(headers) ?? given;
    if (identity === undefined || identity.seq % this.options.traceEverySeq !== 0) return;
    const { run, conveyor, seq } = identity;
    slice.traced.push({ run, conveyor, seq });
  }

  #refuse(refusal: Refusal, topic: string, partition: number, message: KafkaMessage): Slice["refusals"][number] {
    const suppressed = this.#throttle.allow(refusal.reason);
    if (suppressed !== undefined) {
      this.options.log.warn("event_refused", {
        reason: refusal.reason,
        detail: refusal.detail,
        topic,
        partition,
        offset: message.offset,
        ...(suppressed > 0 ? { suppressed } : {}),
      });
    }
    const origin = { source: "kafka", topic, partition, offset: message.offset } as const;
    const identity = identityOf(message.headers);
    const original = { key: message.key, value: message.value, ...(identity ? { event: identityText(identity) } : {}) };
    return { deadLetter: createDeadLetter(refusal, origin, original, "processor"), reason: refusal.reason };
  }

  /** True when every event of the slice is stored or dead-lettered; false when the process ends before that. */
  async #store(payload: BatchPayload, slice: Slice): Promise<boolean> {
    const { writer, hooks, log } = this.options;
    const write = writer.write(slice.lines);
    const work = Promise.all([write.done, this.#deliver(slice.refusals)]);
    const result = await this.#waitWithHeartbeats(payload, work, write);
    if (result === undefined) return false;
    const [refused] = result;
    hooks.onStored(slice.timestampsMs, refused);
    if (refused.length > 0) {
      const { topic, partition } = payload.batch;
      const refusals = refused.map(({ index, detail }) =>
        this.#refuse({ reason: "refused_by_database", detail }, topic, partition, slice.messages[index]!),
      );
      if ((await this.#waitWithHeartbeats(payload, this.#deliver(refusals), undefined)) === undefined) return false;
    }
    for (const identity of slice.traced) log.info("event_stored", identity);
    return true;
  }

  async #deliver(refusals: Slice["refusals"]): Promise<true> {
    if (refusals.length > 0) {
      await this.options.deadLetters.deliver(refusals.map(({ deadLetter }) => deadLetter));
      for (const { reason } of refusals) this.options.hooks.onDeadLetter(reason);
    }
    return true;
  }

  /**
   * The result of `work`; undefined when the process ends and the work exceeds the drain limit.
   * @throws the heartbeat's error (the group is rebalancing), or BatchAbandoned when the consumer was moved to another
   *   offset.
   */
  async #waitWithHeartbeats<T>(payload: BatchPayload, work: Promise<T>, write: PendingWrite | undefined) {
    const done = work.then((value) => ({ value }));
    // Awaited below; without this a rejection during a heartbeat would count as unhandled.
    done.catch(() => {});
    let drainUntil: number | undefined;
    for (;;) {
      const finished = await withTimeout(done, this.#heartbeatMs).catch((error: unknown) => {
        if (!(error instanceof TimeLimitError)) throw error;
      });
      if (finished) return finished.value;
      if (!payload.isRunning()) {
        drainUntil ??= performance.now() + this.#drainLimitMs;
        if (performance.now() >= drainUntil) {
          write?.cancel();
          this.options.log.warn("batch_unfinished", { partition: payload.batch.partition });
          return undefined;
        }
      }
      if (payload.isStale()) {
        write?.cancel();
        throw new BatchAbandoned("the consumer was moved to another offset");
      }
      try {
        await payload.heartbeat();
      } catch (error) {
        write?.cancel();
        await this.commitPending();
        throw error;
      }
    }
  }
}
