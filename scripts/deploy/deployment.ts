/** A deploy from start to end: certificates, images, snapshot, plan, and its execution or preview. */
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import type { Report } from "../cli/report.ts";
import { missingTools, type Tool, toolsError } from "../cli/tools.ts";
import { awaitKubelets } from "../clients/kubelets.ts";
import {
  apiVersionsOf,
  type Cluster,
  KubectlError,
  type KubernetesObject,
  NAMESPACE,
  refOf,
} from "../cluster/cluster.ts";
import {
  EXTERNAL_CONFIG,
  INFLUXDB_SECRET,
  KAFKA_SECRET,
  PROMETHEUS_SECRET,
  SETTINGS_KEY,
} from "../cluster/external-stores.ts";
import { requirePullSecret } from "../cluster/image-pulls.ts";
import {
  ensureImages,
  type ImageOptions,
  type ImagePlan,
  type ImageResult,
  type ImageTarget,
  missingImageTools,
  planImages,
  SERVICES_IMAGE,
} from "../images/index.ts";
import { OWN_PREFIX } from "../images/targets.ts";
import { adaptStages, type StorageChoice } from "./adapt.ts";
import { type CertificateSource, prepareCertificates, withFolderCopy } from "./certificate-source.ts";
import { intakeHostsOf } from "./certificates.ts";
import { withSchemas } from "./event-schemas.ts";
import {
  type Execution,
  executePlan,
  type PlannedObject,
  preparePlan,
  previewFirst,
  previewPlan,
  prunedBy,
} from "./execution.ts";
import { type ExposeFlags, resolveExposure, withExposure } from "./expose.ts";
import { externalSettings, openPorts, READ_TOKEN, WRITE_TOKEN, withExternal } from "./external.ts";
import { namespaceOfPrometheus, prometheusWarnings } from "./external-prometheus.ts";
import { platformsOf, readFacts } from "./facts.ts";
import { imagesOf, podNamespaces } from "./manifests.ts";
import { describeNotApplied, type ImageState, type Plan, type PlanOptions, plan } from "./plan.ts";
import { preflight } from "./preflight.ts";
import { describeRendered, type RequiredSecret, render, writeRendered } from "./render.ts";
import { contentsOf } from "./secrets.ts";
import { loadSizedStages, type Size } from "./sizes.ts";
import { readSnapshot } from "./snapshot.ts";
import { FOUNDATION, loadStages, type Stage } from "./stages.ts";

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

