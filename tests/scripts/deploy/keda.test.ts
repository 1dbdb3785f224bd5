/** A cluster without KEDA, or one that it leaves: its objects go, whether or not KEDA is there to let them go; a stand-in for kubectl keeps them as files. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster, type KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { planDeploy } from "../../../scripts/deploy/deployment.ts";
import { deleteKedaObjects, isKedaLeaving, KEDA_API, whyKedaIsIdle } from "../../../scripts/deploy/keda.ts";
import { describeSkipped, loadStages } from "../../../scripts/deploy/stages.ts";
import { removeSuperseded, supersededObjects } from "../../../scripts/deploy/superseded-stage.ts";

/**
 * $STATE holds a file KIND.NAME per object. A delete takes them away when there is a file "keda", as KEDA would; "leaving"
 * is what a definition says of its deletion, "stubborn" keeps what was patched, "kindless" knows no such kind. What is
 * in an object's file is its answer; of the operator "operator.later" comes at the second look. "forbidden" may not look.
 */
const KUBECTL = `#!/bin/bash
while [[ $1 == --* ]]; do [[ $1 == *=* ]] || shift; shift; done
echo "$*" >> "$STATE/log"
case "$1" in
api-versions) printf '%s\\n' v1 apps/v1 networking.k8s.io/v1 autoscaling/v2 keda.sh/v1alpha1 ;;
get)
  if [ "$2" = crd ]; then cat "$STATE/leaving" 2>/dev/null; exit 0; fi
  if [ "$2" = apiservice ] || [ "$2" = deployment ]; then
    if [ -e "$STATE/forbidden" ]; then echo "Error from server (Forbidden)" >&2; exit 1; fi
    cat "$STATE/$2.$3" 2>/dev/null
    if [ "$2" = deployment ] && [ -e "$STATE/operator.later" ]; then mv "$STATE/operator.later" "$STATE/$2.$3"; fi
    exit 0
  fi
  if [ "$3" != -n ]; then
    [ ! -e "$STATE/$2.$3" ] || echo "{\\"metadata\\":{\\"name\\":\\"$3\\"}}"
    exit 0
  fi
  if [ -e "$STATE/kindless" ]; then echo "error: the server doesn't have a resource type \\"$2\\"" >&2; exit 1; fi
  items=""
  for file in "$STATE/$2".*; do
    [ -e "$file" ] && items="$items,{\\"metadata\\":{\\"name\\":\\"\${file##*.}\\"}}"
  done
  echo "{\\"items\\":[\${items#,}]}" ;;
delete)
  if [ "$3" != --all ]; then rm -f "$STATE/$2.$3"; exit 0; fi
  [ -e "$STATE/keda" ] && rm -f "$STATE/$2".* ;;
patch) [ -e "$STATE/stubborn" ] || rm -f "$STATE/$2.$3" ;;
esac
exit 0
`;

let folder: string;
let cluster: Cluster;
const signal = new AbortController().signal;
const LEFT = ["scaledobjects.keda.sh.processor", "triggerauthentications.keda.sh.processor-scaling"];
const has = async (...names: string[]) => {
  for (const name of names) await writeFile(join(folder, "state", name), "");
};
const left = async () => (await readdir(join(folder, "state"))).filter((name) => name.includes(".keda.sh."));
const asked = async () => (await readFile(join(folder, "state", "log"), "utf8")).trim().split("\n");

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-keda-"));
});
beforeEach(async () => {
  await rm(join(folder, "state"), { recursive: true, force: true });
  await Bun.write(join(folder, "state", "log"), "");
  const program = join(folder, "kubectl");
  await writeFile(program, KUBECTL.replaceAll("$STATE", join(folder, "state")), { mode: 0o755 });
  cluster = new Cluster({ context: "test", isLocal: false }, program);
});
afterAll(async () => await rm(folder, { recursive: true, force: true }));

