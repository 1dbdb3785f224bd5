/**
 * The work of deploy: certificates, images, Secrets, then the stages of stages.ts in order, each applied and awaited.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChecklistResult, reportChecklist, selectChecks } from "../checks/checklist.ts";
import { CHECKS } from "../checks/index.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { ProbeSession } from "../clients/probe-session.ts";
import { type AppliedObject, type Cluster, type KubernetesObject, NAMESPACE, refOf } from "../cluster/cluster.ts";
import { awaitRollout, findSetupDone, runJob } from "../cluster/rollout.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { deployedServicesImage } from "../cluster/services-image.ts";
import {
  ensureImages,
  type ImagePlan,
  type ImageResult,
  type ImageTarget,
  OWN_PREFIX,
  planImages,
} from "../images/index.ts";
import { findConflictingAutoscalers, removeConflictingAutoscalers } from "./autoscalers.ts";
import { ensureCertificates } from "./certificates.ts";
import { deleteKedaObjects, whyKedaIsIdle } from "./keda.ts";
import { imagesOf, podTemplateOf, referencesOf, withHashes, withImages } from "./manifests.ts";
import { findOrphans, removeOrphans } from "./orphans.ts";
import { contentsOf, FILLED_BY, fillSecrets } from "./secrets.ts";
import { describeNotApplied, type KeptStage, selectStages } from "./stage-selection.ts";
import { loadStages, type SkippedStage, type Stage } from "./stages.ts";
import { removeSuperseded, supersededObjects } from "./superseded-stage.ts";

export interface DeployOptions {
  /** Folder of the certificates. */
  certificates: string;
  registry?: string;
  kind?: string;
  imagesDir?: string;
}

export interface DeployOutcome {
  counts: Record<AppliedObject["change"], number>;
  images: ImageResult[];
  changes: AppliedObject[];
  setup?: Record<string, unknown>;
  /** Stages that this cluster cannot have, with the reason. */
  leftOut: SkippedStage[];
  /** Stages that run on as they were, because an image of theirs cannot be had. */
  kept: KeptStage[];
}

/** Kafka's pods all go at once when the CA changes: in a rolling restart old and new would not trust each other. */
const BROKERS = "kafka";

function imageTarget(cluster: Cluster, options: DeployOptions): ImageTarget {
  if (options.registry) return { kind: "registry", prefix: options.registry };
  if (options.kind) return { kind: "kind", name: options.kind };
  if (cluster.isLocal) return { kind: "local" };
  if (cluster.context.startsWith("kind-")) return { kind: "kind", name: cluster.context.slice("kind-".length) };
  return { kind: "none" };
}

/** @throws OperatorError (exit 3) that names every image that cannot be had, with what to do. */
function requireImages(results: readonly ImageResult[], target: ImageTarget): void {
  const missing = results.filter(({ action }) => action === "missing");
  if (missing.length > 0) {
    throw new OperatorError(`images cannot be had: ${missing.map(({ ref }) => ref).join(", ")}`, {
      exitCode: EXIT.precondition,
      hint: missing.map(({ ref, hint }) => `${ref}: ${hint}`).join("\n"),
    });
  }
  const left = results.find(({ ref, action }) => ref.startsWith(OWN_PREFIX) && action === "left");
  if (left && target.kind === "none") {
    throw new OperatorError(`the cluster's nodes cannot pull ${left.ref}: no registry has it`, {
      exitCode: EXIT.precondition,
      hint: "--registry HOST/PATH pushes it to a registry that the cluster reaches; --kind NAME loads it into a kind cluster",
    });
  }
}

const removed = (object: KubernetesObject): AppliedObject => ({ ref: refOf(object), change: "removed" });
const objectsOf = (stages: readonly Stage[]): KubernetesObject[] => stages.flatMap(({ objects }) => objects);

/** The stages with the references of pushed images in place of those in the manifests. */
function renamed(stages: readonly Stage[], images: readonly { ref: string; pushedRef?: string }[]): Stage[] {
  const pushed = new Map(images.flatMap(({ ref, pushedRef }) => (pushedRef ? [[ref, pushedRef] as const] : [])));
  return stages.map((stage) => ({ ...stage, objects: withImages(stage.objects, (ref) => pushed.get(ref) ?? ref) }));
}

/** Entries of the Secrets that somebody in the cluster fills (tokens), as they stand there now. */
async function filledInCluster(cluster: Cluster, objects: readonly KubernetesObject[]) {
  const names = objects
    .filter(({ kind, metadata }) => kind === "Secret" && metadata.annotations?.[FILLED_BY] !== undefined)
    .map(({ metadata }) => metadata.name);
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readSecret(cluster, name)])));
}

async function filledStages(cluster: Cluster, stages: readonly Stage[], certificates: string): Promise<Stage[]> {
  const sources = {
    file: async (name: string) => await readFile(join(certificates, name), "utf8").catch(() => undefined),
    live: async (secret: string) => await readSecret(cluster, secret),
  };
  return await Promise.all(
    stages.map(async (stage) => ({ ...stage, objects: await fillSecrets(stage.objects, sources) })),
  );
}

