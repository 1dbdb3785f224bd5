/** `deploy --expose`: what its flags may say, what is remembered, and what the objects of each way become. */
import { describe, expect, test } from "bun:test";
import { EXIT, OperatorError } from "../../../scripts/cli/errors.ts";
import { type KubectlOptions, type KubernetesObject, refOf } from "../../../scripts/cluster/cluster.ts";
import { type Exposure, exposureOf } from "../../../scripts/cluster/intake-exposure.ts";
import { adaptStages } from "../../../scripts/deploy/adapt.ts";
import {
  awaitEndpoint,
  chooseExposure,
  type ExposeFlags,
  exposeFlags,
  parseHosts,
  resolveExposure,
  withExposure,
} from "../../../scripts/deploy/expose.ts";
import { plan, type Snapshot } from "../../../scripts/deploy/plan.ts";
import { deployedStages, loadStages } from "../../../scripts/deploy/stages.ts";
import { silentReport } from "../cli/silent-report.ts";
import { FACTS } from "./cluster-facts.ts";
import { FakeCluster } from "./fake-cluster.ts";

const { signal } = new AbortController();
const stages = await loadStages();
const GATEWAY_API = "gateway.networking.k8s.io/v1";

const refusal = (work: () => unknown) => {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(OperatorError);
    return `${(error as OperatorError).exitCode} ${(error as Error).message}`;
  }
  return "accepted";
};

describe("flags", () => {
  test("names and addresses are in lower case, once each, IPv6 in its shortest form", () => {
    expect(parseHosts("Telemetry.Example.org, 203.0.113.7,2001:0DB8::0001,telemetry.example.org")).toEqual([
      "telemetry.example.org",
      "203.0.113.7",
      "2001:db8::1",
    ]);
  });

  test.each(["", "a b", "*.example.org", "example.org:8443", "https://example.org", "-a.org", "10.0.0.300", "a..b"])(
    "--intake-host %j is refused",
    (text) => {
      expect(refusal(() => parseHosts(text))).toContain(`${EXIT.usage} --intake-host: must be host names`);
    },
  );

  test("more than 16 names are refused", () => {
    const names = Array.from({ length: 17 }, (_, index) => `h${index}.example.org`);
    expect(refusal(() => parseHosts(names.join()))).toBe(
      `${EXIT.usage} --intake-host: must be at most 16 values; got 17`,
    );
    expect(parseHosts(names.slice(1).join())).toHaveLength(16);
  });

  test.each([
    [{ expose: "none", "intake-host": "a.org" }, "--expose none and --intake-host exclude each other"],
    [{ expose: "nodeport", "intake-gateway": "a/b" }, "--intake-gateway needs --expose gateway"],
    [{ "intake-gateway": "b" }, '--intake-gateway: must be NAMESPACE/NAME; got "b"'],
    [
      { "intake-from": "10.0.0.1" },
      '--intake-from: must be address blocks such as 203.0.113.0/24,2001:db8::/32; got "10.0.0.1"',
    ],
    [
      { "intake-from": "203.0.113.0/24,::/0" },
      "--intake-from: ::/0 permits every address: name it alone, or only the other blocks",
    ],
    [
      { "intake-from": "10.0.0.0/33" },
      '--intake-from: must be address blocks such as 203.0.113.0/24,2001:db8::/32; got "10.0.0.0/33"',
    ],
  ])("%j is refused", (flags, message) => {
    expect(refusal(() => exposeFlags(flags))).toBe(`${EXIT.usage} ${message}`);
  });

  test("blocks with every address are no restriction", () => {
    expect(exposeFlags({ "intake-from": "0.0.0.0/0,::/0" }).from).toEqual([]);
    expect(exposeFlags({ "intake-from": "10.0.0.0/8" }).from).toEqual(["10.0.0.0/8"]);
  });
});

