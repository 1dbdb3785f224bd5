/** Where an exposed intake answers, and the command that is printed for it. */
import { describe, expect, test } from "bun:test";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { intakeAddress, intakeEndpoint } from "../../../scripts/cluster/intake-exposure.ts";
import { FakeCluster } from "../deploy/fake-cluster.ts";

const object = (kind: string, name: string, more: object): KubernetesObject => ({
  ...{ apiVersion: "v1", kind, metadata: { name, namespace: "conveyor" } },
  ...more,
});

describe("intakeEndpoint", () => {
  const node = (name: string, ...addresses: [type: string, address: string][]) => ({
    ...{ apiVersion: "v1", kind: "Node", metadata: { name } },
    status: { addresses: addresses.map(([type, address]) => ({ type, address })) },
  });
  const nodes = [
    node("a", ["InternalIP", "10.0.0.1"], ["Hostname", "a"]),
    node("b", ["InternalIP", "10.0.0.2"], ["ExternalIP", "203.0.113.2"]),
  ];
  const service = (spec: object) =>
    object("Service", "intake-nodeport", { spec: { ports: [{ port: 8443, nodePort: 31_000 }], ...spec } });

  test("of a node port is every node, external addresses first; with the senders' addresses kept, those with a producer", async () => {
    const cluster = new FakeCluster([]).add(...nodes, service({}));
    const all = { addresses: ["203.0.113.2", "10.0.0.1", "10.0.0.2"], port: 31_000 };
    expect(await intakeEndpoint(cluster, { mode: "nodeport" })).toEqual(all);
    const producer = object("Pod", "producer-0", { spec: { nodeName: "a" }, status: { phase: "Running" } });
    producer.metadata.labels = { "app.kubernetes.io/name": "producer" };
    cluster.add(service({ externalTrafficPolicy: "Local" }), producer);
    expect(await intakeEndpoint(cluster, { mode: "nodeport" })).toEqual({ addresses: ["10.0.0.1"], port: 31_000 });
  });

  test("of a Gateway is that of its listener with TLS passthrough, once it accepts the route", async () => {
    const gateway = object("Gateway", "public", {
      spec: {
        listeners: [
          { name: "https", port: 443, protocol: "HTTPS", tls: { mode: "Terminate" } },
          { name: "tls", port: 8443, protocol: "TLS", tls: { mode: "Passthrough" } },
        ],
      },
      status: { addresses: [{ value: "203.0.113.9" }] },
    });
    const route = (...conditions: object[]) => object("TLSRoute", "intake", { status: { parents: [{ conditions }] } });
    const ask = async (...objects: KubernetesObject[]) =>
      await intakeEndpoint(new FakeCluster([]).add(...objects), { mode: "gateway", gateway: "conveyor/public" });
    const accepted = { type: "Accepted", status: "True" };
    expect(await ask(gateway, route(accepted))).toEqual({ addresses: ["203.0.113.9"], port: 8443 });
    expect(await ask(gateway, route())).toMatchObject({ isPending: true });
    expect(await ask(gateway, route({ type: "Accepted", status: "False", message: "no listener" }))).toEqual({
      problem: "TLSRoute intake: Accepted is False: no listener",
    });
    expect(await ask(route(accepted))).toEqual({ problem: "Gateway conveyor/public is missing" });
  });
});

describe("the printed command", () => {
  const cluster = { context: "staging", kubeconfig: undefined };
  const print = async (host: string, ...addresses: string[]) =>
    await intakeAddress(cluster, { hosts: [host] }, { addresses, port: 31_000 }, "certs/ca.crt");

  test("names the CA and reads the token from the cluster", async () => {
    const { url, note, example } = await print("203.0.113.2", "203.0.113.2");
    expect({ url, note }).toEqual({ url: "https://203.0.113.2:31000/events", note: undefined });
    expect(example).toStartWith('curl --cacert certs/ca.crt -H "Authorization: Bearer $(kubectl --context staging ');
    expect(example).toEndWith(` ${url}`);
  });

  test("connects to the address while the name leads elsewhere, and says so; not where it leads there", async () => {
    const { example, note } = await print("telemetry.invalid", "2001:db8::1");
    expect(example).toContain(" --connect-to telemetry.invalid:31000:[2001:db8::1]:31000 ");
    expect(note).toContain("telemetry.invalid must lead to 2001:db8::1");
    expect((await print("localhost", "127.0.0.1")).example).not.toContain("--connect-to");
  });

  test("is a command of the shell that sends a valid event of now", async () => {
    const { example, url } = await print("203.0.113.2", "203.0.113.2");
    const shell = Bun.spawn(["bash", "-c", `kubectl() { echo secret; }; curl() { printf '%s\\n' "$@"; }; ${example}`]);
    const args = (await new Response(shell.stdout).text()).trim().split("\n");
    expect(args).toEqual([
      ...["--cacert", "certs/ca.crt", "-H", "Authorization: Bearer secret"],
      ...["-H", "Content-Type: application/json", "-d", args[7]!, url],
    ]);
    const event = JSON.parse(args[7]!) as { v: number; ts: number };
    expect(event.v).toBe(1);
    expect(Math.abs(event.ts - Date.now())).toBeLessThan(5000);
  });
});
