import { describe, expect, test } from "bun:test";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { adaptStages, isApiServerRule, parseStorageClasses, STORAGE_TIERS } from "../../../scripts/deploy/adapt.ts";
import type { ClusterFacts } from "../../../scripts/deploy/facts.ts";
import { withStoredClaims } from "../../../scripts/deploy/immutable-fields.ts";
import { loadStages } from "../../../scripts/deploy/stages.ts";
import type { Policy } from "../../k8s/reading.ts";
import { FACTS } from "./cluster-facts.ts";

const stages = await loadStages();
const objectsWith = (more: Partial<ClusterFacts>, storage = parseStorageClasses([])) =>
  adaptStages(stages, { ...FACTS, ...more }, storage).flatMap(({ objects }) => objects);
const policiesWith = (more: Partial<ClusterFacts>) =>
  objectsWith(more).filter(({ kind }) => kind === "NetworkPolicy") as Policy[];
const policy = (policies: readonly Policy[], name: string) => policies.find(({ metadata }) => metadata.name === name)!;
const blocks = (peers: readonly { ipBlock?: { cidr: string } }[] = []) =>
  peers.flatMap(({ ipBlock }) => ipBlock?.cidr ?? []);

describe("the rule for the API server", () => {
  const general = (policies: readonly Policy[]) =>
    policies
      .filter(({ spec }) => (spec.egress ?? []).some((rule) => isApiServerRule(rule)))
      .map(({ metadata }) => metadata.name)
      .sort();

  test("names its addresses and ports in every policy that has one", () => {
    const withRule = general(
      stages.flatMap(({ objects }) => objects).filter(({ kind }) => kind === "NetworkPolicy") as Policy[],
    );
    expect(withRule).toEqual(["kube-state-metrics", "prometheus", "promtail", "setup", "vlagent"]);
    const policies = policiesWith({});
    expect(general(policies)).toEqual([]);
    for (const name of withRule) {
      const rules = policy(policies, name).spec.egress!.filter(({ to }) => blocks(to).length > 0);
      expect(rules.map(({ to, ports }) => [blocks(to), ports])).toEqual([
        [["10.96.0.1/32"], [{ protocol: "TCP", port: 443 }]],
        [["198.19.0.2/32"], [{ protocol: "TCP", port: 6443 }]],
      ]);
    }
  });

  test("names IPv6 addresses with their length", () => {
    const policies = policiesWith({ apiServers: [{ address: "fd00::1", port: 443 }] });
    expect(blocks(policy(policies, "setup").spec.egress!.at(-1)!.to)).toEqual(["fd00::1/128"]);
  });

  test("stays general where the addresses are unknown, or where Cilium would not apply them", () => {
    expect(general(policiesWith({ apiServers: [] }))).toHaveLength(5);
    expect(general(policiesWith({ isCilium: true }))).toHaveLength(5);
    const managed = [{ address: "34.1.2.3", port: 443 }];
    expect(general(policiesWith({ isCilium: true, apiServers: managed }))).toEqual([]);
  });
});

test("the rules for name servers name the caches of the node, and the address of the Service", () => {
  const policies = policiesWith({ dnsAddresses: ["10.96.0.10", "fd00:1::a"] }).filter(
    ({ metadata }) => metadata.name === "allow-dns",
  );
  expect(policies.map(({ metadata }) => metadata.namespace)).toEqual(["conveyor", "conveyor-logging"]);
  for (const { spec } of policies) {
    expect(blocks(spec.egress![0]!.to)).toEqual([
      "169.254.20.10/32",
      "169.254.169.254/32",
      "10.96.0.10/32",
      "fd00:1::a/128",
    ]);
    // 169.254.169.254 is the metadata server of several clouds too, on another port.
    expect(spec.egress!.flatMap(({ ports }) => ports!.map(({ port }) => port))).toEqual([53, 53, 5353, 5353]);
  }
});

test("Prometheus admits KEDA from its namespace", () => {
  const namespaces = (kedaNamespace: string | undefined) =>
    policy(policiesWith({ kedaNamespace }), "prometheus-from-keda").spec.ingress!.flatMap(({ from = [] }) =>
      from.map(({ namespaceSelector }) => namespaceSelector?.matchLabels?.["kubernetes.io/metadata.name"]),
    );
  expect(namespaces("kube-system")).toEqual(["kube-system"]);
  expect(namespaces(undefined)).toEqual(["keda"]);
});

describe("--storage-class", () => {
  const classes = (values: readonly string[]) => {
    const objects = objectsWith({}, parseStorageClasses(values));
    const named = objects.flatMap((object) => {
      const tier = object.metadata.labels?.["app.kubernetes.io/name"];
      const { volumeClaimTemplates, storageClassName } =
        (object.spec as {
          volumeClaimTemplates?: { spec: { storageClassName?: string } }[];
          storageClassName?: string;
        }) ?? {};
      if (object.kind === "PersistentVolumeClaim") return [[tier, storageClassName] as const];
      return (volumeClaimTemplates ?? []).map(({ spec }) => [tier, spec.storageClassName] as const);
    });
    return Object.fromEntries(named);
  };

  test("is that of all volumes, or of one tier's; none by default", () => {
    expect(Object.keys(classes([])).sort()).toEqual([...STORAGE_TIERS].sort());
    expect(new Set(Object.values(classes([])))).toEqual(new Set([undefined]));
    expect(classes(["slow", "kafka=fast"])).toEqual({
      ...Object.fromEntries(STORAGE_TIERS.map((tier) => [tier, "slow"])),
      kafka: "fast",
    });
  });

  test.each(["", "Fast", "=fast", "broker=fast", "kafka=", "kafka=a=b"])("%p is refused", (value) => {
    expect(() => parseStorageClasses([value])).toThrow(`got "${value}"`);
  });

  test("of a deployed volume stays without the flag: a StatefulSet cannot change it", () => {
    const set = (storageClassName?: string): KubernetesObject => ({
      apiVersion: "apps/v1",
      kind: "StatefulSet",
      metadata: { name: "kafka" },
      spec: { volumeClaimTemplates: [{ metadata: { name: "data" }, spec: { storageClassName } }] },
    });
    expect(withStoredClaims(set(), set("fast"))).toEqual(set("fast"));
    expect(withStoredClaims(set("slow"), set("fast"))).toEqual(set("slow"));
  });
});
