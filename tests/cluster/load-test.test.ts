/**
 * Goal: a small load passes with an outcome for every event; events of version 2 are audited, and a
 * violated threshold ends with exit 5 and the excess; an
 * interrupt ends the load within five seconds and removes its pods. Method: the command as a user runs it.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Cluster, NAMESPACE } from "../../scripts/cluster/cluster.ts";
import type { LoadTestResult } from "../../scripts/recording/result.ts";
import { openRun } from "../../scripts/recording/run-folder.ts";
import { cluster, describeOnCluster, script } from "./harness.ts";

/** Start of the pods, baseline, load, lag and count take some 15 s on two cores; on a busy machine minutes. */
const RUN_LIMIT_MS = 240_000;
/** The run and the checks after it. */
const LIMIT_MS = RUN_LIMIT_MS + 60_000;
/** Load before the interrupt. */
const LOADED_MS = 3000;

let target: Cluster;
const folders: string[] = [];

/** Pods of load tests that are not terminating. */
async function remainingPods(): Promise<string[]> {
  const pods = await target.list("pods", "app.kubernetes.io/name in (observer, load-generator)", NAMESPACE);
  return pods.filter(({ metadata }) => !metadata.deletionTimestamp).map(({ metadata }) => metadata.name);
}

/** The median: on a busy machine a part of one second's load may count for the next. */
const middleOf = (values: readonly (number | null)[]) =>
  values.map(Number).toSorted((one, other) => one - other)[Math.floor(values.length / 2)]!;

async function resultOf(text: string): Promise<LoadTestResult> {
  const id = /\d{8}T\d{6}Z-load-test(?:-\d+)?/.exec(text)![0];
  const folder = openRun(id);
  folders.push(folder.folder);
  return JSON.parse(await readFile(folder.path("result.json"), "utf8")) as LoadTestResult;
}

describeOnCluster("load test", () => {
  beforeAll(async () => {
    target = await cluster();
  });
  afterAll(async () => {
    for (const folder of folders) await rm(folder, { recursive: true, force: true });
  });

  test(
    "a small load: exit 0, every event acknowledged and stored, report.html beside result.json",
    async () => {
      const run = await script(["scripts/load-test.ts", "--local", "--stages", "5s@500", "--no-pictures"], {
        limitMs: RUN_LIMIT_MS,
      });
      expect(`${run.exitCode} ${run.stderr.slice(-1500)}`).toStartWith("0 ");
      const result = await resultOf(run.stderr);
      expect(result.ledger).toEqual({
        offered: 2500,
        acknowledged: 2500,
        failed: 0,
        unknown: 0,
        stored: 2500,
        dead_lettered: 0,
        lost: 0,
        duplicated: 0,
      });
      expect(result.passed).toBe(true);
      // The recording has the offered rate of each second.
      const { offered_events_per_second: offered, stored_events_per_second: stored } = result.recording.series;
      expect(middleOf(offered!.filter((value) => value))).toBeWithin(400, 600);
      expect(Math.max(...stored!.map((value) => value ?? 0))).toBeGreaterThan(400);
      expect(result.recording.marks.some(({ kind }) => kind === "stage")).toBe(true);
      expect(await Bun.file(join(folders[0]!, "report.html")).text()).toContain(result.facts.id);
      expect(await remainingPods()).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "events of version 2 with an audit, and a violated threshold: exit 5 with the excess; all else holds",
    async () => {
      const load = ["--stages", "2s@200", "--events", "v2", "--audit", "--no-pictures"];
      const run = await script(["scripts/load-test.ts", "--local", ...load, "--threshold", "e2e_p50_ms<0.01"], {
        limitMs: RUN_LIMIT_MS,
      });
      expect(run.exitCode).toBe(5);
      expect(run.stdout).toMatch(/✗ e2e_p50_ms<0\.01\s+[\d.]+ {3}by [\d.]+ ms/);
      const result = await resultOf(run.stderr);
      const counts = { offered: 400, acknowledged: 400, failed: 0, unknown: 0, stored: 400 };
      expect(result.ledger).toEqual({ ...counts, dead_lettered: 0, lost: 0, duplicated: 0 });
      expect(result.facts.events).toBe("v2");
      expect(result.audit?.status).toBe("passed");
      expect(result.audit?.laws.find(({ law }) => law === "V1")).toMatchObject({
        status: "passed",
        detail: "400 points say what their events say",
      });
      expect(result.thresholds.filter(({ ok }) => !ok).map(({ text }) => text)).toEqual(["e2e_p50_ms<0.01"]);
      expect(result.passed).toBe(false);
    },
    LIMIT_MS,
  );

  test(
    "an interrupt: the load ends within 5 s, the pods are removed, the recording is kept",
    async () => {
      const child = Bun.spawn([process.execPath, "scripts/load-test.ts", "--local", "--stages", "60s@500"], {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        timeout: RUN_LIMIT_MS,
      });
      let stderr = "";
      let interruptedAtMs = 0;
      for await (const chunk of child.stderr as unknown as AsyncIterable<Uint8Array>) {
        stderr += new TextDecoder().decode(chunk);
        if (interruptedAtMs === 0 && stderr.includes("load stage 1")) {
          await Bun.sleep(LOADED_MS);
          interruptedAtMs = Date.now();
          child.kill("SIGINT");
        }
      }
      expect(`${await child.exited} ${stderr.slice(-1500)}`).toStartWith("130 ");
      expect(await remainingPods()).toEqual([]);
      const result = await resultOf(stderr);
      expect(result.facts.interrupted).toBe(true);
      expect(result.passed).toBe(false);
      expect(result.ledger.acknowledged).toBeGreaterThan(100);
      expect(result.ledger.lost).toBe(0);
      // By the generator's summary no event was offered five seconds after the signal.
      const { offered } = result.ledger;
      const longest = ((interruptedAtMs + 5000 - result.recording.startedAtMs) / 1000) * 500;
      expect(offered).toBeLessThan(longest);
      expect(await Bun.file(join(folders.at(-1)!, "report.html")).exists()).toBe(true);
    },
    LIMIT_MS,
  );
});