/** True when the brokers that run trust another CA than the one that is being deployed. */
async function caChanges(cluster: Cluster, stages: readonly Stage[]): Promise<boolean> {
  const live = (await readSecret(cluster, "kafka-tls"))["ca.crt"];
  const next = contentsOf(objectsOf(stages))["kafka-tls"]?.["ca.crt"];
  return live !== undefined && next !== undefined && live.trim() !== next.trim();
}

/**
 * Objects of one stage with their hashes; Secrets filled in the cluster are read at this moment.
 * @param keptConfiguration ConfigMaps that pods may mount besides: without them they would restart for nothing
 */
async function hashed(
  cluster: Cluster,
  stage: Stage,
  all: readonly KubernetesObject[],
  images: readonly { ref: string; pushedRef?: string; digest?: string }[],
  keptConfiguration: readonly KubernetesObject[],
): Promise<KubernetesObject[]> {
  const secrets = { ...(await filledInCluster(cluster, all)), ...contentsOf(all) };
  const imageDigests = Object.fromEntries(images.map(({ ref, pushedRef, digest }) => [pushedRef ?? ref, digest]));
  return withHashes(stage.objects, { configuration: [...all, ...keptConfiguration], secrets, imageDigests });
}

/** @throws OperatorError when a workload would start with a token that the setup job has not made. */
function requireTokens(stage: Stage, tokens: Record<string, Record<string, string>>): void {
  for (const object of stage.objects) {
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

/**
 * Applies everything, in order, and waits for each stage.
 * @throws OperatorError with the stage that failed and the last state seen.
 */
export async function deploy(
  cluster: Cluster,
  options: DeployOptions,
  report: Report,
  signal: AbortSignal,
): Promise<DeployOutcome> {
  await report.step("certificates", async (step) => {
    const certificates = await ensureCertificates(options.certificates);
    const made = certificates.filter(({ action }) => action !== "kept").length;
    const daysLeft = Math.min(...certificates.map(({ daysLeft }) => daysLeft));
    step.update(`${made} made, ${certificates.length - made} kept, ${daysLeft} days left`);
  });

  const target = imageTarget(cluster, options);
  let stages = await loadStages();
  const wanted = await ensureImages(target, imagesOf(objectsOf(stages)), report, {
    ...(options.imagesDir ? { imagesDir: options.imagesDir } : {}),
    signal,
  });
  const possible = await selectStages(
    cluster,
    stages,
    wanted.map(({ ref, action }) => ({ ref, missing: action === "missing" })),
    signal,
    () => whyKedaIsIdle(cluster, signal, undefined, (problem) => report.info(`waiting for KEDA: ${problem}`)),
  );
  const every = stages;
  stages = possible.stages;
  const { leftOut, kept, keptConfiguration } = possible;
  for (const line of describeNotApplied(possible)) report.warn(line);
  const used = new Set(imagesOf(objectsOf(stages)));
  const images = wanted.filter(({ ref }) => used.has(ref));
  requireImages(images, target);
  stages = await filledStages(cluster, renamed(stages, images), options.certificates);
  const all = objectsOf(stages);
  const newCa = await caChanges(cluster, stages);

  const outcome: DeployOutcome = {
    counts: { created: 0, changed: 0, unchanged: 0, removed: 0 },
    images,
    changes: [],
    leftOut,
    kept,
  };
  const note = (applied: readonly AppliedObject[]) => {
    for (const object of applied) outcome.counts[object.change]++;
    outcome.changes.push(...applied.filter(({ change }) => change !== "unchanged"));
  };

  if (possible.kedaLeaves) {
    // Its kinds cannot go before these, and KEDA, were it installed again, would lose the kinds under its hands.
    await report.step("what KEDA left behind", async (step) => {
      const freed = await deleteKedaObjects(cluster, signal, 0);
      step.update(`KEDA is being removed; let go in its place: ${freed.join(", ") || "nothing"}`);
    });
  }

  const behind = await findOrphans(cluster, leftOut, every, possible.apiVersions, signal);
  if (behind.length > 0) {
    // First: Prometheus reads the rules and jobs of other stages when it starts.
    await report.step("what is left out now", async (step) => {
      await removeOrphans(cluster, behind, signal);
      note(behind.map(removed));
      step.update(`${behind.length} objects of an earlier deploy removed; volumes and Secrets stay`);
    });
  }

  for (const stage of stages) {
    const limitMs = Math.max(0, ...stage.awaits.map((awaited) => awaited.limitMs));
    await report.step(
      stage.title,
      async (step) => {
        const jobs = stage.objects.filter(({ kind }) => kind === "Job");
        const objects = await hashed(cluster, stage, all, images, keptConfiguration);
        requireTokens(stage, await filledInCluster(cluster, all));
        const replaced = await supersededObjects(cluster, stage, every, possible.apiVersions);
        await removeSuperseded(cluster, replaced, signal);
        note(replaced.map(removed));
        const rivals = await findConflictingAutoscalers(cluster, objects);
        await removeConflictingAutoscalers(cluster, rivals, possible.apiVersions, signal);
        note(rivals.map(removed));
        const applied = await cluster.apply(
          objects.filter(({ kind }) => kind !== "Job"),
          { signal },
        );
        note(applied);
        if (newCa && objects.some(({ kind, metadata }) => kind === "StatefulSet" && metadata.name === BROKERS)) {
          step.update("the CA has changed: all brokers restart at once");
          await cluster.kubectl(["delete", "pods", "-n", NAMESPACE, "-l", `app.kubernetes.io/name=${BROKERS}`], {
            signal,
            timeoutMs: 180_000,
          });
        }
        for (const job of jobs) {
          const log = await runJob(cluster, job, { signal, onState: step.update });
          outcome.setup = findSetupDone(log);
        }
        const waits = stage.awaits.filter((awaited) => awaited.kind !== "Job");
        const states = new Map<string, string>();
        await Promise.all(
          waits.map(async ({ kind, name, namespace, limitMs }) => {
            await awaitRollout(cluster, kind as "StatefulSet" | "Deployment" | "DaemonSet", name, {
              limitMs,
              signal,
              ...(namespace ? { namespace } : {}),
              onState: (state) => {
                states.set(name, state);
                step.update([...states].map(([workload, seen]) => `${workload}: ${seen}`).join("; "));
              },
            });
            states.set(name, "ready");
          }),
        );
        const changes = applied.filter(({ change }) => change !== "unchanged").length;
        step.update(summarize(applied.length, changes, jobs.length > 0 ? outcome.setup : undefined));
      },
      limitMs > 0 ? { limitMs } : {},
    );
  }
  return outcome;
}

function summarize(objects: number, changes: number, setup: Record<string, unknown> | undefined): string {
  if (!setup) return changes === 0 ? `${objects} objects, unchanged` : `${changes} of ${objects} objects changed`;
  // The setup job names what it made, changed, removed and left alone, subject by subject.
  const count = (field: string) => (Array.isArray(setup[field]) ? setup[field].length : 0);
  const parts = ["created", "changed", "removed", "unchanged"].map((field) => `${count(field)} ${field}`);
  return parts.filter((part) => !part.startsWith("0 ")).join(", ");
}

export interface DeployPlan {
  images: ImagePlan[];
  leftOut: SkippedStage[];
  kept: KeptStage[];
  objects: AppliedObject[];
}

/**
 * What deploy would change; asks the API server, stores nothing.
 * @throws OperatorError (exit 3) when a deployed pipeline is to be compared and its certificates are not in the folder.
 */
export async function planDeploy(cluster: Cluster, options: DeployOptions, signal: AbortSignal): Promise<DeployPlan> {
  let stages = await loadStages();
  const images = await planImages(imageTarget(cluster, options), imagesOf(objectsOf(stages)), {
    ...(options.imagesDir ? { imagesDir: options.imagesDir } : {}),
    signal,
  });
  const { leftOut, kept, ...possible } = await selectStages(
    cluster,
    stages,
    images.map(({ ref, plan }) => ({ ref, missing: plan.startsWith("missing") })),
    signal,
    () => whyKedaIsIdle(cluster, signal, 0),
  );
  const every = stages;
  stages = possible.stages;
  if (!(await cluster.get("namespace", NAMESPACE))) {
    // A dry run of objects in a namespace that is not there fails; all of them would be created.
    const objects = objectsOf(stages).map((object) => ({ ref: refOf(object), change: "created" as const }));
    return { images, leftOut, kept, objects };
  }
  stages = await filledStages(cluster, renamed(stages, images), options.certificates);
  const objects = (await findOrphans(cluster, leftOut, every, possible.apiVersions, signal)).map(removed);
  for (const stage of stages) {
    const planned = await hashed(cluster, stage, objectsOf(stages), images, possible.keptConfiguration);
    // As above: a stage whose own namespace is not there yet cannot be asked about.
    const namespaces = planned.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name);
    const there = await Promise.all(namespaces.map((name) => cluster.get("namespace", name)));
    if (there.some((namespace) => !namespace)) {
      objects.push(...planned.map((object) => ({ ref: refOf(object), change: "created" as const })));
      continue;
    }
    objects.push(
      ...(await cluster.apply(
        planned.filter(({ kind }) => kind !== "Job"),
        { dryRun: true, signal },
      )),
      ...(await supersededObjects(cluster, stage, every, possible.apiVersions)).map(removed),
      ...(await findConflictingAutoscalers(cluster, planned)).map(removed),
    );
  }
  return { images, leftOut, kept, objects };
}

/** The closing check of deploy: the checks of these ids and what they stand on. */
export async function checkFlow(
  cluster: Cluster,
  ids: readonly string[],
  report: Report,
  signal: AbortSignal,
): Promise<ChecklistResult> {
  const context = new ProbeSession(cluster, await deployedServicesImage(cluster), signal);
  try {
    return await reportChecklist(selectChecks(CHECKS, ids), context, report, signal);
  } finally {
    await context.close();
  }
}
