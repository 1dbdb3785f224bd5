/** destroy: the plan over hand-written snapshots, and its execution on a cluster in memory. */
import { describe, expect, test } from "bun:test";
import { type KubernetesObject, refOf } from "../../../scripts/cluster/cluster.ts";
import { DRILL_LABELS } from "../../../scripts/cluster/drill-leftovers.ts";
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
const drills: KubernetesObject = {
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name: "conveyor-drills", labels: DRILL_LABELS },
};
const { signal } = new AbortController();
const silent = silentReport();

const planned = (more: Partial<RemovalSnapshot> = {}, keepData = false) =>
  planRemoval({ apiVersions: APIS, namespaces, claims: [claim], kedaObjects: [], existing: every, ...more }, stages, {
    keepData,
  });
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

  test("with keepData keeps the settings by which the next deploy finds its stores and its schemas", () => {
    const settings = ["external", "event-schemas", "former"].map((name) => ({
      ...{ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "conveyor" } },
    }));
    const refs = planned({ existing: [...every, ...settings] }, true)!.objects.map(refOf);
    expect(settings.map(refOf).filter((ref) => refs.includes(ref))).toEqual(["ConfigMap/former"]);
    const all = planned({ existing: [...every, ...settings] })!.objects.map(refOf);
    expect(all).toEqual(expect.arrayContaining(settings.map(refOf)));
  });

  test("omits objects of APIs that the server does not know", () => {
    const plan = planned({ apiVersions: new Set(["v1"]) })!;
    expect(new Set(plan.objects.map(({ apiVersion }) => apiVersion))).toEqual(new Set(["v1"]));
  });

  test("lists only objects that exist", () => {
    const existing = every.filter(({ kind }) => kind === "Service" || kind === "Namespace");
    expect(planned({ existing })!.objects.map(refOf)).toEqual(existing.map(refOf).reverse());
  });

  test("is undefined where nothing of the pipeline exists", () => {
    expect(planned({ namespaces: [], existing: [], claims: [] })).toBeUndefined();
    // With kept data only volumes, Secrets and namespaces are left, and stay.
    const kept = every.filter(({ kind }) => ["PersistentVolumeClaim", "Secret", "Namespace"].includes(kind));
    expect(planned({ existing: kept }, true)).toBeUndefined();
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

  test.each([false, true])(
    "deletes what an interrupted run and killed drills have left, keepData %p",
    async (keepData) => {
      const roles = every.filter(({ kind }) => kind.startsWith("ClusterRole"));
      expect(roles.length).toBeGreaterThan(2);
      const cluster = new FakeCluster(APIS).add(...roles, drills, foreign);
      const { plan, left } = await destroy(cluster, keepData);
      expect(left).toEqual(["Service/foreign (default)"]);
      expect(plan.objects.map(refOf).toSorted()).toEqual([...roles, drills].map(refOf).toSorted());
      expect(await planDestroy(cluster, { keepData }, signal)).toBeUndefined();
    },
  );

  test("deletes the namespace of logs where the pipeline's is missing", async () => {
    const cluster = new FakeCluster(APIS).add(...namespaces.filter(({ metadata }) => metadata.name !== "conveyor"));
    expect((await destroy(cluster, false)).left).toEqual([]);
  });

  test("deletes objects of another version, and no namespace of another project that has the drills' name", async () => {
    const old = [every.find(({ kind }) => kind === "ClusterRole")!, every.find(({ kind }) => kind === "Deployment")!];
    const renamed = old.map((object) => ({ ...object, metadata: { ...object.metadata, name: "former" } }));
    const theirs = { ...drills, metadata: { name: "conveyor-drills" } };
    const cluster = deployed().add(...renamed, theirs);
    expect((await destroy(cluster, true)).left).not.toContain("Deployment/former");
    expect(cluster.find("ClusterRole/former")).toBeUndefined();
    cluster.mutations.length = 0;
    expect((await destroy(cluster, false)).left).toEqual(["Service/foreign (default)", "Namespace/conveyor-drills"]);
  });

  test("deletes KEDA's objects before the pods that they scale", async () => {
    const cluster = deployed();
    await destroy(cluster, false);
    const keda = every.filter(({ apiVersion }) => apiVersion === KEDA_API).map((object) => `delete ${refOf(object)}`);
    expect(cluster.mutations.slice(0, keda.length).toSorted()).toEqual(keda.toSorted());
  });
});
