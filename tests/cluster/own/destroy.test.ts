/** scripts/destroy.ts; only on a cluster that this test run made, after the tests that need the pipeline. */
import { beforeAll, expect, test } from "bun:test";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../../../scripts/cluster/cluster.ts";
import { cluster, describeOnOwnCluster, script } from "../harness.ts";

const LIMIT_MS = 300_000;
let target: Cluster;

describeOnOwnCluster("destroy", () => {
  beforeAll(async () => {
    target = await cluster();
  });

  test("without --yes and without a terminal: exits 2 and deletes nothing", async () => {
    const { exitCode, stderr } = await script(["scripts/destroy.ts", "--local"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("--yes");
    expect(await target.get("namespace", NAMESPACE)).toBeDefined();
  });

  test("--dry-run lists the resources and deletes nothing", async () => {
    const { exitCode, stdout } = await script(["scripts/destroy.ts", "--local", "--dry-run"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("would delete StatefulSet/kafka");
    expect(await target.get("statefulset", "kafka")).toBeDefined();
  });

  test(
    "removes the namespace, its pods and its volumes",
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

  test("a second run has nothing to delete and exits 0", async () => {
    const { exitCode, stdout } = await script(["scripts/destroy.ts", "--local", "--yes"]);
    expect({ exitCode, stdout: stdout.trim() }).toEqual({
      exitCode: 0,
      stdout: `nothing to delete: namespace ${NAMESPACE} does not exist`,
    });
  });
});
