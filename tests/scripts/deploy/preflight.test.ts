import { describe, expect, test } from "bun:test";
import type { KubectlOptions, KubectlResult, KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { Cluster } from "../../../scripts/cluster/cluster.ts";
import { parseStorageClasses } from "../../../scripts/deploy/adapt.ts";
import type { ClusterFacts } from "../../../scripts/deploy/facts.ts";
import { findingsOf, preflight, requestsOf } from "../../../scripts/deploy/preflight.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import { FACTS } from "./cluster-facts.ts";

const stages = await loadStages();
const objects = stages.flatMap((stage) => stage.objects);
const find = (more: Partial<ClusterFacts>, classes: readonly string[] = [], live: readonly KubernetesObject[] = []) =>
  findingsOf({ ...FACTS, ...more }, stages, live, parseStorageClasses(classes));

test("a cluster with everything has no findings", () => {
  expect(find({})).toEqual([]);
});

describe("storage", () => {
  const none = [{ name: "fast", isDefault: false }];

  test("no default class: names the volumes, the flag and the classes", () => {
    const [finding] = find({ storageClasses: none });
    expect(finding).toMatchObject({ isFatal: true, hint: expect.stringContaining("classes of this cluster: fast") });
    expect(finding!.text).toContain("no default StorageClass for the volumes of kafka, influxdb");
  });

  test("no class at all: a provisioner is missing", () => {
    expect(find({ storageClasses: [] })[0]!.hint).toContain("install a provisioner");
  });

  test("a named class must exist", () => {
    expect(find({ storageClasses: none }, ["fast"])).toEqual([]);
    expect(find({}, ["kafka=nvme"])[0]!.text).toBe("--storage-class: the cluster has no class nvme");
  });

  test("volumes that exist need no class", () => {
    const live = objects.filter(({ kind }) => kind === "StatefulSet" || kind === "PersistentVolumeClaim");
    expect(find({ storageClasses: none }, [], live)).toEqual([]);
  });

  test("without the right to read classes nothing is claimed", () => {
    expect(find({ storageClasses: undefined })).toEqual([]);
  });
});

describe("nodes and quotas", () => {
  const node = FACTS.nodes![0]!;

  test("no node takes pods", () => {
    const [finding] = find({ nodes: [{ ...node, isSchedulable: false }] });
    expect(finding).toMatchObject({ isFatal: true, text: "no node takes pods: node-1" });
  });

  test("the sum of the requests does not fit: both sides as figures", () => {
    const { cpuCores } = requestsOf(stages, 1);
    expect(cpuCores).toBeGreaterThan(0.9);
    const [finding] = find({ nodes: [{ ...node, cpuCores: 0.5 }] });
    expect(finding!.text).toMatch(
      /requests \d\.\d cores and \d+\.\d GiB; the nodes that take pods have 0\.5 cores and 16\.0 GiB/,
    );
  });

  test("a size that puts each broker on its own node: the nodes that take pods", () => {
    const standard = stages.map((stage) => ({
      ...stage,
      objects: stage.objects.map((object) =>
        object.kind === "Namespace"
          ? { ...object, metadata: { ...object.metadata, annotations: { "conveyor.dev/size": "standard" } } }
          : object,
      ),
    }));
    const nodes = ["a", "b", "c"].map((name) => ({ ...node, name, isSchedulable: name !== "c" }));
    const findings = (more: typeof nodes) =>
      findingsOf({ ...FACTS, nodes: more }, standard, [], parseStorageClasses([]));
    expect(findings(nodes)[0]!.text).toBe(
      "size standard needs 3 nodes, one for each broker; 2 of the cluster's 3 take pods",
    );
    expect(findings(nodes.map((one) => ({ ...one, isSchedulable: true })))).toEqual([]);
  });

  test("a DaemonSet counts on each node; that of a stage that replaces another does not", () => {
    expect(requestsOf(stages, 3).pods - requestsOf(stages, 1).pods).toBe(
      2 * objects.filter(({ kind, metadata }) => kind === "DaemonSet" && metadata.name !== "vlagent").length,
    );
  });

  test("a quota below the requests: resource, limit and need", () => {
    const quota = (hard: Record<string, string>): KubernetesObject[] => [
      { apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "team" }, spec: { hard } },
    ];
    expect(find({ quotas: quota({ "requests.cpu": "20", pods: "100" }) })).toEqual([]);
    expect(find({ quotas: quota({ "requests.cpu": "500m", pods: "100" }) })[0]!.text).toMatch(
      /^ResourceQuota team allows requests\.cpu=500m in namespace conveyor; the pipeline needs \d/,
    );
  });
});

test.each([
  [{ apiServers: [] }, "allow the ports 443 and 6443 of every address"],
  [{ isOpenShift: true }, "OpenShift assigns user IDs"],
])("%p is a warning: the deploy goes on", (more, text) => {
  expect(find(more)).toEqual([{ isFatal: false, text: expect.stringContaining(text), hint: expect.any(String) }]);
});

describe("preflight", () => {
  /** Answers the reviews of rights; everything else must not be called. */
  class Account extends Cluster {
    constructor(private readonly denied: readonly string[]) {
      super({ context: "test", isLocal: false }, "/nonexistent/kubectl");
    }
    override async kubectl(args: readonly string[], options: KubectlOptions = {}): Promise<KubectlResult> {
      if (args[0] === "get") return { stdout: "", stderr: "", exitCode: 0 };
      expect(args).toEqual(["create", "-f", "-", "-o", "jsonpath={.status.allowed} "]);
      const { items } = JSON.parse(String(options.input)) as {
        items: { spec: { resourceAttributes: { resource: string } } }[];
      };
      const allowed = items.map(({ spec }) => !this.denied.includes(spec.resourceAttributes.resource));
      return { stdout: `${allowed.join(" ")} `, stderr: "", exitCode: 0 };
    }
  }
  const run = async (cluster: Cluster, more: Partial<ClusterFacts>) => {
    const warnings: string[] = [];
    const report = { warn: (line: string) => void warnings.push(line) };
    const storage = parseStorageClasses([]);
    await preflight(cluster, { ...FACTS, ...more }, stages, storage, report, AbortSignal.timeout(5000));
    return warnings;
  };

  test("lists everything that is missing together, and applies nothing", async () => {
    const refused = run(new Account(["clusterroles", "secrets"]), { storageClasses: [] });
    const error = await refused.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ exitCode: 3, hint: expect.stringContaining("nothing was applied") });
    expect((error as Error).message.split("\n").slice(1)).toEqual([
      "  - this account may not create clusterroles.rbac.authorization.k8s.io",
      "  - this account may not create secrets in namespace conveyor",
      expect.stringContaining("no default StorageClass"),
    ]);
  });

  test("warns and goes on where only an effect is missing", async () => {
    expect(await run(new Account([]), { isOpenShift: true })).toEqual([
      expect.stringMatching(/OpenShift assigns user IDs.*; oc adm policy/),
    ]);
  });
});
