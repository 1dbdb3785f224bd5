/**
 * What a deploy does to a cluster, decided once and without side effects: `deploy --dry-run` prints the plan, deploy
 * executes it (execution.ts).
 */
import { authorityId } from "../cli/pki.ts";
import type { KubeletState } from "../clients/kubelets.ts";
import { type KubernetesObject, keyOf, NAMESPACE, refOf, type Workload } from "../cluster/cluster.ts";
import { PART_OF } from "../cluster/namespace.ts";
import { autoscalerOf, conflictingAutoscalers } from "./autoscalers.ts";
import { type BlockedChange, blockedChange, withStoredClaims } from "./immutable-fields.ts";
import { KEDA_API, type KedaState } from "./keda.ts";
import { imagesOf, podTemplateOf, withImages, withPullSecret } from "./manifests.ts";
import { formatLabels, OPERATOR_API, parseLabels } from "./operator-rules.ts";
import { contentsOf } from "./secrets.ts";
import {
  FOUNDATION,
  LOG_STAGES,
  type LogTier,
  NODE_STAGES,
  type NodeMetrics,
  SKIPPED_STAGES,
  type Stage,
} from "./stages.ts";

/** The state of a cluster that a plan depends on, read once (snapshot.ts). */
export interface Snapshot {
  context: string;
  /** `group/version` of every API that can be used; without KEDA's while KEDA is being uninstalled. */
  apiVersions: ReadonlySet<string>;
  keda: KedaState;
  /** Objects of the manifests and of other versions of them that exist, and the namespace's autoscalers and KEDA objects. */
  live: readonly KubernetesObject[];
  /** Names of the storage classes whose claims cannot be enlarged. */
  fixedClasses: ReadonlySet<string>;
  /** Pods of the brokers. */
  brokers: readonly KubernetesObject[];
  /** Whether Prometheus can read the kubelets; undefined where it does not run or does not know yet. */
  kubelets?: KubeletState | undefined;
}

/** Availability of an image on the target cluster. */
export interface ImageState {
  ref: string;
  missing: boolean;
  /** Reference in the registry to which the image was pushed. */
  pushedRef?: string;
  digest?: string;
}

/** A stage that is not applied; an earlier deploy's objects of it are pruned. */
interface SkippedStage {
  stage: string;
  reason: string;
  /** Command that removes the reason. */
  install?: string;
  /** The stage that is applied instead. */
  fallback?: string;
  /** True for a fallback that is not needed; not reported to users. */
  unneeded?: true;
}

/** A stage that is neither applied nor pruned: it runs, and one of its images is missing. */
interface KeptStage {
  stage: string;
  reason: string;
  /** References of those of its workloads that exist. */
  workloads: string[];
  /** Command that deletes its workloads; the next deploy without the image then prunes the stage. */
  remove: string;
}

export interface PrunedObject {
  object: KubernetesObject;
  reason: string;
  /** Remove its finalizers without waiting: the controller that should do so is gone. */
  force?: true;
}

/** A stage, and why a choice excludes it: of the log tier, or of the kubelets' metrics. */
type ChosenStage = Stage & { excludedBy?: string };

export interface AppliedStage extends Pick<Stage, "name" | "title" | "limitMs"> {
  /** Deleted before the stage is applied. */
  prune: PrunedObject[];
  apply: KubernetesObject[];
  /** Jobs; each deploy deletes and creates them, since a Job cannot be changed. */
  run: KubernetesObject[];
  /** Workload whose pods are all deleted at once after the stage is applied. */
  restart?: { workload: string; reason: string };
}

