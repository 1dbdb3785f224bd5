/** The size of a deployed pipeline, and the removal of what only some sizes have. */
import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { refOf } from "../../../scripts/cluster/cluster.ts";
import { MANIFEST_FOLDER, parseManifest } from "../../../scripts/deploy/manifests.ts";
import { plan } from "../../../scripts/deploy/plan.ts";
import { planDestroy } from "../../../scripts/deploy/removal.ts";
import { deployedSize, loadSizedStages, sized } from "../../../scripts/deploy/sizes.ts";
import { readSnapshot } from "../../../scripts/deploy/snapshot.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { FakeCluster } from "./fake-cluster.ts";

const stages = await loadStages();
const every = stages.flatMap(({ objects }) => objects);
const namespace = every.find(({ metadata }) => metadata.name === "conveyor")!;
const { signal } = new AbortController();

describe("deployedSize", () => {
  const of = async (annotations?: Record<string, string>) =>
    await deployedSize(
      new FakeCluster([]).add({
        ...namespace,
        metadata: { name: "conveyor", ...(annotations ? { annotations } : {}) },
      }),
    );

  test("is the annotation of the Namespace, and small without one", async () => {
    expect(await of({ "conveyor.dev/size": "standard" })).toBe("standard");
    expect(await of()).toBe("small");
    expect(await deployedSize(new FakeCluster([]))).toBe("small");
  });

  test("of another version is refused by name", async () => {
    await expect(of({ "conveyor.dev/size": "huge" })).rejects.toMatchObject({
      message: 'Namespace conveyor: conveyor.dev/size must be small, standard, large; got "huge"',
      exitCode: 3,
    });
  });
});

test("size small needs no kubectl and is k8s/ as it is", async () => {
  const kubectl = () => Promise.reject(new Error("kubectl was called"));
  expect(await sized(stages, "small", kubectl)).toEqual(stages);
  expect(await loadSizedStages(new FakeCluster([]), undefined, signal)).toEqual(stages);
});

test("a class of priority is removed with the size that has it, and by destroy", async () => {
  const text = await readFile(join(MANIFEST_FOLDER, "sizes/standard/priorityclass.yaml"), "utf8");
  const apis = new Set(every.map(({ apiVersion }) => apiVersion));
  const cluster = new FakeCluster(apis).add(namespace, ...parseManifest(text, "priorityclass.yaml"));
  const snapshot = await readSnapshot(cluster, stages, signal, { limitMs: 0 });
  const { orphans } = plan(snapshot, stages, []);
  expect(orphans.map(({ object }) => refOf(object))).toEqual(["PriorityClass/conveyor-stores"]);
  const removal = await planDestroy(cluster, { keepData: true }, signal);
  expect(removal!.objects.map(refOf)).toEqual(["PriorityClass/conveyor-stores"]);
});
