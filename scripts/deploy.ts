/**
 * Deploys the pipeline, stage by stage, and checks at the end that events flow.
 *
 *   npm start                                   the local cluster, created if it does not exist
 *   npm start -- --kind dev                     the same on a kind cluster
 *   bun scripts/deploy.ts --context staging --registry registry.example.org/team
 *   bun scripts/deploy.ts --local --dry-run     the plan and its changes
 *
 * Idempotent: a second run changes nothing, a run after an interrupted one continues, manual changes are reverted.
 */
import { join, relative, resolve } from "node:path";
import type { ChecklistResult } from "./checks/checklist.ts";
import { FLOW_CHECK_IDS, runChecks } from "./checks/index.ts";
import { requireEnforcement } from "./checks/network.ts";
import { type CommandContext, defineCommand, runCommand, type Values } from "./cli/command.ts";
import { EXIT, type ExitCode, isAbort, OperatorError } from "./cli/errors.ts";
import { formatDuration, type Report } from "./cli/report.ts";
import { ProbeSession } from "./clients/probe-session.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { drillLeftovers } from "./cluster/drill-leftovers.ts";
import { type IntakeAddress, intakeAddress, printIntake, readExposure } from "./cluster/intake-exposure.ts";
import { KIND_NAME } from "./cluster/namespace.ts";
import { deployedServicesImage } from "./cluster/services-image.ts";
import {
  CLUSTER_FLAGS,
  localCluster,
  rememberedTarget,
  rememberTarget,
  requireReachable,
  selectCluster,
} from "./cluster/target.ts";
import { parseStorageClasses, STORAGE_TIERS } from "./deploy/adapt.ts";
import { certificateFolder } from "./deploy/certificates.ts";
import {
  type DeployPreview,
  deploy,
  type ImageSource,
  previewDeploy,
  renderDeploy,
  requireTools,
} from "./deploy/deployment.ts";
import { awaitEndpoint, EXPOSE_CHOICES, exposeFlags, NO_ADDRESS_HINT } from "./deploy/expose.ts";
import { prepareLocalCluster } from "./deploy/local-target.ts";
import { agreedCreation, type Creation, ensureKindCluster } from "./deploy/new-cluster.ts";
import { parseLabels } from "./deploy/operator-rules.ts";
import { describeNotApplied, type Plan } from "./deploy/plan.ts";
import { SIZES, type Size } from "./deploy/sizes.ts";
import { DISPENSABLE_STAGES, LOG_STAGES, type LogTier, NODE_METRICS, type NodeMetrics } from "./deploy/stages.ts";
import { restorePipeline } from "./drills/restore.ts";
import { checkPrefix } from "./images/targets.ts";
import { localTarget } from "./local-cluster/index.ts";

