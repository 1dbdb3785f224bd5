/**
 * Runs the command blocks of docs/operations.md unchanged, in a shell with the functions of its first block, and compares
 * their output: first the read-only ones, two at a time, then those that change something, with their set-up and clean-up.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import { waitFor } from "../../scripts/cli/wait.ts";
import { type Block, isFound, readOperations } from "../docs/operations-blocks.ts";
import { describeOnCluster, redeploy } from "./harness.ts";

/** The longest block waits for a rollout of a healthy pipeline. */
const BLOCK_LIMIT_MS = 120_000;
const LIMIT_MS = 420_000;
/** metrics-server reports a new pod after half a minute; replicas are in sync sooner. */
const REST_LIMIT_MS = 120_000;
/** Fails with the reason until every workload has usage metrics, every target is up and every replica in sync. */
const HEALTHY = `
for name in kafka influxdb processor producer; do kubectl -n conveyor top pod -l app.kubernetes.io/name=$name > /dev/null; done
down=$(ask --targets | grep -v '^up' || true)
test -z "$down" || { echo "$down"; false; }
lacking=$(kafka TopicCommand --describe --under-replicated-partitions)
test -z "$lacking" || { echo "$lacking"; false; }`;
/** Two cores. */
const AT_A_TIME = 2;

const blocks = await readOperations();
const [terminal] = blocks;
const RUN = randomBytes(4).toString("hex");

interface Ran {
  exitCode: number;
  output: string;
}

/** Runs commands in bash; stops at the first that fails. */
async function shell(commands: string): Promise<Ran> {
  const child = Bun.spawn(["bash", "-c", `set -euo pipefail\n${terminal!.commands}\n${commands}`], {
    cwd: join(import.meta.dir, "..", ".."),
    env: {
      ...process.env,
      PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
      NO_COLOR: "1",
      CONVEYOR_TEST_RUN: RUN,
    },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: BLOCK_LIMIT_MS,
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, output: `${stdout}\n${stderr}` };
}

/** Differences between a block's run and the page; empty when it matches. */
function faults({ line, heading, expected }: Block, { exitCode, output }: Ran): string[] {
  const where = `docs/operations.md:${line} (${heading})`;
  if (exitCode !== 0) return [`${where}: exit ${exitCode}\n${output.slice(-1500)}`];
  const actual = output.split("\n");
  return expected
    .filter((wanted) => wanted.trim() !== "" && !isFound(wanted, actual))
    .map((wanted) => `${where}: no line like "${wanted}" in\n${output.slice(-1500)}`);
}

describeOnCluster("docs/operations.md", () => {
  let isHealed = false;
  beforeAll(async () => {
    expect(terminal?.kind).toBe("read");
    // Earlier tests restart pods; the page shows a healthy pipeline.
    await waitFor(
      async () => {
        const { exitCode, output } = await shell(HEALTHY);
        return exitCode === 0 ? { done: true, value: true } : { done: false, state: output.trim().slice(-500) };
      },
      { what: "a pipeline at rest", limitMs: REST_LIMIT_MS, intervalMs: 2000 },
    );
  }, REST_LIMIT_MS + BLOCK_LIMIT_MS);
  // A change that failed half-way must not break later tests.
  afterAll(async () => {
    if (!isHealed) await redeploy();
  }, LIMIT_MS);

  test(
    "every read-only block exits 0 and prints what the page shows",
    async () => {
      const waiting = blocks.filter(({ kind }) => kind === "read");
      expect(waiting.length).toBeGreaterThan(15);
      const found: string[] = [];
      const work = async () => {
        for (let block = waiting.shift(); block; block = waiting.shift()) {
          found.push(...faults(block, await shell(block.commands)));
        }
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, work));
      expect(found).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "every changing block solves its case and leaves the pipeline healthy",
    async () => {
      for (const block of blocks.filter(({ kind }) => kind === "change")) {
        if (block.given) expect(faults({ ...block, expected: [] }, await shell(block.given))).toEqual([]);
        const ran = await shell(block.commands);
        const after = block.after ? await shell(block.after) : undefined;
        expect(faults(block, ran)).toEqual([]);
        if (after) expect(faults({ ...block, expected: [] }, after)).toEqual([]);
      }
      const healthy = await shell("bun scripts/validate.ts --only end-to-end --only topics");
      expect(healthy.exitCode === 0 ? "" : healthy.output).toBe("");
      isHealed = true;
    },
    LIMIT_MS,
  );
});
