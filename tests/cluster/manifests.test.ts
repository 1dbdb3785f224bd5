/**
 * Goal: a real API server accepts every object of k8s/, and its Pod Security admission every pod. Method: server-side
 * dry runs in a namespace made for it, so that what is deployed neither helps nor is touched.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureCertificates } from "../../scripts/toolkit/certificates.ts";
import type { Cluster, KubernetesObject } from "../../scripts/toolkit/cluster.ts";
import { loadManifests, podTemplateOf } from "../../scripts/toolkit/manifests.ts";
import { fillSecrets } from "../../scripts/toolkit/secrets.ts";
import { cluster, describeOnCluster } from "./harness.ts";

const NAMESPACE = `conveyor-test-${randomBytes(3).toString("hex")}`;
const CLUSTER_SCOPED = /^(Namespace|Cluster|CustomResourceDefinition|PriorityClass|StorageClass|APIService)/;

let folder = "";
let target: Cluster;
let objects: KubernetesObject[];

/** Dry run of one object; what the server refuses or warns of, or "" when it has nothing against it. */
async function verdict(object: KubernetesObject): Promise<string> {
  const args = ["create", "--dry-run=server", "-o", "name", "-f", "-"];
  const { exitCode, stderr } = await target.kubectl(args, { input: JSON.stringify(object), allowFailure: true });
  return exitCode === 0 && !stderr.includes("Warning") ? "" : stderr.trim() || `exit ${exitCode}`;
}

describeOnCluster("manifests on a real API server", () => {
  beforeAll(async () => {
    target = await cluster();
    const served = (await target.kubectl(["api-versions"])).stdout.split("\n");
    // Real certificates: the server looks into them, and warns of what is none.
    folder = await mkdtemp(join(tmpdir(), "conveyor-manifests-"));
    await ensureCertificates(folder);
    const filled = await fillSecrets(await loadManifests(), {
      file: async (name) => await readFile(join(folder, name), "utf8"),
      live: async () => undefined,
    });
    // What belongs to an operator that this cluster does not have (ServiceMonitor) has its own tests.
    objects = filled.filter(({ apiVersion }) => served.includes(apiVersion));
    const pipeline = objects.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "conveyor")!;
    const namespace = { ...pipeline, metadata: { name: NAMESPACE, labels: pipeline.metadata.labels } };
    await target.kubectl(["create", "-f", "-"], { input: JSON.stringify(namespace) });
    // Pods are refused before anything else is looked at when their account is not there.
    for (const account of objects.filter(
      ({ kind, metadata }) => kind === "ServiceAccount" && metadata.name !== "default",
    )) {
      const copy = { ...account, metadata: { name: account.metadata.name, namespace: NAMESPACE } };
      await target.kubectl(["apply", "-f", "-"], { input: JSON.stringify(copy) });
    }
  }, 60_000);
  afterAll(async () => {
    if (folder) await rm(folder, { recursive: true, force: true });
    await target?.kubectl(["delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found"], {
      allowFailure: true,
    });
  });

  test("every object is accepted, without a warning", async () => {
    const found: string[] = [];
    for (const object of objects) {
      if (CLUSTER_SCOPED.test(object.kind) || object.kind === "ServiceAccount") continue;
      // Other namespaces have other rules; those objects are looked at where they belong.
      if (object.metadata.namespace !== "conveyor") continue;
      const problem = await verdict({ ...object, metadata: { ...object.metadata, namespace: NAMESPACE } });
      if (problem) found.push(`${object.kind}/${object.metadata.name}: ${problem}`);
    }
    expect(found).toEqual([]);
  }, 120_000);

  test("every pod is admitted under Pod Security restricted; one that is not is refused", async () => {
    const found: string[] = [];
    for (const object of objects) {
      const template = podTemplateOf(object);
      if (!template || object.metadata.namespace !== "conveyor") continue;
      const claims = (object.spec as { volumeClaimTemplates?: KubernetesObject[] }).volumeClaimTemplates ?? [];
      const volumes = claims.map(({ metadata: { name } }) => ({ name, persistentVolumeClaim: { claimName: name } }));
      const pod = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: object.metadata.name, namespace: NAMESPACE, labels: template.metadata?.labels },
        spec: { ...template.spec, volumes: [...(template.spec.volumes ?? []), ...volumes] },
      };
      const problem = await verdict(pod);
      if (problem) found.push(`${object.kind}/${object.metadata.name}: ${problem}`);
      const rooted = { ...pod, spec: { ...pod.spec, securityContext: { runAsUser: 0 } } };
      expect(await verdict(rooted)).toContain("violates PodSecurity");
    }
    expect(found).toEqual([]);
  }, 120_000);
});
