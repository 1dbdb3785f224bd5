/**
 * Goal: destroy leaves nothing of the pipeline behind, and does no harm when it is run again.
 * Runs only on a cluster that this test run made, after the tests that need the pipeline.
 */
import { beforeAll, expect, test } from "bun:test";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../../../scripts/cluster/cluster.ts";
import { cluster, describeOnOwnCluster, script } from "../harness.ts";

const LIMIT_MS = 300_000;
let target: Cluster;

describeOnOwnCluster("destroy", () => {
  beforeAll(async () => {
    target = await cluster();
  });

  test("wants --yes where nobody can be asked, and deletes nothing without it", async () => {
    const { exitCode, stderr } = await script(["scripts/destroy.ts", "--local"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("--yes");
    expect(await target.get("namespace", NAMESPACE)).toBeDefined();
  });

  test("--dry-run names what would go and deletes nothing", async () => {
    const { exitCode, stdout } = await script(["scripts/destroy.ts", "--local", "--dry-run"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("would delete StatefulSet/kafka");
    expect(await target.get("statefulset", "kafka")).toBeDefined();
  });

  test(
    "takes the namespace, its pods and its volumes away",
    async () => {
      const { exitCode, stderr } = await script(["scripts/destroy.ts", "--local", "--yes"], { limitMs: LIMIT_MS });
      expect(`${exitCode} ${exitCode === 0 ? "" : stderr}`).toBe("0 ");
      expect(await target.get("namespace", NAMESPACE)).toBeUndefined();
      const volumes = await target.json<{ items: KubernetesObject[] }>(["get", "persistentvolumes"]);
      const ours = volumes.items.filter(
        ({ spec }) => (spec as { claimRef?: { namespace?: string } }).claimRef?.namespace === NAMESPACE,
      );
      expect(ours.map(({ metadata }) => metadata.name)).toEqual([]);
    },
    LIMIT_MS,
  );

  test("run again, it says that there is nothing to delete, exit 0", async () => {
    const { exitCode, stdout } = await script(["scripts/destroy.ts", "--local", "--yes"]);
    expect({ exitCode, stdout: stdout.trim() }).toEqual({
      exitCode: 0,
      stdout: `nothing to delete: namespace ${NAMESPACE} is not there`,
    });
  });
});
