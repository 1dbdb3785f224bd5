/**
 * Goal: deploy is idempotent, and says before what it would do. Method: on the deployed pipeline, a dry run and a second
 * run must find nothing to change; after a change by hand, the dry run names exactly that, and deploy puts it back.
 */
import { beforeAll, expect, test } from "bun:test";
import { type Cluster, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";
import { atRest, cluster, describeOnCluster, script } from "./harness.ts";

/** A deploy that changes nothing takes 15 s; a busy machine takes some minutes. */
const DEPLOY_LIMIT_MS = 300_000;
/** A rest to be waited for, two deploys, some dry runs. */
const LIMIT_MS = 1_200_000;
let target: Cluster;

interface DeployDocument {
  counts: { created: number; changed: number; unchanged: number };
  changes: { ref: string; change: string }[];
}

async function deploy(): Promise<DeployDocument> {
  const run = await script(["scripts/deploy.ts", "--local", "--no-check", "--json"], { limitMs: DEPLOY_LIMIT_MS });
  expect(`${run.exitCode} ${run.exitCode === 0 ? "" : run.stderr}`).toBe("0 ");
  return JSON.parse(run.stdout) as DeployDocument;
}

async function wouldChange(): Promise<string[]> {
  const run = await script(["scripts/deploy.ts", "--local", "--dry-run", "--json"], { limitMs: DEPLOY_LIMIT_MS });
  expect(`${run.exitCode} ${run.exitCode === 0 ? "" : run.stderr}`).toBe("0 ");
  const { objects } = JSON.parse(run.stdout) as { objects: { ref: string; change: string }[] };
  return objects.filter(({ change }) => change !== "unchanged").map(({ ref, change }) => `${ref} ${change}`);
}

const podIds = async () =>
  (await target.list<Pod>("pods"))
    // The setup job runs again at each deploy; one-off pods of other tests come and go.
    .filter(({ metadata }) => !/^(setup|probe|ingest)-/.test(metadata.name))
    .map(({ metadata, status }) => {
      const restarts = (status.containerStatuses ?? []).reduce((sum, { restartCount }) => sum + restartCount, 0);
      return `${metadata.name} ${metadata.uid}, ${restarts} restarts`;
    })
    .sort();

describeOnCluster("deploy", () => {
  beforeAll(async () => {
    target = await cluster();
  });

  test(
    "run again it changes nothing and restarts no pod",
    async () => {
      await atRest(target);
      const before = await podIds();
      const { counts, changes } = await deploy();
      expect(changes).toEqual([]);
      expect(counts).toMatchObject({ created: 0, changed: 0 });
      expect(counts.unchanged).toBeGreaterThan(40);
      // None is gone, none was started again. One more may have come: autoscalers go on with their work.
      expect((await podIds()).filter((pod) => before.includes(pod))).toEqual(before);
    },
    LIMIT_MS,
  );

  test(
    "--dry-run names what was changed by hand, and deploy puts exactly that back",
    async () => {
      expect(await wouldChange()).toEqual([]);
      await target.kubectl([
        "patch",
        "service",
        "kafka",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"spec":{"publishNotReadyAddresses":true}}',
      ]);
      await target.kubectl(["delete", "poddisruptionbudget", "kafka", "-n", NAMESPACE]);
      const planned = await wouldChange();
      expect(planned).toContain("PodDisruptionBudget/kafka created");
      const { changes } = await deploy();
      expect(changes).toContainEqual({ ref: "PodDisruptionBudget/kafka", change: "created" });
      expect(await wouldChange()).toEqual([]);
    },
    LIMIT_MS,
  );
});
