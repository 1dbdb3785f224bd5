/** plan() over hand-written snapshots: which stages are skipped or kept, which objects are pruned, and when. */
import { describe, expect, test } from "bun:test";
import { authorityId, createAuthority } from "../../../scripts/cli/pki.ts";
import { type KubernetesObject, refOf } from "../../../scripts/cluster/cluster.ts";
import { autoscalerOf, METRICS_API } from "../../../scripts/deploy/autoscalers.ts";
import { KEDA_API, type KedaState } from "../../../scripts/deploy/keda.ts";
import { imagesOf } from "../../../scripts/deploy/manifests.ts";
import { describeNotApplied, plan, type Snapshot, TRUSTED_CA } from "../../../scripts/deploy/plan.ts";
import { DISPENSABLE_STAGES, loadStages, SKIPPED_STAGES, type Stage } from "../../../scripts/deploy/stages.ts";
import { hpa, kedaObject } from "./fake-cluster.ts";

const stages = await loadStages();
const every = stages.flatMap(({ objects }) => objects);
const apiVersions = new Set([...every.map(({ apiVersion }) => apiVersion), METRICS_API]);
const withoutKeda = new Set([...apiVersions].filter((api) => api !== KEDA_API));

const stageOf = (name: string) => stages.find((stage) => stage.name === name)!;
const refsOf = (name: string) => stageOf(name).objects.map(refOf);
const imagesOfStage = (name: string) => imagesOf(stageOf(name).objects);

const snapshot = (more: Partial<Snapshot> = {}): Snapshot => ({
  context: "test",
  apiVersions,
  keda: { status: "working" },
  live: [],
  brokers: [],
  fixedClasses: new Set(["fixed"]),
  ...more,
});
const idle = (problem = "its pods are gone"): KedaState => ({ status: "idle", problem });
const lacking = (refs: readonly string[]) => refs.map((ref) => ({ ref, missing: true }));
const planned = (more: Partial<Snapshot>, missing: readonly string[] = []) =>
  plan(snapshot(more), stages, lacking(missing));

/** The live objects with the status of pods that are Ready for some workloads, as the API server reports them. */
const running = (...workloads: readonly string[]): KubernetesObject[] =>
  every.map((object) => {
    const ready = workloads.includes(refOf(object)) ? 1 : 0;
    if (object.kind === "DaemonSet") return { ...object, status: { desiredNumberScheduled: 2, numberReady: ready } };
    if (object.kind !== "Deployment" && object.kind !== "StatefulSet") return object;
    // Without a Ready pod the API server omits the field.
    return { ...object, status: { replicas: 1, ...(ready ? { readyReplicas: ready } : {}) } };
  });
const foreign = (objects: readonly KubernetesObject[]) =>
  objects.map((object) => ({ ...object, metadata: { ...object.metadata, labels: {} } }));

