/**
 * Goal: a drill passes on a real cluster, and one whose fault is left out does not.
 * Method: the command as a person runs it.
 */
import { expect, test } from "bun:test";
import type { DrillsResult } from "../../scripts/runs/result.ts";
import { describeOnCluster, script } from "./harness.ts";

const COMMAND = ["scripts/resilience-test.ts", "--local", "--json"];
const LIMIT_MS = 120_000;

async function drill(...args: string[]): Promise<{ exitCode: number; document: DrillsResult }> {
  const { exitCode, stdout, stderr } = await script([...COMMAND, ...args], { limitMs: LIMIT_MS });
  try {
    return { exitCode, document: JSON.parse(stdout) as DrillsResult };
  } catch (error) {
    throw new Error(`no document (exit ${exitCode}): ${stderr.slice(-2000)}`, { cause: error });
  }
}

describeOnCluster("drills", () => {
  test(
    "a processor that is deleted under traffic costs no acknowledged event",
    async () => {
      const { exitCode, document } = await drill("--only", "delete-processor");
      const result = document.drills[0]!;
      expect(result.reasons).toEqual([]);
      expect(result.verdict).toBe("passed");
      expect(result.effect!.proof).toContain("has ended and is gone");
      expect(result.ledger).toMatchObject({ lost: 0, duplicated: 0 });
      expect(result.ledger!.acknowledged).toBeGreaterThan(500);
      expect(result.recovery!.measured_ms).toBeLessThanOrEqual(result.recovery!.budget_ms);
      expect(exitCode).toBe(0);
    },
    LIMIT_MS,
  );

  test(
    "a drill whose fault is left out is inconclusive, not passed",
    async () => {
      const { exitCode, document } = await drill("--without-fault", "delete-processor");
      expect(document.drills.map(({ verdict }) => verdict)).toEqual(["inconclusive"]);
      expect(document.passed).toBe(false);
      expect(exitCode).toBe(5);
    },
    LIMIT_MS,
  );
});
