/** Conformance runs with commands that are not started: their steps, their order after a failure, and their record. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunResult } from "../../../scripts/cli/process.ts";
import { type Case, runCase, type Step, type StepOutcome } from "../../../scripts/conformance/case.ts";
import { type Entry, readRecord, recordText, writeRecord } from "../../../scripts/conformance/record.ts";
import { optionalRows, variantCase } from "../../../scripts/conformance/variants.ts";
import { chosenCases, requireNoCluster } from "../../../scripts/conformance.ts";
import { silentReport } from "../cli/silent-report.ts";

const { signal } = new AbortController();

/** A case of fake steps, and the order in which they ran. */
function fakeCase(outcomes: Record<string, () => StepOutcome | Promise<StepOutcome>>): { fake: Case; ran: string[] } {
  const ran: string[] = [];
  const step = (name: string, outcome: () => StepOutcome | Promise<StepOutcome>): Step => ({
    name,
    command: `bun scripts/${name}.ts`,
    limitMs: 1000,
    async run() {
      ran.push(name);
      return await outcome();
    },
  });
  const { down = () => ({ ok: true, detail: "" }), ...steps } = outcomes;
  const list = Object.entries(steps).map(([name, outcome]) => step(name, outcome));
  return { fake: { name: "kind", title: "like kind", steps: list, removal: step("down", down) }, ran };
}
const passes = (): StepOutcome => ({ ok: true, detail: "" });

describe("runCase", () => {
  test("passes when every step and the removal pass, and keeps the optional rows", async () => {
    const optional = [{ title: "volumes", reason: "no statistics" }];
    const { fake, ran } = fakeCase({ up: passes, validate: () => ({ ok: true, detail: "", optional }) });
    const result = await runCase(fake, silentReport(), signal);
    expect(ran).toEqual(["up", "validate", "down"]);
    expect(result).toMatchObject({ ok: true, optional });
    expect(result.steps.map(({ name, status }) => [name, status])).toEqual([
      ["up", "passed"],
      ["validate", "passed"],
      ["down", "passed"],
    ]);
  });

  test("after a failed step runs nothing but the removal", async () => {
    for (const fails of [
      () => ({ ok: false, detail: "exit 5" }),
      () => Promise.reject(new Error("deploy.ts did not end within 1 s")),
    ]) {
      const { fake, ran } = fakeCase({ up: passes, deploy: fails, validate: passes });
      const result = await runCase(fake, silentReport(), signal);
      expect(ran).toEqual(["up", "deploy", "down"]);
      expect(result.ok).toBe(false);
      expect(result.steps.map(({ status }) => status)).toEqual(["passed", "failed", "not_run", "passed"]);
      expect(result.steps[1]!.detail).toMatch(/exit 5|did not end/);
    }
  });

  test("fails when the removal fails", async () => {
    const { fake } = fakeCase({ up: passes, down: () => ({ ok: false, detail: "exit 1" }) });
    expect((await runCase(fake, silentReport(), signal)).ok).toBe(false);
  });

  test("an interrupt ends it after the removal", async () => {
    const interrupt = new AbortController();
    const { fake, ran } = fakeCase({
      up: () => {
        interrupt.abort(new Error("interrupted"));
        throw interrupt.signal.reason;
      },
      deploy: passes,
    });
    await expect(runCase(fake, silentReport(), interrupt.signal)).rejects.toThrow("interrupted");
    expect(ran).toEqual(["up", "down"]);
  });
});