describe("deleteKedaObjects", () => {
  test("KEDA is there: it lets go of everything, and nothing is taken off by hand", async () => {
    await has("keda", ...LEFT);
    expect(await deleteKedaObjects(cluster, signal)).toEqual([]);
    expect(await left()).toEqual([]);
    expect((await asked()).filter((line) => line.startsWith("patch"))).toEqual([]);
  });

  test("KEDA is gone: what it held is freed, the TriggerAuthentication too, or its kind and namespace would never go", async () => {
    await has(...LEFT);
    expect(await deleteKedaObjects(cluster, signal, 0)).toEqual([
      "scaledobjects/processor",
      "triggerauthentications/processor-scaling",
    ]);
    expect(await left()).toEqual([]);
  });

  test("the kind went meanwhile: nothing to do", async () => {
    await has("kindless", ...LEFT);
    expect(await deleteKedaObjects(cluster, signal, 0)).toEqual([]);
  });

  test("what stays all the same is an error that names it", async () => {
    await has("stubborn", ...LEFT);
    await expect(deleteKedaObjects(cluster, signal, 0)).rejects.toThrow(
      "scaledobjects.keda.sh: processor cannot be deleted",
    );
  });
});

test("KEDA is leaving while its definition is being deleted, and only then", async () => {
  expect(await isKedaLeaving(cluster, signal)).toBe(false);
  await writeFile(join(folder, "state", "leaving"), "2026-11-25T10:00:00Z");
  expect(await isKedaLeaving(cluster, signal)).toBe(true);
});

describe("KEDA's kinds are there: does it work?", () => {
  const api = (status: "True" | "False", more: object = {}) => ({
    metadata: { name: "v1beta1.external.metrics.k8s.io" },
    spec: { service: { name: "keda-metrics-apiserver", namespace: "keda", port: 443 }, version: "v1beta1" },
    status: { conditions: [{ type: "Available", status, ...more }] },
  });
  const GONE = {
    reason: "MissingEndpoints",
    message: 'endpoints for service/keda-metrics-apiserver in "keda" have no addresses with port name "https"',
  };
  const operator = (replicas: number, availableReplicas?: number) => ({
    metadata: { name: "keda-operator", namespace: "keda" },
    spec: { replicas },
    status: { observedGeneration: 1, ...(availableReplicas === undefined ? {} : { availableReplicas }) },
  });
  const state = async (given: { api?: object; operator?: object; later?: object }) => {
    const write = (name: string, value: object | undefined) =>
      value && writeFile(join(folder, "state", name), JSON.stringify(value));
    await write("apiservice.v1beta1.external.metrics.k8s.io", given.api);
    await write("deployment.keda-operator", given.operator);
    await write("operator.later", given.later);
  };

  test.each([
    ["both of its programs are available", { api: api("True"), operator: operator(1, 1) }, undefined],
    ["its definitions are all that is left of it", {}, "there is no APIService v1beta1.external.metrics.k8s.io"],
    ["its operator was deleted", { api: api("True") }, "there is no Deployment keda-operator in namespace keda"],
    [
      "its operator was scaled away, its metrics still answer",
      { api: api("True"), operator: operator(0) },
      "Deployment keda-operator (keda) is scaled to 0",
    ],
    [
      "its operator has no pod that works",
      { api: api("True"), operator: operator(1) },
      "Deployment keda-operator (keda) has no pod that is available",
    ],
    [
      "its metrics do not answer",
      { api: api("False", GONE), operator: operator(1, 1) },
      `APIService v1beta1.external.metrics.k8s.io is not available (MissingEndpoints: ${GONE.message})`,
    ],
    [
      "external metrics are the API server's own",
      { api: { ...api("True"), spec: {} }, operator: operator(1, 1) },
      "there is no APIService v1beta1.external.metrics.k8s.io",
    ],
  ])("%s", async (_, given, problem) => {
    await state(given);
    expect(await whyKedaIsIdle(cluster, signal, 0)).toBe(problem);
  });

  test("a pod that is starting is waited for, and said so once", async () => {
    await state({ api: api("True"), operator: operator(1), later: operator(1, 1) });
    const said: string[] = [];
    expect(await whyKedaIsIdle(cluster, signal, 20_000, (problem) => said.push(problem))).toBeUndefined();
    expect(said).toEqual(["Deployment keda-operator (keda) has no pod that is available"]);
  });

  test("what cannot pass by itself is not waited for", async () => {
    await state({ api: api("True"), operator: operator(0), later: operator(1, 1) });
    expect(await whyKedaIsIdle(cluster, signal, 20_000)).toBe("Deployment keda-operator (keda) is scaled to 0");
  });

  test("a wait that was for nothing ends with what was seen last", async () => {
    await state({ api: api("False", GONE), operator: operator(1), later: operator(1, 1) });
    expect(await whyKedaIsIdle(cluster, signal, 50)).toContain("is not available (MissingEndpoints");
  });

  test("deploy takes the way that works, and says why", async () => {
    const ways = async () => {
      const { leftOut, objects } = await planDeploy(cluster, { certificates: folder }, signal);
      const refs = objects.map(({ ref }) => ref).filter((ref) => /(ScaledObject|Autoscaler)\/processor$/.test(ref));
      return { refs, said: leftOut.map(describeSkipped).find((line) => line?.includes("keda")) };
    };
    await state({ api: api("True"), operator: operator(1, 1) });
    expect(await ways()).toEqual({ refs: ["ScaledObject/processor"], said: undefined });
    await state({ operator: operator(0) });
    expect(await ways()).toEqual({
      refs: ["HorizontalPodAutoscaler/processor"],
      said: expect.stringMatching(
        /^left out: autoscaling-keda \(the cluster has keda\.sh\/v1alpha1, but nobody works on it: Deployment keda-operator \(keda\) is scaled to 0; to get it: kubectl apply .*\); autoscaling-cpu stands in$/,
      ),
    });
  });

  test("an account that may not look is told nothing", async () => {
    await has("forbidden");
    expect(await whyKedaIsIdle(cluster, signal, 0)).toBeUndefined();
  });
});

