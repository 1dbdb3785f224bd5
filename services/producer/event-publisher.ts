/**
 * Publishes the events of every source: counts them, offers them to Kafka, and adds them to the ledger when Kafka has
 * acknowledged them. Refused events go to the dead-letter topic with the reason.
 */
import { createDeadLetter, type InputOrigin } from "../domain/dead-letter.ts";
import { type Reason, type Refusal, serializeEvent, type TelemetryEvent } from "../domain/event.ts";
import { identityHeaders } from "../domain/record-identity.ts";
import { Ledger } from "../domain/sequence.ts";
import { DeadLetterProducer } from "../kafka/dead-letter-producer.ts";
import type { EventProducer, Outgoing } from "../kafka/event-producer.ts";
import { type Logger, LogThrottle } from "../runtime/log.ts";
import type { Metrics } from "../runtime/metrics.ts";
import { AssignedIdentities } from "./assigned-identities.ts";
import type { EventSchemas } from "./event-schemas.ts";

export const SOURCES = ["simulated", "file", "stdin", "http"] as const;
export type Source = (typeof SOURCES)[number];

/** Log interval per reason; metric and dead-letter topic have every refused event. */
const REFUSAL_LOG_INTERVAL_MS = 1000;

/** "rejected": the topic can never take the event or its dead letter. */
export type Settlement = "acknowledged" | "rejected";

interface PublisherCounts {
  attempted: number;
  acknowledged: number;
  /** Refused events whose dead letter Kafka has acknowledged. */
  refused: number;
  /** Events that the topic can never take, and refused ones whose dead letter it can never take. */
  failed: number;
}

/** A point as it goes to Kafka. */
export interface PointOffer {
  /** In canonical form (domain/line-protocol.ts). */
  line: string;
  /** Kafka's key: the source of an event of version 2, the series of a line. */
  key: string;
  /** Part of its identity: the source of an event of version 2, the sender of a line. */
  source: string;
  /** The sender's run and seq; assigned when absent. */
  given?: { run: string; seq: number } | undefined;
}

interface EventPublisherOptions {
  /** Run of this producer; its dead letters carry it, since their own may be unreadable. */
  run: string;
  producer: EventProducer;
  topic: string;
  dlqTopic: string;
  /** Checks points of all measurements but version 1's; without it none is checked. */
  schemas?: EventSchemas;
  metrics: Metrics;
  log: Logger;
  /** Acknowledged events whose seq is a multiple of it are logged; 0: none. */
  traceEverySeq: number;
}

export class EventPublisher {
  readonly ledger = new Ledger();
  readonly counts: PublisherCounts = { attempted: 0, acknowledged: 0, refused: 0, failed: 0 };
  readonly refusedByReason: Partial<Record<Reason, number>> = {};
  readonly #throttle = new LogThrottle(REFUSAL_LOG_INTERVAL_MS);
  readonly #deadLetters: DeadLetterProducer;
  readonly #emitted;
  readonly #acknowledged;
  readonly #refused;
  readonly #assigned: AssignedIdentities;

  constructor(readonly options: EventPublisherOptions) {
    const { metrics, producer, dlqTopic, log, run } = options;
    this.#assigned = new AssignedIdentities(run);
    this.#deadLetters = new DeadLetterProducer(producer, dlqTopic, log);
    this.#emitted = metrics.counter("conveyor_producer_events_emitted_total");
    this.#acknowledged = metrics.counter("conveyor_producer_events_acknowledged_total");
    this.#refused = metrics.counter("conveyor_producer_events_refused_total");
  }

  /** Offers a valid event; false when the buffer is full. */
  offer(event: TelemetryEvent, source: Source, settled?: (outcome: Settlement) => void): boolean {
    return this.offerText(serializeEvent(event), event, source, settled);
  }

  /** As offer(), for an event that is already serialized. */
  offerText(
    text: string,
    identity: Pick<TelemetryEvent, "run" | "conveyor" | "seq">,
    source: Source,
    settled?: (outcome: Settlement) => void,
  ): boolean {
    return this.#offer({ key: identity.conveyor, value: text }, identity, source, settled);
  }

  /** Offers a valid point, with a new identity where its sender gave none; false when the buffer is full. */
  offerPoint(
    { line, key, source: conveyor, given }: PointOffer,
    source: Source,
    settled?: (outcome: Settlement) => void,
  ): boolean {
    const identity = { ...(given ?? this.#assigned.next(conveyor)), conveyor };
    const headers = identityHeaders({ ...identity, isAssigned: given === undefined });
    if (!this.#offer({ key, value: line, headers }, identity, source, settled)) return false;
    if (given === undefined) this.#assigned.use(conveyor);
    return true;
  }

  #offer(
    record: Pick<Outgoing, "key" | "value" | "headers">,
    { run, conveyor, seq }: Pick<TelemetryEvent, "run" | "conveyor" | "seq">,
    source: Source,
    settled: ((outcome: Settlement) => void) | undefined,
  ): boolean {
    const outgoing: Outgoing = {
      topic: this.options.topic,
      ...record,
      settled: (outcome) => {
        if (outcome === "acknowledged") {
          this.#onAcknowledged(run, conveyor, seq, source);
          settled?.("acknowledged");
        } else {
          this.counts.failed++;
          this.options.log.error("event_too_large_for_topic", { run, conveyor, seq });
          settled?.("rejected");
        }
      },
    };
    if (!this.options.producer.offer(outgoing)) return false;
    this.counts.attempted++;
    this.#emitted.inc({ source });
    return true;
  }

  #onAcknowledged(run: string, conveyor: string, seq: number, source: Source): void {
    this.ledger.add(run, conveyor, seq);
    this.counts.acknowledged++;
    this.#acknowledged.inc({ source });
    const { traceEverySeq, log } = this.options;
    if (traceEverySeq > 0 && seq % traceEverySeq === 0) log.info("event_acknowledged", { run, conveyor, seq });
  }

  /** Offers a refused event to the dead-letter topic; false when the buffer is full. */
  refuse(
    refusal: Refusal,
    origin: Omit<InputOrigin, "run">,
    original: { value: Uint8Array; bytes?: number },
    settled?: (outcome: Settlement) => void,
  ): boolean {
    const from = { ...origin, run: this.options.run };
    const deadLetter = createDeadLetter(refusal, from, { key: null, ...original }, "producer");
    const offered = this.#deadLetters.offer(deadLetter, (outcome) => {
      if (outcome === "acknowledged") this.#onDeadLetter(refusal.reason, origin.source);
      else this.counts.failed++;
      settled?.(outcome);
    });
    if (!offered) return false;
    const suppressed = this.#throttle.allow(refusal.reason);
    if (suppressed !== undefined) {
      this.options.log.warn("event_refused", {
        reason: refusal.reason,
        detail: refusal.detail,
        source: origin.source,
        line: origin.line,
        ...(suppressed > 0 ? { suppressed } : {}),
      });
    }
    return true;
  }

  #onDeadLetter(reason: Reason, source: Source): void {
    this.counts.refused++;
    this.refusedByReason[reason] = (this.refusedByReason[reason] ?? 0) + 1;
    this.#refused.inc({ source, reason });
  }

  /** The answer of /ledger; an audit compares it with the database. */
  report(): Record<string, unknown> {
    return {
      ...this.counts,
      buffered: this.options.producer.bufferedEvents,
      refused_by_reason: this.refusedByReason,
      repeated: this.ledger.repeated,
      dropped_from_ledger: this.ledger.dropped,
      runs: this.ledger.toJSON(),
    };
  }
}