export interface Plan {
  /** Deleted before the first stage: Prometheus reads the rules and scrape jobs of other stages when it starts. */
  prune: PrunedObject[];
  stages: AppliedStage[];
  keep: KeptStage[];
  skip: SkippedStage[];
  /** Deleted after the last stage: objects of another version of the project, which the manifests no longer contain. */
  orphans: PrunedObject[];
  /** Changes that the API server would refuse; a plan with one is not executed. */
  blocked: BlockedChange[];
  /** ConfigMaps of kept stages, as they are in the cluster: pods of other stages mount them. */
  keptConfiguration: KubernetesObject[];
  /** The alerts about the kubelets are applied before it is known whether Prometheus can read the kubelets. */
  awaitsKubelets: boolean;
}

/** Workload whose pods cannot be replaced one by one when the CA changes: old and new pods would not trust each other. */
export const BROKERS = "kafka";

/** Annotation of the brokers' pods: the CA that they trust since their start. */
export const TRUSTED_CA = "conveyor.dev/ca";

export interface PlanOptions {
  /** Certificate of the CA that is deployed; undefined where it is not known yet. */
  ca?: string | undefined;
  /** The log tier; by default the deployed one, and otherwise Loki where its images are available. */
  logs?: LogTier | undefined;
  /** The metrics of nodes and volumes; by default as at the last deploy, and otherwise auto. */
  nodeMetrics?: NodeMetrics | undefined;
  /** Additional labels of the objects for prometheus-operator; by default those of the last deploy. */
  monitorLabels?: Readonly<Record<string, string>> | undefined;
  /** Optional stages that are not wanted. */
  without?: readonly string[] | undefined;
  /** Name of the Secret with which nodes pull images; it exists in every namespace with pods. */
  pullSecret?: string | undefined;
}

/** Annotations of the Namespace: the choices of earlier deploys, which stay until another one is named. */
const NODE_METRICS_CHOICE = "conveyor.dev/node-metrics";
const MONITOR_LABELS_CHOICE = "conveyor.dev/monitor-labels";

/** The choices of this deploy, and those of the last one where it names none. */
function choicesOf({ live }: Snapshot, { nodeMetrics, monitorLabels }: PlanOptions) {
  const namespace = live.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === NAMESPACE);
  const annotations = namespace?.metadata.annotations ?? {};
  return {
    nodeMetrics: nodeMetrics ?? (annotations[NODE_METRICS_CHOICE] as NodeMetrics | undefined) ?? "auto",
    monitorLabels: monitorLabels ?? parseLabels(annotations[MONITOR_LABELS_CHOICE] ?? ""),
    skipped: (annotations[SKIPPED_STAGES] ?? "").split(","),
  };
}
type Choices = ReturnType<typeof choicesOf>;

