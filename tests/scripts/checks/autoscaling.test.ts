/** Problems of autoscalers: missing, without metrics, in fallback, paused, or a second one. */
import { describe, expect, test } from "bun:test";
import { autoscalingProblems, withoutMetricsServer } from "../../../scripts/checks/autoscaling.ts";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import type { Autoscaler } from "../../../scripts/deploy/autoscalers.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";

const target = { kind: "Deployment", name: "processor" };
const declared: KubernetesObject = {
  apiVersion: "keda.sh/v1alpha1",
  kind: "ScaledObject",
  metadata: { name: "processor" },
  spec: { scaleTargetRef: target },
};
type Condition = { type: string; status: string; reason?: string; message?: string };
const hpa = (
  name: string,
  conditions: Condition[],
  known: { type?: string }[] = [{ type: "External" }],
): Autoscaler => ({
  apiVersion: "autoscaling/v2",
  kind: "HorizontalPodAutoscaler",
  metadata: { name },
  spec: { scaleTargetRef: target, maxReplicas: 6, metrics: [{ type: "External" }] },
  status: { conditions, currentMetrics: known },
});
const well: Condition[] = [
  { type: "AbleToScale", status: "True" },
  { type: "ScalingActive", status: "True" },
];
const scaled = (...conditions: Condition[]) => [
  { ...declared, status: { conditions: [{ type: "Ready", status: "True" }, ...conditions] } },
];
const made = hpa("keda-hpa-processor", well);

describe("autoscalingProblems", () => {
  test("returns nothing for a working autoscaler", () => {
    expect(autoscalingProblems([declared], [made], scaled({ type: "Fallback", status: "False" }))).toEqual([]);
  });

  test.each([
    ["no autoscaler", [], scaled(), /^Deployment\/processor: no HorizontalPodAutoscaler keda-hpa-processor$/],
    ["no ScaledObject", [made], [], /^no ScaledObject processor$/],
    [
      "blind",
      [hpa("keda-hpa-processor", [well[0]!, { type: "ScalingActive", status: "False", reason: "FailedGet" }])],
      scaled(),
      /^keda-hpa-processor: not ScalingActive \(FailedGet\)$/,
    ],
    ["one metric unknown", [hpa("keda-hpa-processor", well, [{}])], scaled(), /0 of 1 metrics are known$/],
    ["no metrics yet", [hpa("keda-hpa-processor", well, [])], scaled(), /0 of 1 metrics are known$/],
    [
      "in fallback",
      [made],
      scaled({ type: "Fallback", status: "True" }),
      /uses the fallback value instead of a metric/,
    ],
    ["paused", [made], scaled({ type: "Paused", status: "True", reason: "ScaledObjectPaused" }), /: paused \(Scaled/],
    ["two", [made, hpa("processor", well)], scaled(), /^HorizontalPodAutoscaler\/processor: a second autoscaler/],
  ] as const)("%s", (_, live, objects, message) => {
    const problems = autoscalingProblems([declared], live, objects);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(message);
  });

  test("names the reason of a ScaledObject that is not ready", () => {
    const unready = [
      {
        ...declared,
        status: { conditions: [{ type: "Ready", status: "False", reason: "TriggerError", message: "x509" }] },
      },
    ];
    expect(autoscalingProblems([declared], [made], unready)).toEqual([
      "ScaledObject/processor: not Ready (TriggerError: x509)",
    ]);
  });
});

describe("withoutMetricsServer", () => {
  const absent = new Set(["v1", "apps/v1"]);
  const present = new Set([...absent, "metrics.k8s.io/v1beta1"]);

  test("names the workloads that do not scale, and the command that installs metrics-server", async () => {
    const stages = await loadStages();
    const left = withoutMetricsServer(stages, ["producer", "autoscaling-keda"], absent);
    expect(left).toStartWith(
      "StatefulSet/producer keeps its number of pods: the cluster has no metrics.k8s.io/v1beta1",
    );
    expect(left).toContain("to install it: kubectl apply -f https://github.com/kubernetes-sigs/metrics-server/");
    expect(withoutMetricsServer(stages, ["producer"], absent)).toStartWith(
      "StatefulSet/producer, Deployment/processor ",
    );
  });

  test("says when metrics-server was installed since the last deploy", async () => {
    const left = withoutMetricsServer(await loadStages(), ["autoscaling-keda"], present);
    expect(left).toContain("metrics-server now: bun scripts/deploy.ts adds the autoscaler");
  });

  test("is nothing where every workload has an autoscaler, also while metrics-server is down", async () => {
    const stages = await loadStages();
    for (const processor of ["autoscaling-keda", "autoscaling-cpu"]) {
      expect(withoutMetricsServer(stages, ["autoscaling-producer", processor], absent)).toBeUndefined();
    }
  });
});
