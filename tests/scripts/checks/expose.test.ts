/** The check of the exposed intake, against real TLS servers on loopback. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createServer, type Server } from "node:net";
import { contactIntake, exposeCheck } from "../../../scripts/checks/expose.ts";
import { createAuthority, issueCertificate, type KeyPair } from "../../../scripts/cli/pki.ts";
import type { KubernetesObject } from "../../../scripts/cluster/cluster.ts";
import { EXPOSE, INTAKE_FROM, INTAKE_HOSTS } from "../../../scripts/cluster/intake-exposure.ts";
import { FakeCluster } from "../deploy/fake-cluster.ts";

const { signal } = new AbortController();
const LIMIT_MS = 300;
let authority: KeyPair;
let other: KeyPair;
const open: { stop(): unknown }[] = [];

/** A server with a certificate for names, which answers a status. */
async function server(names: readonly string[], status = 401, issuer = authority): Promise<number> {
  const { certificate, key } = await issueCertificate(issuer, { commonName: "producer", names }, { days: 1 });
  const started = Bun.serve({
    ...{ port: 0, hostname: "127.0.0.1", tls: { cert: certificate, key } },
    fetch: () => new Response("", { status }),
  });
  open.push(started);
  return started.port!;
}

/** A TCP server that accepts connections and says nothing. */
async function silentServer(): Promise<number> {
  const started: Server = createServer(() => {});
  await new Promise<void>((resolve) => started.listen(0, "127.0.0.1", resolve));
  open.push({ stop: () => started.close() });
  return (started.address() as { port: number }).port;
}

async function closedPort(): Promise<number> {
  const started = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("") });
  const port = started.port!;
  await started.stop(true);
  return port;
}

beforeAll(async () => {
  [authority, other] = [await createAuthority("own", { days: 1 }), await createAuthority("other", { days: 1 })];
});
afterAll(async () => {
  for (const one of open) await one.stop();
});

const contact = (port: number, host: string) => contactIntake("127.0.0.1", port, host, authority.certificate, LIMIT_MS);

describe("contactIntake", () => {
  test("an intake with a certificate for the name or the address answers", async () => {
    const port = await server(["DNS:telemetry.example.org", "IP:203.0.113.7", "IP:2001:db8::1"]);
    for (const host of ["telemetry.example.org", "203.0.113.7", "2001:db8::1"]) {
      expect({ host, ...(await contact(port, host)) }).toMatchObject({ host, status: "answered" });
    }
  });

  test("a certificate for another name or of another CA, and another answer, are wrong", async () => {
    const port = await server(["DNS:producer.conveyor.svc"]);
    expect(await contact(port, "telemetry.example.org")).toEqual({
      status: "wrong",
      detail: "the certificate is for DNS:producer.conveyor.svc",
    });
    const foreign = await server(["DNS:telemetry.example.org"], 401, other);
    expect(await contact(foreign, "telemetry.example.org")).toMatchObject({ status: "wrong" });
    const page = await server(["DNS:telemetry.example.org"], 200);
    expect(await contact(page, "telemetry.example.org")).toEqual({
      status: "wrong",
      detail: "answers 200 to a request without a token",
    });
  });

  test("a closed port is unreachable, and so is one that says nothing", async () => {
    expect(await contact(await closedPort(), "a.org")).toEqual({ status: "unreachable", detail: "ECONNREFUSED" });
    expect(await contact(await silentServer(), "a.org")).toEqual({
      status: "unreachable",
      detail: "no answer within 0.3 s",
    });
  });
});

describe("check", () => {
  const cluster = (annotations: Record<string, string>, nodePort = 0, node = "127.0.0.1") => {
    const metadata = (name: string) => ({ name, namespace: "conveyor" });
    const objects: KubernetesObject[] = [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "conveyor", annotations } },
      {
        ...{ apiVersion: "v1", kind: "Service", metadata: metadata("intake-nodeport") },
        spec: { ports: [{ port: 8443, nodePort }] },
      },
      {
        ...{ apiVersion: "v1", kind: "Node", metadata: { name: "n" } },
        status: { addresses: [{ type: "InternalIP", address: node }] },
      },
      {
        ...{ apiVersion: "v1", kind: "Secret", metadata: metadata("producer-tls") },
        data: { "ca.crt": btoa(authority.certificate) },
      },
    ];
    return new FakeCluster([]).add(...objects);
  };
  const exposed = { [EXPOSE]: "nodeport", [INTAKE_HOSTS]: "telemetry.example.org,127.0.0.1" };
  const run = async (target: FakeCluster) => await exposeCheck.run({ cluster: target }, signal);

  test("an intake that is not exposed is skipped, with the command that exposes it", async () => {
    expect(await run(cluster({}))).toMatchObject({ skipped: true, detail: expect.stringContaining("--expose MODE") });
  });

  test("passes where every name is served, and names the one that is not in the certificate", async () => {
    const port = await server(["DNS:telemetry.example.org", "IP:127.0.0.1"]);
    expect(await run(cluster(exposed, port))).toMatchObject({
      ok: true,
      detail: `telemetry.example.org at 127.0.0.1, 127.0.0.1 at 127.0.0.1, port ${port}, with its certificate`,
    });
    const half = await server(["DNS:telemetry.example.org"]);
    expect(await run(cluster(exposed, half))).toMatchObject({
      ok: false,
      detail: `127.0.0.1 at 127.0.0.1 port ${half}: the certificate is for DNS:telemetry.example.org`,
    });
  });

  test("fails where the node's kubelet can be reached, and its port cannot", async () => {
    const kubelet = createServer();
    // In use: a kubelet of this machine, which accepts connections too.
    await new Promise<void>((resolve) => kubelet.once("error", () => resolve()).listen(10_250, "127.0.0.1", resolve));
    open.push({ stop: () => kubelet.close() });
    const port = await closedPort();
    expect(await run(cluster(exposed, port))).toMatchObject({
      ok: false,
      detail: expect.stringContaining(`telemetry.example.org at 127.0.0.1 port ${port}: ECONNREFUSED`),
    });
  });

  test("is skipped where only other addresses may connect, or no address is known to this machine", async () => {
    const narrowed = { ...exposed, [INTAKE_FROM]: "10.0.0.0/8" };
    expect(await run(cluster(narrowed, await closedPort()))).toMatchObject({
      skipped: true,
      detail: expect.stringContaining("this machine may be outside of 10.0.0.0/8"),
    });
    const blind = cluster(exposed, 30_000);
    blind.unknownResources.add("nodes");
    expect(await run(blind)).toMatchObject({ skipped: true, detail: expect.stringContaining("may not read") });
    // A group address: TCP has no connections to it.
    expect(await run(cluster(exposed, 30_000, "224.0.0.1"))).toMatchObject({
      skipped: true,
      detail: expect.stringContaining("no node can be reached from this machine (224.0.0.1)"),
    });
  }, 30_000);
});
