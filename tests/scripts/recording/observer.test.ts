/** Goal: rows become columns, watch events become marks, both reach the record. Method: rows and pods by hand. */
import { describe, expect, test } from "bun:test";
import { appendFile, mkdtempDisposable, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Pod } from "../../../scripts/cluster/cluster.ts";
import { PodLedger, type PodState } from "../../../scripts/recording/cluster-watch.ts";
import { type ObservationSource, recordObservations, withoutPartialSums } from "../../../scripts/recording/observer.ts";
import { quantity } from "../../../scripts/recording/pod-usage.ts";
import { type Mark, RecordingBuilder, sliceRecording } from "../../../scripts/recording/recording.ts";
import { RepeatedLines } from "../../../scripts/recording/repeated-lines.ts";
import { createRun } from "../../../scripts/recording/run-folder.ts";
import { type RecordEntry, RunRecord, readRecord } from "../../../scripts/recording/run-record.ts";
import { parseObserverLine } from "../../../services/protocol/observer.ts";

describe("RecordingBuilder", () => {
  test("has columns as long as the times, with null where a row lacks a value", () => {
    const builder = new RecordingBuilder(1000);
    expect(builder.add(1000, { lag_events: 5 })).toBe(true);
    expect(builder.add(2000, { stored_events_per_second: 7 })).toBe(true);
    expect(builder.add(2000, { lag_events: 9 })).toBe(false);
    expect(builder.add(3000, { lag_events: null, stored_events_per_second: 8 })).toBe(true);
    expect(builder.recording).toEqual({
      startedAtMs: 1000,
      endedAtMs: 3000,
      timesMs: [1000, 2000, 3000],
      series: { lag_events: [5, null, null], stored_events_per_second: [null, 7, 8] },
      marks: [],
    });
  });

  test("keeps marks of several sources in the order of their times", () => {
    const builder = new RecordingBuilder(0);
    for (const timeMs of [30, 10, 20]) builder.mark({ timeMs, kind: "note", subject: "", text: String(timeMs) });
    expect(builder.recording.marks.map(({ timeMs }) => timeMs)).toEqual([10, 20, 30]);
  });
});

test("parseObserverLine skips log lines and truncated lines", () => {
  const row =
    '{"t":5,"row":{"lag_events":1},"since_start":{"e2e_p50_ms":2,"e2e_p99_ms":3},"seen":{"producer":["a"],"processor":[]}}';
  expect(parseObserverLine(row)).toEqual(JSON.parse(row));
  expect(parseObserverLine('{"t":5000,"newest":{"drill-0":4000}}')).toEqual({ t: 5000, newest: { "drill-0": 4000 } });
  expect(parseObserverLine('{"t":5000,"why":"ConnectionRefused: no"}')).toEqual({
    t: 5000,
    why: "ConnectionRefused: no",
  });
  expect(parseObserverLine('{"timestamp":"2026-11-25T00:00:00Z","event":"observing"}')).toBeUndefined();
  expect(parseObserverLine('{"t":5,"row":{"lag_ev')).toBeUndefined();
  expect(parseObserverLine("error: no such file")).toBeUndefined();
});

test("sliceRecording keeps only rows and marks of its range", () => {
  const mark = (timeMs: number) => ({ timeMs, kind: "note" as const, subject: "x", text: "y" });
  const recording = {
    startedAtMs: 0,
    endedAtMs: 3000,
    timesMs: [0, 1000, 2000, 3000],
    series: { lag_events: [1, 2, null, 4] },
    marks: [mark(500), mark(1500), mark(2500)],
  };
  expect(sliceRecording(recording, 1000, 2000)).toEqual({
    startedAtMs: 1000,
    endedAtMs: 2000,
    timesMs: [1000, 2000],
    series: { lag_events: [2, null] },
    marks: [mark(1500)],
  });
  expect(sliceRecording(recording, 5000, 6000).timesMs).toEqual([]);
});

test("RepeatedLines accepts two lines of a pod that differ only in their numbers", () => {
  const lines = Array.from({ length: 50 }, (_, n) => ({ pod: "kafka-0", line: `07:3${n}: node 1 is away (try ${n})` }));
  const others = [
    { pod: "kafka-1", line: "07:31: node 1 is away (try 1)" },
    { pod: "kafka-0", line: "disk full" },
  ];
  const repeated = new RepeatedLines();
  expect([...lines, ...others].filter((line) => repeated.accepts(line))).toEqual([lines[0]!, lines[1]!, ...others]);
});

