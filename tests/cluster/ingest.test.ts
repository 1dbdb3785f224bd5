/** scripts/ingest.ts with files of known content: identities in InfluxDB and dead letters must match the file. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "../../scripts/cli/wait.ts";
import type { StoredRun } from "../../scripts/clients/influxdb.ts";
import { KAFKA, ProbeSession, readBy } from "../../scripts/clients/probe-session.ts";
import { deployedServicesImage } from "../../scripts/cluster/services-image.ts";
import type { IngestResult } from "../../services/protocol/final-document.ts";
import { cluster, describeOnCluster, newRun, scriptDocument, testEvent } from "./harness.ts";

const CONVEYORS = 10;
/** The processor stores a backlog of 100,000 events in a few seconds. */
const STORE_LIMIT_MS = 120_000;
/** More than kubectl reads before its input: kubeconfig and certificates. */
const ATTACHED_BYTES = 2_000_000;

let folder = "";
let context: ProbeSession;

async function storedOf(run: string, startMs: number, endMs: number, expected: number): Promise<StoredRun> {
  const store = await context.store();
  return await waitFor(
    async () => {
      const found = await store.run(run, startMs, endMs);
      return found.points >= expected
        ? { done: true, value: found }
        : { done: false, state: `${found.points} of ${expected} points` };
    },
    { what: `run ${run} in InfluxDB`, limitMs: STORE_LIMIT_MS, intervalMs: 2000 },
  );
}

async function ingestFile(path: string): Promise<IngestResult> {
  return await scriptDocument<IngestResult>(["scripts/ingest.ts", path, "--local"]);
}

/** The `kubectl attach` of an ingest, once it has read a part of the input. */
async function attachOf(ingestPid: number): Promise<number> {
  return await waitFor(
    async () => {
      for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
        const [stat, command, io] = await Promise.all(
          ["stat", "cmdline", "io"].map((file) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "")),
        );
        // After the name in parentheses: state, process ID of the parent.
        const parent = Number(stat!.slice(stat!.lastIndexOf(")") + 2).split(" ")[1]);
        if (parent !== ingestPid || !command!.includes("\0attach\0")) continue;
        const [, bytes = "0"] = /^rchar: (\d+)$/m.exec(io!) ?? [];
        if (Number(bytes) >= ATTACHED_BYTES) return { done: true, value: Number(pid) };
      }
      return { done: false, state: "no attached input" };
    },
    { what: "kubectl attach to read the input", limitMs: STORE_LIMIT_MS, intervalMs: 50 },
  );
}

