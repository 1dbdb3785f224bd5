/**
 * Records a run of drills in its folder:
 *
 *   live.ndjson          the record: rows, samples, marks, phases, problems
 *   senders/<run>.json   the ledger of each drill's sender: attempts and outcomes, batch by batch
 *   history/             what the audit read from Kafka and InfluxDB
 *   result.json          the verdicts (judge.ts), renewed after each drill
 */
import { randomBytes } from "node:crypto";
import type { LoadEvents } from "../../services/protocol/load-generator.ts";
import { recordRuns } from "../audit/audit-runs.ts";
import type { Report } from "../cli/report.ts";
import { pause } from "../cli/wait.ts";
import { ProbeSession } from "../clients/probe-session.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { readExternalStores } from "../cluster/external-stores.ts";
import { Observer, recordObservations } from "../recording/observer.ts";
import type { DrillResult } from "../recording/result.ts";
import { runFacts } from "../recording/run-facts.ts";
import type { RunFolder } from "../recording/run-folder.ts";
import type { RunRecord } from "../recording/run-record.ts";
import type { Drill } from "./drill.ts";
import { ClusterEnvironment } from "./environment.ts";
import { FaultAgents, removeNamespace } from "./fault-agents.ts";
import { HISTORY_FOLDER, judgeRun } from "./judge.ts";
import { recoveryText } from "./recovery.ts";
import { DRILL_LIMIT_MS, runDrill } from "./runner.ts";
import { CONVEYORS, type SenderLedger } from "./traffic.ts";

/** Interval of the rows. Recoveries are measured from the samples, which are finer. */
const TICK_MS = 500;
/** No drill starts later: a recording has a bounded number of rows, seven hours of two a second. */
export const MAX_RUN_MS = 6 * 3_600_000;
/** The pods of a run end this long after its planned length: the last drill, then the audit, half a minute per million events. */
const LIFETIME_SLACK_SECONDS = 3600;
/** Before the first event: clock differences, and events that are older than their request. */
const SINCE_SLACK_MS = 5000;

export interface RunOptions {
  cluster: Cluster;
  /** The deployed services' image. */
  image: string;
  folder: RunFolder;
  record: RunRecord;
  startedAtMs: number;
  drills: readonly Drill[];
  /** Version of the drills' own events. */
  events: LoadEvents;
  repeat: number;
  /** One drill starts in each interval of this length, in random order; one after the other when absent. */
  everyMs?: number | undefined;
  /** No further drill starts after this time; at most MAX_RUN_MS. */
  timeLimitMs: number;
  /** Name of the drill whose fault is skipped. */
  withoutFault: string | undefined;
  report: Report;
  signal: AbortSignal;
}

export interface RecordedRun {
  /** Drills that are not possible on this cluster, and why. */
  impossible: ReadonlyMap<string, string>;
  /** Possible drills, repeats included, or the intervals of the run. */
  planned: number;
}

/** For how long the pods of a run may live: its planned length, from which the kubelet ends those of a killed command. */
export function lifetimeSeconds({
  drills,
  repeat,
  everyMs,
  timeLimitMs,
}: Pick<RunOptions, "drills" | "repeat" | "everyMs" | "timeLimitMs">): number {
  const longestMs = everyMs === undefined ? drills.length * repeat * DRILL_LIMIT_MS : Number.POSITIVE_INFINITY;
  return Math.ceil(Math.min(timeLimitMs, longestMs) / 1000) + LIFETIME_SLACK_SECONDS;
}

/** Drills in their order with the number of their round, from 1, without end: each round has every drill once. */
export function* drillRounds<T>(
  drills: readonly T[],
  orderOf: (drills: readonly T[]) => readonly T[],
): Generator<{ drill: T; repeat: number }> {
  for (let repeat = 1; drills.length > 0; repeat++) for (const drill of orderOf(drills)) yield { drill, repeat };
}

/** The same elements in random order (Fisher-Yates). */
export function shuffled<T>(list: readonly T[]): T[] {
  const order = [...list];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1));
    [order[last], order[other]] = [order[other]!, order[last]!];
  }
  return order;
}

