/** What a person sees while a load runs: one block that is drawn anew on a terminal, a plain line now and then elsewhere. */
import type { Writer } from "../cli/report.ts";
import type { Value } from "../recording/recording.ts";
import type { Progress } from "./load-run.ts";

/** Without a terminal: often enough to see that it lives, seldom enough for a log. */
const PLAIN_EVERY_MS = 10_000;

const whole = (value: Value | undefined) => (value == null ? "–" : Math.round(value).toLocaleString("en"));
const tenth = (value: Value | undefined) => (value == null ? "–" : value.toFixed(2));
const clock = (ms: number) => `${Math.floor(ms / 60_000)}:${String(Math.floor((ms % 60_000) / 1000)).padStart(2, "0")}`;

const PHASES: Record<Progress["phase"], string> = {
  baseline: "before the load",
  load: "load",
  lag: "waiting for the lag to be back",
  replicas: "waiting for the smallest number of replicas",
};

/** The lines of the block. */
export function progressLines({ phase, elapsedMs, totalMs, stage, row }: Progress): string[] {
  const where = stage ? `, stage ${stage.index + 1}: ${whole(stage.stage.events_per_second)} events/s` : "";
  return [
    `${PHASES[phase]}${where}   ${clock(elapsedMs)} of ${phase === "load" || phase === "baseline" ? "" : "at most "}${clock(totalMs)}`,
    `  events/s   offered ${whole(row.offered_events_per_second)}   acknowledged ${whole(row.acknowledged_events_per_second)}   stored ${whole(row.stored_events_per_second)}   failed ${whole(row.failed_events_per_second)}`,
    `  lag        ${whole(row.lag_events)} events   stored after p50 ${whole(row.e2e_p50_ms)} ms, p99 ${whole(row.e2e_p99_ms)} ms`,
    `  replicas   producer ${whole(row.producer_replicas_ready)} of ${whole(row.producer_replicas_desired)}   processor ${whole(row.processor_replicas_ready)} of ${whole(row.processor_replicas_desired)}`,
    `  cores      producer ${tenth(row.producer_cpu_cores)}   processor ${tenth(row.processor_cpu_cores)}   kafka ${tenth(row.kafka_cpu_cores)}   influxdb ${tenth(row.influxdb_cpu_cores)}`,
  ];
}

/** The same in one line. */
export function progressLine({ phase, elapsedMs, stage, row }: Progress): string {
  const where = stage ? ` stage ${stage.index + 1}` : "";
  return (
    `${clock(elapsedMs)} ${PHASES[phase]}${where}: offered ${whole(row.offered_events_per_second)}, ` +
    `acknowledged ${whole(row.acknowledged_events_per_second)}, stored ${whole(row.stored_events_per_second)} events/s, ` +
    `lag ${whole(row.lag_events)}, p99 ${whole(row.e2e_p99_ms)} ms, ` +
    `producers ${whole(row.producer_replicas_ready)}, processors ${whole(row.processor_replicas_ready)}`
  );
}

export class LoadDisplay {
  #drawn = 0;
  #saidAt = Number.NEGATIVE_INFINITY;
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
      if (phase === this.#phase && now - this.#saidAt < PLAIN_EVERY_MS) return;
      this.#phase = phase;
      this.#saidAt = now;
      this.out.write(`${progressLine(progress)}\n`);
      return;
    }
    const width = (this.out.columns ?? 100) - 1;
    const lines = progressLines(progress).map((line) => line.slice(0, width));
    this.clear();
    this.out.write(`${lines.join("\n")}\n`);
    this.#drawn = lines.length;
  }

  /** Takes the block away, for what is printed next. */
  clear(): void {
    if (this.#drawn > 0) this.out.write(`\u001b[${this.#drawn}A\r\u001b[0J`);
    this.#drawn = 0;
  }
}