describe("plan: skip", () => {
  const stage = (name: string, image: string, more: Partial<Stage> = {}): Stage => ({
    name,
    title: name,
    files: [],
    objects: [
      {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name },
        spec: { template: { spec: { containers: [{ name, image }] } } },
      },
    ],
    ...more,
  });
  const skip = (list: readonly Stage[], missing: readonly string[], apis: readonly string[], keda: KedaState) =>
    plan(snapshot({ apiVersions: new Set(apis), keda }), list, lacking(missing));
  const absent: KedaState = { status: "absent" };
  const core = stage("core", "example/core:1");
  const pictures = stage("pictures", "example/pictures:1", { optional: true });

  test("an optional stage without its image is skipped; the reason names the image", () => {
    expect(skip([core, pictures], ["example/pictures:1"], [], absent).skip).toEqual([
      { stage: "pictures", reason: "no image example/pictures:1" },
    ]);
  });

  test("a stage that is not optional is never skipped for its image", () => {
    expect(skip([core], ["example/core:1"], [], absent).skip).toEqual([]);
  });

  test("a stage is skipped exactly where the API server does not know its API", () => {
    const monitors = stage("monitors", "example/core:1", { needsApi: "monitoring.coreos.com/v1" });
    expect(skip([monitors], [], ["apps/v1"], absent).skip).toEqual([
      { stage: "monitors", reason: "the cluster has no monitoring.coreos.com/v1" },
    ]);
    expect(skip([monitors], [], ["monitoring.coreos.com/v1"], absent).skip).toEqual([]);
  });

  describe("with a fallback", () => {
    const metrics = stage("metrics", "example/metrics:1", { optional: true });
    const operated = stage("operated", "example/core:1", {
      needsApi: KEDA_API,
      install: "COMMAND",
      needsStage: "metrics",
    });
    const plain = stage("plain", "example/core:1", { fallbackFor: "operated" });
    const all = [metrics, operated, plain];

    test("the fallback is skipped without a warning where the stage can be applied", () => {
      const result = skip(all, [], [KEDA_API], { status: "working" });
      expect(result.skip.map(({ stage }) => stage)).toEqual(["plain"]);
      expect(describeNotApplied(result)).toEqual([]);
    });

    test("without the API one warning names the reason, the install command and the fallback", () => {
      expect(describeNotApplied(skip(all, [], [], absent))).toEqual([
        "skipped: operated (the cluster has no keda.sh/v1alpha1; to install it: COMMAND); plain is applied instead",
      ]);
    });

    test("with a KEDA that does not work one warning names the problem and the fallback", () => {
      expect(describeNotApplied(skip(all, [], [KEDA_API], idle()))).toEqual([
        "skipped: operated (the cluster has keda.sh/v1alpha1, but KEDA does not work: its pods are gone; to install it: COMMAND); plain is applied instead",
      ]);
    });

    test("a stage is skipped together with the stage that it needs, whatever its API", () => {
      expect(describeNotApplied(skip(all, ["example/metrics:1"], [KEDA_API], { status: "working" }))).toEqual([
        "skipped: metrics (no image example/metrics:1)",
        "skipped: operated (metrics is skipped); plain is applied instead",
      ]);
    });

    test("exactly one of stage and fallback is applied, whatever is missing", () => {
      for (const missing of [[], ["example/metrics:1"]]) {
        for (const keda of [absent, idle(), { status: "working" } as const]) {
          const apis = keda.status === "absent" ? [] : [KEDA_API];
          const applied = skip(all, missing, apis, keda).stages.map(({ name }) => name);
          expect(applied.filter((name) => name === "operated" || name === "plain")).toHaveLength(1);
        }
      }
    });
  });

  test("the Namespace's annotation names the skipped stages, fallbacks included", () => {
    const [namespace] = planned({}, imagesOfStage("logging")).stages[0]!.apply;
    expect(namespace!.metadata.annotations?.[SKIPPED_STAGES]).toBe("logging,autoscaling-cpu");
  });
});

describe("plan: log tier", () => {
  const tierOf = (result: ReturnType<typeof plan>) =>
    result.stages.map(({ name }) => name).filter((name) => name.startsWith("logging"));
  const tier = (live: readonly KubernetesObject[], missing: readonly string[], logs?: "loki" | "victorialogs") =>
    plan(snapshot({ live }), stages, lacking(missing), { logs });
  const only = (...refs: readonly string[]) => running(...refs).filter((object) => refs.includes(refOf(object)));
  const loki = imagesOfStage("logging");
  const victoria = imagesOfStage("logging-victorialogs");

  test("is Loki where its images are available, and VictoriaLogs elsewhere; with its alerts", () => {
    expect(tierOf(tier([], []))).toEqual(["logging", "logging-alerts"]);
    expect(tierOf(tier([], loki))).toEqual(["logging-victorialogs", "logging-alerts"]);
    expect(tierOf(tier([], [...loki, ...victoria]))).toEqual([]);
  });

  test("is the named one; its images must exist", () => {
    expect(tierOf(tier([], [], "victorialogs"))).toEqual(["logging-victorialogs", "logging-alerts"]);
    // The deploy then names the missing images.
    expect(tierOf(tier([], loki, "loki"))).toEqual(["logging", "logging-alerts"]);
  });

  test("stays the deployed one until the other is named", () => {
    const live = only("Deployment/victorialogs", "DaemonSet/vlagent (conveyor-logging)");
    const stays = tier(live, []);
    expect(tierOf(stays)).toEqual(["logging-victorialogs", "logging-alerts"]);
    expect(describeNotApplied(stays)[0]).toBe(
      "skipped: logging (victorialogs is deployed; --logs replaces it); logging-victorialogs is applied instead",
    );
    const replaced = tier(live, [], "loki");
    expect(tierOf(replaced)).toEqual(["logging", "logging-alerts"]);
    const pruned = replaced.stages.find(({ name }) => name === "logging")!.prune;
    expect(pruned.map(({ object, reason }) => [refOf(object), reason])).toEqual([
      ["DaemonSet/vlagent (conveyor-logging)", "logging-victorialogs is replaced by logging"],
      ["Deployment/victorialogs", "logging-victorialogs is replaced by logging"],
    ]);
  });

  test("Loki that runs without its images is kept, and replaced only by name", () => {
    const live = only("Deployment/loki", "DaemonSet/promtail (conveyor-logging)");
    expect(tier(live, loki).keep.map(({ stage }) => stage)).toEqual(["logging"]);
    expect(tierOf(tier(live, loki))).toEqual(["logging-alerts"]);
    expect(tierOf(tier(live, loki, "victorialogs"))).toEqual(["logging-victorialogs", "logging-alerts"]);
  });
});

