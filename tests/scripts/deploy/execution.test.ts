/**
 * The changes that a dry run prints are the changes that a deploy makes, and the plan lists every call that changes the
 * cluster. Method: the stages of k8s/ against a cluster in memory that records each change.
 */

import { beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NETWORK_CHECKS } from "../../../scripts/checks/network.ts";
import { POD_CHECKS } from "../../../scripts/checks/pods.ts";
import { authorityId } from "../../../scripts/cli/pki.ts";
import type { Report } from "../../../scripts/cli/report.ts";
import { ProbeSession } from "../../../scripts/clients/probe-session.ts";
import { type KubernetesObject, refOf } from "../../../scripts/cluster/cluster.ts";
import { adaptStages } from "../../../scripts/deploy/adapt.ts";
import { METRICS_API } from "../../../scripts/deploy/autoscalers.ts";
import { REVISED_STAGES, requireUnchanged, storedChoices } from "../../../scripts/deploy/deployment.ts";
import { executePlan, preparePlan, previewFirst, previewPlan, prunedBy } from "../../../scripts/deploy/execution.ts";
import { withExposure } from "../../../scripts/deploy/expose.ts";
import { KEDA_API } from "../../../scripts/deploy/keda.ts";
import { imagesOf, parseManifest } from "../../../scripts/deploy/manifests.ts";
import { type Plan, plan, TRUSTED_CA } from "../../../scripts/deploy/plan.ts";
import { describeRendered, render, writeRendered } from "../../../scripts/deploy/render.ts";
import { FILL_FROM, recipeOf } from "../../../scripts/deploy/secrets.ts";
import { readSnapshot } from "../../../scripts/deploy/snapshot.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { silentReport } from "../cli/silent-report.ts";
import { FACTS } from "./cluster-facts.ts";
import { FakeCluster, hpa, kedaDefinition, kedaItself } from "./fake-cluster.ts";

const stages = withExposure(await loadStages(), { exposure: undefined });
const every = stages.flatMap(({ objects }) => objects);
const APIS = new Set([...[...every.map(({ apiVersion }) => apiVersion), "apiregistration.k8s.io/v1"], METRICS_API]);
const WITHOUT_KEDA = [...APIS].filter((api) => api !== KEDA_API);
const imagesOfStage = (name: string) => imagesOf(stages.find((stage) => stage.name === name)!.objects);

const { signal } = new AbortController();
const silent = silentReport();

const certificates = temporaryFolder();
beforeAll(async () => {
  const files = every
    .filter(({ metadata }) => metadata.annotations?.[FILL_FROM])
    .flatMap((object) => recipeOf(object).entries);
  for (const { source } of files) await writeFile(join(certificates, source), `content of ${source}`);
});

interface Decision {
  decided: Plan;
  /** The changes that a dry run prints. */
  previewed: { ref: string; change: string }[];
  /** Executes the plan, or its stages up to the named one, like a run that is interrupted after it. */
  execute(lastStage?: string, report?: Report): Promise<{ ref: string; change: string }[]>;
}

async function decide(
  cluster: FakeCluster,
  missing: readonly string[] = [],
  ca = "content of ca.crt",
): Promise<Decision> {
  const images = imagesOf(every).map((ref) => ({ ref, missing: missing.includes(ref) }));
  const snapshot = await readSnapshot(cluster, stages, signal, { limitMs: 0 });
  const decided = plan(snapshot, stages, images, { ca });
  const prepared = await preparePlan(decided, snapshot, images, certificates);
  const objects = snapshot.live.some(({ kind }) => kind === "Namespace")
    ? await previewPlan(cluster, prepared, snapshot, signal)
    : previewFirst(decided);
  return {
    decided,
    previewed: objects.filter(({ change }) => change !== "unchanged").map(({ ref, change }) => ({ ref, change })),
    execute: async (lastStage, report = silent) => {
      const last = prepared.stages.findIndex(({ name }) => name === lastStage);
      const run = { ...prepared, stages: last < 0 ? prepared.stages : prepared.stages.slice(0, last + 1) };
      return (await executePlan(cluster, run, report, signal)).changes;
    },
  };
}

const fillTokens = (cluster: FakeCluster) => () => {
  for (const object of cluster.objects.values()) {
    if (object.metadata.annotations?.["conveyor.dev/filled-by"]) object.data = { token: "dG9rZW4=" };
  }
};