describe("the choice of a deploy", () => {
  const last: Exposure = { mode: "nodeport", hosts: ["a.org"], from: ["10.0.0.0/8"] };

  test("without flags is that of the last deploy; a flag changes its own part", () => {
    expect(chooseExposure({}, undefined)).toBeUndefined();
    expect(chooseExposure({}, last)).toEqual(last);
    expect(chooseExposure({ hosts: ["b.org"] }, last)).toEqual({ ...last, hosts: ["b.org"] });
    expect(chooseExposure({ from: [] }, last)).toEqual({ ...last, from: [] });
    expect(chooseExposure({ mode: "loadbalancer" }, last)).toEqual({ ...last, mode: "loadbalancer" });
    expect(chooseExposure({ mode: "none" }, last)).toBeUndefined();
  });

  test.each([
    [{ mode: "nodeport" } as const, undefined, "--expose nodeport needs --intake-host NAME[,NAME…]"],
    [{ hosts: ["a.org"] }, undefined, "--intake-host needs --expose loadbalancer or nodeport or gateway"],
    [{ from: [] }, undefined, "--intake-from needs --expose"],
    [{ mode: "gateway", hosts: ["10.0.0.1"], from: [] } as const, last, "a Gateway chooses by the name"],
    [{ mode: "gateway" } as const, last, "--expose gateway and --intake-from exclude each other"],
  ])("%j after %j is refused", (flags, deployed, message) => {
    const found = refusal(() => chooseExposure(flags as Parameters<typeof chooseExposure>[0], deployed));
    expect(found).toStartWith(`${EXIT.usage} `);
    expect(found).toContain(message);
  });
});

const every = stages.flatMap(({ objects }) => objects);
const apiVersions = new Set(every.map(({ apiVersion }) => apiVersion));
const named = (mode: Exposure["mode"], more: Partial<Exposure> = {}): Exposure => ({
  ...{ mode, hosts: ["telemetry.example.org"], from: [] },
  ...more,
});
const appliedBy = (exposure: Exposure | undefined, previous?: Exposure["mode"], live: KubernetesObject[] = []) => {
  const snapshot: Snapshot = {
    ...{ context: "test", apiVersions, live, brokers: [], fixedClasses: new Set<string>() },
    keda: { status: "absent" },
  };
  return plan(snapshot, withExposure(stages, { exposure, previous }), []);
};
const ofIntake = (objects: readonly KubernetesObject[]) =>
  objects.map(refOf).filter((ref) => /\/intake(-|$)/.test(ref));