describe("plan: keep", () => {
  test.each([
    ["metrics", "Deployment/prometheus", imagesOfStage("metrics")],
    ["metrics", "StatefulSet/alertmanager", imagesOfStage("metrics").slice(0, 1)],
    ["logging", "Deployment/loki", imagesOfStage("logging")],
    ["logging", "DaemonSet/promtail (conveyor-logging)", imagesOfStage("logging").slice(0, 1)],
  ])("%s without an image is kept while %s has a Ready pod", (name, workload, images) => {
    const { keep, stages: applied, prune } = planned({ live: running(workload) }, images);
    expect(keep.map(({ stage }) => stage)).toEqual([name]);
    expect(applied.map((stage) => stage.name)).not.toContain(name);
    expect(prune).toEqual([]);
  });

  test("stages that need a kept stage are applied, and its ConfigMaps stay in the hashes of other pods", () => {
    const { stages: applied, keptConfiguration } = planned(
      { live: running("Deployment/prometheus") },
      imagesOfStage("metrics"),
    );
    expect(applied.map(({ name }) => name)).toContain("autoscaling-keda");
    expect(applied.map(({ name }) => name)).not.toContain("autoscaling-cpu");
    expect(keptConfiguration.map(refOf)).toContain("ConfigMap/prometheus");
  });

  test("one warning names the reason and the command that removes the stage", () => {
    const live = running("Deployment/loki", "DaemonSet/promtail (conveyor-logging)");
    expect(describeNotApplied(planned({ live }, imagesOfStage("logging")))).toEqual([
      `kept: logging (no image ${imagesOfStage("logging").join(", ")}): it keeps running and is not updated; ` +
        "deploy again when its images are available; to remove it: kubectl --context test -n conveyor delete deployment/loki" +
        " && kubectl --context test -n conveyor-logging delete daemonset/promtail, then deploy again",
    ]);
  });

  test("a stage without a Ready pod is not kept, whatever else runs", () => {
    const live = running("Deployment/loki", "Deployment/processor");
    const { keep, prune } = planned({ live }, imagesOfStage("metrics"));
    expect(keep).toEqual([]);
    expect(prune.map(({ object }) => refOf(object))).toContain("Deployment/prometheus");
    expect(prune.map(({ object }) => refOf(object))).not.toContain("Deployment/loki");
  });

  test("a workload of another project with the same name keeps nothing", () => {
    expect(planned({ live: foreign(running("Deployment/loki")) }, imagesOfStage("logging")).keep).toEqual([]);
  });
});

describe("plan: no metrics-server", () => {
  const withoutMetrics = (more: Iterable<string> = []) =>
    new Set([...apiVersions, ...more].filter((api) => api !== METRICS_API));
  const autoscaling = (result: ReturnType<typeof plan>) =>
    result.stages.map(({ name }) => name).filter((name) => name.startsWith("autoscaling"));

  test("the autoscalers by CPU are left out, with the command that installs it; KEDA's stays", () => {
    const result = planned({ apiVersions: withoutMetrics(), live: every });
    expect(autoscaling(result)).toEqual(["autoscaling-keda"]);
    const [line] = describeNotApplied(result).filter((text) => text.includes("autoscaling-producer"));
    expect(line).toStartWith(
      `skipped: autoscaling-producer (the cluster has no ${METRICS_API}; to install it: kubectl `,
    );
    // It would report for ever that it knows no metric.
    expect(result.prune.map(({ object }) => refOf(object))).toContain("HorizontalPodAutoscaler/producer");
  });

  test("without KEDA too, nothing scales", () => {
    const apis = new Set([...withoutMetrics()].filter((api) => api !== KEDA_API));
    expect(autoscaling(planned({ apiVersions: apis, keda: { status: "absent" } }))).toEqual([]);
  });
});