/** A cluster with the pipeline as a deploy leaves it. */
async function deployed(apis: Iterable<string> = APIS): Promise<FakeCluster> {
  const cluster = new FakeCluster(apis).add(...kedaItself());
  cluster.onJob = fillTokens(cluster);
  await (await decide(cluster)).execute();
  cluster.mutations.length = 0;
  return cluster;
}

const stopped = (cluster: FakeCluster, ...refs: string[]) => {
  for (const ref of refs) cluster.find(ref)!.status = {};
};
/** Objects that a deploy of another version has applied. */
function addFormer(cluster: FakeCluster): FakeCluster {
  for (const ref of [
    "Deployment/processor",
    "ClusterRole/conveyor-prometheus",
    "ConfigMap/promtail (conveyor-logging)",
  ]) {
    const object = cluster.find(ref)!;
    cluster.add({ ...object, metadata: { ...object.metadata, name: "former" } });
  }
  return cluster;
}
const SCENARIOS: [string, () => Promise<{ cluster: FakeCluster; missing?: string[]; ca?: string }>][] = [
  ["an empty cluster with KEDA", async () => ({ cluster: new FakeCluster(APIS).add(...kedaItself()) })],
  ["an empty cluster without KEDA", async () => ({ cluster: new FakeCluster(WITHOUT_KEDA) })],
  ["a deployed pipeline", async () => ({ cluster: await deployed() })],
  [
    "an object changed and one deleted by hand",
    async () => {
      const cluster = await deployed();
      cluster.find("Service/kafka")!.spec = { publishNotReadyAddresses: true };
      cluster.remove("PodDisruptionBudget/kafka");
      return { cluster };
    },
  ],
  [
    "a stage without its image that does not run",
    async () => {
      const cluster = await deployed();
      stopped(cluster, "Deployment/loki", "DaemonSet/promtail (conveyor-logging)");
      return { cluster, missing: imagesOfStage("logging") };
    },
  ],
  [
    "a stage without its image that runs",
    async () => ({ cluster: await deployed(), missing: imagesOfStage("logging") }),
  ],
  ["a KEDA that stopped working", async () => ({ cluster: (await deployed()).add(...kedaItself(0)) })],
  [
    "a KEDA that is being uninstalled",
    async () => {
      const cluster = await deployed();
      cluster.kedaRuns = false;
      cluster.add(kedaDefinition("2026-11-25T10:00:00Z"));
      return { cluster };
    },
  ],
  [
    "a KEDA that was installed after the first deploy",
    async () => {
      const cluster = await deployed(WITHOUT_KEDA);
      cluster.apis.add(KEDA_API);
      return { cluster };
    },
  ],
  [
    "a second autoscaler that someone created",
    async () => ({ cluster: (await deployed()).add(hpa("manual", "processor")) }),
  ],
  ["objects that this version no longer contains", async () => ({ cluster: addFormer(await deployed()) })],
  ["another CA", async () => ({ cluster: await deployed(), ca: "another CA" })],
];