/** Plans a deploy. */
export function plan(
  snapshot: Snapshot,
  declaredStages: readonly Stage[],
  images: readonly ImageState[],
  options: PlanOptions = {},
): Plan {
  const choices = choicesOf(snapshot, options);
  const [closed, open] = [true, false].map((isClosed) =>
    declaredStages.filter(({ closedBy }) => (closedBy !== undefined) === isClosed),
  ) as [Stage[], Stage[]];
  const wanted = withLogTier(open, snapshot, options.logs).map((stage) =>
    options.without?.includes(stage.name) ? { ...stage, excludedBy: `--without ${stage.name}` } : stage,
  );
  const stages = withNodeMetrics(wanted, snapshot, choices);
  const missing = new Set(images.filter((image) => image.missing).map(({ ref }) => ref));
  const pushed = new Map(images.flatMap(({ ref, pushedRef }) => (pushedRef ? [[ref, pushedRef] as const] : [])));
  const keep = keptStages(snapshot, stages, missing);
  const isKept = ({ name }: Stage) => keep.some(({ stage }) => stage === name);
  const others = stages.filter((stage) => !isKept(stage));
  const skip = skippedStages(snapshot, others, missing);
  const skipped = skip.map(({ stage }) => stage);
  const applied = others.filter(({ name }) => !skipped.includes(name));
  // After the namespace, which stores the choice: a deletion that takes too long must not leave a closed intake recorded as
  // exposed, which the next deploy would open again.
  const afterNamespace = applied.find(({ name }) => name !== FOUNDATION)?.name;
  const prune = [...closedObjects(snapshot, closed, afterNamespace), ...prunedObjects(snapshot, stages, applied, skip)];
  const prunedBefore = (name: string | undefined) =>
    prune.filter(({ before }) => before === name).map(({ before: _, ...pruned }) => pruned);
  const existing = new Map(snapshot.live.map((object) => [keyOf(object), object]));
  const ca = options.ca === undefined ? undefined : authorityId(options.ca);
  const restart = caChanges(snapshot, ca)
    ? { workload: BROKERS, reason: "the CA has changed: all brokers restart at once" }
    : undefined;
  const planned = applied.map(({ name, title, limitMs, objects }) => {
    const images = withImages(withChoices(objects, skipped, choices), (ref) => pushed.get(ref) ?? ref);
    const pullable = options.pullSecret === undefined ? images : withPullSecret(images, options.pullSecret);
    const trusting = ca === undefined ? pullable : pullable.map((object) => withTrustedCa(object, ca));
    const named = trusting.map((object) => withStoredClaims(object, existing.get(keyOf(object))));
    return {
      name,
      title,
      limitMs,
      prune: prunedBefore(name),
      apply: named.filter(({ kind }) => kind !== "Job"),
      run: named.filter(({ kind }) => kind === "Job"),
      ...(restart && objects.some(isBrokers) ? { restart } : {}),
    };
  });
  return {
    prune: prunedBefore(undefined),
    stages: planned,
    keep,
    skip,
    orphans: orphanedObjects(snapshot, stages).filter(({ object }) => !prune.some((one) => one.object === object)),
    blocked: planned
      .flatMap(({ apply }) => apply)
      .flatMap(
        (object) => blockedChange(object, existing.get(keyOf(object)), snapshot.context, snapshot.fixedClasses) ?? [],
      ),
    keptConfiguration: declared(
      snapshot,
      stages.filter(isKept).flatMap(({ objects }) => objects),
    ).filter(({ kind }) => kind === "ConfigMap"),
    awaitsKubelets:
      choices.nodeMetrics === "auto" &&
      snapshot.kubelets === undefined &&
      [NODE_STAGES.alerts, "metrics"].every((name) => applied.some((stage) => stage.name === name)),
  };
}

/**
 * The stages with the choice of the log tier: the other one is not applied. A named tier must have its images; the deployed
 * one stays until the other is named.
 */
function withLogTier(stages: readonly Stage[], { live }: Snapshot, named: LogTier | undefined): ChosenStage[] {
  const isDeployed = (name: string) =>
    live.some((object) => object.kind === "Deployment" && object.metadata.name === name && isOfThisProject(object));
  const tier = named ?? (isDeployed("victorialogs") && !isDeployed("loki") ? "victorialogs" : undefined);
  if (tier === undefined) return [...stages];
  const excludedBy = named ? `--logs ${named}` : `${tier} is deployed; --logs replaces it`;
  return stages.map((stage) => {
    if (stage.name === LOG_STAGES[tier]) return named ? { ...stage, optional: undefined } : stage;
    const isOther = Object.values<string>(LOG_STAGES).includes(stage.name);
    return isOther ? { ...stage, excludedBy } : stage;
  });
}

/**
 * The stages with the choice of the kubelets' metrics. While Prometheus does not know the kubelets, the decision of the last
 * deploy stays.
 */
function withNodeMetrics(
  stages: readonly ChosenStage[],
  { kubelets }: Snapshot,
  { nodeMetrics, skipped }: Choices,
): ChosenStage[] {
  // With the jobs switched off nothing was decided.
  const wasLeftOut = skipped.includes(NODE_STAGES.alerts) && !skipped.includes(NODE_STAGES.jobs);
  const unknown = wasLeftOut ? "as at the last deploy: Prometheus does not know the kubelets now" : undefined;
  const problem = kubelets ? kubelets.problem : unknown;
  return stages.map((stage) => {
    if (stage.name === NODE_STAGES.jobs && nodeMetrics === "off") return { ...stage, excludedBy: "--node-metrics off" };
    if (stage.name === NODE_STAGES.alerts && nodeMetrics === "auto" && problem)
      return { ...stage, excludedBy: problem };
    return stage;
  });
}