describe("plan: metrics of nodes and volumes", () => {
  const REASON = "the kubelets' certificates are not signed";
  const NAMES = ["node-metrics", "node-alerts"];
  const NAMESPACE_LIVE = (annotations: Record<string, string>): KubernetesObject => ({
    ...every.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "conveyor")!,
    metadata: { name: "conveyor", annotations },
  });
  const nodes = (more: Partial<Snapshot>, nodeMetrics?: "auto" | "on" | "off") => {
    const result = plan(snapshot(more), stages, [], { nodeMetrics });
    const [namespace] = result.stages[0]!.apply;
    return {
      result,
      applied: result.stages.map(({ name }) => name).filter((name) => NAMES.includes(name)),
      annotations: namespace!.metadata.annotations ?? {},
    };
  };

  test("are applied where Prometheus reads the kubelets, and where it does not know them yet", () => {
    expect(nodes({ kubelets: {} }).applied).toEqual(NAMES);
    expect(nodes({ kubelets: {} }).result.awaitsKubelets).toBe(false);
    expect(nodes({}).applied).toEqual(NAMES);
    expect(nodes({}).result.awaitsKubelets).toBe(true);
    expect(nodes({}, "on").result.awaitsKubelets).toBe(false);
  });

  test("the alerts alone are left out, with the reason, where the kubelets cannot be read", () => {
    const { result, applied, annotations } = nodes({ kubelets: { problem: REASON }, live: every });
    expect(applied).toEqual(["node-metrics"]);
    expect(describeNotApplied(result)).toContain(`skipped: node-alerts (${REASON})`);
    expect(annotations[SKIPPED_STAGES]?.split(",")).toContain("node-alerts");
    expect(result.prune.map(({ object }) => refOf(object))).toContain("ConfigMap/prometheus-rules-nodes");
    expect(result.awaitsKubelets).toBe(false);
  });

  test("the decision stays while Prometheus does not answer", () => {
    const { applied, result } = nodes({ live: [NAMESPACE_LIVE({ [SKIPPED_STAGES]: "node-alerts" })] });
    expect(applied).toEqual(["node-metrics"]);
    expect(result.awaitsKubelets).toBe(false);
  });

  test("auto after off decides again", () => {
    const { annotations } = nodes({}, "off");
    const { applied, result } = nodes({ live: [NAMESPACE_LIVE(annotations)] }, "auto");
    expect(applied).toEqual(NAMES);
    expect(result.awaitsKubelets).toBe(true);
  });

  test("on applies them in any case, off nothing of them; both stay until another value is named", () => {
    const unreadable = { kubelets: { problem: REASON } };
    for (const [value, applied] of [
      ["on", NAMES],
      ["off", []],
    ] as const) {
      const first = nodes(unreadable, value);
      expect(first.applied).toEqual([...applied]);
      const live = [NAMESPACE_LIVE(first.annotations)];
      expect(nodes({ ...unreadable, live }).applied).toEqual([...applied]);
      expect(nodes({ ...unreadable, live }, "auto").applied).toEqual(["node-metrics"]);
      expect(nodes({ ...unreadable, live }, "auto").annotations).not.toHaveProperty("conveyor.dev/node-metrics");
    }
  });
});

describe("plan: prometheus-operator", () => {
  const monitors = (result: ReturnType<typeof plan>) =>
    result.stages.flatMap(({ apply }) => apply).filter(({ apiVersion }) => apiVersion === "monitoring.coreos.com/v1");

  test("the labels are set on every object of the operator, and stay until others are named", () => {
    const first = plan(snapshot(), stages, [], { monitorLabels: { release: "monitoring" } });
    expect([...new Set(monitors(first).map(({ kind }) => kind))].sort()).toEqual(["PrometheusRule", "ServiceMonitor"]);
    const labelled = (result: ReturnType<typeof plan>) =>
      monitors(result).map(({ metadata }) => [
        metadata.labels?.release,
        metadata.labels?.["app.kubernetes.io/part-of"],
      ]);
    expect(new Set(labelled(first).map(String))).toEqual(new Set(["monitoring,conveyor"]));
    const live = first.stages[0]!.apply.filter(({ kind }) => kind === "Namespace");
    expect(labelled(plan(snapshot({ live }), stages, []))).toEqual(labelled(first));
    const none = plan(snapshot({ live }), stages, [], { monitorLabels: {} });
    expect(labelled(none).every(([release]) => release === undefined)).toBe(true);
  });

  test("the rules of the log tier are applied with it only", () => {
    const rules = (missing: readonly string[]) =>
      monitors(planned({}, missing))
        .filter(({ kind }) => kind === "PrometheusRule")
        .map(({ metadata }) => metadata.name);
    expect(rules([])).toContain("prometheus-rules-logging");
    const withoutLogs = rules([...imagesOfStage("logging"), ...imagesOfStage("logging-victorialogs")]);
    expect(withoutLogs).toContain("prometheus-rules-kafka");
    expect(withoutLogs).not.toContain("prometheus-rules-logging");
  });
});