/** Runs the drills and records them. After an interrupt the pipeline is restored, and the record ends there. */
export async function recordRun(options: RunOptions): Promise<RecordedRun> {
  const run = await DrillsRun.open(options);
  try {
    return await run.record();
  } finally {
    await run.close();
  }
}

class DrillsRun {
  readonly #ledgers: SenderLedger[] = [];
  readonly #logLines: Promise<void>[] = [];
  readonly #endObservations: () => void;

  private constructor(
    private readonly options: RunOptions,
    private readonly environment: ClusterEnvironment,
    private readonly observer: Observer,
    private readonly checks: ProbeSession,
    /** Ends what an interrupt must not end, since healing needs it. */
    private readonly closed: AbortController,
  ) {
    const { onRow, onMark, watch } = observer;
    this.#endObservations = recordObservations({ onRow, onMark, pods: () => watch.pods.all() }, options.record);
  }

  static async open(options: RunOptions): Promise<DrillsRun> {
    const { cluster, image, folder, events, record } = options;
    const closed = new AbortController();
    const seconds = lifetimeSeconds(options);
    const newest = { newestOf: CONVEYORS, newestEvents: events };
    const observed = { image, run: folder.id, tickMs: TICK_MS, ...newest, lifetimeSeconds: seconds };
    const observer = await options.report.step("observer", () => Observer.start(cluster, observed, closed.signal));
    const agents = new FaultAgents(cluster, image, seconds);
    const checks = new ProbeSession(cluster, image, closed.signal, seconds);
    const environment = new ClusterEnvironment({
      ...{ cluster, image, folder: folder.id, events },
      ...{ observer, agents, checks, record },
    });
    return new DrillsRun(options, environment, observer, checks, closed);
  }

  async record(): Promise<RecordedRun> {
    const { cluster, folder, record, startedAtMs, events, drills, report, signal } = this.options;
    const facts = await runFacts(cluster, { id: folder.id, kind: "drills", startedAtMs, events });
    record.append({ timeMs: Date.now(), facts });
    const impossible = await report.step("possible drills", () => this.#obstacles(drills));
    for (const [name, reason] of impossible) report.warn(`not possible here: ${name}: ${reason}`);
    const possible = drills.filter(({ name }) => !impossible.has(name));
    const planned = await this.#runDrills(possible);
    await Promise.all(this.#logLines);
    if (!signal.aborted) await this.#recordHistory();
    // No row of the observer follows the end of the run.
    this.#endObservations();
    record.append({ timeMs: Date.now(), ended: { interrupted: signal.aborted } });
    await record.flush();
    return { impossible, planned };
  }

  /** Runs the drills until the last one or the time limit. @returns the number of planned ones */
  async #runDrills(possible: readonly Drill[]): Promise<number> {
    const { startedAtMs, everyMs, timeLimitMs, repeat, report, signal } = this.options;
    const intervals = everyMs === undefined ? repeat * possible.length : Math.ceil(timeLimitMs / everyMs);
    const count = possible.length === 0 ? 0 : intervals;
    const firstMs = Date.now();
    let number = 0;
    for (const next of drillRounds(possible, everyMs === undefined ? (drills) => drills : shuffled)) {
      if (number === count) break;
      number++;
      if (everyMs !== undefined) await this.#awaitInterval(firstMs + (number - 1) * everyMs, number, count);
      if (signal.aborted || Date.now() - startedAtMs > timeLimitMs) break;
      if (await this.#runDrill(next.drill, next.repeat, number, count)) continue;
      // Another fault on top of one that is still there would destroy more, and prove nothing.
      report.warn(
        `${next.drill.name} could not be undone: no further drill is started; bun scripts/resilience-test.ts --heal`,
      );
      break;
    }
    return count;
  }

  /** Waits for the begin of an interval; not at all when the drill before took longer. An interrupt ends the wait. */
  async #awaitInterval(dueMs: number, number: number, count: number): Promise<void> {
    const { report, record, signal } = this.options;
    const timeMs = Date.now();
    if (timeMs >= dueMs) return;
    record.append({ timeMs, waiting: { number, count, dueMs } });
    await report.step(`wait for drill ${number} of ${count}`, async (step) => {
      step.update(`due at ${new Date(dueMs).toISOString().slice(11, 19)} UTC`);
      await pause(dueMs - timeMs, signal).catch(() => {});
    });
  }

  async close(): Promise<void> {
    this.#endObservations();
    await Promise.allSettled([this.observer.close(), removeNamespace(this.options.cluster)]);
    this.closed.abort();
    await this.checks.close().catch(() => {});
  }

  /** Why each drill that is not possible here is not. */
  async #obstacles(drills: readonly Drill[]): Promise<Map<string, string>> {
    const { cluster, signal } = this.options;
    const external = Object.keys(await readExternalStores(cluster));
    const found = new Map<string, string>();
    for (const drill of drills) {
      const foreign = drill.workloads.filter((workload) => external.includes(workload));
      if (foreign.length > 0) {
        found.set(drill.name, `${foreign.join(", ")} is external: its owner decides about faults`);
        continue;
      }
      const missing: string[] = [];
      for (const workload of drill.workloads) {
        if ((await cluster.pods(workload)).length === 0) missing.push(workload);
      }
      const reason =
        missing.length > 0
          ? `${missing.join(", ")} is not deployed here`
          : await drill.obstacle?.(this.environment.context(signal));
      if (reason) found.set(drill.name, reason);
    }
    return found;
  }

