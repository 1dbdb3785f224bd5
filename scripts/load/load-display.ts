/** Progress of a load: a block that is redrawn on a terminal, a line at intervals elsewhere. */
import type { Writer } from "../cli/report.ts";
import type { Value } from "../recording/recording.ts";
import type { Progress } from "./load-run.ts";

/** Interval of lines without a terminal. */
const PLAIN_EVERY_MS = 10_000;

const integer = (value: Value | undefined) => (value == null ? "–" : Math.round(value).toLocaleString("en"));
const fraction = (value: Value | undefined) => (value == null ? "–" : value.toFixed(2));
const clock = (ms: number) => `${Math.floor(ms / 60_000)}:${String(Math.floor((ms % 60_000) / 1000)).padStart(2, "0")}`;

const PHASES: Record<Progress["phase"], string> = {
  baseline: "baseline",
  load: "load",
  lag: "waiting for the lag to settle",
  replicas: "waiting for the minimum of replicas",
};

export function progressLines({ phase, elapsedMs, totalMs, stage, row }: Progress): string[] {
  const where = stage ? `, stage ${stage.index + 1}: ${integer(stage.stage.events_per_second)} events/s` : "";
  return [
    `${PHASES[phase]}${where}   ${clock(elapsedMs)} of ${phase === "load" || phase === "baseline" ? "" : "at most "}${clock(totalMs)}`,
    `  events/s   offered ${integer(row.offered_events_per_second)}   acknowledged ${integer(row.acknowledged_events_per_second)}   stored ${integer(row.stored_events_per_second)}   failed ${integer(row.failed_events_per_second)}`,
    `  lag        ${integer(row.lag_events)} events   latency p50 ${integer(row.e2e_p50_ms)} ms, p99 ${integer(row.e2e_p99_ms)} ms`,
    `  replicas   producer ${integer(row.producer_replicas_ready)} of ${integer(row.producer_replicas_desired)}   processor ${integer(row.processor_replicas_ready)} of ${integer(row.processor_replicas_desired)}`,
    `  cores      producer ${fraction(row.producer_cpu_cores)}   processor ${fraction(row.processor_cpu_cores)}   kafka ${fraction(row.kafka_cpu_cores)}   influxdb ${fraction(row.influxdb_cpu_cores)}`,
  ];
}

export function progressLine({ phase, elapsedMs, stage, row }: Progress): string {
  const where = stage ? ` stage ${stage.index + 1}` : "";
  return (
    `${clock(elapsedMs)} ${PHASES[phase]}${where}: offered ${integer(row.offered_events_per_second)}, ` +
    `acknowledged ${integer(row.acknowledged_events_per_second)}, stored ${integer(row.stored_events_per_second)} events/s, ` +
    `lag ${integer(row.lag_events)}, p99 ${integer(row.e2e_p99_ms)} ms, ` +
    `producers ${integer(row.producer_replicas_ready)}, processors ${integer(row.processor_replicas_ready)}`
  );
}

export class LoadDisplay {
  #drawn = 0;
  #printedAt = Number.NEGATIVE_INFINITY;
  #phase = "";

  constructor(
    private readonly isQuiet: boolean,
    private readonly out: Writer = process.stderr,
    private readonly isTerminal = Boolean(out.isTTY) && process.env.TERM !== "dumb",
  ) {}

  show(progress: Progress): void {
    if (this.isQuiet) return;
    if (!this.isTerminal) {
      const now = performance.now();
      const phase = `${progress.phase} ${progress.stage?.index ?? ""}`;
      if (phase === this.#phase && now - this.#printedAt < PLAIN_EVERY_MS) return;
      this.#phase = phase;
      this.#printedAt = now;
      this.out.write(`${progressLine(progress)}\n`);
      return;
    }
    const width = (this.out.columns ?? 100) - 1;
    const lines = progressLines(progress).map((line) => line.slice(0, width));
    this.clear();
    this.out.write(`${lines.join("\n")}\n`);
    this.#drawn = lines.length;
  }

  /** Erases the block before other output. */
  clear(): void {
    if (this.#drawn > 0) this.out.write(`\u001b[${this.#drawn}A\r\u001b[0J`);
    this.#drawn = 0;
  }
}
