/**
 * `npm test`: everything, the quickest checks first.
 *
 *   types, lint, import directions, unused code  seconds
 *   tests without a cluster  three quarters of a minute
 *   tests of pictures     pages in a real browser, the video; under a minute
 *   tests on a cluster    the local cluster, created if there is none and then removed afterwards; one that exists is kept
 *   integration tests     a real Kafka and InfluxDB on loopback; last, when the cluster has left the cores to them
 *
 * Where no local cluster can run, its tests show as skipped, with the reason. The last line is
 * `N passed, N failed[, N skipped]`.
 */
import { availableParallelism } from "node:os";
import { CHROMIUM, findBrowser } from "./browser/browser.ts";
import { defineCommand, runCommand } from "./cli/command.ts";
import { EXIT } from "./cli/errors.ts";
import { formatDuration, type Report } from "./cli/report.ts";
import { installTools, missingTools } from "./cli/tools.ts";
import { localClusterObstacle, prepareLocalCluster } from "./deploy/local-target.ts";
import { type ClusterStatus, down, kubeconfigPath, status } from "./local-cluster/index.ts";
import { failureLines, summaryLine } from "./test/junit.ts";
import { ONE_FAILED, type Outcome, runTests, runTool, testFiles } from "./test/run.ts";
import { FFMPEG } from "./video/video-encoder.ts";

/** CI has 90 minutes: what is left is for the installation and the removal of the cluster. */
const TOTAL_LIMIT_MS = 5_100_000;
/**
 * The longest a part of the tests may take before it is ended. The cluster part has less where those before it took long, as on
 * a new machine, which needs up to 20 minutes to build the cluster.
 */
const PART_LIMIT_MS = { checks: 300_000, fast: 600_000, cluster: 3_900_000, integration: 900_000 } as const;

/**
 * Installs browser and encoder for the tests of pages, pictures and the video, where that is permitted; without them those
 * tests show as skipped. Returns the missing ones.
 */
async function preparePictureTools(report: Report, signal: AbortSignal): Promise<string[]> {
  const missing = async () => await missingTools([...(findBrowser() ? [] : [CHROMIUM]), FFMPEG]);
  const before = await missing();
  if (before.length > 0 && process.getuid?.() === 0) {
    await installTools(before, report, signal).catch((error: unknown) => report.warn(String(error)));
  }
  return (await missing()).map(({ command }) => command);
}

/** Whose cluster the tests run on: they remove one, with its data, only where there was none. A stopped one has data. */
export const ownershipOf = (state: ClusterStatus["state"]) => ({
  wasRunning: state === "ready" || state === "degraded",
  isOwned: state === "absent",
});

async function testOnCluster(
  files: readonly string[],
  report: Report,
  signal: AbortSignal,
  { keep, startedAt }: { keep: boolean; startedAt: number },
): Promise<Outcome> {
  const reason = await localClusterObstacle(report, { installTools: true, signal });
  if (reason) {
    report.warn(`tests on a cluster are skipped: ${reason}`);
    const counts = await runTests(files, { CONVEYOR_CLUSTER_TESTS: "" }, PART_LIMIT_MS.cluster, signal);
    // CI must run them: a run without them must not count as one with them.
    if (process.env.CI) counts.failed += 1;
    return counts;
  }
  const { state } = await status();
  const { wasRunning, isOwned } = ownershipOf(state);
  if (!isOwned)
    report.info(`the local cluster is ${wasRunning ? "running" : "stopped"}: tests that remove it are skipped`);
  try {
    await prepareLocalCluster(report, { signal });
    const deployed = await runTool(
      [process.execPath, "scripts/deploy.ts", "--local", "--no-check"],
      PART_LIMIT_MS.cluster,
      signal,
    );
    if (deployed !== 0) {
      report.warn(`deploy failed with exit ${deployed}: the tests on the cluster cannot run`);
      const message = `scripts/deploy.ts ended with exit ${deployed}; its output is above`;
      return { ...ONE_FAILED, failures: [{ file: "scripts/deploy.ts", test: "deploy", message }] };
    }
    const environment = {
      CONVEYOR_CLUSTER_TESTS: "1",
      CONVEYOR_CLUSTER_OWNED: isOwned ? "1" : "",
      CONVEYOR_KUBECONFIG: kubeconfigPath(),
    };
    const leftMs = TOTAL_LIMIT_MS - PART_LIMIT_MS.integration - (performance.now() - startedAt);
    return await runTests(files, environment, Math.min(PART_LIMIT_MS.cluster, leftMs), signal);
  } finally {
    if (!wasRunning && !keep) await down(report, { deleteData: isOwned });
  }
}

