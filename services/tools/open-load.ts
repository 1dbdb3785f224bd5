/**
 * An open load: events are sent on schedule, however slow the answers are. Outstanding requests and events are bounded;
 * an event that is due while the bound is reached is counted as shed and never sent.
 *
 * Every event has the time at which it was due, so that a delay of the generator is part of the measured latency. A
 * request without a certain answer is sent again, to another pod: the identity of its events makes that harmless.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { TelemetryEvent } from "../domain/event.ts";
import { Conveyor } from "../domain/fleet.ts";
import { dueEvents, dueTimeMs, type LoadStage, stageAt, totalSeconds } from "../domain/load-stages.ts";
import { SequenceRanges } from "../domain/sequence.ts";
import type { ConveyorLedger, LoadSummary, SecondReport } from "../protocol/load-generator.ts";
import { type Delivery, deliver, type Send } from "./delivery.ts";

/** Interval of the schedule: short against any latency of interest, long enough to fill requests. */
const SLICE_MS = 50;
/** Events of one request: 115 KB. The intake takes 10,000; a tenth of its buffer at once would make a load of bursts. */
const MAX_REQUEST_EVENTS = 500;
/** Bounds on requests without an answer and on the events in them (about 25 MB); more load is shed. */
export const MAX_OUTSTANDING_REQUESTS = 500;
export const MAX_OUTSTANDING_EVENTS = 100_000;
/** A request is sent again until its events are this old; then they count as failed or unknown. */
export const GIVE_UP_MS = 30_000;
/** Consecutive events of one conveyor in a request: the ledger then needs few ranges. */
const STRETCH = 10;
/** Latencies kept for the summary, one per request; enough for a day. */
const MAX_LATENCIES = 2_000_000;

export interface OpenLoadOptions {
  stages: readonly LoadStage[];
  run: string;
  conveyors: readonly string[];
  seed: number;
  serialize: (event: TelemetryEvent) => string;
  send: Send;
  onSecond?: (report: SecondReport) => void;
  onStage?: (index: number, stage: LoadStage, timeMs: number) => void;
  giveUpMs?: number;
  maxOutstandingRequests?: number;
}

interface Batch {
  body: string;
  /** Consecutive events of one conveyor each. */
  parts: { index: number; first: number; count: number }[];
  events: number;
  /** When its first event was due, on performance.now()'s clock. */
  dueAt: number;
}

export class OpenLoad {
  readonly #conveyors: Conveyor[];
  readonly #ledger: { acknowledged: SequenceRanges; failed: SequenceRanges; unknown: SequenceRanges }[];
  readonly #stop = new AbortController();
  readonly #inFlight = new Set<Promise<void>>();
  readonly #latencies: number[] = [];
  #outstandingEvents = 0;
  #offered = 0;
  #sentEvents = 0;
  #shed = 0;
  #requests = 0;
  #retries = 0;
  #resent = 0;
  #second = emptySecond();
  #interrupted = false;

  constructor(private readonly options: OpenLoadOptions) {
    const { conveyors, run, seed } = options;
    this.#conveyors = conveyors.map((name) => new Conveyor(name, run, seed));
    const empty = () => new SequenceRanges();
    this.#ledger = conveyors.map(() => ({ acknowledged: empty(), failed: empty(), unknown: empty() }));
  }

  /** Ends the load now; outstanding requests have no certain answer. */
  stop(): void {
    this.#interrupted = true;
    this.#stop.abort();
  }