describe("stages", () => {
  test.each([
    [undefined, []],
    [named("loadbalancer"), ["NetworkPolicy/intake", "Service/intake-loadbalancer"]],
    [named("nodeport"), ["NetworkPolicy/intake", "Service/intake-nodeport"]],
    [named("gateway", { gateway: "edge/public" }), ["NetworkPolicy/intake", "TLSRoute/intake"]],
  ])("%j applies %j, after the producers, and nothing is reported as skipped", (exposure, refs) => {
    const { stages: applied, skip } = appliedBy(exposure);
    expect(ofIntake(applied.flatMap(({ apply }) => apply))).toEqual(refs);
    const names = applied.map(({ name }) => name);
    for (const name of names.filter((one) => one.startsWith("expose"))) {
      expect(names.indexOf(name)).toBeGreaterThan(names.indexOf("producer"));
    }
    expect(skip.filter(({ stage }) => stage.startsWith("expose"))).toEqual([]);
  });

  test("the Namespace remembers the choice, and forgets it with none", () => {
    const namespaceOf = (exposure: Exposure | undefined) =>
      appliedBy(exposure).stages[0]!.apply.find(({ metadata }) => metadata.name === "conveyor");
    const choices = [named("nodeport", { from: ["10.0.0.0/8"] }), named("gateway", { gateway: "edge/public" })];
    for (const exposure of choices) expect(exposureOf(namespaceOf(exposure))).toEqual(exposure);
    expect(exposureOf(namespaceOf(undefined))).toBeUndefined();
  });

  test("what the last deploy has applied of another way is removed behind the Namespace, which stores the choice", () => {
    const live = every.filter(
      (object) => ofIntake([object]).length > 0 && object.metadata.name !== "intake-loadbalancer",
    );
    const removed = (exposure: Exposure | undefined) => {
      const { prune, stages } = appliedBy(exposure, "nodeport", live);
      expect([prune, stages[0]!.prune]).toEqual([[], []]);
      return stages[1]!.prune.map(({ object, reason }) => `${refOf(object)} ${reason}`);
    };
    // The policy only with none.
    expect(removed(undefined)).toEqual(["NetworkPolicy/intake --expose none", "Service/intake-nodeport --expose none"]);
    expect(removed(named("loadbalancer"))).toEqual(["Service/intake-nodeport --expose loadbalancer"]);
    expect(removed(named("nodeport"))).toEqual([]);
  });

  test("the objects have the names, the Gateway and the blocks", () => {
    const specOf = (exposure: Exposure, ref: string, isCilium = false) =>
      adaptStages(withExposure(stages, { exposure }), { ...FACTS, isCilium })
        .flatMap(({ objects }) => objects)
        .find((object) => refOf(object) === ref)!.spec;
    const ports = [{ port: "intake" }];
    const from = ["10.0.0.0/8", "2001:db8::/32"];
    const blocks = (cidrs: string[]) => cidrs.map((cidr) => ({ ipBlock: { cidr } }));
    const policy = "NetworkPolicy/intake";
    expect(specOf(named("nodeport"), policy)).toMatchObject({
      ingress: [{ from: blocks(["0.0.0.0/0", "::/0"]), ports }],
    });
    expect(specOf(named("nodeport", { from }), policy)).toMatchObject({ ingress: [{ from: blocks(from), ports }] });
    // Its blocks match no node.
    expect(specOf(named("nodeport"), policy, true)).toMatchObject({ ingress: [{ ports }] });
    expect(specOf(named("nodeport", { from }), policy, true)).toMatchObject({
      ingress: [{ from: blocks(from), ports }],
    });
    const route = named("gateway", { gateway: "edge/public", hosts: ["a.org", "b.org"] });
    expect((specOf(route, policy) as { ingress: unknown }).ingress).toEqual([{ ports }]);
    expect(specOf(route, "TLSRoute/intake")).toMatchObject({
      parentRefs: [{ namespace: "edge", name: "public" }],
      hostnames: ["a.org", "b.org"],
    });
    expect(specOf(named("nodeport"), "Service/intake-nodeport")).not.toHaveProperty("externalTrafficPolicy");
    expect(specOf(named("loadbalancer", { from }), "Service/intake-loadbalancer")).toMatchObject({
      externalTrafficPolicy: "Local",
      loadBalancerSourceRanges: from,
    });
  });
});