/** Objects of the manifests that exist, as they are in the cluster, in the order of the manifests. */
function declared({ live }: Snapshot, objects: readonly KubernetesObject[]): KubernetesObject[] {
  const existing = new Map(live.map((object) => [keyOf(object), object]));
  return objects.flatMap((object) => existing.get(keyOf(object)) ?? []);
}

const isBrokers = ({ kind, metadata }: KubernetesObject) => kind === "StatefulSet" && metadata.name === BROKERS;

/**
 * True when a broker trusts another CA than the one that is deployed, or their Secret has another one. The Secret alone
 * does not show it: a deploy that ended between the Secret and the brokers has changed it.
 */
function caChanges({ live, brokers }: Snapshot, ca: string | undefined): boolean {
  const stored = contentsOf(live)["kafka-tls"]?.["ca.crt"];
  const trusted = [
    stored === undefined ? undefined : authorityId(stored),
    ...brokers.map(({ metadata }) => metadata.annotations?.[TRUSTED_CA]),
  ];
  return ca !== undefined && trusted.some((id) => id !== undefined && id !== ca);
}

function withTrustedCa(object: KubernetesObject, ca: string): KubernetesObject {
  if (!isBrokers(object)) return object;
  const copy = structuredClone(object);
  const template = podTemplateOf(copy)!;
  template.metadata = { ...template.metadata, annotations: { ...template.metadata?.annotations, [TRUSTED_CA]: ca } };
  return copy;
}

/** The objects with what this deploy chose: annotations of the Namespace, labels of the operator's objects. */
function withChoices(objects: readonly KubernetesObject[], skipped: readonly string[], choices: Choices) {
  const { nodeMetrics, monitorLabels } = choices;
  const chosen = Object.entries({
    [SKIPPED_STAGES]: skipped.join(","),
    [NODE_METRICS_CHOICE]: nodeMetrics === "auto" ? "" : nodeMetrics,
    [MONITOR_LABELS_CHOICE]: formatLabels(monitorLabels),
  }).filter(([, value]) => value !== "");
  return objects.map((object) => {
    const { metadata } = object;
    if (object.apiVersion === OPERATOR_API) {
      return { ...object, metadata: { ...metadata, labels: { ...metadata.labels, ...monitorLabels } } };
    }
    if (object.kind !== "Namespace" || metadata.name !== NAMESPACE || chosen.length === 0) return object;
    const annotations = { ...metadata.annotations, ...Object.fromEntries(chosen) };
    return { ...object, metadata: { ...metadata, annotations } };
  });
}

// ── keep ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** The field of a workload's status with the number of its Ready pods; a DaemonSet counts nodes. */
const READY_PODS = { Deployment: "readyReplicas", StatefulSet: "readyReplicas", DaemonSet: "numberReady" } as const;

const isReady = ({ kind, status }: KubernetesObject) =>
  ((status as Workload["status"])?.[READY_PODS[kind as keyof typeof READY_PODS]] ?? 0) > 0;

/**
 * Optional stages without an image that run: at least one pod of theirs is Ready. An image can be missing for a passing
 * reason (network, mirror, assembly), which must not stop what runs.
 */
function keptStages(snapshot: Snapshot, stages: readonly ChosenStage[], missing: ReadonlySet<string>): KeptStage[] {
  return stages.flatMap((stage) => {
    if (stage.excludedBy) return [];
    const reason = missingImages(stage, missing);
    if (!reason) return [];
    const workloads = declared(snapshot, stage.objects).filter(({ kind }) => kind in READY_PODS);
    const own = workloads.filter(isOfThisProject);
    if (!own.some(isReady)) return [];
    return [{ stage: stage.name, reason, workloads: own.map(refOf), remove: deleteCommand(snapshot.context, own) }];
  });
}