const FLAGS = {
  ...CLUSTER_FLAGS,
  auto: {
    type: "boolean",
    description:
      "as npm start does: the named cluster, or else the local one or one of kind, created with what it needs",
  },
  registry: {
    type: "string",
    valueName: "HOST/PATH",
    env: "CONVEYOR_REGISTRY",
    description: "push the project's own images there; the cluster pulls them",
  },
  "image-pull-secret": {
    type: "string",
    valueName: "NAME",
    env: "CONVEYOR_IMAGE_PULL_SECRET",
    description: "Secret with which the nodes pull images; it must exist in every namespace with pods",
  },
  kind: {
    type: "string",
    valueName: "NAME",
    description: "the kind cluster NAME, into whose nodes images are loaded; --auto creates it where it does not exist",
  },
  "base-registry": {
    type: "string",
    valueName: "HOST/PATH",
    env: "CONVEYOR_BASE_REGISTRY",
    description: "mirror of Docker Hub with the base images of the project's own images",
  },
  images: { type: "string", valueName: "DIR", description: "folder with archives of images (docker save, OCI)" },
  logs: {
    type: "string",
    choices: Object.keys(LOG_STAGES),
    valueName: "NAME",
    description:
      "log tier: Loki and Promtail, or VictoriaLogs and vlagent (default: the deployed one; Loki where its images are available)",
  },
  without: {
    type: "string",
    choices: DISPENSABLE_STAGES,
    multiple: true,
    valueName: "NAME",
    description:
      "leave out an optional part, for example where the nodes cannot pull its image; what runs of it is removed",
  },
  "node-metrics": {
    type: "string",
    choices: NODE_METRICS,
    valueName: "MODE",
    description:
      "metrics of nodes and volumes: auto leaves out their alerts where no kubelet's certificate can be verified, on keeps them, off scrapes no kubelet (default: as at the last deploy, at first auto)",
  },
  "monitor-labels": {
    type: "string",
    valueName: "NAME=VALUE,…",
    description:
      'labels of the ServiceMonitors and PrometheusRules, such as release=monitoring; "" for none (default: as at the last deploy)',
  },
  "storage-class": {
    type: "string",
    valueName: "[TIER=]NAME",
    multiple: true,
    description: `storage class of new volumes, or of those of one tier: ${STORAGE_TIERS.join(", ")} (default: the cluster's default class)`,
  },
  certs: {
    type: "string",
    valueName: "DIR",
    description:
      "folder of the certificates (default: certs in the project, with a folder for each namespace but conveyor)",
  },
  "new-ca": {
    type: "boolean",
    description: "replace the CA of a deployed pipeline by that of the folder: all brokers restart",
  },
  "open-network": {
    type: "boolean",
    description: "deploy also to a cluster that does not enforce NetworkPolicies",
  },
  size: {
    type: "string",
    choices: Object.keys(SIZES),
    valueName: "NAME",
    description: "size of the pipeline (default: that of the last deploy, at first small)",
  },
  render: {
    type: "string",
    valueName: "DIR",
    description: "write what a deploy would apply as files, without Secrets; change nothing",
  },
  expose: {
    type: "string",
    choices: EXPOSE_CHOICES,
    valueName: "MODE",
    description:
      "let senders outside the cluster reach the intake, by a Service or a Gateway with TLS passthrough (docs/clusters.md); kept for later deploys; none: closed again",
  },
  "intake-host": {
    type: "string",
    valueName: "NAME,…",
    description: "with --expose: names or IP addresses that senders use; the producer's certificate contains them",
  },
  "intake-from": {
    type: "string",
    valueName: "CIDR,…",
    description:
      "with --expose: address blocks that may connect (default: as at the last deploy, at first every address)",
  },
  "intake-gateway": {
    type: "string",
    valueName: "NAMESPACE/NAME",
    description: "with --expose gateway: the Gateway (default: the only one with a listener of mode Passthrough)",
  },
  external: {
    type: "string",
    valueName: "FILE",
    description:
      "YAML file with a Kafka, InfluxDB or Prometheus that others run, instead of own ones (docs/external-stores.md); kept for later deploys; none: own ones again",
  },
  "install-tools": { type: "boolean", description: "let the local cluster install missing tools with apt-get" },
  "no-check": { type: "boolean", description: "skip the closing check that events flow" },
  "dry-run": { type: "boolean", description: "print the plan and its changes, change nothing" },
} as const;

type DeployFlags = Values<typeof FLAGS>;

/**
 * Refuses contradictory flags before a local cluster is created for them.
 * @throws OperatorError (exit 2) that names the flags, or the rule and the value
 */
export function checkDeployFlags(
  flags: Pick<DeployFlags, "local" | "auto"> &
    Partial<
      Pick<
        DeployFlags,
        | "context"
        | "registry"
        | "base-registry"
        | "kind"
        | "render"
        | "dry-run"
        | "new-ca"
        | "monitor-labels"
        | "expose"
        | "intake-host"
        | "intake-from"
        | "intake-gateway"
      >
    >,
): void {
  const exclude = (pair: string, hint?: string) =>
    new OperatorError(`${pair} exclude each other`, { exitCode: EXIT.usage, hint });
  if (flags.context && flags.local) throw exclude("--context and --local");
  if (flags.registry && flags.kind) throw exclude("--registry and --kind");
  if (flags.local && flags.kind) throw exclude("--local and --kind");
  if (flags.local && flags.auto) {
    throw exclude("--local and --auto", "--auto uses the local cluster where no --context is given");
  }
  if (flags.render !== undefined && flags["dry-run"]) throw exclude("--render and --dry-run");
  // The files contain no certificate; a CA is replaced by a deploy.
  if (flags.render !== undefined && flags["new-ca"]) throw exclude("--render and --new-ca");
  if (flags.registry) checkPrefix(flags.registry);
  if (flags["base-registry"]) checkPrefix(flags["base-registry"], "--base-registry");
  monitorLabels(flags);
  exposeFlags(flags);
}

/** @throws OperatorError (exit 2) that names the flag, the rule and the value */
function monitorLabels(flags: Partial<Pick<DeployFlags, "monitor-labels">>): Record<string, string> | undefined {
  const text = flags["monitor-labels"];
  if (text === undefined) return undefined;
  try {
    return parseLabels(text);
  } catch (error) {
    throw new OperatorError(`--monitor-labels: ${(error as Error).message}`, { exitCode: EXIT.usage });
  }
}

