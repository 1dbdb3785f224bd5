/** Executes a plan, or previews it with server-side dry runs. Nothing is decided here. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readFinal } from "../../services/protocol/final-document.ts";
import { OperatorError } from "../cli/errors.ts";
import type { Report, StepHandle } from "../cli/report.ts";
import {
  type AppliedObject,
  type Cluster,
  type KubernetesObject,
  keyOf,
  NAMESPACE,
  refOf,
} from "../cluster/cluster.ts";
import { awaitRollout, runJob } from "../cluster/rollout.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { deleteKedaObjects, KEDA_API } from "./keda.ts";
import { podTemplateOf, referencesOf, withHashes } from "./manifests.ts";
import type { AppliedStage, ImageState, Plan, PrunedObject, Snapshot } from "./plan.ts";
import { contentsOf, FILLED_BY, fillSecrets, type SecretContents } from "./secrets.ts";
import { FOUNDATION } from "./stages.ts";

/** Workloads are deleted in the background; their pods end within their grace period and are not awaited. */
const DELETE_LIMIT_MS = 120_000;
/** Brokers end within their grace period of a minute. */
const RESTART_LIMIT_MS = 180_000;

// ── contents ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** A plan with the contents of its Secrets, and what the hashes of pod templates depend on. */
export interface PreparedPlan extends Plan {
  configuration: KubernetesObject[];
  secrets: SecretContents;
  imageDigests: Record<string, string | undefined>;
  /** Secrets that are filled inside the cluster, by name; the setup job changes them. */
  tokens: SecretContents;
}

/**
 * Fills the Secrets of a plan from the folder of certificates and from the cluster.
 * @throws OperatorError (exit 3) that names every missing certificate
 */
export async function preparePlan(
  plan: Plan,
  snapshot: Snapshot,
  images: readonly ImageState[],
  certificates: string,
): Promise<PreparedPlan> {
  const live = contentsOf(snapshot.live);
  const sources = {
    file: async (name: string) => await readFile(join(certificates, name), "utf8").catch(() => undefined),
    live: async (secret: string) => live[secret],
  };
  const stages = await Promise.all(
    plan.stages.map(async (stage) => ({ ...stage, apply: await fillSecrets(stage.apply, sources) })),
  );
  const objects = stages.flatMap(({ apply }) => apply);
  const filledInCluster = objects.filter(({ metadata }) => metadata.annotations?.[FILLED_BY] !== undefined);
  return {
    ...plan,
    stages,
    configuration: [...objects, ...plan.keptConfiguration],
    secrets: contentsOf(objects),
    imageDigests: Object.fromEntries(images.map(({ ref, pushedRef, digest }) => [pushedRef ?? ref, digest])),
    tokens: Object.fromEntries(filledInCluster.map(({ metadata: { name } }) => [name, live[name] ?? {}])),
  };
}

/** Copies of the objects with the hash of their dependencies in every pod template. */
function hashed(objects: readonly KubernetesObject[], plan: PreparedPlan): KubernetesObject[] {
  const { configuration, imageDigests } = plan;
  return withHashes(objects, { configuration, imageDigests, secrets: { ...plan.tokens, ...plan.secrets } });
}

/** @throws OperatorError when a workload would start with a token that the setup job has not created. */
function requireTokens(objects: readonly KubernetesObject[], tokens: SecretContents): void {
  for (const object of objects) {
    const template = podTemplateOf(object);
    for (const name of template ? referencesOf(template.spec).secrets : []) {
      if (name in tokens && Object.keys(tokens[name]!).length === 0) {
        throw new OperatorError(`Secret ${name} is empty: the setup job did not fill it`, {
          hint: `kubectl -n ${NAMESPACE} logs job/setup`,
        });
      }
    }
  }
}

// ── preview ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** An object of a preview; removals carry their reason. */
export type PlannedObject = AppliedObject & { reason?: string };

const removal = ({ object, reason }: PrunedObject): PlannedObject => ({
  ref: refOf(object),
  change: "removed",
  reason,
});
const creation = (object: KubernetesObject): PlannedObject => ({ ref: refOf(object), change: "created" });

/** The removals of a plan, in the order in which they are executed. */
export const prunedBy = (plan: Plan): PrunedObject[] => [
  ...plan.prune,
  ...plan.stages.flatMap(({ prune }) => prune),
  ...plan.orphans,
];

/**
 * The changes of a plan to a cluster without the pipeline: everything would be created. A server-side dry run of objects
 * in a namespace that does not exist fails.
 */
export const previewFirst = (plan: Plan): PlannedObject[] => [
  ...plan.prune.map(removal),
  ...plan.stages.flatMap(({ prune, apply }) => [...prune.map(removal), ...apply.map(creation)]),
  ...plan.orphans.map(removal),
];

/** The changes of a plan by server-side dry runs; stores nothing. */
export async function previewPlan(
  cluster: Cluster,
  plan: PreparedPlan,
  snapshot: Snapshot,
  signal: AbortSignal,
): Promise<PlannedObject[]> {
  const existing = new Set(snapshot.live.map(keyOf));
  const objects = plan.prune.map(removal);
  for (const stage of plan.stages) {
    const namespaces = stage.apply.filter(({ kind }) => kind === "Namespace");
    const applied = hashed(stage.apply, plan);
    objects.push(...stage.prune.map(removal));
    if (namespaces.every((namespace) => existing.has(keyOf(namespace)))) {
      objects.push(...(await cluster.apply(applied, { dryRun: true, signal })));
    } else {
      objects.push(...applied.map(creation));
    }
  }
  objects.push(...plan.orphans.map(removal));
  return objects;
}

