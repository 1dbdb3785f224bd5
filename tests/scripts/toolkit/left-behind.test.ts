/**
 * Goal: a stage that was deployed once and is left out now leaves nothing behind but its data. Method: the stages as they
 * are; a stand-in for kubectl that has what the test gives it and writes down what it is told to delete.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { heldOrMissing } from "../../../scripts/images/index.ts";
import { ensureCertificates } from "../../../scripts/toolkit/certificates.ts";
import { Cluster, type KubernetesObject } from "../../../scripts/toolkit/cluster.ts";
import { planDeploy } from "../../../scripts/toolkit/deployment.ts";
import { leftBehind, removeLeftBehind } from "../../../scripts/toolkit/left-behind.ts";
import { imagesOf } from "../../../scripts/toolkit/manifests.ts";
import { leftOutStages, loadStages } from "../../../scripts/toolkit/stages.ts";

const stages = await loadStages();
const every = stages.flatMap(({ objects }) => objects);
const apiVersions = new Set(every.map(({ apiVersion }) => apiVersion));
const lokiImages = imagesOf(stages.find(({ name }) => name === "logging")!.objects);
const { signal } = new AbortController();

const ref = ({ kind, metadata }: KubernetesObject) => `${kind}/${metadata.name}`;
const refsOf = (stage: string) => stages.find(({ name }) => name === stage)!.objects.map(ref);

/**
 * Has what is in `live.json`: answers a get of one of it, of a kind, or of a list; an apply with what it was given; keeps
 * the list of a delete.
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
else if (args[0] === "get" && args[2] === "-n") say({ items: [] });
else if (args[0] === "get") say(live.find((object) => key(object).toLowerCase() === (args[1] + "/" + args[2]).toLowerCase()));
else if (args[0] === "apply") say({ kind: "List", items: given });
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
const without = (images: readonly string[], apis = apiVersions) => leftOutStages(stages, new Set(images), apis);

describe("a stage that is left out and was deployed before", () => {
  test("leaves no policy, workload or rule; its volume, Secrets and namespace stay", async () => {
    await inCluster(every);
    const behind = await leftBehind(cluster, without(lokiImages), stages, apiVersions, signal);
    await removeLeftBehind(cluster, behind, signal);
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
    expect(await leftBehind(cluster, without(lokiImages), stages, apiVersions, signal)).toEqual([]);
  });

  test("was never deployed: nothing is there, and nothing is deleted", async () => {
    await inCluster(every.filter((object) => !refsOf("logging").includes(ref(object))));
    const behind = await leftBehind(cluster, without(lokiImages), stages, apiVersions, signal);
    await removeLeftBehind(cluster, behind, signal);
    expect(behind).toEqual([]);
    expect(await Bun.file(join(folder, "deleted.json")).exists()).toBe(false);
  });

  test("a stage with a stand-in, a stand-in that is not needed, and stages that are there are left alone", async () => {
    await inCluster(every);
    const noKeda = new Set([...apiVersions].filter((api) => !api.startsWith("keda.sh/")));
    for (const apis of [apiVersions, noKeda]) {
      expect(await leftBehind(cluster, without([], apis), stages, apis, signal)).toEqual([]);
    }
  });
});

test("a dry run of deploy tells what would be removed", async () => {
  const cache = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = join(folder, "cache");
  try {
    await ensureCertificates(join(folder, "certs"));
    await inCluster(every);
    const local = new Cluster({ context: "test", isLocal: true }, join(folder, "kubectl"));
    const { leftOut, objects } = await planDeploy(local, { certificates: join(folder, "certs") }, signal);
    expect(leftOut.map(({ stage }) => stage)).toContain("logging");
    const gone = objects.filter(({ change }) => change === "removed").map(({ ref }) => ref);
    expect(gone).toContain("NetworkPolicy/loki");
    expect(gone).toContain("DaemonSet/promtail (conveyor-logging)");
    expect(gone).toContain("NetworkPolicy/grafana");
    expect(gone).not.toContain("PersistentVolumeClaim/loki-data");
    expect(gone.filter((name) => objects.some((object) => object.ref === name && object.change !== "removed"))).toEqual(
      [],
    );
  } finally {
    if (cache === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = cache;
  }
}, 30_000);

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
