/**
 * A real API server accepts every object of k8s/ and of every overlay, and its Pod Security admission every pod: server-side
 * dry runs in a namespace of the test, independent of the deployed pipeline.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cluster, KubernetesObject } from "../../scripts/cluster/cluster.ts";
import { overlayFindings } from "../../scripts/conformance/overlays.ts";
import { ensureCertificates } from "../../scripts/deploy/certificates.ts";
import { loadManifests, podTemplateOf } from "../../scripts/deploy/manifests.ts";
import { fillSecrets } from "../../scripts/deploy/secrets.ts";
import { silentReport } from "../scripts/cli/silent-report.ts";
import { cluster, describeOnCluster } from "./harness.ts";

const NAMESPACE = `conveyor-test-${randomBytes(3).toString("hex")}`;
const CLUSTER_SCOPED = /^(Namespace|Cluster|CustomResourceDefinition|PriorityClass|StorageClass|APIService)/;

let folder = "";
let target: Cluster;
let objects: KubernetesObject[];

/** A hundred objects take some seconds, on a busy machine minutes. */
const LIMIT_MS = 300_000;

const listOf = (items: readonly object[]) => JSON.stringify({ apiVersion: "v1", kind: "List", items });

/** Dry run of objects in one call: how many the server accepted, and its errors and warnings. */
async function verdict(items: readonly KubernetesObject[]): Promise<{ accepted: number; objections: string }> {
  const args = ["create", "--dry-run=server", "-o", "name", "-f", "-"];
  const { exitCode, stdout, stderr } = await target.kubectl(args, {
    input: listOf(items),
    allowFailure: true,
    timeoutMs: LIMIT_MS,
  });
  const objections = exitCode === 0 && !stderr.includes("Warning") ? "" : stderr.trim() || `exit ${exitCode}`;
  return { accepted: stdout.split("\n").filter(Boolean).length, objections };
}

describeOnCluster("manifests on a real API server", () => {
  beforeAll(async () => {
    target = await cluster();
    const served = (await target.kubectl(["api-versions"])).stdout.split("\n");
    // Real certificates: the server parses them and warns of invalid ones.
    folder = await mkdtemp(join(tmpdir(), "conveyor-manifests-"));
    await ensureCertificates(folder);
    const filled = await fillSecrets(await loadManifests(), {
      file: async (name) => await readFile(join(folder, name), "utf8"),
      live: async () => undefined,
    });
    // Objects of operators that this cluster does not have (ServiceMonitor) have their own tests.
    objects = filled.filter(({ apiVersion }) => served.includes(apiVersion));
    const pipeline = objects.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "conveyor")!;
    const namespace = { ...pipeline, metadata: { name: NAMESPACE, labels: pipeline.metadata.labels } };
    await target.kubectl(["create", "-f", "-"], { input: JSON.stringify(namespace) });
    // A pod without its service account is rejected before other rules apply.
    const accounts = objects
      .filter(({ kind, metadata }) => kind === "ServiceAccount" && metadata.name !== "default")
      .map((account) => ({ ...account, metadata: { name: account.metadata.name, namespace: NAMESPACE } }));
    expect(accounts.length).toBeGreaterThan(5);
    await target.kubectl(["apply", "-f", "-"], { input: listOf(accounts) });
  }, LIMIT_MS);
  afterAll(async () => {
    if (folder) await rm(folder, { recursive: true, force: true });
    await target?.kubectl(["delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found"], {
      allowFailure: true,
    });
  });

  test(
    "every object is accepted, without a warning",
    async () => {
      const copies = objects
        .filter(({ kind }) => !CLUSTER_SCOPED.test(kind) && kind !== "ServiceAccount")
        // Other namespaces have other admission rules.
        .filter(({ metadata }) => metadata.namespace === "conveyor")
        .map((object) => ({ ...object, metadata: { ...object.metadata, namespace: NAMESPACE } }));
      expect(copies.length).toBeGreaterThan(60);
      expect(await verdict(copies)).toEqual({ accepted: copies.length, objections: "" });
    },
    LIMIT_MS,
  );

  test(
    "every pod is admitted under Pod Security restricted; one that is not is refused",
    async () => {
      const pods: (KubernetesObject & { spec: object })[] = [];
      for (const object of objects) {
        const template = podTemplateOf(object);
        if (!template || object.metadata.namespace !== "conveyor") continue;
        const claims = (object.spec as { volumeClaimTemplates?: KubernetesObject[] }).volumeClaimTemplates ?? [];
        const volumes = claims.map(({ metadata: { name } }) => ({ name, persistentVolumeClaim: { claimName: name } }));
        pods.push({
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: object.metadata.name, namespace: NAMESPACE, labels: template.metadata?.labels },
          spec: { ...template.spec, volumes: [...(template.spec.volumes ?? []), ...volumes] },
        });
      }
      expect(pods.length).toBeGreaterThan(7);
      expect(await verdict(pods)).toEqual({ accepted: pods.length, objections: "" });
      const rooted = pods.map((pod) => ({ ...pod, spec: { ...pod.spec, securityContext: { runAsUser: 0 } } }));
      const refused = await verdict(rooted);
      expect(refused.accepted).toBe(0);
      const named = [...refused.objections.matchAll(/pods "([^"]+)" is forbidden: violates PodSecurity/g)];
      expect(named.map(([, name]) => name!).sort()).toEqual(pods.map(({ metadata }) => metadata.name).sort());
    },
    LIMIT_MS,
  );

  test(
    "strict validation and kubeconform find nothing in any overlay, size or optional part",
    async () => {
      const { checked, findings } = await overlayFindings(
        (args, options) => target.kubectl(args, { ...options, allowFailure: true }),
        silentReport(),
      );
      expect(checked).toBeGreaterThan(130);
      expect(findings).toEqual([]);
    },
    LIMIT_MS,
  );
});
