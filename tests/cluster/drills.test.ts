/**
 * Goal: a drill passes on a real cluster, a drill without its fault does not, and an interrupt leaves a healed cluster.
 * Method: the command as a user runs it; the third time it is interrupted while a network is cut.
 */
import { beforeAll, expect, test } from "bun:test";
import { pause, waitFor } from "../../scripts/cli/wait.ts";
import { type Cluster, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";
import type { DrillsResult } from "../../scripts/recording/result.ts";
import { LOAD_EVENTS } from "../../services/protocol/load-generator.ts";
import { atRest, cluster, describeOnCluster, script } from "./harness.ts";

const COMMAND = ["scripts/resilience-test.ts", "--local", "--json"];
/**
 * The sum of the command's own waits: observer 80 s, probes 60 s, healthy pipeline 90 s, effect 60 s, recovery 120 s, audit
 * 60 s. Shorter, the test would kill a command in the middle of its fault, and leave the fault and its pods.
 */
const LIMIT_MS = 470_000;
/** The lag of the tests before falls within a minute; a busy machine takes longer. */
const REST_LIMIT_MS = 400_000;
/** Those of them until the effect. */
const FAULT_LIMIT_MS = 290_000;

let target: Cluster;

async function drill(...args: string[]): Promise<{ exitCode: number; document: DrillsResult }> {
  const { exitCode, stdout, stderr } = await script([...COMMAND, ...args], { limitMs: LIMIT_MS });
  try {
    return { exitCode, document: JSON.parse(stdout) as DrillsResult };
  } catch (error) {
    throw new Error(`no document (exit ${exitCode}): ${stderr.slice(-2000)}`, { cause: error });
  }
}

describeOnCluster("drills", () => {
  beforeAll(async () => {
    target = await cluster();
    // An autoscaler that removes a pod during a drill would be a second fault.
    await atRest(target);
  }, REST_LIMIT_MS);

  test.each(LOAD_EVENTS)(
    "delete-processor with events of %s: no acknowledged event is lost, and it passes within its budget",
    async (events) => {
      const { exitCode, document } = await drill("--only", "delete-processor", "--events", events);
      const result = document.drills[0]!;
      expect(result.effect!.proof).toContain("has ended and was deleted");
      expect(result.ledger).toMatchObject({ lost: 0, duplicated: 0 });
      expect(result.ledger!.acknowledged).toBeGreaterThan(500);
      // The recovery is the start of a pod, which is the speed of the node: a budget that it exceeds is a verdict of the
      // command, with this one reason, and no defect that a test can find. It must have recovered (within 120 s).
      const { measured_ms, budget_ms } = result.recovery!;
      const slow = measured_ms > budget_ms ? [expect.stringMatching(/^recovery took .*, the budget is 10\.0 s$/)] : [];
      expect(result.reasons).toEqual(slow);
      expect(result.verdict).toBe(slow.length > 0 ? "failed" : "passed");
      expect(exitCode).toBe(slow.length > 0 ? 5 : 0);
    },
    LIMIT_MS,
  );

  test(
    "--without-fault: inconclusive, exit 5",
    async () => {
      const { exitCode, document } = await drill("--without-fault", "delete-processor");
      expect(document.drills.map(({ verdict }) => verdict)).toEqual(["inconclusive"]);
      expect(document.passed).toBe(false);
      expect(exitCode).toBe(5);
    },
    LIMIT_MS,
  );

  test(
    "an interrupt during a fault: exit 130, the fault is healed, --heal has nothing to undo",
    async () => {
      const child = Bun.spawn([process.execPath, ...COMMAND, "--only", "cut-processor-influxdb"], {
        stdout: "pipe",
        stderr: "pipe",
        timeout: LIMIT_MS,
      });
      let stderr = "";
      const reading = (async () => {
        const decoder = new TextDecoder();
        for await (const chunk of child.stderr) stderr += decoder.decode(chunk, { stream: true });
      })();
      try {
        await waitFor(
          async () =>
            stderr.includes("  effect: ") ? { done: true, value: true } : { done: false, state: stderr.slice(-200) },
          { what: "the cut to have its effect", limitMs: FAULT_LIMIT_MS },
        );
      } finally {
        // Also where the cut had no effect in time: no drill may run beside the next tests.
        child.kill("SIGINT");
        await child.exited;
      }
      expect(child.exitCode).toBe(130);
      await reading;
      expect(stderr).toContain("interrupted");
      expect(stderr).toContain("  healed: the fault is undone");
      // Checked on the cluster: the pods run, and there is nothing to undo.
      const { stdout } = await target.kubectl([
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/name=processor",
        "-o",
        "json",
      ]);
      const pods = (JSON.parse(stdout) as { items: Pod[] }).items;
      expect(pods.map(({ status }) => status.phase)).toEqual(pods.map(() => "Running"));
      await pause(1000);
      const healed = await script(["scripts/resilience-test.ts", "--local", "--heal", "--json"], { limitMs: LIMIT_MS });
      expect(JSON.parse(healed.stdout)).toEqual({ ok: true, undone: [] });
    },
    LIMIT_MS,
  );

  test("nodes may read volume claims by a rule, before the node authorizer knows a replaced pod", async () => {
    // A node that is none: the node authorizer has no opinion, so that the rule alone answers.
    const asNode = ["--as", "system:node:none", "--as-group", "system:nodes"];
    const { stdout } = await target.kubectl([
      "auth",
      "can-i",
      "get",
      "persistentvolumeclaims",
      "-n",
      NAMESPACE,
      ...asNode,
    ]);
    expect(stdout.trim()).toBe("yes");
  });
});
