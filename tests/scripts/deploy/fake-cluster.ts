/**
 * A cluster in memory behind kubectl's command line, for tests of plan and execution: it stores applied objects, reports
 * workloads as ready and jobs as complete, and records every call that changes something.
 */
import {
  Cluster,
  KubectlError,
  type KubectlOptions,
  type KubectlResult,
  type KubernetesObject,
  keyOf,
  refOf,
} from "../../../scripts/cluster/cluster.ts";
import { KEDA_API } from "../../../scripts/deploy/keda.ts";
import { finalLine } from "../../../services/protocol/final-document.ts";

type Live = KubernetesObject & { status?: Record<string, unknown> };

/** The status of a workload whose pods are all ready, and of a Job that succeeded. */
function readyStatus({ spec }: KubernetesObject): Record<string, unknown> {
  const { replicas = 1 } = (spec ?? {}) as { replicas?: number };
  return {
    ...{
      observedGeneration: 1,
      replicas,
      updatedReplicas: replicas,
      readyReplicas: replicas,
      availableReplicas: replicas,
    },
    ...{ desiredNumberScheduled: 1, updatedNumberScheduled: 1, numberReady: 1 },
    ...{ succeeded: 1, conditions: [{ type: "Complete", status: "True" }] },
  };
}

/** True when kubectl's name of one or several resources means the kind of an object. */
function isOf(resources: string, { kind }: KubernetesObject): boolean {
  const singular = (name: string) => name.toLowerCase().replace(/ies$/, "y").replace(/s+$/, "");
  const aliases: Record<string, string> = { crd: "customresourcedefinition", hpa: "horizontalpodautoscaler" };
  return resources.split(",").some((resource) => {
    const name = singular(resource.split(".")[0]!);
    return (aliases[name] ?? name) === singular(kind);
  });
}

export class FakeCluster extends Cluster {
  readonly objects = new Map<string, Live>();
  /** Every call that changed something: `apply REF`, `delete REF`, `patch REF`, `restart NAME`. */
  readonly mutations: string[] = [];
  /** False: KEDA does not remove its finalizers. */
  kedaRuns = true;
  /** True: even an object without finalizers stays. */
  undeletable = false;
  /** Called when the setup job was applied. */
  onJob: () => void = () => {};
  /** Problems in the result of the setup job. */
  setupProblems: string[] = [];
  /** Called with each object that a get by name returns. */
  onGet: (object: KubernetesObject) => void = () => {};
  /** Resources for which every call fails. */
  readonly unknownResources = new Set<string>();
  readonly apis: Set<string>;

  constructor(apis: Iterable<string>, isLocal = true) {
    super({ context: "test", isLocal }, "/nonexistent/kubectl");
    this.apis = new Set(apis);
  }

  add(...objects: readonly KubernetesObject[]): this {
    for (const object of objects) this.objects.set(keyOf(object), { ...object });
    return this;
  }
  find(ref: string): Live | undefined {
    return [...this.objects.values()].find((object) => refOf(object) === ref);
  }
  remove(...refs: readonly string[]): void {
    for (const ref of refs) this.objects.delete(keyOf(this.find(ref)!));
  }

  override async kubectl(args: readonly string[], options: KubectlOptions = {}): Promise<KubectlResult> {
    const answer = (value?: unknown): KubectlResult => ({
      stdout: value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value),
      stderr: "",
      exitCode: 0,
    });
    const given = args.includes("-") ? ((JSON.parse(String(options.input)) as { items: Live[] }).items ?? []) : [];
    const namespace = args.includes("-n") ? args[args.indexOf("-n") + 1] : undefined;
    const words = args
      .slice(1)
      .filter((word, index, all) => !word.startsWith("-") && !/^-[nlop]$/.test(all[index - 1] ?? ""));
    const [resource = "", ...names] = words;
    const selector = args.includes("-l") ? args[args.indexOf("-l") + 1]! : "";
    const labels = selector === "" ? [] : selector.split(",").map((label) => label.split("="));
    const matching = () =>
      [...this.objects.values()].filter(
        (object) =>
          isOf(resource, object) &&
          (object.metadata.namespace === undefined || object.metadata.namespace === (namespace ?? "conveyor")) &&
          (names.length === 0 || names.includes(object.metadata.name)) &&
          labels.every(([name = "", value]) => object.metadata.labels?.[name] === value),
      );
    if (this.unknownResources.has(resource)) {
      const failed = {
        stdout: "",
        stderr: `error: the server doesn't have a resource type "${resource}"`,
        exitCode: 1,
      };
      if (options.allowFailure) return failed;
      throw new KubectlError(args, failed);
    }
    switch (args[0]) {
      case "version":
        return answer({ serverVersion: { gitVersion: "v1.36.3" } });
      case "api-versions":
        return answer([...this.apis].join("\n"));
      case "logs":
        return answer(
          finalLine("setup", {
            ...{ created: [], changed: [], removed: [], unchanged: ["topic"] },
            problems: this.setupProblems,
            duration_ms: 1,
          }),
        );
      case "get":
        if (given.length > 0) {
          return answer({ kind: "List", items: given.flatMap((object) => this.objects.get(keyOf(object)) ?? []) });
        }
        if (names.length > 0) {
          const [found] = matching();
          if (found) this.onGet(found);
          return answer(found);
        }
        return answer({ items: matching() });
      case "apply":
        return answer({
          kind: "List",
          items: given.map((object) => this.#apply(object, args.includes("--dry-run=server"))),
        });
      case "patch":
        for (const object of matching()) {
          this.mutations.push(`patch ${refOf(object)}`);
          if (!this.undeletable) this.objects.delete(keyOf(object));
        }
        return answer();
      case "delete":
        if (args.includes("-l")) {
          this.mutations.push(`restart ${args[args.indexOf("-l") + 1]!.split("=")[1]}`);
          return answer();
        }
        for (const object of given.length > 0
          ? given.flatMap((one) => this.objects.get(keyOf(one)) ?? [])
          : matching()) {
          this.#delete(object);
        }
        return answer();
      default:
        throw new Error(`the fake cluster does not know kubectl ${args.join(" ")}`);
    }
  }

