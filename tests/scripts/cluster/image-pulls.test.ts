/** How nodes get the images of manifests and of one-off pods. */
import { describe, expect, test } from "bun:test";
import { EXIT, OperatorError } from "../../../scripts/cli/errors.ts";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { copiedPullSecrets, pullPolicy, requirePullSecret } from "../../../scripts/cluster/image-pulls.ts";
import { podObject } from "../../../scripts/cluster/one-off-pods.ts";
import { FakeCluster } from "../deploy/fake-cluster.ts";

const secret = (namespace: string, type: string): KubernetesObject => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "regcred", namespace },
  type,
  data: { ".dockerconfigjson": "e30=" },
});

test.each([
  ["conveyor.invalid/services:1.0.0", "Never"],
  ["conveyor.invalid:5000/services:1.0.0", "Never"],
  ["registry.example.org/team/conveyor/services:1.0.0@sha256:1", "IfNotPresent"],
  ["docker.io/conveyor.invalid/services:1.0.0", "IfNotPresent"],
  ["invalid/services:1.0.0", "IfNotPresent"],
])("pullPolicy(%s) is %s, for one-off pods too", (image, policy) => {
  expect(pullPolicy(image)).toBe(policy as ReturnType<typeof pullPolicy>);
  const { spec } = podObject({ prefix: "probe", image, labels: {}, command: ["sleep"] });
  expect((spec as { containers: unknown[] }).containers).toEqual([
    expect.objectContaining({ imagePullPolicy: policy }),
  ]);
});

describe("requirePullSecret", () => {
  const namespaces = ["conveyor", "conveyor-logging"];

  test("is satisfied by both types of Secrets that the kubelet reads", async () => {
    const cluster = new FakeCluster([]).add(
      secret("conveyor", "kubernetes.io/dockerconfigjson"),
      secret("conveyor-logging", "kubernetes.io/dockercfg"),
    );
    await requirePullSecret(cluster, "regcred", namespaces);
  });

  test("names each namespace without the Secret, and one of another type, with the command", async () => {
    const cluster = new FakeCluster([]).add(secret("conveyor", "Opaque"));
    const error = await requirePullSecret(cluster, "regcred", namespaces).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(OperatorError);
    expect(error.exitCode).toBe(EXIT.precondition);
    expect(error.message).toBe(
      "--image-pull-secret: Secret regcred in namespace conveyor: must be of type kubernetes.io/dockerconfigjson or " +
        'kubernetes.io/dockercfg; got "Opaque"; namespace conveyor-logging has no Secret regcred',
    );
    expect(error.hint).toContain("kubectl --context test -n conveyor-logging create secret docker-registry regcred");
  });
});

test("copiedPullSecrets copies the Secrets of the deployed pipeline's accounts into another namespace", async () => {
  const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "default", namespace: "conveyor" } };
  const cluster = new FakeCluster([]).add(account, secret("conveyor", "kubernetes.io/dockerconfigjson"));
  expect(await copiedPullSecrets(cluster, "elsewhere", {})).toEqual([]);
  cluster.add({ ...account, imagePullSecrets: [{ name: "regcred" }, { name: "deleted" }] });
  expect(await copiedPullSecrets(cluster, "elsewhere", { part: "drills" })).toEqual([
    {
      ...secret("elsewhere", "kubernetes.io/dockerconfigjson"),
      metadata: { name: "regcred", namespace: "elsewhere", labels: { part: "drills" } },
    },
  ]);
});