describeOnCluster("ingest", () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-ingest-"));
    const target = await cluster();
    context = new ProbeSession(target, await deployedServicesImage(target), new AbortController().signal);
  });
  afterAll(async () => {
    await context?.close();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  test("stores 100,000 events of a file, each identity once", async () => {
    const count = 100_000;
    const run = newRun("file");
    const endMs = Date.now();
    const startMs = endMs - count / CONVEYORS;
    const lines: string[] = [];
    for (let index = 0; index < count; index++) {
      const seq = Math.floor(index / CONVEYORS);
      lines.push(JSON.stringify(testEvent(run, `test-${index % CONVEYORS}`, seq, startMs + seq)));
    }
    const path = join(folder, "events.ndjson");
    await Bun.write(path, `${lines.join("\n")}\n`);
    const ingested = await ingestFile(path);
    expect(ingested).toMatchObject({ read: count, acknowledged: count, refused: 0, failed: 0 });
    const stored = await storedOf(run, startMs, endMs + 1, count);
    expect(stored).toMatchObject({ points: count, duplicates: 0 });
    expect(stored.sequences.size).toBe(CONVEYORS);
    for (const [conveyor, sequences] of stored.sequences) {
      expect([conveyor, sequences.size, Math.min(...sequences), Math.max(...sequences)]).toEqual([
        conveyor,
        count / CONVEYORS,
        0,
        count / CONVEYORS - 1,
      ]);
    }
  }, 300_000);

  test("a connection cut in the middle: exit 1 with what was acknowledged; the same events sent again are complete", async () => {
    const count = 50_000;
    const run = newRun("cut");
    const startMs = Date.now() - count;
    const lines = Array.from(
      { length: count },
      (_, seq) => `${JSON.stringify(testEvent(run, "test-2", seq, startMs + seq))}\n`,
    );
    const ingest = Bun.spawn([process.execPath, "scripts/ingest.ts", "-", "--local", "--json"], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "ignore",
    });
    try {
      ingest.stdin.write(lines.slice(0, count / 2).join(""));
      await ingest.stdin.flush();
      process.kill(await attachOf(ingest.pid), "SIGKILL");
      expect(await ingest.exited).toBe(1);
    } finally {
      ingest.kill();
    }
    const cut = (await new Response(ingest.stdout).json()) as IngestResult & { error: string };
    expect(cut).toMatchObject({ input_complete: false, error: expect.stringContaining("the input was cut") });
    expect(cut.acknowledged).toBeLessThan(count);

    const path = join(folder, "cut.ndjson");
    await Bun.write(path, lines.join(""));
    expect(await ingestFile(path)).toMatchObject({ read: count, acknowledged: count, input_complete: true });
    const stored = await storedOf(run, startMs, Date.now() + 1, count);
    expect(stored).toMatchObject({ points: count, duplicates: 0 });
  }, 300_000);

  /** Twelve kinds of invalid lines, each with its dead-letter reason. */
  const KINDS: [reason: string, line: (run: string, seq: number) => string][] = (() => {
    const event = (run: string, seq: number) => testEvent(run, "test-0", seq, Date.now());
    const without = (object: object, field: string) =>
      Object.fromEntries(Object.entries(object).filter(([name]) => name !== field));
    return [
      ["malformed_json", (run, seq) => JSON.stringify(event(run, seq)).slice(0, -1)],
      ["not_an_object", (run, seq) => JSON.stringify([run, seq])],
      ["wrong_version", (run, seq) => JSON.stringify({ ...event(run, seq), v: 3 })],
      ["missing_field", (run, seq) => JSON.stringify(without(event(run, seq), "load_kg"))],
      ["unknown_field", (run, seq) => JSON.stringify({ ...event(run, seq), colour: "red" })],
      ["wrong_type", (run, seq) => JSON.stringify({ ...event(run, seq), speed_mps: "fast" })],
      ["out_of_range", (run, seq) => JSON.stringify({ ...event(run, seq), motor_temp_c: 100_000 })],
      ["bad_conveyor", (run, seq) => JSON.stringify({ ...event(run, seq), conveyor: "belt one, two" })],
      ["bad_seq", (run) => JSON.stringify({ ...event(run, 0), seq: -1 })],
      ["bad_timestamp", (run, seq) => JSON.stringify({ ...event(run, seq), ts: 12 })],
      ["bad_state", (run, seq) => JSON.stringify({ ...event(run, seq), state: "dancing" })],
      ["too_large", (run, seq) => JSON.stringify({ ...event(run, seq), note: "x".repeat(20_000) })],
    ];
  })();

  test("stores 4,000 valid lines and dead-letters 1,000 invalid ones of 12 kinds with their reason", async () => {
    const run = newRun("mixed");
    const startMs = Date.now() - 1000;
    const expected: Record<string, number> = {};
    const lines: string[] = [];
    let good = 0;
    for (let index = 0, bad = 0; index < 5000; index++) {
      if (index % 5 === 2) {
        const [reason, line] = KINDS[bad++ % KINDS.length]!;
        expected[reason] = (expected[reason] ?? 0) + 1;
        lines.push(line(run, 1_000_000 + index));
      } else {
        lines.push(JSON.stringify(testEvent(run, "test-1", good++, Date.now())));
      }
    }
    const path = join(folder, "mixed.ndjson");
    await Bun.write(path, `${lines.join("\n")}\n`);
    const ingested = await ingestFile(path);
    expect(ingested).toMatchObject({ read: 5000, acknowledged: good, refused: 1000, failed: 0 });
    expect(ingested.refused_by_reason).toEqual(expected);
    expect(Object.keys(expected)).toHaveLength(12);

    const stored = await storedOf(run, startMs, Date.now() + 1000, good);
    expect(stored).toMatchObject({ points: good, duplicates: 0 });
    expect([...stored.sequences.keys()]).toEqual(["test-1"]);

    // The dead-letter topic, read by a new reader: the reason of each record of this run.
    const { result } = await context.probeFrom("admin", {
      result: { kind: "dlq_read", ...KAFKA, from_timestamp_ms: startMs, max: 20_000 },
    });
    const found: Record<string, number> = {};
    for (const { headers } of readBy(result, "the dead-letter topic")) {
      if (headers.run !== ingested.run) continue;
      found[headers.reason!] = (found[headers.reason!] ?? 0) + 1;
    }
    expect(found).toEqual(expected);
  }, 300_000);
});