export interface DeployOptions extends ImageSource, Omit<PlanOptions, "ca"> {
  certificates: CertificateSource;
  storage: StorageChoice;
  /** The intake for senders outside the cluster; without flags as at the last deploy. */
  expose?: ExposeFlags | undefined;
  /** File with the external Kafka, InfluxDB and Prometheus; without it those of the last deploy. */
  external?: string | undefined;
  /**
   * Called by the first deploy to a cluster, when the network policies exist and before the first workload.
   * @param image the services' image on that cluster
   */
  beforeWorkloads?: ((image: string) => Promise<void>) | undefined;
  /** Default: the size of the last deploy. */
  size?: Size | undefined;
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

/** The document of `deploy --render DIR --json`. */
export interface RenderedDeploy extends NotApplied {
  images: ImagePlan[];
  folder: string;
  files: string[];
  secrets: RequiredSecret[];
  warnings: string[];
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

/** The stages for a cluster, and the platforms of its nodes. @throws OperatorError (exit 3) where they cannot be deployed to it */
async function stagesFor(
  cluster: Cluster,
  { size, storage, pullSecret, platforms, external, expose = {} }: DeployOptions,
  report: Pick<Report, "warn">,
  signal: AbortSignal,
): Promise<{ stages: Stage[]; platforms: readonly string[] | undefined; intakeHosts: readonly string[] }> {
  const exposing = await resolveExposure(cluster, expose, signal);
  const facts = await readFacts(cluster, signal);
  const settings = await externalSettings(cluster, external);
  const open = openPorts(settings.stores);
  if (open.length > 0) {
    report.warn(
      `network policies allow port ${open.join(", ")} to every address: those of external servers may change (cidrs restricts them)`,
    );
  }
  if (settings.stores.prometheus) {
    const namespace = await namespaceOfPrometheus(cluster, settings.stores);
    for (const line of prometheusWarnings(await apiVersionsOf(cluster, signal), namespace)) report.warn(line);
  }
  const sized = withExternal(await loadSizedStages(cluster, size, signal), settings);
  const declared = await withSchemas(cluster, withExposure(sized, exposing), settings.stores, report);
  const stages = adaptStages(declared, facts, storage);
  await preflight(cluster, facts, stages, storage, report, signal);
  const namespaces = podNamespaces(stages.flatMap(({ objects }) => objects));
  if (pullSecret !== undefined) await requirePullSecret(cluster, pullSecret, namespaces);
  const intakeHosts = exposing.exposure?.hosts ?? [];
  return { stages, platforms: platforms ?? platformsOf(facts), intakeHosts };
}

const EXTERNAL_CREDENTIALS = [KAFKA_SECRET, INFLUXDB_SECRET, PROMETHEUS_SECRET, WRITE_TOKEN, READ_TOKEN];

/**
 * What a deploy without flags takes from the cluster: how the intake is exposed, the size, external servers, the CA. Between
 * this and the first change, images are built: a deploy that applied what it read before another one would undo that one.
 */
export async function storedChoices(cluster: Cluster): Promise<{ what: string; value: string | undefined }[]> {
  const dataOf = async (kind: string, name: string) =>
    (await cluster.get<KubernetesObject & { data?: Record<string, string> }>(kind, name))?.data ?? {};
  const secretOf = async (name: string) =>
    await dataOf("secret", name).catch((error: unknown) => {
      // The preflight names all rights that are missing.
      if (error instanceof KubectlError && /forbidden/i.test(error.message)) return undefined;
      throw error;
    });
  const [namespace, brokers, settings] = await Promise.all([
    cluster.get<KubernetesObject>("namespace", NAMESPACE),
    secretOf("kafka-tls"),
    dataOf("configmap", EXTERNAL_CONFIG),
  ]);
  // Those of own servers are filled by setup.
  const credentials = SETTINGS_KEY in settings ? EXTERNAL_CREDENTIALS : [];
  const external = [settings, ...(await Promise.all(credentials.map(secretOf)))];
  const own = Object.entries(namespace?.metadata.annotations ?? {}).filter(([name]) =>
    name.startsWith("conveyor.dev/"),
  );
  return [
    { what: "exposure or size", value: JSON.stringify(own.sort()) },
    { what: "external servers", value: JSON.stringify(external) },
    { what: "CA", value: brokers && (brokers["ca.crt"] ?? "") },
  ];
}

/** @throws OperatorError (exit 3) when another deploy has changed them since */
export async function requireUnchanged(
  cluster: Cluster,
  before: Awaited<ReturnType<typeof storedChoices>>,
): Promise<void> {
  const now = await storedChoices(cluster);
  const changed = before
    .filter(({ value }, index) => value !== undefined && value !== now[index]!.value)
    .map(({ what }) => what);
  if (changed.length === 0) return;
  throw new OperatorError(`another deploy has changed the ${changed.join(", ")} of this pipeline meanwhile`, {
    exitCode: EXIT.precondition,
    hint: "nothing was applied; run this one again, when the other one has ended",
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
  const choices = await storedChoices(cluster);
  const { stages, platforms, intakeHosts } = await stagesFor(cluster, options, report, signal);
  await report.step("certificates", async (step) => {
    const source = { ...options.certificates, intakeHosts };
    const { statuses, restored } = await prepareCertificates(cluster, stages, source, signal);
    const made = statuses.filter(({ action }) => action !== "kept").length;
    const daysLeft = Math.min(...statuses.map(({ daysLeft }) => daysLeft));
    const readBack = restored.length > 0 ? `, ${restored.length} files read back from the cluster` : "";
    step.update(`${made} made, ${statuses.length - made} kept, ${daysLeft} days left${readBack}`);
  });
  const target = imageTarget(cluster, options);
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
  const isFirst = !snapshot.live.some(({ kind, metadata }) => kind === "Deployment" && metadata.name === "processor");
  const services = used.find(({ ref }) => ref === SERVICES_IMAGE);
  await requireUnchanged(cluster, choices);
  const execution = await executePlan(cluster, prepared, report, signal, async () => {
    if (isFirst && services) await options.beforeWorkloads?.(services.pushedRef ?? services.ref);
  });
  const result = { images: used.map(({ missing: _, ...image }) => image) };
  const problem = decided.awaitsKubelets ? await kubeletProblem(cluster, report, signal) : undefined;
  if (!problem) return { ...execution, ...result, ...notApplied(decided) };

  // Only a running Prometheus shows that the kubelets cannot be read: their alerts are removed before they fire.
  const latest = { ...(await readSnapshot(cluster, stages, signal)), kubelets: { problem } };
  const revised = plan(latest, stages, images, { ...options, ca: await caOf(folder) });
  const before = describeNotApplied(decided);
  for (const line of describeNotApplied(revised).filter((line) => !before.includes(line))) report.warn(line);
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

/** A warning where a deployed certificate lacks names of the intake: files contain no certificate. */
function unnamedHosts(certificate: string | undefined, hosts: readonly string[]): string[] {
  const names = certificate === undefined ? [] : intakeHostsOf(new X509Certificate(certificate));
  const missing = hosts.filter((host) => !names.includes(host));
  if (missing.length === 0) return [];
  return [
    `the certificate in Secret producer-tls must name ${missing.join(", ")}: bun scripts/generate-certs.ts --intake-host ${hosts.join(",")}, or the names in your Certificate`,
  ];
}

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
  const { stages, platforms, intakeHosts } = await stagesFor(cluster, options, report, signal);
  const target = imageTarget(cluster, options);
  return await withFolderCopy(options.certificates.folder, async (folder) => {
    await prepareCertificates(cluster, stages, { ...options.certificates, folder, intakeHosts }, signal);
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

/**
 * Writes what a deploy would apply into a folder; changes nothing in the cluster, and no certificate.
 * @throws OperatorError (exit 3) where the deploy would refuse too
 */
export async function renderDeploy(
  cluster: Cluster,
  options: DeployOptions,
  folder: string,
  report: Pick<Report, "warn">,
  signal: AbortSignal,
): Promise<RenderedDeploy> {
  const { stages, platforms, intakeHosts } = await stagesFor(cluster, options, report, signal);
  const target = imageTarget(cluster, options);
  const images = await planImages(target, allImages(stages), imageOptions({ ...options, platforms }, signal));
  const snapshot = await readSnapshot(cluster, stages, signal, { limitMs: 0 });
  const live = contentsOf(snapshot.live);
  const ca = live["kafka-tls"]?.["ca.crt"];
  const decided = plan(snapshot, stages, images, { ...options, ca });
  requireChangeable(decided);
  const rendered = render(decided, snapshot, usedImages(decided, images));
  const files = await writeRendered(folder, rendered);
  const removed = prunedBy(decided).map(({ object }) => object);
  const warnings = [
    ...describeNotApplied(decided),
    ...describeRendered(rendered, removed),
    ...unnamedHosts(live["producer-tls"]?.["tls.crt"], intakeHosts),
  ];
  return { images, folder, files, secrets: rendered.secrets, warnings, ...notApplied(decided) };
}