describe("plan: prune", () => {
  const prunedOf = (result: ReturnType<typeof planned>) => result.prune.map(({ object }) => refOf(object));
  const prunedBefore = (result: ReturnType<typeof planned>, name: string) =>
    result.stages.find((stage) => stage.name === name)?.prune.map(({ object }) => refOf(object));

  test("every object of a skipped stage is pruned first, but its volumes, Secrets and namespaces", () => {
    const result = planned(
      { live: every.filter(({ kind, metadata }) => kind !== "HorizontalPodAutoscaler" && metadata.name !== "vlagent") },
      [...imagesOfStage("logging"), ...imagesOfStage("logging-victorialogs")],
    );
    const pruned = prunedOf(result);
    expect(refsOf("logging").filter((ref) => !pruned.includes(ref))).toEqual([
      "Secret/loki-tls",
      "PersistentVolumeClaim/loki-data",
      "Secret/promtail-tls (conveyor-logging)",
    ]);
    const tier = ["logging", "logging-victorialogs", "logging-alerts", "operator-rules-logging"].flatMap(refsOf);
    expect(pruned.filter((ref) => !tier.includes(ref))).toEqual([]);
    expect(result.prune[0]!.reason).toStartWith("logging is skipped: no image ");
    // Policies last, so that no pod runs without its policies.
    expect(pruned.indexOf("NetworkPolicy/loki")).toBeGreaterThan(pruned.indexOf("Deployment/loki"));
  });

  test("objects of another project are not pruned", () => {
    const live = foreign(every).filter((object) => !autoscalerOf(object));
    const result = planned({ live }, imagesOfStage("logging"));
    expect([...result.prune, ...result.stages.flatMap(({ prune }) => prune)]).toEqual([]);
  });

  test("objects that do not exist are not pruned", () => {
    expect(prunedOf(planned({ live: [] }, imagesOfStage("logging")))).toEqual([]);
  });

  test("applied stages lose nothing", () => {
    expect(prunedOf(planned({ live: every }))).toEqual([]);
  });

  test("objects of a stage are pruned just before its fallback is applied, the KEDA objects too", () => {
    const result = planned({ live: every, keda: idle() });
    expect(prunedOf(result)).toEqual([]);
    expect(prunedBefore(result, "autoscaling-cpu")).toEqual([
      "ScaledObject/processor",
      "TriggerAuthentication/processor-scaling",
      "ConfigMap/processor-scaling",
      "NetworkPolicy/prometheus-from-keda",
    ]);
  });

  test("where the API server no longer knows KEDA the rest of its stage is pruned", () => {
    const live = every.filter(({ apiVersion }) => apiVersion !== KEDA_API);
    const result = planned({ live, apiVersions: withoutKeda, keda: { status: "absent" } });
    expect(prunedBefore(result, "autoscaling-cpu")).toEqual([
      "ConfigMap/processor-scaling",
      "NetworkPolicy/prometheus-from-keda",
    ]);
  });

  test("while KEDA is being uninstalled its objects are pruned first and without waiting for KEDA", () => {
    const live = [...every, kedaObject("ScaledObject", "other", "other"), hpa("keda-hpa-processor", "processor")];
    const result = planned({ live, apiVersions: withoutKeda, keda: { status: "uninstalling" } });
    expect(result.prune.map(({ object, reason, force }) => [refOf(object), reason, force])).toEqual([
      ["TriggerAuthentication/processor-scaling", "KEDA is being uninstalled", true],
      ["ScaledObject/processor", "KEDA is being uninstalled", true],
      ["ScaledObject/other", "KEDA is being uninstalled", true],
    ]);
    expect(prunedBefore(result, "autoscaling-cpu")).toEqual([
      "ConfigMap/processor-scaling",
      "NetworkPolicy/prometheus-from-keda",
      "HorizontalPodAutoscaler/keda-hpa-processor",
    ]);
  });
});

describe("plan: orphans", () => {
  const renamed = (object: KubernetesObject) => ({ ...object, metadata: { ...object.metadata, name: "former" } });
  const orphansOf = (live: readonly KubernetesObject[]) => planned({ live }).orphans.map(({ object }) => refOf(object));
  const byKind = (kind: string) => every.find((object) => object.kind === kind)!;

  test("applied objects of another version are pruned after the last stage, data and Secrets stay", () => {
    const kinds = ["Deployment", "ClusterRole", "TriggerAuthentication", "Secret", "PersistentVolumeClaim"];
    const live = [...every, ...kinds.map((kind) => renamed(byKind(kind)))];
    expect(orphansOf(live)).toEqual(["Deployment/former", "ClusterRole/former", "TriggerAuthentication/former"]);
  });

  test("an autoscaler that KEDA has created with the labels of its ScaledObject is no orphan", () => {
    const scaled = byKind("ScaledObject");
    const owned = hpa("keda-hpa-processor", "processor");
    const metadata = { ...owned.metadata, labels: scaled.metadata.labels! };
    expect(orphansOf([{ ...owned, metadata }])).toEqual(["HorizontalPodAutoscaler/keda-hpa-processor"]);
    const ownerReferences = [{ kind: "ScaledObject", name: "processor" }];
    expect(orphansOf([{ ...owned, metadata: { ...metadata, ownerReferences } }])).toEqual([]);
  });

  test("objects of the manifests and objects that deploy has not applied are no orphans", () => {
    expect(orphansOf([...every, ...foreign([renamed(byKind("Deployment"))])])).toEqual([]);
    // A stage that is skipped is pruned by its own rule.
    expect(planned({ live: every }, imagesOfStage("logging")).orphans).toEqual([]);
  });
});

