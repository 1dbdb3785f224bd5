/** A deploy from start to end: certificates, images, snapshot, plan, and its execution or preview. */
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { missingTools, type Tool, toolsError } from "../cli/tools.ts";
import { type Cluster, NAMESPACE, refOf } from "../cluster/cluster.ts";
import { requirePullSecret } from "../cluster/image-pulls.ts";
import {
  ensureImages,
  type ImageOptions,
  type ImagePlan,
  type ImageResult,
  type ImageTarget,
  missingImageTools,
  planImages,
} from "../images/index.ts";
import { OWN_PREFIX } from "../images/targets.ts";
import { type CertificateSource, prepareCertificates, withFolderCopy } from "./certificate-source.ts";
import {
  type Execution,
  executePlan,
  type PlannedObject,
  preparePlan,
  previewFirst,
  previewPlan,
} from "./execution.ts";
import { imagesOf, podNamespaces } from "./manifests.ts";
import { describeNotApplied, type ImageState, type Plan, plan } from "./plan.ts";
import { readSnapshot } from "./snapshot.ts";
import { type LogTier, loadStages, type Stage } from "./stages.ts";

/** Where the images of a deploy come from. */
export interface ImageSource {
  /** The images are pushed there. */
  registry?: string | undefined;
  kind?: string | undefined;
  imagesDir?: string | undefined;
  /** Registry of the base images of own images, in place of Docker Hub. */
  baseRegistry?: string | undefined;
  /** Platforms of the cluster's nodes, as "linux/arm64"; read from the nodes when absent. */
  platforms?: readonly string[] | undefined;
}

export interface DeployOptions extends ImageSource {
  certificates: CertificateSource;
  logs?: LogTier | undefined;
  /** Name of the Secret with which nodes pull images; it exists in every namespace with pods. */
  pullSecret?: string | undefined;
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

function imageTarget(
  cluster: Pick<Cluster, "context" | "isLocal">,
  options: Pick<ImageSource, "registry" | "kind">,
): ImageTarget {
  if (options.registry) return { kind: "registry", prefix: options.registry };
  if (options.kind) return { kind: "kind", name: options.kind };
  if (cluster.isLocal) return { kind: "local" };
  if (cluster.context.startsWith("kind-")) return { kind: "kind", name: cluster.context.slice("kind-".length) };
  return { kind: "none" };
}

const imageOptions = ({ imagesDir, baseRegistry, platforms }: ImageSource, signal?: AbortSignal): ImageOptions => ({
  ...{ imagesDir, baseRegistry, platforms, signal },
});

/**
 * Platforms of a cluster's Linux nodes, as "linux/arm64"; undefined where the user may not list nodes: images are then built
 * for the platform of this machine.
 */
export async function nodePlatforms(cluster: Cluster): Promise<string[] | undefined> {
  const { stdout, exitCode } = await cluster.kubectl(["get", "nodes", "-o", "json"], { allowFailure: true });
  if (exitCode !== 0) return undefined;
  const { items } = JSON.parse(stdout) as { items: Node[] };
  const linux = items.map(({ status }) => status.nodeInfo).filter(({ operatingSystem }) => operatingSystem === "linux");
  return [...new Set(linux.map(({ architecture }) => `linux/${architecture}`))].sort();
}

interface Node {
  status: { nodeInfo: { operatingSystem: string; architecture: string } };
}

/** Without it no certificate can be made. */
const OPENSSL: Tool = {
  command: "openssl",
  why: "makes the certificates",
  ...{ aptPackage: "openssl", dnfPackage: "openssl", brewPackage: "openssl" },
};
const KUBECTL: Tool = {
  command: "kubectl",
  why: "talks to the cluster",
  source: "https://kubernetes.io/docs/tasks/tools/",
  brewPackage: "kubernetes-cli",
};

/**
 * Checks that this machine has what a deploy to an existing cluster needs: kubectl, openssl, and a tool for the images that
 * it delivers.
 * @throws OperatorError (exit 3) that lists all missing tools, with the command that installs them
 */
export async function requireTools(context: string, options: ImageSource): Promise<void> {
  const target = imageTarget({ context, isLocal: false }, options);
  const images = allImages(await loadStages());
  const missing = [
    ...(await missingTools([KUBECTL, OPENSSL])),
    ...(await missingImageTools(target, images, imageOptions(options))),
  ];
  if (missing.length > 0) throw toolsError(`a deploy to context ${context} needs more tools on this machine`, missing);
}

const allImages = (stages: readonly Stage[]) => imagesOf(stages.flatMap(({ objects }) => objects));

/** The images that the stages of a plan run, by the references of the manifests. */
function usedImages<T extends ImageState>({ stages }: Plan, images: readonly T[]): T[] {
  const used = new Set(imagesOf(stages.flatMap(({ apply, run }) => [...apply, ...run])));
  return images.filter(({ ref, pushedRef }) => used.has(pushedRef ?? ref));
}

/** The stages of the manifests, checked against the cluster. @throws OperatorError (exit 3) without the named pull secret */
async function checkedStages(cluster: Cluster, { pullSecret }: DeployOptions): Promise<Stage[]> {
  const stages = await loadStages();
  const namespaces = podNamespaces(stages.flatMap(({ objects }) => objects));
  if (pullSecret !== undefined) await requirePullSecret(cluster, pullSecret, namespaces);
  return stages;
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
  const stages = await checkedStages(cluster, options);
  await report.step("certificates", async (step) => {
    const { statuses, restored } = await prepareCertificates(cluster, stages, options.certificates, signal);
    const made = statuses.filter(({ action }) => action !== "kept").length;
    const daysLeft = Math.min(...statuses.map(({ daysLeft }) => daysLeft));
    const readBack = restored.length > 0 ? `, ${restored.length} files read back from the cluster` : "";
    step.update(`${made} made, ${statuses.length - made} kept, ${daysLeft} days left${readBack}`);
  });
  const target = imageTarget(cluster, options);
  const platforms = options.platforms ?? (await nodePlatforms(cluster));
  const ensured = await ensureImages(
    target,
    allImages(stages),
    report,
    imageOptions({ ...options, platforms }, signal),
  );
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
  const execution = await executePlan(cluster, prepared, report, signal);
  return { ...execution, images: used.map(({ missing: _, ...image }) => image), ...notApplied(decided) };
}

/**
 * Plans a deploy and previews its changes; stores nothing, no certificate either.
 * @throws OperatorError (exit 3) where the deploy would refuse too
 */
export async function previewDeploy(
  cluster: Cluster,
  options: DeployOptions,
  signal: AbortSignal,
): Promise<{ plan: Plan; preview: DeployPreview }> {
  const stages = await checkedStages(cluster, options);
  const target = imageTarget(cluster, options);
  return await withFolderCopy(options.certificates.folder, async (folder) => {
    await prepareCertificates(cluster, stages, { ...options.certificates, folder }, signal);
    const platforms = options.platforms ?? (await nodePlatforms(cluster));
    const images = await planImages(target, allImages(stages), imageOptions({ ...options, platforms }, signal));
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
