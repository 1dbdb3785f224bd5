/**
 * Goal: a stage that was deployed once and is left out now leaves nothing behind but its data, and one that runs is not
 * taken away because an image cannot be had this time. Method: the stages as they
 * are; a stand-in for kubectl that has what the test gives it and writes down what it is told to apply and to delete.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NETWORK_CHECKS } from "../../../scripts/checks/network.ts";
import { POD_CHECKS } from "../../../scripts/checks/pods.ts";
import { TerminalReport } from "../../../scripts/cli/report.ts";
import { ProbeSession } from "../../../scripts/clients/probe-session.ts";
import { Cluster, type KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { ensureCertificates } from "../../../scripts/deploy/certificates.ts";
import { planDeploy } from "../../../scripts/deploy/deployment.ts";
import { CONFIG_HASH, imagesOf } from "../../../scripts/deploy/manifests.ts";
import { findOrphans, removeOrphans } from "../../../scripts/deploy/orphans.ts";
import { selectStages } from "../../../scripts/deploy/stage-selection.ts";
import { loadStages, skippedStages } from "../../../scripts/deploy/stages.ts";
import { reportPlan } from "../../../scripts/deploy.ts";
import { heldOrMissing } from "../../../scripts/images/index.ts";

type Workload = { spec: { template: { metadata: { annotations: Record<string, string> } } } };

const stages = await loadStages();
const every = stages.flatMap(({ objects }) => objects);
const apiVersions = new Set(every.map(({ apiVersion }) => apiVersion));
const lokiImages = imagesOf(stages.find(({ name }) => name === "logging")!.objects);
const { signal } = new AbortController();

const ref = ({ kind, metadata }: KubernetesObject) => `${kind}/${metadata.name}`;
const refsOf = (stage: string) => stages.find(({ name }) => name === stage)!.objects.map(ref);

/**
 * Has what is in `live.json`: answers a get of one of it, of a kind, or of a list; an apply with what it was given, which
 * it keeps; keeps the list of a delete.
 */
const KUBECTL = `
const args = process.argv.slice(2);
while (args[0].startsWith("--")) args.splice(0, 2);
const say = (value) => value && console.log(JSON.stringify(value));
const key = ({ kind, metadata }) => kind + "/" + metadata.name;
const live = await Bun.file(import.meta.dir + "/live.json").json();
const given = args.includes("-") ? JSON.parse(await Bun.stdin.text()).items : [];
const place = (object) => key(object) + "/" + object.metadata.namespace;
const asked = new Set(given.map(place));
if (args[0] === "api-versions") console.log([...new Set(live.map(({ apiVersion }) => apiVersion))].join("\\n"));
else if (args[0] === "get" && args[1] === "-f") say({ kind: "List", items: live.filter((object) => asked.has(place(object))) });
else if (args[0] === "get" && args[1] === "networkpolicy")
  say({ items: live.filter(({ kind, metadata }) => kind === "NetworkPolicy" && metadata.namespace === args[3]) });
else if (args[0] === "get" && args[2] === "-n") say({ items: [] });
else if (args[0] === "get") say(live.find((object) => key(object).toLowerCase() === (args[1] + "/" + args[2]).toLowerCase()));
else if (args[0] === "apply") {
  for (const object of given) await Bun.write(import.meta.dir + "/applied/" + key(object), JSON.stringify(object));
  say({ kind: "List", items: given });
}
else if (args[0] === "delete") await Bun.write(import.meta.dir + "/deleted.json", JSON.stringify(given.map(key)));
else process.exit(1);
`;

let folder: string;
let cluster: Cluster;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-left-behind-"));
  await writeFile(join(folder, "kubectl.ts"), KUBECTL);
  const program = join(folder, "kubectl");
  await writeFile(program, `#!/bin/sh\nexec ${process.execPath} ${join(folder, "kubectl.ts")} "$@"\n`, { mode: 0o755 });
  cluster = new Cluster({ context: "test", isLocal: false }, program);
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

const inCluster = async (live: readonly KubernetesObject[]) =>
  await writeFile(join(folder, "live.json"), JSON.stringify(live));
const without = (images: readonly string[], apis = apiVersions) => skippedStages(stages, new Set(images), apis);