const imageSource = ({ registry, kind, images, "base-registry": base }: DeployFlags): ImageSource => ({
  registry: registry && checkPrefix(registry),
  baseRegistry: base && checkPrefix(base, "--base-registry"),
  kind,
  imagesDir: images,
});

/** What a deploy starts before it can reach its cluster; undefined for a cluster that exists. */
async function creationFor(flags: DeployFlags, report: Report): Promise<Creation | undefined> {
  if (flags.local) return "local";
  if (flags.kind !== undefined) return flags.auto ? "kind" : undefined;
  if (flags.context !== undefined || (!flags.auto && (await rememberedTarget()))) return undefined;
  return await agreedCreation(report, flags.auto);
}

/** True for a call that changes nothing. */
const isPreview = ({ "dry-run": dryRun, render }: DeployFlags) => dryRun || render !== undefined;

/** The target cluster; the local one, or one of kind, is created first. */
async function targetCluster(flags: DeployFlags, report: Report, signal: AbortSignal): Promise<Cluster> {
  const create = await creationFor(flags, report);
  if (create === "local") {
    if (!isPreview(flags)) {
      await prepareLocalCluster(report, {
        installTools: flags["install-tools"] || flags.auto,
        imagesDir: flags.images,
        signal,
      });
    }
    return await localCluster(localTarget);
  }
  const kind = flags.kind ?? (create === "kind" ? KIND_NAME : undefined);
  const context = flags.context ?? (kind && `kind-${kind}`);
  const isNamed = context !== undefined && context !== localTarget.context;
  if (isNamed) await requireTools(context, imageSource(flags));
  // The nodes of a cluster that another program made from kind's are not created here.
  if (create === "kind" && context === `kind-${kind}` && !isPreview(flags))
    await ensureKindCluster(kind!, report, signal);
  const cluster = await selectCluster({ ...flags, context }, localTarget);
  if (!isNamed && !cluster.isLocal) await requireTools(cluster.context, imageSource(flags));
  return cluster;
}

/** Prints a plan and its changes; warnings about stages that are not applied are those of a deploy. */
export function reportPlan(plan: Plan, preview: DeployPreview, report: Report): void {
  report.result(preview);
  for (const line of describeNotApplied(plan)) report.warn(line);
  for (const image of preview.images) report.print(`image ${image.ref}: ${image.plan}`);
  const changes = preview.objects.filter(({ change }) => change !== "unchanged");
  for (const { ref, change, reason } of changes) report.print(`${ref}: ${change}${reason ? ` (${reason})` : ""}`);
  for (const { workload, reason } of preview.restarts) report.print(`pods of ${workload}: deleted (${reason})`);
  for (const ref of preview.runs) report.print(`${ref}: runs at each deploy`);
  report.print(`${changes.length} of ${preview.objects.length} objects would change`);
}

function summary(counts: Awaited<ReturnType<typeof deploy>>["counts"], durationMs: number): string {
  const { created, changed, unchanged, removed } = counts;
  const duration = formatDuration(durationMs);
  if (created + changed + removed === 0) return `nothing changed: ${unchanged} objects are up to date (${duration})`;
  const parts = [`${created} created`, `${changed} changed`, `${unchanged} unchanged`];
  if (removed > 0) parts.push(`${removed} removed`);
  return `deployed: ${parts.join(", ")} (${duration})`;
}

/** Undoes the faults of a killed drill. A deploy goes on where that fails: it may restore what the healing needs. */
export async function healDrills(
  cluster: Cluster,
  report: Report,
  restore: typeof restorePipeline = restorePipeline,
): Promise<void> {
  const found = await drillLeftovers(cluster);
  if (found.length === 0) return;
  try {
    await report.step("undo the faults of a killed drill", async (step) => {
      const undone = await restore(cluster, await deployedServicesImage(cluster));
      step.update([...found, ...undone].join("; "));
    });
  } catch (error) {
    if (!(error instanceof OperatorError) || isAbort(error)) throw error;
    report.warn(`${found.join("; ")}; not undone: ${error.message}; bun scripts/resilience-test.ts --heal`);
  }
}

/** The address of an exposed intake, once the cluster has assigned one; a warning where it has not. */
async function exposedIntake(
  cluster: Cluster,
  certificates: string,
  report: Report,
  signal: AbortSignal,
): Promise<IntakeAddress | undefined> {
  const exposure = await readExposure(cluster);
  if (!exposure) return undefined;
  const endpoint = await awaitEndpoint(cluster, exposure, report, signal);
  if (!("problem" in endpoint)) {
    return await intakeAddress(cluster, exposure, endpoint, join(relative(process.cwd(), certificates), "ca.crt"));
  }
  report.warn(`senders outside the cluster cannot reach the intake: ${endpoint.problem}`);
  report.info(NO_ADDRESS_HINT[exposure.mode]);
  return undefined;
}