  #apply(object: Live, dryRun: boolean): Live {
    const old = this.objects.get(keyOf(object));
    const applied: Live = { ...object, status: old?.status ?? readyStatus(object) };
    // A server-side apply without data does not touch the entries of another field manager.
    if (object.kind === "Secret" && !object.data && old?.data) applied.data = old.data;
    if (!dryRun) {
      this.mutations.push(`apply ${refOf(object)}`);
      this.objects.set(keyOf(object), applied);
      if (object.kind === "Job") this.onJob();
      this.#reconcileScaledObject(object);
    }
    return applied;
  }

  #delete(object: Live): void {
    this.mutations.push(`delete ${refOf(object)}`);
    if (object.apiVersion === KEDA_API && !this.kedaRuns) return;
    this.objects.delete(keyOf(object));
    const owned = ({ metadata }: Live) =>
      object.kind === "Namespace"
        ? metadata.namespace === object.metadata.name
        : object.kind === "ScaledObject" && metadata.name === `keda-hpa-${object.metadata.name}`;
    for (const [key, live] of this.objects) if (owned(live)) this.objects.delete(key);
  }

  /** Like KEDA: the autoscaler has the labels of its ScaledObject, and belongs to it. */
  #reconcileScaledObject({ kind, metadata, spec }: Live): void {
    if (kind !== "ScaledObject" || !this.kedaRuns) return;
    this.add({
      apiVersion: "autoscaling/v2",
      kind: "HorizontalPodAutoscaler",
      metadata: {
        name: `keda-hpa-${metadata.name}`,
        namespace: metadata.namespace!,
        labels: metadata.labels ?? {},
        ownerReferences: [{ kind, name: metadata.name }],
      },
      spec: { scaleTargetRef: { kind: "Deployment", ...(spec as { scaleTargetRef: object }).scaleTargetRef } },
    });
  }
}

/** KEDA's metrics API. `condition` describes why it is not available. */
export const metricsApi = (status: "True" | "False" = "True", condition: object = {}): KubernetesObject => ({
  apiVersion: "apiregistration.k8s.io/v1",
  kind: "APIService",
  metadata: { name: "v1beta1.external.metrics.k8s.io" },
  spec: { service: { name: "keda-metrics-apiserver", namespace: "keda", port: 443 }, version: "v1beta1" },
  status: { conditions: [{ type: "Available", status, ...condition }] },
});

export const kedaOperator = (replicas: number, availableReplicas?: number): KubernetesObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "keda-operator", namespace: "keda" },
  spec: { replicas },
  status: { observedGeneration: 1, availableReplicas },
});

/** KEDA's own objects: its metrics API and operator. `replicas` 0: KEDA is installed and does not run. */
export const kedaItself = (replicas = 1): KubernetesObject[] => [
  metricsApi(),
  kedaOperator(replicas, replicas || undefined),
];

/** The definition of KEDA's main kind. */
export const kedaDefinition = (deletionTimestamp?: string): KubernetesObject => ({
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "scaledobjects.keda.sh", deletionTimestamp },
});

export const hpa = (name: string, target: string, kind = "Deployment"): KubernetesObject => ({
  apiVersion: "autoscaling/v2",
  kind: "HorizontalPodAutoscaler",
  metadata: { name, namespace: "conveyor" },
  spec: { scaleTargetRef: { kind, name: target }, maxReplicas: 2 },
});

export const kedaObject = (kind: "ScaledObject" | "TriggerAuthentication", name: string, target = name) => ({
  apiVersion: KEDA_API,
  kind,
  metadata: { name, namespace: "conveyor" },
  spec: { scaleTargetRef: { name: target } },
});
