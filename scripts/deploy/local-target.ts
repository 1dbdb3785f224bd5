/**
 * Brings the local cluster up as the target of a deploy. Everything that the machine lacks, for the cluster and for the
 * images, is found before the first build starts: nobody wants to hear of a missing tool after ten minutes.
 */

import type { Report } from "../cli/report.ts";
import { installTools, type MissingTool } from "../cli/tools.ts";
import { missingImageTools } from "../images/index.ts";
import { machineProblems, missingForCluster, preflightError, up } from "../local-cluster/index.ts";
import { imagesOf } from "./manifests.ts";
import { loadStages } from "./stages.ts";

export interface LocalTargetOptions {
  /** Let apt-get install what Debian has. */
  installTools?: boolean;
  imagesDir?: string;
  signal?: AbortSignal;
}

/** Tools that the machine lacks for the cluster and for the images of the manifests, each once. */
async function missingTools(options: LocalTargetOptions): Promise<MissingTool[]> {
  const images = imagesOf((await loadStages()).flatMap(({ objects }) => objects));
  const missing = [
    ...(await missingForCluster()),
    ...(await missingImageTools("local", images, options.imagesDir ? { imagesDir: options.imagesDir } : {})),
  ];
  return [...new Map(missing.map((tool) => [tool.command, tool])).values()];
}

/** What keeps this machine from having a local cluster with the pipeline, after installing what may be installed. */
async function obstacles(report: Report, options: LocalTargetOptions) {
  let missing = await missingTools(options);
  if (options.installTools && process.getuid?.() === 0 && missing.some(({ aptPackage }) => aptPackage)) {
    await installTools(missing, report, options.signal);
    missing = await missingTools(options);
  }
  return { missing, problems: await machineProblems(missing.length > 0) };
}

/** Why this machine cannot have the local cluster, in one line; undefined when it can. */
export async function localClusterObstacle(report: Report, options: LocalTargetOptions): Promise<string | undefined> {
  const { missing, problems } = await obstacles(report, options);
  const reasons = [...problems, ...missing.map(({ command }) => `${command} is missing`)];
  return reasons.length > 0 ? reasons.join("; ") : undefined;
}

/** Local cluster up, or an error (exit 3) that names everything that is missing and the other ways. */
export async function prepareLocalCluster(report: Report, options: LocalTargetOptions): Promise<void> {
  const { missing, problems } = await obstacles(report, options);
  if (missing.length > 0 || problems.length > 0) throw preflightError(problems, missing);
  await up(report, options.signal ? { signal: options.signal } : {});
}