describe("a variant's case", () => {
  const answer = (exitCode: number, stdout = "", stderr = ""): RunResult => ({ exitCode, stdout, stderr });

  test("deploys from nothing, with the flags that its user needs, and removes the cluster with its data", () => {
    const { steps, removal } = variantCase("kubeadm");
    expect([...steps, removal].map(({ command }) => command)).toEqual([
      "bun scripts/local-cluster.ts up --like kubeadm",
      "bun scripts/deploy.ts --local --storage-class standard",
      "bun scripts/validate.ts --local",
      "bun scripts/resilience-test.ts --local --only delete-processor",
      "bun scripts/audit.ts --local",
      "bun scripts/destroy.ts --local --yes",
      "bun scripts/local-cluster.ts down --delete-data",
    ]);
    expect(variantCase("kind").steps[1]!.command).toBe("bun scripts/deploy.ts --local");
  });

  test("each command has the limit of its step", async () => {
    const limits: (number | undefined)[] = [];
    const { steps, removal } = variantCase("kind", async (_, { timeoutMs }) => {
      limits.push(timeoutMs);
      return answer(0, '{"checks":[]}');
    });
    for (const step of [...steps, removal]) await step.run(signal);
    expect(limits).toEqual([...steps, removal].map(({ limitMs }) => limitMs));
    expect(limits.every((limit) => limit !== undefined && limit <= 40 * 60_000)).toBe(true);
  });

  test.each([
    ["the end of what the command said", "first\nlast\n", "first\nlast"],
    ["the failed rows of a checklist", "first\n✗ no row\n- not run\n", "✗ no row"],
  ])("any exit code but 0 fails a step, with %s", async (_, stderr, detail) => {
    const { steps } = variantCase("kind", async () => answer(5, "{}", stderr));
    for (const step of steps) {
      expect(await step.run(signal)).toEqual({ ok: false, detail: `exit 5\n${detail}` });
    }
  });

  test("rows that did not pass a validation with exit 0 are the optional ones", async () => {
    const rows = [
      { title: "metrics", status: "optional", detail: "self-signed kubelet certificates" },
      { title: "flow", status: "passed", detail: "" },
    ];
    const stdout = JSON.stringify({ checks: rows });
    const expected = [{ title: "metrics", reason: "self-signed kubelet certificates" }];
    expect(optionalRows(stdout)).toEqual(expected);
    const { steps } = variantCase("kind", async () => answer(0, stdout));
    expect(await steps[2]!.run(signal)).toEqual({ ok: true, detail: "", optional: expected });
  });
});

test("--only chooses cases in the list's order and refuses others", () => {
  expect(chosenCases([])).toEqual([
    "kind",
    "kubeadm",
    "k3s",
    "gke",
    "renamed",
    "ipv6",
    "kubectl",
    "workstation",
    "external",
    "prometheus",
  ]);
  expect(chosenCases(["gke, kind", "k3s"])).toEqual(["kind", "k3s", "gke"]);
  expect(() => chosenCases(["eks"])).toThrow(
    '--only: must name cases (kind, kubeadm, k3s, gke, renamed, ipv6, kubectl, workstation, external, prometheus); got "eks"',
  );
});

test("a local cluster, running or stopped, is not touched: exit 3", () => {
  requireNoCluster("absent");
  for (const state of ["ready", "degraded", "stopped"] as const) {
    expect(() => requireNoCluster(state)).toThrow(`a local cluster exists (${state})`);
  }
});

describe("the record", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "conveyor-conformance-"));
  });
  afterAll(async () => await rm(folder, { recursive: true }));

  const entry: Entry = {
    name: "kind",
    title: "local cluster --like kind",
    ok: false,
    made_at: "2026-11-30T05:00:00Z",
    commit: "0123456789abcdef",
    changed_files: 2,
    versions: { kubernetes: "1.36.3" },
    steps: [
      { name: "up", command: "bun up", status: "passed", detail: "", duration_ms: 12_300 },
      { name: "deploy", command: "bun deploy", status: "failed", detail: "exit 1\nno class", duration_ms: 65_000 },
      { name: "validate", command: "bun validate", status: "not_run", detail: "", duration_ms: 0 },
    ],
    optional: [{ title: "metrics", reason: "self-signed" }],
  };

  test("shows verdict, date, versions, durations, failures and optional rows", () => {
    expect(recordText({ kind: entry })).toBe(
      [
        "FAILED local cluster --like kind",
        "  2026-11-30T05:00:00Z, commit 0123456789 and 2 changed files; kubernetes 1.36.3",
        "  step      result         time  command",
        "  up        passed       12.3 s  bun up",
        "  deploy    failed   1 min 05 s  bun deploy",
        "  validate  not run              bun validate",
        "  deploy: exit 1",
        "    no class",
        "  optional here: metrics: self-signed",
        "",
      ].join("\n"),
    );
  });

  test("keeps the results of the other cases", async () => {
    expect(await readRecord(folder)).toEqual({});
    await writeRecord(folder, { kind: entry });
    await writeRecord(folder, {
      ...(await readRecord(folder)),
      k3s: { ...entry, name: "k3s", title: "like k3s", ok: true },
    });
    expect(Object.keys(await readRecord(folder))).toEqual(["kind", "k3s"]);
    const text = await readFile(join(folder, "conformance.txt"), "utf8");
    expect(text).toContain("FAILED local cluster --like kind");
    expect(text).toContain("PASSED like k3s");
  });
});
