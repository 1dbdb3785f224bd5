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
import { recordRun } from "../../../scripts/drills/run.ts";
import { CONVEYORS } from "../../../scripts/drills/traffic.ts";
import { createRun } from "../../../scripts/recording/run-folder.ts";
import { RunRecord, readRecord } from "../../../scripts/recording/run-record.ts";

const LINE_INTERVAL_MS = 50;
const SEEN = { producer: [], processor: [] };

/** Pods start at once; the observer prints healthy measurements, the sender acknowledged batches. */
class FakeCluster {
  readonly running = new Set<string>();
  readonly context = "fake";

  async kubectl(args: readonly string[], options: { input?: string } = {}) {
    if (args[0] === "create") this.running.add((JSON.parse(options.input!) as Pod).metadata.name);
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
    for (let seq = 0; !signal.aborted; seq++) {
      const t = Date.now();
      const lines = pod.startsWith("observer")
        ? [
            { t, row: { lag_events: 5, under_replicated_partitions: 0 }, since_start: {}, seen: SEEN },
            { t, newest: Object.fromEntries(CONVEYORS.map((name) => [name, t - 10])) },
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

test("an interrupt during a fault: healed, recorded, judged, pods removed", async () => {
  await using root = await mkdtempDisposable(join(tmpdir(), "conveyor-drills-run-"));
  const startedAtMs = Date.now();
  const folder = await createRun("drills", startedAtMs, root.path);
  const record = new RunRecord(folder.path("live.ndjson"));
  const cluster = new FakeCluster();
  const interrupt = new AbortController();
  let heals = 0;
  const drill: Drill = {
    ...{ name: "made-up", title: "t", hypothesis: "h", fault: "f", budgetMs: 5000, budgetReason: "of the test" },
    ...{ recoversFrom: "effect", holdMs: 0, workloads: ["processor"], commands: [["get", "pods"]] },
    prepare: async () => ({}),
    inject: async () => interrupt.abort(new Error("interrupted")),
    proveEffect: async () => undefined,
    heal: async () => {
      heals++;
    },
  };
  await recordRun({
    ...{ cluster: cluster as unknown as Cluster, image: "services", folder, record, startedAtMs, drills: [drill] },
    ...{ repeat: 1, timeLimitMs: 60_000, withoutFault: undefined, report, signal: interrupt.signal },
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
