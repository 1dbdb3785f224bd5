/**
 * The brokers' probe against real sockets: a server that answers TLS, one that accepts and never answers (like a frozen
 * process), and none.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { ensureCertificates } from "../../scripts/deploy/certificates.ts";
import { loadManifests } from "../../scripts/deploy/manifests.ts";

let folder: string;
let script: string;
const servers: Server[] = [];
const ports = { answering: 0, silent: 0, closed: 0 };

const listen = async (server: Server): Promise<number> => {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
};

/** Exit code and output of the probe, with ports of this test instead of the broker's. */
async function probe(mode: string, given: { controller: number; client: number; replication: number }) {
  const ports: Record<string, number> = { 9091: given.replication, 9092: given.client, 9093: given.controller };
  const replaced = script
    // At once, since a port of this test may contain one of the broker's.
    .replaceAll(/909[123]/g, (port) => String(ports[port]))
    .replaceAll("/tmp/in-sync", join(folder, "in-sync"))
    .replace(/ANSWER_LIMIT_SECONDS=\d+/, "ANSWER_LIMIT_SECONDS=1");
  const child = Bun.spawn(["bash", "-c", replaced, "probe.sh", mode], { stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { exitCode: await child.exited, said: stdout + stderr };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "conveyor-probe-"));
  await ensureCertificates(folder);
  const [cert, key, ca] = await Promise.all(
    ["kafka-0.crt", "kafka-0.key", "ca.crt"].map((file) => readFile(join(folder, file))),
  );
  const map = (await loadManifests()).find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "kafka");
  script = (map!.data as Record<string, string>)["probe.sh"]!;
  ports.answering = await listen(
    createTlsServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true }).on("tlsClientError", () => {}),
  );
  ports.silent = await listen(createServer((socket) => socket.on("error", () => {})));
  const gone = createServer();
  ports.closed = await listen(gone);
  await new Promise((resolve) => gone.close(resolve));
});
afterAll(async () => {
  for (const server of servers) server.close();
  await rm(folder, { recursive: true, force: true });
});

describe("live", () => {
  test("passes when all listeners answer, and before the broker's listeners are open", async () => {
    const { answering, closed } = ports;
    expect(await probe("live", { controller: answering, client: answering, replication: answering })).toEqual({
      exitCode: 0,
      said: "",
    });
    expect(await probe("live", { controller: answering, client: closed, replication: closed })).toEqual({
      exitCode: 0,
      said: "",
    });
  });

  test("fails when the controller is silent or closed", async () => {
    const { answering, silent, closed } = ports;
    expect(await probe("live", { controller: silent, client: answering, replication: answering })).toEqual({
      exitCode: 1,
      said: `port ${silent}: no answer within 1 s\n`,
    });
    expect(await probe("live", { controller: closed, client: answering, replication: answering })).toEqual({
      exitCode: 1,
      said: `port ${closed}: closed\n`,
    });
  });

  test("fails when a listener of the broker is open and silent", async () => {
    const { answering, silent } = ports;
    const broken = [
      { controller: answering, client: silent, replication: answering },
      { controller: answering, client: answering, replication: silent },
    ];
    for (const { exitCode, said } of await Promise.all(broken.map((given) => probe("live", given)))) {
      expect({ exitCode, said }).toEqual({ exitCode: 1, said: `port ${silent}: no answer within 1 s\n` });
    }
  });
});

describe("ready", () => {
  test("waits until the replicas have been in sync", async () => {
    const { answering } = ports;
    const all = { controller: answering, client: answering, replication: answering };
    await rm(join(folder, "in-sync"), { force: true });
    expect(await probe("ready", all)).toEqual({ exitCode: 1, said: "replicas are not in sync yet\n" });
    await writeFile(join(folder, "in-sync"), "");
    expect((await probe("ready", all)).exitCode).toBe(0);
  });

  test("passes when the client listener answers, whatever the others do", async () => {
    const { answering, silent } = ports;
    expect((await probe("ready", { controller: silent, client: answering, replication: silent })).exitCode).toBe(0);
  });

  test("fails when the client listener is closed or silent", async () => {
    const { answering, silent, closed } = ports;
    expect((await probe("ready", { controller: answering, client: closed, replication: answering })).exitCode).toBe(1);
    expect((await probe("ready", { controller: answering, client: silent, replication: answering })).exitCode).toBe(1);
  });
});

test("any other argument is an error", async () => {
  const { answering } = ports;
  expect(await probe("alive", { controller: answering, client: answering, replication: answering })).toEqual({
    exitCode: 2,
    said: "usage: probe.sh live | ready\n",
  });
});
