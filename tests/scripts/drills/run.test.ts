/**
 * Goal: an interrupted run leaves a complete record, a result judged from it, and no pod. Method: a cluster by hand whose
 * observer and sender print lines as the real ones do.
 */
import { expect, test } from "bun:test";
import { mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Report } from "../../../scripts/cli/report.ts";
import type { Cluster, Pod } from "../../../scripts/cluster/cluster.ts";
import type { Drill } from "../../../scripts/drills/drill.ts";
import { judgeRun } from "../../../scripts/drills/judge.ts";
import { drillRounds, lifetimeSeconds, recordRun, shuffled } from "../../../scripts/drills/run.ts";
import { DRILL_LIMIT_MS } from "../../../scripts/drills/runner.ts";
import { CONVEYORS } from "../../../scripts/drills/traffic.ts";
import { createRun } from "../../../scripts/recording/run-folder.ts";
import { RunRecord, readRecord } from "../../../scripts/recording/run-record.ts";

const LINE_INTERVAL_MS = 50;
const INTERVAL_MS = 2000;
const SEEN = { producer: [], processor: [] };

/** Pods start at once; the observer prints healthy measurements, the sender acknowledged batches. */
class FakeCluster {
  readonly running = new Set<string>();
  /** Name → activeDeadlineSeconds, of every pod so far. */
  readonly lifetimes = new Map<string, number>();
  readonly context = "fake";

  async kubectl(args: readonly string[], options: { input?: string } = {}) {
    if (args[0] === "create") {
      const { metadata, spec } = JSON.parse(options.input!) as Pod & { spec: { activeDeadlineSeconds: number } };
      this.running.add(metadata.name);
      this.lifetimes.set(metadata.name, spec.activeDeadlineSeconds);
    }
    if (args[0] === "delete" && args[1] === "pod") this.running.delete(args[2]!);
    return { stdout: "", stderr: "", exitCode: 0 };
  }
  get = async (_kind: string, name: string) =>
    this.running.has(name) ? { metadata: { name }, status: { phase: "Running" } } : undefined;
  json = async () => ({ items: [] });
  list = async () => [];
  pods = async () => [{}];

  async *watch(_path: string, signal: AbortSignal) {
    yield { type: "SYNC", objects: [] };
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }

  async *follow(pod: string, parse: (line: string) => unknown, signal: AbortSignal) {
    let sampledMs = Date.now();
    for (let seq = 0; !signal.aborted; seq++) {
      const t = Date.now();
      // A busy machine delays lines, and leaves none out.
      const sampleTimes: number[] = [];
      for (; sampledMs < t; sampledMs += LINE_INTERVAL_MS) sampleTimes.push(sampledMs);
      const lines = pod.startsWith("observer")
        ? [
            { t, row: { lag_events: 5, under_replicated_partitions: 0 }, since_start: {}, seen: SEEN },
            ...sampleTimes.map((at) => ({
              t: at,
              newest: Object.fromEntries(CONVEYORS.map((name) => [name, at - 10])),
            })),
          ]
        : [
            { attempt: [CONVEYORS[0], seq, seq], t },
            { outcome: "ok", batch: [CONVEYORS[0], seq, seq], t },
          ];
      for (const line of lines) {
        const parsed = parse(JSON.stringify(line));
        if (parsed !== undefined) yield parsed;
      }
      await Bun.sleep(LINE_INTERVAL_MS);
    }
  }
}

const report = {
  step: (_title: string, work: (step: { update(): void }) => unknown) => work({ update: () => {} }),
  warn: () => {},
  info: () => {},
} as unknown as Report;

const madeUp = (name: string): Drill => ({
  ...{ name, title: "t", hypothesis: "h", fault: "f", budgetMs: 5000, budgetReason: "of the test" },
  ...{ recoversFrom: "effect", holdMs: 0, workloads: ["processor"], commands: [["get", "pods"]] },
  prepare: async () => ({}),
  inject: async () => {},
  proveEffect: async () => undefined,
  heal: async () => {},
});

