import { describe, expect, test } from "bun:test";
import {
  type Check,
  failed,
  formatCheck,
  passed,
  runChecklist,
  selectChecks,
  skipped,
  verdict,
} from "../../../scripts/checks/checklist.ts";
import { EXIT } from "../../../scripts/cli/errors.ts";

const check = (id: string, ok: boolean, needs: string[] = []): Check<null> => ({
  id,
  title: id,
  needs,
  limitMs: 1000,
  run: async () => (ok ? passed("fine") : failed("broken")),
});
const never = new AbortController().signal;

describe("runChecklist", () => {
  test("a check that depends on a failed one is not run and names it", async () => {
    const result = await runChecklist(
      [check("kafka", false), check("topics", true, ["kafka"]), check("flow", true, ["topics"]), check("other", true)],
      null,
      never,
    );
    expect(result.checks.map(({ id, status }) => [id, status])).toEqual([
      ["kafka", "failed"],
      ["topics", "not_run"],
      ["flow", "not_run"],
      ["other", "passed"],
    ]);
    expect(result.checks[2]!.detail).toBe("needs topics");
    expect(result.ok).toBe(false);
    expect(verdict(result)).toMatchObject({ exitCode: EXIT.violations });
    expect(verdict(result).line).toStartWith("FAILED: 1 passed, 1 failed, 2 not run in ");
  });

  test("all passed is exit 0; an empty list is not passed", async () => {
    const good = await runChecklist([check("a", true)], null, never);
    expect(verdict(good).exitCode).toBe(EXIT.ok);
    expect((await runChecklist([], null, never)).ok).toBe(false);
  });

  test("a skipped check does not fail the list, is counted and shown with its reason, and is no evidence alone", async () => {
    const optional: Check<null> = { ...check("nodes", true), run: async () => skipped("no kubelet answers") };
    const result = await runChecklist([check("a", true), optional], null, never);
    expect(result.checks[1]).toMatchObject({ status: "skipped", detail: "no kubelet answers" });
    expect(result).toMatchObject({ ok: true, passed: 1, failed: 0, not_run: 0, skipped: 1 });
    expect(verdict(result).line).toStartWith("PASSED: 1 passed, 1 skipped in ");
    expect(formatCheck(result.checks[1]!, false)).toContain("skipped (optional): no kubelet answers");
    expect((await runChecklist([optional], null, never)).ok).toBe(false);
    expect((await runChecklist([optional, check("b", false)], null, never)).ok).toBe(false);
  });

  test("a dependency that is not in the list counts as failed", async () => {
    const result = await runChecklist([check("flow", true, ["missing"])], null, never);
    expect(result.checks[0]!.status).toBe("not_run");
  });

  test("an exception is a failed check with its message and causes", async () => {
    const throwing: Check<null> = {
      ...check("a", true),
      run: async () => {
        throw new Error("cannot tell", { cause: new Error("connection refused") });
      },
    };
    const result = await runChecklist([throwing], null, never);
    expect(result.checks[0]).toMatchObject({ status: "failed", detail: "cannot tell: connection refused" });
  });

  test("a check that does not end fails at its limit", async () => {
    const hanging: Check<null> = { ...check("a", true), limitMs: 5, run: () => new Promise(() => {}) };
    const result = await runChecklist([hanging], null, never);
    expect(result.checks[0]!.status).toBe("failed");
    expect(result.checks[0]!.detail).toContain("no result within");
  });

  test("an interrupt ends the list and fails no check", async () => {
    const abort = new AbortController();
    const aborting: Check<null> = {
      ...check("a", true),
      run: async () => {
        abort.abort(new Error("interrupted"));
        return passed("");
      },
    };
    await expect(runChecklist([aborting, check("b", true)], null, abort.signal)).rejects.toThrow("interrupted");
  });
});

describe("selectChecks", () => {
  const list = [check("a", true), check("b", true, ["a"]), check("c", true)];
  test("adds the dependencies of the selection, in the order of the list", () => {
    expect(selectChecks(list, ["b"]).map(({ id }) => id)).toEqual(["a", "b"]);
    expect(selectChecks(list, []).length).toBe(3);
  });
  test("throws an error with the known ids for an unknown one", () => {
    expect(() => selectChecks(list, ["d"])).toThrow('no check "d"; known: a, b, c');
  });
});

test("formatCheck shows status, title, detail and time", () => {
  const line = formatCheck({ id: "a", title: "topics", status: "passed", detail: "2 of 2", duration_ms: 1234 }, false);
  expect(line).toMatch(/^✓ topics +2 of 2 {2}1\.2 s$/);
});