  /** One drill, as a step of the terminal; its verdict is the judge's. @returns whether it was undone */
  async #runDrill(drill: Drill, repeat: number, number: number, count: number): Promise<boolean> {
    const { folder, record, report, signal, withoutFault } = this.options;
    const repeats = this.options.repeat > 1 ? ` (${repeat} of ${this.options.repeat})` : "";
    const title =
      this.options.everyMs === undefined ? `${drill.name}${repeats}` : `${drill.name} (${number} of ${count})`;
    return await report.step(title, async (step) => {
      const end = record.onEntry(({ phase }) => phase && step.update(`${phase.name}: ${phase.detail}`));
      const run = `drill-${drill.name}-${repeat}-${randomBytes(3).toString("hex")}`;
      const options = { number, count, repeat, run, withoutFault: withoutFault === drill.name };
      const ran = await runDrill(drill, this.environment, options, signal).finally(end);
      const { startedAtMs, endedAtMs, ledger, isRestored } = ran;
      if (ledger) {
        this.#ledgers.push(ledger);
        await folder.writeJson(`senders/${run}.json`, ledger);
      }
      // Collected while the next drill prepares.
      this.#logLines.push(this.#recordLogLines(number, startedAtMs, endedAtMs));
      const result = await this.#judge();
      step.update(verdictText(result));
      return isRestored;
    });
  }

  async #recordLogLines(number: number, fromMs: number, toMs: number): Promise<void> {
    if (this.options.signal.aborted) return;
    const lines = await this.environment.logLines(fromMs, toMs).catch(() => []);
    this.environment.record({ drillLogLines: { number, lines } });
  }

  /** Renews result.json. @returns the newest drill's result. */
  async #judge(): Promise<DrillResult> {
    const { folder, record } = this.options;
    await record.flush();
    const judged = await judgeRun(folder);
    await folder.writeJson("result.json", judged);
    const result = judged.drills.at(-1)!;
    const { name, title, repeat, verdict, recovery } = result;
    this.environment.record({ finished: { name, title, repeat, verdict, recovery } });
    return result;
  }

  async #recordHistory(): Promise<void> {
    if (this.#ledgers.length === 0) return;
    const { cluster, folder, startedAtMs, report, signal } = this.options;
    await recordRuns(cluster, {
      sinceMs: startedAtMs - SINCE_SLACK_MS,
      runs: this.#ledgers.map(({ run }) => run),
      outcomes: this.#ledgers.flatMap(({ outcomes }) => outcomes),
      resent: this.#ledgers.reduce((sum, { again }) => sum + again, 0),
      folder: folder.path(HISTORY_FOLDER),
      report,
      signal,
      context: this.checks,
    });
  }
}

function verdictText({ verdict, recovery, reasons }: DrillResult): string {
  const recovered = recovery ? `, recovered in ${recoveryText(recovery)}` : "";
  return `${verdict}${recovered}${reasons.length > 0 ? `: ${reasons.join("; ")}` : ""}`;
}