/** An empty run in a folder, and a cluster to run it on. */
async function newRun(root: string) {
  const startedAtMs = Date.now();
  const folder = await createRun("drills", startedAtMs, root);
  return { startedAtMs, folder, record: new RunRecord(folder.path("live.ndjson")), cluster: new FakeCluster() };
}

test("an interrupt during a fault: healed, recorded, judged, pods removed", async () => {
  await using root = await mkdtempDisposable(join(tmpdir(), "conveyor-drills-run-"));
  const { startedAtMs, folder, record, cluster } = await newRun(root.path);
  const interrupt = new AbortController();
  let heals = 0;
  const drill: Drill = {
    ...madeUp("made-up"),
    inject: async () => interrupt.abort(new Error("interrupted")),
    heal: async () => {
      heals++;
    },
  };
  await recordRun({
    ...{ cluster: cluster as unknown as Cluster, image: "services", folder, record, startedAtMs, drills: [drill] },
    ...{ events: "v1", repeat: 1, timeLimitMs: 60_000, withoutFault: undefined, report, signal: interrupt.signal },
  });
  await record.close();
  expect(heals).toBe(1);
  expect([...cluster.running]).toEqual([]);
  const entries = await readRecord(folder.path("live.ndjson"));
  expect(entries.filter(({ sample }) => sample).length).toBeGreaterThan(20);
  expect(entries.at(-1)!.ended).toEqual({ interrupted: true });
  const result = await judgeRun(folder);
  expect(result).toMatchObject({ passed: false, facts: { interrupted: true } });
  expect(result.drills).toMatchObject([{ name: "made-up", verdict: "interrupted", beats: [{ name: "before" }] }]);
  expect(result.drills[0]!.recording.series.lag_events).toContain(5);
  const files = await readdir(folder.folder);
  expect(files.toSorted()).toEqual(["live.ndjson", "result.json", "senders"]);
}, 60_000);

test("no drill is started after one that could not be undone", async () => {
  await using root = await mkdtempDisposable(join(tmpdir(), "conveyor-drills-run-"));
  const { startedAtMs, folder, record, cluster } = await newRun(root.path);
  const broken: Drill = {
    ...madeUp("broken"),
    inject: async () => {
      throw new Error("the agent was killed");
    },
    restore: async () => {
      throw new Error("the volume is still the small one");
    },
  };
  const warnings: string[] = [];
  await recordRun({
    ...{ cluster: cluster as unknown as Cluster, image: "services", folder, record, startedAtMs },
    ...{ drills: [broken, madeUp("next")], events: "v1", repeat: 1, timeLimitMs: 60_000, withoutFault: undefined },
    ...{ report: { ...report, warn: (text) => warnings.push(text) }, signal: new AbortController().signal },
  });
  await record.close();
  const { drills, passed } = await judgeRun(folder);
  expect([passed, drills.map(({ name, verdict }) => [name, verdict])]).toEqual([false, [["broken", "failed"]]]);
  expect(drills[0]!.reasons.join()).toContain("the volume is still the small one");
  expect(warnings.join()).toContain("broken could not be undone: no further drill is started");
}, 60_000);

