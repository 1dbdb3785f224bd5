/**
 * `npm test`: everything, in the order in which a fault shows soonest.
 *
 *   types and lint        seconds
 *   tests without a cluster  under a minute
 *   tests of pictures     pages in a real browser, the video; under a minute
 *   tests on a cluster    the local cluster, made if it is not there and taken down again if this run made it
 *
 * A machine that cannot have a local cluster shows those tests as skipped, with the reason. Ends with the line
 * `N passed, N failed[, N skipped]`.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CHROMIUM, findBrowser } from "./browser/browser.ts";
import { runCommand } from "./cli/command.ts";
import { EXIT } from "./cli/errors.ts";
import { formatDuration, type Report } from "./cli/report.ts";
import { installTools, missingTools } from "./cli/tools.ts";
import { localClusterObstacle, prepareLocalCluster } from "./deploy/local-target.ts";
import { down, kubeconfigPath, status } from "./local-cluster/lifecycle.ts";
import { type Counts, countsOf, type Failure, failureLines, failuresOf, summaryLine } from "./test/junit.ts";
import { FFMPEG } from "./video/video-encoder.ts";

/** The longest a part of the tests may take before it is ended: CI has 90 minutes for everything. */
const PART_LIMIT_MS = { checks: 300_000, fast: 600_000, cluster: 2_700_000 } as const;

/**
 * A test or hook that names no limit of its own ends here: it takes milliseconds, and Bun's own 5 s are too few for a process
 * that is started on a machine with ten others in front of it.
 */
const TEST_LIMIT_MS = 60_000;

async function runTool(command: string[], limitMs: number, signal: AbortSignal): Promise<number> {
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "inherit", stderr: "inherit" });
  const end = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  const stop = () => child.kill();
  end.addEventListener("abort", stop, { once: true });
  const exitCode = await child.exited;
  end.removeEventListener("abort", stop);
  signal.throwIfAborted();
  return exitCode;
}

const ONE_FAILED: Counts = { passed: 0, failed: 1, skipped: 0 };

interface Outcome extends Counts {
  failures: Failure[];
}

