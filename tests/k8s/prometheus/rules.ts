/** The alert rules of k8s/prometheus/rules, and promtool to evaluate them. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { capture } from "../../../scripts/cli/process.ts";
import { TerminalReport } from "../../../scripts/cli/report.ts";
import { loadManifestFiles } from "../../../scripts/deploy/manifests.ts";
import { MONITORING } from "../../../scripts/images/monitoring.ts";
import { debianProblem, ensurePart, isBuilt, partDir } from "../../../scripts/local-cluster/index.ts";

interface Rule {
  record?: string;
  alert?: string;
  expr: string;
  for?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}
export interface RuleFile {
  /** File name in Prometheus: "kafka.yml". */
  name: string;
  text: string;
  groups: { name: string; rules: Rule[] }[];
}

/** All rule files, from their ConfigMaps. */
export async function ruleFiles(): Promise<RuleFile[]> {
  const files = await loadManifestFiles();
  return files
    .filter(({ path }) => path.startsWith("prometheus/rules/"))
    .flatMap(({ objects }) => objects.flatMap((object) => Object.entries(object.data as Record<string, string>)))
    .map(([name, text]) => ({ name, text, groups: (parse(text) as { groups: RuleFile["groups"] }).groups }));
}

/** Why promtool is not available on this machine; undefined when it is. */
export const promtoolObstacle = async (): Promise<string | undefined> =>
  (await isBuilt(MONITORING)) ? undefined : await debianProblem();

/** Path of a program of Prometheus, downloaded once per machine. */
export async function tool(name: "promtool" | "amtool" | "prometheus"): Promise<string> {
  await ensurePart(MONITORING, new TerminalReport({ quiet: true }));
  return join(partDir(MONITORING), name);
}

/** Writes files into a new folder and runs a program there. Returns its exit code and output. */
export async function runOn(
  files: Readonly<Record<string, string>>,
  command: readonly string[],
): Promise<{ exitCode: number; output: string }> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-rules-"));
  try {
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    const { exitCode, stdout, stderr } = await capture(command, { cwd: folder });
    return { exitCode, output: `${stdout}${stderr}` };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