test("--every: each drill at its time, one that is late at once; an interrupt ends the wait; nothing is sampled in it", async () => {
  await using root = await mkdtempDisposable(join(tmpdir(), "conveyor-drills-run-"));
  const { startedAtMs, folder, record, cluster } = await newRun(root.path);
  const interrupt = new AbortController();
  let prepared = 0;
  const fail = async () => {
    // The first drill takes longer than two intervals.
    if (++prepared === 1) await Bun.sleep(2.1 * INTERVAL_MS);
    throw new Error("it ends here");
  };
  const drills = ["a", "b"].map((name) => ({ ...madeUp(name), prepare: fail }));
  let rows = Number.NEGATIVE_INFINITY;
  record.onEntry(({ waiting, row, drill }) => {
    if (drill) rows = Number.NEGATIVE_INFINITY;
    if (waiting && waiting.number > 4) rows = 0;
    if (row && ++rows === 5) interrupt.abort(new Error("interrupted"));
  });
  const every = { everyMs: INTERVAL_MS, timeLimitMs: 20 * INTERVAL_MS, repeat: 1, withoutFault: undefined };
  const run = await recordRun({
    ...{ cluster: cluster as unknown as Cluster, image: "services", folder, record, startedAtMs, drills },
    ...{ ...every, events: "v1", report, signal: interrupt.signal },
  });
  await record.close();
  expect(run.planned).toBe(20);
  const entries = await readRecord(folder.path("live.ndjson"));
  const starts = entries.filter((entry) => entry.drill);
  expect(starts.slice(0, 4).map(({ drill }) => [drill!.number, drill!.count, drill!.repeat])).toEqual([
    [1, 20, 1],
    [2, 20, 1],
    [3, 20, 2],
    [4, 20, 2],
  ]);
  expect(
    starts
      .slice(0, 2)
      .map(({ drill }) => drill!.name)
      .toSorted(),
  ).toEqual(["a", "b"]);
  for (const [index, { timeMs }] of starts.entries()) {
    expect(timeMs - starts[0]!.timeMs).toBeGreaterThanOrEqual(index * INTERVAL_MS - 50);
  }
  const waits = entries.flatMap(({ timeMs, waiting }) => (waiting ? [{ ...waiting, timeMs }] : []));
  expect(waits.map(({ number }) => number).filter((number) => number < 4)).toEqual([]);
  for (const { timeMs, dueMs } of waits) expect(dueMs - timeMs).toBeLessThanOrEqual(INTERVAL_MS);
  // Rows go on in a wait, samples do not.
  const inWait = entries.slice(entries.findLastIndex(({ waiting }) => waiting));
  expect(inWait.filter(({ row }) => row).length).toBeGreaterThan(3);
  expect(inWait.filter(({ sample }) => sample)).toEqual([]);
  expect(entries.at(-1)!.ended).toEqual({ interrupted: true });
  const lifetimes = (prefix: string) =>
    [...cluster.lifetimes].flatMap(([name, s]) => (name.startsWith(prefix) ? [s] : []));
  expect(lifetimes("observer")).toEqual([lifetimeSeconds({ drills, ...every })]);
  // A sender lives longer than any drill.
  for (const seconds of lifetimes("load-generator")) expect(seconds * 1000).toBeGreaterThan(DRILL_LIMIT_MS);
}, 60_000);

test("drillRounds: every drill once before any a second time, each round in its own order", () => {
  const drills = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const seen = [...drillRounds(drills, shuffled).take(800)];
  const rounds = [...Map.groupBy(seen, ({ repeat }) => repeat).values()].map((round) =>
    round.map(({ drill }) => drill),
  );
  expect(rounds.length).toBe(100);
  for (const round of rounds) expect(round.toSorted()).toEqual(drills);
  expect(new Set(rounds.map((round) => round.join())).size).toBeGreaterThan(90);
  for (const drill of drills) expect(rounds.some((round) => round[0] === drill)).toBe(true);
  expect([...drillRounds([], shuffled)]).toEqual([]);
});

test("lifetimeSeconds: the pods of a run live for its planned length, one drill and the audit", () => {
  const drills = Array.from({ length: 20 }, (_, index) => madeUp(String(index)));
  const hours = (count: number) => count * 3600;
  const lifetime = (options: { repeat?: number; everyMs?: number; timeLimitMs?: number }) =>
    lifetimeSeconds({ drills, repeat: 1, timeLimitMs: hours(6) * 1000, ...options });
  expect(lifetime({})).toBe(hours(5 + 1));
  expect(lifetime({ repeat: 100 })).toBe(hours(6 + 1));
  expect(lifetime({ timeLimitMs: hours(2) * 1000, everyMs: 300_000 })).toBe(hours(2 + 1));
});