// ── execution ────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Execution {
  counts: Record<AppliedObject["change"], number>;
  changes: AppliedObject[];
  /** Summary of the setup job. */
  setup?: Record<string, unknown>;
}

/**
 * Executes a plan stage by stage; each stage is awaited before the next.
 * @param beforeWorkloads called when namespace and network policies exist, and before the first pod
 * @throws OperatorError with the stage that failed and the last state seen
 */
export async function executePlan(
  cluster: Cluster,
  plan: PreparedPlan,
  report: Report,
  signal: AbortSignal,
  beforeWorkloads: () => Promise<void> = async () => {},
): Promise<Execution> {
  const execution: Execution = { counts: { created: 0, changed: 0, unchanged: 0, removed: 0 }, changes: [] };
  if (plan.prune.length > 0) {
    await report.step("remove objects of skipped stages", async (step) => {
      const forced = await removeObjects(cluster, plan.prune, signal);
      record(execution, plan.prune.map(removal));
      const note = forced.length > 0 ? `; finalizers of KEDA removed: ${forced.join(", ")}` : "";
      step.update(`${plan.prune.length} objects removed; volumes and Secrets stay${note}`);
    });
  }
  let tokens = plan.tokens;
  for (const stage of plan.stages) {
    await report.step(
      stage.title,
      async (step) => await executeStage(cluster, stage, { ...plan, tokens }, execution, step, signal),
      { limitMs: stage.limitMs },
    );
    if (stage.name === FOUNDATION) await beforeWorkloads();
    if (stage.run.length > 0) tokens = await readTokens(cluster, Object.keys(tokens));
  }
  if (plan.orphans.length > 0) {
    await report.step("remove objects of another version", async (step) => {
      await removeObjects(cluster, plan.orphans, signal);
      record(execution, plan.orphans.map(removal));
      step.update(plan.orphans.map(({ object }) => refOf(object)).join(", "));
    });
  }
  return execution;
}

const readTokens = async (cluster: Cluster, names: readonly string[]): Promise<SecretContents> =>
  Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readSecret(cluster, name)] as const)));

function record({ counts, changes }: Execution, objects: readonly AppliedObject[]): void {
  for (const { ref, change } of objects) {
    counts[change]++;
    if (change !== "unchanged") changes.push({ ref, change });
  }
}

async function executeStage(
  cluster: Cluster,
  stage: AppliedStage,
  plan: PreparedPlan,
  execution: Execution,
  step: StepHandle,
  signal: AbortSignal,
): Promise<void> {
  requireTokens([...stage.apply, ...stage.run], plan.tokens);
  const [objects, jobs] = [hashed(stage.apply, plan), hashed(stage.run, plan)];
  await removeObjects(cluster, stage.prune, signal);
  record(execution, stage.prune.map(removal));
  const applied = await cluster.apply(objects, { signal });
  record(execution, applied);
  if (stage.restart) {
    step.update(stage.restart.reason);
    const selector = `app.kubernetes.io/name=${stage.restart.workload}`;
    await cluster.kubectl(["delete", "pods", "-n", NAMESPACE, "-l", selector], { signal, timeoutMs: RESTART_LIMIT_MS });
  }
  for (const job of jobs) {
    execution.setup = readFinal(await runJob(cluster, job, { signal, onState: step.update }), "setup");
  }
  await awaitWorkloads(cluster, stage, step, signal);
  const changed = applied.filter(({ change }) => change !== "unchanged").length;
  step.update(summarize(applied.length, changed, stage.run.length > 0 ? execution.setup : undefined));
}

async function awaitWorkloads(
  cluster: Cluster,
  { apply, limitMs = 0 }: AppliedStage,
  step: StepHandle,
  signal: AbortSignal,
): Promise<void> {
  const states = new Map<string, string>();
  await Promise.all(
    apply.map(async ({ kind, metadata: { name, namespace = NAMESPACE } }) => {
      if (kind !== "StatefulSet" && kind !== "Deployment" && kind !== "DaemonSet") return;
      const onState = (state: string) => {
        states.set(name, state);
        step.update([...states].map(([workload, seen]) => `${workload}: ${seen}`).join("; "));
      };
      await awaitRollout(cluster, kind, name, { limitMs, signal, onState, namespace });
      states.set(name, "ready");
    }),
  );
}

function summarize(objects: number, changed: number, setup: Record<string, unknown> | undefined): string {
  if (!setup) return changed === 0 ? `${objects} objects, unchanged` : `${changed} of ${objects} objects changed`;
  // The setup job lists by name what it created, changed, removed and left unchanged.
  const count = (field: string) => (Array.isArray(setup[field]) ? setup[field].length : 0);
  const parts = ["created", "changed", "removed", "unchanged"].map((field) => `${count(field)} ${field}`);
  const problems = Array.isArray(setup.problems) ? setup.problems.map((problem) => `; ${problem}`) : [];
  return parts.filter((part) => !part.startsWith("0 ")).join(", ") + problems.join("");
}

/** Deletes the objects, KEDA's first. @returns KEDA objects whose finalizers were removed here */
async function removeObjects(
  cluster: Cluster,
  pruned: readonly PrunedObject[],
  signal: AbortSignal,
): Promise<string[]> {
  const isKeda = ({ object }: PrunedObject) => object.apiVersion === KEDA_API;
  const forced: string[] = [];
  for (const force of [true, undefined]) {
    const objects = pruned.filter((one) => isKeda(one) && one.force === force).map(({ object }) => object);
    forced.push(...(await deleteKedaObjects(cluster, objects, signal, force ? 0 : undefined)));
  }
  await cluster.delete(
    pruned.filter((one) => !isKeda(one)).map(({ object }) => object),
    { signal, timeoutMs: DELETE_LIMIT_MS },
  );
  return forced;
}