async function main({ flags, report, signal }: CommandContext<typeof FLAGS>): Promise<ExitCode> {
  const startedAt = performance.now();
  checkDeployFlags(flags);
  const proveEnforcement = async (image: string) => {
    await report.step("network policies are enforced", async (step) => {
      await using session = new ProbeSession(cluster, image, signal);
      step.update(`a pod without rights reaches nothing: ${await requireEnforcement(session, signal)}`);
    });
  };
  const cluster = await targetCluster(flags, report, signal);
  report.info(`target: ${cluster.describe()}`);
  const version = await requireReachable(cluster, signal);
  const { certs, "image-pull-secret": pullSecret } = flags;
  const folder = certs === undefined ? certificateFolder() : resolve(certs);
  const options = {
    ...imageSource(flags),
    certificates: { folder, newCa: flags["new-ca"] },
    logs: flags.logs as LogTier | undefined,
    without: flags.without,
    size: flags.size as Size | undefined,
    pullSecret,
    nodeMetrics: flags["node-metrics"] as NodeMetrics | undefined,
    monitorLabels: monitorLabels(flags),
    storage: parseStorageClasses(flags["storage-class"]),
    // The local cluster proves at its start that it enforces policies.
    beforeWorkloads: cluster.isLocal || flags["open-network"] ? undefined : proveEnforcement,
    expose: exposeFlags(flags),
    external: flags.external,
  };
  if (flags["dry-run"]) {
    const { plan, preview } = await previewDeploy(cluster, options, report, signal);
    reportPlan(plan, preview, report);
    return EXIT.ok;
  }
  if (flags.render !== undefined) {
    const { warnings, ...rendered } = await renderDeploy(cluster, options, resolve(flags.render), report, signal);
    for (const line of warnings) report.warn(line);
    report.result(rendered);
    report.print(
      `${rendered.files.length} files in ${rendered.folder}; Secrets that must exist: see kustomization.yaml`,
    );
    return EXIT.ok;
  }
  await healDrills(cluster, report);
  const outcome = await deploy(cluster, options, report, signal);
  await rememberTarget(cluster);
  const intake = await exposedIntake(cluster, folder, report, signal);
  const flow: ChecklistResult | undefined = flags["no-check"]
    ? undefined
    : await runChecks(cluster, FLOW_CHECK_IDS, report, signal);
  const durationMs = performance.now() - startedAt;
  report.result({
    cluster: { context: cluster.context, local: cluster.isLocal, kubernetes: version },
    ...outcome,
    intake,
    flow,
    stages: report.steps.map(({ title, ok, durationMs }) => ({ title, ok, duration_ms: Math.round(durationMs) })),
    duration_ms: Math.round(durationMs),
  });
  report.print(summary(outcome.counts, durationMs));
  if (intake) printIntake(intake, report);
  report.print(
    "open it: bun scripts/open.ts   all checks: bun scripts/validate.ts   remove it: bun scripts/destroy.ts",
  );
  if (flow && !flow.ok) {
    report.warn("the pipeline is deployed, but the closing check failed; details: bun scripts/validate.ts");
    return EXIT.violations;
  }
  return EXIT.ok;
}

export const command = defineCommand({
  name: "scripts/deploy.ts",
  summary: "deploys the pipeline onto a cluster and checks that events flow",
  usage: ["--local", "--context NAME [--registry HOST/PATH]", "--kind NAME", "--auto"],
  flags: FLAGS,
  examples: [
    ["npm start", "everything: local cluster, images, certificates, pipeline, closing check"],
    ["bun scripts/deploy.ts --context staging --registry registry.example.org/team", "an existing cluster"],
    ["npm start -- --kind dev", "a kind cluster, created where it does not exist"],
    ["bun scripts/deploy.ts --context staging --size standard", "three nodes"],
    [
      "bun scripts/deploy.ts --context staging --expose loadbalancer --intake-host telemetry.example.org",
      "open the intake for senders outside the cluster",
    ],
    ["bun scripts/deploy.ts --local --dry-run", "what would change on the local cluster"],
    ["bun scripts/deploy.ts --context staging --render deploy/", "files for Argo CD, Flux or a review"],
  ],
  run: main,
});

if (import.meta.main) await runCommand(command);
