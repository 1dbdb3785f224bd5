/**
 * What happens to one batch from Kafka: every event becomes a confirmed point in InfluxDB or stands, acknowledged, in
 * the dead-letter topic; only then is its offset resolved. While that takes time the member keeps its place in the
 * group by heartbeats; when the group takes the partition away, the batch is let go and somebody else does it again.
 */
import type { EachBatchPayload, KafkaMessage } from "kafkajs";
import { createDeadLetter, type DeadLetter } from "../domain/dead-letter.ts";
import { parseEvent, type Reason, type Refusal } from "../domain/event.ts";
import { renderCanonical, renderPoint } from "../domain/point.ts";
import { FetchedMessage } from "../kafka/fetch-decoder.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";
import { MAX_BODY_LINES, type PendingWrite, type RefusedLine } from "./influx-writer.ts";

/** A third of what it takes to be thought dead (session timeout 6 s) leaves room for two lost ones. */
export const HEARTBEAT_MS = 1000;
/** Offsets are committed at most this often: a commit is a replicated write, and a crash only repeats what follows it. */
export const COMMIT_INTERVAL_MS = 200;
/** When the process ends: InfluxDB gets this long to confirm what was already sent. */
export const DRAIN_LIMIT_MS = 8000;
/** Refused events that are logged one by one; the metric and the dead-letter topic have them all. */
const REFUSAL_LOG_INTERVAL_MS = 1000;

export type BatchPayload = Pick<
  EachBatchPayload,
  "batch" | "heartbeat" | "isRunning" | "isStale" | "resolveOffset" | "commitOffsetsIfNecessary" | "uncommittedOffsets"
>;

export interface LineWriter {
  write(lines: readonly string[]): PendingWrite;
}

export interface DeadLetterSink {
  /** Resolves when every letter stands in the dead-letter topic. */
  deliver(letters: readonly DeadLetter[]): Promise<void>;
}

export interface BatchHooks {
  onConsumed(events: number): void;
  /** Points confirmed, with the time of each event (ms). */
  onStored(timestampsMs: readonly number[], refused: readonly RefusedLine[]): void;
  onDeadLetter(reason: Reason): void;
}

export interface BatchHandlerOptions {
  writer: LineWriter;
  letters: DeadLetterSink;
  hooks: BatchHooks;
  log: Logger;
  service: string;
  /** Events whose seq is a multiple are logged with their identity; 0: none. */
  traceEverySeq: number;
  heartbeatMs?: number;
  drainLimitMs?: number;
}

interface Slice {
  lines: string[];
  /** Per line: which message it came from. */
  messages: KafkaMessage[];
  timestampsMs: number[];
  letters: { letter: DeadLetter; reason: Reason }[];
  traced: { run: string; conveyor: string; seq: number }[];
}

/** The value as text; the fetch decoder's messages give it without a slice in between. */
const textOf = (message: KafkaMessage | FetchedMessage): string =>
  message instanceof FetchedMessage ? message.text() : (message.value?.toString() ?? "");

