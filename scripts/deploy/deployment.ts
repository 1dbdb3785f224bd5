/** A deploy from start to end: certificates, images, snapshot, plan, and its execution or preview. */
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { awaitKubelets } from "../clients/kubelets.ts";
import { type Cluster, NAMESPACE, refOf } from "../cluster/cluster.ts";
import {
  ensureImages,
  type ImagePlan,
  type ImageResult,
  type ImageTarget,
  OWN_PREFIX,
  planImages,
  SERVICES_IMAGE,
} from "../images/index.ts";
import { adaptStages, type StorageChoice } from "./adapt.ts";
import { type CertificateSource, prepareCertificates, withFolderCopy } from "./certificate-source.ts";
import {
  type Execution,
  executePlan,
  type PlannedObject,
  preparePlan,
  previewFirst,
  previewPlan,
} from "./execution.ts";
import { readFacts } from "./facts.ts";
import { imagesOf } from "./manifests.ts";
import { BROKERS, describeNotApplied, type ImageState, type Plan, type PlanOptions, plan } from "./plan.ts";
import { preflight } from "./preflight.ts";
import { readSnapshot } from "./snapshot.ts";
import { FOUNDATION, loadStages, type Stage } from "./stages.ts";

export interface DeployOptions extends Omit<PlanOptions, "ca"> {
  certificates: CertificateSource;
  registry?: string | undefined;
  kind?: string | undefined;
  imagesDir?: string | undefined;
  storage: StorageChoice;
  /**
   * Called by the first deploy to a cluster, when the network policies exist and before the first workload.
   * @param image the services' image on that cluster
   */
  beforeWorkloads?: ((image: string) => Promise<void>) | undefined;
}

/** Stages that are not applied, with the field names of the JSON documents of deploy. */
interface NotApplied {
  leftOut: { stage: string; reason: string; install?: string; standIn?: string; notNeeded?: true }[];
  kept: { stage: string; reason: string; workloads: string[]; takeAway: string }[];
}

/** The document of `deploy --json`. */
export interface DeployOutcome extends Execution, NotApplied {
  images: ImageResult[];
}

/** The document of `deploy --dry-run --json`. */
export interface DeployPreview extends NotApplied {
  images: ImagePlan[];
  objects: PlannedObject[];
  /** Jobs that run at each deploy. */
  runs: string[];
  /** Workloads whose pods all restart at once, with the reason. */
  restarts: { workload: string; reason: string }[];
}

function notApplied({ skip, keep }: Plan): NotApplied {
  return {
    leftOut: skip.map(({ fallback, unneeded, ...skipped }) => ({
      ...skipped,
      standIn: fallback,
      notNeeded: unneeded,
    })),
    kept: keep.map(({ remove, ...kept }) => ({ ...kept, takeAway: remove })),
  };
}

function imageTarget(cluster: Cluster, options: DeployOptions): ImageTarget {
  if (options.registry) return { kind: "registry", prefix: options.registry };
  if (options.kind) return { kind: "kind", name: options.kind };
  if (cluster.isLocal) return { kind: "local" };
  if (cluster.context.startsWith("kind-")) return { kind: "kind", name: cluster.context.slice("kind-".length) };
  return { kind: "none" };
}

const allImages = (stages: readonly Stage[]) => imagesOf(stages.flatMap(({ objects }) => objects));

/** The images that the stages of a plan run, by the references of the manifests. */
function usedImages<T extends ImageState>({ stages }: Plan, images: readonly T[]): T[] {
  const used = new Set(imagesOf(stages.flatMap(({ apply, run }) => [...apply, ...run])));
  return images.filter(({ ref, pushedRef }) => used.has(pushedRef ?? ref));
}