  /** Runs the stages and waits until every request has its outcome. */
  async run(): Promise<LoadSummary> {
    const { stages, onStage } = this.options;
    const startedAt = performance.now();
    const startedAtMs = Date.now();
    const endMs = totalSeconds(stages) * 1000;
    let stage = -1;
    const reports = setInterval(() => this.#report(startedAtMs, stage), 1000);
    try {
      while (!this.#stop.signal.aborted) {
        const elapsedMs = performance.now() - startedAt;
        const now = stageAt(stages, elapsedMs);
        if (now !== undefined && now !== stage) {
          stage = now;
          onStage?.(stage, stages[stage]!, Date.now());
        }
        this.#offer(dueEvents(stages, elapsedMs), startedAt, startedAtMs);
        if (elapsedMs >= endMs) break;
        const pauseMs = Math.min(SLICE_MS, Math.max(1, endMs - elapsedMs));
        await sleep(pauseMs, undefined, { signal: this.#stop.signal }).catch(() => {});
      }
      await Promise.all(this.#inFlight);
    } finally {
      clearInterval(reports);
      this.#report(startedAtMs, stage);
    }
    const total = (kind: "acknowledged" | "failed" | "unknown") =>
      this.#ledger.reduce((sum, ranges) => sum + ranges[kind].count, 0);
    this.#latencies.sort((a, b) => a - b);
    return {
      run: this.options.run,
      started_at_ms: startedAtMs,
      ended_at_ms: Date.now(),
      interrupted: this.#interrupted,
      offered: this.#offered,
      acknowledged: total("acknowledged"),
      failed: total("failed") + this.#shed,
      shed: this.#shed,
      unknown: total("unknown"),
      requests: this.#requests,
      retries: this.#retries,
      resent: this.#resent,
      latency_p50_ms: quantileOf(this.#latencies, 0.5),
      latency_p99_ms: quantileOf(this.#latencies, 0.99),
      latency_max_ms: quantileOf(this.#latencies, 1),
    };
  }

  /** Outcomes of the events of each conveyor. */
  ledger(): ConveyorLedger[] {
    return this.#ledger.map(({ acknowledged, failed, unknown }, index) => ({
      conveyor: this.options.conveyors[index]!,
      acknowledged: acknowledged.toJSON(),
      failed: failed.toJSON(),
      unknown: unknown.toJSON(),
    }));
  }

  /** Sends or sheds everything that is due. */
  #offer(due: number, startedAt: number, startedAtMs: number): void {
    const maxRequests = this.options.maxOutstandingRequests ?? MAX_OUTSTANDING_REQUESTS;
    while (this.#offered < due) {
      const events = Math.min(due - this.#offered, MAX_REQUEST_EVENTS);
      const dueMs = dueTimeMs(this.options.stages, this.#offered);
      this.#second.behindMs = Math.max(this.#second.behindMs, performance.now() - startedAt - dueMs - SLICE_MS);
      if (this.#inFlight.size >= maxRequests || this.#outstandingEvents + events > MAX_OUTSTANDING_EVENTS) {
        this.#shed += events;
        this.#second.failed += events;
        count(this.#second.answers, "shed");
      } else this.#begin(this.#batch(events, startedAt, startedAtMs));
      this.#offered += events;
      this.#second.offered += events;
    }
  }

  #batch(events: number, startedAt: number, startedAtMs: number): Batch {
    const { stages, serialize } = this.options;
    const parts: Batch["parts"] = [];
    const lines: string[] = [];
    const firstDueMs = dueTimeMs(stages, this.#offered);
    for (let taken = 0; taken < events; ) {
      const index = Math.floor(this.#sentEvents / STRETCH) % this.#conveyors.length;
      const conveyor = this.#conveyors[index]!;
      const part = { index, first: conveyor.nextSeq, count: 0 };
      do {
        const ts = Math.round(startedAtMs + dueTimeMs(stages, this.#offered + taken));
        lines.push(serialize(conveyor.next(ts)));
        part.count++;
        taken++;
        this.#sentEvents++;
      } while (taken < events && this.#sentEvents % STRETCH !== 0);
      parts.push(part);
    }
    return { body: lines.join("\n"), parts, events, dueAt: startedAt + firstDueMs };
  }

  #begin(batch: Batch): void {
    this.#outstandingEvents += batch.events;
    const work = this.#deliver(batch).then((outcome) => {
      this.#settle(batch, outcome);
      this.#outstandingEvents -= batch.events;
      this.#inFlight.delete(work);
    });
    this.#inFlight.add(work);
  }

  /** Until the batch is acknowledged, rejected, too old, or the load ends. */
  async #deliver(batch: Batch): Promise<Delivery> {
    const giveUpMs = this.options.giveUpMs ?? GIVE_UP_MS;
    return await deliver(batch.body, {
      send: (...request) => {
        this.#requests++;
        return this.options.send(...request);
      },
      signal: this.#stop.signal,
      givesUp: (afterMs) => performance.now() - batch.dueAt + afterMs > giveUpMs,
      onRefusal: (why) => count(this.#second.answers, why),
      onRepeat: (_why, mayBeAccepted) => {
        this.#retries++;
        this.#second.retries++;
        if (mayBeAccepted) this.#resent += batch.events;
      },
    });
  }

  #settle(batch: Batch, { kind, refused }: Delivery): void {
    const notAccepted = new Set<number>(refused);
    let position = 0;
    for (const { index, first, count: length } of batch.parts) {
      for (let offset = 0; offset < length; offset++, position++) {
        this.#ledger[index]![notAccepted.has(position) ? "failed" : kind].add(first + offset);
      }
    }
    this.#second[kind] += batch.events - notAccepted.size;
    this.#second.failed += notAccepted.size;
    if (kind === "acknowledged") {
      const latencyMs = performance.now() - batch.dueAt;
      this.#second.latencies.push(latencyMs);
      if (this.#latencies.length < MAX_LATENCIES) this.#latencies.push(latencyMs);
    }
  }

  #report(startedAtMs: number, stage: number): void {
    const { latencies, behindMs, ...counts } = this.#second;
    this.#second = emptySecond();
    latencies.sort((a, b) => a - b);
    const t = Date.now();
    this.options.onSecond?.({
      t,
      second: Math.round((t - startedAtMs) / 1000),
      stage,
      ...counts,
      outstanding_requests: this.#inFlight.size,
      latency_p50_ms: quantileOf(latencies, 0.5),
      latency_p99_ms: quantileOf(latencies, 0.99),
      behind_ms: Math.round(behindMs),
    });
  }
}

const emptySecond = () => ({
  offered: 0,
  acknowledged: 0,
  failed: 0,
  unknown: 0,
  retries: 0,
  behindMs: 0,
  latencies: [] as number[],
  answers: {} as Record<string, number>,
});

/** Bound on distinct answers: texts of a server could be endless. */
const MAX_ANSWER_KINDS = 20;

function count(answers: Record<string, number>, why: string): void {
  const key = why in answers || Object.keys(answers).length < MAX_ANSWER_KINDS ? why : "other";
  answers[key] = (answers[key] ?? 0) + 1;
}

/** Of ascending numbers; rounded to a tenth. */
function quantileOf(ascending: readonly number[], q: number): number | null {
  if (ascending.length === 0) return null;
  const index = Math.min(ascending.length - 1, Math.ceil(q * ascending.length) - 1);
  return Math.round(ascending[Math.max(0, index)]! * 10) / 10;
}
