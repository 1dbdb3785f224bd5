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
import { FakeCluster, kedaDefinition, kedaObject, kedaOperator, metricsApi } from "./fake-cluster.ts";

const signal = new AbortController().signal;
const OBJECTS = [kedaObject("TriggerAuthentication", "processor-scaling"), kedaObject("ScaledObject", "processor")];
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
    const cluster = clusterWith(...OBJECTS, kedaObject("ScaledObject", "other"));
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
  const NO_ENDPOINTS = {
    reason: "MissingEndpoints",
    message: 'endpoints for service/keda-metrics-apiserver in "keda" have no addresses with port name "https"',
  };
  const stateOf = async (cluster: FakeCluster, wait: KedaWait = { limitMs: 0 }) =>
    await readKedaState(cluster, cluster.apis, signal, wait);

  test("is absent without the API", async () => {
    expect(await stateOf(new FakeCluster([]))).toEqual({ status: "absent" });
  });

  test("is uninstalling exactly while the definition of its kind is being deleted", async () => {
    const cluster = clusterWith(metricsApi(), kedaOperator(1, 1), kedaDefinition());
    expect(await stateOf(cluster)).toEqual({ status: "working" });
    cluster.add(kedaDefinition("2026-11-25T10:00:00Z"));
    expect(await stateOf(cluster)).toEqual({ status: "uninstalling" });
  });

  test.each([
    ["both programs are available", [metricsApi(), kedaOperator(1, 1)], undefined],
    ["only the definitions exist", [], "there is no APIService v1beta1.external.metrics.k8s.io"],
    ["the operator was deleted", [metricsApi()], "there is no Deployment keda-operator in namespace keda"],
    [
      "the operator is scaled to 0 and the metrics API answers",
      [metricsApi(), kedaOperator(0)],
      "Deployment keda-operator (keda) is scaled to 0",
    ],
    [
      "the operator has no available pod",
      [metricsApi(), kedaOperator(1)],
      "Deployment keda-operator (keda) has no available pod",
    ],
    [
      "the metrics API does not answer",
      [metricsApi("False", NO_ENDPOINTS), kedaOperator(1, 1)],
      `APIService v1beta1.external.metrics.k8s.io is not available (MissingEndpoints: ${NO_ENDPOINTS.message})`,
    ],
    [
      "the API server itself serves external metrics",
      [{ ...metricsApi(), spec: {} }, kedaOperator(1, 1)],
      "there is no APIService v1beta1.external.metrics.k8s.io",
    ],
  ] as [string, KubernetesObject[], string | undefined][])("%s", async (_, objects, problem) => {
    expect(await stateOf(clusterWith(...objects))).toEqual(
      problem ? { status: "idle", problem } : { status: "working" },
    );
  });

  /** A cluster whose operator changes after the first read of it. */
  const changing = (first: KubernetesObject, later: KubernetesObject, metrics = metricsApi()) => {
    const cluster = clusterWith(metrics, first);
    cluster.onGet = (object) => {
      if (object.metadata.name === "keda-operator") cluster.add(later);
    };
    return cluster;
  };

  test("awaits a pod that is starting and reports it once", async () => {
    const waits: string[] = [];
    const cluster = changing(kedaOperator(1), kedaOperator(1, 1));
    expect(await stateOf(cluster, { limitMs: 20_000, onWait: (problem) => waits.push(problem) })).toEqual({
      status: "working",
    });
    expect(waits).toEqual(["Deployment keda-operator (keda) has no available pod"]);
  });

  test("does not await a problem that cannot pass", async () => {
    expect(await stateOf(changing(kedaOperator(0), kedaOperator(1, 1)), { limitMs: 20_000 })).toEqual({
      status: "idle",
      problem: "Deployment keda-operator (keda) is scaled to 0",
    });
  });

  test("after its limit is idle with the last problem", async () => {
    const cluster = changing(kedaOperator(1), kedaOperator(1, 1), metricsApi("False", NO_ENDPOINTS));
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
