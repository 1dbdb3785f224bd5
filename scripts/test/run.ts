/** Parts of a test run: the test files by what they need, and their execution with the outcome as counts and failures. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { capture } from "../cli/process.ts";
import { formatDuration } from "../cli/report.ts";
import { type Counts, countsOf, type Failure, failuresOf } from "./junit.ts";

/** Clean-up of a test run after an interrupt: its tests stop pods and servers. */
const CLEANUP_LIMIT_MS = 60_000;

export interface Outcome extends Counts {
  failures: Failure[];
}

export const ONE_FAILED: Outcome = { passed: 0, failed: 1, skipped: 0, failures: [] };

/** Runs a program with its output on the terminal; returns its exit code, also when it reached its limit. */
export async function runTool(
  command: readonly string[],
  limitMs: number,
  signal: AbortSignal,
  env: Record<string, string> = {},
): Promise<number> {
  try {
    const options = { inherit: true, env, signal, timeoutMs: limitMs, graceMs: CLEANUP_LIMIT_MS } as const;
    return (await capture(command, { ...options, stopSignal: "SIGINT" })).exitCode;
  } catch (error) {
    if (error instanceof OperatorError && error.exitCode === EXIT.timeout) return EXIT.timeout;
    throw error;
  }
}

/** Ends the processes of a run that are left: those that have its folder as their folder for temporary files. */
async function endLeftovers(folder: string): Promise<void> {
  for (const pid of (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name))) {
    const variables = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
    if (!variables.split("\0").includes(`TMPDIR=${folder}`)) continue;
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}

/**
 * Runs `bun test` on files; a run that ends without counts is one failure.
 * @param options.processes number of processes that run one file each at a time; what an interrupted run started and its
 *   temporary files are then removed. Default: one process for all files, as tests on a cluster need it
 */
export async function runTests(
  files: readonly string[],
  env: Record<string, string>,
  limitMs: number,
  signal: AbortSignal,
  options: { processes?: number } = {},
): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-test-"));
  const outfile = join(folder, "junit.xml");
  try {
    const output = ["--reporter=junit", `--reporter-outfile=${outfile}`];
    const parallel = options.processes ? [`--parallel=${options.processes}`] : [];
    const command = [process.execPath, "test", ...files, ...parallel, ...output];
    // Not on a cluster: its programs would keep a folder that this run removes.
    const temporary: Record<string, string> = options.processes ? { TMPDIR: folder } : {};
    const exitCode = await runTool(command, limitMs, signal, { ...env, ...temporary });
    const junit = await readFile(outfile, "utf8").catch(() => "");
    const counts = countsOf(junit);
    const failures = failuresOf(junit);
    const isEmpty = counts.passed + counts.failed + counts.skipped === 0;
    if (exitCode !== EXIT.timeout) {
      if (isEmpty || (exitCode !== 0 && counts.failed === 0)) counts.failed = 1;
    } else {
      // Otherwise a run that was cut, with another failure, would count as complete.
      counts.failed++;
      const message = `ended at its limit of ${formatDuration(limitMs)}: the tests after that did not run`;
      failures.push({ file: "scripts/test.ts", test: `${files.length} files`, message });
    }
    return { ...counts, failures };
  } finally {
    // Bun ends the processes of a parallel run at once when it is interrupted: they stop nothing that they started.
    if (options.processes) await endLeftovers(folder);
    await rm(folder, { recursive: true, force: true });
  }
}

/** Test files below tests/ by what they need; paths start with "./" so that bun takes them as paths. */
export async function testFiles(): Promise<Record<"fast" | "pictures" | "cluster" | "integration", string[]>> {
  const all = (await readdir("tests", { recursive: true }))
    .filter((path) => path.endsWith(".test.ts"))
    .sort()
    .map((path) => `./tests/${path}`);
  const isIn = (...folders: string[]) => {
    return (path: string) => folders.some((folder) => path.startsWith(`./tests/${folder}/`));
  };
  const needsCluster = isIn("cluster");
  const removesCluster = isIn("cluster/own");
  const isSlow = isIn("cluster", "integration", "pictures");
  const cluster = all.filter(needsCluster);
  return {
    fast: all.filter((path) => !isSlow(path)),
    pictures: all.filter(isIn("pictures")),
    // Tests that remove the pipeline or the cluster are last: the others need it.
    cluster: [...cluster.filter((path) => !removesCluster(path)), ...cluster.filter(removesCluster)],
    integration: all.filter(isIn("integration")),
  };
}