describe("a stage that is left out and was deployed before", () => {
  test("leaves no policy, workload or rule; its volume, Secrets and namespace stay", async () => {
    await inCluster(every);
    const behind = await findOrphans(cluster, without(lokiImages), stages, apiVersions, signal);
    await removeOrphans(cluster, behind, signal);
    const deleted = (await Bun.file(join(folder, "deleted.json")).json()) as string[];
    const kept = refsOf("logging").filter((name) => !deleted.includes(name));
    expect(kept).toEqual([
      "Secret/loki-tls",
      "PersistentVolumeClaim/loki-data",
      "Namespace/conveyor-logging",
      "Secret/promtail-tls",
    ]);
    expect(deleted.filter((name) => !refsOf("logging").includes(name))).toEqual([]);
    expect(deleted).toContain("NetworkPolicy/loki");
    expect(deleted).toContain("NetworkPolicy/promtail");
    // Policies are the last, so that nothing runs without them that they hold back.
    expect(deleted.indexOf("NetworkPolicy/loki")).toBeGreaterThan(deleted.indexOf("Deployment/loki"));
  });

  test("what bears its names and is not of this project stays", async () => {
    await inCluster(every.map((object) => ({ ...object, metadata: { ...object.metadata, labels: {} } })));
    expect(await findOrphans(cluster, without(lokiImages), stages, apiVersions, signal)).toEqual([]);
  });

  test("was never deployed: nothing is there, and nothing is deleted", async () => {
    await inCluster(every.filter((object) => !refsOf("logging").includes(ref(object))));
    const behind = await findOrphans(cluster, without(lokiImages), stages, apiVersions, signal);
    await removeOrphans(cluster, behind, signal);
    expect(behind).toEqual([]);
    expect(await Bun.file(join(folder, "deleted.json")).exists()).toBe(false);
  });

  test("a stage with a stand-in, a stand-in that is not needed, and stages that are there are left alone", async () => {
    await inCluster(every);
    const noKeda = new Set([...apiVersions].filter((api) => !api.startsWith("keda.sh/")));
    for (const apis of [apiVersions, noKeda]) {
      expect(await findOrphans(cluster, without([], apis), stages, apis, signal)).toEqual([]);
    }
  });
});

/** `work` with certificates of its own and nothing in the cache: no image is there that an archive would have to bring. */
async function withEmptyCache<T>(work: (certificates: string) => Promise<T>): Promise<T> {
  const cache = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = join(folder, "cache");
  try {
    await ensureCertificates(join(folder, "certs"));
    return await work(join(folder, "certs"));
  } finally {
    if (cache === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = cache;
  }
}
const localCluster = () => new Cluster({ context: "test", isLocal: true }, join(folder, "kubectl"));

test("a dry run of deploy tells what would be removed", async () => {
  await inCluster(every);
  const { leftOut, kept, objects } = await withEmptyCache((certificates) =>
    planDeploy(localCluster(), { certificates }, signal),
  );
  expect(kept).toEqual([]);
  expect(leftOut.map(({ stage }) => stage)).toContain("logging");
  const gone = objects.filter(({ change }) => change === "removed").map(({ ref }) => ref);
  expect(gone).toContain("NetworkPolicy/loki");
  expect(gone).toContain("DaemonSet/promtail (conveyor-logging)");
  expect(gone).toContain("NetworkPolicy/grafana");
  expect(gone).not.toContain("PersistentVolumeClaim/loki-data");
  expect(gone.filter((name) => objects.some((object) => object.ref === name && object.change !== "removed"))).toEqual(
    [],
  );
}, 30_000);

/** What was applied, with pods that are Ready of some workloads, as the API server counts them, and of no others. */
const running = (...workloads: readonly string[]): KubernetesObject[] =>
  every.map((object) => {
    const pods = workloads.includes(ref(object)) ? 1 : 0;
    if (object.kind === "DaemonSet") {
      return { ...object, status: { desiredNumberScheduled: 2, currentNumberScheduled: 2, numberReady: pods } };
    }
    if (object.kind !== "Deployment" && object.kind !== "StatefulSet") return object;
    // Without a pod that is Ready the API server leaves the field out.
    return { ...object, status: { replicas: 1, observedGeneration: 1, ...(pods ? { readyReplicas: pods } : {}) } };
  });

/** What a deploy without these images does to the stages, in a cluster where KEDA works. */
const split = async (images: readonly string[]) =>
  await selectStages(
    cluster,
    stages,
    images.map((image) => ({ ref: image, missing: true })),
    signal,
    async () => undefined,
  );
const metricsImages = imagesOf(stages.find(({ name }) => name === "metrics")!.objects);
const isOf = (name: string) => (object: KubernetesObject) => refsOf(name).includes(ref(object));

/** Validate's checks of objects and policies, where the namespace says what this deploy wrote on it. */
async function validated(live: readonly KubernetesObject[], applied: readonly KubernetesObject[]) {
  const namespace = applied.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "conveyor")!;
  await inCluster(live.map((object) => (ref(object) === ref(namespace) ? namespace : object)));
  const context = new ProbeSession(cluster, "no image", signal);
  return {
    objects: await POD_CHECKS.objects.run(context, signal),
    policies: await NETWORK_CHECKS.policies.run(context, signal),
  };
}

