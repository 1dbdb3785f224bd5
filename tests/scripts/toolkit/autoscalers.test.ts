/** One autoscaler per workload: whom a switch between KEDA and the plain autoscaler has to take away. */
import { describe, expect, test } from "bun:test";
import { autoscalerOf, rivalsOf } from "../../../scripts/toolkit/autoscalers.ts";
import type { KubernetesObject } from "../../../scripts/toolkit/cluster.ts";
import { loadStages } from "../../../scripts/toolkit/stages.ts";

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
    expect(names(rivalsOf([scaledObject("processor", "processor")], live))).toEqual(["processor"]);
  });

  test("without KEDA what it had made goes, and the plain one stays", () => {
    const live = [hpa("processor", "processor"), hpa("keda-hpa-processor", "processor")];
    expect(names(rivalsOf([hpa("processor", "processor")], live))).toEqual(["keda-hpa-processor"]);
  });

  test("autoscalers of other workloads are nobody's rivals, also of one with the same name and another kind", () => {
    const live = [hpa("other", "other"), hpa("producer", "processor", "StatefulSet")];
    expect(rivalsOf([scaledObject("processor", "processor")], live)).toEqual([]);
  });

  test("objects that scale nothing take nobody away", () => {
    const service = { apiVersion: "v1", kind: "Service", metadata: { name: "processor" } };
    expect(rivalsOf([service], [hpa("processor", "processor")])).toEqual([]);
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
