/** The alert rules of k8s/prometheus/rules, and promtool to evaluate them. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
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

type Files = Readonly<Record<string, string>>;

/** Writes files into a new folder for a function of the folder. */
async function withFiles<T>(files: Files, use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-rules-"));
  try {
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Writes files into a new folder and runs a program there. Returns its exit code and output. */
export const runOn = (files: Files, command: readonly string[]): Promise<{ exitCode: number; output: string }> =>
  withFiles(files, async (folder) => {
    const { exitCode, stdout, stderr } = await capture(command, { cwd: folder });
    return { exitCode, output: `${stdout}${stderr}` };
  });

/**
 * Runs promtool's unit tests, in one process: starting one takes as long as evaluating a case.
 * @param tests names of the test files among `files`
 * @returns the JUnit suite of each test file, which starts with its counts
 */
export const evaluate = (files: Files, tests: readonly string[]): Promise<Map<string, string>> =>
  withFiles(files, async (folder) => {
    const junit = join(folder, "junit.xml");
    // The alert cases took 17.4 s of processor time with it, 20.5 s with the default of 100.
    const env = { GOGC: "400" };
    await capture([await tool("promtool"), "test", "rules", `--junit=${junit}`, ...tests], { cwd: folder, env });
    const suites = (await readFile(junit, "utf8")).matchAll(/<testsuite name="([^"]+)"[\s\S]*?<\/testsuite>/g);
    return new Map([...suites].map(([suite, name]) => [name!, suite]));
  });

/** Counts of a suite whose tests all passed. */
export const allPassed = (tests: number) => ` tests="${tests}" failures="0" errors="0" skipped="0" `;
