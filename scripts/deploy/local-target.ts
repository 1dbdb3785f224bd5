/**
 * Starts the local cluster as the target of a deploy. Missing tools, for the cluster and for the images, are reported
 * before the first build, which takes minutes.
 */
import type { Report } from "../cli/report.ts";
import type { MissingTool } from "../cli/tools.ts";
import { missingImageTools } from "../images/index.ts";
import { missingForCluster, obstacles, preflightError, up } from "../local-cluster/index.ts";
import { imagesOf } from "./manifests.ts";
import { loadStages } from "./stages.ts";

export interface LocalTargetOptions {
  /** Install missing tools with apt-get. */
  installTools?: boolean;
  imagesDir?: string;
  signal?: AbortSignal;
}

/** Missing tools for the cluster and for the images of the manifests, unique. */
async function missingTools(options: LocalTargetOptions): Promise<MissingTool[]> {
  const images = imagesOf((await loadStages()).flatMap(({ objects }) => objects));
  const missing = [...(await missingForCluster()), ...(await missingImageTools({ kind: "local" }, images, options))];
  return [...new Map(missing.map((tool) => [tool.command, tool])).values()];
}

/** Reasons why the local cluster cannot run here, in one line; undefined where it can. */
export async function localClusterObstacle(report: Report, options: LocalTargetOptions): Promise<string | undefined> {
  const { missing, problems } = await obstacles(report, options, () => missingTools(options));
  const reasons = [...problems, ...missing.map(({ command }) => `${command} is missing`)];
  return reasons.length > 0 ? reasons.join("; ") : undefined;
}

/** Starts the local cluster. @throws OperatorError (exit 3) that names everything that is missing, and alternatives */
export async function prepareLocalCluster(report: Report, options: LocalTargetOptions): Promise<void> {
  const { missing, problems } = await obstacles(report, options, () => missingTools(options));
  if (missing.length > 0 || problems.length > 0) throw preflightError(problems, missing);
  await up(report, { signal: options.signal });
}
