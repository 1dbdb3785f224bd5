/** One autoscaler per workload: whom a switch between KEDA and the plain autoscaler has to take away. */
import { describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster, type KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import {
  autoscalerOf,
  conflictingAutoscalers,
  removeConflictingAutoscalers,
} from "../../../scripts/deploy/autoscalers.ts";
import { KEDA_API } from "../../../scripts/deploy/keda.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";

const hpa = (name: string, target: string, kind = "Deployment"): KubernetesObject => ({
  apiVersion: "autoscaling/v2",
  kind: "HorizontalPodAutoscaler",
  metadata: { name, namespace: "conveyor" },
  spec: { scaleTargetRef: { kind, name: target }, maxReplicas: 2 },
});
const scaledObject = (name: string, target: string): KubernetesObject => ({
  apiVersion: "keda.sh/v1alpha1",
  kind: "ScaledObject",
  metadata: { name, namespace: "conveyor" },
  spec: { scaleTargetRef: { name: target } },
});
const names = (objects: readonly KubernetesObject[]) => objects.map(({ metadata }) => metadata.name);

describe("rivalsOf", () => {
  test("with KEDA the plain autoscaler goes, and what KEDA makes stays", () => {
    const live = [hpa("processor", "processor"), hpa("keda-hpa-processor", "processor")];
    expect(names(conflictingAutoscalers([scaledObject("processor", "processor")], live))).toEqual(["processor"]);
  });

  test("without KEDA what it had made goes, and the plain one stays", () => {
    const live = [hpa("processor", "processor"), hpa("keda-hpa-processor", "processor")];
    expect(names(conflictingAutoscalers([hpa("processor", "processor")], live))).toEqual(["keda-hpa-processor"]);
  });

  test("autoscalers of other workloads are nobody's rivals, also of one with the same name and another kind", () => {
    const live = [hpa("other", "other"), hpa("producer", "processor", "StatefulSet")];
    expect(conflictingAutoscalers([scaledObject("processor", "processor")], live)).toEqual([]);
  });

  test("objects that scale nothing take nobody away", () => {
    const service = { apiVersion: "v1", kind: "Service", metadata: { name: "processor" } };
    expect(conflictingAutoscalers([service], [hpa("processor", "processor")])).toEqual([]);
  });
});

/** What removeRivals asks of kubectl; a stand-in writes it down. */
async function commandsFor(rivals: KubernetesObject[], apis: string[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-rivals-"));
  try {
    const [program, log] = [join(folder, "kubectl"), join(folder, "log")];
    await writeFile(program, `#!/bin/sh\necho "$*" >> ${log}\n`, { mode: 0o755 });
    const cluster = new Cluster({ context: "test", isLocal: false }, program);
    await removeConflictingAutoscalers(cluster, rivals, new Set(apis), new AbortController().signal);
    const text = await readFile(log, "utf8");
    return text
      .trim()
      .split("\n")
      .map((line) => /delete .*/.exec(line)?.[0] ?? line);
  } finally {
    await rm(folder, { recursive: true });
  }
}

describe("removeRivals", () => {
  test("with KEDA's API its ScaledObject goes before the autoscaler, or KEDA would make that again", async () => {
    expect(await commandsFor([hpa("keda-hpa-processor", "processor")], [KEDA_API])).toEqual([
      "delete scaledobject processor -n conveyor --ignore-not-found",
      "delete hpa keda-hpa-processor -n conveyor --ignore-not-found",
    ]);
  });

  test("without it kubectl is not asked about what the server does not know", async () => {
    expect(await commandsFor([hpa("keda-hpa-processor", "processor")], [])).toEqual([
      "delete hpa keda-hpa-processor -n conveyor --ignore-not-found",
    ]);
  });

  test("a plain one goes by itself", async () => {
    expect(await commandsFor([hpa("processor", "processor")], [KEDA_API])).toEqual([
      "delete hpa processor -n conveyor --ignore-not-found",
    ]);
  });
});

test("the two ways to scale the processor scale the same workload under different names", async () => {
  const stages = await loadStages();
  const scalers = ["autoscaling-keda", "autoscaling-cpu"].map((name) =>
    stages.find((stage) => stage.name === name)!.objects.flatMap((object) => autoscalerOf(object) ?? []),
  );
  expect(scalers).toEqual([
    [{ name: "keda-hpa-processor", target: "Deployment/processor" }],
    [{ name: "processor", target: "Deployment/processor" }],
  ]);
});
