/** A deploy that names no cluster: what is created, what is asked, and the choices. kind is a fake program. */
import { beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  creationOn,
  ensureKindCluster,
  type Machine,
  noCluster,
  policyNote,
} from "../../../scripts/deploy/new-cluster.ts";
import { setEnvironment } from "../../environment.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { silentReport } from "../cli/silent-report.ts";

describe("creationOn", () => {
  const ubuntu: Machine = { isLinux: true, isRoot: false, hasKind: true, isTerminal: true };
  const mac: Machine = { ...ubuntu, isLinux: false };
  const root: Machine = { ...ubuntu, isRoot: true, hasKind: false };

  test.each([
    ["root on Linux", root, { create: "local", ask: false }],
    ["root on Linux in a pipeline", { ...root, isTerminal: false }, { create: "local", ask: false }],
    ["root on Linux with kind", { ...root, hasKind: true }, { create: "local", ask: false }],
    ["a user with kind", ubuntu, { create: "kind", ask: true }],
    ["macOS with kind", mac, { create: "kind", ask: true }],
    ["a user with kind, without a terminal", { ...ubuntu, isTerminal: false }, undefined],
    ["a user without kind", { ...ubuntu, hasKind: false }, undefined],
    ["root on macOS without kind", { ...mac, isRoot: true, hasKind: false }, undefined],
  ] as const)("npm start as %s: %j", (_, machine, expected) => {
    expect(creationOn(machine, true)).toEqual(expected);
  });

  test("deploy creates nothing without a question, and nothing where nobody can answer", () => {
    for (const machine of [root, ubuntu, mac]) {
      expect(creationOn(machine, false)?.ask).toBe(true);
      expect(creationOn({ ...machine, isTerminal: false }, false)).toBeUndefined();
    }
  });
});

test("without a cluster the error has the three choices, one line each, and exit code 3", () => {
  const { exitCode, hint } = noCluster();
  expect(exitCode).toBe(3);
  expect(hint!.split("\n").map((line) => line.split("  ")[0])).toEqual([
    "an existing cluster:",
    "kind, with docker:",
    "the local cluster:",
  ]);
});

test("policyNote: kind enforces NetworkPolicies from 0.24 on", () => {
  expect(["0.9.0", "0.23.0", "0.24.0", "0.31.0", "1.0.0"].map((version) => policyNote(version).enforced)).toEqual([
    false,
    false,
    true,
    true,
    true,
  ]);
});

describe("ensureKindCluster", () => {
  const folder = temporaryFolder();
  setEnvironment({ PATH: `${folder}:${process.env.PATH}` });
  const calls = async () => (await readFile(join(folder, "calls"), "utf8").catch(() => "")).split("\n").filter(Boolean);
  const { signal } = new AbortController();
  const warnings: string[] = [];
  const report = Object.assign(silentReport(), { warn: (line: string) => void warnings.push(line) });

  beforeAll(async () => {
    const script = `echo "$*" >> ${folder}/calls
      case "$1 $2" in
        "get clusters") [ -e ${folder}/broken ] && { echo "no engine" >&2; exit 1; }; echo dev ;;
        version*) echo "kind v$(cat ${folder}/version) go1.26 linux/amd64" ;;
      esac`;
    await writeFile(join(folder, "kind"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  });
  beforeEach(async () => {
    warnings.length = 0;
    await writeFile(join(folder, "version"), "0.31.0");
    await rm(join(folder, "calls"), { force: true });
  });

  test("creates a cluster that does not exist, and waits for its node", async () => {
    await ensureKindCluster("conveyor", report, signal);
    expect(await calls()).toEqual(["get clusters", "version", "create cluster --name conveyor --wait 180s"]);
    expect(warnings).toEqual([]);
  });

  test("keeps one that exists", async () => {
    await ensureKindCluster("dev", report, signal);
    expect(await calls()).toEqual(["get clusters"]);
  });

  test("warns where the network of the new cluster does not enforce NetworkPolicies", async () => {
    await writeFile(join(folder, "version"), "0.23.0");
    await ensureKindCluster("conveyor", report, signal);
    expect(warnings).toEqual([expect.stringContaining("kind 0.23.0: its network does not enforce NetworkPolicies")]);
  });

  test("an engine that does not run is an error with kind's reason", async () => {
    await writeFile(join(folder, "broken"), "");
    const error = await ensureKindCluster("conveyor", report, signal).catch((thrown) => thrown);
    expect([error.exitCode, error.message]).toEqual([3, "kind cannot list its clusters: no engine"]);
  });
});