describe("what the stage with KEDA left, where the other one stands in", () => {
  const names = (objects: readonly KubernetesObject[]) =>
    objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);

  test("is found and goes: its policy and its settings, and KEDA's kinds where the server knows them", async () => {
    const stages = await loadStages();
    const standIn = stages.find(({ name }) => name === "autoscaling-cpu")!;
    await has(
      "NetworkPolicy.prometheus-from-keda",
      "ConfigMap.processor-scaling",
      "NetworkPolicy.default-deny",
      ...LEFT,
    );
    await has("ScaledObject.processor", "TriggerAuthentication.processor-scaling");
    const plain = new Set(["v1", "apps/v1", "networking.k8s.io/v1"]);
    const found = await supersededObjects(cluster, standIn, stages, plain);
    expect(names(found)).toEqual(["NetworkPolicy/prometheus-from-keda", "ConfigMap/processor-scaling"]);
    expect(names(await supersededObjects(cluster, standIn, stages, new Set([...plain, KEDA_API])))).toEqual([
      "NetworkPolicy/prometheus-from-keda",
      "ConfigMap/processor-scaling",
      "TriggerAuthentication/processor-scaling",
      "ScaledObject/processor",
    ]);
    await removeSuperseded(cluster, found, signal);
    expect(await supersededObjects(cluster, standIn, stages, plain)).toEqual([]);
    expect((await readdir(join(folder, "state"))).includes("NetworkPolicy.default-deny")).toBe(true);
  });

  test("a stage that stands in for none takes nothing away", async () => {
    const stages = await loadStages();
    await has("NetworkPolicy.prometheus-from-keda");
    const others = stages.filter(({ standsInFor }) => !standsInFor);
    for (const stage of others)
      expect(await supersededObjects(cluster, stage, stages, new Set(["networking.k8s.io/v1"]))).toEqual([]);
  });
});
