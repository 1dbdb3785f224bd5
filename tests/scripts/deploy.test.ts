/** Contradictory flags are rejected before a cluster is created. The command is not started: it would create one. */
import { describe, expect, test } from "bun:test";
import { POD_CHECKS } from "../../scripts/checks/pods.ts";
import { EXIT, OperatorError } from "../../scripts/cli/errors.ts";
import { ProbeSession } from "../../scripts/clients/probe-session.ts";
import type { KubernetesObject } from "../../scripts/cluster/cluster.ts";
import { DRILL_LABELS, REPLICAS_BEFORE } from "../../scripts/cluster/drill-leftovers.ts";
import { checkDeployFlags, healDrills } from "../../scripts/deploy.ts";
import { silentReport } from "./cli/silent-report.ts";
import { FakeCluster } from "./deploy/fake-cluster.ts";

const none = { local: false, auto: false };

describe("checkDeployFlags", () => {
  test.each([
    [{ local: true, auto: true }, "--local and --auto exclude each other"],
    [{ ...none, local: true, context: "staging" }, "--context and --local exclude each other"],
    [{ ...none, render: "out", "dry-run": true }, "--render and --dry-run exclude each other"],
    [{ ...none, render: "out", "new-ca": true }, "--render and --new-ca exclude each other"],
    [{ ...none, registry: "registry.lan/belts", kind: "dev" }, "--registry and --kind exclude each other"],
    [{ ...none, local: true, kind: "dev" }, "--local and --kind exclude each other"],
    [
      { ...none, context: "staging", "base-registry": "https://mirror.lan" },
      '--base-registry: must be HOST[:PORT]/PATH, path in lower case, without scheme and tag; got "https://mirror.lan"',
    ],
    [
      { ...none, local: true, registry: "belts" },
      '--registry: must be HOST[:PORT]/PATH, path in lower case, without scheme and tag; got "belts"',
    ],
    [
      { ...none, "monitor-labels": "release=monitoring,team" },
      '--monitor-labels: must be labels of Kubernetes, NAME=VALUE separated by commas; got "team"',
    ],
  ])("rejects %j", (flags, message) => {
    try {
      checkDeployFlags(flags);
    } catch (error) {
      expect(error).toBeInstanceOf(OperatorError);
      expect({ message: (error as Error).message, exitCode: (error as OperatorError).exitCode }).toEqual({
        message,
        exitCode: EXIT.usage,
      });
      return;
    }
    throw new Error(`accepted: ${JSON.stringify(flags)}`);
  });

  test.each([
    [none],
    [{ ...none, auto: true }],
    [{ ...none, auto: true, context: "staging" }],
    [{ ...none, local: true }],
    [{ ...none, context: "kind-dev", kind: "dev" }],
    [{ ...none, auto: true, kind: "dev" }],
    [{ ...none, context: "staging", registry: "registry.example.org/team" }],
    [{ ...none, "monitor-labels": "" }],
    [{ ...none, "monitor-labels": "release=monitoring, example.org/team=belts" }],
  ])("accepts %j", (flags) => {
    expect(() => checkDeployFlags(flags)).not.toThrow();
  });
});

describe("leftovers of a killed drill", () => {
  const processor: KubernetesObject = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "processor", namespace: "conveyor" },
    spec: { template: { spec: { containers: [{ image: "conveyor.invalid/services:1.0.0" }] } } },
  };
  const namespace = {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: "conveyor-drills", labels: DRILL_LABELS },
  };
  const scaled = {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name: "kafka", namespace: "conveyor", annotations: { [REPLICAS_BEFORE]: "3" } },
    spec: { replicas: 1 },
  };
  const { signal } = new AbortController();
  const validated = async (cluster: FakeCluster) =>
    await POD_CHECKS.drills.run(new ProbeSession(cluster, "no image", signal), signal);

  test.each([
    ["its namespace", namespace, "namespace conveyor-drills exists"],
    ["stopped brokers", scaled, "StatefulSet/kafka is scaled by a drill"],
  ])("%s: validate names it, and deploy undoes it", async (_, leftover, sign) => {
    const cluster = new FakeCluster([]).add(processor, leftover);
    expect(await validated(cluster)).toMatchObject({ ok: false, detail: expect.stringContaining(sign) });
    const restored: string[] = [];
    await healDrills(cluster, silentReport(), async (_, image) => [`restored with ${restored.push(image)}`]);
    expect(restored).toEqual(["conveyor.invalid/services:1.0.0"]);
  });

  test("without a leftover nothing is undone, also where another project has a namespace of that name", async () => {
    const theirs = { ...namespace, metadata: { name: "conveyor-drills" } };
    const cluster = new FakeCluster([]).add(processor, theirs);
    expect((await validated(cluster)).ok).toBe(true);
    await healDrills(cluster, silentReport(), () => Promise.reject(new Error("restored")));
  });

  test("that cannot be undone are a warning: the deploy may restore what the healing needs", async () => {
    const cluster = new FakeCluster([]).add(namespace);
    const warnings: string[] = [];
    const report = Object.assign(silentReport(), { warn: (line: string) => void warnings.push(line) });
    await healDrills(cluster, report, async () => []);
    expect(warnings).toEqual([expect.stringContaining("namespace conveyor-drills exists; not undone: no pipeline")]);
  });
});
