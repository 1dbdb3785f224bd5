/**
 * The log canary: a pod writes numbered lines, the log store is queried for them, and the two sets are compared. A count alone
 * would accept a repeated line in place of a missing one.
 */
import { randomBytes } from "node:crypto";
import { OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { nsOfMs } from "../clients/log-backend.ts";
import type { LogEntry } from "../clients/log-search.ts";
import { openLogStore } from "../clients/log-store.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { podLog, withPod } from "../cluster/one-off-pods.ts";

/** From the last line written until all are found: the collector's longest back-off, the store's start, and a reserve. */
const DELIVERY_LIMIT_MS = 180_000;
/** Interval of the pod's writes, short enough for an even rate of thousands a second. */
const STEP_MS = 50;

export interface CanaryVerdict {
  run: string;
  written: number;
  found: number;
  /** Numbers that were written and not found, the first hundred. */
  missing: number[];
  missing_count: number;
  /** Lines beyond the first with the same number. */
  repeated: number;
  /** Numbers that were never written. */
  foreign: number;
  lost: boolean;
}

/** Numbers that a verdict lists. */
const NAMED_NUMBERS = 100;

/** Compares what was written (0 to `written` − 1) with the numbers found, in any order. */
export function judgeCanary(run: string, written: number, numbers: Iterable<number>): CanaryVerdict {
  const found = new Set<number>();
  let repeated = 0;
  let foreign = 0;
  for (const number of numbers) {
    if (!Number.isInteger(number) || number < 0 || number >= written) foreign++;
    else if (found.has(number)) repeated++;
    else found.add(number);
  }
  const missing: number[] = [];
  for (let number = 0; number < written; number++) if (!found.has(number)) missing.push(number);
  return {
    run,
    written,
    found: found.size,
    missing: missing.slice(0, NAMED_NUMBERS),
    missing_count: missing.length,
    repeated,
    foreign,
    lost: missing.length > 0,
  };
}

/** Numbers of the canary's lines, without its last line. */
export const numbersOf = (entries: readonly LogEntry[]): number[] =>
  entries.filter(({ event }) => event === "canary_line").map(({ seq }) => Number(seq));

/** The program of the pod: writes `lines` lines at `rate` a second, reports the end and waits. */
export function canaryProgram(run: string, lines: number, ratePerSecond: number): string {
  return `
    const write = (event, fields) => console.log(JSON.stringify({
      timestamp: new Date().toISOString(), level: "info", service: "log-canary", event, run: ${JSON.stringify(run)}, ...fields }));
    const startedAt = performance.now();
    let seq = 0;
    while (seq < ${lines}) {
      const due = Math.min(${lines}, Math.ceil((performance.now() - startedAt) / 1000 * ${ratePerSecond}));
      while (seq < due) write("canary_line", { seq: seq++, text: "a line of ordinary length, so that the volume is ordinary too" });
      await Bun.sleep(${STEP_MS});
    }
    write("canary_done", { written: seq });
    // The log files of a pod are deleted with it: it exists until the command deletes it.
    await Bun.sleep(3_600_000);
  `;
}

export interface CanaryOptions {
  image: string;
  lines: number;
  ratePerSecond: number;
  signal: AbortSignal;
  /** Called with the number of lines found. */
  onState?: (state: string) => void;
  /** Runs while the pod writes, for restarts of components. */
  meanwhile?: () => Promise<void>;
}

/** Writes, waits until all lines are found or the limit has passed, and compares. */
export async function runCanary(cluster: Cluster, options: CanaryOptions): Promise<CanaryVerdict> {
  const run = `canary-${randomBytes(5).toString("hex")}`;
  const startedMs = Date.now() - 60_000;
  const pod = {
    prefix: "log-canary",
    image: options.image,
    labels: {
      "app.kubernetes.io/name": "log-canary",
      "app.kubernetes.io/instance": "log-canary",
      "app.kubernetes.io/part-of": "conveyor",
    },
    command: ["bun", "-e", canaryProgram(run, options.lines, options.ratePerSecond)],
  };
  return await withPod(cluster, pod, options.signal, async (name) => {
    const [written] = await Promise.all([awaitWritten(cluster, name, options), options.meanwhile?.()]);
    let verdict = judgeCanary(run, written, []);
    try {
      await waitFor(
        async () => {
          verdict = judgeCanary(run, written, await findNumbers(cluster, run, startedMs, options.signal));
          return verdict.lost
            ? { done: false, state: `${verdict.found} of ${written} lines found` }
            : { done: true, value: verdict };
        },
        {
          what: `${written} canary lines in the log store`,
          limitMs: DELIVERY_LIMIT_MS,
          intervalMs: 1000,
          signal: options.signal,
          onState: options.onState,
        },
      );
    } catch (error) {
      // Lines that are missing at the limit are the verdict.
      if (options.signal.aborted || !(error instanceof OperatorError)) throw error;
    }
    return verdict;
  });
}

async function findNumbers(cluster: Cluster, run: string, startedMs: number, signal: AbortSignal): Promise<number[]> {
  // A port-forward ends with its pod, so each poll opens its own.
  await using store = await openLogStore(cluster);
  const numbers: number[] = [];
  const search = { services: [], levels: [], event: { run } };
  const range = { startNs: nsOfMs(startedMs), endNs: nsOfMs(Date.now() + 1000) };
  for await (const entries of store.all(search, range, signal)) for (const one of numbersOf(entries)) numbers.push(one);
  return numbers;
}

async function awaitWritten(cluster: Cluster, pod: string, options: CanaryOptions): Promise<number> {
  const limitMs = (options.lines / options.ratePerSecond) * 1000 * 2 + 60_000;
  return await waitFor(
    async () => {
      const last = (await podLog(cluster, pod, { lines: 1 })).split("\n").at(-1) ?? "";
      try {
        const line = JSON.parse(last) as { event?: string; seq?: number; written?: number };
        return line.event === "canary_done"
          ? { done: true, value: line.written! }
          : { done: false, state: `${line.seq ?? 0} lines written` };
      } catch {
        return { done: false, state: last.slice(0, 200) };
      }
    },
    {
      what: `${options.lines} lines to be written`,
      limitMs,
      intervalMs: 1000,
      signal: options.signal,
      onState: options.onState,
    },
  );
}