test("recordObservations appends rows, marks, and pods when they have changed", () => {
  const entries: RecordEntry[] = [];
  let onRow: Parameters<ObservationSource["onRow"]>[0] = () => {};
  let onMark: (mark: Mark) => void = () => {};
  let pods: PodState[] = [
    { name: "processor-a", uid: "1", workload: "processor", address: "a", ready: true, ending: false, restarts: 0 },
  ];
  recordObservations(
    {
      onRow: (listener) => {
        onRow = listener;
        return () => {};
      },
      onMark: (listener) => {
        onMark = listener;
        return () => {};
      },
      pods: () => pods,
    },
    { append: (entry) => void entries.push(entry) },
  );
  onRow(1000, { lag_events: 1 });
  onRow(2000, { lag_events: 2 });
  pods = [{ ...pods[0]!, ending: true, ready: false }];
  onMark({ timeMs: 2500, kind: "pod", subject: "pod/processor-a", text: "processor-a is being deleted" });
  const keys = entries.map((entry) => Object.keys(entry).filter((key) => key !== "timeMs"));
  expect(keys.map((names) => names.join())).toEqual(["pods", "row", "row", "marksAdded", "pods"]);
  expect(entries[4]!.pods).toEqual([{ name: "processor-a", workload: "processor", state: "ending", restarts: 0 }]);
});

describe("RunRecord", () => {
  test("readRecord returns every entry in the order of its append, without a truncated last line", async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-record-"));
    const path = join(folder.path, "live.ndjson");
    const record = new RunRecord(path);
    record.append({ timeMs: 2, row: { lag_events: 7 } });
    record.append({ timeMs: 1, beat: "fault" });
    await record.close();
    await appendFile(path, '{"timeMs":3,"ro');
    expect(await readRecord(path)).toEqual([
      { timeMs: 2, row: { lag_events: 7 } },
      { timeMs: 1, beat: "fault" },
    ]);
  });

  test("reports a file that cannot be written once, and still notifies its listeners", async () => {
    const errors: string[] = [];
    const record = new RunRecord("/no/such/folder/live.ndjson", (message) => void errors.push(message));
    let entries = 0;
    record.onEntry(() => {
      entries += 1;
    });
    record.append({ timeMs: 1 });
    await record.flush();
    record.append({ timeMs: 2 });
    await record.close();
    expect(entries).toBe(2);
    expect(errors).toEqual([expect.stringContaining("ENOENT")]);
  });
});

test("withoutPartialSums removes sums over some of the pods, and keeps the other tier and quantiles", () => {
  const row = { acknowledged_events_per_second: 9, stored_events_per_second: 5, e2e_p99_ms: 70, lag_events: 3 };
  const ready = { producer: ["p"], processor: ["a", "b"] };
  const of = (...processor: string[]) =>
    withoutPartialSums(row, { producer: ["p"], processor }, (workload) => ready[workload]);
  expect(of("a")).toEqual({
    ...row,
    stored_events_per_second: null,
    processor_cpu_cores: null,
    processor_memory_mebibytes: null,
  });
  expect(of("a", "b")).toEqual(row);
  // A terminating pod still works, and does not replace a missing one.
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

  test("marks changes, not the pods of the first list", () => {
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

  test("a terminating pod is not Ready, whatever its condition", () => {
    const { ledger, marks } = watched();
    ledger.sync([pod("a", true)], 0);
    ledger.change(pod("a", true, { ending: true }), 1);
    expect(ledger.ready("processor")).toBe(0);
    ledger.delete(pod("a", false, { ending: true }), 2);
    expect(marks).toEqual(["a is being deleted", "a was deleted"]);
    expect(ledger.of("processor")).toEqual([]);
  });

  test("marks pods that were deleted while the watch was reconnecting", () => {
    const { ledger, marks } = watched();
    ledger.sync([pod("a", true), pod("b", true)], 0);
    ledger.sync([pod("b", true, { restarts: 1 })], 1);
    expect(marks).toEqual(["a was deleted", "b: its container was restarted"]);
  });
});

test.each([
  ["125m", 0.125],
  ["2", 2],
  ["31000000n", 0.031],
  ["12u", 0.000012],
  ["1k", 1000],
  ["1500m", 1.5],
  ["24Ki", 24_576],
])("quantity: %s is %p", (text, number) => {
  expect(quantity(text)).toBeCloseTo(number, 9);
});

test("createRun makes a folder per run, without temporary files in it", async () => {
  await using folder = await mkdtempDisposable(join(tmpdir(), "conveyor-runs-"));
  const root = folder.path;
  const now = Date.UTC(2026, 10, 25, 7, 15, 0, 250);
  const [first, second] = [await createRun("load-test", now, root), await createRun("load-test", now, root)];
  expect([first.id, second.id]).toEqual(["20261125T071500Z-load-test", "20261125T071500Z-load-test-2"]);
  await first.writeJson("result.json", { a: 1 });
  expect(JSON.parse(await readFile(first.path("result.json"), "utf8"))).toEqual({ a: 1 });
  expect(await readdir(first.folder)).toEqual(["result.json"]);
});