describe("a stage that runs, and an image of which cannot be had this time", () => {
  test.each([
    ["metrics", "Deployment/prometheus", metricsImages],
    ["metrics", "StatefulSet/alertmanager", metricsImages.slice(0, 1)],
    ["logging", "Deployment/loki", lokiImages],
    ["logging", "DaemonSet/promtail", lokiImages.slice(0, 1)],
  ])("%s stays whole while %s has a pod that is Ready", async (name, workload, images) => {
    await inCluster(running(workload));
    const { kept, leftOut, stages: applied } = await split(images);
    expect(kept.map(({ stage }) => stage)).toEqual([name]);
    expect(applied.map((stage) => stage.name)).not.toContain(name);
    expect(await findOrphans(cluster, leftOut, stages, apiVersions, signal)).toEqual([]);
  });

  test("validate looks at it as at any other, and finds nothing wrong", async () => {
    const live = running("Deployment/prometheus");
    await inCluster(live);
    const { stages: applied } = await split(metricsImages);
    // The autoscaler by KEDA rests on the kept stage: it is applied, and its stand-in is not.
    expect(applied.map(({ name }) => name)).toContain("autoscaling-keda");
    expect(applied.map(({ name }) => name)).not.toContain("autoscaling-cpu");
    const there = live.filter((object) => !isOf("autoscaling-cpu")(object));
    const objects = applied.flatMap((stage) => stage.objects);
    expect(await validated(there, objects)).toMatchObject({ objects: { ok: true }, policies: { ok: true } });
    // It is looked at: what is missing of it is missed.
    const { objects: found } = await validated(
      there.filter((object) => ref(object) !== "Deployment/prometheus"),
      objects,
    );
    expect(found).toMatchObject({ ok: false, detail: expect.stringContaining("Deployment/prometheus") });
  });

  test("with no pod that is Ready it is left out and removed, and validate takes what is left of it for foreign", async () => {
    // Others run: they do not count.
    const live = running("Deployment/loki", "Deployment/processor");
    await inCluster(live);
    const { kept, leftOut, stages: applied } = await split(metricsImages);
    expect(kept).toEqual([]);
    const behind = await findOrphans(cluster, leftOut, stages, apiVersions, signal);
    expect(behind.map(ref)).toContain("Deployment/prometheus");
    expect(behind.map(ref)).not.toContain("Deployment/loki");
    const { policies } = await validated(
      live,
      applied.flatMap((stage) => stage.objects),
    );
    expect(policies).toMatchObject({ ok: false, detail: expect.stringContaining("prometheus is in no file") });
  });

  test("pods of somebody else's workload with the same name keep nothing", async () => {
    const live = running("Deployment/loki");
    await inCluster(live.map((object) => ({ ...object, metadata: { ...object.metadata, labels: {} } })));
    expect((await split(lokiImages)).kept).toEqual([]);
  });

  test("a cluster that cannot be read is not taken for one where nothing runs", async () => {
    await writeFile(
      join(folder, "kubectl.ts"),
      `if (process.argv.includes("api-versions")) process.exit(0);\nconsole.error("timeout");\nprocess.exit(1);\n`,
    );
    await expect(split(lokiImages)).rejects.toThrow("the cluster could not be read: timeout");
  });

  test("a dry run says so in one line, removes nothing of it, and pods that mount its ConfigMaps do not restart", async () => {
    const promtail = "DaemonSet/promtail";
    const hash = async () =>
      ((await Bun.file(join(folder, "applied/Deployment/prometheus")).json()) as Workload).spec.template.metadata
        .annotations[CONFIG_HASH];
    await withEmptyCache(async (certificates) => {
      await inCluster(running(promtail, "Deployment/loki"));
      const plan = await planDeploy(localCluster(), { certificates }, signal);
      const changes = plan.objects.filter(({ change }) => change === "removed").map((object) => object.ref);
      expect(changes.filter((name) => refsOf("logging").includes(name.replace(/ .*/, "")))).toEqual([]);
      expect(changes).toContain("Deployment/grafana");
      const warnings: string[] = [];
      const report = new TerminalReport({
        color: false,
        stdout: { write: () => true },
        stderr: { write: (text) => warnings.push(text) },
      });
      reportPlan(plan, report);
      expect(warnings.filter((line) => line.includes("logging"))).toEqual([
        `! kept: logging (no image ${lokiImages.join(", ")}): it runs on as an earlier deploy left it, and is not updated; ` +
          "deploy again when its images can be had; to take it away: kubectl --context test -n conveyor delete deployment/loki" +
          " && kubectl --context test -n conveyor-logging delete daemonset/promtail, then deploy again\n",
      ]);
      const kept = await hash();
      // On a cluster whose nodes pull the images themselves every stage is applied.
      await planDeploy(cluster, { certificates }, signal);
      expect(kept).toBe(await hash());
      await inCluster(running());
      await planDeploy(localCluster(), { certificates }, signal);
      expect(kept).not.toBe(await hash());
    });
  }, 60_000);
});

describe("an image that no archive brings this time", () => {
  const image = "docker.io/grafana/loki:3.7.6";
  test("is present where the cluster has it from an earlier one: its stage is not left out", async () => {
    const holds = async (asked: string) => (asked === image ? { digest: "sha256:1" } : undefined);
    expect(await heldOrMissing("grafana/loki:3.7.6", "how to get it", { holds })).toEqual({
      ref: "grafana/loki:3.7.6",
      action: "present",
      digest: "sha256:1",
    });
  });
  test.each([
    ["the cluster has it no more", { holds: async () => undefined }],
    ["the target keeps no account", {}],
  ])("is missing where %s", async (_, target) => {
    expect(await heldOrMissing(image, "how to get it", target)).toEqual({
      ref: image,
      action: "missing",
      hint: "how to get it",
    });
  });
});
