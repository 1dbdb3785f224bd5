/** Variants of the local cluster, by what they change in it: the add-ons' objects and the stored plan. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addonObjects } from "../../../scripts/local-cluster/addons.ts";
import { certificateRequests } from "../../../scripts/local-cluster/control-plane.ts";
import { type ClusterPlan, layoutOf, nodeLayout } from "../../../scripts/local-cluster/layout.ts";
import { requireVariant } from "../../../scripts/local-cluster/plan.ts";
import {
  describeVariant,
  propertiesOf,
  VARIANT_NAMES,
  type VariantName,
  variantName,
} from "../../../scripts/local-cluster/variants.ts";

let pki: string;
beforeAll(async () => {
  pki = await mkdtemp(join(tmpdir(), "conveyor-variants-"));
  for (const name of ["metrics-server.crt", "metrics-server.key", "ca.crt"]) await writeFile(join(pki, name), name);
});
afterAll(async () => await rm(pki, { recursive: true }));

const objectsOf = async (name?: VariantName) =>
  await addonObjects({ pki, dnsAddress: "10.96.0.10", properties: propertiesOf(name) });
const refsOf = async (name?: VariantName) =>
  (await objectsOf(name)).map(({ kind, metadata }) => `${kind}/${metadata.name}`);

describe("add-ons", () => {
  test("without metrics-server there is neither its API nor its Deployment", async () => {
    const plain = await refsOf();
    const kind = await refsOf("kind");
    const missing = plain.filter((ref) => !kind.includes(ref));
    expect(missing).toContain("APIService/v1beta1.metrics.k8s.io");
    expect(missing).toContain("Deployment/metrics-server");
    expect(missing.every((ref) => /metrics/.test(ref))).toBe(true);
    expect(kind.filter((ref) => /metrics-server|v1beta1.metrics.k8s.io/.test(ref))).toEqual([]);
  });

  test("the storage class has the variant's name, binding and default", async () => {
    const classOf = async (name?: VariantName) => {
      const found = (await objectsOf(name)).filter(({ kind }) => kind === "StorageClass");
      return found.map(({ metadata, volumeBindingMode }) => [
        metadata.name,
        (metadata as { annotations?: Record<string, string> }).annotations,
        volumeBindingMode,
      ]);
    };
    const isDefault = (value: string) => ({ "storageclass.kubernetes.io/is-default-class": value });
    expect(await classOf()).toEqual([["standard", isDefault("true"), "Immediate"]]);
    expect(await classOf("kubeadm")).toEqual([["standard", isDefault("false"), "Immediate"]]);
    expect(await classOf("k3s")).toEqual([["local-path", isDefault("true"), "WaitForFirstConsumer"]]);
  });

  test("the DNS servers answer for the variant's domain, and for no other one", async () => {
    const zones = async (name?: VariantName) =>
      (await objectsOf(name)).flatMap(({ kind, data }) =>
        kind === "ConfigMap" ? [/kubernetes (\S+)/.exec((data as { Corefile: string }).Corefile)?.[1]] : [],
      );
    expect(await zones()).toEqual(["cluster.local"]);
    expect(await zones("kubeadm")).toEqual(["k8s.internal"]);
    expect(await zones("gke")).toEqual(["cluster.local", "cluster.local"]);
  });

  test("a DNS server in the node's network listens at its address alone", async () => {
    const ofNode = (await objectsOf("gke")).filter(({ metadata }) => metadata.name === "node-local-dns");
    expect(ofNode.map(({ kind }) => kind)).toEqual(["ConfigMap", "DaemonSet"]);
    expect(JSON.stringify(ofNode[0]!.data)).toContain("bind 169.254.20.10\\n");
    expect(await refsOf("gke")).toContain("Deployment/coredns");
    expect(await refsOf()).not.toContain("DaemonSet/node-local-dns");
  });

  test("no placeholder is left in any variant", async () => {
    for (const name of [undefined, ...VARIANT_NAMES]) {
      expect(JSON.stringify(await objectsOf(name))).not.toMatch(/@[A-Z_]+@/);
    }
  });
});

describe("addresses", () => {
  const layoutLike = (like?: VariantName) => {
    const subnets = { nodes: "198.19.0.0/24", pods: "10.244.0.0/16", services: "10.96.0.0/16" };
    const plan: ClusterPlan = { format: 1, subnets, nodes: ["node-1"], ...(like ? { like } : {}), created_at: "" };
    const layout = layoutOf(plan, { kubernetes: "/k", runtime: "/r" });
    return { layout, node: nodeLayout(layout, 0) };
  };
  const namesOf = ({ layout, node }: ReturnType<typeof layoutLike>, name: string) =>
    certificateRequests(layout, [node]).find((request) => request.name === name)?.names;

  test("a plain cluster has IPv4 addresses alone", () => {
    const plain = layoutLike();
    expect(plain.layout).toMatchObject({ dnsAddress: "10.96.0.10", podRanges: "10.244.0.0/16" });
    expect(plain.layout.advertiseAddress).toBe(plain.layout.apiAddress);
    expect(plain.node.addresses).toEqual(["198.19.0.2"]);
    expect(namesOf(plain, "kube-apiserver")?.slice(-3)).toEqual(["IP:127.0.0.1", "IP:198.19.0.2", "IP:10.96.0.1"]);
  });

  test("with IPv6 first, every list starts with IPv6, and the machine reaches the API server by IPv4", () => {
    const { layout, node } = layoutLike("ipv6");
    expect(layout).toMatchObject({
      advertiseAddress: "fd7c:9a31:e2b5::2",
      dnsAddress: "fd7c:9a31:e2b5:1::a",
      kubernetesAddress: "fd7c:9a31:e2b5:1::1",
      podRanges: "fd7c:9a31:e2b5:100::/56,10.244.0.0/16",
      serviceRanges: "fd7c:9a31:e2b5:1::/112,10.96.0.0/16",
      apiServer: "https://198.19.0.2:6443",
    });
    expect(node.addresses).toEqual(["fd7c:9a31:e2b5::2", "198.19.0.2"]);
    expect(namesOf({ layout, node }, "node-1")).toEqual(["DNS:node-1", "IP:fd7c:9a31:e2b5::2", "IP:198.19.0.2"]);
    expect(namesOf({ layout, node }, "kube-apiserver")).toContain("IP:fd7c:9a31:e2b5:1::1");
  });

  test("the API server's certificate has the variant's domain", () => {
    const names = namesOf(layoutLike("kubeadm"), "kube-apiserver");
    expect(names).toContain("DNS:kubernetes.default.svc.k8s.internal");
    expect(names).not.toContain("DNS:kubernetes.default.svc.cluster.local");
  });
});

test("an existing cluster is continued by its variant and without one, and refuses every other", () => {
  requireVariant({ like: "kind" }, "kind");
  requireVariant({ like: "kind" }, undefined);
  requireVariant({}, undefined);
  expect(() => requireVariant({ like: "kind" }, "gke")).toThrow(
    '--like: must be the variant of the existing cluster, kind; got "gke"',
  );
  expect(() => requireVariant({}, "gke")).toThrow(
    '--like: must be the variant of the existing cluster, which is a plain one; got "gke"',
  );
});

test("an unknown name is refused with the field and the known ones", () => {
  expect(() => variantName("minikube", "cluster.json: like")).toThrow(
    'cluster.json: like: must be one of kind, kubeadm, k3s, gke, renamed, ipv6; got "minikube"',
  );
});

test("a variant is described by what differs", () => {
  expect(describeVariant("kubeadm")).toBe(
    "self-signed kubelet certificates, no metrics-server, cluster domain k8s.internal, storage class standard (not default, Immediate)",
  );
  expect(describeVariant("gke")).toBe(
    "DNS at 169.254.20.10, storage class standard-rwo (default, WaitForFirstConsumer)",
  );
});