/** The images that an optional stage lacks, as a reason; undefined for a stage that has them all or is not optional. */
function missingImages(stage: Stage, missing: ReadonlySet<string>): string | undefined {
  const lacking = stage.optional ? imagesOf(stage.objects).filter((image) => missing.has(image)) : [];
  return lacking.length > 0 ? `no image ${lacking.join(", ")}` : undefined;
}

function deleteCommand(context: string, workloads: readonly KubernetesObject[]): string {
  const byNamespace = Map.groupBy(workloads, ({ metadata }) => metadata.namespace ?? NAMESPACE);
  return [...byNamespace]
    .map(([namespace, objects]) => {
      const names = objects.map(({ kind, metadata }) => `${kind.toLowerCase()}/${metadata.name}`).join(" ");
      return `kubectl --context ${context} -n ${namespace} delete ${names}`;
    })
    .join(" && ");
}

// ── skip ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Stages that cannot run on this cluster, and fallbacks of stages that can. */
function skippedStages(
  snapshot: Snapshot,
  stages: readonly ChosenStage[],
  missing: ReadonlySet<string>,
): SkippedStage[] {
  const skipped = new Map<string, SkippedStage>();
  // In the order of the list: a stage follows those that it depends on or replaces.
  for (const stage of stages) {
    const reason = skipReason(snapshot, stage, missing, skipped);
    if (reason) skipped.set(stage.name, { stage: stage.name, ...reason });
    const replaced = stage.fallbackFor ? skipped.get(stage.fallbackFor) : undefined;
    if (replaced && !reason) replaced.fallback = stage.name;
  }
  return [...skipped.values()];
}

function skipReason(
  { apiVersions, keda }: Snapshot,
  stage: ChosenStage,
  missing: ReadonlySet<string>,
  skipped: ReadonlyMap<string, SkippedStage>,
): Omit<SkippedStage, "stage"> | undefined {
  const { fallbackFor, needsStage, needsApi, install } = stage;
  if (stage.excludedBy && !fallbackFor) return { reason: stage.excludedBy };
  if (fallbackFor && !skipped.has(fallbackFor)) return { reason: `${fallbackFor} is applied`, unneeded: true };
  const needed = needsStage ? skipped.get(needsStage) : undefined;
  if (needed && !needed.fallback) return { reason: `${needsStage} is skipped` };
  if (needsApi) {
    const idle = needsApi === KEDA_API && keda.status === "idle" ? keda.problem : undefined;
    const reason = !apiVersions.has(needsApi)
      ? `the cluster has no ${needsApi}`
      : idle && `the cluster has ${needsApi}, but KEDA does not work: ${idle}`;
    if (reason) return { reason, install };
  }
  const reason = missingImages(stage, missing);
  return reason ? { reason } : undefined;
}

// ── prune ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Objects of stages that are not wanted any more, the policy that allows their connections first. */
const closedObjects = (
  snapshot: Snapshot,
  closed: readonly Stage[],
  before: string | undefined,
): (PrunedObject & { before?: string })[] =>
  closed.flatMap(({ objects, closedBy = "" }) =>
    declared(snapshot, objects)
      .filter(isOfThisProject)
      .map((object) => ({ object, reason: closedBy, ...(before === undefined ? {} : { before }) })),
  );

/** Kinds that are never pruned: data, and the Secrets that belong to it. A deploy that has the stage again reuses them. */
export const RETAINED = new Set(["Namespace", "PersistentVolumeClaim", "Secret"]);

/** False for an object that has a name of this project's and was created by someone else. */
export const isOfThisProject = ({ metadata }: KubernetesObject): boolean =>
  metadata.labels?.["app.kubernetes.io/part-of"] === PART_OF;

