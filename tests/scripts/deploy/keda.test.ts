/** KEDA's state on a cluster, and the deletion of its objects with and without a KEDA that removes its finalizers. */
import { describe, expect, test } from "bun:test";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import {
  deleteKedaObjects,
  KEDA_API,
  type KedaWait,
  listKedaObjects,
  readKedaState,
} from "../../../scripts/deploy/keda.ts";
import { FakeCluster } from "./fake-cluster.ts";

const signal = new AbortController().signal;
const objectOf = (kind: string, name: string): KubernetesObject => ({
  apiVersion: KEDA_API,
  kind,
  metadata: { name, namespace: "conveyor" },
  spec: { scaleTargetRef: { name } },
});
const OBJECTS = [objectOf("TriggerAuthentication", "processor-scaling"), objectOf("ScaledObject", "processor")];
const clusterWith = (...objects: KubernetesObject[]) => new FakeCluster([KEDA_API]).add(...objects);
const namesOf = (objects: readonly KubernetesObject[]) => objects.map(({ metadata }) => metadata.name);

describe("deleteKedaObjects", () => {
  test("with a working KEDA deletes the objects and removes no finalizer", async () => {
    const cluster = clusterWith(...OBJECTS);
    expect(await deleteKedaObjects(cluster, OBJECTS, signal)).toEqual([]);
    expect(await listKedaObjects(cluster, signal)).toEqual([]);
    expect(cluster.mutations).toEqual([
      "delete ScaledObject/processor",
      "delete TriggerAuthentication/processor-scaling",
    ]);
  });

  test("deletes only the given objects", async () => {
    const cluster = clusterWith(...OBJECTS, objectOf("ScaledObject", "other"));
    await deleteKedaObjects(cluster, OBJECTS, signal);
    expect(namesOf(await listKedaObjects(cluster, signal))).toEqual(["other"]);
  });

  test("without KEDA removes the finalizers, or kind and namespace would never be deleted", async () => {
    const cluster = clusterWith(...OBJECTS);
    cluster.kedaRuns = false;
    expect(await deleteKedaObjects(cluster, OBJECTS, signal, 0)).toEqual([
      "scaledobjects/processor",
      "triggerauthentications/processor-scaling",
    ]);
    expect(await listKedaObjects(cluster, signal)).toEqual([]);
  });

  test("is done when the kind was deleted meanwhile", async () => {
    const cluster = clusterWith();
    cluster.unknownResources.add("scaledobjects.keda.sh").add("triggerauthentications.keda.sh");
    expect(await deleteKedaObjects(cluster, OBJECTS, signal, 0)).toEqual([]);
  });

  test("throws an error that names an object that remains", async () => {
    const cluster = clusterWith(...OBJECTS);
    cluster.kedaRuns = false;
    cluster.undeletable = true;
    await expect(deleteKedaObjects(cluster, OBJECTS, signal, 0)).rejects.toThrow(
      "scaledobjects.keda.sh: processor cannot be deleted",
    );
  });
});

describe("readKedaState", () => {
  const api = (status: "True" | "False", more: object = {}): KubernetesObject => ({
    apiVersion: "apiregistration.k8s.io/v1",
    kind: "APIService",
    metadata: { name: "v1beta1.external.metrics.k8s.io" },
    spec: { service: { name: "keda-metrics-apiserver", namespace: "keda", port: 443 }, version: "v1beta1" },
    status: { conditions: [{ type: "Available", status, ...more }] },
  });
  const NO_ENDPOINTS = {
    reason: "MissingEndpoints",
    message: 'endpoints for service/keda-metrics-apiserver in "keda" have no addresses with port name "https"',
  };
  const operator = (replicas: number, availableReplicas?: number): KubernetesObject => ({
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "keda-operator", namespace: "keda" },
    spec: { replicas },
    status: { observedGeneration: 1, ...(availableReplicas === undefined ? {} : { availableReplicas }) },
  });
  const stateOf = async (cluster: FakeCluster, wait: KedaWait = { limitMs: 0 }) =>
    await readKedaState(cluster, cluster.apis, signal, wait);

  test("is absent without the API", async () => {
    expect(await stateOf(new FakeCluster([]))).toEqual({ status: "absent" });
  });

  test("is uninstalling exactly while the definition of its kind is being deleted", async () => {
    const definition = (more: object): KubernetesObject => ({
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "scaledobjects.keda.sh", ...more },
    });
    const cluster = clusterWith(api("True"), operator(1, 1), definition({}));
    expect(await stateOf(cluster)).toEqual({ status: "working" });
    cluster.add(definition({ deletionTimestamp: "2026-11-25T10:00:00Z" }));
    expect(await stateOf(cluster)).toEqual({ status: "uninstalling" });
  });

  test.each([
    ["both programs are available", [api("True"), operator(1, 1)], undefined],
    ["only the definitions exist", [], "there is no APIService v1beta1.external.metrics.k8s.io"],
    ["the operator was deleted", [api("True")], "there is no Deployment keda-operator in namespace keda"],
    [
      "the operator is scaled to 0 and the metrics API answers",
      [api("True"), operator(0)],
      "Deployment keda-operator (keda) is scaled to 0",
    ],
    [
      "the operator has no available pod",
      [api("True"), operator(1)],
      "Deployment keda-operator (keda) has no available pod",
    ],
    [
      "the metrics API does not answer",
      [api("False", NO_ENDPOINTS), operator(1, 1)],
      `APIService v1beta1.external.metrics.k8s.io is not available (MissingEndpoints: ${NO_ENDPOINTS.message})`,
    ],
    [
      "the API server itself serves external metrics",
      [{ ...api("True"), spec: {} }, operator(1, 1)],
      "there is no APIService v1beta1.external.metrics.k8s.io",
    ],
  ] as [string, KubernetesObject[], string | undefined][])("%s", async (_, objects, problem) => {
    expect(await stateOf(clusterWith(...objects))).toEqual(
      problem ? { status: "idle", problem } : { status: "working" },
    );
  });

  /** A cluster whose operator changes after the first read of it. */
  const changing = (first: KubernetesObject, later: KubernetesObject, metrics = api("True")) => {
    const cluster = clusterWith(metrics, first);
    cluster.onGet = (object) => {
      if (object.metadata.name === "keda-operator") cluster.add(later);
    };
    return cluster;
  };

  test("awaits a pod that is starting and reports it once", async () => {
    const waits: string[] = [];
    const cluster = changing(operator(1), operator(1, 1));
    expect(await stateOf(cluster, { limitMs: 20_000, onWait: (problem) => waits.push(problem) })).toEqual({
      status: "working",
    });
    expect(waits).toEqual(["Deployment keda-operator (keda) has no available pod"]);
  });

  test("does not await a problem that cannot pass", async () => {
    expect(await stateOf(changing(operator(0), operator(1, 1)), { limitMs: 20_000 })).toEqual({
      status: "idle",
      problem: "Deployment keda-operator (keda) is scaled to 0",
    });
  });

  test("after its limit is idle with the last problem", async () => {
    const cluster = changing(operator(1), operator(1, 1), api("False", NO_ENDPOINTS));
    expect(await stateOf(cluster, { limitMs: 50 })).toMatchObject({
      status: "idle",
      problem: expect.stringContaining("is not available (MissingEndpoints"),
    });
  });

  test("counts as working for an account that may not read it", async () => {
    const cluster = clusterWith();
    cluster.unknownResources.add("crd").add("apiservice").add("deployment");
    expect(await stateOf(cluster)).toEqual({ status: "working" });
  });
});