describe("execution of a plan", () => {
  test.each(SCENARIOS)("%s: dry run and deploy make the same changes, all of them in the plan", async (_, scenario) => {
    const { cluster, missing, ca } = await scenario();
    cluster.onJob = fillTokens(cluster);
    const { decided, previewed, execute } = await decide(cluster, missing, ca);
    expect(cluster.mutations).toEqual([]);
    expect(await execute()).toEqual(previewed);

    const jobs = decided.stages.flatMap(({ run }) => run.map(refOf));
    const planned = new Set([
      ...prunedBy(decided).map(({ object }) => refOf(object)),
      ...decided.stages.flatMap(({ apply }) => apply.map(refOf)),
      ...jobs,
      ...decided.stages.flatMap(({ restart }) => restart?.workload ?? []),
    ]);
    const changed = new Set(cluster.mutations.map((mutation) => mutation.replace(/^\w+ /, "")));
    // An autoscaler that KEDA creates is deleted together with its ScaledObject.
    const unlisted = [...changed].filter((ref) => !planned.has(ref));
    expect(unlisted).toEqual([]);
    expect([...planned].filter((ref) => !changed.has(ref) && !ref.includes("keda-hpa-"))).toEqual([]);
    for (const { object } of prunedBy(decided)) expect(cluster.find(refOf(object))).toBeUndefined();

    const second = await decide(cluster, missing, ca);
    expect(second.previewed).toEqual([]);
  });

  test("is refused when another deploy has changed what this one has read; the same values are no change", async () => {
    const cluster = await deployed();
    const namespace = cluster.find("Namespace/conveyor")!;
    const annotate = (mode: string) => {
      namespace.metadata.annotations = { ...namespace.metadata.annotations, "conveyor.dev/expose": mode };
    };
    annotate("loadbalancer");
    const read = await storedChoices(cluster);
    await requireUnchanged(cluster, read);
    annotate("nodeport");
    await expect(requireUnchanged(cluster, read)).rejects.toMatchObject({
      exitCode: 3,
      message: "another deploy has changed the exposure or size of this pipeline meanwhile",
    });
  });

  test("is refused when another deploy has changed external servers, or only a password or token of one", async () => {
    const cluster = await deployed();
    const own = await storedChoices(cluster);
    const put = (kind: string, name: string, data: Record<string, string>) =>
      cluster.add({ apiVersion: "v1", kind, metadata: { name, namespace: "conveyor" }, data });
    put("ConfigMap", "external", { "stores.json": "{}" });
    await expect(requireUnchanged(cluster, own)).rejects.toThrow("has changed the external servers of this pipeline");
    for (const [name, entry] of [
      ["external-kafka", "password"],
      ["external-prometheus", "token"],
      ["influxdb-token-processor", "token"],
    ] as const) {
      put("Secret", name, { [entry]: "b2xk" });
      const read = await storedChoices(cluster);
      await requireUnchanged(cluster, read);
      put("Secret", name, { [entry]: "bmV3" });
      await expect(requireUnchanged(cluster, read)).rejects.toThrow(
        "has changed the external servers of this pipeline",
      );
    }
  });

  test("exactly one autoscaler scales the processor after every switch between KEDA and CPU", async () => {
    const cluster = await deployed();
    const autoscalers = () =>
      [...cluster.objects.values()].filter(({ kind }) => kind === "HorizontalPodAutoscaler").map(refOf);
    const redeploy = async () => await (await decide(cluster)).execute();
    const withKeda = ["HorizontalPodAutoscaler/keda-hpa-processor", "HorizontalPodAutoscaler/producer"];
    expect(autoscalers().sort()).toEqual(withKeda);
    cluster.add(...kedaItself(0));
    await redeploy();
    expect(autoscalers().sort()).toEqual(["HorizontalPodAutoscaler/processor", "HorizontalPodAutoscaler/producer"]);
    cluster.add(...kedaItself());
    await redeploy();
    expect(autoscalers().sort()).toEqual(withKeda);
  });

  test("where the kubelets turn out to be unreadable, the stages that are applied again are all that changes", async () => {
    const cluster = await deployed();
    const images = imagesOf(every).map((ref) => ({ ref, missing: false }));
    const again = async () => {
      const kubelets = { problem: "x509: certificate signed by unknown authority" };
      const snapshot = { ...(await readSnapshot(cluster, stages, signal, { limitMs: 0 })), kubelets };
      const decided = plan(snapshot, stages, images, { ca: "content of ca.crt" });
      const prepared = await preparePlan(decided, snapshot, images, certificates);
      return { prepared, changes: await previewPlan(cluster, prepared, snapshot, signal) };
    };
    const { prepared } = await again();
    const some = prepared.stages.filter(({ name }) => REVISED_STAGES.includes(name));
    const { changes } = await executePlan(cluster, { ...prepared, stages: some }, silent, signal);
    expect(changes).toEqual([
      { ref: "ConfigMap/prometheus-rules-nodes", change: "removed" },
      { ref: "Namespace/conveyor", change: "changed" },
      { ref: "Deployment/prometheus", change: "changed" },
    ]);
    expect((await again()).changes.filter(({ change }) => change !== "unchanged")).toEqual([]);
  });

  test("objects of another version are removed after everything else, in every namespace and outside", async () => {
    const cluster = addFormer(await deployed());
    await (await decide(cluster)).execute();
    expect(cluster.mutations.slice(-3).toSorted()).toEqual([
      "delete ClusterRole/former",
      "delete ConfigMap/former (conveyor-logging)",
      "delete Deployment/former",
    ]);
  });

  test("a CA change that was interrupted between the Secrets and the brokers is carried on by the next deploy", async () => {
    const cluster = await deployed();
    const broker = (ca: string): KubernetesObject => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: {
        name: "kafka-0",
        namespace: "conveyor",
        labels: { "app.kubernetes.io/name": "kafka" },
        annotations: { [TRUSTED_CA]: authorityId(ca) },
      },
    });
    cluster.add(broker("content of ca.crt"));
    await writeFile(join(certificates, "ca.crt"), "another CA");
    try {
      await (await decide(cluster, [], "another CA")).execute("secrets");
      expect(cluster.mutations).not.toContain("restart kafka");
      await (await decide(cluster, [], "another CA")).execute();
      expect(cluster.mutations.filter((mutation) => mutation === "restart kafka")).toHaveLength(1);
      cluster.add(broker("another CA"));
      expect((await decide(cluster, [], "another CA")).decided.stages.filter(({ restart }) => restart)).toEqual([]);
    } finally {
      await writeFile(join(certificates, "ca.crt"), "content of ca.crt");
    }
  });

  test("a kept stage does not restart pods that mount its ConfigMaps", async () => {
    const cluster = await deployed();
    const { previewed } = await decide(cluster, imagesOfStage("logging"));
    expect(previewed).toEqual([]);
  });

  test("a setup job that leaves a token Secret empty is an error before its user starts", async () => {
    const cluster = new FakeCluster(APIS).add(...kedaItself());
    const { execute } = await decide(cluster);
    await expect(execute()).rejects.toThrow("is empty: the setup job did not fill it");
  });

  test("what setup cannot change is in the line of its stage", async () => {
    const cluster = new FakeCluster(APIS).add(...kedaItself());
    const labels = { "job-name": "setup" };
    cluster.add({ apiVersion: "v1", kind: "Pod", metadata: { name: "setup-1", namespace: "conveyor", labels } });
    cluster.onJob = fillTokens(cluster);
    cluster.setupProblems = ["topic conveyor.events: partition 4 has 1 of 3 replicas"];
    const lines: string[] = [];
    const report = Object.assign(silentReport(), {
      step: async (_title: string, work: (step: { update(line: string): void }) => unknown) =>
        await work({ update: (line) => void lines.push(line) }),
    });
    await (await decide(cluster)).execute(undefined, report);
    expect(lines.join("\n")).toContain("1 unchanged; topic conveyor.events: partition 4 has 1 of 3 replicas");
  });

  test("a cluster that cannot be read is not taken for an empty one", async () => {
    const cluster = new FakeCluster(APIS);
    cluster.existing = async () => {
      throw new Error("the cluster could not be read: timeout");
    };
    await expect(decide(cluster, imagesOfStage("logging"))).rejects.toThrow("the cluster could not be read: timeout");
  });
});

