/**
 * A change of the CA: refused unless it is asked to, and carried on after an interrupt. Only on a cluster that this test run
 * made: all brokers restart at once, several times.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Cluster } from "../../../scripts/cluster/cluster.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { cluster, describeOnOwnCluster, script, validate } from "../harness.ts";

/** A deploy that restarts everything; on a busy machine. */
const DEPLOY_LIMIT_MS = 600_000;
const LIMIT_MS = 3 * DEPLOY_LIMIT_MS;

let target: Cluster;

const deploy = (...args: string[]) =>
  script(["scripts/deploy.ts", "--local", "--no-check", ...args], { limitMs: DEPLOY_LIMIT_MS });
const brokers = async () => (await target.pods("kafka")).map(({ metadata }) => metadata.uid).sort();

/** Interrupts a deploy when it has applied the Secrets. */
async function interruptedDeploy(...args: string[]): Promise<number> {
  const child = Bun.spawn([process.execPath, "scripts/deploy.ts", "--local", "--no-check", ...args], {
    stdout: "ignore",
    stderr: "pipe",
    timeout: DEPLOY_LIMIT_MS,
  });
  const decoder = new TextDecoder();
  let progress = "";
  for await (const chunk of child.stderr) {
    progress += decoder.decode(chunk, { stream: true });
    if (progress.includes("✓ certificates and secrets")) child.kill("SIGINT");
  }
  return await child.exited;
}

describeOnOwnCluster("the CA of a deployed pipeline", () => {
  const [other, empty] = [temporaryFolder(), temporaryFolder()];

  beforeAll(async () => {
    target = await cluster();
    const { exitCode, stderr } = await script(["scripts/generate-certs.ts", "--dir", other]);
    if (exitCode !== 0) throw new Error(`generate-certs ended with exit ${exitCode}: ${stderr}`);
  });
  afterAll(async () => {
    await deploy("--new-ca");
  }, DEPLOY_LIMIT_MS);

  test(
    "is not replaced without --new-ca: exit 3, and no broker restarts",
    async () => {
      const before = await brokers();
      for (const flags of [["--dry-run"], []]) {
        const { exitCode, stderr } = await deploy("--certs", other, ...flags);
        expect({ exitCode, stderr }).toEqual({ exitCode: 3, stderr: expect.stringContaining("has another CA than") });
      }
      expect(await brokers()).toEqual(before);
    },
    LIMIT_MS,
  );

  test(
    "is replaced by an interrupted deploy and the next one together",
    async () => {
      expect(await interruptedDeploy("--certs", other, "--new-ca")).toBe(130);
      const { exitCode, stderr } = await deploy("--certs", other);
      expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
      const { document } = await validate("--only", "certificates", "--only", "end-to-end");
      expect(document.checks.filter(({ status }) => status !== "passed")).toEqual([]);
    },
    LIMIT_MS,
  );

  test(
    "is read back from the cluster by a folder without certificates, and nothing changes",
    async () => {
      const before = await brokers();
      const { exitCode, stderr } = await deploy("--certs", empty);
      expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(await brokers()).toEqual(before);
    },
    LIMIT_MS,
  );
});
