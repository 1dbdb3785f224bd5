/** Autoscalers against the workloads that they scale and the topic. */
import { describe, expect, test } from "bun:test";
import { isDeepStrictEqual } from "node:util";
import type { KubernetesObject } from "../../scripts/cluster/cluster.ts";
import { autoscalerOf } from "../../scripts/deploy/autoscalers.ts";
import { loadManifests, podTemplateOf } from "../../scripts/deploy/manifests.ts";
import { EVENTS_TOPIC, TOPIC_TABLE } from "../../services/domain/kafka-layout.ts";
import { cpuOf } from "./reading.ts";

interface Behavior {
  scaleUp: { stabilizationWindowSeconds: number };
  scaleDown: { stabilizationWindowSeconds: number; policies: { type: string; value: number; periodSeconds: number }[] };
}
interface Trigger {
  type: string;
  name: string;
  metadata: Record<string, string>;
  authenticationRef?: { name: string };
}
type Hpa = KubernetesObject & {
  spec: {
    minReplicas: number;
    maxReplicas: number;
    metrics: { type: string; resource: { name: string; target: { averageUtilization: number } } }[];
    behavior: Behavior;
  };
};
type ScaledObject = KubernetesObject & {
  spec: {
    minReplicaCount: number;
    maxReplicaCount: number;
    fallback?: unknown;
    advanced: { horizontalPodAutoscalerConfig: { behavior: Behavior } };
    triggers: Trigger[];
  };
};

const objects = await loadManifests();
const find = <T = KubernetesObject>(kind: string, name: string) =>
  objects.find((object) => object.kind === kind && object.metadata.name === name) as T;
const scaledObject = find<ScaledObject>("ScaledObject", "processor");
const standIn = find<Hpa>("HorizontalPodAutoscaler", "processor");
const producer = find<Hpa>("HorizontalPodAutoscaler", "producer");
const cpuRequestOf = (kind: string, name: string) => {
  const [container] = podTemplateOf(find(kind, name))!.spec.containers;
  return cpuOf((container!.resources as { requests: Record<string, string> }).requests.cpu);
};

test("a scaled workload sets no replicas: each deploy would overwrite the autoscaler's number", () => {
  const targets = new Set(objects.flatMap((object) => autoscalerOf(object)?.target ?? []));
  expect([...targets].sort()).toEqual(["Deployment/processor", "StatefulSet/producer"]);
  for (const target of targets) {
    const [kind, name] = target.split("/") as [string, string];
    expect((find(kind, name).spec as { replicas?: number }).replicas).toBeUndefined();
  }
});

test("processors: at least 1, at most as many as the topic has partitions", () => {
  const { partitions } = TOPIC_TABLE.find(({ name }) => name === EVENTS_TOPIC)!;
  expect(scaledObject.spec).toMatchObject({ minReplicaCount: 1, maxReplicaCount: partitions });
  expect(standIn.spec).toMatchObject({ minReplicas: 1, maxReplicas: partitions });
});

test("the producer scales from 1 to 5 at 70 % of its CPU", () => {
  expect(producer.spec).toMatchObject({ minReplicas: 1, maxReplicas: 5 });
  expect(producer.spec.metrics.map(({ resource }) => [resource.name, resource.target.averageUtilization])).toEqual([
    ["cpu", 70],
  ]);
});

test("scale up fast and down slowly; the CPU fallback behaves like the KEDA autoscaler", () => {
  const { behavior } = scaledObject.spec.advanced.horizontalPodAutoscalerConfig;
  for (const { scaleUp, scaleDown } of [behavior, standIn.spec.behavior, producer.spec.behavior]) {
    expect(scaleUp.stabilizationWindowSeconds).toBe(0);
    expect(scaleDown.stabilizationWindowSeconds).toBeGreaterThanOrEqual(60);
  }
  expect(isDeepStrictEqual(standIn.spec.behavior, behavior)).toBe(true);
});

describe.each(scaledObject.spec.triggers.map((trigger) => [trigger.name, trigger] as const))(
  "trigger %s",
  (_, trigger) => {
    const { query, threshold } = trigger.metadata as { query: string; threshold: string };

    test("treats a missing value as an error, not as zero", () => {
      // KEDA's default is "true": a dead exporter would look like zero lag, and everything would be scaled down.
      expect(trigger.metadata.ignoreNullValues).toBe("false");
      expect(scaledObject.spec.fallback).toBeUndefined();
    });

    test("queries this folder's Prometheus over verified TLS", () => {
      expect(trigger.metadata.serverAddress).toBe("https://prometheus.conveyor.svc:9090");
      expect(trigger.metadata.unsafeSsl).toBeUndefined();
      const authentication = find<
        KubernetesObject & { spec: { configMapTargetRef: { parameter: string; name: string; key: string }[] } }
      >("TriggerAuthentication", trigger.authenticationRef!.name);
      const references = authentication.spec.configMapTargetRef;
      expect(references.map(({ parameter }) => parameter)).toContain("ca");
      for (const { name, key } of references) {
        const map = find<KubernetesObject & { data: Record<string, string> }>("ConfigMap", name);
        const filled = map.metadata.annotations?.["conveyor.dev/fill-from"] ?? "";
        expect(Object.hasOwn(map.data, key) || filled.startsWith(`${key}=`), key).toBe(true);
      }
    });

    test("while the database is saturated, returns exactly the value of the current replicas", () => {
      const [, factor] = /\nor\n(\d+) \* max\(kube_deployment_spec_replicas\{[^}]*deployment="processor"\}\)/.exec(
        query,
      )!;
      expect(factor).toBe(threshold);
    });
  },
);

test("the CPU target is 160 % of the request, as in the CPU fallback", () => {
  const threshold = Number(scaledObject.spec.triggers.find(({ name }) => name === "cpu")!.metadata.threshold);
  expect(threshold).toBeCloseTo(1.6 * 1000 * cpuRequestOf("Deployment", "processor"));
  expect(standIn.spec.metrics[0]!.resource.target.averageUtilization).toBe(160);
});

test("KEDA's network policy admits only KEDA to Prometheus", () => {
  type Policy = KubernetesObject & { spec: { policyTypes: string[]; ingress: { from: unknown[] }[] } };
  const policy = find<Policy>("NetworkPolicy", "prometheus-from-keda");
  expect(policy.spec.policyTypes).toEqual(["Ingress"]);
  expect(policy.spec.ingress.flatMap(({ from }) => from)).toEqual([
    {
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "keda" } },
      podSelector: { matchLabels: { app: "keda-operator" } },
    },
  ]);
});