/** Runs `bun test` over files and gives how it ended; a run that ended without counts is one failure. */
async function runTests(
  files: string[],
  environment: Record<string, string>,
  limitMs: number,
  signal: AbortSignal,
): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), "conveyor-test-"));
  const outfile = join(folder, "junit.xml");
  try {
    const output = ["--reporter=junit", `--reporter-outfile=${outfile}`];
    const child = Bun.spawn([process.execPath, "test", ...files, `--timeout=${TEST_LIMIT_MS}`, ...output], {
      stdin: "ignore",
      stdout: "inherit",
      stderr: "inherit",
      env: { ...process.env, ...environment },
    });
    const end = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    const stop = () => child.kill("SIGINT");
    end.addEventListener("abort", stop, { once: true });
    const exitCode = await child.exited;
    end.removeEventListener("abort", stop);
    signal.throwIfAborted();
    const junit = await readFile(outfile, "utf8").catch(() => "");
    const counts = countsOf(junit);
    if (exitCode !== 0 && counts.failed === 0) counts.failed = 1;
    if (counts.passed + counts.failed + counts.skipped === 0) counts.failed = 1;
    return { ...counts, failures: failuresOf(junit) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Test files below tests/ by what they need; paths start with "./" so bun takes them as paths. */
async function testFiles(): Promise<{ fast: string[]; pictures: string[]; cluster: string[] }> {
  const all = (await readdir("tests", { recursive: true }))
    .filter((path) => path.endsWith(".test.ts"))
    .sort()
    .map((path) => `./tests/${path}`);
  const onCluster = (path: string) => path.startsWith("./tests/cluster/") || path.startsWith("./tests/integration/");
  // Tests that take the pipeline or the cluster away come last: the others need it.
  const takesAway = (path: string) => path.startsWith("./tests/cluster/own/");
  const ofPictures = (path: string) => path.startsWith("./tests/pictures/");
  const cluster = all.filter(onCluster);
  return {
    fast: all.filter((path) => !onCluster(path) && !ofPictures(path)),
    pictures: all.filter(ofPictures),
    cluster: [...cluster.filter((path) => !takesAway(path)), ...cluster.filter(takesAway)],
  };
}

/**
 * Browser and encoder for the tests of pages, pictures and the video, installed where that is allowed; without them those
 * tests show as skipped. Gives what is still missing.
 */
async function preparePictureTools(report: Report, signal: AbortSignal): Promise<string[]> {
  const missing = async () => await missingTools([...(findBrowser() ? [] : [CHROMIUM]), FFMPEG]);
  const before = await missing();
  if (before.length > 0 && process.getuid?.() === 0) {
    await installTools(before, report, signal).catch((error: unknown) => report.warn(String(error)));
  }
  return (await missing()).map(({ command }) => command);
}

async function testOnCluster(files: string[], report: Report, signal: AbortSignal, keep: boolean): Promise<Outcome> {
  const reason = await localClusterObstacle(report, { installTools: true, signal });
  if (reason) {
    report.warn(`tests on a cluster are skipped: ${reason}`);
    const counts = await runTests(files, { CONVEYOR_CLUSTER_TESTS: "" }, PART_LIMIT_MS.cluster, signal);
    // CI is there to run them: a run without them must not look like a run with them.
    if (process.env.CI) counts.failed += 1;
    return counts;
  }
  const wasRunning = ["ready", "degraded"].includes((await status()).state);
  if (wasRunning) report.info("the local cluster is running: tests that would take it down are skipped");
  try {
    await prepareLocalCluster(report, { signal });
    const deployed = await runTool(
      [process.execPath, "scripts/deploy.ts", "--local", "--no-check"],
      PART_LIMIT_MS.cluster,
      signal,
    );
    if (deployed !== 0) {
      report.warn(`deploy failed with exit ${deployed}: the tests on the cluster cannot run`);
      const message = `scripts/deploy.ts ended with exit ${deployed}; what it said stands above`;
      return { ...ONE_FAILED, failures: [{ file: "scripts/deploy.ts", test: "deploy", message }] };
    }
    const environment = {
      CONVEYOR_CLUSTER_TESTS: "1",
      CONVEYOR_CLUSTER_OWNED: wasRunning ? "" : "1",
      CONVEYOR_KUBECONFIG: kubeconfigPath(),
    };
    return await runTests(files, environment, PART_LIMIT_MS.cluster, signal);
  } finally {
    if (!wasRunning && !keep) await down(report, {});
  }
}

if (import.meta.main) {
  await runCommand(
    {
      name: "scripts/test.ts",
      summary: "types, lint, tests without a cluster, tests of pictures, tests on the local cluster",
      usage: ["[--fast] [--keep]"],
      examples: [
        ["npm test", "everything; makes the local cluster if it is not there and takes it down again"],
        ["npm run check", "types, lint and the tests that need no cluster"],
      ],
      flags: {
        fast: { type: "boolean", description: "leave out the tests of pictures and those on a cluster" },
        keep: { type: "boolean", description: "leave the cluster of this run up, to look at" },
      },
    },
    async ({ flags, report, signal }) => {
      const startedAt = performance.now();
      const total: Counts = { passed: 0, failed: 0, skipped: 0 };
      const failures: Failure[] = [];
      const add = (outcome: Counts & Partial<Outcome>) => {
        total.passed += outcome.passed;
        total.failed += outcome.failed;
        total.skipped += outcome.skipped;
        failures.push(...(outcome.failures ?? []));
      };
      for (const [title, command] of [
        ["types (tsc --noEmit)", ["tsc", "--noEmit"]],
        ["lint (biome check)", ["biome", "check"]],
      ] as const) {
        const exitCode = await report.step(title, () => runTool([...command], PART_LIMIT_MS.checks, signal));
        if (exitCode !== 0) report.warn(`${title} failed`);
        add({ passed: exitCode === 0 ? 1 : 0, failed: exitCode === 0 ? 0 : 1, skipped: 0 });
      }
      const files = await testFiles();
      add(await runTests(files.fast, { CONVEYOR_CLUSTER_TESTS: "" }, PART_LIMIT_MS.fast, signal));
      if (!flags.fast) {
        const missing = await preparePictureTools(report, signal);
        if (missing.length > 0) report.warn(`tests of pictures are skipped: ${missing.join(" and ")} missing`);
        // CI is there to run them: a run without them must not look like a run with them.
        if (missing.length > 0 && process.env.CI) add(ONE_FAILED);
        add(await runTests(files.pictures, { CONVEYOR_CLUSTER_TESTS: "" }, PART_LIMIT_MS.fast, signal));
      }
      if (!flags.fast && files.cluster.length > 0) add(await testOnCluster(files.cluster, report, signal, flags.keep));
      for (const line of failureLines(failures)) report.print(line);
      report.info(`all tests took ${formatDuration(performance.now() - startedAt)}`);
      report.result(total);
      report.print(summaryLine(total));
      return total.failed === 0 ? EXIT.ok : EXIT.failed;
    },
  );
}