describe("plan: what Kubernetes cannot change", () => {
  const edited = (ref: string, edit: (object: KubernetesObject) => void): KubernetesObject => {
    const copy = structuredClone(every.find((object) => refOf(object) === ref)!);
    edit(copy);
    return copy;
  };
  const size = (storage: string) => (object: KubernetesObject) =>
    void Object.assign(object.spec as object, { resources: { requests: { storage } } });
  const templateSize = (storage: string) => (object: KubernetesObject) => {
    for (const { spec } of templatesOf(object)) spec.resources.requests.storage = storage;
  };
  const templatesOf = ({ spec }: KubernetesObject) =>
    (spec as { volumeClaimTemplates: { spec: { resources: { requests: { storage: string } } } }[] })
      .volumeClaimTemplates;
  const appliedOf = (live: KubernetesObject) =>
    planned({ live: [live] })
      .stages.flatMap(({ apply }) => apply)
      .find((object) => refOf(object) === refOf(live))!;

  test.each([
    ["9Gi", "9Gi"],
    ["9000000000", "9000000000"],
    ["1Gi", "8Gi"],
    ["8192Mi", "8Gi"],
    ["no size", "8Gi"],
  ])("a claim with %s in the cluster is applied with %s", (live, applied) => {
    const { spec } = appliedOf(edited("PersistentVolumeClaim/prometheus-data", size(live)));
    expect((spec as { resources: object }).resources).toEqual({ requests: { storage: applied } });
  });

  test("an enlarged claim template stays enlarged and blocks nothing", () => {
    const live = edited("StatefulSet/kafka", templateSize("32Gi"));
    expect(templatesOf(appliedOf(live))[0]!.spec.resources.requests.storage).toBe("32Gi");
    expect(planned({ live: [live] }).blocked).toEqual([]);
  });

  test("a deployed pipeline blocks nothing, with what the API server adds", () => {
    const defaulted = edited("StatefulSet/kafka", (object) => {
      for (const template of templatesOf(object)) {
        Object.assign(template, { apiVersion: "v1", kind: "PersistentVolumeClaim", status: { phase: "Pending" } });
        Object.assign(template.spec, { volumeMode: "Filesystem" });
      }
    });
    const claim = edited("PersistentVolumeClaim/prometheus-data", ({ spec }) =>
      Object.assign(spec as object, { storageClassName: "standard", volumeMode: "Filesystem", volumeName: "pvc-1" }),
    );
    const names = [refOf(defaulted), refOf(claim)];
    const live = [...every.filter((object) => !names.includes(refOf(object))), defaulted, claim];
    expect(planned({ live }).blocked).toEqual([]);
  });

  test("a larger volume is enlarged by its claims before the StatefulSet is created again; a smaller one stays", () => {
    const live = (size: string) =>
      every.map((one) => (refOf(one) === "StatefulSet/kafka" ? edited(refOf(one), templateSize(size)) : one));
    const [blocked] = planned({ live: live("1Gi") }).blocked;
    const [enlarge, remove] = blocked!.recipe.split("\n");
    expect(enlarge).toStartWith(
      `kubectl --context test -n conveyor patch pvc data-kafka-0 data-kafka-1 data-kafka-2 -p '{"spec":{"resources":{"requests":{"storage":"16Gi"}}}}'`,
    );
    expect(remove).toContain("delete statefulset kafka --cascade=orphan");
    expect(planned({ live: live("200Gi") }).blocked).toEqual([]);
  });

  test.each<[string, (object: KubernetesObject) => void, string[], string]>([
    ["StatefulSet/kafka", templateSize("1Gi"), ["volumeClaimTemplates"], "statefulset kafka --cascade=orphan"],
    [
      "StatefulSet/influxdb",
      ({ spec }) => Object.assign(spec as object, { serviceName: "x", podManagementPolicy: "Parallel" }),
      ["serviceName", "podManagementPolicy"],
      "statefulset influxdb --cascade=orphan",
    ],
    [
      "Deployment/processor",
      ({ spec }) => Object.assign(spec as object, { selector: {} }),
      ["selector"],
      "deployment processor",
    ],
    [
      "Service/kafka-headless",
      ({ spec }) => Object.assign(spec as object, { clusterIP: "10.1.2.3" }),
      ["clusterIP"],
      "service kafka-headless",
    ],
    [
      "RoleBinding/setup",
      (object) => Object.assign(object, { roleRef: { name: "x" } }),
      ["roleRef"],
      "rolebinding setup",
    ],
    [
      "PersistentVolumeClaim/prometheus-data",
      ({ spec }) => Object.assign(spec as object, { accessModes: ["ReadWriteMany"] }),
      ["accessModes"],
      "persistentvolumeclaim prometheus-data",
    ],
  ])("%s: names the fields and the command", (ref, edit, fields, command) => {
    const [blocked, ...others] = planned({ live: [edited(ref, edit)] }).blocked;
    expect(others).toEqual([]);
    expect(blocked).toEqual({
      ref,
      fields,
      recipe: expect.stringContaining(`kubectl --context test -n conveyor delete ${command}`),
    });
  });

  test.each([
    ["fixed", "1Gi", ["resources.requests.storage"]],
    ["fixed", "9Gi", undefined],
    ["expandable", "1Gi", undefined],
  ])("a claim of class %s with %s in the cluster and 8Gi in its manifest: %p", (storageClassName, storage, fields) => {
    const live = edited("PersistentVolumeClaim/prometheus-data", (object) => {
      size(storage)(object);
      Object.assign(object.spec as object, { storageClassName });
    });
    expect(planned({ live: [live] }).blocked[0]?.fields).toEqual(fields);
  });

  test("a StatefulSet with another selector is deleted with its pods, which would not belong to the new one", () => {
    const live = edited("StatefulSet/kafka", ({ spec }) => Object.assign(spec as object, { selector: {} }));
    expect(planned({ live: [live] }).blocked[0]!.recipe).not.toContain("orphan");
  });
});

