/** destroy: the plan over hand-written snapshots, and its execution on a cluster in memory. */
import { describe, expect, test } from "bun:test";
import { type KubernetesObject, refOf } from "../../../scripts/cluster/cluster.ts";
import { KEDA_API } from "../../../scripts/deploy/keda.ts";
import { executeRemoval, planDestroy, planRemoval, type RemovalSnapshot } from "../../../scripts/deploy/removal.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { silentReport } from "../cli/silent-report.ts";
import { FakeCluster } from "./fake-cluster.ts";

const stages = await loadStages();
const every = stages.flatMap(({ objects }) => objects);
const APIS = new Set(every.map(({ apiVersion }) => apiVersion));
const namespaces = every.filter(({ kind }) => kind === "Namespace");
const claim: KubernetesObject = {
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name: "data-kafka-0", namespace: "conveyor" },
};
const foreign: KubernetesObject = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "foreign", namespace: "default" },
};
const { signal } = new AbortController();
const silent = silentReport();

const planned = (more: Partial<RemovalSnapshot> = {}, keepData = false) =>
  planRemoval({ apiVersions: APIS, namespaces, claims: [claim], kedaObjects: [], ...more }, stages, { keepData });
const kindsOf = (objects: readonly KubernetesObject[]) => new Set(objects.map(({ kind }) => kind));

describe("planRemoval", () => {
  test("deletes every object in the reverse order of a deploy, and both namespaces", () => {
    const plan = planned()!;
    expect(plan.objects.map(refOf)).toEqual(every.map(refOf).reverse());
    expect(plan.namespaces).toEqual(["conveyor", "conveyor-logging"]);
  });

  test("with keepData keeps volume claims, Secrets and namespaces", () => {
    const plan = planned({}, true)!;
    for (const kind of ["PersistentVolumeClaim", "Secret", "Namespace"])
      expect(kindsOf(plan.objects)).not.toContain(kind);
    expect(plan.namespaces).toEqual([]);
    expect(plan.claims).toEqual(["data-kafka-0"]);
    expect(kindsOf(plan.objects)).toContain("StatefulSet");
  });

  test("omits objects of APIs that the server does not know", () => {
    const plan = planned({ apiVersions: new Set(["v1"]) })!;
    expect(new Set(plan.objects.map(({ apiVersion }) => apiVersion))).toEqual(new Set(["v1"]));
  });

  test("is undefined without the pipeline's namespace", () => {
    expect(planned({ namespaces: [] })).toBeUndefined();
  });

  test("refuses a namespace that this project did not create, exit 3", () => {
    const theirs = { apiVersion: "v1", kind: "Namespace", metadata: { name: "conveyor" } };
    expect(() => planned({ namespaces: [theirs] })).toThrow("namespace conveyor was not created by this project");
  });
});

describe("executeRemoval", () => {
  const deployed = () => new FakeCluster(APIS).add(...every, claim, foreign);
  const destroy = async (cluster: FakeCluster, keepData: boolean) => {
    const plan = (await planDestroy(cluster, { keepData }, signal))!;
    expect(cluster.mutations).toEqual([]);
    await executeRemoval(cluster, plan, silent, signal);
    return { plan, left: [...cluster.objects.values()].map(refOf) };
  };

  test("leaves nothing of the pipeline; a second run has nothing to do", async () => {
    const cluster = deployed();
    expect((await destroy(cluster, false)).left).toEqual(["Service/foreign (default)"]);
    expect(await planDestroy(cluster, { keepData: false }, signal)).toBeUndefined();
  });

  test("with keepData deletes exactly the objects of the plan", async () => {
    const { plan, left } = await destroy(deployed(), true);
    const refs = plan.objects.map(refOf);
    expect(left.toSorted()).toEqual(
      [...every, claim, foreign]
        .map(refOf)
        .filter((ref) => !refs.includes(ref))
        .toSorted(),
    );
    expect(left).toContain("PersistentVolumeClaim/prometheus-data");
  });

  test("deletes KEDA's objects before the pods that they scale", async () => {
    const cluster = deployed();
    await destroy(cluster, false);
    const keda = every.filter(({ apiVersion }) => apiVersion === KEDA_API).map((object) => `delete ${refOf(object)}`);
    expect(cluster.mutations.slice(0, keda.length).toSorted()).toEqual(keda.toSorted());
  });
});
