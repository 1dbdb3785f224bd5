/**
 * deploy is idempotent, and its dry run lists its changes: on the deployed pipeline a dry run and a second deploy change
 * nothing; after a manual change the dry run lists exactly that change, and deploy reverts it.
 */
import { beforeAll, expect, test } from "bun:test";
import { type Cluster, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";
import { atRest, cluster, describeOnCluster, scriptDocument } from "./harness.ts";

/** A deploy that changes nothing takes 15 s, on a busy machine some minutes. */
const DEPLOY_LIMIT_MS = 300_000;
/** The wait for idle autoscalers, two deploys, some dry runs. */
const LIMIT_MS = 1_200_000;
let target: Cluster;

interface DeployDocument {
  counts: { created: number; changed: number; unchanged: number };
  changes: { ref: string; change: string }[];
}

async function deploy(): Promise<DeployDocument> {
  return await scriptDocument<DeployDocument>(["scripts/deploy.ts", "--local", "--no-check"], {
    limitMs: DEPLOY_LIMIT_MS,
  });
}

async function wouldChange(): Promise<string[]> {
  const { objects } = await scriptDocument<{ objects: { ref: string; change: string }[] }>(
    ["scripts/deploy.ts", "--local", "--dry-run"],
    { limitMs: DEPLOY_LIMIT_MS },
  );
  return objects.filter(({ change }) => change !== "unchanged").map(({ ref, change }) => `${ref} ${change}`);
}

const podIds = async () =>
  (await target.list<Pod>("pods"))
    // The setup job runs at each deploy; one-off pods belong to other tests.
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
    "a second run changes nothing and restarts no pod",
    async () => {
      await atRest(target);
      const before = await podIds();
      const { counts, changes } = await deploy();
      expect(changes).toEqual([]);
      expect(counts).toMatchObject({ created: 0, changed: 0 });
      expect(counts.unchanged).toBeGreaterThan(40);
      // No pod ended or restarted. Autoscalers may have added one.
      expect((await podIds()).filter((pod) => before.includes(pod))).toEqual(before);
    },
    LIMIT_MS,
  );

  test(
    "--dry-run lists a manual change and deploy reverts exactly that",
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
