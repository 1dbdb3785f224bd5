/**
 * An ordered load: each conveyor has one batch under way at a time and repeats it until it is acknowledged, so that its
 * events keep their order and an outage shows as a wait. What is due meanwhile is gathered for the next batch, so
 * nothing outstanding grows: one request per conveyor.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { TelemetryEvent } from "../domain/event.ts";
import { Conveyor } from "../domain/fleet.ts";
import { dueEvents, dueTimeMs, type LoadStage, totalSeconds } from "../domain/load-stages.ts";
import type { EventRange, OrderedLoadCounts, OrderedLoadLine } from "../protocol/load-generator.ts";
import { deliver, type Send } from "./delivery.ts";

/** Room for what a long fault held up; far below the intake's 10,000. */
const MAX_BATCH_EVENTS = 2000;
/** Between two batches of a conveyor: five a second show a short pause and are no load. */
const BATCH_INTERVAL_MS = 200;
const REPEAT_AFTER_MS = 200;
/** After `stop`: time for what is due. Below the limit of a service's shutdown. */
export const DRAIN_LIMIT_MS = 20_000;

export interface OrderedLoadOptions {
  stages: readonly LoadStage[];
  run: string;
  conveyors: readonly string[];
  seed: number;
  serialize: (event: TelemetryEvent) => string;
  send: Send;
  onLine: (line: OrderedLoadLine) => void;
  drainLimitMs?: number;
}

export class OrderedLoad {
  readonly #counts: OrderedLoadCounts = { offered: 0, acknowledged: 0, unknown: 0, again: 0 };
  readonly #stopped = new AbortController();
  readonly #drained = new AbortController();
  #startedAtMs = 0;
  /** Events are due until then. */
  #endsAtMs = Number.POSITIVE_INFINITY;

  constructor(private readonly options: OrderedLoadOptions) {}

  /** No event is due from now on; what is due already is sent, until the limit. */
  stop(): void {
    if (this.#stopped.signal.aborted) return;
    this.#endsAtMs = Math.min(this.#endsAtMs, Date.now());
    this.#stopped.abort();
    setTimeout(() => this.#drained.abort(), this.options.drainLimitMs ?? DRAIN_LIMIT_MS).unref();
  }

  /** Runs the stages and waits until every batch has its outcome. */
  async run(): Promise<OrderedLoadCounts> {
    const { conveyors, stages, run, seed, onLine } = this.options;
    this.#startedAtMs = Date.now();
    const end = setTimeout(() => this.stop(), totalSeconds(stages) * 1000);
    await Promise.all(conveyors.map((name, index) => this.#send(new Conveyor(name, run, seed), index)));
    clearTimeout(end);
    onLine({ done: { ...this.#counts }, t: Date.now() });
    return { ...this.#counts };
  }

  async #send(conveyor: Conveyor, index: number): Promise<void> {
    for (;;) {
      const until = Math.min(this.#dueOf(index), conveyor.nextSeq + MAX_BATCH_EVENTS);
      if (until > conveyor.nextSeq) {
        if (!(await this.#deliver(conveyor, index, until))) return;
      } else if (Date.now() >= this.#endsAtMs) return;
      await sleep(BATCH_INTERVAL_MS, undefined, { signal: this.#stopped.signal }).catch(() => {});
    }
  }

  /** Events of the conveyor that are due by now: the load's events are dealt to the conveyors in turn. */
  #dueOf(index: number): number {
    const { stages, conveyors } = this.options;
    const due = dueEvents(stages, Math.min(Date.now(), this.#endsAtMs) - this.#startedAtMs);
    return Math.max(0, Math.ceil((due - index) / conveyors.length));
  }

  /** @returns whether the batch was acknowledged. */
  async #deliver(conveyor: Conveyor, index: number, until: number): Promise<boolean> {
    const { stages, conveyors, serialize, send, onLine } = this.options;
    const batch: EventRange = [conveyor.name, conveyor.nextSeq, until - 1];
    const events = until - conveyor.nextSeq;
    const lines: string[] = [];
    while (conveyor.nextSeq < until) {
      const dueMs = dueTimeMs(stages, conveyor.nextSeq * conveyors.length + index);
      lines.push(serialize(conveyor.next(Math.floor(this.#startedAtMs + dueMs))));
    }
    onLine({ attempt: batch, t: Date.now() });
    this.#counts.offered += events;
    const delivery = await deliver(lines.join("\n"), {
      send,
      signal: this.#drained.signal,
      givesUp: () => false,
      untilAcknowledged: { pauseMs: REPEAT_AFTER_MS },
      onRepeat: (why) => {
        this.#counts.again += events;
        onLine({ again: events, conveyor: conveyor.name, why, t: Date.now() });
      },
    });
    if (delivery.kind === "acknowledged") {
      this.#counts.acknowledged += events;
      onLine({ outcome: "ok", batch, t: Date.now() });
      return true;
    }
    this.#counts.unknown += events;
    onLine({ outcome: "unknown", batch, why: delivery.why, t: Date.now() });
    return false;
  }
}