describe("a deployed pipeline", () => {
  const namespaceWith = (exposure: Exposure | undefined) =>
    withExposure(stages, { exposure })
      .flatMap(({ objects }) => objects)
      .find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "conveyor")!;

  test("is expected by validate as it was exposed", async () => {
    const objectsOf = async (exposure: Exposure | undefined) => {
      const { stages, skipped } = await deployedStages(new FakeCluster([]).add(namespaceWith(exposure)));
      expect(skipped.filter((name) => name.startsWith("expose"))).toEqual([]);
      return ofIntake(stages.flatMap(({ objects }) => objects));
    };
    expect(await objectsOf(undefined)).toEqual([]);
    expect(await objectsOf(named("nodeport"))).toEqual(["NetworkPolicy/intake", "Service/intake-nodeport"]);
  });

  /** A cluster with the Gateway API in some form. */
  class GatewayCluster extends FakeCluster {
    constructor(readonly resources: readonly string[]) {
      super([GATEWAY_API]);
    }
    override async kubectl(args: readonly string[], options: KubectlOptions = {}) {
      if (args[1] !== "--raw") return await super.kubectl(args, options);
      const resources = this.resources.map((name) => ({ name }));
      return { stdout: JSON.stringify({ resources }), stderr: "", exitCode: 0 };
    }
  }
  const gateway = (name: string, mode: string): KubernetesObject => ({
    apiVersion: GATEWAY_API,
    kind: "Gateway",
    metadata: { name, namespace: "conveyor" },
    spec: { listeners: [{ name: "tls", port: 443, protocol: "TLS", tls: { mode } }] },
  });
  const choose = async (cluster: FakeCluster, gateway?: string) => {
    const flags: ExposeFlags = { mode: "gateway", hosts: ["a.org"], gateway };
    try {
      return (await resolveExposure(cluster, flags, signal)).exposure?.gateway;
    } catch (error) {
      const { exitCode, message, hint } = error as OperatorError;
      return { exitCode, text: `${message}\n${hint}` };
    }
  };

  test("a Gateway is the only one that passes TLS on, or the named one", async () => {
    const cluster = new GatewayCluster(["gateways", "tlsroutes"]).add(
      gateway("http", "Terminate"),
      gateway("edge", "Passthrough"),
    );
    expect(await choose(cluster)).toBe("conveyor/edge");
    cluster.add(gateway("other", "Passthrough"));
    expect(await choose(cluster, "conveyor/other")).toBe("conveyor/other");
    expect(await choose(cluster)).toMatchObject({
      exitCode: EXIT.usage,
      text: expect.stringContaining("--intake-gateway must name one of the Gateways conveyor/edge, conveyor/other"),
    });
    expect(await choose(cluster, "conveyor/http")).toMatchObject({
      exitCode: EXIT.precondition,
      text: expect.stringContaining("Gateways with one: conveyor/edge, conveyor/other"),
    });
  });

  test.each([
    ["without the API", new FakeCluster([]), "the cluster has no TLSRoute"],
    ["with an API without TLSRoutes", new GatewayCluster(["gateways"]), "the cluster has no TLSRoute"],
    ["without a Gateway", new GatewayCluster(["gateways", "tlsroutes"]), "no Gateway of the cluster has a listener"],
  ])("a cluster %s is refused with the way out", async (_, cluster, message) => {
    const refused = (await choose(cluster)) as { exitCode: number; text: string };
    expect(refused.exitCode).toBe(EXIT.precondition);
    expect(refused.text).toContain(message);
    expect(refused.text).toContain("--expose loadbalancer, --expose nodeport");
  });

  test("a route whose API is gone is not read", async () => {
    const exposure = named("gateway", { gateway: "edge/public" });
    const cluster = new FakeCluster([]).add(namespaceWith(exposure));
    expect(await resolveExposure(cluster, { mode: "none" }, signal)).toEqual({
      exposure: undefined,
      previous: undefined,
    });
  });
});

describe("the address of a load balancer", () => {
  const service = (createdMsAgo: number, status: object): KubernetesObject => ({
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: "intake-loadbalancer",
      namespace: "conveyor",
      creationTimestamp: new Date(Date.now() - createdMsAgo).toISOString(),
    },
    spec: { ports: [{ port: 8443 }] },
    status: { loadBalancer: status },
  });
  const wait = async (object: KubernetesObject, limitMs: number) => {
    const startedAt = performance.now();
    const cluster = new FakeCluster([]).add(object);
    const endpoint = await awaitEndpoint(cluster, named("loadbalancer"), silentReport(), signal, limitMs);
    return { endpoint, waitedMs: performance.now() - startedAt };
  };

  test("is taken where it was assigned, an address or a name", async () => {
    const ingress = [{ ip: "203.0.113.7" }, { hostname: "lb.example.net" }];
    expect((await wait(service(0, { ingress }), 1000)).endpoint).toEqual({
      addresses: ["203.0.113.7", "lb.example.net"],
      port: 8443,
    });
  });

  test("is awaited up to a limit, counted from the Service's creation: later deploys do not wait again", async () => {
    const first = await wait(service(0, {}), 400);
    expect(first.endpoint).toMatchObject({
      problem: expect.stringContaining("nothing in the cluster has assigned one"),
    });
    expect(first.waitedMs).toBeGreaterThan(200);
    expect((await wait(service(60_000, {}), 400)).waitedMs).toBeLessThan(200);
  });
});