describe("validate after a deploy that did not apply a stage", () => {
  const checked = async (cluster: FakeCluster) => {
    const session = new ProbeSession(cluster, "no image", signal);
    return {
      objects: await POD_CHECKS.objects.run(session, signal),
      policies: await NETWORK_CHECKS.policies.run(session, signal),
    };
  };

  test("checks a kept stage like any other", async () => {
    const cluster = await deployed();
    await (await decide(cluster, imagesOfStage("metrics"))).execute();
    expect(await checked(cluster)).toMatchObject({ objects: { ok: true }, policies: { ok: true } });
    cluster.remove("Deployment/prometheus");
    expect((await checked(cluster)).objects).toMatchObject({
      ok: false,
      detail: expect.stringContaining("Deployment/prometheus"),
    });
  });

  test("compares a policy that deploy has adapted with the cluster, and one of kubectl with k8s/network", async () => {
    const cluster = await deployed();
    const isApplied = (object: KubernetesObject) => object.kind === "NetworkPolicy" && cluster.find(refOf(object));
    cluster.add(
      ...adaptStages(stages, FACTS)
        .flatMap(({ objects }) => objects)
        .filter(isApplied),
    );
    // The fake cluster has no API server's addresses: they count as changed.
    expect((await checked(cluster)).policies.detail).toContain("setup was changed, or the cluster's addresses were");
    const general = stages.flatMap(({ objects }) => objects).filter(isApplied);
    cluster.add(...general);
    expect((await checked(cluster)).policies).toMatchObject({
      ok: true,
      detail: expect.stringContaining("in the general form of k8s/network"),
    });
    const changed = structuredClone(general.find(({ metadata }) => metadata.name === "setup")!);
    (changed.spec as { egress: unknown[] }).egress = [];
    cluster.add(changed);
    expect((await checked(cluster)).policies.detail).toContain("setup was changed");
  });

  test("reports a policy of a skipped stage as foreign", async () => {
    const cluster = await deployed();
    const policy = cluster.find("NetworkPolicy/prometheus")!;
    stopped(cluster, "Deployment/prometheus", "StatefulSet/alertmanager", "Deployment/kube-state-metrics");
    await (await decide(cluster, imagesOfStage("metrics"))).execute();
    expect(await checked(cluster)).toMatchObject({ objects: { ok: true }, policies: { ok: true } });
    cluster.add(policy);
    expect((await checked(cluster)).policies).toMatchObject({
      ok: false,
      detail: expect.stringContaining("prometheus is in no file"),
    });
  });
});

