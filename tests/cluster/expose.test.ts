/**
 * The intake for senders outside the cluster: this machine is one. It sends an event through a node port, and through the
 * address of a load balancer, with the printed command, reaches no other port of the producer, and after `--expose none`
 * not the intake either.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { connect } from "node:net";
import { dirname } from "node:path";
import { exposeCheck } from "../../scripts/checks/expose.ts";
import { capture } from "../../scripts/cli/process.ts";
import { findTool } from "../../scripts/cli/tools.ts";
import { waitFor } from "../../scripts/cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE, type Pod } from "../../scripts/cluster/cluster.ts";
import { intakeEndpoint, readExposure } from "../../scripts/cluster/intake-exposure.ts";
import { readSecret } from "../../scripts/cluster/secret-values.ts";
import { kubectlPath } from "../../scripts/local-cluster/index.ts";
import { atRest, cluster, describeOnCluster, scriptDocument, validate } from "./harness.ts";

const HOST = "telemetry.example.org";
/** A deploy that restarts the producers takes half a minute, on a busy machine some minutes. */
const DEPLOY_LIMIT_MS = 300_000;
const LIMIT_MS = 900_000;
/** An open port answers within a millisecond; a closed one is dropped or refused. */
const CONNECT_LIMIT_MS = 2000;
/** Network plugin and service proxy follow a change within a second or two. */
const CHANGE_LIMIT_MS = 30_000;
/** A node port to the metrics of the producers: only the policy keeps the outside away from them. */
const OPS_SERVICE: KubernetesObject = {
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "test-expose-ops", namespace: NAMESPACE },
  spec: {
    type: "NodePort",
    selector: { "app.kubernetes.io/name": "producer", "app.kubernetes.io/instance": "producer" },
    ports: [{ port: 9464, targetPort: "ops" }],
  },
};

let target: Cluster;

interface DeployDocument {
  changes: { ref: string; change: string }[];
  intake?: { url: string; note?: string; example: string };
}
const deploy = async (...flags: string[]) =>
  await scriptDocument<DeployDocument>(["scripts/deploy.ts", "--local", "--no-check", ...flags], {
    limitMs: DEPLOY_LIMIT_MS,
  });

/** Whether a port of the node accepts a connection from this machine. */
async function isOpen(address: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host: address, port });
  const timer = setTimeout(resolve, CONNECT_LIMIT_MS, false);
  socket.once("connect", () => resolve(true));
  socket.once("error", () => resolve(false));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

const awaitPort = async (address: string, port: number, open: boolean) =>
  await waitFor(
    async () => {
      const found = await isOpen(address, port);
      return found === open ? { done: true, value: found } : { done: false, state: found ? "open" : "closed" };
    },
    { what: `${address} port ${port} to be ${open ? "open" : "closed"}`, limitMs: CHANGE_LIMIT_MS, intervalMs: 500 },
  );

const brokers = async () =>
  (await target.list<Pod>("pods", "app.kubernetes.io/name=kafka")).map(({ metadata, status }) => {
    const restarts = status.containerStatuses?.map(({ restartCount }) => restartCount);
    return `${metadata.name} ${metadata.uid} ${restarts}`;
  });

async function certificateOf(secret: string) {
  const entries = await readSecret(target, secret);
  return { ca: entries["ca.crt"], leaf: new X509Certificate(entries["tls.crt"]!) };
}

/** Changes of the objects that expose the intake, and of the producers and their certificate. */
const ofIntake = ({ changes }: DeployDocument) =>
  changes.filter(({ ref }) => /\/intake(-|$)|^Secret\/producer-tls$|^StatefulSet\/producer$/.test(ref));

async function endpointOf(mode: "nodeport" | "loadbalancer") {
  const found = await intakeEndpoint(target, { mode });
  if ("problem" in found) throw new Error(found.problem);
  return { address: found.addresses[0]!, port: found.port };
}

/** Runs a printed command, which may need kubectl. */
async function send(command: string) {
  const path = `${findTool("kubectl") ? "" : `${dirname(kubectlPath())}:`}${process.env.PATH}`;
  return await capture(["env", `PATH=${path}`, "bash", "-c", command], { timeoutMs: DEPLOY_LIMIT_MS, what: "curl" });
}

/** Assigns an address to the Service of the load balancer as soon as it exists, as a cloud's controller does. */
async function assignAddress(ip: string): Promise<void> {
  const patch = JSON.stringify({ status: { loadBalancer: { ingress: [{ ip }] } } });
  const args = ["patch", "service", "intake-loadbalancer", "-n", NAMESPACE, "--subresource=status", "--type=merge"];
  await waitFor(
    async () => {
      await target.kubectl([...args, "-p", patch]);
      return { done: true, value: undefined };
    },
    { what: "Service intake-loadbalancer", limitMs: DEPLOY_LIMIT_MS, intervalMs: 1000 },
  );
}