/** Thrown to leave a batch undone; the offsets stay where they were. */
export class BatchAbandoned extends Error {
  /** kafkajs reads this: fetch the same events again instead of ending the consumer. */
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
  #latest: BatchPayload | undefined;
  #commitTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly options: BatchHandlerOptions) {
    this.#heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    this.#drainLimitMs = options.drainLimitMs ?? DRAIN_LIMIT_MS;
  }

  /** kafkajs' eachBatch. */
  readonly eachBatch = async (payload: BatchPayload): Promise<void> => {
    const { batch } = payload;
    this.#latest = payload;
    const { messages } = batch;
    for (let from = 0; from < messages.length; from += MAX_BODY_LINES) {
      if (!payload.isRunning() || payload.isStale()) return;
      const to = Math.min(from + MAX_BODY_LINES, messages.length);
      const slice = this.#read(batch.topic, batch.partition, messages, from, to);
      this.options.hooks.onConsumed(to - from);
      if (!(await this.#store(payload, slice))) return;
      payload.resolveOffset(messages[to - 1]!.offset);
      await this.#commit(payload);
    }
  };

  /** Commits what is stored and not yet committed; for the end of the process. Never rejects. */
  async commitPending(): Promise<void> {
    clearTimeout(this.#commitTimer);
    this.#commitTimer = undefined;
    const payload = this.#latest;
    if (!payload) return;
    try {
      const offsets = payload.uncommittedOffsets();
      if (offsets.topics.length > 0) await payload.commitOffsetsIfNecessary(offsets);
    } catch (error) {
      // The group is rebalancing or the coordinator is away: the events are stored, and storing them again is harmless.
      this.options.log.debug("commit_postponed", { error });
    }
  }

  async #commit(payload: BatchPayload): Promise<void> {
    if (!payload.isRunning()) return await this.commitPending();
    // Commits everything resolved if COMMIT_INTERVAL_MS have passed (autoCommitInterval), otherwise does nothing.
    await payload.commitOffsetsIfNecessary();
    this.#commitTimer ??= setTimeout(() => void this.commitPending(), COMMIT_INTERVAL_MS);
  }

  /** Judges and renders; no waiting. */
  #read(topic: string, partition: number, messages: readonly KafkaMessage[], from: number, to: number): Slice {
    const { traceEverySeq } = this.options;
    const slice: Slice = { lines: [], messages: [], timestampsMs: [], letters: [], traced: [] };
    for (let index = from; index < to; index++) {
      const message = messages[index]!;
      const canonical = renderCanonical(textOf(message));
      if (canonical !== undefined) {
        slice.lines.push(canonical.line);
        slice.timestampsMs.push(canonical.ts);
        slice.messages.push(message);
        if (traceEverySeq > 0) {
          const seq = Number(canonical.seq);
          if (seq % traceEverySeq === 0) slice.traced.push({ run: canonical.run, conveyor: canonical.conveyor, seq });
        }
        continue;
      }
      const { event, refusal } = parseEvent(message.value ?? new Uint8Array());
      if (event !== undefined) {
        slice.lines.push(renderPoint(event));
        slice.timestampsMs.push(event.ts);
        slice.messages.push(message);
        if (traceEverySeq > 0 && event.seq % traceEverySeq === 0) {
          slice.traced.push({ run: event.run, conveyor: event.conveyor, seq: event.seq });
        }
      } else {
        slice.letters.push(this.#letter(refusal, topic, partition, message));
      }
    }
    return slice;
  }

  #letter(refusal: Refusal, topic: string, partition: number, message: KafkaMessage): Slice["letters"][number] {
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
    const letter = createDeadLetter(refusal, origin, { key: message.key, value: message.value }, this.options.service);
    return { letter, reason: refusal.reason };
  }

  /** True when every event of the slice is stored or dead-lettered; false when the process ends before that. */
  async #store(payload: BatchPayload, slice: Slice): Promise<boolean> {
    const { writer, hooks, log } = this.options;
    const write = writer.write(slice.lines);
    const work = Promise.all([write.done, this.#deliver(slice.letters)]);
    const result = await this.#waitWithHeartbeats(payload, work, write);
    if (result === undefined) return false;
    const [refused] = result;
    hooks.onStored(slice.timestampsMs, refused);
    if (refused.length > 0) {
      const refusals = refused.map(({ index, detail }) =>
        this.#letter(
          { reason: "refused_by_database", detail },
          payload.batch.topic,
          payload.batch.partition,
          slice.messages[index]!,
        ),
      );
      if ((await this.#waitWithHeartbeats(payload, this.#deliver(refusals), undefined)) === undefined) return false;
    }
    for (const identity of slice.traced) log.info("event_stored", identity);
    return true;
  }

  async #deliver(letters: Slice["letters"]): Promise<true> {
    if (letters.length > 0) {
      await this.options.letters.deliver(letters.map(({ letter }) => letter));
      for (const { reason } of letters) this.options.hooks.onDeadLetter(reason);
    }
    return true;
  }

  /**
   * The work's result; undefined when the process ends and the work did not finish within the drain limit.
   * @throws what the heartbeat throws (the group is rebalancing), or BatchAbandoned when the consumer moved elsewhere.
   */
  async #waitWithHeartbeats<T>(payload: BatchPayload, work: Promise<T>, write: PendingWrite | undefined) {
    const done = work.then((value) => ({ value }));
    // A rejection is looked at below; without this it would count as unhandled while a heartbeat is awaited.
    done.catch(() => {});
    let drainUntil: number | undefined;
    for (;;) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const tick = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), this.#heartbeatMs);
      });
      const finished = await Promise.race([done, tick]);
      clearTimeout(timer);
      if (finished) return finished.value;
      if (!payload.isRunning()) {
        drainUntil ??= performance.now() + this.#drainLimitMs;
        if (performance.now() >= drainUntil) {
          write?.cancel();
          this.options.log.warn("batch_left_undone", { partition: payload.batch.partition });
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
