/** The host's side of an observation: rows become columns, watch events become marks, runs get folders. */
import { describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Pod } from "../../../scripts/cluster/cluster.ts";
import { PodLedger } from "../../../scripts/recording/cluster-watch.ts";
import { parseRow, Recorder, withoutGuesses } from "../../../scripts/recording/observer.ts";
import { coresOf } from "../../../scripts/recording/pod-usage.ts";
import { createRun } from "../../../scripts/recording/run-folder.ts";

describe("Recorder", () => {
  test("columns are as long as the times, with gaps where a row says nothing", () => {
    const recorder = new Recorder(1000);
    expect(recorder.add(1000, { lag_events: 5 })).toBe(true);
    expect(recorder.add(2000, { stored_events_per_second: 7 })).toBe(true);
    expect(recorder.add(2000, { lag_events: 9 })).toBe(false);
    expect(recorder.add(3000, { lag_events: null, stored_events_per_second: 8 })).toBe(true);
    expect(recorder.recording).toEqual({
      startedAtMs: 1000,
      endedAtMs: 3000,
      timesMs: [1000, 2000, 3000],
      series: { lag_events: [5, null, null], stored_events_per_second: [null, 7, 8] },
      marks: [],
    });
  });

  test("marks of several sources stand in the order of their times", () => {
    const recorder = new Recorder(0);
    for (const timeMs of [30, 10, 20]) recorder.mark({ timeMs, kind: "note", subject: "", text: String(timeMs) });
    expect(recorder.recording.marks.map(({ timeMs }) => timeMs)).toEqual([10, 20, 30]);
  });
});

test("a row is told from a log line and from half a line", () => {
  expect(
    parseRow(
      '{"t":5,"row":{"lag_events":1},"since_start":{"e2e_p50_ms":2,"e2e_p99_ms":3},"seen":{"producer":["a"],"processor":[]}}',
    ),
  ).toEqual({
    timeMs: 5,
    row: { lag_events: 1 },
    sinceStart: { e2e_p50_ms: 2, e2e_p99_ms: 3 },
    seen: { producer: ["a"], processor: [] },
  });
  expect(parseRow('{"timestamp":"2026-11-25T00:00:00Z","event":"observing"}')).toBeUndefined();
  expect(parseRow('{"t":5,"row":{"lag_ev')).toBeUndefined();
});

test("a sum over some of the pods is not known; the other tier's is, and so are quantiles of what those few saw", () => {
  const row = { acknowledged_events_per_second: 9, stored_events_per_second: 5, e2e_p99_ms: 70, lag_events: 3 };
  const ready = { producer: ["p"], processor: ["a", "b"] };
  const of = (...processor: string[]) =>
    withoutGuesses(row, { producer: ["p"], processor }, (workload) => ready[workload]);
  expect(of("a")).toEqual({
    ...row,
    stored_events_per_second: null,
    processor_cpu_cores: null,
    processor_memory_mebibytes: null,
  });
  expect(of("a", "b")).toEqual(row);
  // One that is on its way out still works; it takes the place of none that is missing.
  expect(of("a", "b", "old")).toEqual(row);
  expect(of("a", "old")).toMatchObject({ stored_events_per_second: null });
});

const pod = (name: string, ready: boolean, more: { ending?: boolean; restarts?: number } = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name,
    uid: `uid-${name}`,
    labels: { "app.kubernetes.io/name": "processor" },
    ...(more.ending ? { deletionTimestamp: "2026-11-25T00:00:00Z" } : {}),
  },
  spec: { containers: [] },
  status: {
    phase: "Running",
    podIP: `address of ${name}`,
    conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
    containerStatuses: [{ name: "processor", ready, restartCount: more.restarts ?? 0, imageID: "", state: {} }],
  },
});

describe("PodLedger", () => {
  const watched = () => {
    const marks: string[] = [];
    const ready: string[] = [];
    const ledger = new PodLedger({
      onMark: (_, __, text) => marks.push(text),
      onReady: ({ name }) => ready.push(name),
    });
    return { ledger, marks, ready };
  };

  test("what is there at the beginning is no event; what comes later is", () => {
    const { ledger, marks, ready } = watched();
    ledger.sync([pod("a", true)], 0);
    expect(marks).toEqual([]);
    ledger.change(pod("b", false), 1);
    ledger.change(pod("b", true), 2);
    ledger.change(pod("b", true), 3);
    expect(marks).toEqual(["b was created", "b is Ready"]);
    expect(ready).toEqual(["b"]);
    expect(ledger.ready("processor")).toBe(2);
    expect(ledger.readyAddresses("processor")).toEqual(["address of a", "address of b"]);
  });

  test("a pod that is being deleted is not Ready, whatever its condition says", () => {
    const { ledger, marks } = watched();
    ledger.sync([pod("a", true)], 0);
    ledger.change(pod("a", true, { ending: true }), 1);
    expect(ledger.ready("processor")).toBe(0);
    ledger.delete(pod("a", false, { ending: true }), 2);
    expect(marks).toEqual(["a is being deleted", "a is gone"]);
    expect(ledger.of("processor")).toEqual([]);
  });

  test("a watch that began anew tells what went away meanwhile", () => {
    const { ledger, marks } = watched();
    ledger.sync([pod("a", true), pod("b", true)], 0);
    ledger.sync([pod("b", true, { restarts: 1 })], 1);
    expect(marks).toEqual(["a is gone", "b: its container was started again"]);
  });
});

test.each([
  ["125m", 0.125],
  ["2", 2],
  ["31000000n", 0.031],
  ["12u", 0.000012],
])("%s is %p cores", (quantity, cores) => {
  expect(coresOf(quantity)).toBeCloseTo(cores, 9);
});

test("a run gets a folder of its own, and its documents stand whole", async () => {
  const root = await mkdtemp(join(tmpdir(), "conveyor-runs-"));
  try {
    const now = Date.UTC(2026, 10, 25, 7, 15, 0, 250);
    const [first, second] = [await createRun("load-test", now, root), await createRun("load-test", now, root)];
    expect([first.id, second.id]).toEqual(["20261125T071500Z-load-test", "20261125T071500Z-load-test-2"]);
    await first.writeJson("result.json", { a: 1 });
    expect(JSON.parse(await readFile(first.path("result.json"), "utf8"))).toEqual({ a: 1 });
    expect(await readdir(first.folder)).toEqual(["result.json"]);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
