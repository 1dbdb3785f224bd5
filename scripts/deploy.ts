/**
 * Deploys the pipeline, stage by stage, and shows at the end that events flow.
 *
 *   npm start                                   the local cluster, made if it is not there
 *   bun scripts/deploy.ts --context staging --registry registry.example.org/team
 *   bun scripts/deploy.ts --local --dry-run     what would change
 *
 * Run again it changes nothing; interrupted, the next run carries on. What was changed by hand is put back.
 */
import { FLOW_CHECK_IDS } from "./checks/index.ts";
import { runCommand } from "./cli/command.ts";
import { EXIT, OperatorError } from "./cli/errors.ts";
import { formatDuration, type Report } from "./cli/report.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { CLUSTER_FLAGS, localCluster, rememberTarget, requireReachable, selectCluster } from "./cluster/target.ts";
import { checkFlow, type DeployPlan, deploy, planDeploy } from "./deploy/deployment.ts";
import { prepareLocalCluster } from "./deploy/local-target.ts";
import { describeNotApplied } from "./deploy/stage-selection.ts";
import { checkPrefix } from "./images/targets.ts";
import { localTarget } from "./local-cluster/index.ts";

/**
 * Before anything is made: a command line that cannot be meant must not cost a local cluster.
 * @throws OperatorError (exit 2) that names the flags, or the rule and the value.
 */
export function checkDeployFlags(flags: {
  context?: string | undefined;
  registry?: string | undefined;
  kind?: string | undefined;
  local: boolean;
  auto: boolean;
}): void {
  const exclude = (pair: string, hint?: string) =>
    new OperatorError(`${pair} exclude each other`, { exitCode: EXIT.usage, ...(hint ? { hint } : {}) });
  if (flags.context && flags.local) throw exclude("--context and --local");
  if (flags.registry && flags.kind) throw exclude("--registry and --kind");
  if (flags.local && flags.auto) {
    throw exclude("--local and --auto", "--auto takes the local cluster by itself where no --context is given");
  }
  if (flags.registry) checkPrefix(flags.registry);
}

/** The cluster of this deploy; the local one is brought up when it is the one. */
async function targetCluster(
  flags: {
    context?: string | undefined;
    images?: string | undefined;
    local: boolean;
    auto: boolean;
    "install-tools": boolean;
    "dry-run": boolean;
  },
  report: Report,
  signal: AbortSignal,
): Promise<Cluster> {
  const wantsLocal = flags.local || (flags.auto && !flags.context);
  if (!wantsLocal) return await selectCluster(flags, localTarget);
  if (!flags["dry-run"]) {
    await prepareLocalCluster(report, {
      installTools: flags["install-tools"] || flags.auto,
      ...(flags.images ? { imagesDir: flags.images } : {}),
      signal,
    });
  }
  return await localCluster(localTarget);
}

/** Says what a dry run found; of stages that would not be applied the same as a deploy says. */
export function reportPlan(plan: DeployPlan, report: Report): void {
  report.result(plan);
  for (const line of describeNotApplied(plan)) report.warn(line);
  for (const { ref, plan: what } of plan.images) report.print(`image ${ref}: ${what}`);
  for (const { ref, change } of plan.objects) if (change !== "unchanged") report.print(`${ref}: ${change}`);
  const changes = plan.objects.filter(({ change }) => change !== "unchanged").length;
  report.print(`${changes} of ${plan.objects.length} objects would change`);
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/deploy.ts",
      summary: "deploys the pipeline onto a cluster and shows that events flow",
      usage: ["--local", "--context NAME [--registry HOST/PATH | --kind NAME]", "--auto"],
      flags: {
        ...CLUSTER_FLAGS,
        auto: {
          type: "boolean",
          description: "as npm start does: the named cluster, or else the local one, made with what it needs",
        },
        registry: {
          type: "string",
          valueName: "HOST/PATH",
          env: "CONVEYOR_REGISTRY",
          description: "push the services' image there; the cluster pulls it",
        },
        kind: { type: "string", valueName: "NAME", description: "load images into the nodes of this kind cluster" },
        images: { type: "string", valueName: "DIR", description: "folder with archives of images (docker save, OCI)" },
        certs: { type: "string", default: "certs", valueName: "DIR", description: "folder of the certificates" },
        "install-tools": { type: "boolean", description: "let the local cluster install missing tools with apt-get" },
        "no-check": { type: "boolean", description: "leave out the closing check that events flow" },
        "dry-run": { type: "boolean", description: "show what would change, change nothing" },
      },
      examples: [
        ["npm start", "from nothing: local cluster, images, certificates, pipeline, closing check"],
        ["bun scripts/deploy.ts --context staging --registry registry.example.org/team", "an existing cluster"],
        ["bun scripts/deploy.ts --context kind-dev --kind dev", "a kind cluster"],
        ["bun scripts/deploy.ts --local --dry-run", "what would change on the local cluster"],
      ],
    },
    async ({ flags, report, signal }) => {
      const startedAt = performance.now();
      checkDeployFlags(flags);
      const cluster = await targetCluster(flags, report, signal);
      report.info(`target: ${cluster.describe()}`);
      const version = await requireReachable(cluster, signal);
      const options = {
        certificates: flags.certs,
        ...(flags.registry ? { registry: flags.registry } : {}),
        ...(flags.kind ? { kind: flags.kind } : {}),
        ...(flags.images ? { imagesDir: flags.images } : {}),
      };
      if (flags["dry-run"]) {
        reportPlan(await planDeploy(cluster, options, signal), report);
        return EXIT.ok;
      }
      const outcome = await deploy(cluster, options, report, signal);
      await rememberTarget(cluster);
      const flow = flags["no-check"] ? undefined : await checkFlow(cluster, FLOW_CHECK_IDS, report, signal);
      const durationMs = performance.now() - startedAt;
      report.result({
        cluster: { context: cluster.context, local: cluster.isLocal, kubernetes: version },
        ...outcome,
        ...(flow ? { flow } : {}),
        stages: report.steps.map(({ title, ok, durationMs }) => ({ title, ok, duration_ms: Math.round(durationMs) })),
        duration_ms: Math.round(durationMs),
      });
      const { created, changed, unchanged, removed } = outcome.counts;
      report.print(
        created + changed + removed === 0
          ? `nothing changed: ${unchanged} objects are as they should be (${formatDuration(durationMs)})`
          : `deployed: ${created} created, ${changed} changed, ${unchanged} unchanged${removed > 0 ? `, ${removed} removed` : ""} (${formatDuration(durationMs)})`,
      );
      report.print(
        "next: bun scripts/validate.ts   (every promise, checked)   bun scripts/destroy.ts   (take it away)",
      );
      if (flow && !flow.ok) {
        report.warn("the pipeline is deployed, but the closing check failed: bun scripts/validate.ts says more");
        return EXIT.violations;
      }
      return EXIT.ok;
    },
  );
}