describeOnCluster("expose", () => {
  beforeAll(async () => {
    target = await cluster();
    await atRest(target);
  }, LIMIT_MS);
  afterAll(async () => {
    await target?.kubectl(["delete", "service", OPS_SERVICE.metadata.name, "-n", NAMESPACE, "--ignore-not-found"]);
    if (target && (await readExposure(target))) await deploy("--expose", "none");
  }, LIMIT_MS);

  test(
    "an event from outside through the node port, with the CA, is acknowledged; no other port of the producer is open",
    async () => {
      const before = { brokers: await brokers(), certificate: await certificateOf("producer-tls") };
      const { changes, intake } = await deploy("--expose", "nodeport", "--intake-host", HOST);
      expect(changes).toContainEqual({ ref: "Service/intake-nodeport", change: "created" });
      expect(changes).toContainEqual({ ref: "NetworkPolicy/intake", change: "created" });
      // The same CA, and no broker was restarted for the new name.
      expect(await brokers()).toEqual(before.brokers);
      const certificate = await certificateOf("producer-tls");
      expect(certificate.ca).toBe(before.certificate.ca!);
      expect(certificate.leaf.checkHost(HOST)).toBe(HOST);

      const { address, port } = await endpointOf("nodeport");
      await awaitPort(address, port, true);
      expect(intake).toMatchObject({ url: `https://${HOST}:${port}/events` });
      const sent = await send(`${intake!.example} -sS -w '%{http_code}'`);
      expect({ ...sent, stdout: sent.stdout.slice(-3) }).toMatchObject({ exitCode: 0, stdout: "200" });
      // Exit 60: without the CA the certificate is not trusted.
      const untrusting = await send(`${intake!.example.replace(/--cacert \S+/, "")} -sS`);
      expect(untrusting.exitCode).toBe(60);

      await target.apply([OPS_SERVICE]);
      const ops = await target.get<KubernetesObject & { spec: { ports: { nodePort: number }[] } }>(
        "service",
        OPS_SERVICE.metadata.name,
      );
      await Bun.sleep(CONNECT_LIMIT_MS);
      expect(await isOpen(address, ops!.spec.ports[0]!.nodePort)).toBe(false);
      expect(await isOpen(address, port)).toBe(true);

      const { exitCode, document } = await validate("--only", "intake-exposed", "--only", "network-denied");
      expect({ exitCode, failed: document.checks.filter(({ status }) => status !== "passed") }).toEqual({
        exitCode: 0,
        failed: [],
      });
      // Kept without flags: whatever else changes on a busy cluster, nothing of the intake does.
      expect(ofIntake(await deploy())).toEqual([]);
      expect(await readExposure(target)).toEqual({ mode: "nodeport", hosts: [HOST], from: [] });
    },
    LIMIT_MS,
  );

  test(
    "a load balancer: its address, assigned meanwhile, is printed and takes an event; the node port is closed",
    async () => {
      const { address, port: nodePort } = await endpointOf("nodeport");
      const deployed = deploy("--expose", "loadbalancer");
      // The test is the cluster's load balancer, and the node has its address.
      await assignAddress(address).finally(() => deployed.catch(() => {}));
      const { changes, intake } = await deployed;
      expect(changes).toContainEqual({ ref: "Service/intake-loadbalancer", change: "created" });
      expect(changes).toContainEqual({ ref: "Service/intake-nodeport", change: "removed" });
      expect(intake).toMatchObject({ url: `https://${HOST}:8443/events` });
      await awaitPort(address, 8443, true);
      const sent = await send(`${intake!.example} -sS -w '%{http_code}'`);
      expect({ ...sent, stdout: sent.stdout.slice(-3) }).toMatchObject({ exitCode: 0, stdout: "200" });
      await awaitPort(address, nodePort, false);
      expect(await readExposure(target)).toEqual({ mode: "loadbalancer", hosts: [HOST], from: [] });
    },
    LIMIT_MS,
  );

  test(
    "after --expose none the port is closed, and the certificate lacks the name",
    async () => {
      const before = await brokers();
      const { address, port } = await endpointOf("loadbalancer");
      const { changes, intake } = await deploy("--expose", "none");
      expect(intake).toBeUndefined();
      expect(changes).toContainEqual({ ref: "NetworkPolicy/intake", change: "removed" });
      expect(changes).toContainEqual({ ref: "Service/intake-loadbalancer", change: "removed" });
      await awaitPort(address, port, false);
      expect((await certificateOf("producer-tls")).leaf.checkHost(HOST)).toBeUndefined();
      expect(await brokers()).toEqual(before);
      expect(await exposeCheck.run({ cluster: target }, new AbortController().signal)).toMatchObject({ skipped: true });
      expect(ofIntake(await deploy())).toEqual([]);
    },
    LIMIT_MS,
  );
});
