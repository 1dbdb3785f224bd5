import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Logger } from "../../../services/runtime/log.ts";
import { runSteps, Shutdown } from "../../../services/runtime/shutdown.ts";
import { eventually } from "../../eventually.ts";

/** Much longer than a second signal takes to arrive. */
const FORCED_WORK_MS = 19_000;
const silent = new Logger("test", "error", {}, () => {});

describe("Shutdown", () => {
  test("runs the steps in order and continues after one that fails or exceeds its limit", async () => {
    const ran: string[] = [];
    const outcomes = await runSteps(
      [
        { name: "first", limitMs: 1000, run: async () => void ran.push("first") },
        { name: "hangs", limitMs: 30, run: () => new Promise(() => {}) },
        { name: "fails", limitMs: 1000, run: () => JSON.parse("not JSON") },
        { name: "last", limitMs: 1000, run: () => void ran.push("last") },
      ],
      silent,
    );
    expect(ran).toEqual(["first", "last"]);
    const results = outcomes.map(({ step, outcome }) => `${step} ${outcome}`);
    expect(results).toEqual(["first done", "hangs timed_out", "fails failed", "last done"]);
  });

  test("begin() aborts the signal, runs the steps once, and exits with the code", async () => {
    const codes: number[] = [];
    const shutdown = new Shutdown(silent, ((code: number) => void codes.push(code)) as (code: number) => never);
    let runs = 0;
    let abortedBefore = false;
    shutdown.step("work", 1000, () => {
      runs++;
      abortedBefore = shutdown.signal.aborted;
    });
    await Promise.all([shutdown.begin("SIGTERM"), shutdown.begin("second call", 7)]);
    expect({ runs, abortedBefore, codes }).toEqual({ runs: 1, abortedBefore: true, codes: [0] });
  });

  test("a process runs its steps on SIGTERM and exits at once on the second signal", async () => {
    const source = `
      import { Logger } from ${JSON.stringify(join(import.meta.dir, "../../../services/runtime/log.ts"))};
      import { Shutdown } from ${JSON.stringify(join(import.meta.dir, "../../../services/runtime/shutdown.ts"))};
      const shutdown = new Shutdown(new Logger("test"));
      shutdown.listen();
      shutdown.step("work", 20_000, () => Bun.sleep(Number(process.argv.at(-1))));
      setInterval(() => {}, 1000);
      console.log("up");`;
    const run = async (workMs: number, signals: number) => {
      const child = Bun.spawn([process.execPath, "-e", source, String(workMs)], { stdout: "pipe", stderr: "inherit" });
      let output = "";
      const reading = (async () => {
        const decoder = new TextDecoder();
        for await (const chunk of child.stdout as unknown as AsyncIterable<Uint8Array>) output += decoder.decode(chunk);
      })();
      await eventually("the process to start", () => output.includes("up"));
      const startedAt = performance.now();
      for (let signal = 0; signal < signals; signal++) {
        child.kill("SIGTERM");
        // Two signals at the same time are delivered once.
        if (signal === 0) await eventually("the first signal to be handled", () => output.includes("stopping"));
      }
      const code = await child.exited;
      await reading;
      return { code, ms: performance.now() - startedAt };
    };
    const orderly = await run(200, 1);
    expect(orderly.code).toBe(0);
    expect(orderly.ms).toBeGreaterThanOrEqual(190);
    const forced = await run(FORCED_WORK_MS, 2);
    expect(forced.code).toBe(1);
    expect(forced.ms).toBeLessThan(FORCED_WORK_MS);
  });
});