/**
 * Every object that a deploy deletes, once, with the reason: KEDA's while KEDA is being uninstalled, those of skipped
 * stages, and autoscalers that scale the same workload as an applied one.
 */
function prunedObjects(
  snapshot: Snapshot,
  stages: readonly Stage[],
  applied: readonly Stage[],
  skip: readonly SkippedStage[],
): (PrunedObject & { before?: string })[] {
  const { live, keda, apiVersions } = snapshot;
  const pruned = new Map<string, PrunedObject & { before?: string }>();
  const add = (objects: readonly KubernetesObject[], entry: Omit<PrunedObject, "object"> & { before?: string }) => {
    for (const object of objects) if (!pruned.has(keyOf(object))) pruned.set(keyOf(object), { object, ...entry });
  };
  if (keda.status === "uninstalling") {
    // Their finalizers would block the deletion of KEDA's kinds and, later, of the namespace.
    const objects = live.filter(({ apiVersion }) => apiVersion === KEDA_API);
    add(objects, { reason: "KEDA is being uninstalled", force: true });
  }
  // Reverse order: network policies last, so that no pod runs without its policies.
  const objectsOf = (stage: string) =>
    declared(
      snapshot,
      stages.find(({ name }) => name === stage)!.objects.filter(({ kind }) => !RETAINED.has(kind)),
    )
      .filter(isOfThisProject)
      .reverse();
  for (const { stage, reason, fallback, unneeded } of skip) {
    if (unneeded) continue;
    add(objectsOf(stage), {
      reason: fallback ? `${stage} is replaced by ${fallback}` : `${stage} is skipped: ${reason}`,
      before: fallback,
    });
  }
  for (const { name, objects } of applied) {
    const scalers = live.filter(({ apiVersion }) => apiVersion !== KEDA_API || apiVersions.has(KEDA_API));
    for (const object of conflictingAutoscalers(objects, scalers)) {
      add([object], { reason: `a second autoscaler for ${autoscalerOf(object)!.target}`, before: name });
    }
  }
  for (const { stage, unneeded } of skip) {
    const replaced = stages.find(({ name }) => name === stage)!.fallbackFor;
    if (unneeded) add(objectsOf(stage), { reason: `${stage} is replaced by ${replaced}`, before: replaced });
  }
  return [...pruned.values()];
}

/** Label of every object that a deploy has applied. */
export const MANAGED_BY = { "app.kubernetes.io/managed-by": "conveyor-deploy" } as const;

/** Objects that a deploy of another version has applied, and that no manifest of this one contains. */
function orphanedObjects({ live }: Snapshot, stages: readonly Stage[]): PrunedObject[] {
  const declared = new Set(stages.flatMap(({ objects }) => objects.map(keyOf)));
  return live
    .filter((object) => isManaged(object) && !declared.has(keyOf(object)) && !RETAINED.has(object.kind))
    .map((object) => ({ object, reason: "no manifest contains it" }));
}

/** True for an object that a deploy has applied. KEDA copies the labels of a ScaledObject to the autoscaler that it owns. */
export const isManaged = ({ metadata }: KubernetesObject): boolean =>
  !metadata.ownerReferences?.length &&
  Object.entries(MANAGED_BY).every(([name, value]) => metadata.labels?.[name] === value);

// ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Warnings about stages that are not applied: what that means, and what to do. */
export function describeNotApplied({ keep, skip }: Pick<Plan, "keep" | "skip">): string[] {
  return [
    ...keep.map(
      ({ stage, reason, remove }) =>
        `kept: ${stage} (${reason}): it keeps running and is not updated; deploy again when its images are available; to remove it: ${remove}, then deploy again`,
    ),
    ...skip
      .filter(({ unneeded }) => !unneeded)
      .map(
        ({ stage, reason, install, fallback }) =>
          `skipped: ${stage} (${reason}${install ? `; to install it: ${install}` : ""})${fallback ? `; ${fallback} is applied instead` : ""}`,
      ),
  ];
}
