import { expect, test } from "bun:test";
import type { Cluster, KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { externalStoresCase } from "../../../scripts/conformance/external-stores.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

const folder = temporaryFolder();

test("the servers are those of k8s/ in their own namespace, with SASL for clients", async () => {
  let objects: readonly KubernetesObject[] = [];
  const stop = new Error("applied");
  const cluster = {
    apply: async (all: readonly KubernetesObject[]) => {
      objects = all;
      throw stop;
    },
  } as unknown as Cluster;
  const { steps } = externalStoresCase(cluster, folder);
  expect(steps.map(({ name }) => name)).toEqual(["up", "servers", "deploy", "validate", "audit", "destroy"]);
  await expect(steps[1]!.run(new AbortController().signal)).rejects.toThrow(stop);
  const find = (kind: string, name: string) =>
    objects.find((object) => object.kind === kind && object.metadata.name === name)!;
  expect(new Set(objects.slice(1).map(({ metadata }) => metadata.namespace))).toEqual(new Set(["external-stores"]));
  for (const [kind, name] of [
    ["Namespace", "external-stores"],
    ["ServiceAccount", "kafka"],
    ["ServiceAccount", "influxdb"],
    ["StatefulSet", "kafka"],
    ["StatefulSet", "influxdb"],
    ["Service", "kafka-headless"],
    ["Service", "influxdb"],
  ] as const) {
    expect([kind, name, find(kind, name)?.kind]).toEqual([kind, name, kind]);
  }
  const config = find("ConfigMap", "kafka").data as Record<string, string>;
  expect(config["server.properties"]).toContain("CLIENT:SASL_SSL,REPLICATION:SSL,CONTROLLER:SSL");
  expect(config["server.properties"]).toContain("kafka-0.kafka-headless.external-stores.svc:9093");
  expect(config["start.sh"]).toMatch(
    /format --ignore-formatted --add-scram 'SCRAM-SHA-512=\[name=conveyor,password=\w{32}\]'/,
  );
  const keys = Object.keys(find("Secret", "kafka-tls").data as object).sort();
  expect(keys).toEqual(["ca.crt", "kafka-0.pem", "kafka-1.pem", "kafka-2.pem"]);
  expect(objects.some(({ kind }) => kind === "NetworkPolicy")).toBe(false);
});