describe("plan: one autoscaler per workload", () => {
  const prunedAutoscalers = (live: readonly KubernetesObject[], more: Partial<Snapshot> = {}) =>
    planned({ live, ...more }).stages.flatMap(({ prune }) => prune.map(({ object }) => refOf(object)));
  const plainKeda = { apiVersions: withoutKeda, keda: { status: "absent" } as const };

  test("with KEDA the CPU autoscaler is pruned and KEDA's stays", () => {
    const live = [
      hpa("processor", "processor"),
      hpa("keda-hpa-processor", "processor"),
      kedaObject("ScaledObject", "processor", "processor"),
    ];
    const result = planned({ live });
    expect(result.stages.flatMap(({ name, prune }) => prune.map((pruned) => ({ name, ...pruned })))).toEqual([
      { name: "autoscaling-keda", object: live[0]!, reason: "a second autoscaler for Deployment/processor" },
    ]);
  });

  test("without KEDA its autoscaler is pruned and the CPU autoscaler stays", () => {
    const live = [hpa("processor", "processor"), hpa("keda-hpa-processor", "processor")];
    expect(prunedAutoscalers(live, plainKeda)).toEqual(["HorizontalPodAutoscaler/keda-hpa-processor"]);
  });

  test("a ScaledObject is pruned before its autoscaler, which KEDA would create again", () => {
    const live = [hpa("keda-hpa-other", "processor"), kedaObject("ScaledObject", "other", "processor")];
    expect(prunedAutoscalers(live)).toEqual(["ScaledObject/other", "HorizontalPodAutoscaler/keda-hpa-other"]);
  });

  test("autoscalers of other workloads stay, also of one with the same name and another kind", () => {
    expect(prunedAutoscalers([hpa("other", "other"), hpa("producer", "processor", "StatefulSet")])).toEqual([]);
  });

  test("both autoscaling stages scale the same workload under different names", () => {
    expect(
      ["autoscaling-keda", "autoscaling-cpu"].map((name) =>
        stageOf(name).objects.flatMap((object) => autoscalerOf(object) ?? []),
      ),
    ).toEqual([
      [{ name: "keda-hpa-processor", target: "Deployment/processor" }],
      [{ name: "processor", target: "Deployment/processor" }],
    ]);
  });
});