const CHECKS = [
  ["types (tsc --noEmit)", ["tsc", "--noEmit"]],
  ["lint and import directions (biome check)", ["biome", "check", "--error-on-warnings"]],
  ["unused files, exports and packages (knip)", ["knip", "--no-progress", "--treat-config-hints-as-errors"]],
] as const;

export const command = defineCommand({
  name: "scripts/test.ts",
  summary: "types, lint, unused code, tests without a cluster, of pictures, on the local cluster, integration tests",
  usage: ["[--fast] [--keep]"],
  examples: [
    ["npm test", "everything; creates the local cluster if there is none and removes it afterwards"],
    ["npm run check", "types, lint, unused code and the tests that need no cluster"],
  ],
  flags: {
    fast: { type: "boolean", description: "skip the tests of pictures, on a cluster, and the integration tests" },
    keep: { type: "boolean", description: "keep the cluster of this run" },
  },
  async run({ flags, report, signal }) {
    const startedAt = performance.now();
    const total: Outcome = { passed: 0, failed: 0, skipped: 0, failures: [] };
    const add = (outcome: Outcome) => {
      total.passed += outcome.passed;
      total.failed += outcome.failed;
      total.skipped += outcome.skipped;
      total.failures.push(...outcome.failures);
    };
    // Together: none of them uses two cores all the time.
    const exitCodes = await report.step("types, lint, import directions, unused code", () =>
      Promise.all(CHECKS.map(([, command]) => runTool(command, PART_LIMIT_MS.checks, signal))),
    );
    for (const [index, exitCode] of exitCodes.entries()) {
      if (exitCode !== 0) report.warn(`${CHECKS[index]![0]} failed`);
      add(exitCode === 0 ? { ...ONE_FAILED, passed: 1, failed: 0 } : ONE_FAILED);
    }
    const files = await testFiles();
    // Two per core: tests wait for timers and for the programs that they start.
    const processes = 2 * availableParallelism();
    add(await runTests(files.fast, { CONVEYOR_CLUSTER_TESTS: "" }, PART_LIMIT_MS.fast, signal, { processes }));
    if (!flags.fast) {
      const missing = await preparePictureTools(report, signal);
      if (missing.length > 0) report.warn(`tests of pictures are skipped: ${missing.join(" and ")} missing`);
      // CI must run them: a run without them must not count as one with them.
      if (missing.length > 0 && process.env.CI) add(ONE_FAILED);
      add(await runTests(files.pictures, { CONVEYOR_CLUSTER_TESTS: "" }, PART_LIMIT_MS.fast, signal));
    }
    if (!flags.fast) {
      add(await testOnCluster(files.cluster, report, signal, { keep: flags.keep, startedAt }));
      const environment = { CONVEYOR_INTEGRATION_TESTS: "1", CONVEYOR_CLUSTER_TESTS: "" };
      const outcome = await runTests(files.integration, environment, PART_LIMIT_MS.integration, signal);
      add(outcome);
      // CI must run them: a run without them must not count as one with them.
      if (outcome.passed === 0 && process.env.CI) add(ONE_FAILED);
    }
    for (const line of failureLines(total.failures)) report.print(line);
    report.info(`all tests took ${formatDuration(performance.now() - startedAt)}`);
    const { failures, ...counts } = total;
    report.result(counts);
    report.print(summaryLine(counts));
    return counts.failed === 0 ? EXIT.ok : EXIT.failed;
  },
});

if (import.meta.main) await runCommand(command);