describe("rendered files", () => {
  const renderOf = async (cluster: FakeCluster) => {
    const images = imagesOf(every).map((ref) => ({ ref, missing: false }));
    const snapshot = await readSnapshot(cluster, stages, signal, { limitMs: 0 });
    const ca = cluster.find("Secret/kafka-tls") ? "content of ca.crt" : undefined;
    return render(plan(snapshot, stages, images, { ca }), snapshot, images);
  };

  test("are the objects that the deploy has applied, without Secrets, also where others have added keys", async () => {
    const cluster = await deployed();
    const receiver = cluster.find("Secret/alertmanager-receiver")!;
    receiver.data = { ...(receiver.data as object), "alertmanager.yml": "Zm9v" };
    const { stages: rendered, secrets } = await renderOf(cluster);
    const objects = rendered.flatMap((stage) => stage.objects);
    expect(objects.length).toBeGreaterThan(100);
    for (const object of objects) {
      const { status: _, ...live } = cluster.find(refOf(object))!;
      expect(object).toEqual(live as never);
    }
    const left = [...cluster.objects.values()].filter((live) => !objects.some((one) => refOf(one) === refOf(live)));
    expect(new Set(left.map(({ kind }) => kind))).toEqual(
      new Set(["Secret", "APIService", "Deployment", "HorizontalPodAutoscaler"]),
    );
    expect(secrets.map(({ exists }) => exists)).not.toContain(false);
    expect(describeRendered({ stages: rendered, secrets }, [])).toEqual([]);
  });

  test("of an empty cluster are the same each time, and name the Secrets that are missing", async () => {
    const cluster = new FakeCluster(APIS).add(...kedaItself());
    const [first, second] = [await renderOf(cluster), await renderOf(cluster)];
    expect(first).toEqual(second);
    const scaling = first.stages
      .flatMap(({ objects }) => objects)
      .find(({ metadata }) => metadata.name === "processor-scaling");
    expect(scaling?.data).toEqual({ header: "X-Conveyor-Client", client: "keda" });
    expect(describeRendered(first, [every[0]!])).toEqual([
      expect.stringMatching(/^Secrets that do not exist yet: conveyor\/kafka-tls, .*conveyor-logging\/promtail-tls/),
      "deploy would also delete: Namespace/conveyor",
    ]);
    expect(cluster.mutations).toEqual([]);
  });

  test("have one file per stage and the list of Secrets; a later run replaces them, and no other files", async () => {
    const rendered = await renderOf(await deployed());
    const folder = join(await mkdtemp(join(certificates, "rendered-")), "new");
    const names = await writeRendered(folder, rendered);
    expect((await readdir(folder)).sort()).toEqual(names.toSorted());
    for (const [index, { objects }] of rendered.stages.entries()) {
      const text = await readFile(join(folder, names[index]!), "utf8");
      expect(parseManifest(text, names[index]!)).toEqual(objects);
    }
    const list = await readFile(join(folder, "kustomization.yaml"), "utf8");
    expect(list).toContain("#   conveyor/kafka-tls (Opaque): ca.crt, kafka-0.pem, kafka-1.pem, kafka-2.pem\n");
    expect(list).toContain("#   conveyor/influxdb-token-reader (Opaque): empty, the setup job fills it\n");
    await writeFile(join(folder, "README.md"), "mine");
    const fewer = await writeRendered(folder, { ...rendered, stages: rendered.stages.slice(0, 2) });
    expect((await readdir(folder)).sort()).toEqual([...fewer, "README.md"].sort());
    await expect(writeRendered(certificates, rendered)).rejects.toMatchObject({
      message: `--render: the folder must be empty or written by an earlier --render; got ${certificates}`,
      exitCode: 2,
    });
  });
});