describe("plan: --without", () => {
  const without = ["grafana"];
  test("a stage that is not wanted is skipped, with the flag as the reason", () => {
    const { skip, stages: applied } = plan(snapshot(), stages, [], { without });
    expect(skip).toContainEqual({ stage: "grafana", reason: "--without grafana" });
    expect(applied.map(({ name }) => name)).not.toContain("grafana");
  });

  test("what runs of it is removed, its data and Secrets stay", () => {
    const result = plan(snapshot({ live: running("Deployment/grafana") }), stages, [], { without });
    const removed = result.prune.map(({ object }) => object);
    expect(removed.map(refOf)).toContain("Deployment/grafana");
    expect(removed.filter(({ kind }) => kind === "Secret" || kind === "PersistentVolumeClaim")).toEqual([]);
  });

  test("only optional stages can be left out, and the log tier has its own flag", () => {
    expect(DISPENSABLE_STAGES).toContain("grafana");
    for (const name of DISPENSABLE_STAGES) expect(stageOf(name).optional).toBe(true);
    expect(DISPENSABLE_STAGES.filter((name) => name.startsWith("logging"))).toEqual([]);
  });
});

describe("plan: apply", () => {
  test("a named pull secret is in every service account; without it the accounts are those of the manifests", () => {
    const accounts = (pullSecret?: string) =>
      plan(snapshot(), stages, [], { pullSecret })
        .stages.flatMap(({ apply }) => apply)
        .filter(({ kind }) => kind === "ServiceAccount");
    expect(accounts().length).toBeGreaterThan(5);
    expect(accounts().filter(({ imagePullSecrets }) => imagePullSecrets)).toEqual([]);
    const named = accounts("regcred").map(({ imagePullSecrets }) => imagePullSecrets);
    expect(named).toEqual(named.map(() => [{ name: "regcred" }]));
  });

  test("images that were pushed are named by their reference in the registry", () => {
    const [ref] = imagesOfStage("processor");
    const result = plan(snapshot(), stages, [{ ref: ref!, missing: false, pushedRef: "registry.example/x:1" }]);
    expect(imagesOf(result.stages.find(({ name }) => name === "processor")!.apply)).toEqual(["registry.example/x:1"]);
  });

  test("all brokers restart exactly when the CA changes", () => {
    const trusted = {
      ...stageOf("secrets").objects.find(({ metadata }) => metadata.name === "kafka-tls")!,
      data: { "ca.crt": Buffer.from("OLD\n").toString("base64") },
    };
    const broker = (name: string, ca?: string): KubernetesObject => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, annotations: ca === undefined ? {} : { [TRUSTED_CA]: authorityId(ca) } },
    });
    const restarts = (live: KubernetesObject[], ca?: string, brokers: KubernetesObject[] = []) =>
      plan(snapshot({ live, brokers }), stages, [], { ca }).stages.flatMap(({ name, restart }) =>
        restart ? [name, restart.workload] : [],
      );
    expect(restarts([trusted], "NEW")).toEqual(["stores", "kafka"]);
    expect(restarts([trusted], "OLD")).toEqual([]);
    expect(restarts([trusted])).toEqual([]);
    expect(restarts([], "NEW")).toEqual([]);
    // A deploy that ended before it restarted all brokers has changed the Secret; a broker tells which CA it trusts.
    expect(restarts([trusted], "OLD", [broker("kafka-0", "OLD")])).toEqual([]);
    expect(restarts([trusted], "OLD", [broker("kafka-0", "OLDER"), broker("kafka-2", "OLD")])).toEqual([
      "stores",
      "kafka",
    ]);
    expect(restarts([trusted], "OLD", [broker("kafka-0")])).toEqual([]);
  });

  test("a CA that was renewed with the same key restarts the brokers one by one, like any change of a Secret", async () => {
    const old = await createAuthority("ours", { days: 30 });
    const renewed = await createAuthority("ours", { days: 60, key: old.key });
    expect(renewed.certificate).not.toBe(old.certificate);
    const kafkaTls = stageOf("secrets").objects.find(({ metadata }) => metadata.name === "kafka-tls")!;
    const live = [{ ...kafkaTls, data: { "ca.crt": Buffer.from(old.certificate).toString("base64") } }];
    const restarts = (ca: string) =>
      plan(snapshot({ live }), stages, [], { ca }).stages.filter(({ restart }) => restart);
    expect(restarts(renewed.certificate)).toEqual([]);
    expect(restarts((await createAuthority("ours", { days: 30 })).certificate)).toHaveLength(1);
  });

  test("Jobs run and are not applied", () => {
    const setup = planned({}).stages.find(({ name }) => name === "setup")!;
    expect({ apply: setup.apply, run: setup.run.map(refOf) }).toEqual({ apply: [], run: ["Job/setup"] });
  });
});