/** @throws OperatorError (exit 3) that names every missing image, with what to do */
function requireImages(results: readonly (ImageResult & ImageState)[], target: ImageTarget): void {
  const missing = results.filter((image) => image.missing);
  if (missing.length > 0) {
    throw new OperatorError(`images are missing: ${missing.map(({ ref }) => ref).join(", ")}`, {
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

/** @throws OperatorError (exit 3) that names each field that cannot be changed, and how it is changed nevertheless */
function requireChangeable({ blocked }: Plan): void {
  if (blocked.length === 0) return;
  const named = blocked.map(({ ref, fields }) => `${ref} (${fields.join(", ")})`).join(", ");
  throw new OperatorError(`Kubernetes cannot change fields of existing objects: ${named}`, {
    exitCode: EXIT.precondition,
    hint: `nothing was applied; delete the objects, then deploy again:\n${blocked.map(({ recipe }) => recipe).join("\n")}`,
  });
}

/** The stages for this cluster. @throws OperatorError (exit 3) where they cannot be deployed to it */
async function stagesFor(
  cluster: Cluster,
  { storage }: DeployOptions,
  report: Pick<Report, "warn">,
  signal: AbortSignal,
): Promise<Stage[]> {
  const facts = await readFacts(cluster, signal);
  const stages = adaptStages(await loadStages(), facts, storage);
  await preflight(cluster, facts, stages, storage, report, signal);
  return stages;
}

const caOf = async (folder: string) => await Bun.file(join(folder, "ca.crt")).text();

/**
 * Applies every stage that the cluster can run, in order, and waits for each.
 * @throws OperatorError with the stage that failed and the last state seen
 */
export async function deploy(
  cluster: Cluster,
  options: DeployOptions,
  report: Report,
  signal: AbortSignal,
): Promise<DeployOutcome> {
  const stages = await stagesFor(cluster, options, report, signal);
  await report.step("certificates", async (step) => {
    const { statuses, restored } = await prepareCertificates(cluster, stages, options.certificates, signal);
    const made = statuses.filter(({ action }) => action !== "kept").length;
    const daysLeft = Math.min(...statuses.map(({ daysLeft }) => daysLeft));
    const readBack = restored.length > 0 ? `, ${restored.length} files read back from the cluster` : "";
    step.update(`${made} made, ${statuses.length - made} kept, ${daysLeft} days left${readBack}`);
  });
  const target = imageTarget(cluster, options);
  const ensured = await ensureImages(target, allImages(stages), report, { imagesDir: options.imagesDir, signal });
  const images = ensured.map((image) => ({ ...image, missing: image.action === "missing" }));
  const snapshot = await readSnapshot(cluster, stages, signal, {
    onWait: (problem) => report.info(`waiting for KEDA: ${problem}`),
  });
  const { folder } = options.certificates;
  const decided = plan(snapshot, stages, images, { ...options, ca: await caOf(folder) });
  requireChangeable(decided);
  for (const line of describeNotApplied(decided)) report.warn(line);
  const used = usedImages(decided, images);
  requireImages(used, target);
  const prepared = await preparePlan(decided, snapshot, used, folder);
  const isFirst = !snapshot.live.some(({ kind, metadata }) => kind === "StatefulSet" && metadata.name === BROKERS);
  const services = used.find(({ ref }) => ref === SERVICES_IMAGE);
  const execution = await executePlan(cluster, prepared, report, signal, async () => {
    if (isFirst && services) await options.beforeWorkloads?.(services.pushedRef ?? services.ref);
  });
  const result = { images: used.map(({ missing: _, ...image }) => image) };
  const problem = decided.awaitsKubelets ? await kubeletProblem(cluster, report, signal) : undefined;
  if (!problem) return { ...execution, ...result, ...notApplied(decided) };

  // Only a running Prometheus shows that the kubelets cannot be read: their alerts are removed before they fire.
  const latest = { ...(await readSnapshot(cluster, stages, signal)), kubelets: { problem } };
  const revised = plan(latest, stages, images, { ...options, ca: await caOf(folder) });
  const told = describeNotApplied(decided);
  for (const line of describeNotApplied(revised).filter((line) => !told.includes(line))) report.warn(line);
  const again = await preparePlan(revised, latest, used, folder);
  const some = { ...again, stages: again.stages.filter(({ name }) => REVISED_STAGES.includes(name)) };
  const { counts, changes } = await executePlan(cluster, some, report, signal);
  for (const change of ["created", "changed", "removed"] as const) execution.counts[change] += counts[change];
  return { ...execution, changes: [...execution.changes, ...changes], ...result, ...notApplied(revised) };
}

const kubeletProblem = async (cluster: Cluster, report: Report, signal: AbortSignal): Promise<string | undefined> =>
  await report.step("metrics of nodes and volumes", async (step) => {
    const state = await awaitKubelets(cluster, signal);
    step.update(!state ? "not scraped yet" : state.problem ? "cannot be read" : "Prometheus reads the kubelets");
    return state?.problem;
  });

/** Stages that change when the kubelets' alerts are left out: the Namespace's annotation, and Prometheus' rules. */
export const REVISED_STAGES = [FOUNDATION, "metrics"];

/**
 * Plans a deploy and previews its changes; stores nothing, no certificate either.
 * @throws OperatorError (exit 3) where the deploy would refuse too
 */
export async function previewDeploy(
  cluster: Cluster,
  options: DeployOptions,
  report: Pick<Report, "warn">,
  signal: AbortSignal,
): Promise<{ plan: Plan; preview: DeployPreview }> {
  const stages = await stagesFor(cluster, options, report, signal);
  const target = imageTarget(cluster, options);
  return await withFolderCopy(options.certificates.folder, async (folder) => {
    await prepareCertificates(cluster, stages, { ...options.certificates, folder }, signal);
    const images = await planImages(target, allImages(stages), { imagesDir: options.imagesDir, signal });
    const snapshot = await readSnapshot(cluster, stages, signal, { limitMs: 0 });
    const decided = plan(snapshot, stages, images, { ...options, ca: await caOf(folder) });
    requireChangeable(decided);
    const isDeployed = snapshot.live.some(({ kind, metadata }) => kind === "Namespace" && metadata.name === NAMESPACE);
    const prepared = await preparePlan(decided, snapshot, usedImages(decided, images), folder);
    const objects = isDeployed ? await previewPlan(cluster, prepared, snapshot, signal) : previewFirst(decided);
    const runs = decided.stages.flatMap(({ run }) => run.map(refOf));
    const restarts = decided.stages.flatMap(({ restart }) => restart ?? []);
    return { plan: decided, preview: { images, objects, runs, restarts, ...notApplied(decided) } };
  });
}
